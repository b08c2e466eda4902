"""What a run costs on paper: passes, multiply-accumulates, hours.

A stage's work follows from its settings: how many passes through the student
and the teacher an image takes in a step, and what one forward pass takes. With
F MACs of the student's forward pass,

  a forward pass                        F
  a gradient by images (an attack)     2F
  a gradient by weights, or by both    3F

and F more for each gradient where blocks are recomputed (`space.remat`). The
teacher has one forward pass for an image, whatever the method.

Counted are convolutions and matrix products. Not counted: their borders (a
gradient by weights needs none by the images), BatchNorm and activations, which
cost time though next to no MACs, attention maps and distances, augmentation,
optimisers, validation and evaluation.

Example:
  >>> from rnascl_jax.config import settings
  >>> from rnascl_jax.stages import costs
  >>> costs.passes(settings.AdversarialTraining('trades', num_steps=10))
  Passes(forward=1, by_images=10, by_weights=2)
  >>> costs.passes(settings.AdversarialTraining('trades', num_steps=10)).times()
  27
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnascl_jax.config import resolve, settings
from rnascl_jax.config.settings import Settings
from rnascl_jax.models import networks
from rnascl_jax.models.teachers import build
from rnascl_jax.search import flops, spaces
from rnascl_jax.training import search_step

_HOUR = 3600


class Passes(NamedTuple):
  """Passes through the student that an image takes in a step.

  Attributes:
    forward: without a gradient.
    by_images: gradients by images alone.
    by_weights: gradients by weights, or by weights and images at once.
  """

  forward: int
  by_images: int
  by_weights: int

  def times(self, *, remat: bool = False) -> int:
    """Their work in forward passes."""
    again = int(remat)
    return (
      self.forward
      + (2 + again) * self.by_images
      + (3 + again) * self.by_weights
    )


def passes(method: settings.AdversarialTraining) -> Passes:
  """The passes of a training method, as `adversarial` makes them.

  `trades` moves running statistics by the images a second time; compilers merge
  that with the first.
  """
  both_views = method.cac_weight > 0 or method.distill_on == 'clean'
  if method.name == 'standard':
    return Passes(0, 0, 1)
  if method.name == 'trades':
    # Predictions of the images, which the attack climbs away from.
    return Passes(1, method.num_steps, 2)
  if method.name == 'free':
    return Passes(0, 0, method.replays * (1 + both_views))
  steps = 1 if method.name == 'fast' else method.num_steps
  return Passes(0, steps, 1 + both_views)


class Macs(NamedTuple):
  """Multiply-accumulates of an image: of the student, of the teacher."""

  student: float
  teacher: float

  def total(self) -> float:
    return self.student + self.teacher


def training(
  method: settings.AdversarialTraining, forward: Macs, *, remat: bool = False
) -> Macs:
  """A training step's work on an image.

  Args:
    method: on which images.
    forward: of a forward pass of each network; teacher 0 without one.
    remat: whether blocks are recomputed.
  """
  times = passes(method).times(remat=remat)
  return Macs(times * forward.student, forward.teacher)


def searching(spec: settings.Search, forward: Macs, *, remat=False) -> Macs:
  """A search step's work on an image, the mean over both halves of a batch.

  The architecture's half needs the gradient by masks: as much as by images.

  Args:
    spec: of the search.
    forward: of a forward pass of supernet and teacher.
    remat: whether blocks are recomputed.
  """
  weights = passes(spec.adversarial_training).times(remat=remat)
  arch = Passes(0, 1, 0).times(remat=remat)
  times = (1 - spec.arch_share) * weights + spec.arch_share * arch
  return Macs(times * forward.student, forward.teacher)


class Images(NamedTuple):
  """What is known of a data set before it is there.

  Attributes:
    number: of images in its training split, those held out included.
    shape: (H, W, C).
    classes: of the data set.
  """

  number: int
  shape: tuple[int, int, int]
  classes: int


@dataclasses.dataclass(frozen=True)
class Stage:
  """The work of a stage of training.

  Attributes:
    name: 'search', 'train' or 'adversarial'.
    visits: images that go through it, over all epochs.
    forward: MACs of one forward pass.
    macs: of an image in a step.
  """

  name: str
  visits: int
  forward: Macs
  macs: Macs

  def flops(self) -> float:
    """Floating-point operations, two for each multiply-accumulate."""
    return 2 * self.visits * self.macs.total()


def teacher_macs(everything: Settings, images: Images) -> int:
  """Of a forward pass of the teacher; nothing is computed."""
  spec = resolve.teacher_spec(everything.teacher.network)
  net = build.network(spec, num_classes=images.classes)
  batch = jax.ShapeDtypeStruct((1, *images.shape), jnp.float32)
  variables = jax.eval_shape(
    lambda x: net.init(jax.random.key(0), x, train=False), batch
  )
  return flops.trace_macs(
    lambda v, x: networks.apply(net, v, x)[0], variables, batch
  )


def student_macs(everything: Settings, images: Images) -> tuple[float, float]:
  """Of a forward pass of the supernet, and of a derived network.

  The supernet computes its widest network. What the search will derive is not
  known: counted is the mean over all choices of filters.
  """
  space = resolve.space(everything.space)
  tables = flops.costs(space, images.shape, images.classes)
  widest = spaces.widest(space)
  supernet = flops.count(widest, images.shape, images.classes).macs
  return supernet, search_step.uniform_macs(space, tables)


def stages(
  everything: Settings, images: Images, student: str = 'rnas_cl'
) -> list[Stage]:
  """The stages of a run that one student needs; its teacher is given.

  Args:
    everything: settings of the run.
    images: its data set.
    student: its name in `students`; of `adversarial.students` those that start
      from it are counted.

  Returns:
    The search, unless an architecture is taken from elsewhere, the training,
    and each adversarial fine-tuning.
  """
  remat = everything.space.remat
  supernet, derived = student_macs(everything, images)
  teacher = teacher_macs(everything, images)
  search, trained = everything.search, everything.students[student]
  searched = search.kl_weight > 0 or search.gamma > 0
  taught = trained.teacher and (trained.kl_weight > 0 or trained.gamma > 0)
  wide, narrow = (
    Macs(float(supernet), float(teacher) if searched else 0.0),
    Macs(derived, float(teacher) if taught else 0.0),
  )

  def visits(spec: settings.Optimization) -> int:
    held_out = everything.data.validation_size
    steps = (images.number - held_out) // spec.batch_size
    return spec.epochs * steps * spec.batch_size

  found = []
  if not everything.search.architecture:
    macs = searching(everything.search, wide, remat=remat)
    seen = visits(everything.search.optimization)
    found.append(Stage('search', seen, wide, macs))
  spec = everything.train
  macs = training(spec.adversarial_training, narrow, remat=remat)
  found.append(Stage('train', visits(spec.optimization), narrow, macs))
  for hardened in everything.adversarial.students.values():
    if hardened.student == student:
      macs = training(hardened.adversarial_training, narrow, remat=remat)
      seen = visits(everything.adversarial.optimization)
      found.append(Stage('adversarial', seen, narrow, macs))
  return found


@dataclasses.dataclass(frozen=True)
class Machine:
  """Accelerators that share a batch.

  Attributes:
    name: for tables.
    chips: how many.
    peak: floating-point operations a second of a chip, bfloat16, dense.
    cores: virtual cores of all its hosts.
  """

  name: str
  chips: int
  peak: float
  cores: int


class Utilization(NamedTuple):
  """Shares of the peak that both networks reach, in (0, 1]."""

  student: float
  teacher: float


def hours(stage: Stage, machine: Machine, reached: Utilization) -> float:
  """Hours of a stage, if images are there in time and chips never wait.

  Args:
    stage: the work.
    machine: on which.
    reached: share of its peak.

  Raises:
    ValueError: if a share is not in (0, 1].
  """
  for name, share in reached._asdict().items():
    if not 0 < share <= 1:
      raise ValueError(
        f'{name}_utilization={share} must lie in (0, 1]: it is a share of the '
        'peak.'
      )
  macs = stage.macs
  time = macs.student / reached.student + macs.teacher / reached.teacher
  return 2 * stage.visits * time / (machine.chips * machine.peak) / _HOUR


def images_per_second(
  stage: Stage, machine: Machine, reached: Utilization
) -> float:
  """What the input has to deliver for `hours` to hold."""
  return stage.visits / hours(stage, machine, reached) / _HOUR

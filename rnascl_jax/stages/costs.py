"""The work of a run: multiply-accumulates (MACs) of every stage of training.

A stage's work follows from its settings: how many passes through the student
and the teacher an image takes in a step, and what one forward pass takes. With
F MACs of the student's forward pass,

  a forward pass                        F
  a gradient by images (an attack)     2F
  a gradient by weights, or by both    3F

and F more for each gradient where blocks are recomputed (`space.remat`). The
teacher has one forward pass for an image, and more in methods that ask it of
adversarial images.

Counted are convolutions and matrix products. Not counted: their borders (a
gradient by weights needs none by the images), BatchNorm and activations, which
cost time though next to no MACs, attention maps and distances, augmentation,
optimisers, validation and evaluation.

Example:
  >>> from rnascl_jax.config import settings
  >>> from rnascl_jax.stages import costs
  >>> costs.training(settings.AdversarialTraining('trades', num_steps=10))
  27
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnascl_jax.config import resolve, settings
from rnascl_jax.config.settings import Settings
from rnascl_jax.models import networks
from rnascl_jax.models.fixed import build
from rnascl_jax.search import cost_tables, flops, spaces


def training(
  method: settings.AdversarialTraining, *, remat: bool = False
) -> int:
  """Counts the student's work on an image in a training step.

  `trades` moves running statistics by the images a second time; compilers merge
  that with the first.

  Args:
    method: the images that the step trains on.
    remat: whether blocks are recomputed.

  Returns:
    The work in forward passes of the student, F.
  """
  by_images, by_weights = 2 + remat, 3 + remat
  if method.name == 'standard':
    return (1 + (method.awp_gamma > 0)) * by_weights
  if method.name == 'free':
    return method.replays * _loss_passes(method, by_weights)
  steps = 1 if method.name == 'fast' else method.num_steps
  # TRADES' predictions of the images, which the attack climbs away from.
  attack = steps * by_images + (method.name == 'trades')
  return attack + (1 + (method.awp_gamma > 0)) * _loss_passes(
    method, by_weights
  )


def _loss_passes(method: settings.AdversarialTraining, by_weights: int) -> int:
  """Forward passes that the loss on both views is worth."""
  both = (
    method.cac_weight > 0
    or method.distill_on == 'clean'
    or method.name in ('trades', 'mart', 'rslad', 'iad')
    or 0 < method.alpha < 1
  )
  if both:
    return 2 * by_weights
  # Images that only move the running statistics.
  return by_weights + (method.name in ('ard', 'adaad'))


def asking(method: settings.AdversarialTraining) -> int:
  """Counts the teacher's work on an image in a training step.

  Args:
    method: the images that the step trains on.

  Returns:
    The work in forward passes of the teacher.
  """
  of_views = method.name in ('iad', 'adaad')
  # AdaAD's attack climbs through the teacher, by the images.
  steps = method.num_steps if method.name == 'adaad' else 0
  return 1 + 2 * steps + of_views * (1 + (method.awp_gamma > 0))


def searching(spec: settings.SearchSettings, *, remat: bool = False) -> float:
  """Counts the supernet's work on an image in a search step.

  The architecture's half of a batch needs the gradient by masks, which is as
  much work as the gradient by images; on adversarial images it is counted as
  the weights' half is.

  Args:
    spec: the settings of the search.
    remat: whether blocks are recomputed.

  Returns:
    The work in forward passes of the supernet, F: the mean over both halves.
  """
  weights = training(spec.adversarial_training, remat=remat)
  arch = weights if spec.arch_adversarial else 2 + remat
  return (1 - spec.arch_share) * weights + spec.arch_share * arch


class DatasetFacts(NamedTuple):
  """What is known of a data set before it is there.

  Attributes:
    number: how many images its training split has, with those held out.
    shape: (H, W, C) of an image.
    classes: how many classes it has, K.
  """

  number: int
  shape: tuple[int, int, int]
  classes: int


class StageWork(NamedTuple):
  """The work of a stage of training.

  Attributes:
    name: 'search', 'train', 'pruning' (of its scores) or 'adversarial'.
    images: how many images go through it, over all epochs.
    student: MACs of a forward pass of the student, or of the supernet.
    teacher: MACs of the teacher for an image in a step; 0 if it is not asked.
    passes: the student's work on an image in a step, in forward passes.
  """

  name: str
  images: int
  student: float
  teacher: float
  passes: float

  @property
  def macs(self) -> float:
    """MACs of an image in a step."""
    return self.passes * self.student + self.teacher

  @property
  def flops(self) -> float:
    """Floating-point operations, two for each multiply-accumulate."""
    return 2 * self.images * self.macs


def _macs(spec: settings.NetworkShape, images: DatasetFacts) -> int:
  """MACs of a forward pass of a fixed network; nothing is computed."""
  net = build.network(resolve.network_spec(spec), num_classes=images.classes)
  batch = jax.ShapeDtypeStruct((1, *images.shape), jnp.float32)
  variables = jax.eval_shape(
    lambda x: net.init(jax.random.key(0), x, train=False), batch
  )
  native = networks.with_native_convolutions(net)
  return flops.trace_macs(
    lambda v, x: networks.apply(native, v, x)[0], variables, batch
  )


def _student_macs(
  run: Settings, images: DatasetFacts, student: str
) -> tuple[float, float]:
  """MACs of a forward pass of the supernet, and of a student.

  What the search will derive is not known: counted is the mean over all choices
  of filters. There is no supernet for a student of a fixed architecture.
  """
  shape = run.students[student].network
  if shape.name:
    return 0.0, _macs(shape, images)
  space = resolve.space(run.space)
  widest = flops.count(spaces.widest(space), images.shape, images.classes)
  tables = flops.costs(space, images.shape, images.classes)
  return widest.macs, cost_tables.uniform(tables)


def stages(
  run: Settings, images: DatasetFacts, student: str = 'rnas_cl'
) -> list[StageWork]:
  """Lists the stages of a run that one student needs; its teacher is given.

  The supernet computes its widest network.

  Args:
    run: the settings of the run.
    images: the data set of the run.
    student: the name of the student in `students`; those of
      `adversarial.students` that start from it are counted too.

  Returns:
    The search, unless the architecture is fixed or taken from elsewhere, the
    training, and each adversarial fine-tuning, with the training of scores
    before it.
  """
  trained = run.students[student]
  remat = run.space.remat and trained.is_searched
  supernet, derived = _student_macs(run, images, student)
  teacher = _macs(run.teacher.network, images)
  taught = trained.teacher and (trained.kl_weight > 0 or trained.gamma > 0)
  method = run.search.adversarial_training
  searched = method.needs_teacher or run.search.kl_weight > 0
  searched = searched or run.search.gamma > 0

  def visits(spec: settings.Optimization) -> int:
    steps = (
      images.number - max(run.data.validation_size, 0)
    ) // spec.batch_size
    return spec.epochs * steps * spec.batch_size

  def of_student(
    name: str, spec: settings.Optimization, method: settings.AdversarialTraining
  ) -> StageWork:
    asked = asking(method) if taught or method.needs_teacher else 0
    return StageWork(
      name,
      visits(spec),
      derived,
      asked * teacher,
      training(method, remat=remat),
    )

  search = StageWork(
    'search',
    visits(run.search.optimization),
    supernet,
    asking(method) * teacher if searched else 0,
    searching(run.search, remat=remat),
  )
  return [
    *([search] if supernet and not run.search.architecture else []),
    of_student('train', run.train.optimization, run.train.adversarial_training),
    *(
      of_student(name, spec, tuned.adversarial_training)
      for tuned in run.adversarial.students.values()
      if tuned.student == student
      for name, spec in (
        ('pruning', run.adversarial.pruning.optimization),
        ('adversarial', run.adversarial.optimization),
      )
      if name == 'adversarial' or tuned.prune == 'hydra'
    ),
  ]

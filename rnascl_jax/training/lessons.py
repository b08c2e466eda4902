"""What a student learns from a teacher in a step: terms of eqs. (2) and (4).

One pass of the teacher serves everything: what a method compares (`methods`) in
the place of KL, and the maps of all layers for the loss of eq. (1), or for the
layer-wise divergence that may replace it (section 4.10). The student's side of
it is the network with the method's projections beside it, `taught`, so that
both are trained by the same gradient whatever the regime.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax import losses
from rnascl_jax.base import Array, Key, PyTree, Taps
from rnascl_jax.distillation import methods
from rnascl_jax.distillation.methods import Images, Method
from rnascl_jax.losses import attention
from rnascl_jax.models import networks
from rnascl_jax.search.arch_params import Masks
from rnascl_jax.training import accumulation, adversarial

# Keys of the attack on an image are folded with replays, which are fewer.
_OWN_DRAW = 2**31


class CrossLayer(NamedTuple):
  """How a layer is compared with its tutor.

  Attributes:
    describe: (taps of L layers, (h, w)) -> their maps [B, L, D].
    compare: (maps [B, S, D] of the student, maps [B, T, D] of the teacher,
      tutor weights [S, T]) -> [B].
  """

  describe: Callable[[Taps, tuple[int, int]], Array]
  compare: Callable[[Array, Array, Array], Array]


# Eq. (1), and section 4.10.
ATTENTION = CrossLayer(attention.attention_vectors, attention.attention_loss)
LAYERWISE_KL = CrossLayer(losses.map_log_probabilities, losses.layerwise_kl)


@dataclasses.dataclass(frozen=True)
class Distillation:
  """How a student learns from a teacher.

  Attributes:
    teacher: the network, or None to learn from labels alone.
    map_size: (h, w), the common size of attention maps.
    method: what stands in the place of KL.
    cross_layer: how layers are compared with their tutors.
    attends: whether layers are compared at all; without it the teacher's
      activations are not needed.
  """

  teacher: nn.Module | None = None
  map_size: tuple[int, int] = (8, 8)
  method: Method = methods.kl(losses.kl_student_teacher)
  cross_layer: CrossLayer = ATTENTION
  attends: bool = True


class Lesson(NamedTuple):
  """A teacher's answer.

  Attributes:
    selected: what the method compares, leaves [B, ...]; its logits for KL.
    maps: [B, T, D].
  """

  selected: PyTree
  maps: Array


class Hints(NamedTuple):
  """What of a student is compared with a lesson.

  Attributes:
    selected: as in `Lesson`.
    maps: [B, S, D].
    projections: parameters of the method.
  """

  selected: PyTree
  maps: Array
  projections: PyTree


class Examples(NamedTuple):
  """What a step knows of each image; of a part of a batch, of its images.

  Attributes:
    keys: [B] of the attack on it.
    images: [B, H, W, C] in [0, 1].
    labels: [B].
    indices: [B] in the training split, or `()` where no method asks.
    lesson: the teacher's, or None.
  """

  keys: Key
  images: Array
  labels: Array
  indices: PyTree
  lesson: Lesson | None


def init(
  how: Distillation,
  net: nn.Module,
  key: Key,
  image_shape: tuple[int, ...],
  labels: np.ndarray,
) -> tuple[PyTree, PyTree]:
  """The method's projections and memory before the first step.

  Args:
    how: a student learns.
    net: the student.
    key: of the projections and the memory.
    image_shape: (H, W, C).
    labels: [N] of all training images.

  Returns:
    `()` for what the method does not have.
  """
  if how.teacher is None:
    return (), ()
  student, teacher = (
    _nothing(how, one, image_shape) for one in (net, how.teacher)
  )
  return how.method.init(key, student, teacher, labels)


def _nothing(
  how: Distillation, net: nn.Module, image_shape: tuple[int, ...]
) -> PyTree:
  """What the method compares of a network for one image, as zeros."""

  def outputs(key, images):
    found = net.init_with_output(key, images, train=False, method='represent')
    return how.method.select(found[0])

  images = jnp.zeros((1, *image_shape))
  shapes = jax.eval_shape(outputs, jax.random.key(0), images)
  return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def teach(
  how: Distillation, teacher: PyTree, images: Array, parts: int = 1
) -> Lesson | None:
  """One pass of the teacher.

  Args:
    how: to learn from it.
    teacher: its variables.
    images: [B, H, W, C].
    parts: in which the images go through it. What it says of them is kept for
      all, whichever updates of the weights use it; it is small beside its
      activations, but for methods that compare whole stages.

  Returns:
    The lesson of all images, or None without a teacher.
  """
  net = how.teacher
  if net is None:
    return None

  def answer(carry: None, images: Array):
    found = networks.represent(net, teacher, images)
    return carry, Lesson(how.method.select(found), _maps(how, found.taps))

  _, lesson = accumulation.run(answer, None, images, parts)
  # The teacher is constant.
  return jax.lax.stop_gradient(lesson)


def _maps(how: Distillation, taps: Taps) -> Array:
  if not how.attends:
    return jnp.zeros((len(taps[0]), 0, 0))
  return how.cross_layer.describe(taps, how.map_size)


def taught(
  how: Distillation, net: nn.Module, *masks: Masks
) -> adversarial.Network:
  """A student as a function of its parameters and its method's projections.

  Args:
    how: it learns.
    net: the student.
    *masks: of a supernet.

  Returns:
    ((params, projections), statistics, images, train=) -> ((logits, hints),
    statistics). Without a teacher the hints are the network's taps.
  """
  if how.teacher is None:
    plain = networks.functional(net, *masks)
    return lambda params, *given, train: plain(params[0], *given, train=train)
  everything = networks.functional(net, *masks, method='represent')

  def network(params, batch_stats, images, *, train):
    weights, projections = params
    found, batch_stats = everything(weights, batch_stats, images, train=train)
    selected = how.method.select(found)
    hints = Hints(selected, _maps(how, found.taps), projections)
    return (found.logits, hints), batch_stats

  return network


def make_terms(
  how: Distillation,
  memory: PyTree,
  examples: Examples,
  tutor_weights: PyTree,
  logits: Array,
  hints: Hints,
) -> losses.Terms:
  """The three terms of eqs. (2) and (4); zeros for those not in use.

  Args:
    how: a student learns.
    memory: of its method; constant.
    examples: B of them.
    tutor_weights: [S, T], not used unless layers are compared.
    logits: [B, K], the student's.
    hints: what `taught` returns beside them.

  Returns:
    Each [B]; the term `kl` is that of the method.
  """
  cross_entropy = losses.cross_entropy(logits, examples.labels)
  kl = attended = jnp.zeros_like(cross_entropy)
  lesson, notes = examples.lesson, ()
  if lesson is not None:
    keys = jax.vmap(jax.random.fold_in, (0, None))(examples.keys, _OWN_DRAW)
    kl, notes = how.method.loss(
      hints.projections,
      jax.lax.stop_gradient(memory),
      hints.selected,
      lesson.selected,
      Images(keys, examples.labels, examples.indices),
    )
    if how.attends:
      attended = how.cross_layer.compare(hints.maps, lesson.maps, tutor_weights)
  # A memory is not trained.
  notes = jax.lax.stop_gradient(notes)
  return losses.Terms(cross_entropy, kl, attended, notes=notes)

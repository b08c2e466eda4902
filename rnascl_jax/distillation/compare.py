"""Compares a student with a teacher: the second and third term of eq. (4).

A `Distillation` says what is compared. A method (`methods`) compares the
networks' outputs, and takes the place of KL; a layer loss compares every layer
of the student with its tutors: the attention loss of eq. (1), or the layer-wise
divergence of section 4.10. One pass of the teacher serves both.

Reference:
  Nath et al., RNAS-CL, IJCV 2024, sections 3.2, 3.4 and 4.10.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax import losses
from rnascl_jax.base import Array, Key, LogitsFn, PyTree, Taps
from rnascl_jax.distillation import methods
from rnascl_jax.distillation.methods import Images, Method
from rnascl_jax.models import networks


class LayerLoss(NamedTuple):
  """How a layer is compared with its tutors.

  Attributes:
    describe: (taps of L layers, (h, w)) -> their maps [B, L, D].
    compare: (maps [B, S, D] of the student, maps [B, T, D] of the teacher,
      tutor weights [S, T]) -> [B].
  """

  describe: Callable[[Taps, tuple[int, int]], Array]
  compare: Callable[[Array, Array, Array], Array]


# Eq. (1), and section 4.10.
ATTENTION = LayerLoss(losses.attention_vectors, losses.attention_loss)
LAYERWISE_KL = LayerLoss(losses.map_log_probabilities, losses.layerwise_kl)


@dataclasses.dataclass(frozen=True)
class Distillation:
  """What of a student is compared with what of a teacher.

  Attributes:
    teacher: the network, or None to learn from labels alone.
    map_size: (h, w), the common size of the layers' maps.
    method: compares the networks' outputs.
    layer_loss: compares layers with their tutors.
    attends: whether layers are compared at all. If not, the teacher's
      activations are not needed.
    redraws: whether each step draws one tutor for each layer, with the tutor
      weights as probabilities, instead of using the weights.
  """

  teacher: nn.Module | None = None
  map_size: tuple[int, int] = (8, 8)
  method: Method = methods.kl(losses.kl_student_teacher)
  layer_loss: LayerLoss = ATTENTION
  attends: bool = True
  redraws: bool = False


class Compared(NamedTuple):
  """The part of a network's outputs that is compared.

  Attributes:
    selected: what the method compares, leaves [B, ...]; the logits for KL.
    maps: [B, L, D], of all L layers; [B, 0, 0] if layers are not compared.
    logits: [B, K], for adversarial methods that learn from a teacher.
  """

  selected: PyTree
  maps: Array
  logits: Array | None = None


class TeacherPredictions(NamedTuple):
  """What a teacher predicts, for adversarial methods that learn from it.

  Attributes:
    logits: [B, K], of the images themselves; constants.
    logits_fn: images [B, H, W, C] in [0, 1] -> [B, K], in evaluation mode, with
      gradients by the images.
  """

  logits: Array
  logits_fn: LogitsFn


class TeacherTerms(NamedTuple):
  """What comparing a student with a teacher gives.

  Attributes:
    kl: [B], the method's loss with its published weight.
    attention: [B], the layer loss.
    memory_update: leaves [B, ...], what the method's memory keeps of each
      image; `()` for a method without memory.
  """

  kl: Array
  attention: Array
  memory_update: PyTree = ()


def init(
  distillation: Distillation,
  student: nn.Module,
  key: Key,
  image_shape: tuple[int, ...],
  labels: np.ndarray,
) -> tuple[PyTree, PyTree]:
  """Makes the method's projections and memory before the first step.

  Args:
    distillation: what is compared.
    student: the network that learns.
    key: of the projections and the memory.
    image_shape: (H, W, C).
    labels: [N] of all training images.

  Returns:
    Projections and memory, each `()` if the method has none.
  """
  if distillation.teacher is None:
    return (), ()
  method = distillation.method
  return method.init(
    key,
    _zeros(method, student, image_shape),
    _zeros(method, distillation.teacher, image_shape),
    labels,
  )


def _zeros(
  method: Method, net: nn.Module, image_shape: tuple[int, ...]
) -> PyTree:
  """What the method selects of a network's outputs for one image, as zeros."""

  def select(key, images):
    outputs, _ = net.init_with_output(
      key, images, train=False, method='represent'
    )
    return method.select(outputs)

  images = jnp.zeros((1, *image_shape))
  shapes = jax.eval_shape(select, jax.random.key(0), images)
  return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def select(distillation: Distillation, outputs: networks.Outputs) -> Compared:
  """Reduces a network's outputs to what is compared.

  Args:
    distillation: what is compared.
    outputs: of a student or a teacher.
  """
  if distillation.attends:
    maps = distillation.layer_loss.describe(outputs.taps, distillation.map_size)
  else:
    maps = jnp.zeros((len(outputs.logits), 0, 0))
  return Compared(distillation.method.select(outputs), maps, outputs.logits)


def ask_teacher(
  distillation: Distillation, variables: PyTree, images: Array
) -> Compared | None:
  """Passes images through the teacher, in evaluation mode.

  Args:
    distillation: what is compared.
    variables: of the teacher.
    images: [B, H, W, C] in [0, 1].

  Returns:
    What is compared, a constant; None without a teacher.
  """
  if distillation.teacher is None:
    return None
  outputs = networks.represent(distillation.teacher, variables, images)
  # The teacher is not trained.
  return jax.lax.stop_gradient(select(distillation, outputs))


def teacher_predictions(
  distillation: Distillation, variables: PyTree, answer: Compared | None
) -> TeacherPredictions | None:
  """What the teacher predicts, of images whose answer is known and of others.

  Args:
    distillation: what is compared.
    variables: of the teacher.
    answer: of the images, see `ask_teacher`.

  Returns:
    The predictions; None without a teacher.
  """
  net, logits = distillation.teacher, answer and answer.logits
  if net is None or logits is None:
    return None
  return TeacherPredictions(logits, networks.logits_fn(net, variables))


def terms(
  distillation: Distillation,
  student: networks.Outputs,
  teacher: Compared | None,
  images: Images,
  *,
  tutors: PyTree = (),
  projections: PyTree = (),
  memory: PyTree = (),
) -> TeacherTerms:
  """Computes the terms of eqs. (2) and (4) that need a teacher.

  Args:
    distillation: what is compared.
    student: its outputs for the images.
    teacher: its answer for the same images, see `ask_teacher`.
    images: B of them, what the method may know of each.
    tutors: tutor weights [S, T]; not used unless layers are compared.
    projections: parameters of the method.
    memory: of the method; a constant.

  Returns:
    The terms; zeros without a teacher.
  """
  zeros = jnp.zeros_like(student.logits[:, 0])
  if teacher is None:
    return TeacherTerms(zeros, zeros)
  compared = select(distillation, student)
  kl, memory_update = distillation.method.loss(
    projections,
    jax.lax.stop_gradient(memory),
    compared.selected,
    teacher.selected,
    images,
  )
  attention = zeros
  if distillation.attends:
    attention = distillation.layer_loss.compare(
      compared.maps, teacher.maps, tutors
    )
  # A memory is not trained.
  return TeacherTerms(kl, attention, jax.lax.stop_gradient(memory_update))

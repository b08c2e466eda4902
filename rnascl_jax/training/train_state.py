"""What a training step takes and gives: its recipe, its state, its images."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnascl_jax.base import Array, Key, PyTree, Variables
from rnascl_jax.data.mixing import Mixing
from rnascl_jax.distillation import compare
from rnascl_jax.distillation.compare import Compared, Distillation
from rnascl_jax.runtime import compilation, metrics, parallel
from rnascl_jax.training import averaging
from rnascl_jax.training.adversarial.method import AdversarialMethod

# One image [H, W, C] in [0, 1] and a key -> an image of the same shape.
Augment = Callable[[Key, Array], Array]
# Labels of all training images, for a method without a memory of them.
_NO_LABELS = np.zeros(0, np.int32)


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What a step trains, and how.

  Attributes:
    net: the network, with BatchNorm over `parallel.AXIS`.
    optimizer: of the weights.
    adversarial: on which views of the images the network is trained.
    distillation: how it is compared with a teacher.
    augment: changes one image at random.
    mixing: of two images and of their labels; None for none.
    accumulate: parts of this device's share of a batch that go through the
      networks one after another; their number divides the share.
    average: (average, variables, step=) -> the average of weights and running
      statistics after a step, see `averaging`; None keeps none.
    label_smoothing: of the cross-entropy, see there.
  """

  net: nn.Module
  optimizer: optax.GradientTransformation
  adversarial: AdversarialMethod
  distillation: Distillation
  augment: Augment
  accumulate: int = 1
  average: averaging.Average | None = None
  mixing: Mixing | None = None
  label_smoothing: float = 0.0

  def __post_init__(self) -> None:
    if self.adversarial.teacher_sees and self.distillation.teacher is None:
      raise ValueError(
        'The adversarial training method learns from a teacher, and '
        'distillation.teacher=None: give it one, or choose a method such as '
        'adversarial.pgd_training.'
      )


class TrainState(flax.struct.PyTreeNode):
  """All that training changes.

  Attributes:
    step: int32 scalar, steps done.
    params: of the network.
    batch_stats: running statistics of BatchNorm.
    opt_state: of the optimizer of the weights and projections.
    adversarial_state: of the adversarial method, an entry for each image of a
      batch.
    projections: parameters of the distillation method, or `()`.
    memory: of the distillation method, the same on all devices, or `()`.
    average: of params and batch_stats over steps, or `()`.
  """

  step: Array
  params: PyTree
  batch_stats: PyTree
  opt_state: PyTree
  adversarial_state: parallel.PerImage
  projections: PyTree = ()
  memory: PyTree = ()
  average: PyTree = ()

  @property
  def own_variables(self) -> Variables:
    """What is trained."""
    return {'params': self.params, 'batch_stats': self.batch_stats}

  @property
  def variables(self) -> Variables:
    """What is evaluated and exported: the average, if one is kept."""
    return self.average or self.own_variables


class Context(flax.struct.PyTreeNode):
  """What a stage uses and does not change; arrays, so nothing recompiles.

  Attributes:
    seed: uint32 scalar; with the step it decides every random draw.
    teacher: variables of the teacher, or `()`.
    tutors: [S, T] tutor weights, one-hot in the training phase but for some
      controls; `()` if layers are not compared, or the tutors are searched.
    kl_weight: scalar, weight of the distillation method.
    gamma: scalar, weight of the layer loss.
  """

  seed: Array
  teacher: PyTree
  tutors: PyTree
  kl_weight: Array
  gamma: Array


class Batch(NamedTuple):
  """One device's share of a batch.

  Attributes:
    images: [B, H, W, C] uint8.
    labels: [B] int32.
    positions: [B] int32, where the images stand in the global batch.
    indices: [B] int32, where they stand in the training split, or `()` if no
      method needs them.
  """

  images: Array
  labels: Array
  positions: Array
  indices: PyTree = ()


class Examples(NamedTuple):
  """What the loss knows of each image of a batch, or of a part of it.

  Attributes:
    keys: [B], random keys.
    images: [B, H, W, C] in [0, 1].
    labels: [B] int32; of mixed images [B, K], the classes' shares.
    indices: as in `Batch`.
    teacher: the teacher's answer, or None.
  """

  keys: Key
  images: Array
  labels: Array
  indices: PyTree
  teacher: Compared | None


def init_state(
  recipe: Recipe,
  key: Key,
  image_shape: tuple[int, ...],
  batch_size: int,
  labels: np.ndarray = _NO_LABELS,
) -> TrainState:
  """Makes the state before the first step, on the host's default device.

  Args:
    recipe: of the step.
    key: of the weights.
    image_shape: (H, W, C).
    batch_size: images of a global batch that move the weights.
    labels: [N] of all training images, for methods with a memory of them.
  """
  variables = _initialize(recipe.net, image_shape)(key)
  return start_from(recipe, variables, image_shape, batch_size, key, labels)


@functools.lru_cache(maxsize=4)
def _initialize(
  net: nn.Module, image_shape: tuple[int, ...]
) -> Callable[[Key], Variables]:
  """Compiles the initial weights, once for all trainings of a network."""
  images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)

  def initialize(key: Key) -> Variables:
    return net.lazy_init(key, images, train=False)

  return jax.jit(initialize, compiler_options=compilation.brief())


def start_from(
  recipe: Recipe,
  variables: Variables,
  image_shape: tuple[int, ...],
  batch_size: int,
  key: Key | None = None,
  labels: np.ndarray = _NO_LABELS,
) -> TrainState:
  """Makes the state before the first step from the weights of a network.

  Args:
    recipe: of the step.
    variables: of the network.
    image_shape: (H, W, C).
    batch_size: images of a global batch that move the weights.
    key: of the distillation method's projections and memory.
    labels: [N] of all training images, for methods with a memory of them.
  """
  projections, memory = compare.init(
    recipe.distillation,
    recipe.net,
    jax.random.fold_in(jax.random.key(0) if key is None else key, 1),
    image_shape,
    labels,
  )
  params, batch_stats = variables['params'], variables.get('batch_stats', {})
  average: PyTree = ()
  if recipe.average is not None:
    start = {'params': params, 'batch_stats': batch_stats}
    # Buffers of a state are donated, each once.
    average = jax.tree.map(jnp.array, start)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=batch_stats,
    opt_state=jax.jit(
      recipe.optimizer.init, compiler_options=compilation.brief()
    )((variables['params'], projections)),
    adversarial_state=parallel.PerImage(
      recipe.adversarial.init((batch_size, *image_shape))
    ),
    projections=projections,
    memory=memory,
    average=average,
  )


def sum_up(values: dict[str, Array]) -> dict[str, Array]:
  """Adds metrics [B] up over this device's images and over all devices."""
  mask = jnp.ones_like(values['loss'], bool)
  return parallel.psum(metrics.masked_sums(values, mask))

"""The student: supernet and derived network are one module.

Masks are inputs. Soft masks make it the supernet, one-hot masks a candidate,
and a space with one choice per block, without masks, the derived network. The
block is FBNetV2's inverted residual; its output is the sum of the choices'
outputs, sum_i g_i z_i = m * (BN(project) + R(x)) with the mask m (section 3.3),
and the inner tensor is masked by the mask of the width that enters, so that a
supernet at one-hot masks equals the derived network with sliced weights,
BatchNorm, squeeze-excite and the pooled head included.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from rnascl_jax.models import student
  >>> from rnascl_jax.search import spaces
  >>> space = spaces.from_stages([1], [(8,)], [2], stem_features=4)
  >>> net = student.Student(space, num_classes=10)
  >>> images = jnp.zeros((2, 8, 8, 3))
  >>> variables = net.init(jax.random.key(0), images, train=False)
  >>> logits, taps = net.apply(variables, images, train=False)
  >>> logits.shape, len(taps), net.tap_names
  ((2, 10), 4, ('stem', 'block0/expand', 'block0/depthwise', 'block0/project'))
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from rnascl_jax.base import Array, Taps
from rnascl_jax.models import convolutions, layers, networks, pooled_head
from rnascl_jax.models.batch_norm import BatchNorm
from rnascl_jax.models.networks import Outputs
from rnascl_jax.search import space_layers
from rnascl_jax.search.arch_params import Masks
from rnascl_jax.search.space import SearchSpace

# Makes a BatchNorm.
Norm = Callable[..., nn.Module]


class Student(networks.Network):
  """A chain of inverted residuals, masked or not.

  Attributes:
    space: the blocks; with one choice each it is a derived network.
    num_classes: K.
    mean: per channel, subtracted from images in [0, 1].
    std: per channel.
    blocks_only: taps are the blocks' outputs instead of every convolution's.
    dtype: compute type of the maps; None is float32. Parameters, BatchNorm
      statistics, means over maps, gates and logits are float32.
    axis_name: mapped axis over which BatchNorm takes its statistics.
    conv: the depthwise convolution.
    remat: whether gradients compute the insides of blocks anew instead of
      keeping them: less memory, the same numbers.
  """

  space: SearchSpace
  num_classes: int
  mean: tuple[float, ...] = (0.0, 0.0, 0.0)
  std: tuple[float, ...] = (1.0, 1.0, 1.0)
  blocks_only: bool = False
  dtype: jnp.dtype | None = None
  axis_name: str | None = None
  conv: Callable[[Array, Array, int], Array] = convolutions.depthwise_conv
  remat: bool = False

  @property
  def tap_names(self) -> tuple[str, ...]:
    """Names of the taps, in forward order."""
    return space_layers.layer_names(self.space, blocks_only=self.blocks_only)

  def __call__(
    self, images: Array, masks: Masks | None = None, *, train: bool
  ) -> tuple[Array, Taps]:
    """Classifies images: logits and taps of `represent`."""
    outputs = self.represent(images, masks, train=train)
    return outputs.logits, outputs.taps

  @nn.compact
  def represent(
    self, images: Array, masks: Masks | None = None, *, train: bool
  ) -> Outputs:
    """Classifies images, and shows how.

    Args:
      images: [B, H, W, C] in [0, 1].
      masks: from `arch_params.masks`, or None for the widest network.
      train: whether BatchNorm uses and updates batch statistics.

    Returns:
      Logits [B, K]; the taps, S activations [B, H, W, C] after BatchNorm,
      activation (if any follows) and mask; the outputs of the last block before
      each stride and of the last one; and what is classified, [B, C].

    Raises:
      ValueError: as `layers.check_images`, and if the images do not fit the
        strides.
    """
    layers.check_images(images)
    space_layers.check_image(self.space, images.shape[1:])
    norm = self._norm(train)
    x = self._stem(images, norm)
    outputs: list[Array] = []
    taps: list[Array] = [x]
    entering = None if masks is None else jnp.ones(x.shape[-1])
    width = x.shape[-1]
    for index, block in enumerate(self.space.blocks):
      mask = None if masks is None else masks.features[index]
      agreement = jnp.full(block.widest, float(block.widest == width))
      operator = None
      if masks is not None:
        agreement = masks.agreement[index]
        operator = masks.operators[index] if masks.operators else None
      x, inner = self._block(index, norm)(
        x, entering, mask, agreement, operator
      )
      if operator and 'depth' in operator:
        # A skipped block hands on the width that enters it.
        kept, skipped = operator['depth']
        mask = kept * mask + skipped * entering
      outputs.append(x)
      taps.extend(inner)
      entering, width = mask, block.widest
    features = self._features(x, entering, norm)
    logits = self._logits(features)
    return Outputs(
      logits,
      tuple(outputs if self.blocks_only else taps),
      tuple(outputs[index] for index in space_layers.stage_ends(self.space)),
      features,
    )

  # Parts of the network, called inside the compact method.

  def _norm(self, train: bool) -> Norm:
    return functools.partial(
      BatchNorm,
      use_running_average=not train,
      dtype=self.dtype,
      axis_name=self.axis_name if train else None,
    )

  def _stem(self, images: Array, norm: Norm) -> Array:
    stem = nn.Conv(
      self.space.stem_features,
      (3, 3),
      self.space.stem_stride,
      padding=((1, 1), (1, 1)),
      use_bias=False,
      kernel_init=layers.initializer,
      dtype=self.dtype,
      conv_general_dilated=convolutions.conv_general_dilated,
      name='stem',
    )
    x = stem(layers.normalize(images, self.mean, self.std))
    return nn.hard_swish(norm(name='stem_norm')(x))

  def _block(self, index: int, norm: Norm) -> nn.Module:
    block = self.space.blocks[index]
    widths = {*block.choices, *self.space.input_choices[index]}
    residual = layers.InvertedResidual
    make = nn.remat(residual) if self.remat else residual
    return make(
      block,
      self.space,
      len(widths) > 1,
      norm,
      self.conv,
      self.dtype,
      name=f'block{index}',
    )

  def _features(self, x: Array, mask: Array | None, norm: Norm) -> Array:
    """What is classified, [B, C], at least float32."""
    if not self.space.head_features:
      return x.mean((1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32))
    head = pooled_head.PooledHead(
      self.space.head_features,
      self.space.expansion,
      norm,
      self.dtype,
      name='head',
    )
    return head(x, mask)

  def _logits(self, features: Array) -> Array:
    return nn.Dense(self.num_classes, name='classifier')(features)


class StudentPart(Student):
  """The stem, a block or the head of a derived network by itself.

  Its variables have the names that they have in the whole network.

  Attributes:
    index: of the block; -1 for the stem, and the number of blocks for the head:
      what follows the last block.
  """

  index: int = -1

  @nn.compact
  def represent(
    self, images: Array, masks: Masks | None = None, *, train: bool
  ) -> Outputs:
    """Computes the part.

    Args:
      images: what enters the part, [B, H, W, C].
      masks: of no use.
      train: whether BatchNorm uses and updates batch statistics.

    Returns:
      The part's output in the place of logits, [B, H', W', F] or [B, K], and no
      taps.
    """
    norm, blocks = self._norm(train), self.space.blocks
    if self.index < 0:
      output = self._stem(images, norm)
    elif self.index == len(blocks):
      output = self._logits(self._features(images, None, norm))
    else:
      width = blocks[self.index].widest
      agreement = jnp.full(width, float(width == images.shape[-1]))
      block = self._block(self.index, norm)
      output, _ = block(images, None, None, agreement)
    return Outputs(output, (), (), output)

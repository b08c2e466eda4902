"""The student: supernet and derived network are one module.

Masks are inputs. Soft masks make it the supernet, one-hot masks a candidate,
and a space with one choice per block, without masks, the derived network. The
block is FBNetV2's inverted residual; its output is the sum of the choices'
outputs, sum_i g_i z_i = m * (BN(project) + R(x)) with the mask m (section 3.3),
and the inner tensor is masked by the mask of the width that enters, so that a
supernet at one-hot masks equals the derived network with sliced weights,
BatchNorm included.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from rnascl_jax import search_space, student
  >>> space = search_space.from_stages([1], [(8,)], [2], stem_features=4)
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

from rnascl_jax import convolutions, layers, search_space
from rnascl_jax.arch_params import Masks
from rnascl_jax.base import Array, Taps
from rnascl_jax.search_space import Block, SearchSpace, Shortcut

# Width of a normal distribution by the fan-out, as for ReLU networks.
_init = nn.initializers.variance_scaling(2.0, 'fan_out', 'truncated_normal')


class Pointwise(nn.Module):
  """A 1x1 convolution as a matrix product, which XLA runs best on any back end.

  Attributes:
    features: output channels.
    dtype: compute type; None takes that of the input.
  """

  features: int
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    kernel = self.param('kernel', _init, (x.shape[-1], self.features))
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    flat = x.reshape(-1, x.shape[-1]) @ kernel
    return flat.reshape(*x.shape[:-1], self.features)


class Depthwise(nn.Module):
  """A depthwise convolution without bias, fast on every back end.

  Attributes:
    size: side of the kernel, odd.
    stride: step in both directions.
    conv: the convolution, `layers.depthwise_conv` or one of the two it picks.
    dtype: compute type; None takes that of the input.
  """

  size: int
  stride: int
  conv: Callable[[Array, Array, int], Array] = layers.depthwise_conv
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x: Array) -> Array:
    init = nn.initializers.variance_scaling(
      2.0, 'fan_in', 'truncated_normal', in_axis=(0, 1, 2), out_axis=3
    )
    shape = (self.size, self.size, 1, x.shape[-1])
    # Each channel sees size^2 inputs, whatever the number of channels.
    kernel = self.param('kernel', init, shape)
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    return self.conv(x, kernel, self.stride)


def _fit(x: Array, channels: int) -> Array:
  """Appends zeros to the channels, or drops the last ones."""
  missing = channels - x.shape[-1]
  if missing <= 0:
    return x[..., :channels]
  return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, missing)))


def _masked(x: Array, mask: Array | None) -> Array:
  if mask is None:
    return x
  return x * mask.astype(x.dtype)[None, None, None]


class InvertedResidual(nn.Module):
  """Expand by 1x1, depthwise k x k, project by 1x1; BatchNorm after each.

  Attributes:
    block: the widths, of which the widest is built.
    space: expansion, kernel size and the form of the shortcut.
    changes: whether some choice of the block's width differs from its input's.
    norm: makes a BatchNorm.
    conv: the depthwise convolution.
    dtype: compute type.
  """

  block: Block
  space: SearchSpace
  changes: bool
  norm: Callable[..., nn.Module]
  conv: Callable[[Array, Array, int], Array]
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(
    self,
    x: Array,
    entering: Array | None,
    mask: Array | None,
    agreement: Array,
  ) -> tuple[Array, Taps]:
    """Applies the block.

    Args:
      x: [B, H, W, C], already masked.
      entering: [C] mask of x, or None.
      mask: [F] mask of the output, or None.
      agreement: [F], the part of the mask whose width is that of x.

    Returns:
      The output [B, H', W', F], and the taps of the three convolutions; the
      projection's is read before the residual, each after its mask.
    """
    expansion, width = self.space.expansion, self.block.widest
    # Channel k of the inside belongs to channel k // expansion of the input,
    # so the inside of a narrower network is a prefix too.
    inner = None if entering is None else jnp.repeat(entering, expansion)
    expand = Pointwise(x.shape[-1] * expansion, self.dtype, name='expand')
    expanded = nn.hard_swish(self.norm(name='expand_norm')(expand(x)))
    depthwise = Depthwise(
      self.space.kernel_size,
      self.block.stride,
      self.conv,
      self.dtype,
      name='depthwise',
    )
    filtered = self.norm(name='depthwise_norm')(depthwise(expanded))
    # One mask on the path through the block's inside: the depthwise convolution
    # keeps channels apart, so masking after it masks both tensors.
    filtered = _masked(nn.hard_swish(filtered), inner)
    project = Pointwise(width, self.dtype, name='project')
    projected = _masked(self.norm(name='project_norm')(project(filtered)), mask)
    taps = (_masked(expanded, inner), filtered, projected)
    if self.block.residual:
      projected += self._shortcut(x, mask, agreement)
    return projected, taps

  def _shortcut(self, x: Array, mask: Array | None, agreement: Array) -> Array:
    """R(x) after the mask, [B, H, W, F]; called inside the compact method."""
    fitted = _fit(x, self.block.widest)
    if self.space.shortcut is Shortcut.PAD or not self.changes:
      return _masked(fitted, mask)
    if self.space.shortcut is Shortcut.DROP:
      return _masked(fitted, agreement)
    shortcut = Pointwise(self.block.widest, self.dtype, name='shortcut')
    changed = self.norm(name='shortcut_norm')(shortcut(x))
    disagreement = (1.0 if mask is None else mask) - agreement
    return _masked(fitted, agreement) + _masked(changed, disagreement)


class Student(nn.Module):
  """A chain of inverted residuals, masked or not.

  Attributes:
    space: the blocks; with one choice each it is a derived network.
    num_classes: K.
    mean: per channel, subtracted from images in [0, 1].
    std: per channel.
    blocks_only: taps are the blocks' outputs instead of every convolution's.
    dtype: compute type; None is float32. Parameters, BatchNorm statistics and
      logits are float32.
    axis_name: mapped axis over which BatchNorm takes its statistics.
    conv: the depthwise convolution.
  """

  space: SearchSpace
  num_classes: int
  mean: tuple[float, ...] = (0.0, 0.0, 0.0)
  std: tuple[float, ...] = (1.0, 1.0, 1.0)
  blocks_only: bool = False
  dtype: jnp.dtype | None = None
  axis_name: str | None = None
  conv: Callable[[Array, Array, int], Array] = layers.depthwise_conv

  @property
  def tap_names(self) -> tuple[str, ...]:
    """Names of the taps, in forward order."""
    return search_space.layer_names(self.space, blocks_only=self.blocks_only)

  @nn.compact
  def __call__(
    self, images: Array, masks: Masks | None = None, *, train: bool
  ) -> tuple[Array, Taps]:
    """Classifies images.

    Args:
      images: [B, H, W, C] in [0, 1].
      masks: from `arch_params.masks`, or None for the widest network.
      train: whether BatchNorm uses and updates batch statistics.

    Returns:
      Logits [B, K] and the taps, S activations [B, H, W, C] after BatchNorm,
      activation (if any follows) and mask.

    Raises:
      ValueError: if the images do not fit the strides.
    """
    search_space.check_image(self.space, images.shape[1:])
    norm = functools.partial(
      nn.BatchNorm,
      use_running_average=not train,
      momentum=0.9,
      dtype=self.dtype,
      axis_name=self.axis_name if train else None,
    )
    x = layers.normalize(images, self.mean, self.std)
    stem = nn.Conv(
      self.space.stem_features,
      (3, 3),
      self.space.stem_stride,
      padding=((1, 1), (1, 1)),
      use_bias=False,
      kernel_init=_init,
      dtype=self.dtype,
      conv_general_dilated=convolutions.conv_general_dilated,
      name='stem',
    )
    x = nn.hard_swish(norm(name='stem_norm')(stem(x)))
    outputs: list[Array] = []
    taps: list[Array] = [x]
    entering = None if masks is None else jnp.ones(x.shape[-1])
    width = x.shape[-1]
    for index, block in enumerate(self.space.blocks):
      mask = None if masks is None else masks.features[index]
      agreement = jnp.full(block.widest, float(block.widest == width))
      if masks is not None:
        agreement = masks.agreement[index]
      widths = {*block.choices, *self.space.input_choices[index]}
      x, inner = InvertedResidual(
        block,
        self.space,
        len(widths) > 1,
        norm,
        self.conv,
        self.dtype,
        name=f'block{index}',
      )(x, entering, mask, agreement)
      outputs.append(x)
      taps.extend(inner)
      entering, width = mask, block.widest
    features = x.mean((1, 2)).astype(jnp.float32)
    logits = nn.Dense(self.num_classes, name='classifier')(features)
    return logits, tuple(outputs if self.blocks_only else taps)


def derived(net: Student, features: tuple[int, ...]) -> Student:
  """The network with the given filters, of its own (sliced) weights.

  Args:
    net: the supernet.
    features: one width of each block's choices.

  Returns:
    A `Student` whose blocks have one choice each.
  """
  return net.clone(space=search_space.with_features(net.space, features))

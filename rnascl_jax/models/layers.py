"""Layers of the student: normalisation, masked inverted residual, its parts.

The inverted residual carries the masks of FBNetV2's channel search: all filter
choices of a block share one convolution of the widest choice, and a choice is a
vector of leading ones that multiplies the block's output (Wan et al., FBNetV2,
CVPR 2020, section 3.1; RNAS-CL, section 3.3).

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.models import layers
  >>> images = jnp.ones((1, 2, 2, 3))
  >>> layers.normalize(images, (0.5, 0.5, 0.5), (0.5, 0.5, 0.25))[0, 0, 0]
  Array([1., 1., 2.], dtype=float32)
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.typing import Dtype

from rnascl_jax.base import Array, Taps
from rnascl_jax.models import convolutions, squeeze_excite
from rnascl_jax.search.space import Block, SearchSpace, Shortcut

# Values may be this far outside of [0, 1], and are no mistake.
_OUTSIDE = 0.5
# Width of a normal distribution by the fan-out, as for ReLU networks.
initializer = nn.initializers.variance_scaling(
  2.0, 'fan_out', 'truncated_normal'
)


def check_images(images: Array) -> None:
  """Refuses what a network cannot classify: its images are floats in [0, 1].

  Values are looked at where they are known, and not while a function is traced.

  Args:
    images: [B, H, W, C], floating point, in [0, 1]; attacks and resizing may
      lead somewhat out of it.

  Raises:
    ValueError: for another rank or type, and for values below -0.5 or above
      1.5, which those of images in [0, 255] and of normalised images are.
  """
  if images.ndim != 4 or not jnp.issubdtype(images.dtype, jnp.floating):
    raise ValueError(
      f'images of shape {images.shape} and dtype {images.dtype} must be '
      '[B, H, W, C] and floating point in [0, 1]: add the batch axis to a '
      'single image with images[None], divide 8-bit images by 255.'
    )
  traced = isinstance(images, jax.core.Tracer)
  if traced or not getattr(images, 'is_fully_addressable', True):
    return
  # NaN is of no range; a network's logits are NaN then, which shows.
  values = np.asarray(images).astype(np.float64)
  values = values[~np.isnan(values)]
  lowest, highest = values.min(initial=0.0), values.max(initial=0.0)
  if lowest < -_OUTSIDE or highest > 1 + _OUTSIDE:
    raise ValueError(
      f'images lie in [{lowest:.4g}, {highest:.4g}], but must lie in [0, 1]: '
      'divide 8-bit images by 255, and do not normalise them; the network '
      'does, in its first layer.'
    )


def normalize(
  images: Array, mean: Sequence[float], std: Sequence[float]
) -> Array:
  """Subtracts the mean and divides by the standard deviation per channel.

  Args:
    images: [B, H, W, C], in [0, 1].
    mean: C numbers.
    std: C positive numbers.

  Returns:
    [B, H, W, C].

  Raises:
    ValueError: if mean or std do not have one number per channel.
  """
  channels = images.shape[-1]
  if len(mean) != channels or len(std) != channels:
    raise ValueError(
      f'mean={tuple(mean)} and std={tuple(std)} must have one number for each '
      f'of the {channels} channels of images of shape {images.shape}.'
    )
  shape = (1,) * (images.ndim - 1) + (channels,)
  centre = jnp.asarray(mean, images.dtype).reshape(shape)
  return (images - centre) / jnp.asarray(std, images.dtype).reshape(shape)


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
    kernel = self.param('kernel', initializer, (x.shape[-1], self.features))
    x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
    flat = x.reshape(-1, x.shape[-1]) @ kernel
    return flat.reshape(*x.shape[:-1], self.features)


class Depthwise(nn.Module):
  """A depthwise convolution without bias, fast on every back end.

  Attributes:
    size: side of the kernel, odd.
    stride: step in both directions.
    conv: `convolutions.depthwise_conv`, or one of the two that it picks from.
    dtype: compute type; None takes that of the input.
  """

  size: int
  stride: int
  conv: Callable[[Array, Array, int], Array] = convolutions.depthwise_conv
  dtype: Dtype | None = None

  @nn.compact
  def __call__(self, x: Array, mask: Array | None = None) -> Array:
    init = nn.initializers.variance_scaling(
      2.0, 'fan_in', 'truncated_normal', in_axis=(0, 1, 2), out_axis=3
    )
    shape = (self.size, self.size, 1, x.shape[-1])
    # Each channel sees size^2 inputs, whatever the number of channels.
    kernel = self.param('kernel', init, shape)
    if mask is not None:  # [k, k]
      kernel *= mask[:, :, None, None]
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

  Without the first where the expansion is 1. Squeeze-excite, if the space has
  it, stands between the last two.

  Attributes:
    block: the widths, of which the widest is built.
    space: expansion, kernel size, squeeze-excite and the form of the shortcut.
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
    operator: dict[str, Array] | None = None,
  ) -> tuple[Array, Taps]:
    """Applies the block.

    Args:
      x: [B, H, W, C], already masked.
      entering: [C] mask of x, or None.
      mask: [F] mask of the output, or None.
      agreement: [F], the part of the mask whose width is that of x.
      operator: masks of the kernel and of the expansion, and the weights of
        the depth, as in `arch_params.Masks`; None where none is searched.

    Returns:
      The output [B, H', W', F], and the taps of the convolutions, each after
      its mask; the depthwise convolution's is read before squeeze-excite,
      the projection's before the residual.
    """
    expansion, width = self.space.expansion_of(self.block), self.block.widest
    operator = operator or {}
    # Channel k of the inside belongs to channel k // expansion of the input,
    # so the inside of a narrower network is a prefix too.
    inner = None if entering is None else jnp.repeat(entering, expansion)
    if 'expansion' in operator:
      # The first ones of those that belong to each channel of the input.
      kept = jnp.tile(operator['expansion'], x.shape[-1])
      inner = kept if inner is None else inner * kept
    expanded = x
    if expansion > 1:
      expand = Pointwise(x.shape[-1] * expansion, self.dtype, name='expand')
      expanded = nn.hard_swish(self.norm(name='expand_norm')(expand(x)))
    depthwise = Depthwise(
      self.space.kernel_of(self.block),
      self.block.stride,
      self.conv,
      self.dtype,
      name='depthwise',
    )
    filtered = self.norm(name='depthwise_norm')(
      depthwise(expanded, operator.get('kernel'))
    )
    # One mask on the path through the block's inside: the depthwise convolution
    # keeps channels apart, so masking after it masks both tensors.
    filtered = _masked(nn.hard_swish(filtered), inner)
    project = Pointwise(width, self.dtype, name='project')
    projected = self.norm(name='project_norm')(
      project(self._excited(filtered, entering))
    )
    projected = _masked(projected, mask)
    taps: Taps = (filtered, projected)
    if expansion > 1:
      taps = (_masked(expanded, inner), *taps)
    if self.block.residual:
      projected += self._shortcut(x, mask, agreement)
    if 'depth' in operator:
      kept, skipped = operator['depth'].astype(projected.dtype)
      projected = kept * projected + skipped * x
    return projected, taps

  def _excited(self, filtered: Array, entering: Array | None) -> Array:
    """After squeeze-excite, if any; called inside the compact method."""
    if not self.space.squeeze_excite:
      return filtered
    mask = None
    if entering is not None:
      mask = squeeze_excite.hidden_mask(self.space, self.block, entering)
    width = filtered.shape[-1] // self.space.expansion_of(self.block)
    units = self.space.squeezed(self.block, width)
    return squeeze_excite.SqueezeExcite(units, name='gate')(filtered, mask)

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

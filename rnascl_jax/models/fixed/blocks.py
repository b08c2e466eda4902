"""Layers and residual blocks that the convolutional networks share.

`PostActivationBlock` is that of `resnet`, `PreActivationBlock` that of
`wide_resnet` and `preact_resnet`. A block returns what it computed and the taps
of its convolutions, those of the shortcut left out.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from rnascl_jax.models.fixed import blocks
  >>> conv = blocks.convolution(4, 3, 2, dtype=None, name='conv')
  >>> images = jnp.zeros((1, 7, 7, 3))
  >>> conv.init_with_output(jax.random.key(0), images)[0].shape
  (1, 4, 4, 4)

References:
  He et al., Deep residual learning for image recognition, CVPR 2016; Identity
  mappings in deep residual networks, ECCV 2016.
"""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from rnascl_jax.base import Array, Taps
from rnascl_jax.models import convolutions, layers
from rnascl_jax.models.batch_norm import BatchNorm

# A function of layer fields that makes the layer.
Factory = Callable[..., nn.Module]


def normalized_input(
  images: Array,
  mean: Sequence[float],
  std: Sequence[float],
  strides: Sequence[int] = (),
) -> Array:
  """Checks a network's images and normalises them.

  Args:
    images: [B, H, W, C], floating point, in [0, 1].
    mean: C numbers, or one for all channels.
    std: C positive numbers, or one for all channels.
    strides: strides of the network's stages.

  Returns:
    [B, H, W, C].

  Raises:
    ValueError: as `layers.check_images`, and if the size or the number of
      channels does not fit.
  """
  layers.check_images(images)
  smallest, channels = math.prod(strides), images.shape[3]
  if min(images.shape[1:3]) < smallest:
    raise ValueError(
      f'images of shape {images.shape} are too small: strides '
      f'{tuple(strides)} need a height and width of at least {smallest}.'
    )
  mean = tuple(mean) * channels if len(mean) == 1 else mean
  std = tuple(std) * channels if len(std) == 1 else std
  return layers.normalize(images, mean, std)


def check_stages(
  stage_sizes: Sequence[int], features: Sequence[int], strides: Sequence[int]
) -> None:
  """ValueError unless there is one positive number of each per stage."""
  stages = (stage_sizes, features, strides)
  same_length = len({len(numbers) for numbers in stages}) == 1
  if not same_length or min(min(n, default=0) for n in stages) < 1:
    raise ValueError(
      f'stage_sizes={stage_sizes}, features={features} and '
      f'strides={strides} must have one number of at least 1 per stage.'
    )


def convolution(
  features: int,
  size: int | tuple[int, int],
  stride: int | tuple[int, int] = 1,
  *,
  dtype: Dtype | None,
  name: str,
  bias: bool = False,
) -> nn.Conv:
  """A convolution, padded on all sides, with He's initialisation.

  Size and stride are numbers, or two for height and width.
  """
  sides = (size, size) if isinstance(size, int) else size
  return nn.Conv(
    features,
    sides,
    strides=(stride, stride) if isinstance(stride, int) else stride,
    # Not 'SAME': that pads a strided convolution on the right only.
    padding=tuple((side // 2, side // 2) for side in sides),
    use_bias=bias,
    dtype=dtype,
    kernel_init=nn.initializers.variance_scaling(2.0, 'fan_out', 'normal'),
    conv_general_dilated=convolutions.conv_general_dilated,
    name=name,
  )


def batch_norm(
  *,
  train: bool,
  dtype: Dtype | None,
  axis_name: str | None,
  name: str,
  affine: bool = True,
) -> BatchNorm:
  """BatchNorm, synchronised over `axis_name` where given and `train`.

  Where it is not `affine` it has neither scale nor shift.

  The running variance averages the batches' biased variances; PyTorch averages
  the unbiased ones, n / (n - 1) times as large.
  """
  return BatchNorm(
    use_running_average=not train,
    dtype=dtype,
    axis_name=axis_name,
    affine=affine,
    name=name,
  )


def pooled(x: Array) -> Array:
  """Means of maps [B, H, W, C] as [B, C], in float32 (float64 if x is)."""
  return jnp.mean(x, (1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32))


def linear(num_classes: int, *, name: str) -> nn.Dense:
  """The last layer of a convolutional network: [B, C] to logits [B, K]."""
  # U(-1, 1) / sqrt(C), as in PyTorch.
  init = nn.initializers.variance_scaling(1.0 / 3.0, 'fan_in', 'uniform')
  return nn.Dense(num_classes, kernel_init=init, name=name)


# A block's convolutions in order: side of the kernel, filters per feature of
# the block, whether it is the one with the block's stride.
Layout = Sequence[tuple[int, int, bool]]
BASIC: Layout = ((3, 1, True), (3, 1, False))
BOTTLENECK: Layout = ((1, 1, False), (3, 1, True), (1, 4, False))
WIDE_BOTTLENECK: Layout = ((1, 2, False), (3, 2, True), (1, 4, False))


class PostActivationBlock(nn.Module):
  """Convolutions with a BatchNorm each, the shortcut's sum, then ReLU.

  The taps follow each convolution's BatchNorm.

  Attributes:
    layout: the convolutions, in order.
    features: width of the block, before the expansion.
    stride: stride of the block.
    conv, norm: make a convolution and a BatchNorm.
    shortcut: name of the shortcut's layers.
  """

  layout: Layout
  features: int
  stride: int
  conv: Factory
  norm: Factory
  shortcut: str = 'shortcut'

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Taps]:
    taps, y = [], x
    for number, (size, expansion, strided) in enumerate(self.layout, start=1):
      width, stride = self.features * expansion, self.stride if strided else 1
      y = self.conv(width, size, stride, name=f'conv{number}')(y)
      taps.append(self.norm(name=f'bn{number}')(y))
      y = nn.relu(taps[-1])
    width = taps[-1].shape[-1]
    if self.stride != 1 or x.shape[-1] != width:
      x = self.conv(width, 1, self.stride, name=f'{self.shortcut}_0')(x)
      x = self.norm(name=f'{self.shortcut}_1')(x)
    return nn.relu(taps[-1] + x), tuple(taps)


class PreActivationBlock(nn.Module):
  """Two 3x3 convolutions, each after its BatchNorm and ReLU, and a shortcut.

  The taps are the convolutions' raw outputs.

  Attributes:
    features: width of the block.
    stride: stride of the first convolution.
    conv, norm: make a convolution and a BatchNorm.
    shortcut: name of the shortcut's convolution, where there is one.
    shortcut_activated: whether relu(bn1(x)) feeds that convolution; else x.
  """

  features: int
  stride: int
  conv: Factory
  norm: Factory
  shortcut: str
  shortcut_activated: bool

  tap_names: ClassVar[tuple[str, ...]] = ('conv1', 'conv2')

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Taps]:
    active = nn.relu(self.norm(name='bn1')(x))
    if self.stride != 1 or x.shape[-1] != self.features:
      project = self.conv(self.features, 1, self.stride, name=self.shortcut)
      x = project(active if self.shortcut_activated else x)
    tap1 = self.conv(self.features, 3, self.stride, name='conv1')(active)
    active = nn.relu(self.norm(name='bn2')(tap1))
    tap2 = self.conv(self.features, 3, name='conv2')(active)
    return x + tap2, (tap1, tap2)

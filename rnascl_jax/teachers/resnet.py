"""Residual networks for small images, with a tap at every convolution.

The networks of He et al., Deep residual learning for image recognition, CVPR
2016, as they are used on CIFAR: a 3x3 stem without max-pooling, stages of basic
or bottleneck blocks, global average pooling and one linear layer. The stride of
a bottleneck block is in its 3x3 convolution. The layout and the names are those
of the ResNet-18 and ResNet-50 that RNAS-CL (Nath et al., IJCV 2024) uses as
robust CIFAR teachers.

Tap i is the output of convolution i in forward order **after its BatchNorm**,
before the ReLU or, at a block's end, before the addition; the convolutions of
shortcuts are not tapped. ResNet-18 has 17 taps, ResNet-50 has 49.

Example:
  >>> from rnascl_jax.teachers import resnet
  >>> resnet.resnet50(num_classes=10).tap_names[-1]
  'layer4_2/conv3'
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from rnascl_jax import convolutions, layers
from rnascl_jax.base import Array, Taps

# A function of layer fields that makes the layer.
Factory = Callable[..., nn.Module]


def normalized_input(
  images: Array,
  mean: Sequence[float],
  std: Sequence[float],
  strides: Sequence[int],
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
    ValueError: if the rank, dtype, size or number of channels does not fit.
  """
  if images.ndim != 4 or not jnp.issubdtype(images.dtype, jnp.floating):
    raise ValueError(
      f'images of shape {images.shape} and dtype {images.dtype} must be '
      '[B, H, W, C] and floating point in [0, 1]: add the batch axis to a '
      'single image with images[None], divide 8-bit images by 255.'
    )
  smallest, channels = math.prod(strides), images.shape[3]
  if min(images.shape[1:3]) < smallest:
    raise ValueError(
      f'images of shape {images.shape} are too small: strides '
      f'{tuple(strides)} need a height and width of at least {smallest}.'
    )
  mean = tuple(mean) * channels if len(mean) == 1 else mean
  std = tuple(std) * channels if len(std) == 1 else std
  return layers.normalize(images, mean, std)


def convolution(
  features: int, size: int, stride: int = 1, *, dtype: Dtype | None, name: str
) -> nn.Conv:
  """A bias-free convolution, padded on all sides, with He's initialisation."""
  # Not 'SAME': that pads a strided convolution on the right only.
  pad = (size // 2, size // 2)
  return nn.Conv(
    features,
    (size, size),
    strides=(stride, stride),
    padding=(pad, pad),
    use_bias=False,
    dtype=dtype,
    kernel_init=nn.initializers.variance_scaling(2.0, 'fan_out', 'normal'),
    conv_general_dilated=convolutions.conv_general_dilated,
    name=name,
  )


def batch_norm(
  *, train: bool, dtype: Dtype | None, axis_name: str | None, name: str
) -> nn.BatchNorm:
  """BatchNorm, synchronised over `axis_name` where given and `train`.

  The running variance averages the batches' biased variances; PyTorch averages
  the unbiased ones, n / (n - 1) times as large.
  """
  return nn.BatchNorm(
    use_running_average=not train,
    momentum=0.9,
    epsilon=1e-5,
    dtype=dtype,
    axis_name=axis_name,
    name=name,
  )


def pooled_linear(x: Array, num_classes: int, *, name: str) -> Array:
  """Pools maps [B, H, W, C] to logits [B, K], in float32 (float64 if x is)."""
  dtype = jnp.promote_types(x.dtype, jnp.float32)
  pooled = jnp.mean(x, axis=(1, 2), dtype=dtype)  # [B, C]
  # U(-1, 1) / sqrt(C), as in PyTorch.
  init = nn.initializers.variance_scaling(1.0 / 3.0, 'fan_in', 'uniform')
  return nn.Dense(num_classes, kernel_init=init, name=name)(pooled)


# A block's convolutions in order: side of the kernel, filters per feature of
# the block, whether it is the one with the block's stride.
Layout = Sequence[tuple[int, int, bool]]
BASIC: Layout = ((3, 1, True), (3, 1, False))
BOTTLENECK: Layout = ((1, 1, False), (3, 1, True), (1, 4, False))


class Block(nn.Module):
  """Convolutions with a BatchNorm each, the shortcut's sum, then ReLU.

  Attributes:
    layout: the convolutions, in order.
    features: width of the block, before the expansion.
    stride: stride of the block.
    conv, norm: make a convolution and a BatchNorm.
  """

  layout: Layout
  features: int
  stride: int
  conv: Factory
  norm: Factory

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
      x = self.conv(width, 1, self.stride, name='shortcut_0')(x)
      x = self.norm(name='shortcut_1')(x)
    return nn.relu(taps[-1] + x), tuple(taps)


class ResNet(nn.Module):
  """Residual network: images [B, H, W, C] in [0, 1] -> (logits [B, K], taps).

  The taps follow each convolution's BatchNorm; see the module's docstring.

  Attributes:
    stage_sizes: blocks in each stage.
    num_classes: number of classes K.
    block: the convolutions of a block, `BASIC` or `BOTTLENECK`.
    features: width of each stage, before a block's expansion; the stem has the
      first stage's.
    strides: stride of each stage's first block.
    mean: subtracted from the images, C numbers or one for all channels.
    std: divides the images, C numbers or one for all channels.
    dtype: of computation; None is float32 (float64 for images of float64).
      Parameters, running averages and logits are float32.
    axis_name: mapped axis over which training synchronises BatchNorm.

  Raises:
    ValueError: if stage_sizes, features and strides do not describe stages, or
      the images do not fit (see `normalized_input`).
  """

  stage_sizes: Sequence[int]
  num_classes: int
  block: Layout = BASIC
  features: Sequence[int] = (64, 128, 256, 512)
  strides: Sequence[int] = (1, 2, 2, 2)
  mean: Sequence[float] = (0.0,)
  std: Sequence[float] = (1.0,)
  dtype: Dtype | None = None
  axis_name: str | None = None

  def __post_init__(self) -> None:
    stages = (self.stage_sizes, self.features, self.strides)
    same_length = len({len(numbers) for numbers in stages}) == 1
    if not same_length or min(min(n, default=0) for n in stages) < 1:
      raise ValueError(
        f'stage_sizes={self.stage_sizes}, features={self.features} and '
        f'strides={self.strides} must have one number of at least 1 per stage.'
      )
    super().__post_init__()

  @property
  def tap_names(self) -> tuple[str, ...]:
    """Path within `params` of each tapped convolution, in forward order."""
    return ('conv1',) + tuple(
      f'layer{stage}_{index}/conv{number}'
      for stage, size in enumerate(self.stage_sizes, start=1)
      for index in range(size)
      for number in range(1, len(self.block) + 1)
    )

  @nn.compact
  def __call__(self, images: Array, *, train: bool) -> tuple[Array, Taps]:
    conv = functools.partial(convolution, dtype=self.dtype)
    norm = functools.partial(
      batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name
    )
    x = normalized_input(images, self.mean, self.std, self.strides)
    taps = [norm(name='bn1')(conv(self.features[0], 3, name='conv1')(x))]
    x = nn.relu(taps[0])
    stages = zip(self.stage_sizes, self.features, self.strides, strict=True)
    for stage, (size, features, first_stride) in enumerate(stages, start=1):
      for index in range(size):
        stride = first_stride if index == 0 else 1
        name = f'layer{stage}_{index}'
        block = Block(self.block, features, stride, conv, norm, name=name)
        x, new_taps = block(x)
        taps.extend(new_taps)
    return pooled_linear(x, self.num_classes, name='linear'), tuple(taps)


def resnet18(*, num_classes: int, **fields: Any) -> ResNet:
  """ResNet-18 for 32x32 images, 17 taps; `fields` are those of `ResNet`."""
  return ResNet((2, 2, 2, 2), num_classes, BASIC, **fields)


def resnet50(*, num_classes: int, **fields: Any) -> ResNet:
  """ResNet-50 for 32x32 images, 49 taps; `fields` are those of `ResNet`."""
  return ResNet((3, 4, 6, 3), num_classes, BOTTLENECK, **fields)


def small_resnet(
  *,
  num_classes: int,
  features: Sequence[int] = (16, 32, 64),
  stage_sizes: Sequence[int] = (1, 1, 1),
  strides: Sequence[int] = (1, 2, 2),
  **fields: Any,
) -> ResNet:
  """A `ResNet` for CPUs: with the default fields 7 taps, 78k parameters."""
  return ResNet(
    stage_sizes, num_classes, features=features, strides=strides, **fields
  )

"""MobileNetV2 for images of 32x32 pixels, the student of ARD.

A 3x3 stem, inverted residuals (expand by 1x1, depthwise 3x3, project by 1x1, a
BatchNorm after each, ReLU after the first two), a 1x1 convolution, global
average pooling and one linear layer. As in the code of Goldblum et al.:

* the stem and the second stage have stride 1, so that maps shrink by 8;
* activations are ReLU, not ReLU6;
* a block of stride 1 has a shortcut also where widths differ: a 1x1 convolution
  with BatchNorm.

With ten classes it has 2.30 million parameters. The 3.4 million and 300 million
MACs that RNAS-CL's Table 1 prints are those of ImageNet's MobileNetV2.

The taps are the outputs of the convolutions' BatchNorms, before ReLU and
addition, in forward order; the convolutions of shortcuts are not tapped.

Example:
  >>> from rnascl_jax.models.fixed import mobilenet_v2
  >>> net = mobilenet_v2.MobileNetV2(num_classes=10)
  >>> len(net.tap_names), net.tap_names[:3]
  (53, ('conv1', 'layers_0/conv1', 'layers_0/conv2'))

References:
  Sandler et al., MobileNetV2, CVPR 2018, table 2; Goldblum et al.,
  Adversarially robust distillation, AAAI 2020.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

from flax import linen as nn
from flax.typing import Dtype

from rnascl_jax.base import Array, Taps
from rnascl_jax.models import convolutions, layers, networks
from rnascl_jax.models.fixed import blocks
from rnascl_jax.models.networks import Outputs

# Inner over input width of a block; the first stage has 1.
EXPANSION = 6


class Block(nn.Module):
  """An inverted residual with ReLU.

  Attributes:
    features: width of the output.
    expansion: inner over input width.
    stride: of the depthwise convolution.
    conv, norm: make a convolution and a BatchNorm.
    depthwise: makes a depthwise convolution.
  """

  features: int
  expansion: int
  stride: int
  conv: blocks.Factory
  norm: blocks.Factory
  depthwise: blocks.Factory

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Taps]:
    """The output [B, H', W', F] of x [B, H, W, C], and three taps."""
    expand = self.conv(self.expansion * x.shape[-1], 1, name='conv1')
    expanded = self.norm(name='bn1')(expand(x))
    depthwise = self.depthwise(3, self.stride, name='conv2')
    filtered = self.norm(name='bn2')(depthwise(nn.relu(expanded)))
    project = self.conv(self.features, 1, name='conv3')
    projected = self.norm(name='bn3')(project(nn.relu(filtered)))
    taps = (expanded, filtered, projected)
    if self.stride > 1:
      return projected, taps
    if x.shape[-1] != self.features:
      x = self.conv(self.features, 1, name='shortcut_0')(x)
      x = self.norm(name='shortcut_1')(x)
    return projected + x, taps


class MobileNetV2(networks.Network):
  """MobileNetV2: images [B, H, W, C] in [0, 1] -> (logits [B, K], taps).

  Attributes:
    num_classes: number of classes K.
    features: filters of each stage. The stem has twice those of the first, the
      last convolution four times those of the last.
    stage_sizes: blocks of each stage.
    strides: stride of each stage's first block.
    mean: subtracted from the images, C numbers or one for all channels.
    std: divides the images, C numbers or one for all channels.
    dtype: of computation; None is float32 (float64 for images of float64).
      Parameters, running averages and logits are float32.
    axis_name: mapped axis over which training synchronises BatchNorm.
    conv: the depthwise convolution.

  Raises:
    ValueError: if stage_sizes, features and strides do not describe stages, or
      the images do not fit (see `blocks.normalized_input`).
  """

  num_classes: int
  features: Sequence[int] = (16, 24, 32, 64, 96, 160, 320)
  stage_sizes: Sequence[int] = (1, 2, 3, 4, 3, 3, 1)
  strides: Sequence[int] = (1, 1, 2, 2, 1, 2, 1)
  mean: Sequence[float] = (0.0,)
  std: Sequence[float] = (1.0,)
  dtype: Dtype | None = None
  axis_name: str | None = None
  conv: Callable[..., Array] = convolutions.depthwise_conv

  def __post_init__(self) -> None:
    blocks.check_stages(self.stage_sizes, self.features, self.strides)
    super().__post_init__()

  @property
  def tap_names(self) -> tuple[str, ...]:
    """Path within `params` of each tapped convolution, in forward order."""
    inner = tuple(
      f'layers_{index}/conv{number}'
      for index in range(sum(self.stage_sizes))
      for number in (1, 2, 3)
    )
    return ('conv1', *inner, 'conv2')

  @nn.compact
  def represent(self, images: Array, *, train: bool) -> Outputs:
    conv = functools.partial(blocks.convolution, dtype=self.dtype)
    norm = functools.partial(
      blocks.batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name
    )
    depthwise = functools.partial(
      layers.Depthwise, conv=self.conv, dtype=self.dtype
    )
    x = blocks.normalized_input(images, self.mean, self.std, self.strides)
    stem = conv(2 * self.features[0], 3, name='conv1')(x)
    taps = [norm(name='bn1')(stem)]
    x, stages = nn.relu(taps[0]), []
    for index, (features, expansion, stride) in enumerate(self._blocks()):
      if stride > 1:
        stages.append(x)
      block = Block(
        features,
        expansion,
        stride,
        conv,
        norm,
        depthwise,
        name=f'layers_{index}',
      )
      x, new_taps = block(x)
      taps.extend(new_taps)
    stages.append(x)
    head = conv(4 * self.features[-1], 1, name='conv2')(x)
    taps.append(norm(name='bn2')(head))
    pooled = blocks.pooled(nn.relu(taps[-1]))
    logits = blocks.linear(self.num_classes, name='linear')(pooled)
    return Outputs(logits, tuple(taps), tuple(stages), pooled)

  def _blocks(self) -> Iterator[tuple[int, int, int]]:
    """Width, expansion and stride of each block, in forward order."""
    plan = zip(self.stage_sizes, self.features, self.strides, strict=True)
    for stage, (size, features, first_stride) in enumerate(plan):
      for index in range(size):
        stride = first_stride if index == 0 else 1
        yield features, EXPANSION if stage else 1, stride

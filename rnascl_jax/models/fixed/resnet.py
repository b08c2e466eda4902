"""Residual networks, post-activation, with a tap at every convolution.

The networks of He et al., Deep residual learning for image recognition, CVPR
2016: a stem, stages of basic or bottleneck blocks, global average pooling and
one linear layer. The stride of a bottleneck block is in its 3x3 convolution.

* For CIFAR (`resnet18`, `resnet50`) the stem is a 3x3 convolution. Layout and
  names are those of RobustBench and of MadryLab's robustness package, whose
  ResNet-18 and ResNet-50 RNAS-CL (Nath et al., IJCV 2024) uses as teachers.
* For ImageNet (`imagenet_resnet18`, ...) it is a 7x7 convolution with stride 2
  and a 3x3 max-pooling with stride 2. Layout and names are torchvision's, in
  which Salman et al., Do adversarially robust ImageNet models transfer better?,
  NeurIPS 2020, and Engstrom et al. publish robust networks. In Wide
  ResNet-50-2 a block's inner convolutions have twice the filters.

Tap i is the output of convolution i in forward order **after its BatchNorm**,
before the ReLU or, at a block's end, before the addition; the convolutions of
shortcuts are not tapped. A ResNet-18 has 17 taps, the two of depth 50 have 49.

Example:
  >>> from rnascl_jax.models.fixed import resnet
  >>> resnet.resnet50(num_classes=10).tap_names[-1]
  'layer4_2/conv3'
"""

import functools
from collections.abc import Sequence
from typing import Any

from flax import linen as nn
from flax.typing import Dtype

from rnascl_jax.base import Array
from rnascl_jax.models import networks
from rnascl_jax.models.fixed import blocks
from rnascl_jax.models.networks import Outputs


class ResNet(networks.Network):
  """Residual network: images [B, H, W, C] in [0, 1] -> (logits [B, K], taps).

  The taps follow each convolution's BatchNorm; see the module's docstring.

  Attributes:
    stage_sizes: blocks in each stage.
    num_classes: number of classes K.
    block: the convolutions of a block, `blocks.BASIC`, `blocks.BOTTLENECK` or
      `blocks.WIDE_BOTTLENECK`.
    features: width of each stage, before a block's expansion; the stem has the
      first stage's.
    strides: stride of each stage's first block.
    torchvision: whether the stem is ImageNet's, of stride 4 in all, and
      shortcuts and the last layer have torchvision's names, `downsample` and
      `fc`; else CIFAR's, `shortcut` and `linear`.
    mean: subtracted from the images, C numbers or one for all channels.
    std: divides the images, C numbers or one for all channels.
    dtype: of computation; None is float32 (float64 for images of float64).
      Parameters, running averages and logits are float32.
    axis_name: mapped axis over which training synchronises BatchNorm.

  Raises:
    ValueError: if stage_sizes, features and strides do not describe stages, or
      the images do not fit (see `blocks.normalized_input`).
  """

  stage_sizes: Sequence[int]
  num_classes: int
  block: blocks.Layout = blocks.BASIC
  features: Sequence[int] = (64, 128, 256, 512)
  strides: Sequence[int] = (1, 2, 2, 2)
  torchvision: bool = False
  mean: Sequence[float] = (0.0,)
  std: Sequence[float] = (1.0,)
  dtype: Dtype | None = None
  axis_name: str | None = None

  def __post_init__(self) -> None:
    blocks.check_stages(self.stage_sizes, self.features, self.strides)
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
  def represent(self, images: Array, *, train: bool) -> Outputs:
    conv = functools.partial(blocks.convolution, dtype=self.dtype)
    norm = functools.partial(
      blocks.batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name
    )
    kernel, stem_strides = (7, (2, 2)) if self.torchvision else (3, (1,))
    strides = (*stem_strides, *self.strides)
    x = blocks.normalized_input(images, self.mean, self.std, strides)
    x = conv(self.features[0], kernel, stem_strides[0], name='conv1')(x)
    taps = [norm(name='bn1')(x)]
    x = nn.relu(taps[0])
    if self.torchvision:
      x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
    shortcut = 'downsample' if self.torchvision else 'shortcut'
    plan = zip(self.stage_sizes, self.features, self.strides, strict=True)
    stages = []
    for stage, (size, features, first_stride) in enumerate(plan, start=1):
      for index in range(size):
        stride = first_stride if index == 0 else 1
        name = f'layer{stage}_{index}'
        block = blocks.PostActivationBlock(
          self.block, features, stride, conv, norm, shortcut, name=name
        )
        x, new_taps = block(x)
        taps.extend(new_taps)
      stages.append(x)
    head = 'fc' if self.torchvision else 'linear'
    pooled = blocks.pooled(x)
    logits = blocks.linear(self.num_classes, name=head)(pooled)
    return Outputs(logits, tuple(taps), tuple(stages), pooled)


def resnet18(*, num_classes: int, **fields: Any) -> ResNet:
  """ResNet-18 for 32x32 images, 17 taps; `fields` are those of `ResNet`."""
  return ResNet((2, 2, 2, 2), num_classes, blocks.BASIC, **fields)


def resnet34(*, num_classes: int, **fields: Any) -> ResNet:
  """ResNet-34 for 32x32 images, 33 taps; `fields` are those of `ResNet`."""
  return ResNet((3, 4, 6, 3), num_classes, blocks.BASIC, **fields)


def resnet50(*, num_classes: int, **fields: Any) -> ResNet:
  """ResNet-50 for 32x32 images, 49 taps; `fields` are those of `ResNet`."""
  return ResNet((3, 4, 6, 3), num_classes, blocks.BOTTLENECK, **fields)


def imagenet_resnet18(*, num_classes: int, **fields: Any) -> ResNet:
  """ResNet-18 of torchvision, 17 taps; `fields` are those of `ResNet`."""
  return resnet18(num_classes=num_classes, torchvision=True, **fields)


def imagenet_resnet50(*, num_classes: int, **fields: Any) -> ResNet:
  """ResNet-50 of torchvision, 49 taps; `fields` are those of `ResNet`."""
  return resnet50(num_classes=num_classes, torchvision=True, **fields)


def imagenet_wide_resnet50_2(*, num_classes: int, **fields: Any) -> ResNet:
  """Wide ResNet-50-2 of torchvision, 49 taps; `fields` as of `ResNet`.

  Its blocks put out as many filters as those of ResNet-50 and have twice as
  many inside.
  """
  wide = blocks.WIDE_BOTTLENECK
  return ResNet((3, 4, 6, 3), num_classes, wide, torchvision=True, **fields)


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

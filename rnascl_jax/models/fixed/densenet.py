"""DenseNet for images of 32x32 pixels.

A 3x3 stem without BatchNorm; stages of dense layers, each of which computes
conv3x3(relu(bn(conv1x1(relu(bn(x)))))) and puts it in front of x; between
stages BatchNorm, ReLU, a 1x1 convolution and a mean over 2x2 pixels; a last
BatchNorm and ReLU, global average pooling and one linear layer. The layout and
the names are those of the code of Huang et al. (HanxunH/RobustWRN).

That code has no widths of DN-121-R, and the paper prints 6 million parameters.
`densenet121_r` has 0.4 of the channels that enter the last stage, as their
WRN-34-R has of its filters (10-10-4), rounded to 205: 6.00 million. That is how
the form was inferred; it is not known from the authors.

The taps are the convolutions' raw outputs, as in all pre-activation networks.

Example:
  >>> from rnascl_jax.models.fixed import densenet
  >>> net = densenet.DenseNet(num_classes=10)
  >>> len(net.tap_names), net.tap_names[1]
  (120, 'stages_0_0_0/conv1')

References:
  Huang et al., Densely connected convolutional networks, CVPR 2017; Huang et
  al., Exploring architectural ingredients of adversarially robust deep neural
  networks, NeurIPS 2021.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from rnascl_jax.base import Array, Taps
from rnascl_jax.models import networks
from rnascl_jax.models.fixed import blocks
from rnascl_jax.models.networks import Outputs


class DenseLayer(nn.Module):
  """Appends some channels, computed from all that are there.

  Attributes:
    growth: how many.
    conv, norm: make a convolution and a BatchNorm.
  """

  growth: int
  conv: blocks.Factory
  norm: blocks.Factory

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Taps]:
    """The output [B, H, W, growth + C] of x [B, H, W, C], and two taps."""
    active = nn.relu(self.norm(name='bn1')(x))
    inner = self.conv(4 * self.growth, 1, name='conv1')(active)
    active = nn.relu(self.norm(name='bn2')(inner))
    new = self.conv(self.growth, 3, name='conv2')(active)
    return jnp.concatenate([new, x], axis=-1), (inner, new)


class Transition(nn.Module):
  """Changes the number of channels and halves the sides of maps.

  Attributes:
    features: channels of the output.
    conv, norm: make a convolution and a BatchNorm.
  """

  features: int
  conv: blocks.Factory
  norm: blocks.Factory

  @nn.compact
  def __call__(self, x: Array) -> tuple[Array, Taps]:
    """The output [B, H / 2, W / 2, F] of x [B, H, W, C], and one tap."""
    active = nn.relu(self.norm(name='bn')(x))
    tap = self.conv(self.features, 1, name='conv')(active)
    return nn.avg_pool(tap, (2, 2), strides=(2, 2)), (tap,)


class DenseNet(networks.Network):
  """DenseNet: images [B, H, W, C] in [0, 1] -> (logits [B, K], taps).

  The default fields make DenseNet-121.

  Attributes:
    num_classes: number of classes K.
    features: channels that enter each stage.
    stage_sizes: dense layers of each stage.
    width: channels that a dense layer appends, the growth rate.
    mean: subtracted from the images, C numbers or one for all channels.
    std: divides the images, C numbers or one for all channels.
    dtype: of computation; None is float32 (float64 for images of float64).
      Parameters, running averages and logits are float32.
    axis_name: mapped axis over which training synchronises BatchNorm.

  Raises:
    ValueError: if stage_sizes, features and width do not describe stages, or
      the images do not fit (see `blocks.normalized_input`).
  """

  num_classes: int
  features: Sequence[int] = (64, 128, 256, 512)
  stage_sizes: Sequence[int] = (6, 12, 24, 16)
  width: int = 32
  mean: Sequence[float] = (0.0,)
  std: Sequence[float] = (1.0,)
  dtype: Dtype | None = None
  axis_name: str | None = None

  def __post_init__(self) -> None:
    widths = (self.width,) * len(self.stage_sizes)
    blocks.check_stages(self.stage_sizes, self.features, widths)
    super().__post_init__()

  @property
  def tap_names(self) -> tuple[str, ...]:
    """Path within `params` of each tapped convolution, in forward order."""
    names = ['conv1']
    for stage, size in enumerate(self.stage_sizes):
      for index in range(size):
        names += [f'stages_{stage}_0_{index}/conv{n}' for n in (1, 2)]
      names.append(f'stages_{stage}_1/conv')
    return tuple(names[:-1])

  @nn.compact
  def represent(self, images: Array, *, train: bool) -> Outputs:
    conv = functools.partial(blocks.convolution, dtype=self.dtype)
    norm = functools.partial(
      blocks.batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name
    )
    strides = (2,) * (len(self.stage_sizes) - 1)
    x = blocks.normalized_input(images, self.mean, self.std, strides)
    x = conv(self.features[0], 3, name='conv1')(x)
    taps, stages = [x], []
    for stage, size in enumerate(self.stage_sizes):
      if stage:
        transition = Transition(
          self.features[stage], conv, norm, name=f'stages_{stage - 1}_1'
        )
        x, new_taps = transition(x)
        taps.extend(new_taps)
      for index in range(size):
        layer = DenseLayer(
          self.width, conv, norm, name=f'stages_{stage}_0_{index}'
        )
        x, new_taps = layer(x)
        taps.extend(new_taps)
      stages.append(x)
    pooled = blocks.pooled(nn.relu(norm(name='bn')(x)))
    logits = blocks.linear(self.num_classes, name='linear')(pooled)
    return Outputs(logits, tuple(taps), tuple(stages), pooled)


def densenet121_r(*, num_classes: int, **fields: Any) -> DenseNet:
  """DN-121-R of Huang et al., as inferred from its size; see the module."""
  return DenseNet(num_classes, (64, 128, 256, 205), **fields)

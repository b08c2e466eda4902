"""Wide residual networks, pre-activation, with a tap at every convolution.

Depth 6 n + 4 and width k: a 3x3 stem of 16 filters, three stages of n basic
blocks with 16 k, 32 k and 64 k filters and strides 1, 2 and 2, a last BatchNorm
and ReLU, global average pooling and one linear layer. `wide_resnet34_10` is the
WRT-34 teacher of RNAS-CL (Nath et al., IJCV 2024) and of most of the literature
on adversarial training; the layout and the names are the usual ones there.

A block computes x + conv2(relu(bn2(conv1(relu(bn1(x)))))). Where it changes
the number of filters, relu(bn1(x)) feeds its shortcut convolution too, as in
the published networks.

Tap i is the **raw output** of convolution i in forward order: the stem's, and
in every block conv1's before bn2 and conv2's before the addition. The
convolutions of shortcuts are not tapped. WRN-34-10 has 31 taps.

Example:
  >>> from rnascl_jax.models.fixed import wide_resnet
  >>> net = wide_resnet.WideResNet(16, 2, num_classes=10)
  >>> net.tap_names[:3]
  ('conv1', 'block1_layer_0/conv1', 'block1_layer_0/conv2')
  >>> len(wide_resnet.wide_resnet34_10(num_classes=10).tap_names)
  31

Reference:
  Zagoruyko and Komodakis, Wide residual networks, BMVC 2016, section 2.
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

STEM_FEATURES = 16
STAGE_STRIDES = (1, 2, 2)


def _blocks_per_stage(depth: int) -> int:
  """The n of depth = 6 n + 4; ValueError where there is none."""
  n, remainder = divmod(depth - 4, 6)
  if n < 1 or remainder:
    nearest = (10,) if n < 1 else (6 * n + 4, 6 * n + 10)
    raise ValueError(
      f'depth={depth} must be 6 n + 4 for n = 1, 2, ... blocks in each of the '
      f'three stages; nearest: {" or ".join(map(str, nearest))}.'
    )
  return n


class WideResNet(networks.Network):
  """Wide ResNet: images [B, H, W, C] in [0, 1] -> (logits [B, K], taps).

  The taps are the convolutions' raw outputs; see the module's docstring.

  Attributes:
    depth: 6 n + 4, the number of layers.
    width: factor of the number of filters.
    num_classes: number of classes K.
    mean: subtracted from the images, C numbers or one for all channels.
    std: divides the images, C numbers or one for all channels.
    dtype: of computation; None is float32 (float64 for images of float64).
      Parameters, running averages and logits are float32.
    axis_name: mapped axis over which training synchronises BatchNorm.

  Raises:
    ValueError: if depth is no 6 n + 4 or width is below 1, or if images do not
      fit (see `blocks.normalized_input`).
  """

  depth: int
  width: int
  num_classes: int
  mean: Sequence[float] = (0.0,)
  std: Sequence[float] = (1.0,)
  dtype: Dtype | None = None
  axis_name: str | None = None

  def __post_init__(self) -> None:
    _blocks_per_stage(self.depth)
    if self.width < 1:
      raise ValueError(f'width={self.width} must be at least 1.')
    super().__post_init__()

  @property
  def tap_names(self) -> tuple[str, ...]:
    """Path within `params` of each tapped convolution, in forward order."""
    return ('conv1',) + tuple(
      f'block{stage}_layer_{index}/{name}'
      for stage in range(1, len(STAGE_STRIDES) + 1)
      for index in range(_blocks_per_stage(self.depth))
      for name in blocks.PreActivationBlock.tap_names
    )

  @nn.compact
  def represent(self, images: Array, *, train: bool) -> Outputs:
    conv = functools.partial(blocks.convolution, dtype=self.dtype)
    norm = functools.partial(
      blocks.batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name
    )
    x = blocks.normalized_input(images, self.mean, self.std, STAGE_STRIDES)
    x = conv(STEM_FEATURES, 3, name='conv1')(x)
    taps, stages = [x], []
    for stage, first_stride in enumerate(STAGE_STRIDES, start=1):
      features = STEM_FEATURES * 2 ** (stage - 1) * self.width
      for index in range(_blocks_per_stage(self.depth)):
        stride = first_stride if index == 0 else 1
        block = blocks.PreActivationBlock(
          features,
          stride,
          conv,
          norm,
          # PyTorch's name, so that its state dicts fit.
          shortcut='convShortcut',
          shortcut_activated=True,
          name=f'block{stage}_layer_{index}',
        )
        x, new_taps = block(x)
        taps.extend(new_taps)
      stages.append(x)
    x = nn.relu(norm(name='bn1')(x))
    pooled = blocks.pooled(x)
    logits = blocks.linear(self.num_classes, name='fc')(pooled)
    return Outputs(logits, tuple(taps), tuple(stages), pooled)


def wide_resnet34_10(*, num_classes: int, **fields: Any) -> WideResNet:
  """WRN-34-10, 31 taps; `fields` are those of `WideResNet`."""
  return WideResNet(depth=34, width=10, num_classes=num_classes, **fields)

"""VGG for images of 32x32 pixels, with BatchNorm.

Stages of 3x3 convolutions, each with a bias, a BatchNorm and a ReLU, and a
maximum over 2x2 pixels behind each stage; then global average pooling and one
linear layer. The layout and the names are those of the code of Huang et al.
(HanxunH/RobustWRN), who narrow or shorten the last stage of known networks:
their R variants.

That code has no widths of VGG-11-R, and the paper prints 5.83 million
parameters. `vgg11_r` has 0.4 of the filters in the last stage, as their
WRN-34-R has (10-10-4), rounded to 205: 5.83 million. That is how the form was
inferred; it is not known from the authors.

The taps are the outputs of the BatchNorms, before ReLU.

Example:
  >>> from rnascl_jax.models.fixed import vgg
  >>> vgg.VGG(num_classes=10).tap_names[:3]
  ('features_0', 'features_4', 'features_8')

References:
  Simonyan and Zisserman, Very deep convolutional networks, ICLR 2015, column A
  of table 1; Huang et al., Exploring architectural ingredients of adversarially
  robust deep neural networks, NeurIPS 2021.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from flax import linen as nn
from flax.typing import Dtype

from rnascl_jax.base import Array
from rnascl_jax.models import networks
from rnascl_jax.models.fixed import blocks
from rnascl_jax.models.networks import Outputs


class VGG(networks.Network):
  """VGG: images [B, H, W, C] in [0, 1] -> (logits [B, K], taps).

  The default fields make VGG-11.

  Attributes:
    num_classes: number of classes K.
    features: filters of each stage.
    stage_sizes: convolutions of each stage.
    mean: subtracted from the images, C numbers or one for all channels.
    std: divides the images, C numbers or one for all channels.
    dtype: of computation; None is float32 (float64 for images of float64).
      Parameters, running averages and logits are float32.
    axis_name: mapped axis over which training synchronises BatchNorm.

  Raises:
    ValueError: if stage_sizes and features do not describe stages, or the
      images do not fit (see `blocks.normalized_input`).
  """

  num_classes: int
  features: Sequence[int] = (64, 128, 256, 512, 512)
  stage_sizes: Sequence[int] = (1, 1, 2, 2, 2)
  mean: Sequence[float] = (0.0,)
  std: Sequence[float] = (1.0,)
  dtype: Dtype | None = None
  axis_name: str | None = None

  def __post_init__(self) -> None:
    blocks.check_stages(self.stage_sizes, self.features, self._strides)
    super().__post_init__()

  @property
  def tap_names(self) -> tuple[str, ...]:
    """Path within `params` of each tapped convolution, in forward order."""
    return tuple(f'features_{index}' for index, *_ in self._layers())

  @nn.compact
  def represent(self, images: Array, *, train: bool) -> Outputs:
    x = blocks.normalized_input(images, self.mean, self.std, self._strides)
    taps, stages = [], []
    for index, features, is_last in self._layers():
      conv = blocks.convolution(
        features, 3, bias=True, dtype=self.dtype, name=f'features_{index}'
      )
      norm = blocks.batch_norm(
        train=train,
        dtype=self.dtype,
        axis_name=self.axis_name,
        name=f'features_{index + 1}',
      )
      taps.append(norm(conv(x)))
      x = nn.relu(taps[-1])
      if is_last:
        stages.append(x)
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
    pooled = blocks.pooled(x)
    logits = blocks.linear(self.num_classes, name='classifier')(pooled)
    return Outputs(logits, tuple(taps), tuple(stages), pooled)

  @property
  def _strides(self) -> tuple[int, ...]:
    return (2,) * len(self.stage_sizes)

  def _layers(self) -> Iterator[tuple[int, int, bool]]:
    """Of each convolution its index, its filters, whether a stage ends."""
    index = 0
    for size, features in zip(self.stage_sizes, self.features, strict=True):
      for place in range(size):
        yield index, features, place == size - 1
        index += 3  # Convolution, BatchNorm and ReLU.
      index += 1  # The maximum.


def vgg11_r(*, num_classes: int, **fields: Any) -> VGG:
  """VGG-11-R of Huang et al., as inferred from its size; see the module."""
  return VGG(num_classes, (64, 128, 256, 512, 205), **fields)

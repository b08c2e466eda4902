"""Pre-activation residual networks for small images, tapped everywhere.

He et al., Identity mappings in deep residual networks, ECCV 2016, as used in
adversarial training on CIFAR: a 3x3 stem without BatchNorm, stages of basic
blocks whose BatchNorms and ReLUs come before the convolutions, global average
pooling and one linear layer. Layout and names are those of RobustBench's
`PreActResNet`, which is published in two variants:

* `shortcut_activated=False, final_norm=False`, the default: `Wong2020Fast` and
  `Andriushchenko2020Understanding` (CIFAR-10, Linf).
* `shortcut_activated=True, final_norm=True`: `Rice2020Overfitting` (CIFAR-10
  L2 and CIFAR-100 Linf), `Kireev2021Effectiveness` (CIFAR-10, corruptions) and
  `Addepalli2021Towards_PARN18` (CIFAR-100).

The names of the variables tell whether there is a last BatchNorm, `bn`; nothing
in a checkpoint tells what feeds the shortcuts.

Tap i is the **raw output** of convolution i in forward order: the stem's, and
in every block conv1's before bn2 and conv2's before the addition. The
convolutions of shortcuts are not tapped. PreAct-ResNet-18 has 17 taps.

Example:
  >>> from rnascl_jax.models.fixed import preact_resnet
  >>> preact_resnet.preact_resnet18(num_classes=10).tap_names[-1]
  'layer4_1/conv2'
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


class PreActResNet(networks.Network):
  """PreAct-ResNet: images [B, H, W, C] in [0, 1] -> (logits [B, K], taps).

  The taps are the convolutions' raw outputs; see the module's docstring.

  Attributes:
    stage_sizes: blocks in each stage.
    num_classes: number of classes K.
    features: filters of each stage; the stem has the first stage's.
    strides: stride of each stage's first block.
    shortcut_activated: whether a block's shortcut convolution is fed with
      relu(bn1(x)); else with the block's input x.
    final_norm: whether a BatchNorm and a ReLU come before the pooling.
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
  features: Sequence[int] = (64, 128, 256, 512)
  strides: Sequence[int] = (1, 2, 2, 2)
  shortcut_activated: bool = False
  final_norm: bool = False
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
      f'layer{stage}_{index}/{name}'
      for stage, size in enumerate(self.stage_sizes, start=1)
      for index in range(size)
      for name in blocks.PreActivationBlock.tap_names
    )

  @nn.compact
  def represent(self, images: Array, *, train: bool) -> Outputs:
    conv = functools.partial(blocks.convolution, dtype=self.dtype)
    norm = functools.partial(
      blocks.batch_norm, train=train, dtype=self.dtype, axis_name=self.axis_name
    )
    x = blocks.normalized_input(images, self.mean, self.std, self.strides)
    x = conv(self.features[0], 3, name='conv1')(x)
    taps = [x]
    plan = zip(self.stage_sizes, self.features, self.strides, strict=True)
    stages = []
    for stage, (size, features, first_stride) in enumerate(plan, start=1):
      for index in range(size):
        block = blocks.PreActivationBlock(
          features,
          first_stride if index == 0 else 1,
          conv,
          norm,
          shortcut='shortcut_0',
          shortcut_activated=self.shortcut_activated,
          name=f'layer{stage}_{index}',
        )
        x, new_taps = block(x)
        taps.extend(new_taps)
      stages.append(x)
    if self.final_norm:
      x = nn.relu(norm(name='bn')(x))
    pooled = blocks.pooled(x)
    logits = blocks.linear(self.num_classes, name='linear')(pooled)
    return Outputs(logits, tuple(taps), tuple(stages), pooled)


def preact_resnet18(*, num_classes: int, **fields: Any) -> PreActResNet:
  """PreAct-ResNet-18, 17 taps; `fields` are those of `PreActResNet`."""
  return PreActResNet((2, 2, 2, 2), num_classes, **fields)

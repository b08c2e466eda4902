"""The teachers of the paper, and the checkpoints that were published of them.

The paper names its teachers and their accuracies. These networks and files have
the clean accuracy that it prints; of the PGD-20 column of Table 15, the numbers
of both ResNets are those of AutoAttack in RobustBench.

No file is downloaded: whoever wants a teacher gets it from its authors and runs
`python -m experiments.import_teacher`, which prints this table with --list.
"""

import types
from collections.abc import Mapping
from typing import Any, NamedTuple

ROBUSTBENCH = 'https://github.com/RobustBench/robustbench'
OVERFITTING = 'https://github.com/locuslab/robust_overfitting'
MADRY = 'https://github.com/MadryLab/robustness'
TRANSFORMERS = (
  'https://github.com/mo666666/'
  'When-Adversarial-Training-Meets-Vision-Transformers'
)


class Normalization(NamedTuple):
  """The first layer of a network: (images - mean) / std, images in [0, 1].

  Attributes:
    mean: a number for each channel, or one for all.
    std: a positive number for each channel, or one for all.
  """

  mean: tuple[float, ...]
  std: tuple[float, ...]


# By the names that experiments.import_teacher takes. Of the two for CIFAR-10,
# the second is that of Engstrom et al., whose deviations are other ones.
NORMALIZATIONS: Mapping[str, Normalization] = types.MappingProxyType(
  {
    'none': Normalization((0.0,), (1.0,)),
    'cifar10': Normalization(
      (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
    ),
    'cifar10_madry': Normalization(
      (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    ),
    'imagenet': Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
  }
)


class Published(NamedTuple):
  """A teacher of the paper.

  Attributes:
    title: what the paper calls it, and where it is from.
    network: its specification, see `build.network`.
    data: the images it was trained on.
    num_classes: that it tells apart.
    image_size: side of the images in pixels.
    normalization: its first layer, by its name in `NORMALIZATIONS`, where the
      file does not say.
    clean: accuracy on test images in %, as its authors or the paper print it.
    parameters: how many it has, BatchNorm's scales and shifts included.
    source: where its authors publish it.
    file: which file there; '' if none is published.
    pickles: how its file is read, see `pytorch.files`.
  """

  title: str
  network: Mapping[str, Any]
  data: str
  num_classes: int
  image_size: int
  normalization: str
  clean: float
  parameters: int
  source: str
  file: str
  pickles: str = 'safe'


def _cifar10(
  title: str,
  network: Mapping[str, Any],
  normalization: str,
  clean: float,
  parameters: int,
  source: str,
  file: str,
  pickles: str = 'safe',
) -> Published:
  return Published(
    title,
    network,
    'CIFAR-10',
    10,
    32,
    normalization,
    clean,
    parameters,
    source,
    file,
    pickles,
  )


def _imagenet(
  title: str,
  network: Mapping[str, Any],
  clean: float,
  parameters: int,
  source: str,
  file: str,
  pickles: str = 'safe',
) -> Published:
  return Published(
    title,
    network,
    'ImageNet',
    1000,
    224,
    'imagenet',
    clean,
    parameters,
    source,
    file,
    pickles,
  )


PUBLISHED: Mapping[str, Published] = types.MappingProxyType(
  {
    'wrn34': _cifar10(
      'WRT-34: WRN-34-10 of Rice et al., 2020, best checkpoint',
      {'name': 'wide_resnet34_10'},
      'cifar10',
      86.07,
      46_160_474,
      OVERFITTING,
      'cifar10_wide/wideresnet_10/model_best.pth, in the folder on Google '
      'Drive that the README links',
    ),
    'resnet18': _cifar10(
      'ResNet-18 of Sehwag et al., 2021 (Sehwag2021Proxy_R18)',
      {'name': 'resnet18'},
      'none',
      84.59,
      11_173_962,
      ROBUSTBENCH,
      'Google Drive 1-ZgoSlD_AMhtXdnUElilxVXnzK2DcHuu',
    ),
    'resnet50': _cifar10(
      'ResNet-50 of Engstrom et al., 2019 (L-inf, 8/255)',
      {'name': 'resnet50'},
      'cifar10_madry',
      87.03,
      23_520_842,
      MADRY,
      'cifar_linf_8.pt, which the README links',
      'inert',
    ),
    'vit': _cifar10(
      'ViT, here ViT-B/4 of Mo et al., 2022',
      {'name': 'vit_base', 'patch_size': 4},
      'cifar10',
      81.24,
      85_152_010,
      TRANSFORMERS,
      '',
    ),
    'deit': _cifar10(
      'DeiT Tiny, patch 4, of Mo et al., 2022',
      {'name': 'deit_tiny', 'patch_size': 4},
      'cifar10',
      79.5,
      5_362_762,
      TRANSFORMERS,
      '',
    ),
    'imagenet_resnet18': _imagenet(
      'ImageNet ResNet-18 of Salman et al., 2020 (L-inf, 4/255)',
      {'name': 'imagenet_resnet18'},
      52.92,
      11_689_512,
      ROBUSTBENCH,
      'Salman2020Do_R18: Google Drive 1OThCOQCOxY6lAgxZxgiK3YuZDD7PPfPx',
    ),
    'imagenet_resnet50': _imagenet(
      'ImageNet ResNet-50 of Salman et al., 2020 (L-inf, 4/255)',
      {'name': 'imagenet_resnet50'},
      64.02,
      25_557_032,
      ROBUSTBENCH,
      'Salman2020Do_R50: Google Drive 1TmT5oGa1UvVjM3d-XeSj_XmKqBNRUg8r',
    ),
    'imagenet_resnet50_madry': _imagenet(
      'ImageNet ResNet-50 of Engstrom et al., 2019 (L-inf, 4/255)',
      {'name': 'imagenet_resnet50'},
      62.56,
      25_557_032,
      MADRY,
      'imagenet_linf_4.pt, which the README links',
      'inert',
    ),
    'imagenet_wrn50': _imagenet(
      'ImageNet WRT-50: WideResNet-50-2 of Salman et al., 2020 (L-inf, 4/255)',
      {'name': 'imagenet_wide_resnet50_2'},
      68.46,
      68_883_240,
      ROBUSTBENCH,
      'Salman2020Do_50_2: Google Drive 1OT7xaQYljrTr3vGbM37xK9SPoPJvbSKB',
    ),
  }
)

"""The teachers of the paper, and the checkpoints that were published of them.

The paper names its teachers and their accuracies. These networks and files have
the clean accuracy that it prints; of the PGD-20 column of Table 15, the numbers
of both ResNets are those of AutoAttack in RobustBench. Of ImageNet it prints
none: the names that end in `_l2` are the files that its released code loads.

No file is downloaded: whoever wants a teacher gets it from its authors and runs
`rnascl import-teacher`, which prints this table with --list.
"""

import functools
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

ROBUSTBENCH = 'https://github.com/RobustBench/robustbench'
OVERFITTING = 'https://github.com/locuslab/robust_overfitting'
MADRY = 'https://github.com/MadryLab/robustness'
TRANSFER = 'https://huggingface.co/madrylab/robust-imagenet-models'
TRANSFORMERS = (
  'https://github.com/mo666666/'
  'When-Adversarial-Training-Meets-Vision-Transformers'
)


class Published(NamedTuple):
  """A teacher of the paper.

  Attributes:
    title: what the paper calls it, and where it is from.
    network: its specification, see `build.network`.
    data: the images it was trained on.
    num_classes: that it tells apart.
    image_size: side of the images in pixels.
    normalization: its first layer, by its name in `normalization`, where the
      file does not say.
    clean: accuracy on test images in %, as its authors or the paper print it.
    parameters: how many it has, BatchNorm's scales and shifts included.
    source: where its authors publish it.
    file: which file there; '' if none is published.
    pickles: how its file is read, see `interop.files`.
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


_cifar10 = functools.partial(
  Published, data='CIFAR-10', num_classes=10, image_size=32
)
_imagenet = functools.partial(
  Published,
  data='ImageNet',
  num_classes=1000,
  image_size=224,
  normalization='imagenet',
)
# Accuracies are those of the README there, at its commit 3f04ac9.
_imagenet_l2 = functools.partial(_imagenet, source=TRANSFER, pickles='inert')

PUBLISHED: Mapping[str, Published] = types.MappingProxyType(
  {
    'wrn34': _cifar10(
      title='WRT-34: WRN-34-10 of Rice et al., 2020, best checkpoint',
      network={'name': 'wide_resnet34_10'},
      normalization='cifar10',
      clean=86.07,
      parameters=46_160_474,
      source=OVERFITTING,
      file=(
        'cifar10_wide/wideresnet_10/model_best.pth, in the folder on Google '
        'Drive that the README links'
      ),
    ),
    'resnet18': _cifar10(
      title='ResNet-18 of Sehwag et al., 2021 (Sehwag2021Proxy_R18)',
      network={'name': 'resnet18'},
      normalization='none',
      clean=84.59,
      parameters=11_173_962,
      source=ROBUSTBENCH,
      file='Google Drive 1-ZgoSlD_AMhtXdnUElilxVXnzK2DcHuu',
    ),
    'resnet50': _cifar10(
      title='ResNet-50 of Engstrom et al., 2019 (L-inf, 8/255)',
      network={'name': 'resnet50'},
      normalization='cifar10_madry',
      clean=87.03,
      parameters=23_520_842,
      source=MADRY,
      file='cifar_linf_8.pt, which the README links',
      pickles='inert',
    ),
    'vit': _cifar10(
      title='ViT, here ViT-B/4 of Mo et al., 2022',
      network={'name': 'vit_base', 'patch_size': 4},
      normalization='cifar10',
      clean=81.24,
      parameters=85_152_010,
      source=TRANSFORMERS,
      file='',
    ),
    'deit': _cifar10(
      title='DeiT Tiny, patch 4, of Mo et al., 2022',
      network={'name': 'deit_tiny', 'patch_size': 4},
      normalization='cifar10',
      clean=79.5,
      parameters=5_362_762,
      source=TRANSFORMERS,
      file='',
    ),
    'imagenet_resnet18': _imagenet(
      title='ImageNet ResNet-18 of Salman et al., 2020 (L-inf, 4/255)',
      network={'name': 'imagenet_resnet18'},
      clean=52.92,
      parameters=11_689_512,
      source=ROBUSTBENCH,
      file='Salman2020Do_R18: Google Drive 1OThCOQCOxY6lAgxZxgiK3YuZDD7PPfPx',
    ),
    'imagenet_resnet50': _imagenet(
      title='ImageNet ResNet-50 of Salman et al., 2020 (L-inf, 4/255)',
      network={'name': 'imagenet_resnet50'},
      clean=64.02,
      parameters=25_557_032,
      source=ROBUSTBENCH,
      file='Salman2020Do_R50: Google Drive 1TmT5oGa1UvVjM3d-XeSj_XmKqBNRUg8r',
    ),
    'imagenet_resnet50_madry': _imagenet(
      title='ImageNet ResNet-50 of Engstrom et al., 2019 (L-inf, 4/255)',
      network={'name': 'imagenet_resnet50'},
      clean=62.56,
      parameters=25_557_032,
      source=MADRY,
      file='imagenet_linf_4.pt, which the README links',
      pickles='inert',
    ),
    'imagenet_wrn50': _imagenet(
      title='ImageNet WRT-50: WRN-50-2 of Salman et al., 2020 (L-inf, 4/255)',
      network={'name': 'imagenet_wide_resnet50_2'},
      clean=68.46,
      parameters=68_883_240,
      source=ROBUSTBENCH,
      file='Salman2020Do_50_2: Google Drive 1OT7xaQYljrTr3vGbM37xK9SPoPJvbSKB',
    ),
    'imagenet_resnet18_l2': _imagenet_l2(
      title='ImageNet ResNet-18 of Salman et al., 2020 (L2, 1)',
      network={'name': 'imagenet_resnet18'},
      clean=62.32,
      parameters=11_689_512,
      file='resolve/main/resnet18_l2_eps1.ckpt',
    ),
    'imagenet_resnet50_l2': _imagenet_l2(
      title='ImageNet ResNet-50 of Salman et al., 2020 (L2, 1)',
      network={'name': 'imagenet_resnet50'},
      clean=70.43,
      parameters=25_557_032,
      file='resolve/main/resnet50_l2_eps1.ckpt',
    ),
    'imagenet_wrn50_l2': _imagenet_l2(
      title='ImageNet WRN-50-2 of Salman et al., 2020 (L2, 1)',
      network={'name': 'imagenet_wide_resnet50_2'},
      clean=73.41,
      parameters=68_883_240,
      file='resolve/main/wide_resnet50_2_l2_eps1.ckpt',
    ),
  }
)

"""A state dict as each of the public code bases saves it."""

import argparse
import collections
from typing import Any, NamedTuple

from rnascl_jax.interop.normalization import NORMALIZATIONS

MADRY = NORMALIZATIONS['cifar10_madry']
IMAGENET = NORMALIZATIONS['imagenet']


class Layout(NamedTuple):
  """What is saved, and what is to be found of it.

  Attributes:
    saved: the object.
    prefix: before the network's names.
    entry: of the object.
    normalization: that it says, or None.
    options: of `torch.save`.
  """

  saved: Any
  prefix: str = ''
  entry: str = ''
  normalization: Any = None
  options: dict[str, Any] = {}


def plain(state):
  """torchvision, timm; locuslab's later epochs."""
  return Layout(state)


def old_format(state):
  """A file of PyTorch before 1.6."""
  return Layout(state, options={'_use_new_zipfile_serialization': False})


def locuslab(state):
  """Rice et al.: DataParallel, and accuracies beside the weights."""
  saved = {'state_dict': _under('module.', state), 'test_robust_acc': 0.53}
  return Layout(saved, 'module.', 'state_dict')


def trades(state):
  """DataParallel, and blocks that the network does not use."""
  unused = {
    key.replace('module.block1', 'module.sub_block1'): value + 1
    for key, value in _under('module.', state).items()
    if key.startswith('module.block1')
  }
  return Layout(_under('module.', state) | unused, 'module.')


def robustbench(state):
  """The normalisation is a layer in front; the network is its `model`."""
  saved = _buffers('normalize.mean', 'normalize.std', IMAGENET, (1, 3, 1, 1))
  return Layout(
    saved | _under('model.', state), 'model.', normalization=IMAGENET
  )


def sequential(state):
  """The same without names for the layers, behind DataParallel."""
  saved = _buffers('module.0.mean', 'module.0.std', IMAGENET, (3,)) | _under(
    'module.1.', state
  )
  return Layout(saved, 'module.1.', normalization=IMAGENET)


def madry(state, normalization=MADRY):
  """Two copies of network and normalisation, and what trained, with dill."""
  import dill

  saved = _under('module.model.', state)
  saved |= _under('module.attacker.model.', state)
  for place in ('module.normalizer', 'module.attacker.normalize'):
    names = f'{place}.new_mean', f'{place}.new_std'
    saved |= _buffers(*names, normalization, (3, 1, 1))
  # Momentum buffers have the shapes of the weights.
  moments = {
    i: {'momentum_buffer': v + 1} for i, v in enumerate(state.values())
  }
  groups = [{'lr': 0.1, 'momentum': 0.9, 'params': list(moments)}]
  beside = {
    'optimizer': {'state': moments, 'param_groups': groups},
    'schedule': {'base_lrs': [0.1], 'last_epoch': 149},
    'epoch': 149,
    'amp': None,
    'nat_prec1': 62.3,
  }
  return Layout(
    {'model': saved, **beside},
    'module.model.',
    'model',
    normalization,
    {'pickle_module': dill},
  )


def madry_imagenet(state):
  """The same with the normalisation of ImageNet: Salman et al., 2020."""
  return madry(state, IMAGENET)


def mo(state):
  """Mo et al.: DataParallel, the epoch and the optimiser."""
  saved = {'state_dict': _under('module.', state), 'epoch': 40, 'opt': {}}
  return Layout(saved, 'module.', 'state_dict')


LAYOUTS = {
  layout.__name__: layout
  for layout in (
    plain,
    old_format,
    locuslab,
    trades,
    robustbench,
    sequential,
    madry,
    madry_imagenet,
    mo,
  )
}


def objects_beside(state):
  """A state dict beside objects of classes and a function."""
  return {
    'state_dict': state,
    'args': argparse.Namespace(epsilon=8),
    'best': collections.deque([1]),
    'schedule': _schedule,
  }


def _schedule(epoch):
  return 0.1 / (1 + epoch)


def _under(prefix, state):
  return {prefix + key: value for key, value in state.items()}


def _buffers(mean_name, std_name, normalization, shape):
  import torch

  mean, std = (torch.tensor(part).reshape(shape) for part in normalization)
  return {mean_name: mean, std_name: std}

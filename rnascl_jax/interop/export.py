"""Writes a trained model for PyTorch: its state dict and what it is.

  model = rnascl_jax.load('/tmp/digits')
  export.write(model, 'rnas_cl.safetensors')

| suffix         | the file                                                   |
| -------------- | ---------------------------------------------------------- |
| `.safetensors` | tensors; metadata as strings of JSON. Needs no PyTorch     |
| `.pt`, `.pth`  | a dict of `state_dict` and `metadata`, which `torch.load`  |
|                | reads with `weights_only=True`                             |

The metadata is that of the run: kind, mean and std, num_classes, image_shape,
dataset, layers, and the architecture of a student or the network of a teacher.
`rnascl_jax.interop.student` reads both, and builds students.

Example:
  >>> import pathlib, tempfile
  >>> from rnascl_jax.interop import export
  >>> export.check_suffix('rnas_cl.npz')
  Traceback (most recent call last):
  ...
  ValueError: rnas_cl.npz must end in one of .safetensors, .pt, .pth.
"""

import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rnascl_jax.interop import state_dicts
from rnascl_jax.models import networks
from rnascl_jax.models.pretrained import Pretrained
from rnascl_jax.models.teachers import build
from rnascl_jax.runtime import extras, files, paths

Path = str | os.PathLike[str]
StateDict = Mapping[str, np.ndarray]

_CIFAR_RESNET = 'robustbench.model_zoo.architectures.resnet'
_CIFAR_WIDE = 'robustbench.model_zoo.architectures.wide_resnet.WideResNet'
# Of a teacher by its name in a config: where its names and sizes are from.
DEFINITIONS = {
  'resnet18': f'{_CIFAR_RESNET}.ResNet18 of RobustBench',
  'resnet50': f'{_CIFAR_RESNET}.ResNet50 of RobustBench',
  'preact_resnet18': f'{_CIFAR_RESNET}.PreActResNet18 of RobustBench',
  'wide_resnet34_10': f'{_CIFAR_WIDE}(34, widen_factor=10) of RobustBench',
  'wide_resnet': f'{_CIFAR_WIDE} of RobustBench, with this depth and width',
  'imagenet_resnet18': 'torchvision.models.resnet18',
  'imagenet_resnet50': 'torchvision.models.resnet50',
  'imagenet_wide_resnet50_2': 'torchvision.models.wide_resnet50_2',
  'deit_tiny': 'deit_tiny_patch16_224 of timm',
  'vit_small': 'vit_small_patch16_224 of timm',
  'vit_small_8': 'vit_small_patch16_224 of timm before 0.4.8',
  'vit_base': 'vit_base_patch16_224 of timm',
  'vit': 'VisionTransformer of timm, with these fields',
}


def check_suffix(path: Path) -> None:
  """Raises ValueError unless `write` can write such a file."""
  if pathlib.Path(path).suffix not in _WRITERS:
    raise ValueError(
      f'{os.fspath(path)} must end in one of {", ".join(_WRITERS)}.'
    )


def write(model: Pretrained, path: Path) -> None:
  """Writes a model's state dict and metadata, atomically.

  Args:
    model: a student or a teacher.
    path: the destination; its suffix says in which format.

  Raises:
    ValueError: the suffix is another one.
    MissingPackageError: the package that writes it is not there: safetensors,
      or for '.pt' and '.pth' PyTorch.
  """
  path = paths.local(path, 'output')
  check_suffix(path)
  arrays = state_dicts.from_variables(model.variables)
  metadata = files.to_json(model.metadata)
  metadata['sha256'] = state_dicts.digest(arrays, metadata)
  _WRITERS[path.suffix](path, arrays, metadata)


def usage(model: Pretrained, path: Path) -> str:
  """What was written, and the lines of Python that load it in PyTorch.

  Args:
    model: a student or a teacher.
    path: the file.
  """
  metadata = model.metadata
  height, width, channels = metadata['image_shape']
  count = networks.count_parameters(model.variables, batch_norm=True)
  some = metadata.get('classes')
  subset = f' (the run uses the logits {some})' if some else ''
  mean, std = (tuple(metadata[name]) for name in ('mean', 'std'))
  is_student = metadata['kind'] == 'student'
  subtract = f'subtracts mean {mean} and divides by std {std}, per channel'
  if set(mean) == {0.0} and set(std) == {1.0}:
    normalisation = 'there is no normalisation.'
  elif is_student:
    normalisation = f'the module {subtract}.'
  else:
    normalisation = (
      f'whoever calls the module {subtract}: it is not in the state dict.'
    )
  return '\n'.join(
    [
      f'{os.fspath(path)}: {metadata["kind"]}, {count:,} parameters, '
      f'{metadata["num_classes"]} classes{subset}.',
      f'Images are [B, {channels}, {height}, {width}] in [0, 1]; '
      f'{normalisation}',
      'In PyTorch:',
      '',
      *(_student_lines(path) if is_student else _teacher_lines(metadata, path)),
    ]
  )


def _student_lines(path: Path) -> list[str]:
  return [
    '  from rnascl_jax.interop import student  # or a copy of that file',
    f'  net = student.load({os.fspath(path)!r})',
    '  logits = net(images)',
  ]


def _teacher_lines(metadata: Mapping[str, Any], path: Path) -> list[str]:
  name = metadata['network']['name']
  published = DEFINITIONS.get(name)
  fits = (
    f'names are those of {published}'
    if published
    else f'of a {name}, with the names of {_CIFAR_RESNET}.ResNet of RobustBench'
  )
  height, width, _ = metadata['image_shape']
  return [
    f'  net = ...  # {fits}',
    f'  # {build.text(metadata["network"])}, '
    f'{metadata["num_classes"]} classes, {height}x{width} pixels',
    '  from rnascl_jax.interop import student',
    f'  state, metadata = student.read({os.fspath(path)!r})',
    '  net.load_state_dict(state, strict=True)',
    '  logits = net.eval()(normalised)',
  ]


def _write_safetensors(
  path: Path, arrays: StateDict, metadata: Mapping[str, Any]
) -> None:
  extras.require('safetensors', f'writing {os.fspath(path)}')
  import safetensors.numpy

  texts = {name: json.dumps(value) for name, value in metadata.items()}
  files.write_atomically(path, safetensors.numpy.save(dict(arrays), texts))


def _write_torch(
  path: Path, arrays: StateDict, metadata: Mapping[str, Any]
) -> None:
  extras.require(
    'torch', f'writing {os.fspath(path)} (a file .safetensors does without it)'
  )
  import torch

  state = {name: torch.tensor(array) for name, array in arrays.items()}
  with files.replacing(path) as file:
    torch.save({'state_dict': state, 'metadata': dict(metadata)}, file)


_WRITERS: dict[str, Callable[[Path, StateDict, Mapping[str, Any]], None]] = {
  '.safetensors': _write_safetensors,
  '.pt': _write_torch,
  '.pth': _write_torch,
}

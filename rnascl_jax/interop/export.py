"""Writes a trained model for other frameworks and runtimes.

  model = rnascl_jax.load('/tmp/digits')
  export.write(model, 'rnas_cl.onnx')

| suffix         | the file                                                   |
| -------------- | ---------------------------------------------------------- |
| `.safetensors` | PyTorch's state dict; metadata as strings of JSON          |
| `.pt`, `.pth`  | a dict of `state_dict` and `metadata`, which `torch.load`  |
|                | reads with `weights_only=True`; needs PyTorch              |
| `.onnx`        | the function of a student, see `onnx_student`              |
| `.stablehlo`   | the function of any model, see `portable.stablehlo`        |
| `.tflite`      | the function of any model, see `portable.tflite`           |

The metadata is that of the run: kind, mean and std, num_classes, image_shape,
dataset, layers, and the architecture of a student or the network of a teacher
or of a student that was not searched; `rnascl export` adds class_names. All
have it inside but for .stablehlo, which has no place for it.
`rnascl_jax.interop.student` reads the first two, and builds students;
`quantization` makes int8 of .onnx.

Example:
  >>> import pathlib, tempfile
  >>> from rnascl_jax.interop import export
  >>> export.check_suffix('rnas_cl.npz')  # doctest: +ELLIPSIS
  Traceback (most recent call last):
  ...
  ValueError: rnas_cl.npz must end in one of .safetensors, .pt, .pth, .onnx, ...
"""

import io
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from rnascl_jax.interop import (
  onnx_student,
  portable,
  quantization,
  state_dicts,
)
from rnascl_jax.models.pretrained import Pretrained
from rnascl_jax.runtime import extras, files, paths

Path = str | os.PathLike[str]
StateDict = Mapping[str, np.ndarray]

# Modules that write a file, by its suffix.
PACKAGES = {
  '.safetensors': 'safetensors',
  '.pt': 'torch',
  '.pth': 'torch',
  '.onnx': 'onnx',
  '.stablehlo': 'flatbuffers',
  '.tflite': 'litert_converter',
}
# Formats of `rnascl export`; .pth is .pt by another name.
FORMATS = tuple(s.removeprefix('.') for s in PACKAGES if s != '.pth')


def check_suffix(path: Path) -> None:
  """Raises ValueError unless `write` can write such a file."""
  if pathlib.Path(path).suffix not in PACKAGES:
    raise ValueError(
      f'{os.fspath(path)} must end in one of {", ".join(PACKAGES)}.'
    )


def check(model: Pretrained, path: Path) -> None:
  """Refuses what `write` would, and writes nothing.

  Args:
    model: a student or a teacher.
    path: the destination.

  Raises:
    ValueError: the suffix is another one, or the model has a fixed architecture
      and the format has searched students alone.
    MissingPackageError: the package that writes it is not there.
  """
  check_suffix(path)
  suffix = pathlib.Path(path).suffix
  if quantization.is_int8(pathlib.Path(path)):
    raise ValueError(
      f'{os.fspath(path)}: a name that ends in {quantization.SUFFIX} is for '
      'what --int8 writes beside a file .onnx; choose another one.'
    )
  if suffix == '.onnx' and model.architecture is None:
    raise ValueError(
      f'{os.fspath(path)}: a teacher, or another network of a fixed '
      'architecture, cannot be written as .onnx, which has searched students '
      'alone; write it as .stablehlo or .tflite.'
    )
  extras.require(PACKAGES[suffix], f'writing {os.fspath(path)}')


def write(model: Pretrained, path: Path) -> None:
  """Writes a model to a file, atomically.

  Args:
    model: a student or a teacher.
    path: the destination; its suffix says in which format.

  Raises:
    ValueError: see `check`.
    MissingPackageError: see `check`.
  """
  path = paths.local(path, 'output')
  check(model, path)
  arrays = state_dicts.from_variables(model.variables)
  metadata = files.to_json(model.metadata)
  if path.suffix == '.stablehlo':
    content = portable.stablehlo(model)
  elif path.suffix == '.tflite':
    content = portable.tflite(model, metadata)
  elif path.suffix == '.onnx':
    content = onnx_student.serialize(arrays, metadata)
  else:
    metadata['sha256'] = state_dicts.digest(arrays, metadata)
    content = _state_dict(path.suffix, arrays, metadata)
  files.write_atomically(path, content)


def _state_dict(
  suffix: str, arrays: StateDict, metadata: Mapping[str, Any]
) -> bytes:
  """A file of PyTorch's names."""
  if suffix == '.safetensors':
    texts = {name: json.dumps(value) for name, value in metadata.items()}
    return safetensors.numpy.save(dict(arrays), texts)
  import torch

  state = {name: torch.tensor(array) for name, array in arrays.items()}
  content = io.BytesIO()
  torch.save({'state_dict': state, 'metadata': dict(metadata)}, content)
  return content.getvalue()

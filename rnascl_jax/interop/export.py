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
dataset, layers, and the architecture of a student or the network of a teacher;
`rnascl export` adds class_names. All have it inside but for .stablehlo, which
has no place for it. `rnascl_jax.interop.student` reads the first two, and
builds students; `quantization` makes int8 of .onnx.

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

import jax
import numpy as np

from rnascl_jax.interop import (
  onnx_student,
  portable,
  quantization,
  state_dicts,
)
from rnascl_jax.models import networks
from rnascl_jax.models.pretrained import Pretrained
from rnascl_jax.models.teachers import build
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
    ValueError: the suffix is another one, or the model is a teacher and the
      format has students alone.
    MissingPackageError: the package that writes it is not there.
  """
  check_suffix(path)
  suffix = pathlib.Path(path).suffix
  if quantization.is_int8(pathlib.Path(path)):
    raise ValueError(
      f'{os.fspath(path)}: a name that ends in {quantization.SUFFIX} is for '
      'what --int8 writes beside a file .onnx; choose another one.'
    )
  if suffix == '.onnx' and model.metadata['kind'] != 'student':
    raise ValueError(
      f'{os.fspath(path)}: a teacher cannot be written as .onnx, which has '
      'students alone; write it as .stablehlo or .tflite.'
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
    import safetensors.numpy

    texts = {name: json.dumps(value) for name, value in metadata.items()}
    return safetensors.numpy.save(dict(arrays), texts)
  import torch

  state = {name: torch.tensor(array) for name, array in arrays.items()}
  content = io.BytesIO()
  torch.save({'state_dict': state, 'metadata': dict(metadata)}, content)
  return content.getvalue()


def usage(model: Pretrained, path: Path) -> str:
  """What was written, and the lines of Python that run it.

  Args:
    model: a student or a teacher.
    path: the file.
  """
  metadata = model.metadata
  height, width, channels = metadata['image_shape']
  count = networks.count_parameters(model.variables, batch_norm=True)
  classes = metadata.get('classes')
  subset = f' (the run uses the logits {classes})' if classes else ''
  suffix = pathlib.Path(path).suffix
  shape = f'B, {channels}, {height}, {width}'
  if suffix in ('.stablehlo', '.tflite'):
    batch = 'B' if suffix == '.stablehlo' else '1'
    shape = f'{batch}, {height}, {width}, {channels}'
  normalisation = _normalisation(model, suffix)
  return '\n'.join(
    [
      f'{os.fspath(path)}: {metadata["kind"]}, {count:,} parameters, '
      f'{metadata["num_classes"]} classes{subset}.',
      f'Images are float32 [{shape}] in [0, 1]; {normalisation}',
      *([_VERSIONS[suffix]] if suffix in _VERSIONS else []),
      'In Python:' if suffix in _LINES else 'In PyTorch:',
      '',
      *_lines(metadata, path),
    ]
  )


def _normalisation(model: Pretrained, suffix: str) -> str:
  """Who subtracts the mean and divides by the standard deviation."""
  mean, std = (tuple(model.metadata[name]) for name in ('mean', 'std'))
  subtract = f'subtracts mean {mean} and divides by std {std}, per channel'
  if set(mean) == {0.0} and set(std) == {1.0}:
    return 'there is no normalisation.'
  if model.metadata['kind'] == 'student' or suffix in _LINES:
    return f'the {"file" if suffix in _LINES else "module"} {subtract}.'
  return f'whoever calls the module {subtract}: it is not in the state dict.'


# What a runtime must understand, by the file's suffix.
_VERSIONS = {
  '.onnx': (
    f'Operator set {onnx_student.OPSET}, IR version {onnx_student.IR_VERSION}.'
  ),
  '.stablehlo': f'Written by jax.export of JAX {jax.__version__}.',
}
# How a file runs without this library, by its suffix.
_LINES = {
  '.onnx': (
    'import onnxruntime',
    'session = onnxruntime.InferenceSession({path!r})',
    "(logits,) = session.run(None, {{'images': images}})",
  ),
  '.stablehlo': (
    'import jax.export, pathlib',
    'content = bytearray(pathlib.Path({path!r}).read_bytes())',
    'logits = jax.export.deserialize(content).call(images)',
  ),
  '.tflite': (
    'from ai_edge_litert.interpreter import Interpreter',
    'run = Interpreter({path!r}).get_signature_runner()',
    "logits = run(images=images)['logits']",
  ),
}


def _lines(metadata: Mapping[str, Any], path: Path) -> list[str]:
  path = os.fspath(path)
  if lines := _LINES.get(pathlib.Path(path).suffix):
    return [f'  {line.format(path=path)}' for line in lines]
  if metadata['kind'] == 'student':
    return _student_lines(path)
  return _teacher_lines(metadata, path)


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

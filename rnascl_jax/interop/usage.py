"""What was exported, and the lines of Python that run it, as text."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from rnascl_jax.interop import onnx_student
from rnascl_jax.models import networks
from rnascl_jax.models.fixed import build
from rnascl_jax.models.pretrained import Pretrained

Path = str | os.PathLike[str]

_CIFAR_RESNET = 'robustbench.model_zoo.architectures.resnet'
_HUANG = 'HanxunH/RobustWRN'
_CIFAR_WIDE = 'robustbench.model_zoo.architectures.wide_resnet.WideResNet'
# Of a network by its name in a config: where its names and sizes are from.
DEFINITIONS = {
  'resnet18': f'{_CIFAR_RESNET}.ResNet18 of RobustBench',
  'resnet34': f'{_CIFAR_RESNET}.ResNet34 of RobustBench',
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
  'mobilenet_v2': 'models.mobilenetv2.MobileNetV2 of '
  'goldblum/AdversariallyRobustDistillation',
  'vgg11': f'models.vgg.VGG of {_HUANG}',
  'vgg11_r': f'models.vgg.VGG of {_HUANG}, with 205 filters at the end',
  'densenet121': f'models.densenet.RobustDenseNet of {_HUANG}',
  'densenet121_r': f'models.densenet.RobustDenseNet of {_HUANG}, with 205 '
  'channels into the last stage',
  'darts': 'model.NetworkCIFAR of quark0/darts, with this genotype',
  'robnet_large': 'models.robnet.robnet of gmh14/RobNets, robnet_large_v1',
  'robnet_free': 'models.robnet.robnet of gmh14/RobNets, robnet_free',
  'msrobnet_1000': 'models.robnet.robnet of gmh14/RobNets, which has no such '
  'cells and fewer scales and shifts; walkerning/aw_nas has other names',
}


def text(model: Pretrained, path: Path) -> str:
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
  if model.architecture is not None or suffix in _LINES:
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
  if 'architecture' in metadata:
    return _student_lines(path)
  return _fixed_lines(metadata, path)


def _student_lines(path: Path) -> list[str]:
  return [
    '  from rnascl_jax.interop import student  # or a copy of that file',
    f'  net = student.load({os.fspath(path)!r})',
    '  logits = net(images)',
  ]


def _fixed_lines(metadata: Mapping[str, Any], path: Path) -> list[str]:
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

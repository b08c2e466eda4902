"""Packages that only some commands need, and the extra that installs each.

They are imported where they are used, after `require`, whose error says what to
install.

Example:
  >>> from rnascl_jax.runtime import extras
  >>> extras.require('json', 'reading settings')
  >>> extras.PACKAGES['grain']
  Package(name='grain', extra='data')
"""

import importlib
from typing import NamedTuple


class MissingPackageError(ModuleNotFoundError):
  """A package is not there; the message is a sentence for the user."""


class Package(NamedTuple):
  """Where an optional module comes from.

  Attributes:
    name: the package that has it, as `pip install` takes it.
    extra: of rnascl_jax, which installs it and what else its use needs.
  """

  name: str
  extra: str


# Optional packages by the module that is imported.
PACKAGES = {
  'tensorflow_datasets': Package('tensorflow-datasets', 'data'),
  'array_record': Package('array-record', 'data'),
  'grain': Package('grain', 'data'),
  'onnx': Package('onnx', 'export'),
  'flatbuffers': Package('flatbuffers', 'export'),
  'onnxruntime': Package('onnxruntime', 'onnxruntime'),
  'litert_converter': Package('litert-converter', 'litert'),
  'torch': Package('torch', 'torch'),
  'wandb': Package('wandb', 'wandb'),
  'mlflow': Package('mlflow', 'mlflow'),
}
# What the packages of an extra are for.
PURPOSES = {
  'data': 'prepared data sets and images streamed from disk',
  'export': 'files .onnx and .stablehlo',
  'onnxruntime': 'running files .onnx, and int8 files',
  'litert': 'files .tflite',
  'torch': 'files .pt and .pth, and exported students as modules',
  'wandb': 'metrics in Weights & Biases',
  'mlflow': 'metrics in MLflow',
}


def require(module: str, purpose: str) -> None:
  """Raises unless a module can be imported.

  Args:
    module: its name.
    purpose: what it is needed for: 'streaming images'.

  Raises:
    MissingPackageError: it or a module that it imports is not there; the
      message names the package and the extra that installs it.
  """
  try:
    importlib.import_module(module)
  except ImportError as error:
    raise MissingPackageError(
      f'{purpose} needs the package {remedy(module)} ({error}).'
    ) from error


def remedy(module: str) -> str:
  """The name of an optional module's package, and how to install it."""
  package = PACKAGES.get(module)
  if package is None:
    return f'{module}: pip install {module}'
  return f'{package.name}: {install(package.extra)}'


def install(extra: str) -> str:
  """The command that installs an extra."""
  return f'pip install "rnascl_jax[{extra}]" (in a checkout ".[{extra}]")'

"""Robust neural architecture search by cross-layer distillation, in JAX.

`rnascl_jax.load(workdir)` loads a trained model. Modules are imported on first
use, so that `from rnascl_jax import losses` needs no network and no data
library.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from rnascl_jax.models.pretrained import load as load

__all__ = ['load']


def __getattr__(name: str) -> Any:
  if name == 'load':
    return importlib.import_module('rnascl_jax.models.pretrained').load
  if name == '__version__':
    metadata = importlib.import_module('importlib.metadata')
    return metadata.version('rnascl_jax')
  if name.startswith('_'):
    raise AttributeError(name)
  try:
    return importlib.import_module(f'rnascl_jax.{name}')
  except ModuleNotFoundError as error:
    if error.name != f'rnascl_jax.{name}':
      raise
    raise AttributeError(f'rnascl_jax has no attribute {name!r}') from None

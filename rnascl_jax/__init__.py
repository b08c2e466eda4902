"""Robust neural architecture search by cross-layer distillation, in JAX.

`rnascl_jax.load(workdir)` loads a trained model of a run, and
`rnascl_jax.load(name)` one that comes with the package, of which
`rnascl_jax.released()` has the model cards. Modules are imported on first use,
so that `from rnascl_jax import losses` needs no network and no data library.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from rnascl_jax.interop.released import cards as released
  from rnascl_jax.interop.released import load as load

__all__ = ['load', 'released']
# Functions of the package itself, in `interop.released`.
_FUNCTIONS = {'load': 'load', 'released': 'cards'}


def __getattr__(name: str) -> Any:
  if name in _FUNCTIONS:
    released = importlib.import_module('rnascl_jax.interop.released')
    return getattr(released, _FUNCTIONS[name])
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

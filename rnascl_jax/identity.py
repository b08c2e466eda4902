"""What a result depends on, as JSON that is the same in every process.

Example:
  >>> import numpy as np
  >>> from rnascl_jax import identity
  >>> from rnascl_jax.attacks import presets
  >>> identity.describe(presets.by_name('pgd20_trades').start)
  {'function': 'uniform_start', 'clip': False}
  >>> identity.digest({'kernel': np.ones(2)}) == identity.digest(
  ...   {'kernel': np.zeros(2)})
  False
"""

import dataclasses
import functools
import hashlib
import json
from typing import Any

import jax
import numpy as np

from rnascl_jax.base import PyTree


def digest(tree: PyTree) -> str:
  """A hash of arrays, their types, shapes and names, bit for bit.

  Args:
    tree: any nesting of arrays and numbers.

  Returns:
    64 hexadecimal digits.
  """
  found = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    array = np.ascontiguousarray(leaf)
    name = f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}'
    found.update(name.encode())
    found.update(array.tobytes())
  return found.hexdigest()


def short(value: Any) -> str:
  """A hash of JSON, of 12 hexadecimal digits: a name for a folder."""
  text = json.dumps(value, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def describe(value: Any) -> Any:
  """Names and numbers that tell an attack from others.

  Args:
    value: numbers, strings, functions, partial functions, and dataclasses and
      tuples of them.

  Returns:
    JSON; a function is its name.
  """
  if value is None or isinstance(value, bool | int | float | str):
    return value
  if dataclasses.is_dataclass(value):
    fields = dataclasses.fields(value)
    return {f.name: describe(getattr(value, f.name)) for f in fields}
  if isinstance(value, tuple | list):
    return [describe(item) for item in value]
  if isinstance(value, functools.partial):
    options = {name: describe(v) for name, v in value.keywords.items()}
    given = {'arguments': [describe(v) for v in value.args]}
    return {
      'function': describe(value.func),
      **(given if value.args else {}),
      **options,
    }
  if np.ndim(value) == 0 and hasattr(value, 'dtype'):
    return value.item()
  return getattr(value, '__qualname__', type(value).__qualname__)

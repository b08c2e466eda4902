"""Flax variables as a PyTorch state dict, and back, without PyTorch.

The names of our networks promise the translation: the path of a variable is the
path of PyTorch's module with `.` written as `/`, or as `_` before a number or
the word `layer`. Arrays differ in the order of their axes alone, so that a
round trip is exact:

| Flax                                  | PyTorch                          |
| ------------------------------------- | -------------------------------- |
| params, .../kernel [h, w, in, out]    | ....weight [out, in, h, w]       |
| params, .../kernel [in, out]          | ....weight [out, in], of a 1x1   |
|                                       | convolution [out, in, 1, 1]      |
| params, .../scale [C]                 | ....weight [C]                   |
| params, .../bias, and all other names | the same, unchanged              |
| batch_stats, .../mean, .../var [C]    | ....running_mean, .running_var   |
| nothing                               | ....num_batches_tracked, 0       |

Example:
  >>> import numpy as np
  >>> from rnascl_jax.interop import state_dicts
  >>> variables = {'params': {'layer1_0': {'conv1': {
  ...   'kernel': np.zeros((3, 3, 8, 16))}}}}
  >>> found = state_dicts.from_variables(variables)
  >>> [(key, array.shape) for key, array in found.items()]
  [('layer1.0.conv1.weight', (16, 8, 3, 3))]
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import traverse_util

from rnascl_jax.base import Variables

# Of a BatchNorm; PyTorch counts its batches, to no effect on the forward pass.
COUNTER = 'num_batches_tracked'
_STATISTICS = {'mean': 'running_mean', 'var': 'running_var'}
# A module of this name holds a 1x1 convolution as a matrix: see `layers`.
_POINTWISE = ('expand', 'project', 'shortcut')

# A variable's path, its collection first.
Path = tuple[str, ...]


class Place(NamedTuple):
  """Where a variable stands in a state dict.

  Attributes:
    key: of the state dict.
    axes: Flax's axes in PyTorch's order.
    pointwise: whether PyTorch has two axes of length one behind them.
  """

  key: str
  axes: tuple[int, ...]
  pointwise: bool


def place(path: Path, rank: int) -> Place:
  """Where a variable stands in a state dict.

  Args:
    path: of the variable: its collection, modules and name.
    rank: its number of axes.

  Returns:
    The place.
  """
  collection, *modules, name = path
  pointwise = False
  axes = tuple(range(rank))
  if collection == 'batch_stats':
    name = _STATISTICS[name]
  elif name == 'kernel':
    # Convolutions [h, w, in, out], linear layers [in, out].
    axes = (*range(rank)[::-1][:2], *range(rank - 2))
    pointwise = rank == 2 and modules[-1] in _POINTWISE
  key = '.'.join([*modules, 'weight' if name in ('kernel', 'scale') else name])
  return Place(re.sub(r'_(?=layer|\d)', '.', key), axes, pointwise)


def from_variables(variables: Variables) -> dict[str, np.ndarray]:
  """The state dict of a network.

  Args:
    variables: parameters and BatchNorm statistics of a student or a teacher.

  Returns:
    Arrays by PyTorch's names, in the order of the variables; PyTorch loads them
    with `strict=True`.
  """
  arrays_by_name: dict[str, np.ndarray] = {}
  for path, value in _flat(variables).items():
    key, axes, pointwise = place(path, np.ndim(value))
    array = np.transpose(np.asarray(value), axes)
    arrays_by_name[key] = array[..., None, None] if pointwise else array
    if path[-1] == 'var':
      counter = key.rpartition('.')[0] + f'.{COUNTER}'
      arrays_by_name[counter] = np.zeros((), np.int64)
  # Not `ascontiguousarray`, which makes a scalar a vector.
  return {
    key: np.asarray(array, order='C') for key, array in arrays_by_name.items()
  }


def shapes(template: Variables) -> dict[str, tuple[int, ...]]:
  """The shapes of a network's state dict, without counters of batches.

  Args:
    template: variables, or their shapes from `jax.eval_shape`.

  Returns:
    Shapes by PyTorch's names.
  """
  leaves_by_name = {}
  for path, leaf in _flat(template).items():
    key, axes, pointwise = place(path, len(leaf.shape))
    shape = tuple(leaf.shape[axis] for axis in axes)
    leaves_by_name[key] = (*shape, 1, 1) if pointwise else shape
  return leaves_by_name


def into_variables(
  template: Variables, arrays: Mapping[str, np.ndarray]
) -> dict[str, Any]:
  """The variables of a network from its state dict.

  Args:
    template: variables, or their shapes from `jax.eval_shape`.
    arrays: by PyTorch's names; `torch_import` checks files against `shapes`.

  Returns:
    Nested dicts of float32 arrays.

  Raises:
    KeyError: a name is missing.
    ValueError: an array has another shape.
  """
  found, needed_shapes = {}, shapes(template)
  for path, leaf in _flat(template).items():
    key, axes, pointwise = place(path, len(leaf.shape))
    array = np.asarray(arrays[key], np.float32)
    needed = needed_shapes[key]
    if array.shape != needed:
      raise ValueError(
        f'{key} has the shape {array.shape}; the network needs {needed}.'
      )
    if pointwise:
      array = array[..., 0, 0]
    found[path] = np.ascontiguousarray(np.transpose(array, np.argsort(axes)))
  return traverse_util.unflatten_dict(found)


def matching(keys: Iterable[str], suffix: str) -> list[str]:
  """What stands before a name wherever it ends a key: 'module.', '', ..."""
  return [
    key[: -len(suffix)]
    for key in keys
    if key == suffix or key.endswith(f'.{suffix}')
  ]


def _flat(variables: Variables) -> dict[Path, Any]:
  return traverse_util.flatten_dict(dict(variables))


def digest(
  arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
) -> str:
  """The SHA-256 of arrays and of what is said of them, hexadecimal.

  `student.digest` computes the same of tensors.

  Args:
    arrays: by name; floating ones count as float32.
    metadata: JSON.
  """
  result = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
  for name in sorted(arrays):
    array = arrays[name]
    if np.issubdtype(array.dtype, np.floating):
      array = array.astype(np.float32)
    result.update(f'{name}{list(array.shape)}'.encode())
    result.update(np.ascontiguousarray(array).tobytes())
  return result.hexdigest()

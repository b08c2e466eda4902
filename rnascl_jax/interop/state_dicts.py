"""Flax variables as a PyTorch state dict, and back, without PyTorch.

The names of our networks promise the translation: the path of a variable is the
path of PyTorch's module with `.` written as `/`, or as `_` before a number or
the word `layer`; there `__` stands for `_` itself. Arrays differ in the order
of their axes alone, so that a round trip is exact:

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
  >>> state_dicts.shapes(variables)
  {'layer1.0.conv1.weight': (16, 8, 3, 3)}
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from flax import traverse_util

from rnascl_jax.base import Variables

# Of a BatchNorm; PyTorch counts its batches, to no effect on the forward pass.
COUNTER = 'num_batches_tracked'
_STATISTICS = {'mean': 'running_mean', 'var': 'running_var'}
# A module of this name holds a 1x1 convolution as a matrix: see `layers`.
_POINTWISE = ('expand', 'project', 'shortcut')


def from_variables(variables: Variables) -> dict[str, np.ndarray]:
  """The state dict of a network.

  Args:
    variables: parameters and BatchNorm statistics of a student or a teacher.

  Returns:
    Arrays by PyTorch's names, in the order of the variables; PyTorch loads them
    with `strict=True`.
  """
  arrays = {}
  for _, value, key, axes, ends in _places(variables):
    array = np.transpose(np.asarray(value), axes)
    # Not `ascontiguousarray`, which makes a scalar a vector.
    arrays[key] = np.asarray(array.reshape(array.shape + ends), order='C')
    if key.endswith('running_var'):
      counter = key.replace('running_var', COUNTER)
      arrays[counter] = np.zeros((), np.int64)
  return arrays


def shapes(template: Variables) -> dict[str, tuple[int, ...]]:
  """The shapes of a network's state dict, without counters of batches.

  Args:
    template: variables, or their shapes from `jax.eval_shape`.

  Returns:
    Shapes by PyTorch's names.
  """
  return {
    key: (*(leaf.shape[axis] for axis in axes), *ends)
    for _, leaf, key, axes, ends in _places(template)
  }


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
  leaves, needed_shapes = {}, shapes(template)
  for path, _, key, axes, _ in _places(template):
    array = np.asarray(arrays[key], np.float32)
    if array.shape != needed_shapes[key]:
      raise ValueError(
        f'{key} has the shape {array.shape}; the network needs '
        f'{needed_shapes[key]}.'
      )
    array = array.reshape(array.shape[: len(axes)])
    leaves[path] = np.ascontiguousarray(np.transpose(array, np.argsort(axes)))
  return traverse_util.unflatten_dict(leaves)


def _places(variables: Variables) -> Iterator[tuple[Any, ...]]:
  """Where variables stand in a state dict.

  Yields:
    The path of a variable, its array or shape, its key in the state dict,
    Flax's axes in PyTorch's order, and the axes of length one behind them.
  """
  for path, leaf in traverse_util.flatten_dict(dict(variables)).items():
    collection, *modules, name = path
    rank = len(leaf.shape)
    axes = tuple(range(rank))
    ends: tuple[int, ...] = ()
    if collection == 'batch_stats':
      name = _STATISTICS[name]
    elif name == 'kernel':
      # Convolutions [h, w, in, out], linear layers [in, out].
      axes = (*axes[::-1][:2], *axes[:-2])
      if rank == 2 and modules[-1] in _POINTWISE:
        ends = (1, 1)
    name = 'weight' if name in ('kernel', 'scale') else name
    key = re.sub(r'_(_?)(?=layer|\d)', _separator, '.'.join([*modules, name]))
    yield path, leaf, key, axes, ends


def _separator(underscores: re.Match[str]) -> str:
  return underscores[1] or '.'


def matching(keys: Iterable[str], suffix: str) -> list[str]:
  """What stands before a name wherever it ends a key: 'module.', '', ..."""
  return [
    key[: -len(suffix)]
    for key in keys
    if key == suffix or key.endswith(f'.{suffix}')
  ]


def nearest(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray | None:
  """The array of a name behind the shortest prefix, None if there is none."""
  prefixes = matching(arrays, name)
  return arrays[min(prefixes, key=len) + name] if prefixes else None


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
  for name, array in sorted(arrays.items()):
    if np.issubdtype(array.dtype, np.floating):
      array = array.astype(np.float32)
    result.update(f'{name}{list(array.shape)}'.encode() + array.tobytes())
  return result.hexdigest()

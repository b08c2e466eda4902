"""Any state as a flat dict of named host arrays, and back.

A training state is saved as its leaves under the names of the containers around
them. So a checkpoint can be read without the classes that it was made of, and
another architecture is recognised by the names and shapes of its leaves.

Example:
  >>> import numpy as np
  >>> from rnascl_jax.runtime import named_arrays
  >>> state = {'params': [np.ones(2)], 'step': 3}
  >>> arrays = named_arrays.from_state(state)
  >>> arrays
  {('params', '0'): array([1., 1.]), ('step',): array(3, dtype=int32)}
  >>> named_arrays.into_template({'params': [np.zeros(2)], 'step': 0}, arrays)
  {'params': [array([1., 1.])], 'step': array(3, dtype=int32)}
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.base import PyTree

# Names of a leaf's containers from the outside in, then its own.
Name = tuple[str, ...]
# Shape and dtype of a leaf as it is saved.
_Kind = tuple[tuple[int, ...], np.dtype]


def from_state(state: PyTree) -> dict[Name, np.ndarray]:
  """Fetches all leaves, bit for bit.

  Args:
    state: any nesting of containers that JAX knows, with NumPy or JAX arrays,
      typed random keys or Python numbers, which become what JAX makes of them.

  Returns:
    A NumPy array for every leaf that is not empty; the words of random keys.

  Raises:
    ValueError: a leaf is not an array of numbers, or is spread over several
      hosts; or two leaves have the same name; or there is none.
  """
  arrays = {name: _fetch(name, leaf) for name, leaf in _leaves(state).items()}
  arrays = {name: array for name, array in arrays.items() if array.size}
  if not arrays:
    raise ValueError('there is no array that is not empty in the state.')
  return arrays


def into_template(
  template: PyTree,
  arrays: Mapping[Name, np.ndarray],
  *,
  source: str = 'this',
) -> PyTree:
  """Puts arrays in the place of the leaves of a state of the same kind.

  Args:
    template: a state as it was saved, with arrays or `jax.ShapeDtypeStruct`.
    arrays: what `from_state` returned.
    source: where the arrays are from, for the message.

  Returns:
    The template's containers with `arrays`; random keys are JAX arrays.

  Raises:
    ValueError: the leaves differ; the message names the first that does, and
      the shapes of both.
  """
  leaves = _leaves(template)
  kinds = {name: _kind(name, leaf) for name, leaf in leaves.items()}
  expected = {name: kind for name, kind in kinds.items() if 0 not in kind[0]}
  saved = {name: (array.shape, array.dtype) for name, array in arrays.items()}
  for name in [*expected, *saved]:
    if expected.get(name) != saved.get(name):
      raise ValueError(
        f'{source} is a checkpoint of another architecture: '
        f'{"/".join(name)} is {_describe(saved.get(name))} in it, but '
        f'{_describe(expected.get(name))} is expected.'
      )

  def restored(name: Name, leaf: Any) -> Any:
    if name not in arrays:  # Empty ones are not saved.
      return np.zeros(*kinds[name])
    if _is_random_key(leaf):
      impl = jax.random.key_impl(jnp.empty((), leaf.dtype))
      return jax.random.wrap_key_data(jnp.asarray(arrays[name]), impl=impl)
    return arrays[name]

  filled = [restored(name, leaf) for name, leaf in leaves.items()]
  return jax.tree.unflatten(jax.tree.structure(template), filled)


def _leaves(tree: PyTree) -> dict[Name, Any]:
  """The leaves by name, in the order of the tree."""
  leaves = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = tuple(jax.tree_util.keystr((part,), simple=True) for part in path)
    if name in leaves or not name:
      raise ValueError(
        f'cannot name {jax.tree_util.keystr(path) or "a bare array"}: put it '
        'in a container in which no other leaf has this name.'
      )
    leaves[name] = leaf
  return leaves


def _fetch(name: Name, leaf: Any) -> np.ndarray:
  dtype = _kind(name, leaf)[1]
  if _is_random_key(leaf):
    leaf = jax.random.key_data(leaf)
  if isinstance(leaf, jax.Array) and not (
    leaf.is_fully_addressable or leaf.is_fully_replicated
  ):
    raise ValueError(
      f'{"/".join(name)} is spread over several hosts; save one replica.'
    )
  return np.asarray(leaf, dtype=dtype)


def _kind(name: Name, leaf: Any) -> _Kind:
  if _is_random_key(leaf):
    leaf = jax.eval_shape(jax.random.key_data, leaf)
  if isinstance(leaf, bool | int | float | complex):
    return (), np.dtype(jax.dtypes.result_type(leaf))
  if not _is_of(leaf, np.number) and not _is_of(leaf, np.bool_):
    raise ValueError(
      f'{"/".join(name)} is {type(leaf).__name__}, not an array of numbers.'
    )
  return tuple(leaf.shape), np.dtype(leaf.dtype)


def _is_random_key(leaf: Any) -> bool:
  return _is_of(leaf, jax.dtypes.prng_key)


def _is_of(leaf: Any, kind: type) -> bool:
  """Whether a leaf is an array whose dtype is of a kind."""
  return hasattr(leaf, 'dtype') and jax.dtypes.issubdtype(leaf.dtype, kind)


def _describe(kind: _Kind | None) -> str:
  return 'missing' if kind is None else f'{kind[1].name}{list(kind[0])}'

"""What a result depends on, as JSON that is the same in every process.

Equal descriptions mean equal attacks and classifiers as far as they can be
told without running them: a function is its name, its code, and what its
closure and defaults hold; functions that it finds by a global name are names.
Another version of Python compiles other code, and another one of JAX traces
other programs: then descriptions differ too.

Example:
  >>> import numpy as np
  >>> from rnascl_jax.runtime import fingerprints
  >>> def scale(weights):
  ...   return lambda images: images @ weights
  >>> ones, zeros = scale(np.ones(2)), scale(np.zeros(2))
  >>> fingerprints.describe(ones) == fingerprints.describe(zeros)
  False
  >>> fingerprints.describe(ones) == fingerprints.describe(scale(np.ones(2)))
  True
  >>> fingerprints.digest({'kernel': np.ones(2)}) == fingerprints.digest(
  ...   {'kernel': np.zeros(2)})
  False
"""

import dataclasses
import enum
import functools
import hashlib
import json
import re
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rnascl_jax.base import Array, LogitsFn, PyTree
from rnascl_jax.runtime import jaxprs

_ADDRESS = re.compile(r'0x[0-9a-fA-F]+')


def digest(tree: PyTree) -> str:
  """A hash of arrays, their types, shapes and names, bit for bit.

  Args:
    tree: any nesting of arrays, random keys and numbers.

  Returns:
    64 hexadecimal digits.
  """
  found = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = jax.tree_util.keystr(path)
    if _is_key(leaf):
      name, leaf = f'{name} {leaf.dtype}', jax.random.key_data(leaf)
    array = np.asarray(leaf, order='C')
    found.update(f'{name} {array.dtype} {array.shape}'.encode())
    found.update(array.reshape(-1).view(np.uint8).data)
  return found.hexdigest()


def short(value: Any) -> str:
  """A hash of JSON, of 12 hexadecimal digits: a name for a folder."""
  text = json.dumps(value, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def of_classifier(
  logits_fn: LogitsFn, image_shape: Sequence[int], dtype: Any
) -> dict[str, str]:
  """What tells a classifier from others; it is traced, and never compiled.

  Args:
    logits_fn: [B, H, W, C] -> [B, K], a function or a pytree.
    image_shape: (H, W, C).
    dtype: of the images.

  Returns:
    `weights`, a hash of the arrays that are leaves of the pytree, and
    `program`, one of what is computed for a batch of one image: the logits and
    their derivative by the image, with all arrays that are no leaves.
  """
  leaves, structure = jax.tree.flatten(logits_fn)
  places = [i for i, leaf in enumerate(leaves) if hasattr(leaf, 'dtype')]
  weights = [leaves[i] for i in places]

  def classify(weights: list[Array], images: Array) -> Array:
    filled = list(leaves)
    for place, array in zip(places, weights, strict=True):
      filled[place] = array
    return jax.tree.unflatten(structure, filled)(images)

  def backward(weights: list[Array], images: Array, cotangent: Array) -> Any:
    function = functools.partial(classify, weights)
    return jax.vjp(function, images)[1](cotangent)

  images = jax.ShapeDtypeStruct((1, *image_shape), dtype)
  forward, logits = jax.make_jaxpr(classify, return_shape=True)(weights, images)
  found = hashlib.sha256(_program(forward).encode())
  try:
    program = _program(jax.make_jaxpr(backward)(weights, images, logits))
  except (NotImplementedError, TypeError, ValueError) as error:
    # Without a derivative it is still a classifier, for black boxes.
    program = type(error).__name__
  found.update(program.encode())
  return {'weights': digest(weights), 'program': found.hexdigest()}


def describe(value: Any) -> Any:
  """Names, numbers and hashes that tell an attack from others.

  Args:
    value: numbers, strings, arrays, functions, partial functions, and
      dataclasses, tuples, mappings and other objects of them.

  Returns:
    JSON. A function is its name and a hash of its code; arrays are hashes.
  """
  return _describe(value, {})


def _describe(value: Any, known: dict[int, tuple[Any, Any]]) -> Any:
  """The same; `known` has values by their ids, and what was said of them."""
  if isinstance(value, enum.Enum):
    return f'{type(value).__qualname__}.{value.name}'
  if value is None or isinstance(value, bool | int | float | str):
    return value
  if hasattr(value, 'dtype') and hasattr(value, 'shape'):
    return _array(value)
  if isinstance(value, bytes | complex | np.dtype):
    return repr(value)
  if isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
    return getattr(value, '__qualname__', value.__name__)
  if id(value) not in known:
    known[id(value)] = value, 'cycle'  # For those within that refer to it.
    found = _compound(value, lambda item: _describe(item, known))
    known[id(value)] = value, found
  return known[id(value)][1]


def _compound(value: Any, inner: Callable[[Any], Any]) -> Any:
  """What consists of other values."""
  if isinstance(value, tuple | list):
    return [inner(item) for item in value]
  if isinstance(value, set | frozenset):
    return sorted((inner(item) for item in value), key=short)
  if isinstance(value, Mapping):
    return {str(name): inner(item) for name, item in value.items()}
  if isinstance(value, functools.partial):
    parts = {'arguments': value.args, 'keywords': value.keywords}
    return {'function': inner(value.func), **_filled(parts, inner)}
  if isinstance(value, types.FunctionType):
    return _function(value, inner)
  if isinstance(value, types.MethodType):
    return {'function': inner(value.__func__), 'of': inner(value.__self__)}
  name = getattr(value, '__qualname__', type(value).__qualname__)
  if dataclasses.is_dataclass(value):
    names = [field.name for field in dataclasses.fields(value)]
    parts = {name: inner(getattr(value, name, None)) for name in names}
    return {'class': name, **parts}
  # A hash: objects may refer to each other in more ways than fit on paper.
  return f'{name} {short(inner(getattr(value, "__dict__", {})))}'


def _function(function: types.FunctionType, inner: Callable[[Any], Any]) -> Any:
  """Its name, the hash of its code, and what its closure and defaults hold."""
  code = function.__code__
  cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
  parts = {
    'closure': {name: _content(cell) for name, cell in cells},
    'defaults': function.__defaults__,
    'keywords': function.__kwdefaults__,
  }
  name, filled = f'{function.__qualname__} {_code(code)}', _filled(parts, inner)
  return {'function': name, **filled} if filled else name


def _array(value: Any) -> Any:
  """A number if it is one, exactly, and a hash otherwise."""
  if value.shape == () and not _is_key(value):
    number = np.asarray(value).item()
    if isinstance(number, bool | int | float):
      return number
  return f'{value.dtype}{list(value.shape)} {digest(value)}'


def _filled(parts: dict[str, Any], inner: Callable[[Any], Any]) -> Any:
  return {name: inner(part) for name, part in parts.items() if part}


def _content(cell: types.CellType) -> Any:
  try:
    return cell.cell_contents
  except ValueError:  # Nothing was assigned yet.
    return None


def _code(code: types.CodeType) -> str:
  """A hash of what a function does, wherever its lines are."""

  def text(constant: Any) -> str:
    if isinstance(constant, types.CodeType):
      return _code(constant)
    if isinstance(constant, frozenset):
      return f'{{{sorted(map(text, constant))}}}'
    if isinstance(constant, tuple):
      return f'({list(map(text, constant))})'
    return repr(constant)

  constants = [text(constant) for constant in code.co_consts]
  return short([code.co_code.hex(), code.co_names, constants])


def _is_key(value: Any) -> bool:
  dtype = getattr(value, 'dtype', None)
  return dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def _program(closed: Any) -> str:
  """The text of a program without addresses, and hashes of its arrays."""
  known: dict[int, str] = {}
  hashes = []
  for array in jaxprs.constants(closed):
    if id(array) not in known:
      known[id(array)] = digest(array)
    hashes.append(known[id(array)])
  return '\n'.join([_ADDRESS.sub('', str(jaxprs.opened(closed))), *hashes])

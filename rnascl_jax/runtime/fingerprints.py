"""What a result depends on, as JSON that is the same in every process.

A classifier is its weights, the program that JAX traces of it, and the version
of JAX. An attack is its settings: a function is its name with what its closure
and defaults hold, and its code is not looked at.

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
"""

import dataclasses
import functools
import hashlib
import json
import re
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rnascl_jax.base import Array, LogitsFn, PyTree
from rnascl_jax.runtime import jaxprs

_ADDRESS = re.compile('0x[0-9a-fA-F]+')


def digest(tree: PyTree) -> str:
  """Hashes arrays, their types, shapes and names, bit for bit.

  Args:
    tree: any nesting of arrays, random keys and numbers.

  Returns:
    64 hexadecimal digits.
  """
  sha = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name, dtype = jax.tree_util.keystr(path), getattr(leaf, 'dtype', None)
    if dtype and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
      name, leaf = f'{name} {dtype}', jax.random.key_data(leaf)
    array = np.asarray(leaf, order='C')
    sha.update(f'{name} {array.dtype} {array.shape}'.encode())
    sha.update(array.reshape(-1).view(np.uint8).data)
  return sha.hexdigest()


def short(value: Any) -> str:
  """Hashes JSON to 12 hexadecimal digits, which can name a folder."""
  text = json.dumps(value, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def of_classifier(
  logits_fn: LogitsFn, image_shape: Sequence[int], dtype: Any
) -> dict[str, str]:
  """Tells a classifier from others; it is traced, and never compiled.

  Args:
    logits_fn: [B, H, W, C] -> [B, K], a function or a pytree.
    image_shape: (H, W, C).
    dtype: the type of the images.

  Returns:
    `weights`, a hash of the arrays that are leaves of the pytree; `program`, a
    hash of the jaxprs of the logits of one image and of their derivative by
    it, with all arrays that are no leaves; `jax`, its version.
  """
  leaves, structure = jax.tree.flatten(logits_fn)
  places = [i for i, leaf in enumerate(leaves) if hasattr(leaf, 'dtype')]
  weights = [leaves[i] for i in places]

  def classify(weights: list[Array], images: Array) -> Array:
    filled = list(leaves)
    for place, array in zip(places, weights, strict=True):
      filled[place] = array
    return jax.tree.unflatten(structure, filled)(images)

  def derivative(weights: list[Array], images: Array, cotangent: Array) -> Any:
    classifier = functools.partial(classify, weights)
    return jax.vjp(classifier, images)[1](cotangent)

  images = jax.ShapeDtypeStruct((1, *image_shape), dtype)
  forward, logits = jax.make_jaxpr(classify, return_shape=True)(weights, images)
  try:
    backward = _text(jax.make_jaxpr(derivative)(weights, images, logits))
  except (NotImplementedError, TypeError, ValueError) as error:
    # Black-box attacks need no derivative.
    backward = type(error).__name__
  program = hashlib.sha256((_text(forward) + backward).encode()).hexdigest()
  return {
    'weights': digest(weights),
    'program': program,
    'jax': jax.__version__,
  }


def describe(value: Any) -> Any:
  """Gives the names, numbers and hashes that tell an attack from others.

  Args:
    value: numbers, strings, arrays, functions, partial functions, and
      dataclasses, tuples, mappings and other objects of them.

  Returns:
    JSON, with a hash for each array.
  """
  seen: dict[int, tuple[int, Any]] = {}  # Numbers of objects, kept alive.

  def once(item: Any) -> Any:
    if item is None or isinstance(item, bool | int | float | str):
      return item
    parts = _parts(item)
    if isinstance(parts, str):
      return parts
    if id(item) in seen:
      return f'again {seen[id(item)][0]}'
    if not isinstance(item, tuple):
      seen[id(item)] = len(seen), item
    if isinstance(parts, dict):
      return {str(name): once(part) for name, part in parts.items()}
    return [once(part) for part in parts]

  return once(value)


def _parts(value: Any) -> Any:
  """Gives what an object consists of, as far as it makes another attack."""
  if isinstance(value, np.ndarray | np.generic | jax.Array):
    return f'{value.dtype}{list(value.shape)} {digest(value)}'
  if isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
    return value.__name__
  if isinstance(value, tuple | list):
    return value
  if isinstance(value, set | frozenset):
    return sorted((describe(item) for item in value), key=short)
  if isinstance(value, Mapping):
    return dict(value)
  if isinstance(value, functools.partial):
    return {'function': value.func, 'with': [value.args, value.keywords]}
  name = getattr(value, '__qualname__', type(value).__qualname__)
  if isinstance(value, types.MethodType):
    return {'method': name, 'of': value.__self__}
  if isinstance(value, types.FunctionType):
    closure = [cell.cell_contents for cell in value.__closure__ or ()]
    parts = [closure, value.__defaults__, value.__kwdefaults__]
    return {'function': name, 'with': parts} if any(parts) else name
  if dataclasses.is_dataclass(value):
    fields = [field.name for field in dataclasses.fields(value)]
    return {'class': name} | {f: getattr(value, f, None) for f in fields}
  if hasattr(value, '__wrapped__'):  # By jax.jit and such.
    return {'function': name, 'of': value.__wrapped__}
  if hasattr(value, '__dict__'):
    return {'class': name} | vars(value)
  return _ADDRESS.sub('', repr(value))


def _text(closed: Any) -> str:
  """Gives the text of a jaxpr without addresses, and a hash of its arrays."""
  text = _ADDRESS.sub('', str(jaxprs.opened(closed)))
  return text + digest(list(jaxprs.constants(closed)))

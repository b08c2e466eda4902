"""What a pickle of `torch.save` may name, and what is made of it here.

In the place of each function and class that it may name there is a function of
ours, which makes numbers, containers and tensors of what it is given. No class
or function of PyTorch or Python comes into the hands of the pickle.
"""

import re
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import numpy as np

from rnascl_jax.interop import tensors

_SCALARS = (str, bytes, int, float, complex, bool, type(None))
# Of keys that are tuples; longer ones are compared as objects.
_MOST_IN_KEY = 16
_NUMPY_TYPE = re.compile(r'[fiuc][1248]|c16|b1')
# Takes another function and its arguments; for tensors of other classes.
FROM_TYPE = 'torch._tensor._rebuild_from_type_v2'


class Placeholder:
  """Stands for what is not read.

  Attributes:
    path: of the function or class that it is, or that made it.
    items: what it holds by keys, if it is of a class of dicts.
    is_module: whether it has the state of a PyTorch module.
  """

  def __init__(self, path: str):
    self.path = path
    self.items: dict[Any, Any] = {}
    self.is_module = False


class Known(NamedTuple):
  """A name in `MAKERS`."""

  path: str


class NumpyType:
  """The type of a number of NumPy, whose order of bytes is told later."""

  def __init__(self, code: Any, *rest: Any):
    if type(code) is not str:
      raise ValueError('a type of NumPy has no name')
    self.code, self.order = code, '='

  def set_order(self, state: Any) -> None:
    """Takes the order, '<', '>', '=' or '|', from what NumPy says of a type."""
    if type(state) is not tuple or state[1] not in list('<>=|'):
      raise ValueError('a type of NumPy has no order of bytes')
    self.order = state[1]


def as_key(value: Any) -> Hashable:
  """A value as the key of a dict; a placeholder for what is no plain value.

  Plain are scalars and short tuples of them, whose hash takes little time.
  """
  flat = type(value) is tuple and len(value) <= _MOST_IN_KEY
  parts = value if flat else (value,)
  if all(type(x) in _SCALARS or isinstance(x, np.generic) for x in parts):
    return value
  return Placeholder('a key')


def as_set(items: Any = ()) -> set[Any]:
  """A set of these, see `as_key`."""
  if type(items) not in (list, tuple, set):
    raise ValueError('a set is made of what has no items')
  return {as_key(item) for item in items}


def _dict(items: Any = ()) -> dict[Any, Any]:
  if type(items) is dict:
    return dict(items)
  if type(items) not in (list, tuple):
    raise ValueError('a dict is made of what has no items')
  if any(type(item) not in (list, tuple) or len(item) != 2 for item in items):
    raise ValueError('a dict is made of what are no pairs')
  return {as_key(key): value for key, value in items}


def _bytes(text: Any = b'', codec: str = 'latin1') -> bytes:
  """Bytes, which protocol 2 writes as a text."""
  if type(text) is bytes:
    return text
  if type(text) is not str or codec not in ('latin1', 'latin-1'):
    raise ValueError('bytes that are not in latin1')
  return text.encode('latin1')


def _same(value: Any = None, *rest: Any) -> Any:
  return value


def _complex(real: Any, imaginary: Any) -> complex:
  if type(real) is not float or type(imaginary) is not float:
    raise ValueError('a complex number is made of what are no numbers')
  return complex(real, imaginary)


def _parameter(data: Any, *rest: Any) -> tensors.Tensor:
  if not isinstance(data, tensors.Tensor):
    raise ValueError('a parameter is made of what is no tensor')
  return data


def _tensor(*args: Any) -> tensors.Tensor:
  """A tensor of storage, offset, shape, strides, two more, and its view."""
  return tensors.view(*args[:4], is_changed=bool(args[6:] and args[6]))


def _tensor_of_type(*args: Any) -> tensors.Tensor:
  """The same with the type of the numbers in front of the view."""
  is_changed = bool(args[7:] and args[7])
  return tensors.view(*args[:4], is_changed=is_changed, dtype=args[6])


def _not_dense(*args: Any) -> tensors.Tensor:
  return tensors.unreadable('a sparse or quantised tensor')


def _numpy_number(kind: Any, content: Any) -> Any:
  if not isinstance(kind, NumpyType):
    raise ValueError('a number of NumPy is made of other things')
  if not _NUMPY_TYPE.fullmatch(kind.code):  # A text, a date, an object.
    return Placeholder('numpy.generic')
  dtype = np.dtype(kind.order + kind.code)
  # Python 2 has a text.
  (number,) = np.frombuffer(_bytes(content), dtype)
  return number


# By the name in a pickle, that of Python 3.
MAKERS: dict[str, Callable[..., Any]] = {
  '_codecs.encode': _bytes,
  'builtins.bytearray': _bytes,
  'builtins.bytes': _bytes,
  'builtins.complex': _complex,
  'builtins.set': as_set,
  'builtins.frozenset': as_set,
  'collections.Counter': _dict,
  'collections.OrderedDict': _dict,
  'collections.defaultdict': lambda factory=None: {},
  'numpy.dtype': NumpyType,
  'numpy.core.multiarray.scalar': _numpy_number,
  'numpy._core.multiarray.scalar': _numpy_number,
  'torch.Size': _same,
  'torch.device': _same,
  'torch.nn.parameter.Parameter': _parameter,
  'torch.nn.parameter.Buffer': _parameter,
  'torch.serialization._get_layout': _same,
  'torch._utils._rebuild_device_tensor_from_cpu_tensor': _parameter,
  'torch._utils._rebuild_meta_tensor_no_storage': lambda *args: (
    tensors.unreadable('a tensor without values (of device meta)')
  ),
  'torch._utils._rebuild_parameter': _parameter,
  'torch._utils._rebuild_parameter_with_state': _parameter,
  'torch._utils._rebuild_qtensor': _not_dense,
  'torch._utils._rebuild_sparse_tensor': _not_dense,
  'torch._utils._rebuild_tensor': _tensor,
  'torch._utils._rebuild_tensor_v2': _tensor,
  'torch._utils._rebuild_tensor_v3': _tensor_of_type,
}
# What it may name, but not call.
NAMES = {
  FROM_TYPE,
  'torch.Tensor',
  *(f'builtins.{kind}' for kind in ('bool', 'dict', 'float', 'int', 'list')),
}

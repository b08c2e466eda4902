"""Tensors of `torch.save` as NumPy arrays, without PyTorch.

A file names storages, which are runs of numbers of one type, and tensors, which
are views of them by offset, shape and strides. No number is copied before it is
asked for, and no tensor reaches beyond its storage.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

# Numbers by the classes of their storages.
_STORAGES: Mapping[str, Any] = {
  'Double': np.float64,
  'Float': np.float32,
  'Half': np.float16,
  'BFloat16': ml_dtypes.bfloat16,
  'Long': np.int64,
  'Int': np.int32,
  'Short': np.int16,
  'Char': np.int8,
  'Byte': np.uint8,
  'Untyped': np.uint8,
  'Bool': np.bool_,
  'ComplexDouble': np.complex128,
  'ComplexFloat': np.complex64,
  'QInt8': np.int8,
  'QUInt8': np.uint8,
  'QInt32': np.int32,
  'QUInt4x2': np.uint8,
  'QUInt2x4': np.uint8,
}
_MORE_TYPES = (
  *('float8_e4m3fn', 'float8_e4m3fnuz', 'float8_e5m2', 'float8_e5m2fnuz'),
  *('uint16', 'uint32', 'uint64'),
)
# By PyTorch's names, such as torch.FloatStorage and torch.float32.
DTYPES: Mapping[str, np.dtype[Any]] = {
  f'torch.{part}{name}Storage': np.dtype(kind)
  for part in ('', 'cuda.', 'storage.')
  for name, kind in _STORAGES.items()
} | {
  f'torch.{np.dtype(kind).name}': np.dtype(kind)
  for kind in (*_STORAGES.values(), *_MORE_TYPES)
}
# Of numbers that are read, for each byte of the file: tensors may share a
# storage or repeat its numbers, and a small file must not become a large one.
_MOST_NUMBERS = 4


class Storage(NamedTuple):
  """A run of numbers in a file.

  Attributes:
    content: their bytes; None where they are not known yet.
    dtype: of a number.
    key: of the storage in the file.
    swapped: whether the bytes of a number are in another order than here.
  """

  content: memoryview | None
  dtype: np.dtype[Any]
  key: str
  swapped: bool


class Tensor(np.ndarray):
  """A view of a storage.

  Attributes:
    unreadable: what keeps its numbers from being read, '' for nothing.
    swapped: see `Storage`.
  """

  unreadable = ''
  swapped = False


def view(
  storage: Storage,
  offset: int,
  shape: tuple[int, ...],
  strides: tuple[int, ...],
  *,
  dtype: np.dtype[Any] | None = None,
  is_changed: bool = False,
) -> Tensor:
  """A tensor, of which nothing is copied.

  Args:
    storage: which it views.
    offset: of its first number in the storage.
    shape: integers.
    strides: in numbers, not negative.
    dtype: of its numbers, if that is not the storage's.
    is_changed: whether it is the conjugate or the negative of the numbers.

  Raises:
    ValueError: there is no such tensor, or it reaches beyond its storage.
  """
  dtype = storage.dtype if dtype is None else dtype
  if type(shape) is not tuple or type(strides) is not tuple:
    raise ValueError('a tensor has no shape')
  numbers = (offset, *shape, *strides)
  if any(type(number) is not int or number < 0 for number in numbers):
    raise ValueError('a tensor has offsets, shapes or strides that are none')
  if is_changed:
    return unreadable('a conjugate or negative view')
  if storage.content is None or 0 in shape:
    return Tensor(shape if 0 in shape else 0, dtype)
  axes = list(zip(shape, strides, strict=True))
  last = offset + sum((length - 1) * step for length, step in axes)
  if (last + 1) * dtype.itemsize > len(storage.content):
    raise ValueError(f'a tensor reaches beyond its storage {storage.key}')
  steps = [step * dtype.itemsize if length > 1 else 0 for length, step in axes]
  start = offset * dtype.itemsize
  tensor = Tensor(shape, dtype, storage.content, start, steps)
  tensor.swapped = storage.swapped
  return tensor


def unreadable(what: str) -> Tensor:
  """A tensor that stands for one that is not read."""
  tensor = Tensor(0)
  tensor.unreadable = what
  return tensor


def check_total(values: Iterable[Any], size: int) -> None:
  """Raises ValueError for tensors that take much more memory than their file.

  Args:
    values: tensors that are to be read.
    size: of the file in bytes.
  """
  total = sum(value.size for value in values if isinstance(value, Tensor))
  if total > _MOST_NUMBERS * size:
    raise ValueError(
      f'its tensors have {total:,} numbers, more than {_MOST_NUMBERS} for each '
      'of its bytes: they repeat what they share'
    )


def to_numpy(name: str, tensor: Any) -> np.ndarray:
  """A tensor as an array; a floating one in float32.

  Args:
    name: of the tensor, for the message.
    tensor: a `Tensor`, or one of PyTorch.

  Raises:
    ValueError: it is sparse, quantised or another one without plain numbers.
  """
  if isinstance(tensor, Tensor):
    what, array = tensor.unreadable, np.asarray(tensor)
    if array.dtype.kind == 'b':  # A byte that is neither 0 nor 1 is no bool.
      array = array.view(np.uint8) != 0
    if tensor.swapped:
      array = array.byteswap()
  else:
    tensor = tensor.detach().cpu()
    dense = str(tensor.layout) == 'torch.strided' and not tensor.is_quantized
    what = '' if dense else 'a sparse or quantised tensor'
    if dense:
      floating = tensor.is_floating_point()
      array = (tensor.float() if floating else tensor).numpy()
  if what:
    raise ValueError(f'{name} is {what}: save a dense one of floating numbers.')
  return in_float32(array)


def in_float32(array: np.ndarray) -> np.ndarray:
  """A copy in float32 of floating numbers; other numbers as they are."""
  if array.dtype.kind in 'iubc':
    return array.copy()
  # Too large a number becomes infinite, as in PyTorch.
  with np.errstate(over='ignore', invalid='ignore'):
    return array.astype(np.float32, order='C')

"""Tensors of `torch.save` as NumPy arrays, without PyTorch.

A file names storages, which are runs of numbers of one type, and tensors, which
are views of them by offset, shape and strides. Nothing is read before it is
asked for, and no tensor reaches beyond its storage.
"""

import dataclasses
import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

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
_MOST_AXES = 32
# Of numbers that are read, for each byte of the file: tensors may share a
# storage or repeat its numbers, and a small file must not become a large one.
_MOST_NUMBERS = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Storage:
  """A run of numbers in a file.

  Attributes:
    records: of the file, by key.
    key: of its bytes among them.
    dtype: of the numbers.
    start: its first number.
    count: how many there are.
    swapped: whether the file has the bytes of a number in another order.
  """

  records: Mapping[str, memoryview]
  key: str
  dtype: np.dtype[Any]
  start: int
  count: int
  swapped: bool = False

  def content(self) -> memoryview:
    """Its bytes; a ValueError if they are not all there."""
    if self.key not in self.records:
      raise ValueError(f'there is no storage {self.key}')
    size = self.dtype.itemsize
    first, stop = self.start * size, (self.start + self.count) * size
    if min(self.start, self.count) < 0 or stop > len(self.records[self.key]):
      raise ValueError(f'storage {self.key} has fewer numbers than it says')
    return self.records[self.key][first:stop]


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
  """A view of a storage.

  Attributes:
    storage: None if it has no dense one.
    offset: in the storage, in numbers.
    shape: integers.
    strides: in numbers, not negative.
    dtype: of the numbers.
    unreadable: what keeps it from being an array, '' for nothing.
  """

  storage: Storage | None
  offset: int = 0
  shape: tuple[int, ...] = (0,)
  strides: tuple[int, ...] = (1,)
  dtype: np.dtype[Any] = np.dtype(np.float32)
  unreadable: str = ''

  def __post_init__(self):
    numbers = (self.offset, *self.shape, *self.strides)
    if len(self.shape) != len(self.strides) or len(self.shape) > _MOST_AXES:
      raise ValueError(f'a tensor of {len(self.shape)} axes is not possible')
    if any(type(number) is not int or number < 0 for number in numbers):
      raise ValueError('a tensor has offsets, shapes or strides that are none')

  @property
  def ndim(self) -> int:
    return len(self.shape)

  def numel(self) -> int:
    """How many numbers it has."""
    return math.prod(self.shape)


def check_total(values: Iterable[Any], size: int) -> None:
  """Raises ValueError for tensors that take much more memory than their file.

  Args:
    values: tensors that are to be read.
    size: of the file in bytes.
  """
  total = sum(value.numel() for value in values if isinstance(value, Tensor))
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
    ValueError: it is sparse or quantised, or reaches beyond its storage.
  """
  if isinstance(tensor, Tensor):
    return _array(name, tensor)
  tensor = tensor.detach().cpu()
  if str(tensor.layout) != 'torch.strided' or tensor.is_quantized:
    raise _not_dense(name, 'a sparse or quantised tensor')
  return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def in_float32(array: np.ndarray) -> np.ndarray:
  """A copy in float32 of floating numbers; other numbers as they are."""
  if array.dtype.kind in 'iubc':
    return array.copy()
  # Too large a number becomes infinite, as in PyTorch.
  with np.errstate(over='ignore', invalid='ignore'):
    return array.astype(np.float32, order='C')


def _array(name: str, tensor: Tensor) -> np.ndarray:
  """The numbers of a dense tensor; floating ones in float32."""
  if tensor.unreadable or tensor.storage is None:
    raise _not_dense(name, tensor.unreadable)
  content, dtype = tensor.storage.content(), tensor.dtype
  if not tensor.numel():
    return in_float32(np.zeros(tensor.shape, dtype))
  steps = zip(tensor.shape, tensor.strides, strict=True)
  last = tensor.offset + sum((length - 1) * step for length, step in steps)
  if (last + 1) * dtype.itemsize > len(content):
    raise ValueError(f'{name} reaches beyond its storage {tensor.storage.key}')
  # A byte that is neither 0 nor 1 is no bool of NumPy.
  is_bool = dtype.kind == 'b'
  view: np.ndarray = np.ndarray(
    tensor.shape,
    np.uint8 if is_bool else dtype,
    content,
    tensor.offset * dtype.itemsize,
    [
      step * dtype.itemsize if length > 1 else 0
      for length, step in zip(tensor.shape, tensor.strides, strict=True)
    ],
  )
  if is_bool:
    return view != 0
  return in_float32(view.byteswap() if tensor.storage.swapped else view)


def is_swapped(byteorder: str) -> bool:
  """Whether numbers in an order of bytes are not as this machine has them."""
  if byteorder not in ('little', 'big'):
    raise ValueError(f'its bytes are in the order {byteorder!r}')
  return byteorder != sys.byteorder


def _not_dense(name: str, what: str) -> ValueError:
  return ValueError(f'{name} is {what}: save a dense one of floating numbers.')

"""Reads files of `torch.save` in one of three ways, see `files`."""

import importlib.util
import io
import pathlib
import re
import sys
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from rnascl_jax.interop import archive, unpickler
from rnascl_jax.interop.tensors import Storage
from rnascl_jax.runtime import extras

WAYS = ('safe', 'inert', 'unsafe')
_ZIP, _PICKLE = b'PK\x03\x04', b'\x80'
# What a file of PyTorch before 1.6 begins with: two numbers as pickles.
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_MOST_NAMED = 8


def load(path: pathlib.Path, content: bytes, pickled: str) -> Any:
  """Loads a file of `torch.save`.

  Args:
    path: of the file, for messages.
    content: its bytes.
    pickled: one of `WAYS`.

  Returns:
    The object in it, with a `tensors.Tensor` for each tensor and a
    `makers.Placeholder` for what is not read; in the unsafe way the object
    itself, its tensors on the CPU.

  Raises:
    ValueError: the way is unknown, the file is another one, damaged or
      TorchScript, or it holds more than the way allows.
    ImportError: in the unsafe way, PyTorch is not installed, or a library that
      the file needs.
  """
  if pickled not in WAYS:
    raise ValueError(f'pickles={pickled!r} must be one of {", ".join(WAYS)}.')
  if not content.startswith((_ZIP, _PICKLE)):
    raise ValueError(
      f'{path} begins with {content[:8]!r}: neither a file of torch.save nor '
      'safetensors. Was it unpacked, or downloaded, incompletely?'
    )
  try:
    records = archive.records(content) if content.startswith(_ZIP) else None
    if pickled != 'unsafe':
      loaded, unknown = (
        _from_pickles(content) if records is None else _from_archive(records)
      )
  except archive.UnsupportedError as error:
    raise ValueError(f'{path} {error}.') from error
  except ValueError as error:
    raise _damaged(path, error) from error
  if pickled == 'unsafe':
    return _run(path, content)
  if unknown and pickled == 'safe':
    raise ValueError(
      f'{path} holds more than tensors: its pickle names {listed(unknown)}. '
      'Nothing of it was run. --pickles=inert reads the tensors and makes '
      'placeholders of these, running none of them; --pickles=unsafe runs what '
      'the file says, with your rights: only for a file whose author you trust.'
    )
  return loaded


def _from_archive(records: Mapping[str, memoryview]) -> tuple[Any, set[str]]:
  """What the pickle of an archive makes, and its unknown names."""
  order = str(records.get('byteorder', b'little'), 'ascii')
  numbers = {
    name.removeprefix('data/'): record
    for name, record in records.items()
    if name.startswith('data/')
  }
  stream = io.BytesIO(records['data.pkl'])
  loaded = unpickler.load(stream, _Storages(numbers, order))
  if stream.read(1):
    raise ValueError('there is something behind its pickle')
  return loaded


def _from_pickles(content: bytes) -> tuple[Any, set[str]]:
  """The same of a file of PyTorch before 1.6: pickles, then storages."""
  stream = io.BytesIO(content)
  if unpickler.load(stream)[0] != _MAGIC:
    raise ValueError('it does not begin with the number of torch.save')
  version, system = unpickler.load(stream)[0], unpickler.load(stream)[0]
  if version != _VERSION or type(system) is not dict:
    raise ValueError('it is of another version of torch.save')
  # The pickle is read for the lengths of its storages, which stand behind it,
  # and then again for their numbers.
  begin, storages = stream.tell(), _Storages(None)
  unpickler.load(stream, storages)
  keys, _ = unpickler.load(stream)
  are_texts = type(keys) is list and all(type(key) is str for key in keys)
  if not are_texts or sorted(keys) != sorted(storages.sizes):
    raise ValueError('it lists other storages than its tensors have')
  numbers = {}
  view = memoryview(content)[stream.tell() :]
  for key in keys:
    stop = 8 + int.from_bytes(view[:8], 'little') * storages.sizes[key]
    if stop > len(view):
      raise ValueError('its storages end too early')
    numbers[key], view = view[8:stop], view[stop:]
  if view:
    raise ValueError('there is something behind its storages')
  stream.seek(begin)
  order = 'little' if system.get('little_endian', True) else 'big'
  return unpickler.load(stream, _Storages(numbers, order))


class _Storages:
  """Gives the storages that a pickle names.

  Attributes:
    sizes: bytes of a number of each storage, by its key.
  """

  def __init__(
    self, records: Mapping[str, memoryview] | None, order: str = 'little'
  ):
    """Takes the bytes of each storage, None if they are not known yet."""
    if order not in ('little', 'big'):
      raise ValueError(f'its bytes are in the order {order!r}')
    self.sizes: dict[str, int] = {}
    self._records, self._swapped = records, order != sys.byteorder

  def __call__(self, identifier: Any) -> Any:
    if type(identifier) is not tuple or type(identifier[0]) is not str:
      raise ValueError('it names a storage by what is no tuple')
    kind, *fields = identifier
    if kind == 'module':  # The class of an older file, with code.
      return fields[0]
    if kind != 'storage' or not 4 <= len(fields) <= 5:
      raise ValueError('it names what is no storage')
    dtype, key, _, count, part = (*fields, None)[:5]
    start = 0
    if part is not None:  # Of PyTorch before 0.4.
      if type(part) is not tuple:
        raise ValueError('it names a part of a storage by what is none')
      _, start, count = part
    is_key = type(key) is str and key.isascii() and key.isdigit()
    is_part = type(start) is type(count) is int and min(start, count) >= 0
    if not isinstance(dtype, np.dtype) or not is_key or not is_part:
      raise ValueError('it names a storage of other things')
    self.sizes.setdefault(key, dtype.itemsize)
    if self._records is None:
      return Storage(None, dtype, key, self._swapped)
    if key not in self._records:
      raise ValueError(f'there is no storage {key}')
    first, stop = start * dtype.itemsize, (start + count) * dtype.itemsize
    if stop > len(self._records[key]):
      raise ValueError(f'storage {key} has fewer numbers than it says')
    return Storage(self._records[key][first:stop], dtype, key, self._swapped)


def _run(path: pathlib.Path, content: bytes) -> Any:
  """Lets a file make what it says, which may be anything."""
  extras.require('torch', f'reading {path} unsafely')
  import torch

  has_dill = importlib.util.find_spec('dill') is not None
  try:
    return torch.load(
      io.BytesIO(content),
      map_location='cpu',
      weights_only=False,
      pickle_module=importlib.import_module('dill' if has_dill else 'pickle'),
    )
  except ImportError:
    raise
  except AttributeError as error:
    raise ValueError(
      f'{path} needs a class that is not there: {error}.'
    ) from error
  # What the file runs may make any error at all.
  except Exception as error:
    raise _damaged(path, error) from error


def listed(names: Collection[str]) -> str:
  """Names of functions and classes in a file, as they can be printed."""
  printable = sorted(re.sub(r'[^\w.<>]', '?', name)[:80] for name in names)
  more = f', ... ({len(names)} in all)' if len(names) > _MOST_NAMED else ''
  return ', '.join(printable[:_MOST_NAMED]) + more


def _damaged(path: pathlib.Path, error: Exception) -> ValueError:
  first_line = (str(error).splitlines() or [''])[0].rstrip('.')
  return ValueError(
    f'{path} is damaged, incomplete or not of torch.save '
    f'({first_line or type(error).__name__}): download it again.'
  )

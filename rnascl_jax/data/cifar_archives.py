"""CIFAR-10 and CIFAR-100 as their authors publish them, in memory.

The binary and the Python version are read from the archive as it was
downloaded. The Python version is of pickles, of which no code is run: a pickle
is taken apart by `pickletools`, and only what such a file holds is made.

Reference:
  Krizhevsky, Learning multiple layers of features from tiny images, 2009,
  https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import dataclasses
import gzip
import hashlib
import pathlib
import pickletools
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnascl_jax.data import sources
from rnascl_jax.data.sources import Source
from rnascl_jax.runtime import files

_REMEDY = (
  'Download it again: cifar-10-binary.tar.gz, cifar-10-python.tar.gz, '
  'cifar-100-binary.tar.gz or cifar-100-python.tar.gz of '
  'https://www.cs.toronto.edu/~kriz/cifar.html.'
)
_SIDE = 32
_PIXELS = 3 * _SIDE**2
# Images for training and for testing, and bytes of one at most: its pixels, and
# in a pickle its label and the name of its file.
_TRAIN, _TEST = 50_000, 10_000
_IMAGE_BYTES = 3200
# Bytes of the names of classes, at most.
_NAMES_BYTES = 2**16


class _Version(NamedTuple):
  """Files of an archive.

  Attributes:
    train: names of the files of training images.
    test: of test images.
    names: of the names of classes.
    labels: labels of an image in a binary file; the last one counts.
    label_key: the key of labels in a pickle; '' in a binary file.
    names_key: the key of the names of classes in a pickle.
  """

  train: tuple[str, ...]
  test: tuple[str, ...]
  names: str
  labels: int = 1
  label_key: str = ''
  names_key: str = ''


_BATCHES = tuple(f'data_batch_{number}' for number in range(1, 6))
_VERSIONS = (
  _Version(
    tuple(f'{name}.bin' for name in _BATCHES),
    ('test_batch.bin',),
    'batches.meta.txt',
  ),
  _Version(('train.bin',), ('test.bin',), 'fine_label_names.txt', labels=2),
  _Version(
    _BATCHES,
    ('test_batch',),
    'batches.meta',
    label_key='labels',
    names_key='label_names',
  ),
  _Version(
    ('train',),
    ('test',),
    'meta',
    label_key='fine_labels',
    names_key='fine_label_names',
  ),
)

# The most bytes of each file that is read.
_SIZES = {
  file: size
  for version in _VERSIONS
  for file, size in (
    *((f, _TRAIN // len(version.train) * _IMAGE_BYTES) for f in version.train),
    *((f, _TEST * _IMAGE_BYTES) for f in version.test),
    (version.names, _NAMES_BYTES),
  )
}


def read(place: str, *, name: str) -> Source:
  """Reads an archive of CIFAR-10 or, with its fine labels, CIFAR-100.

  Args:
    place: its path.
    name: of the data set, for messages.

  Raises:
    FileNotFoundError: there is no such file.
    DamagedFileError: it is damaged, or another archive.
  """
  path = sources.locate(place, name, f'. {_REMEDY}')
  with files.naming(path, _REMEDY):
    members = _members(path)
    for version in _VERSIONS:
      needed = {*version.train, *version.test, version.names}
      if needed <= members.keys():
        break
    else:
      raise ValueError(
        f'it is no archive of CIFAR: of its files it has {[*members]}'
      )
    parse = _pickled if version.label_key else _binary
    (train, names), (test, _) = (
      parse(members, batches, version)
      for batches in (version.train, version.test)
    )
  sha = hashlib.sha256()
  for member in sorted(needed):
    sha.update(members[member])
  return Source(train, test, None, names, sha.hexdigest()[:16])


def _members(path: pathlib.Path) -> dict[str, bytes]:
  """The files of an archive that some version has, by name without folders.

  All of it is read to its end, where gzip has a check of its content.
  """
  contents = {}
  with open(path, 'rb') as file:
    compressed = file.read(2) == b'\x1f\x8b'
    file.seek(0)
    stream = gzip.GzipFile(fileobj=file) if compressed else file
    try:
      with tarfile.open(fileobj=stream, mode='r:') as archive:
        for member in archive:
          name = pathlib.PurePosixPath(member.name).name
          if name not in _SIZES or not member.isfile():
            continue
          if member.size > _SIZES[name]:
            raise ValueError(
              f'{member.name} has {member.size:,} bytes, more than '
              f'{_SIZES[name]:,}'
            )
          content = archive.extractfile(member)
          assert content is not None  # It is a file.
          contents[name] = content.read()
    except tarfile.TarError as error:
      raise ValueError(str(error)) from error
    while stream.read(2**20):
      pass
  return contents


_Part = tuple[tuple[np.ndarray, np.ndarray], tuple[str, ...]]


def _binary(
  members: Mapping[str, bytes], batches: Sequence[str], version: _Version
) -> _Part:
  """Images, labels and names of classes of binary files."""
  record = version.labels + _PIXELS
  content = b''.join(members[batch] for batch in batches)
  if not content or len(content) % record:
    raise ValueError(f'its images do not have {record} bytes each')
  records = np.frombuffer(content, np.uint8).reshape(-1, record)
  names = members[version.names].decode('ascii').split()
  return (
    (_images(records[:, version.labels :]), records[:, version.labels - 1]),
    tuple(names),
  )


def _pickled(
  members: Mapping[str, bytes], batches: Sequence[str], version: _Version
) -> _Part:
  """The same of pickles."""
  images, labels = [], []
  for batch in batches:
    content = _unpickled(members[batch])
    images.append(_array(content['data']))
    labels.append(np.array(content[version.label_key]))
    if images[-1].shape != (len(labels[-1]), _PIXELS):
      raise ValueError(
        f'{batch} has images of shape {images[-1].shape} and '
        f'{len(labels[-1])} labels'
      )
  names = _unpickled(members[version.names])[version.names_key]
  pair = _images(np.concatenate(images)), np.concatenate(labels)
  return pair, tuple(map(_text, names))


def _images(planes: np.ndarray) -> np.ndarray:
  """[N, 3072], planes of red, green and blue, as [N, 32, 32, 3]."""
  return planes.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1).copy()


@dataclasses.dataclass
class _Call:
  """What a pickle says to call, which is not done."""

  function: str
  arguments: Any
  state: Any = None


_PUSHED = (
  *('BININT', 'BININT1', 'BININT2', 'LONG1', 'BINFLOAT'),
  *('SHORT_BINSTRING', 'BINSTRING', 'SHORT_BINBYTES', 'BINBYTES'),
  *('SHORT_BINUNICODE', 'BINUNICODE'),
)
_CONSTANTS = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}


def _unpickled(content: bytes) -> dict[str, Any]:
  """The dictionary in a pickle of lists, texts, numbers and arrays.

  Names of functions stay names, and a call of one becomes a `_Call`.

  Raises:
    ValueError: the pickle is damaged, or holds anything else.
  """
  stack: list[Any] = []
  marks: list[int] = []
  memo: dict[Any, Any] = {}

  def since_mark() -> list[Any]:
    start = marks.pop()
    items = stack[start:]
    del stack[start:]
    return items

  for operation, argument, _ in pickletools.genops(content):
    match operation.name:
      case 'PROTO' | 'FRAME' | 'STOP':
        pass
      case name if name in _PUSHED:
        stack.append(argument)
      case name if name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
      case 'EMPTY_DICT':
        stack.append({})
      case 'EMPTY_LIST':
        stack.append([])
      case 'EMPTY_TUPLE':
        stack.append(())
      case name if name in _TUPLES:
        items = stack[-_TUPLES[name] :]
        del stack[-_TUPLES[name] :]
        stack.append(tuple(items))
      case 'MARK':
        marks.append(len(stack))
      case 'TUPLE':
        stack.append(tuple(since_mark()))
      case 'APPEND':
        item = stack.pop()
        stack[-1].append(item)
      case 'SETITEM':
        item, key = stack.pop(), stack.pop()
        stack[-1][_text(key)] = item
      case 'APPENDS':
        items = since_mark()
        stack[-1].extend(items)
      case 'SETITEMS':
        items = since_mark()
        keys = map(_text, items[::2])
        stack[-1].update(zip(keys, items[1::2], strict=True))
      case 'BINPUT' | 'LONG_BINPUT':
        memo[argument] = stack[-1]
      case 'MEMOIZE':
        memo[len(memo)] = stack[-1]
      case 'BINGET' | 'LONG_BINGET':
        stack.append(memo[argument])
      case 'GLOBAL':
        stack.append(argument)
      case 'STACK_GLOBAL':
        module, name = stack.pop(-2), stack.pop()
        stack.append(f'{module} {name}')
      case 'REDUCE':
        arguments, function = stack.pop(), stack.pop()
        stack.append(_Call(function, arguments))
      case 'BUILD':
        state = stack.pop()
        stack[-1].state = state
      case name:
        raise ValueError(f'its pickle has the operation {name}')
  (content_of_pickle,) = stack
  return content_of_pickle


def _text(item: Any) -> str:
  """A text, of bytes too, which a protocol without them calls for."""
  if isinstance(item, _Call):
    item = item.arguments[0]
  return item.decode() if isinstance(item, bytes) else item


def _array(call: _Call) -> np.ndarray:
  """The array of bytes that a pickle says NumPy is to make."""
  if call.function.split('.')[-1] != 'multiarray _reconstruct':
    raise ValueError(f'its pickle calls {call.function!r}')
  _, shape, dtype, fortran, raw = call.state
  if dtype.function != 'numpy dtype' or dtype.arguments[0] not in ('u1', '|u1'):
    raise ValueError('its images are not of bytes')
  if not isinstance(raw, bytes):
    raw = _text(raw).encode('latin-1')
  array = np.frombuffer(raw, np.uint8)
  return array.reshape(shape, order='F' if fortran else 'C')

"""Files that are never read half written, and JSON that is always valid.

A file is written beside its destination and moved over it, so a reader, or a
run that was killed and goes on, sees the old content or the new one. JSON has
no numbers for NaN and the infinities: they are written as the strings 'NaN',
'Infinity' and '-Infinity', and `read_json` makes floats of them again.

Example:
  >>> import os, tempfile
  >>> from rnascl_jax.runtime import files
  >>> path = os.path.join(tempfile.mkdtemp(), 'result.json')
  >>> files.write_json(path, {'accuracy': 0.5, 'loss': float('nan')})
  >>> files.read_json(path)
  {'accuracy': 0.5, 'loss': nan}
"""

import contextlib
import json
import math
import os
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from rnascl_jax.runtime import disk, lock, paths

Path = str | os.PathLike[str]

_NON_FINITE = {name: float(name) for name in ('NaN', 'Infinity', '-Infinity')}

# The format of the workdirs that this version writes, and who wrote others.
WORKDIR_FORMAT = 2
_VERSIONS = {1: 'version 0.1'}
# What to do about a file that the next run writes again.
REMEDY = 'Restore it from a copy, or delete it and run the same command again.'
# What JSON, NumPy and zip files raise, and whoever takes their content apart,
# if a byte or a type is another one than was written.
_BROKEN = (
  ArithmeticError,
  AttributeError,
  EOFError,
  LookupError,
  OSError,
  RuntimeError,
  TypeError,
  ValueError,
  struct.error,
  zipfile.BadZipFile,
  zlib.error,
)


class DamagedFileError(ValueError):
  """A file is damaged; the message names it and says what to do."""


def damaged(path: Path, what: str, remedy: str = REMEDY) -> DamagedFileError:
  """The error for a path, what is wrong with it, and what the user can do."""
  return DamagedFileError(f'{os.fspath(path)} is damaged: {what}. {remedy}')


@contextlib.contextmanager
def naming(path: Path, remedy: str = REMEDY) -> Iterator[None]:
  """Names a file in what is raised while its content is taken apart.

  Args:
    path: the file.
    remedy: what the user can do if it is damaged, a whole sentence.

  Raises:
    DamagedFileError: the body raised what damaged content makes it raise.
    FileNotFoundError: the body raised it: a missing file is not damaged.
  """
  try:
    yield
  except (DamagedFileError, FileNotFoundError, PermissionError):
    raise
  except _BROKEN as error:
    # A plain one says all in its text; a KeyError's is no more than a name.
    kind = '' if type(error) is ValueError else type(error).__name__
    text = ': '.join(part for part in (kind, f'{error}') if part)
    raise damaged(path, text, remedy) from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
  """Opens a new binary file that takes the place of `path` when all is written.

  Missing folders are created. If the body raises, `path` stays what it was.

  Yields:
    A file open for writing bytes, for example for `np.savez`.

  Raises:
    DiskError: it cannot be written, or a folder that this process has locked
      was deleted.
  """
  # Where the path is a link, it stays and the file that it names is replaced.
  path = pathlib.Path(os.path.realpath(paths.local(path)))
  make_folder(path.parent)
  temporary = disk.temporary(path)
  with disk.explained(path):
    try:
      with open(temporary, 'xb') as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
      os.replace(temporary, path)
    finally:
      temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
  """Creates a folder and those that it is in; raises as `replacing` does."""
  lock.check(path)
  with disk.explained(path):
    os.makedirs(path, exist_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
  """Writes or overwrites a whole file; text is encoded as UTF-8."""
  data = content.encode() if isinstance(content, str) else content
  with replacing(path) as file:
    file.write(data)


def write_json(path: Path, value: Any) -> None:
  """Writes what `to_json` accepts as indented JSON, atomically."""
  text = json.dumps(to_json(value), indent=2, allow_nan=False)
  write_atomically(path, f'{text}\n')


def read_json(path: Path, *keys: str, remedy: str = REMEDY) -> dict[str, Any]:
  """Reads an object that `write_json` wrote.

  Args:
    path: the file.
    *keys: names that the object must have.
    remedy: see `naming`.

  Raises:
    FileNotFoundError: there is no such file.
    DamagedFileError: the file is not a JSON object with these names.
  """
  with naming(path, remedy):
    return _json_object(pathlib.Path(path).read_bytes(), keys)


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
  """Writes a run's config.json, with the format of its workdir."""
  write_json(
    pathlib.Path(folder) / 'config.json', {**config, 'format': WORKDIR_FORMAT}
  )


def read_config(folder: Path, *, remedy: str = REMEDY) -> dict[str, Any]:
  """Reads a run's config.json, without the format of its workdir.

  Raises:
    FileNotFoundError: there is no such file.
    DamagedFileError: the file is damaged.
    ValueError: the workdir is of another format.
  """
  config = read_json(pathlib.Path(folder) / 'config.json', remedy=remedy)
  written_format = config.pop('format', 1)
  if written_format != WORKDIR_FORMAT:
    version = _VERSIONS.get(written_format, 'a newer version')
    raise ValueError(
      f'{os.fspath(folder)} was made by {version} of rnascl_jax, whose fields '
      'and checkpoints have other names: read it or go on with that version, '
      'or use another --workdir.'
    )
  return config


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
  """Writes arrays as a compressed .npz file, atomically."""
  with replacing(path) as file:
    np.savez_compressed(file, **arrays)


def read_npz(
  path: Path, *keys: str, remedy: str = REMEDY
) -> dict[str, np.ndarray]:
  """Reads all arrays of an .npz file and checks their CRC-32.

  Args:
    path: the file.
    *keys: names of arrays that must be there.
    remedy: see `naming`.

  Raises:
    FileNotFoundError: there is no such file.
    DamagedFileError: the file is not what was written.
  """
  with naming(path, remedy), open(path, 'rb') as file:
    with zipfile.ZipFile(file) as archive:
      # NumPy reads as far as an array goes, which may end before its check.
      broken = archive.testzip()
    if broken is not None:
      raise ValueError(f'the CRC-32 of {broken} is another one')
    file.seek(0)
    with np.load(file, allow_pickle=False) as saved:
      arrays = dict(saved)
    _check_names(arrays, keys)
  return arrays


def _json_object(text: bytes, keys: Sequence[str]) -> dict[str, Any]:
  """The JSON object in a text; raises unless it has these keys."""
  value = from_json(json.loads(text))
  if not isinstance(value, dict):
    raise ValueError(f'it holds a {type(value).__name__}, not an object')
  _check_names(value, keys)
  return value


def _check_names(mapping: Mapping[str, Any], keys: Sequence[str]) -> None:
  missing = [key for key in keys if key not in mapping]
  if missing:
    raise ValueError(f'it lacks {", ".join(missing)}')


def to_json(value: Any) -> Any:
  """Makes a value of plain JSON types.

  Args:
    value: None, booleans, numbers, strings, NumPy and JAX scalars and arrays,
      paths, and any nesting of mappings, lists and tuples of them. A key that
      is not a string becomes one.

  Returns:
    An equal value of dict, list, str, int, float, bool and None, in which the
    floats NaN, inf and -inf are strings.

  Raises:
    TypeError: the value holds something else; the message names its type.
  """
  if isinstance(value, float):
    return float(value) if math.isfinite(value) else json.dumps(float(value))
  if value is None or isinstance(value, bool | int | str):
    return value
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  if isinstance(value, Mapping):
    return {str(key): to_json(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [to_json(item) for item in value]
  if hasattr(value, '__array__'):
    return to_json(np.asarray(value).tolist())
  raise TypeError(f'{type(value).__name__} cannot be written as JSON: {value}')


def from_json(value: Any) -> Any:
  """Makes floats of the names of NaN and the infinities, at any depth."""
  if isinstance(value, str):
    return _NON_FINITE.get(value, value)
  if isinstance(value, dict):
    return {key: from_json(item) for key, item in value.items()}
  if isinstance(value, list):
    return [from_json(item) for item in value]
  return value


class JsonLines(contextlib.AbstractContextManager):
  """A file with a JSON object on every line, each with an integer 'step'.

  A line is handed to the operating system as soon as it is written. A last line
  that was cut off when its writer was killed is removed on opening.
  """

  def __init__(self, path: Path):
    """Opens or creates a file, and the folders it is in."""
    self._path = paths.local(path)
    make_folder(self._path.parent)
    with disk.explained(path):
      self._file = open(self._path, 'ab', buffering=0)
      self._file.truncate(len(_whole_lines(self._path)))

  def write(self, record: Mapping[str, Any]) -> None:
    """Appends a line; see `to_json` for what may be in it."""
    if not isinstance(record.get('step'), int):
      raise ValueError(f"a record needs an integer 'step': {record}")
    text = json.dumps(to_json(record), allow_nan=False)
    line = memoryview(text.encode() + b'\n')
    lock.check(self._path)
    before = self._file.seek(0, os.SEEK_END)
    with disk.explained(self._path):
      try:
        # A disk that becomes full takes a part, and refuses the rest.
        while line:
          line = line[self._file.write(line) :]
      except OSError:
        self._file.truncate(before)
        raise

  def truncate_after(self, step: int) -> None:
    """Drops, atomically, the lines with a step greater than this one."""
    self._file.close()
    lines = _whole_lines(self._path).splitlines(keepends=True)
    records = zip(lines, read_json_lines(self._path), strict=True)
    kept = [line for line, record in records if record['step'] <= step]
    write_atomically(self._path, b''.join(kept))
    self._file = open(self._path, 'ab', buffering=0)

  def close(self) -> None:
    self._file.close()

  def __exit__(self, *error: object) -> None:
    self.close()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
  """Reads the records of `JsonLines`, but for a last line that was cut off.

  Raises:
    FileNotFoundError: there is no such file.
    DamagedFileError: a line is not a JSON object with a step; the message has
      its number.
  """
  records = []
  for number, line in enumerate(_whole_lines(path).splitlines(), start=1):
    remedy = 'Restore the file from a copy, or delete this line.'
    with naming(f'{os.fspath(path)}:{number}', remedy):
      record = _json_object(line, ['step'])
      if not isinstance(record['step'], int):
        raise ValueError(f'the step is {record["step"]!r}')
    records.append(record)
  return records


def _whole_lines(path: Path) -> bytes:
  """What a file has up to its last end of line."""
  with naming(path):
    content = pathlib.Path(path).read_bytes()
  return content[: content.rfind(b'\n') + 1]

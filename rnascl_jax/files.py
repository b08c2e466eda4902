"""Files that are never read half written, and JSON that is always valid.

A file is written beside its destination and moved over it, so a reader, or a
run that was killed and goes on, sees the old content or the new one. JSON has
no numbers for NaN and the infinities: they are written as the strings 'NaN',
'Infinity' and '-Infinity', and `read_json` makes floats of them again.

Example:
  >>> import os, tempfile
  >>> from rnascl_jax import files
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
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

from rnascl_jax.runtime import paths

Path = str | os.PathLike[str]

_NON_FINITE = {
  'NaN': math.nan,
  'Infinity': math.inf,
  '-Infinity': -math.inf,
}


class DamagedFileError(ValueError):
  """A file is damaged; the message names it and says what to do."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
  """Opens a new binary file that takes the place of `path` when all is written.

  Missing folders are created. If the body raises, `path` stays what it was.

  Args:
    path: the destination.

  Yields:
    A file open for writing bytes, for example for `np.savez`.
  """
  # Of a link, what it points to: the link stays.
  path = pathlib.Path(os.path.realpath(paths.local(path)))
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f'.{path.name}.{secrets.token_hex(4)}.tmp')
  try:
    with open(temporary, 'xb') as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
  """Writes or overwrites a whole file; text is encoded as UTF-8."""
  data = content.encode() if isinstance(content, str) else content
  with replacing(path) as file:
    file.write(data)


def write_json(path: Path, value: Any) -> None:
  """Writes a value as indented JSON, atomically.

  Args:
    path: the destination.
    value: what `to_json` accepts.
  """
  write_atomically(
    path, json.dumps(to_json(value), indent=2, allow_nan=False) + '\n'
  )


def read_json(path: Path) -> Any:
  """Reads what `write_json` wrote.

  Raises:
    FileNotFoundError: there is no such file.
    DamagedFileError: the file is not JSON; the message names it.
  """
  try:
    return from_json(json.loads(pathlib.Path(path).read_bytes()))
  except ValueError as error:  # Not JSON, or not even UTF-8.
    raise DamagedFileError(
      f'{os.fspath(path)} is not valid JSON: {error}'
    ) from error


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
    return _finite_or_name(float(value))
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
    self._path.parent.mkdir(parents=True, exist_ok=True)
    self._file = open(self._path, 'ab')
    self._file.truncate(len(_whole_lines(self._path)))

  def write(self, record: Mapping[str, Any]) -> None:
    """Appends a line; see `to_json` for what may be in it."""
    if not isinstance(record.get('step'), int):
      raise ValueError(f"a record needs an integer 'step': {record}")
    line = json.dumps(to_json(record), allow_nan=False)
    self._file.write(line.encode() + b'\n')
    self._file.flush()

  def truncate_after(self, step: int) -> None:
    """Drops, atomically, the lines with a step greater than this one."""
    self._file.close()
    lines = _whole_lines(self._path).splitlines(keepends=True)
    records = read_json_lines(self._path)
    kept = [
      line
      for line, record in zip(lines, records, strict=True)
      if record['step'] <= step
    ]
    write_atomically(self._path, b''.join(kept))
    self._file = open(self._path, 'ab')

  def close(self) -> None:
    self._file.close()

  def __exit__(self, *error: object) -> None:
    self.close()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
  """Reads the records of `JsonLines`, but for a last line that was cut off.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a line is not a JSON object; the message has its number.
  """
  records = []
  for number, line in enumerate(_whole_lines(path).splitlines(), start=1):
    try:
      record = from_json(json.loads(line))
    except ValueError as error:
      raise ValueError(f'{path}:{number} is not JSON: {error}') from error
    if not isinstance(record, dict):
      raise ValueError(f'{path}:{number} is not a JSON object.')
    records.append(record)
  return records


def _finite_or_name(value: float) -> float | str:
  if math.isfinite(value):
    return value
  if math.isnan(value):
    return 'NaN'
  return 'Infinity' if value > 0 else '-Infinity'


def _whole_lines(path: Path) -> bytes:
  """What a file has up to its last end of line."""
  content = pathlib.Path(path).read_bytes()
  return content[: content.rfind(b'\n') + 1]

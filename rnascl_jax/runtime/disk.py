"""What a disk refuses, told in one sentence; and files left by a killed writer.

Whatever the library writes is written inside `explained`, which makes one
`DiskError` of the many exceptions of Python, NumPy, tensorstore and PyTorch.

Example:
  >>> import errno
  >>> from rnascl_jax.runtime import disk
  >>> try:
  ...   with disk.explained('/proc/result.json'):
  ...     raise OSError(errno.EROFS, 'Read-only file system')
  ... except disk.DiskError as error:
  ...   print(str(error).split('. ')[0])
  /proc/result.json cannot be written: Read-only file system
"""

import contextlib
import errno
import os
import pathlib
import re
import secrets
import shutil
from collections.abc import Iterator

Path = str | os.PathLike[str]

# tensorstore raises ValueError, with the system's number in the text.
_NUMBER = re.compile(r"os_error_code='(\d+)'")
_SHORT = re.compile(r'\d+ requested and \d+ written')
_TEMPORARY = re.compile(r'\..+\.[0-9a-f]{8}\.tmp')
_REMEDIES = {
  **dict.fromkeys(
    (errno.EROFS, errno.EACCES, errno.EPERM),
    'Name a folder that you may write to',
  ),
  errno.EDQUOT: 'Delete files of yours there, or have your quota raised',
}
# Numbers of errors that only writing raises.
OF_WRITING = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG)
# Numbers that say what is wrong, whatever exception they are found in.
_OF_DISKS = (*OF_WRITING, *_REMEDIES, errno.EIO, errno.ENODEV)


class DiskError(OSError):
  """Something cannot be written; the message is a sentence for the user."""


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
  """Raises `DiskError` where the operating system refuses to write a path."""
  try:
    yield
  except DiskError:
    raise
  except (OSError, ValueError, RuntimeError) as error:
    explain(error, path)
    if isinstance(error, OSError):
      why = os.strerror(error.errno) if error.errno else f'{error}'
      raise DiskError(f'{os.fspath(path)} cannot be written: {why}.') from error
    raise


def explain(
  error: Exception, path: Path, *, numbers: tuple[int, ...] = _OF_DISKS
) -> None:
  """Raises a sentence if an exception came from what a disk refused.

  Args:
    error: any exception.
    path: what was written, for the message.
    numbers: the system's numbers of errors that are explained.
  """
  number = _number(error)
  if number in numbers and not isinstance(error, DiskError):
    # The error of NumPy says how much was written, and has no number.
    own_text = isinstance(error, OSError) and not error.errno
    why = f'{error}' if own_text else os.strerror(number)
    raise DiskError(
      f'{os.fspath(path)} cannot be written: {why}.'
      f'{_remedy(number, pathlib.Path(path))}'
    ) from error


def temporary(path: pathlib.Path) -> pathlib.Path:
  """A new name beside a file, for its content until all of it is written."""
  return path.with_name(f'.{path.name}.{secrets.token_hex(4)}.tmp')


def is_temporary(name: str) -> bool:
  """Whether a file's name is one that `temporary` gave."""
  return _TEMPORARY.fullmatch(name) is not None


def _number(error: BaseException | None) -> int:
  """The operating system's number of an error, or of what it came from; or 0.

  What tensorstore, zipfile and PyTorch raise is often not an OSError.
  """
  while error is not None:
    if isinstance(error, OSError) and error.errno:
      return error.errno
    text = f'{error}'
    if match := _NUMBER.search(text):
      return int(match[1])
    if isinstance(error, OSError) and _SHORT.search(text):
      return errno.ENOSPC
    error = error.__cause__ or error.__context__
  return 0


def _remedy(number: int, path: pathlib.Path) -> str:
  """What to do about it, after a space; '' if that is not known."""
  if number == errno.ENOSPC:
    place = next(p for p in (path, *path.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free / 1e6
    return (
      f' Free some space on the disk of {place}, which has {free:,.1f} MB '
      'left, and give the same command again.'
    )
  return f' {_REMEDIES[number]}.' if number in _REMEDIES else ''

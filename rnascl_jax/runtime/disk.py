"""What a disk refuses, told in one sentence; and files left by a killed writer.

A disk may be full, read-only, or closed to the user. Whatever the library
writes is written inside `explained`, which makes one `DiskError` of the many
exceptions of Python, NumPy, tensorstore and PyTorch.

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
_TEMPORARY = re.compile(r'\..+\.[0-9a-f]{8}\.tmp')
_OTHER_FOLDER = 'Name a folder that you may write to'
_REMEDIES = {
  errno.EROFS: _OTHER_FOLDER,
  errno.EACCES: _OTHER_FOLDER,
  errno.EPERM: _OTHER_FOLDER,
  errno.EDQUOT: 'Delete files of yours there, or have your quota raised',
}
# Numbers that say what is wrong, whatever exception they are found in.
_OF_DISKS = (*_REMEDIES, errno.ENOSPC, errno.EFBIG, errno.EIO, errno.ENODEV)


class DiskError(OSError):
  """Something cannot be written; the message is a sentence for the user."""


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
  """Makes a sentence of what the operating system refuses to write.

  Args:
    path: the file or folder that is written, for the message.

  Raises:
    DiskError: in place of an exception that the operating system caused.
  """
  try:
    yield
  except DiskError:
    raise
  except (OSError, ValueError, RuntimeError) as error:
    number = _number(error)
    if number not in _OF_DISKS and not isinstance(error, OSError):
      raise
    # NumPy says how much was written, and not why not all of it.
    why = os.strerror(number) if number else f'{error}'
    raise DiskError(
      f'{os.fspath(path)} cannot be written: {why}.'
      f'{_remedy(number or errno.ENOSPC, pathlib.Path(path))}'
    ) from error


def temporary(path: pathlib.Path) -> pathlib.Path:
  """A new name beside a file, for its content until all of it is written."""
  return path.with_name(f'.{path.name}.{secrets.token_hex(4)}.tmp')


def remove_temporary(folder: Path) -> None:
  """Deletes what killed writers have left below a folder.

  Args:
    folder: of which this process is the only writer.
  """
  for path in pathlib.Path(folder).rglob('.*.tmp'):
    if _TEMPORARY.fullmatch(path.name) and path.is_file():
      path.unlink(missing_ok=True)


def _number(error: BaseException | None) -> int:
  """The operating system's number of an error, or of what it came from; or 0.

  What tensorstore, zipfile and PyTorch raise is often not an OSError.
  """
  while error is not None:
    if isinstance(error, OSError) and error.errno:
      return error.errno
    found = _NUMBER.search(f'{error}')
    if found:
      return int(found[1])
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

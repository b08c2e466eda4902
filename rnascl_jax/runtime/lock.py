"""The lock of a folder: it has one writer at a time.

The operating system holds the lock (flock) on an open file of the folder, until
the file is closed or the process ends, in whatever way. What a killed process
leaves blocks nobody. The file says who the writer is.

A file system that cannot lock files is named in a warning, and writing goes on.
Some network file systems keep locks to each host and do not tell (NFS with
`nolock` or `local_lock`, Lustre with `localflock`, many of FUSE). On these a
writer on another host gets a warning, if the file names another host.

Example:
  >>> import tempfile
  >>> from rnascl_jax.runtime import lock
  >>> folder = tempfile.mkdtemp()
  >>> with lock.take(folder):
  ...   try:
  ...     lock.take(folder)
  ...   except lock.HeldError as error:
  ...     print(str(error).startswith(f'{folder} has a writer already'))
  True
"""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import pathlib
import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

from absl import logging

from rnascl_jax.runtime import disk

NAME = 'writer.lock'
# Tells a command the open file whose lock its parent has handed to it.
_HANDED = 'RNASCL_JAX_LOCK'
# What flock says where it is not supported.
_UNSUPPORTED = (
  errno.EINVAL,
  errno.ENOLCK,
  errno.ENOSYS,
  errno.ENOTSUP,
  errno.EOPNOTSUPP,
)


class HeldError(RuntimeError):
  """Another writer has the folder; the message says who, where, since when."""


class GoneError(disk.DiskError):
  """A folder was deleted or moved while it was written to."""


class Lock(contextlib.AbstractContextManager):
  """A folder's lock that is held, from `take`."""

  def __init__(self, path: pathlib.Path, descriptor: int, *, handed: bool):
    self.folder = path.parent
    self.owner = _me()
    self._path, self._descriptor, self._handed = path, descriptor, handed

  def is_there(self) -> bool:
    """Whether the folder is still the one that was locked."""
    return _is_at(self._descriptor, self._path)

  def handed(self) -> dict[str, Any]:
    """Arguments of `subprocess.Popen` with which a command has the lock too.

    The lock is held until this process and the command have both ended or let
    it go. The command must not have it handed in turn.
    """
    number = self._descriptor
    return {'pass_fds': (number,), 'env': {**os.environ, _HANDED: f'{number}'}}

  def release(self) -> None:
    """Lets another writer have the folder; nothing happens the second time."""
    if _held.get(self._path) is not self:
      return
    del _held[self._path]
    if self._handed:  # It is its first owner's to let go.
      return
    # Deleted while it is locked: whoever has opened it looks for a new one.
    if self.is_there():
      with contextlib.suppress(OSError):
        self._path.unlink()
    os.close(self._descriptor)

  def __exit__(self, *error: object) -> None:
    self.release()


# Locks of this process by their files.
_held: dict[pathlib.Path, Lock] = {}


@contextlib.contextmanager
def hold(folder: disk.Path) -> Iterator[None]:
  """Holds the lock of a folder, also within itself.

  Args:
    folder: what is written is in it, or in a folder below; created if missing.
      If this thread holds the lock of it, or of a folder above, that will do.

  Raises:
    HeldError: there is another writer, which may be another thread.
    DiskError: the folder cannot be written to.
  """
  place = _real(folder)
  mine = any(_is_mine(above) for above in (place, *place.parents))
  with contextlib.nullcontext() if mine else take(place):
    yield


def take(folder: disk.Path) -> Lock:
  """Takes the lock of a folder, until it is released.

  Args:
    folder: created if missing. The lock of a folder above is not taken; if
      another writer has it, it has this folder too.

  Returns:
    The lock, a context manager that releases it.

  Raises:
    HeldError: there is another writer, which may be of this process.
    DiskError: the folder cannot be written to.
  """
  folder = _real(folder)
  path = folder / NAME
  for above in folder.parents:
    if _is_mine(above):
      break
    if not _is_free(above / NAME):
      raise _refusal(above / NAME)
  check(folder)
  if path in _held:
    raise _refusal(path)
  with disk.explained(folder):
    folder.mkdir(parents=True, exist_ok=True)
    number = os.environ.get(_HANDED, '')
    handed = number.isdecimal() and _is_at(int(number), path)
    descriptor = int(number) if handed else _open(path)
    lock = Lock(path, descriptor, handed=handed)
    if _held.setdefault(path, lock) is not lock:
      raise _refusal(path)
    try:
      _sign(descriptor)
    except OSError:
      lock.release()
      raise
  return lock


def check(path: disk.Path) -> None:
  """Raises unless folders that this process has locked are still there.

  Args:
    path: what is to be written; locks of other folders do not matter.

  Raises:
    GoneError: a folder that it is in was deleted or moved, or its lock was.
  """
  place = _real(path)
  for lock in [*_held.values()]:
    if place.is_relative_to(lock.folder) and not lock.is_there():
      raise GoneError(
        f'{lock.folder} or the file {NAME} in it was deleted or moved while '
        'this process wrote there: it ends, and writes nothing more.'
      )


def remove_temporary(folder: disk.Path) -> None:
  """Deletes what killed writers have left in a folder, and below.

  Args:
    folder: whose lock this process holds. Folders below that have another
      writer are left alone.
  """
  for here, below, names in os.walk(folder):
    place = pathlib.Path(here)
    below[:] = [name for name in below if _is_free(place / name / NAME)]
    for name in filter(disk.is_temporary, names):
      with disk.explained(place / name):
        (place / name).unlink(missing_ok=True)


def _real(path: disk.Path) -> pathlib.Path:
  """A path without links, so that one folder has one lock."""
  return pathlib.Path(os.path.realpath(path))


def _me() -> tuple[int, int]:
  """Process and thread."""
  return os.getpid(), threading.get_ident()


def _is_mine(folder: pathlib.Path) -> bool:
  lock = _held.get(folder / NAME)
  return lock is not None and lock.owner == _me()


def _open(path: pathlib.Path) -> int:
  """Opens a lock's file and locks it."""
  while True:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
      if not _locked(descriptor, path, fcntl.LOCK_EX):
        raise _refusal(path)
      # It may have been deleted by its owner before it was locked.
      if _is_at(descriptor, path):
        _warn_of_other_host(path)
        return descriptor
    except BaseException:
      os.close(descriptor)
      raise
    os.close(descriptor)


def _is_free(path: pathlib.Path) -> bool:
  """Whether there is no lock, or nobody holds it."""
  try:
    file = open(path, 'rb')
  except OSError:
    # There is none, or this user may not even read it.
    return True
  with file:
    return _locked(file.fileno(), path, fcntl.LOCK_SH)


def _locked(descriptor: int, path: pathlib.Path, kind: int) -> bool:
  """Whether a file could be locked; true with a warning if none can."""
  try:
    fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  except OSError as error:
    if error.errno not in _UNSUPPORTED:
      raise
    logging.warning(
      'The file system of %s cannot lock files (%s): a second run in this '
      'folder would not be noticed, so start none.',
      path.parent,
      error.strerror,
    )
  return True


def _is_at(descriptor: int, path: pathlib.Path) -> bool:
  """Whether an open file is the one at a path."""
  with contextlib.suppress(OSError):
    return os.path.samestat(os.fstat(descriptor), os.stat(path))
  return False


def _sign(descriptor: int) -> None:
  """Writes who holds the lock."""
  now = datetime.datetime.now().astimezone()
  owner = {
    'pid': os.getpid(),
    'host': socket.gethostname(),
    'command': shlex.join(sys.argv),
    'since': now.isoformat(' ', 'seconds'),
  }
  os.ftruncate(descriptor, 0)
  os.pwrite(descriptor, json.dumps(owner).encode(), 0)


def _owner(path: pathlib.Path) -> dict[str, Any]:
  """What `_sign` has written, or {} where it has not."""
  try:
    owner = json.loads(path.read_bytes())
  except (OSError, ValueError):
    return {}
  return owner if isinstance(owner, dict) else {}


def _refusal(path: pathlib.Path) -> HeldError:
  owner = _owner(path)
  who = 'another process'
  if owner:
    who = (
      f'process {owner.get("pid")} ({owner.get("command")}) on '
      f'{owner.get("host")}, since {owner.get("since")}'
    )
  return HeldError(
    f'{path.parent} has a writer already: {who}. Wait until it has ended, stop '
    'it, or name another folder.'
  )


def _warn_of_other_host(path: pathlib.Path) -> None:
  """Warns if the last owner was on another host and did not end well."""
  host = _owner(path).get('host', '')
  if host and host != socket.gethostname():
    logging.warning(
      '%s was last written to from %s, by a process that was killed, or that '
      'still runs if this file system keeps locks to each host: make sure that '
      'it does not.',
      path.parent,
      host,
    )

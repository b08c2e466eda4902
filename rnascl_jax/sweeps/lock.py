"""A file that says which process runs a row, so that no other one does.

It is created in one step, which only one process can do, also over a network
file system. The file of a process of this host that is no more is taken over.
A sweep that was killed may leave its command running, so that one counts too.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
from collections.abc import Callable, Iterator

from rnascl_jax import files

_NAME = 'sweep.lock'


class LockedError(Exception):
  """Another process runs the row."""


@contextlib.contextmanager
def hold(folder: pathlib.Path) -> Iterator[Callable[[int], None]]:
  """Holds the lock of a row while it is run.

  Args:
    folder: of the row; it is created.

  Yields:
    A function that notes the process id of the command under way.

  Raises:
    LockedError: another process holds it; the message says which.
  """
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / _NAME
  _take(folder, path)
  try:
    yield lambda child: files.write_json(path, _owner(child))
  finally:
    path.unlink(missing_ok=True)


def _owner(child: int = 0) -> dict[str, str | int]:
  return {'host': socket.gethostname(), 'pid': os.getpid(), 'command': child}


def _take(folder: pathlib.Path, path: pathlib.Path) -> None:
  """Creates the file; one taker of this host after the other."""
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    # Some file systems cannot; there two may take over at the same moment.
    with contextlib.suppress(OSError):
      fcntl.flock(descriptor, fcntl.LOCK_EX)
    if path.exists() and _is_stale(path):
      path.unlink()
    with open(path, 'x', encoding='utf-8') as file:
      json.dump(_owner(), file)
  except FileExistsError:
    raise LockedError(
      f'{path} says that it is run by {_text(path)}; remove that file if it is '
      'not.'
    ) from None
  finally:
    os.close(descriptor)


def _is_stale(path: pathlib.Path) -> bool:
  """Whether its processes were of this host and are no more."""
  try:
    owner = files.read_json(path)
    known = owner['host'] == socket.gethostname()
    return known and not any(map(_lives, (owner['pid'], owner['command'])))
  except (OSError, ValueError, KeyError, TypeError):
    # It is gone, or being written.
    return False


def _lives(pid: int) -> bool:
  if not pid:
    return False
  try:
    os.kill(pid, 0)
  except ProcessLookupError:
    return False
  except PermissionError:
    pass
  return True


def _text(path: pathlib.Path) -> str:
  try:
    owner = files.read_json(path)
    return f'process {owner["pid"]} on {owner["host"]}'
  except (OSError, ValueError, KeyError, TypeError):
    return 'another process'

"""Paths as people write them: `~`, file:// and what is not in a file system.

Example:
  >>> from rnascl_jax.runtime import paths
  >>> paths.local('file:///data/my%20runs')
  PosixPath('/data/my runs')
"""

import os
import pathlib
import re
import sys
import urllib.parse

_SCHEME = re.compile('([a-z][a-z0-9+.-]*):(/.*|$)', re.IGNORECASE | re.DOTALL)


class PathError(ValueError):
  """A path that names no place in a file system."""


def local(
  path: str | bytes | os.PathLike[str], what: str = 'path'
) -> pathlib.Path:
  """The place in the file system that a path names.

  Args:
    path: from the current folder or absolute; it may begin with `~`, `~user` or
      `file://`. What it names need not exist.
    what: is named, for messages: a flag, a field or an argument.

  Returns:
    The absolute path, of which `local` gives the same again.

  Raises:
    PathError: it is empty, is of a user who is not known, is no text in the
      encoding of the file system, or is of another scheme, such as gs://.
  """
  text = os.fsdecode(path)
  if not text.strip():
    raise PathError(
      f'{what}={text!r} names nothing; is a variable of the shell not set?'
    )
  match = _SCHEME.fullmatch(text)
  if match:
    text = _of_url(text, match[1].lower(), match[2], what)
  expanded = os.path.expanduser(text)
  if expanded.startswith('~'):
    raise PathError(
      f'{what}={text!r}: there is no user {text.split("/")[0][1:]!r}; write '
      'the whole path, from / on.'
    )
  try:
    os.path.abspath(expanded).encode()
  except UnicodeEncodeError:  # Bytes that `os.fsdecode` could not decode.
    raise PathError(
      f'{what}={text!r} is not text in {sys.getfilesystemencoding()}, and '
      'checkpoints cannot be there: set PYTHONUTF8=1, or rename the folder.'
    ) from None
  return pathlib.Path(expanded).absolute()


def cache() -> pathlib.Path:
  """The folder of what this package keeps between runs and can make again.

  Raises:
    PathError: XDG_CACHE_HOME, or else the home of the user, names no place.
  """
  home = os.environ.get('XDG_CACHE_HOME') or '~/.cache'
  return local(home, 'XDG_CACHE_HOME') / 'rnascl_jax'


def _of_url(text: str, scheme: str, rest: str, what: str) -> str:
  """The path in a URL of a local file."""
  if scheme != 'file':
    raise PathError(
      f'{what}={text!r} is not in a file system: files are locked, replaced '
      f'and appended to, which {scheme}:// does not allow. Mount it (gcsfuse, '
      's3fs, rclone mount) and name the folder where it is mounted.'
    )
  host, slash, below = rest.removeprefix('//').partition('/')
  if (rest.startswith('//') and host not in ('', 'localhost')) or not slash:
    raise PathError(
      f'{what}={text!r} must be file:// and an absolute path, such as '
      'file:///data/runs, or the path alone.'
    )
  return urllib.parse.unquote(f'/{below}', errors='surrogateescape')

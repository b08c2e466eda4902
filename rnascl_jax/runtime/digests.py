"""SHA-256 of all files of a folder, in a file among them, checked on reading.

The file is what `sha256sum` writes, so that `sha256sum --check` reads it too.

Example:
  >>> import pathlib, tempfile
  >>> from rnascl_jax.runtime import digests
  >>> folder = pathlib.Path(tempfile.mkdtemp())
  >>> _ = (folder / 'a').write_bytes(b'1')
  >>> digests.write(folder)
  >>> digests.read(folder, 'a', remedy='Restore it from a copy.')
  b'1'
"""

import hashlib
import pathlib
import shlex

from rnascl_jax.runtime import files

NAME = 'sha256.txt'
_DIGITS = 64


def write(folder: pathlib.Path) -> None:
  """Writes the digests of all files of a folder into it."""
  lines = [f'{_digest(folder / name)}  {name}\n' for name in _names(folder)]
  files.write_atomically(folder / NAME, ''.join(lines))


def check(folder: pathlib.Path, *, remedy: str) -> None:
  """Checks that a folder has the files it had, and that they are the same.

  Args:
    folder: for which `write` was called.
    remedy: what the user can do if it is damaged, a whole sentence.

  Raises:
    DamagedFileError: a file is missing, new or another one; or there are no
      digests. The message names the file.
  """
  expected = _expected(folder, remedy)
  for name in sorted({*expected, *_names(folder)}):
    path = folder / name
    with files.naming(path, remedy):
      digest = _digest(path) if path.exists() else ''
    _compare(path, digest, expected.get(name, ''), remedy)


def read(folder: pathlib.Path, name: str, *, remedy: str) -> bytes:
  """Reads one file of a folder, and checks this file alone, as `check` does."""
  expected = _expected(folder, remedy).get(name, '')
  path = folder / name
  with files.naming(path, remedy):
    content = path.read_bytes() if path.exists() else b''
  _compare(path, hashlib.sha256(content).hexdigest(), expected, remedy)
  return content


def _names(folder: pathlib.Path) -> list[str]:
  """All files in a folder and its subfolders that are not hidden.

  File managers and network file systems leave hidden files of their own.
  """
  return [
    path.relative_to(folder).as_posix()
    for path in sorted(folder.rglob('*'))
    if path.is_file() and path.name != NAME and not path.name.startswith('.')
  ]


def _digest(path: pathlib.Path) -> str:
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _expected(folder: pathlib.Path, remedy: str) -> dict[str, str]:
  """The digests that were written, by name."""
  path = folder / NAME
  if not folder.is_dir():
    raise files.damaged(folder, 'it is not a folder', remedy)
  if not path.exists():
    raise files.damaged(
      folder,
      f'it has no file {NAME}, or was saved by a version that wrote none',
      f'{remedy} If you are sure that all of it is right, write the file: '
      f'cd {shlex.quote(str(folder))} && find . -type f ! -name {NAME} -exec '
      f'sha256sum {{}} + > {NAME}',
    )
  with files.naming(path, remedy):
    lines = path.read_text('utf-8').splitlines()
  # Two characters are between a digest and its name, which `find` begins with
  # a dot.
  return {
    line[_DIGITS + 2 :].removeprefix('./'): line[:_DIGITS] for line in lines
  }


def _compare(
  path: pathlib.Path, digest: str, expected: str, remedy: str
) -> None:
  if not expected:
    raise files.damaged(path, f'{NAME} does not name it', remedy)
  if not digest:
    raise files.damaged(path, 'it is missing', remedy)
  if digest != expected:
    raise files.damaged(path, f'its SHA-256 is not that in {NAME}', remedy)

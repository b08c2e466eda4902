"""Says which archive a file is, if a checkpoint may be inside of it."""

import io
import pathlib
import shlex
import zipfile

_CHECKPOINTS = ('.pt', '.pth', '.ckpt', '.bin', '.tar', '.safetensors')
_MOST_NAMED = 4
# By the first bytes of a file: what packed it, and what unpacks it.
_PACKED = {
  b'\x1f\x8b': ('gzip', 'gunzip -k'),
  b'BZh': ('bzip2', 'bunzip2 -k'),
  b'\xfd7zXZ': ('xz', 'unxz -k'),
  b'\x28\xb5\x2f\xfd': ('zstd', 'unzstd'),
  b"7z\xbc\xaf'\x1c": ('7-Zip', '7z x'),
  b'Rar!': ('RAR', 'unrar x'),
}


def described(path: pathlib.Path, content: bytes) -> str:
  """What a packed file is, and the command that unpacks it.

  Args:
    path: of the file.
    content: its bytes.

  Returns:
    A sentence; empty if it is not packed, or is a zip archive with a pickle, as
    files of `torch.save` are, or without a checkpoint.
  """
  what, command = _packed(path.name, content)
  if not what:
    return ''
  return (
    f'{path} is {what}, not a checkpoint: run "{command} '
    f'{shlex.quote(str(path))}", and name the checkpoint that was inside.'
  )


def _packed(name: str, content: bytes) -> tuple[str, str]:
  """What a file is, and the command without the file; empty for others."""
  if content.startswith(b'PK\x03\x04'):
    inside = _in_zip(content)
    return (f'a zip archive with {inside}', 'unzip') if inside else ('', '')
  if content[257:262] == b'ustar':
    return 'a tar archive', 'tar -xf'
  for begin, (program, command) in _PACKED.items():
    if content.startswith(begin):
      is_tar = '.tar.' in name or name.endswith(('.tgz', '.txz', '.tbz2'))
      return f'packed with {program}', 'tar -xf' if is_tar else command
  return '', ''


def _in_zip(content: bytes) -> str:
  """The checkpoints in a zip archive; empty for none."""
  try:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
      names = file.namelist()
  except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError):
    return ''  # A damaged file, of which reading tells more.
  if any(each.endswith('data.pkl') for each in names):
    return ''
  inside = [each for each in names if each.endswith(_CHECKPOINTS)]
  more = ', ...' if len(inside) > _MOST_NAMED else ''
  return ', '.join(map(repr, inside[:_MOST_NAMED])) + more

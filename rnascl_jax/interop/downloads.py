"""What a download leaves in the place of a checkpoint, and what to do then."""

import codecs
import io
import pathlib
import shlex
import zipfile

_CHECKPOINTS = ('.pt', '.pth', '.ckpt', '.bin', '.tar', '.safetensors')
_MOST_NAMED = 4
_WEB_PAGES = (b'<!doctype', b'<html', b'<?xml', b'<head')
# By the first bytes of a file: what packed it, and what unpacks it.
_PACKED = {
  b'\x1f\x8b': ('gzip', 'gunzip -k'),
  b'BZh': ('bzip2', 'bunzip2 -k'),
  b'\xfd7zXZ': ('xz', 'unxz -k'),
  b'\x28\xb5\x2f\xfd': ('zstd', 'unzstd'),
  b"7z\xbc\xaf'\x1c": ('7-Zip', '7z x'),
  b'Rar!': ('RAR', 'unrar x'),
}


def check(path: pathlib.Path, content: bytes) -> None:
  """Raises ValueError for an empty file, a web page, a pointer or an archive.

  Args:
    path: of the file.
    content: its bytes. A zip archive with a pickle, as files of `torch.save`
      are, or without a checkpoint is no error here.
  """
  text = content[:4096].removeprefix(codecs.BOM_UTF8).lstrip().lower()
  if not content:
    raise ValueError(f'{path} is empty: download it again.')
  if text.startswith(_WEB_PAGES):
    drive = b'google' in text or b'drive' in text
    raise ValueError(
      f'{path} is a web page, not a checkpoint'
      + (' (Google Drive asks before it gives large files)' if drive else '')
      + ': open the link in a browser and save the file itself, or for Google '
      'Drive use "pip install gdown; gdown FILE_ID".'
    )
  if text.startswith(b'version https://git-lfs'):
    raise ValueError(
      f'{path} is a pointer of Git LFS, not the file: run "git lfs pull".'
    )
  what, command = _packed(path.name, content)
  if what:
    raise ValueError(
      f'{path} is {what}, not a checkpoint: run "{command} '
      f'{shlex.quote(str(path))}", and name the checkpoint that was inside.'
    )


def _packed(name: str, content: bytes) -> tuple[str, str]:
  """What an archive is, and what unpacks it; empty for another file."""
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
  if any(name.endswith('data.pkl') for name in names):
    return ''
  inside = [name for name in names if name.endswith(_CHECKPOINTS)]
  more = ', ...' if len(inside) > _MOST_NAMED else ''
  return ', '.join(map(repr, inside[:_MOST_NAMED])) + more

"""Digests of folders: what is noticed, and what is said."""

import shutil
import subprocess

import pytest

from rnascl_jax.runtime import digests, files

_REMEDY = 'Restore it from a copy.'


@pytest.fixture
def folder(tmp_path):
  place = tmp_path / 'step'
  (place / 'state').mkdir(parents=True)
  (place / 'state' / 'a').write_bytes(b'0123456789')
  (place / 'b').write_bytes(b'x')
  digests.write(place)
  return place


def test_no_flipped_bit_changes_what_is_read(folder):
  """Every byte of every file, that of the digests included.

  A hidden file of a file manager does no harm.
  """
  (folder / '.DS_Store').touch()
  digests.check(folder, remedy=_REMEDY)
  noticed = 0
  for path in [p for p in folder.rglob('*') if p.is_file()]:
    content = path.read_bytes()
    for index in range(len(content)):
      flipped = bytearray(content)
      flipped[index] ^= 1 << index % 8
      path.write_bytes(flipped)
      try:
        digests.check(folder, remedy=_REMEDY)
        assert digests.read(folder, 'b', remedy=_REMEDY) == b'x'
      except files.DamagedFileError as error:
        assert f'{folder}' in str(error) and _REMEDY in str(error)
        noticed += 1
        continue
      # Only the two characters between a digest and a name say nothing.
      assert path.name == digests.NAME
    path.write_bytes(content)
  assert noticed > 140


@pytest.mark.parametrize(
  'damage, name, message',
  [
    (lambda f: (f / 'b').unlink(), 'b', 'it is missing'),
    (lambda f: (f / 'b').write_bytes(b''), 'b', 'SHA-256 is not that in'),
    (lambda f: (f / 'c').write_bytes(b''), 'c', 'does not name it'),
    (lambda f: (f / 'sha256.txt').write_bytes(b''), 'b', 'does not name it'),
    (lambda f: (f / 'sha256.txt').write_bytes(b'\xff'), 'sha256.txt', 'Unic'),
    (lambda f: ((f / 'b').unlink(), (f / 'b').mkdir()), 'b', 'Is a directory'),
    (lambda f: (shutil.rmtree(f), f.touch()), '', 'it is not a folder'),
  ],
)
def test_what_is_lost_new_or_of_another_kind_is_named(
  folder, damage, name, message
):
  damage(folder)
  with pytest.raises(files.DamagedFileError, match=message) as error:
    digests.check(folder, remedy=_REMEDY)
  assert str(error.value).startswith(f'{folder / name} is damaged: ')


def test_a_folder_without_digests_is_taken_after_the_command_it_is_told(folder):
  """A checkpoint of an earlier version, whose files are right."""
  (folder / digests.NAME).unlink()
  with pytest.raises(
    files.DamagedFileError, match='a version that wrote none'
  ) as e:
    digests.check(folder, remedy=_REMEDY)
  command = str(e.value).split('write the file: ')[1]
  subprocess.run(['sh', '-c', command], check=True)
  digests.check(folder, remedy=_REMEDY)
  assert digests.read(folder, 'state/a', remedy=_REMEDY) == b'0123456789'

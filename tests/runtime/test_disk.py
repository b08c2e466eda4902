"""A disk that takes no more is named in a sentence, and left as it was."""

import contextlib
import errno
import os
import resource
import zipfile

import numpy as np
import pytest

from rnascl_jax.runtime import checkpoints, disk, files, lock, metrics


@contextlib.contextmanager
def _full(size: int):
  """The system writes no file of more bytes, and a part of what exceeds it."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_with_the_space_that_is_left(tmp_path, monkeypatch):
  def full(descriptor):
    raise OSError(errno.ENOSPC, 'No space left on device')

  files.write_atomically(tmp_path / 'a.txt', 'old')
  monkeypatch.setattr(os, 'fsync', full)
  with pytest.raises(
    disk.DiskError,
    match=r'a\.txt cannot be written: No space left on device\. Free some '
    r'space on the disk of .*, which has [\d,.]+ MB left, and give the same',
  ):
    files.write_atomically(tmp_path / 'a.txt', 'new')
  assert (tmp_path / 'a.txt').read_text() == 'old'
  assert os.listdir(tmp_path) == ['a.txt']


@pytest.mark.parametrize('number', [errno.EROFS, errno.EACCES])
def test_a_folder_that_is_read_only_is_said_to_be_that(
  number, tmp_path, monkeypatch
):
  def refuse(*arguments, **named):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(os, 'makedirs', refuse)
  monkeypatch.setattr(os, 'open', refuse)
  for write in (
    lambda: files.write_json(tmp_path / 'a' / 'b.json', 1),
    lambda: files.JsonLines(tmp_path / 'a' / 'b.jsonl'),
    lambda: metrics.open_writer(tmp_path / 'a', last_step=None),
    lambda: checkpoints.Checkpoints(tmp_path / 'a'),
  ):
    with pytest.raises(disk.DiskError, match='Name a folder that you may wri'):
      write()


def _torch_save(file):
  torch = pytest.importorskip('torch')
  torch.save({'w': torch.ones(9999)}, file)


def _figure(file):
  from matplotlib.figure import Figure

  Figure().savefig(file, format='png')


@pytest.mark.parametrize(
  'write',
  [
    lambda file: np.savez(file, *np.ones((9, 99))),
    lambda file: np.save(file, np.ones(9999)),
    _torch_save,
    _figure,
  ],
)
def test_whatever_writes_a_file_it_is_whole_or_not_there(write, tmp_path):
  said = 'File too large|9999 requested and .* written. Free some space'
  with _full(1000), pytest.raises(disk.DiskError, match=said):
    with files.replacing(tmp_path / 'a') as file:
      write(file)
  assert not os.listdir(tmp_path)


def test_a_line_is_whole_or_not_there(tmp_path):
  with files.JsonLines(tmp_path / 'a.jsonl') as lines, _full(100):
    with pytest.raises(disk.DiskError, match='File too large'):
      for step in range(99):
        lines.write({'step': step, 'name': 30 * 'x'})
  text = (tmp_path / 'a.jsonl').read_text()
  assert text.endswith('}\n') and 1 <= text.count('\n') == step


def test_a_full_disk_ends_a_run_that_writes_events(tmp_path):
  """And does not let it wait for a thread that has ended."""
  with pytest.raises(disk.DiskError, match='File too large'):
    with metrics.open_writer(tmp_path, last_step=None) as writer, _full(4000):
      for step in range(99):
        writer.write(step, {'loss': 1.0}, split='train')


def test_a_checkpoint_that_finds_no_space_leaves_the_one_before(
  tmp_path, caplog
):
  draw = np.random.default_rng(0).normal
  with checkpoints.Checkpoints(tmp_path) as saved:
    saved.save(1, {'w': np.ones(2)})
    saved.wait()
    with _full(20_000), pytest.raises(disk.DiskError, match='File too large'):
      saved.save(2, {f'w{index}': draw(size=9999) for index in range(30)})
      saved.wait()
    names = set(os.listdir(tmp_path))
  # Threads of Orbax may write for a moment more; the next run deletes that.
  assert {n for n in names if not n.endswith('-tmp')} == {'1', lock.NAME}
  # A sentence, and not the tracebacks of threads of Orbax and tensorstore.
  assert not caplog.records
  with checkpoints.Checkpoints(tmp_path) as saved:
    assert saved.restore_last({'w': np.ones(2)}).step == 1
    saved.save(2, {'w': np.zeros(2)})
    assert saved.last_step() == 2


def test_what_is_not_the_disk_s_fault_stays_what_it_is(tmp_path):
  for error in (ValueError('x'), KeyError('x'), zipfile.BadZipFile('x')):
    with pytest.raises(type(error), match='x') as caught:
      with disk.explained(tmp_path):
        raise error
    assert caught.value is error
  with pytest.raises(disk.DiskError, match='cannot be written: odd.$'):
    with disk.explained(tmp_path):
      raise OSError('odd')


def test_a_step_that_was_saved_counts_where_an_older_one_cannot_be_deleted(
  tmp_path, monkeypatch
):
  def refuse(folder):
    raise OSError(errno.EROFS, 'Read-only file system')

  with checkpoints.Checkpoints(tmp_path) as saved:
    for step in (1, 2):
      saved.save(step, {'w': np.ones(1)})
    saved.wait()
    monkeypatch.setattr(checkpoints, '_delete', refuse)
    with pytest.raises(disk.DiskError, match='/1 cannot be written: Read-only'):
      saved.save(3, {'w': np.ones(1)})
      saved.wait()
    assert saved.last_step() == 3

"""A folder has one writer, who is named to others; it may be deleted."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent import futures

import numpy as np
import pytest

from rnascl_jax import stages
from rnascl_jax.evaluation import adversarial_images
from rnascl_jax.evaluation.attack_journal import AttackJournal
from rnascl_jax.runtime import (
  checkpoints,
  files,
  lock,
  metrics,
  saved_variables,
)
from rnascl_jax.stages import run as runs
from tests import tiny

_OTHER = """
import fcntl, sys
file = open(sys.argv[1], 'w')
fcntl.flock(file, fcntl.LOCK_EX)
file.write('{"pid": 7, "host": "far", "command": "train.py", "since": "noon"}')
file.flush()
print('held', flush=True)
sys.stdin.read()
"""
_WHO = r'has a writer already: process 7 \(train.py\) on far, since noon'


@contextlib.contextmanager
def _another_process(folder):
  """Another process writes in a folder."""
  folder.mkdir(parents=True, exist_ok=True)
  with subprocess.Popen(
    [sys.executable, '-c', _OTHER, folder / lock.NAME],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  ) as process:
    assert process.stdout.readline() == b'held\n'
    yield process
    process.kill()


def test_second_writer_is_refused_and_told_who_holds_the_workdir(tmp_path):
  for folder in (tmp_path / 'run', tmp_path / 'run' / 'teacher'):
    with _another_process(tmp_path / 'run') as process:
      with pytest.raises(lock.HeldError, match=_WHO):
        lock.take(folder)
    # A killed one leaves its file, which blocks nobody.
    assert process.wait() < 0 and (tmp_path / 'run' / lock.NAME).exists()
    with lock.take(folder):
      owner = json.loads((folder / lock.NAME).read_text())
      assert owner['pid'] == os.getpid()
    assert not (folder / lock.NAME).exists()


@pytest.mark.parametrize('content', ['', '{', '[]', '{"pid": 1}'])
def test_what_stands_in_a_lock_file_that_nobody_holds_does_not_matter(
  content, tmp_path
):
  (tmp_path / lock.NAME).write_text(content)
  with lock.take(tmp_path):
    pass


def test_a_thread_may_hold_a_folder_within_itself_and_another_may_not(tmp_path):
  refused = []

  def second():
    try:
      with lock.hold(tmp_path):
        pass
    except lock.HeldError as error:
      refused.append(str(error))

  with lock.hold(tmp_path), lock.hold(tmp_path), lock.hold(tmp_path / 'a'):
    thread = threading.Thread(target=second)
    thread.start()
    thread.join()
  assert f'process {os.getpid()} ' in refused[0]
  second()
  assert len(refused) == 1


def test_of_many_that_find_a_stale_lock_one_holds_it(tmp_path):
  (tmp_path / lock.NAME).write_text('{"pid": 1}')
  start = threading.Barrier(8)

  def take(_):
    start.wait()
    try:
      return lock.take(tmp_path)
    except lock.HeldError:
      return None

  with futures.ThreadPoolExecutor(8) as pool:
    (held,) = filter(None, pool.map(take, range(8)))
  held.release()


def test_a_lock_file_that_its_owner_deletes_is_not_taken_for_the_lock(
  tmp_path, monkeypatch
):
  real, files_locked = fcntl.flock, []

  def flock(descriptor, kind):
    if not files_locked:
      (tmp_path / lock.NAME).unlink()
    files_locked.append(os.fstat(descriptor).st_ino)
    real(descriptor, kind)

  monkeypatch.setattr(fcntl, 'flock', flock)
  with lock.take(tmp_path) as held:
    assert held.is_there() and len(files_locked) == 2


def test_a_file_system_that_cannot_lock_is_named(tmp_path, monkeypatch, caplog):
  def flock(descriptor, kind):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(fcntl, 'flock', flock)
  with lock.take(tmp_path):
    pass
  assert f'The file system of {tmp_path} cannot lock files' in caplog.text


def test_a_killed_writer_on_another_host_is_named(tmp_path, caplog):
  """Its file system may keep locks to each host, and it may still run."""
  (tmp_path / lock.NAME).write_text('{"pid": 1, "host": "far"}')
  with lock.take(tmp_path):
    pass
  assert f'{tmp_path} was last written to from far' in caplog.text


def test_a_second_writer_of_metrics_is_refused_and_the_first_goes_on(tmp_path):
  with metrics.open_writer(tmp_path, last_step=None) as first:
    first.write(10, {'loss': 1.0})
    with pytest.raises(lock.HeldError):
      metrics.open_writer(tmp_path, last_step=None)
    first.write(20, {'loss': 0.5})
  lines = files.read_json_lines(tmp_path / 'metrics.jsonl')
  assert [line['step'] for line in lines] == [10, 20]


def test_checkpoints_that_another_one_saves_are_only_read(tmp_path):
  with checkpoints.Checkpoints(tmp_path) as first:
    first.save(1, {'w': np.ones(2)})
    first.wait()
    unfinished = tmp_path / '2.orbax-checkpoint-tmp'
    unfinished.mkdir()
    with pytest.raises(lock.HeldError):
      checkpoints.Checkpoints(tmp_path)
    assert unfinished.exists()
    with checkpoints.Checkpoints(tmp_path, read_only=True) as read:
      assert read.last_step() == 1


def test_checkpoints_and_a_journal_are_not_opened_beside_another_process(
  tmp_path,
):
  with _another_process(tmp_path):
    for open_folder in (checkpoints.Checkpoints, AttackJournal):
      with pytest.raises(lock.HeldError, match=_WHO):
        with open_folder(tmp_path):
          pass


_STAGES = ['teacher', 'search', 'train', 'adversarial', 'evaluate', 'pipeline']


@pytest.mark.parametrize('stage', [*_STAGES, 'report'])
def test_a_second_command_in_a_workdir_changes_nothing(stage, tmp_path):
  config = tiny.config()
  tiny.opened(config, str(tmp_path))
  with _another_process(tmp_path):
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}
    # Settings that may change are changed by nobody but the writer.
    config.evaluation.max_images = 7
    arguments = (
      [str(tmp_path)] if stage == 'report' else [config, str(tmp_path)]
    )
    with pytest.raises(lock.HeldError, match=_WHO):
      getattr(stages, stage)(*arguments)
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob('*')}


_WRITES = {
  'a file': lambda folder: files.write_json(folder / 'a.json', {}),
  'lines': lambda folder: files.JsonLines(folder / 'x' / 'a.jsonl'),
  'checkpoints': lambda folder: checkpoints.Checkpoints(folder / 'c'),
  'variables': lambda folder: saved_variables.save(
    folder / 'model', {'w': np.ones(1)}, {}
  ),
  'metrics': lambda folder: metrics.open_writer(folder, last_step=None),
  'images': lambda folder: adversarial_images.replace(
    folder / 'a', folder / 'b'
  ),
}


@pytest.mark.parametrize('change', ['deleted', 'moved', 'made anew'])
@pytest.mark.parametrize('write', _WRITES)
def test_a_workdir_that_is_deleted_under_a_run_is_not_made_again(
  write, change, tmp_path
):
  folder = tmp_path / 'run'
  with lock.hold(folder):
    if change == 'moved':
      folder.rename(tmp_path / 'other')
    else:
      shutil.rmtree(folder)
    if change == 'made anew':
      folder.mkdir()
    with pytest.raises(lock.GoneError, match=f'{folder} or the file.*deleted'):
      _WRITES[write](folder)
    assert folder.exists() == (change == 'made anew')
    assert not folder.exists() or not os.listdir(folder)


def test_a_run_ends_at_its_next_line_or_checkpoint_if_it_is_deleted(tmp_path):
  folder = tmp_path / 'run'
  with (
    lock.hold(folder),
    metrics.open_writer(folder / 'a', last_step=None) as writer,
    checkpoints.Checkpoints(folder / 'a' / 'c') as saved,
  ):
    saved.save(1, {'w': np.ones(2)})
    saved.wait()
    shutil.rmtree(folder)
    with pytest.raises(lock.GoneError):
      saved.save(2, {'w': np.ones(2)})
      saved.wait()
    with pytest.raises(lock.GoneError):
      writer.write(2, {'loss': 1.0})
  assert not folder.exists()


def test_what_a_run_misses_in_a_deleted_workdir_is_the_workdir(tmp_path):
  folder = tmp_path / 'run'
  with pytest.raises(lock.GoneError):
    with runs.open_run(tiny.config(), str(folder)):
      shutil.rmtree(folder)
      saved_variables.load(folder / 'teacher' / 'model')
  assert not folder.exists()


@pytest.mark.parametrize('path', ['', '  '])
def test_an_empty_workdir_is_refused(path, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'config.json').write_text('{}')
  for call in (
    lambda: stages.pipeline(tiny.config(), path),
    lambda: stages.report(path),
  ):
    with pytest.raises(ValueError, match='names nothing'):
      call()
  assert os.listdir(tmp_path) == ['config.json']


def test_a_folder_has_one_lock_by_whatever_link_it_is_reached(tmp_path):
  (tmp_path / 'link').symlink_to('real')
  (tmp_path / 'real').mkdir()
  with lock.hold(tmp_path / 'real'), lock.hold(tmp_path / 'link' / 'stage'):
    shutil.rmtree(tmp_path / 'real')
    with pytest.raises(lock.GoneError):
      files.write_json(tmp_path / 'link' / 'stage' / 'a.json', {})
  assert not (tmp_path / 'real').exists()


def test_what_a_kill_left_is_deleted_but_not_below_another_writer(tmp_path):
  """By a run that opens the workdir; what is not of this program stays."""
  left = [tmp_path / name / '.a.json.0a1b2c3d.tmp' for name in ('.', 'x', 'y')]
  (tmp_path / '.notes.tmp').touch()
  with _another_process(tmp_path / 'y'):
    for path in left:
      path.parent.mkdir(exist_ok=True)
      path.touch()
    tiny.opened(tiny.config(), str(tmp_path))
    assert [path.exists() for path in left] == [False, False, True]
  assert (tmp_path / '.notes.tmp').exists()


def test_what_cannot_be_read_elsewhere_is_not_the_workdir_s_fault(tmp_path):
  with (
    pytest.raises(PermissionError, match='/data/a'),
    runs.open_run(tiny.config(), str(tmp_path / 'run')),
  ):
    raise PermissionError(errno.EACCES, 'Permission denied', '/data/a')

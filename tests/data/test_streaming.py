"""Tests of rnascl_jax.data.streaming."""

import contextlib
import functools
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from rnascl_jax.data import batches, images, streaming
from rnascl_jax.data.datasets import Split, StoredImages
from tests import tiny_imagenet

IMAGES, BATCH, EPOCHS = 14, 4, 3
STEPS = IMAGES // BATCH
ORDER = functools.partial(
  batches.batch_order, 7, num_examples=IMAGES, batch_size=BATCH
)


def split(encoded=None):
  source = tiny_imagenet.Encoded(encoded or tiny_imagenet.photographs(IMAGES))
  stored = StoredImages(source, np.arange(IMAGES), 24, name='tiny train')
  return Split(stored, np.arange(100, 100 + IMAGES, dtype=np.int32))


def stream(data=None, **changes):
  options = {
    'steps_per_epoch': STEPS,
    'epochs': EPOCHS,
    'first_step': 0,
    'positions': np.arange(BATCH),
    'seed': 5,
    'min_crop': 0.2,
    'workers': 0,
    **changes,
  }
  return streaming.training_batches(data or split(), ORDER, **options)


def read(**changes):
  with stream(**changes) as batches_of:
    return [(x.copy(), y.copy()) for x, y in batches_of]


def assert_equal(first, second):
  assert len(first) == len(second)
  for a, b in zip(first, second, strict=True):
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])


@pytest.fixture(scope='module')
def whole():
  """All batches of a training, made by threads."""
  return read()


def test_batches_are_crops_of_the_images_in_their_order(whole):
  assert len(whole) == EPOCHS * STEPS
  encoded = tiny_imagenet.photographs(IMAGES)
  for step, (pixels, labels) in enumerate(whole):
    assert (pixels.shape, pixels.dtype) == ((BATCH, 24, 24, 3), np.uint8)
    assert labels.dtype == np.int32
    rows = ORDER(step // STEPS)[step % STEPS]
    np.testing.assert_array_equal(labels, 100 + rows)
    for position, row in enumerate(rows):
      draws = images.uniforms(5, step, position)
      np.testing.assert_array_equal(
        pixels[position],
        images.training_image(encoded[row], 24, draws, min_area=0.2),
      )


def test_two_workers_make_the_batches_of_threads(whole):
  assert_equal(read(workers=2), whole)
  assert not multiprocessing.active_children()


@pytest.mark.parametrize('first_step', [1, STEPS, EPOCHS * STEPS])
def test_a_resumed_stream_is_the_rest_of_an_uninterrupted_one(
  whole, first_step
):
  assert_equal(read(first_step=first_step), whole[first_step:])


def test_a_training_that_is_complete_needs_no_workers():
  assert read(first_step=EPOCHS * STEPS, workers=2) == []


def test_the_shares_of_processes_are_one_batch(whole):
  places = np.array([2, 0]), np.array([1, 3])
  shares = [read(positions=own) for own in places]
  for step, (pixels, labels) in enumerate(whole):
    for own, share in zip(places, shares, strict=True):
      np.testing.assert_array_equal(share[step][0], pixels[own])
      np.testing.assert_array_equal(share[step][1], labels[own])


def test_an_image_is_cropped_anew_in_every_epoch_and_by_every_seed(whole):
  def crops(pairs, label):
    return {x[y == label].tobytes() for x, y in pairs if (y == label).any()}

  counts = [len(crops(whole, 100 + row)) for row in range(IMAGES)]
  # 12 of 14 images are in an epoch, and no crop is ever made again.
  assert sum(counts) == EPOCHS * STEPS * BATCH
  other = read(seed=6)
  assert not any(
    crops(whole, 100 + row) & crops(other, 100 + row) for row in range(IMAGES)
  )


def test_the_whole_image_is_the_only_crop_of_least_area_one():
  encoded = [tiny_imagenet.photograph(30, 30, seed=i) for i in range(IMAGES)]
  with stream(split(encoded), min_crop=1.0) as batches_of:
    pixels, labels = next(batches_of)
  # No ratio but 1 fits: the centre, which is all of it.
  expected = images.training_image(
    encoded[labels[0] - 100], 24, [0.5] * 40, min_area=1.0
  )
  np.testing.assert_array_equal(pixels[0], expected)


@pytest.mark.parametrize('workers', [0, 1])
def test_a_damaged_image_ends_the_stream_with_its_name(workers):
  encoded = tiny_imagenet.photographs(IMAGES)
  damaged = int(ORDER(0)[1, 2])
  encoded[damaged] = encoded[damaged][:100]
  with stream(split(encoded), workers=workers) as batches_of:
    next(batches_of)
    with pytest.raises(ValueError, match=f'record {damaged} of tiny train'):
      next(batches_of)
  assert not multiprocessing.active_children()


def test_a_killed_worker_ends_the_stream():
  with stream(epochs=1000, workers=1) as batches_of:
    next(batches_of)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match='decodes images has died.*killed'):
      for _ in batches_of:
        pass


def test_a_stream_that_is_closed_or_forgotten_ends_its_workers():
  batches_of = stream(epochs=1000, workers=1)
  next(batches_of)
  assert multiprocessing.active_children()
  del batches_of
  assert not multiprocessing.active_children()
  closed = stream()
  closed.close()
  closed.close()
  with pytest.raises(ValueError, match='closed'):
    next(closed)


def endless(path):
  """What the next test runs in a process of its own, until it is killed."""
  with stream(epochs=10**6, workers=1) as batches_of:
    next(batches_of)
    (worker,) = multiprocessing.active_children()
    pathlib.Path(path).write_text(str(worker.pid))
    # As a scheduler sends it to all processes of a run.
    os.kill(worker.pid, signal.SIGTERM)
    for _ in range(10):
      next(batches_of)
    os.kill(os.getpid(), signal.SIGKILL)


def alive(process):
  try:
    status = pathlib.Path(f'/proc/{process}/stat').read_text()
  except FileNotFoundError:
    return False
  # Dead, but nobody has asked yet how it ended.
  return status.rpartition(')')[2].split()[0] != 'Z'


@pytest.mark.skipif(sys.platform != 'linux', reason='/proc is of Linux.')
def test_workers_outlive_a_signal_but_not_the_process_they_work_for(tmp_path):
  code = (
    "if __name__ == '__main__':\n"
    '  from tests.data import test_streaming\n'
    f'  test_streaming.endless({str(tmp_path / "worker")!r})\n'
  )
  with open(tmp_path / 'log', 'w') as log:
    done = subprocess.run(
      [sys.executable, '-c', code], stdout=log, stderr=log, timeout=60
    )
  worker = int((tmp_path / 'worker').read_text())
  try:
    assert done.returncode == -signal.SIGKILL, (tmp_path / 'log').read_text()
    for _ in range(100):
      if not alive(worker):
        return
      time.sleep(0.1)
    pytest.fail(f'worker {worker} is still there.')
  finally:
    with contextlib.suppress(ProcessLookupError):
      os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'first_step': EPOCHS * STEPS + 1}, r'first_step=10 must lie in \[0, 9\]'),
    ({'first_step': -1}, 'first_step=-1'),
    ({'seed': -1}, 'seed=-1 must lie in'),
    ({'min_crop': -0.5}, r'min_crop=-0.5 must lie in \[0, 1\]'),
    ({'min_crop': 1.5}, 'min_crop=1.5'),
    ({'workers': -2}, 'workers=-2 must be at least -1'),
  ],
)
def test_arguments_out_of_their_range_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    stream(**changes)


def test_images_in_memory_are_refused():
  with pytest.raises(ValueError, match='in memory'):
    stream(Split(np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, np.int32)))


@pytest.mark.parametrize(
  'code, cause', [(1, '__main__'), (-7, '/dev/shm'), (-9, 'memory runs out')]
)
def test_what_may_have_killed_a_worker_is_said(code, cause):
  error = RuntimeError(f'Worker process ended with exit code {code}. Search')
  assert cause in str(streaming._explained(error))
  other = RuntimeError('of something else')
  assert streaming._explained(other) is other


def test_one_core_is_left_for_the_main_process(monkeypatch):
  for cores, workers in ((1, 0), (2, 1), (16, 15)):
    monkeypatch.setattr(streaming.stored_images, 'cores', lambda n=cores: n)
    assert streaming.number_of_workers(-1) == workers
  assert streaming.number_of_workers(3) == 3

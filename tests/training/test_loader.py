"""How images come to the devices: which, in which order, and ahead of time."""

import contextlib
import io
import threading

import jax
import numpy as np
import pytest
from PIL import Image

from rnascl_jax.data import streaming
from rnascl_jax.data.datasets import Split, StoredImages
from rnascl_jax.runtime import parallel
from rnascl_jax.training import loader

SIDE, COUNT = 8, 12


class _Files:
  """Square images of one colour, as PNG files, which lose nothing."""

  def __getitems__(self, records):
    return [{'image': _encoded(record)} for record in records]


def _encoded(record: int) -> bytes:
  if record == 99:
    return b'no image'
  file = io.BytesIO()
  Image.new('RGB', (SIDE, SIDE), (record, 2 * record, 255)).save(file, 'PNG')
  return file.getvalue()


def _order(epoch: int) -> np.ndarray:
  """Two steps of six images, others in every epoch."""
  return np.roll(np.arange(COUNT), 5 * epoch).reshape(2, 6).astype(np.int32)


def _schedule(steps_per_dispatch: int = 1) -> loader.BatchSchedule:
  return loader.BatchSchedule(
    order=_order,
    parts=(4, 2),
    epochs=3,
    steps_per_epoch=2,
    steps_per_dispatch=steps_per_dispatch,
  )


@pytest.fixture(scope='module')
def stored() -> Split:
  images = StoredImages(_Files(), np.arange(COUNT), SIDE, name='colours')
  # No label is an index.
  return Split(images, (7 * np.arange(COUNT, dtype=np.int32) + 3) % 10 + 50)


def _streamed(split: Split, min_crop: float = 1.0) -> loader.Streamed:
  # A crop of the whole area of a square image is the image.
  return loader.Streamed(split, seed=3, min_crop=min_crop, workers=0)


def _read(
  data_loader: loader.Loader,
  schedule: loader.BatchSchedule,
  first: int,
  devices: int,
):
  """What each step gets: of each part, images, labels, indices by device."""
  devices = parallel.devices(devices)
  found = []
  with contextlib.closing(
    data_loader.dispatches(schedule, first, devices)
  ) as stream:
    for count, parts in stream:
      for step in range(count):
        of_step = []
        for part in parts:
          given = jax.tree.map(lambda x, s=step: np.asarray(x)[:, s], part)
          read = [
            data_loader.read(data_loader.data, _of(given, d))
            for d in range(len(devices))
          ]
          of_step.append([tuple(map(np.asarray, own)) for own in read])
        found.append(of_step)
  return found


def _of(given, device: int):
  return jax.tree.map(lambda x: x[device], given)


@pytest.mark.parametrize('devices', (1, 2))
@pytest.mark.parametrize('per_dispatch', (1, 2))
@pytest.mark.parametrize('min_crop', (0.0, 1.0))
def test_images_from_disk_reach_the_devices_as_those_in_memory_do(
  stored, devices, per_dispatch, min_crop
):
  resident = loader.Resident(Split(np.asarray(stored.images), stored.labels))
  schedule = _schedule(per_dispatch)
  expected = _read(resident, schedule, 0, devices)
  found = _read(_streamed(stored, min_crop), schedule, 0, devices)
  assert len(found) == len(expected) == 6
  for left, right in zip(
    jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize('kind', ('resident', 'streamed'))
def test_a_feed_that_starts_later_gives_the_rest(stored, kind):
  def make():
    if kind == 'streamed':
      return _streamed(stored)
    return loader.Resident(Split(np.asarray(stored.images), stored.labels))

  whole = _read(make(), _schedule(), 0, 2)
  rest = _read(make(), _schedule(), 3, 2)
  assert len(rest) == 3
  for left, right in zip(
    jax.tree.leaves(rest), jax.tree.leaves(whole[3:]), strict=True
  ):
    np.testing.assert_array_equal(left, right)


def test_dispatches_do_not_reach_into_the_next_epoch():
  schedule = loader.BatchSchedule(_order, (6,), 2, 5, 3)
  assert list(schedule.chunks(0)) == [(0, 3), (3, 2), (5, 3), (8, 2)]
  assert list(schedule.chunks(4)) == [(4, 1), (5, 3), (8, 2)]
  assert schedule.steps == 10


class _Device:
  """A device of a process; `parallel` looks at nothing else."""

  def __init__(self, process_index: int):
    self.process_index = process_index


@pytest.mark.parametrize('process', (0, 1))
def test_a_process_takes_the_places_of_its_devices_in_each_part(
  monkeypatch, process
):
  """Two processes of two devices; parts of eight and four images."""
  schedule = loader.BatchSchedule(_order, (8, 4), 1, 1, 1)
  monkeypatch.setattr(jax, 'process_index', lambda: process)
  devices = [_Device(0), _Device(0), _Device(1), _Device(1)]
  expected = ([0, 1, 2, 3, 8, 9], [4, 5, 6, 7, 10, 11])[process]
  assert schedule.positions(devices).tolist() == expected


def test_what_fails_in_the_thread_fails_in_the_loop_and_the_thread_ends():
  images = StoredImages(_Files(), np.array([1, 99]), SIDE, name='colours')
  split = Split(images, np.arange(2, dtype=np.int32))
  schedule = loader.BatchSchedule(lambda e: np.array([[0], [1]]), (1,), 1, 2, 1)
  given = _streamed(split).dispatches(schedule, 0, parallel.devices(1))
  with contextlib.closing(given):
    with pytest.raises(ValueError, match='record 99 of colours'):
      list(given)
  assert not [t for t in threading.enumerate() if t.name == 'data_loader']


def test_a_feed_that_is_closed_early_leaves_no_thread(stored):
  given = _streamed(stored).dispatches(_schedule(), 0, parallel.devices(1))
  next(given)
  assert [t for t in threading.enumerate() if t.name == 'data_loader']
  given.close()
  assert not [t for t in threading.enumerate() if t.name == 'data_loader']


def test_a_streamed_feed_passes_on_what_it_was_told(stored, monkeypatch):
  asked = {}

  @contextlib.contextmanager
  def stream(split, order, **options):
    asked.update(options, split=split, order=order)
    yield iter([Split(np.zeros((6, 1, 1, 3), np.uint8), np.zeros(6, int))] * 2)

  monkeypatch.setattr(streaming, 'training_batches', stream)
  data_loader = loader.Streamed(stored, seed=3, min_crop=0.25, workers=7)
  schedule = _schedule()
  list(data_loader.dispatches(schedule, 4, parallel.devices(1)))
  assert asked.pop('split') is stored and asked.pop('order') is _order
  np.testing.assert_array_equal(asked.pop('positions'), np.arange(6))
  assert asked == {
    'seed': 3,
    'min_crop': 0.25,
    'workers': 7,
    'steps_per_epoch': 2,
    'epochs': 3,
    'first_step': 4,
  }


def test_a_feed_says_how_long_steps_waited_for_images(stored, monkeypatch):
  clock = iter(range(0, 1000, 5))
  monkeypatch.setattr(loader.time, 'monotonic', lambda: next(clock))
  data_loader = _streamed(stored)
  dispatches = list(data_loader.dispatches(_schedule(), 0, parallel.devices(1)))
  assert data_loader.waited == 5 * len(dispatches) == 30

"""Brings the images of training steps to the devices.

Small data sets lie on the devices, and a dispatch is given their indices
(`Resident`). Large ones are read, decoded and copied to the devices while
earlier dispatches run (`Streamed`). Which images a step sees follows from the
step alone, for both and for any number of processes.
"""

import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from rnascl_jax.base import Array, PyTree
from rnascl_jax.data.datasets import Split
from rnascl_jax.runtime import extras, parallel

# Dispatches whose images are on the devices before they are needed.
_AHEAD = 2

# Steps of a dispatch, and what each device here is given for them: for each
# part of a batch, arrays [devices here, steps, ...].
Dispatch = tuple[int, tuple[PyTree, ...]]


@dataclasses.dataclass(frozen=True)
class BatchSchedule:
  """Which images each step of a stage sees.

  Attributes:
    order: epoch -> indices [steps_per_epoch, sum of parts] of images.
    parts: sizes of the parts of a global batch.
    epochs: how many.
    steps_per_epoch: how many.
    steps_per_dispatch: how many in one program.
  """

  order: Callable[[int], np.ndarray]
  parts: tuple[int, ...]
  epochs: int
  steps_per_epoch: int
  steps_per_dispatch: int

  @property
  def steps(self) -> int:
    return self.epochs * self.steps_per_epoch

  def chunks(self, first_step: int) -> Iterator[tuple[int, int]]:
    """First step and number of steps of each dispatch, within its epoch."""
    step = first_step
    while step < self.steps:
      left = self.steps_per_epoch - step % self.steps_per_epoch
      count = min(self.steps_per_dispatch, left)
      yield step, count
      step += count

  def rows(self, first_step: int) -> Iterator[tuple[int, np.ndarray]]:
    """Steps of each dispatch, and the indices [steps, B] of their images."""
    epoch, order = -1, np.zeros(0)
    for step, count in self.chunks(first_step):
      now, offset = divmod(step, self.steps_per_epoch)
      if now != epoch:
        epoch, order = now, self.order(now)
      yield count, order[offset : offset + count]

  def positions(self, devices: Sequence[jax.Device]) -> np.ndarray:
    """Places in a global batch of this process's images, part by part."""
    positions, offset = [], 0
    for part in self.parts:
      own = parallel.share(np.arange(offset, offset + part), devices)
      positions.append(own.reshape(-1))
      offset += part
    return np.concatenate(positions)


class Loader(Protocol):
  """Images for the steps of a stage.

  Attributes:
    data: arrays that all devices keep, not replicated.
    waited: seconds that steps have waited for images; None if they need not.
  """

  data: PyTree
  waited: float | None

  @staticmethod
  def read(data: PyTree, rows: PyTree, /) -> tuple[Array, Array, Array]:
    """On a device: a step's images uint8 [B, H, W, C], labels [B], indices [B].

    The indices are those in the training split. A function of a module, as
    compiled programs are kept by it.

    Args:
      data: the loader's.
      rows: what a dispatch has for the step.
    """
    ...

  def dispatches(
    self,
    schedule: BatchSchedule,
    first_step: int,
    devices: Sequence[jax.Device],
  ) -> Generator[Dispatch, None, None]:
    """Yields dispatches from a step to the end; to be closed."""
    ...


class DeviceData(NamedTuple):
  """Images on a device: uint8 [N, H, W, C] and labels [N]."""

  images: Any
  labels: Any


class Resident:
  """A data set that lies on every device."""

  waited: float | None = None

  def __init__(self, split: Split):
    self.data = DeviceData(split.images, split.labels)

  @staticmethod
  def read(data: DeviceData, rows: Array, /) -> tuple[Array, Array, Array]:
    """Images and labels of these rows, and the rows."""
    return data.images[rows], data.labels[rows], rows

  def dispatches(
    self,
    schedule: BatchSchedule,
    first_step: int,
    devices: Sequence[jax.Device],
  ) -> Generator[Dispatch, None, None]:
    bounds = np.cumsum(schedule.parts)[:-1]
    for count, rows in schedule.rows(first_step):
      parts = np.split(rows, bounds, axis=1)
      yield (
        count,
        tuple(parallel.share(part, devices, axis=1) for part in parts),
      )


class Streamed:
  """A data set on disk, decoded by other processes and copied ahead of time.

  Each process reads the images of its own devices only.
  """

  def __init__(self, split: Split, *, seed: int, min_crop: float, workers: int):
    """Says what to stream; see `streaming.training_batches`.

    Args:
      split: with stored images.
      seed: of the random crops.
      min_crop: least area of a crop, a share of the image.
      workers: processes that decode.

    Raises:
      MissingPackageError: there is no Grain.
    """
    extras.require('grain', 'streaming images from disk')
    self.data = ()
    self.waited: float | None = 0.0
    self._split = split
    self._options: dict[str, Any] = {
      'seed': seed,
      'min_crop': min_crop,
      'workers': workers,
    }

  @staticmethod
  def read(
    data: PyTree, rows: tuple[Array, ...], /
  ) -> tuple[Array, Array, Array]:
    """Images, labels and indices that came with the dispatch."""
    del data
    images, labels, indices, *places = rows
    if places:
      # In the way of `Resident`: XLA then rounds all that follows alike.
      images, labels = images[places[0]], labels[places[0]]
    return images, labels, indices

  def dispatches(
    self,
    schedule: BatchSchedule,
    first_step: int,
    devices: Sequence[jax.Device],
  ) -> Generator[Dispatch, None, None]:
    from rnascl_jax.data import streaming  # Not every run has Grain to start.

    with streaming.training_batches(
      self._split,
      schedule.order,
      steps_per_epoch=schedule.steps_per_epoch,
      epochs=schedule.epochs,
      first_step=first_step,
      positions=schedule.positions(devices),
      **self._options,
    ) as stream:
      alike = not self._options['min_crop']
      placed = _placed(stream, schedule, first_step, devices, alike=alike)
      with contextlib.closing(_ahead(placed, _AHEAD)) as ahead:
        for dispatch, waited in ahead:
          self.waited = (self.waited or 0.0) + waited
          yield dispatch


def _placed(
  stream: Iterator[Split],
  schedule: BatchSchedule,
  first_step: int,
  devices: Sequence[jax.Device],
  *,
  alike: bool = False,
) -> Iterator[Dispatch]:
  """Puts the batches of each dispatch onto this process's devices.

  Args:
    stream: batches of steps.
    schedule: which images they have.
    first_step: at which the stream begins.
    devices: of all processes.
    alike: whether places in its part come with each image, see `Streamed.read`.
  """
  num_processes = len(devices) // len(parallel.here(devices))
  bounds = np.cumsum([part // num_processes for part in schedule.parts])[:-1]
  own = schedule.positions(devices)
  for count, rows in schedule.rows(first_step):
    # So named in profiles.
    with jax.profiler.TraceAnnotation('data_loader'):
      batches = [next(stream) for _ in range(count)]
      arrays = [np.stack(x) for x in zip(*batches, strict=True)]
      arrays.append(rows[:, own].astype(np.int32))
      parts = zip(*(np.split(x, bounds, axis=1) for x in arrays), strict=True)
      dispatch = tuple(_split(part, devices, alike=alike) for part in parts)
    yield count, dispatch


def _split(
  part: tuple[np.ndarray, ...], devices: Sequence[jax.Device], *, alike: bool
) -> tuple[jax.Array, ...]:
  """Arrays [n, B here, ...] as [devices here, n, B / devices, ...]."""
  here = len(parallel.here(devices))
  if alike:
    steps, size = part[-1].shape
    own = np.tile(np.arange(size // here, dtype=np.int32), (steps, here))
    part = (*part, own)
  return tuple(
    parallel.place(np.split(array, here, axis=1), devices) for array in part
  )


def _ahead(
  items: Iterator[Dispatch], depth: int
) -> Generator[tuple[Dispatch, float], None, None]:
  """Makes items in a thread before they are asked for.

  Args:
    items: what to make.
    depth: how many may wait, beside the one that is being made.

  Yields:
    An item, and the seconds it was waited for.

  Raises:
    Exception: whatever making an item raised.
  """
  made: queue.Queue = queue.Queue(depth)
  ended = threading.Event()

  def offer(item: Any) -> bool:
    while not ended.is_set():
      try:
        made.put(item, timeout=0.1)
        return True
      except queue.Full:
        continue
    return False

  def make() -> None:
    try:
      for item in items:
        if not offer((item, None)):
          return
      offer((None, None))
    except BaseException as error:
      offer((None, error))

  thread = threading.Thread(target=make, daemon=True, name='data_loader')
  thread.start()
  try:
    while True:
      started = time.monotonic()
      item, error = made.get()
      waited = time.monotonic() - started
      if error is not None:
        raise error
      if item is None:
        return
      yield item, waited
  finally:
    ended.set()
    thread.join()

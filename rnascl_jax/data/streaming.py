"""Training batches of stored images: read, decoded, cropped, ahead of use.

Grain's worker processes (or threads) make a batch before it is asked for. A
crop follows from the seed, the step and the place in the global batch alone, so
any number of workers and of processes of a run, and any resumption, see the
same pixels.

Workers are new Python processes, which import the main module of a program: it
must be guarded by `if __name__ == '__main__'`. They end with the process that
they work for, however it ends.

Example:
  >>> import io
  >>> import numpy as np
  >>> from PIL import Image
  >>> from rnascl_jax.data import datasets, streaming
  >>> file = io.BytesIO()
  >>> Image.new('RGB', (40, 30), 'red').save(file, 'JPEG')
  >>> class Red:
  ...   def __getitems__(self, records):
  ...     return [{'image': file.getvalue()} for _ in records]
  >>> red = datasets.StoredImages(Red(), np.arange(6), 16, name='red')
  >>> with streaming.training_batches(
  ...   datasets.Split(red, np.zeros(6, np.int32)),
  ...   lambda epoch: np.arange(6).reshape(3, 2),
  ...   steps_per_epoch=3, epochs=2, first_step=4, positions=np.arange(2),
  ...   seed=0, min_crop=0.08, workers=0,
  ... ) as stream:
  ...   [images.shape for images, labels in stream]
  [(2, 16, 16, 3), (2, 16, 16, 3)]
"""

import dataclasses
import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from multiprocessing import connection, parent_process

import grain
import numpy as np
from absl import flags

from rnascl_jax.data import images as pixels
from rnascl_jax.data import stored_images
from rnascl_jax.data.datasets import Split, StoredImages

Order = Callable[[int], np.ndarray]

# Batches that wait for their use, of each worker (and one more that Grain takes
# out of shared memory), or of the threads.
_AHEAD_OF_WORKER, _AHEAD_OF_THREADS = 1, 2
# How a worker may be killed, and what is known to do it.
_KILLED_BY = {
  1: "it ended with an error, which is printed above; one of a program's main "
  "module where that is not guarded by if __name__ == '__main__'",
  -signal.SIGKILL: 'it was killed, as Linux does where memory runs out',
  -getattr(signal, 'SIGBUS', 7): 'shared memory is full (/dev/shm; give a '
  'container more of it, such as --shm-size=16g)',
}


def training_batches(
  split: Split,
  order: Order,
  *,
  steps_per_epoch: int,
  epochs: int,
  first_step: int,
  positions: np.ndarray,
  seed: int,
  min_crop: float,
  workers: int,
) -> 'Stream':
  """A process's share of the training batches.

  Args:
    split: with `StoredImages`.
    order: epoch -> [steps_per_epoch, B], rows of the split; always the same,
      and workers are sent a copy of it.
    steps_per_epoch: at least 1.
    epochs: of the training.
    first_step: of the training, in [0, epochs * steps_per_epoch].
    positions: [b], places in the global batch that this process wants, in [0,
      B).
    seed: of the crops, in [0, 2^64).
    min_crop: least area of a random-resized crop, a share of the image's, in
      (0, 1]; 0 for images as indexing gives them, the same in all epochs.
    workers: processes that decode; 0 for threads of this process, -1 for one
      process for each core but one. What is in memory needs none.

  Returns:
    One batch for each step from `first_step` on: images [b, H, W, C] uint8 and
    labels [b] int32. To be closed, or used as a context manager.

  Raises:
    ValueError: an argument is out of its range, or the images are in memory.
      While iterating, a damaged image; the message names it.
    RuntimeError: while iterating, a worker has died.
  """
  steps = epochs * steps_per_epoch
  if not isinstance(split.images, StoredImages):
    raise ValueError(
      'the images are in memory: only those on disk are streamed.'
    )
  if not 0 <= first_step <= steps:
    raise ValueError(f'first_step={first_step} must lie in [0, {steps}].')
  if not 0 <= seed < 2**64:
    raise ValueError(f'seed={seed} must lie in [0, 2^64).')
  if not 0 <= min_crop <= 1:
    raise ValueError(f'min_crop={min_crop} must lie in [0, 1], such as 0.08.')
  if min_crop and not split.images.resized:
    raise ValueError(
      f'min_crop={min_crop} is for images that are resized: set it to 0.'
    )
  if workers < -1:
    raise ValueError(f'workers={workers} must be at least -1, one a core.')
  if isinstance(split.images.source, stored_images.Pixels):
    workers = 0
  source = _Batches(
    split,
    order,
    steps_per_epoch=steps_per_epoch,
    steps=range(first_step, steps),
    positions=np.asarray(positions),
    seed=seed,
    min_crop=min_crop,
    threads=workers == 0,
  )
  return Stream(source, min(number_of_workers(workers), len(source)))


def number_of_workers(workers: int) -> int:
  """How many processes decode; -1 stands for one for each core but one."""
  return stored_images.cores() - 1 if workers == -1 else workers


@dataclasses.dataclass(eq=False, repr=False)
class _Batches:
  """Batches by their number, for Grain; see `training_batches`."""

  split: Split
  order: Order
  steps_per_epoch: int
  steps: range
  positions: np.ndarray
  seed: int
  min_crop: float
  threads: bool
  # The last epoch that was asked for, and its order.
  last_order: tuple[int, np.ndarray] | None = None

  def __len__(self) -> int:
    return len(self.steps)

  def __getitem__(self, index: int) -> Split:
    step = self.steps[index]
    rows = self._rows(step)
    images = self.split.images

    _, side, _, channels = images.shape

    def crop(encoded: pixels.Encoded, place: int) -> np.ndarray:
      draws = pixels.uniforms(self.seed, step, int(self.positions[place]))
      return pixels.training_image(
        encoded, side, draws, min_area=self.min_crop, channels=channels
      )

    decoded = images.decode(
      rows, crop if self.min_crop else None, threads=self.threads
    )
    return Split(decoded, self.split.labels[rows])

  def _rows(self, step: int) -> np.ndarray:
    """Rows of the split that this process wants at a step."""
    epoch, place = divmod(step, self.steps_per_epoch)
    last = self.last_order
    if last is None or last[0] != epoch:
      last = self.last_order = epoch, self.order(epoch)
    return last[1][place][self.positions]


class Stream:
  """An iterator over batches that ends its workers when it is closed."""

  def __init__(self, source: _Batches, workers: int):
    data = grain.MapDataset.source(source).to_iter_dataset(
      grain.ReadOptions(
        num_threads=1, prefetch_buffer_size=1 if workers else _AHEAD_OF_THREADS
      )
    )
    if workers:
      data = data.mp_prefetch(
        grain.MultiprocessingOptions(
          num_workers=workers, per_worker_buffer_size=_AHEAD_OF_WORKER
        ),
        worker_init_fn=_begin_worker,
      )
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()  # Grain has flags; outside of absl's `run`.
    self._batches = [iter(data)]
    # Also when it is forgotten, and when Python ends.
    self._close = weakref.finalize(self, _close, self._batches)

  def __iter__(self) -> Iterator[Split]:
    return self

  def __next__(self) -> Split:
    if not self._batches:
      raise ValueError('the stream of batches is closed.')
    try:
      images, labels = next(self._batches[0])
    except RuntimeError as error:
      raise _explained(error) from error
    # A copy gives shared memory back at once, however long a batch is kept.
    return Split(np.array(images), np.array(labels))

  def __enter__(self) -> 'Stream':
    return self

  def __exit__(self, *error: object) -> None:
    self.close()

  def close(self) -> None:
    """Ends workers and threads; nothing happens if it was closed before."""
    self._close()


def _close(batches: list[grain.DatasetIterator]) -> None:
  """Closes an iterator and forgets it: it is not to outlive Grain's modules."""
  batches.pop().close()
  # The end of an iterator is an exception, whose frames hold the last batches
  # in a cycle. Grain gives their shared memory back in a thread, which is to
  # have done so should the program end now: Python warns of a leak otherwise.
  gc.collect()
  time.sleep(0.1)


def _explained(error: RuntimeError) -> RuntimeError:
  """Grain's error for a worker that died, and what may have killed it."""
  for code, cause in _KILLED_BY.items():
    if f'exit code {code}.' in str(error):
      return RuntimeError(
        f'A process that decodes images has died: {cause}. The number of them '
        f'is config.data.workers, 0 for none. ({error})'
      )
  return error


def _begin_worker(number: int, workers: int) -> None:
  """Lets a worker end with the process it works for, and not before."""
  del number, workers
  # Signals that are meant for a run reach its workers too, where a terminal or
  # a scheduler sends them to all processes; the run decides when to stop.
  for name in (signal.SIGINT, signal.SIGTERM):
    signal.signal(name, signal.SIG_IGN)
  parent = parent_process()
  assert parent is not None  # Grain starts workers as processes of its own.

  def end_with_parent() -> None:
    connection.wait([parent.sentinel])
    os._exit(1)

  threading.Thread(target=end_with_parent, daemon=True).start()

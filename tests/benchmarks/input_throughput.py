"""Times how fast images on disk become training batches.

  PYTHONPATH=. python tests/benchmarks/input_throughput.py
  PYTHONPATH=. python tests/benchmarks/input_throughput.py --upscale=500x375
  PYTHONPATH=. python tests/benchmarks/input_throughput.py \
    --images_per_second=2500

Prints a Markdown table of images a second, of processor time (all processes
together), which other programs on the machine change little, and of the clock,
of the fastest of several parts. Training images of TFDS's imagenet2012 are used
(TFDS_DATA_DIR), or, with --upscale, copies of them enlarged to the mean size of
ImageNet's: the sample in the tests' data has smaller ones.
"""

import argparse
import contextlib
import functools
import io
import math
import multiprocessing
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
from array_record.python import array_record_data_source, array_record_module
from PIL import Image

from rnascl_jax.data import batches, datasets, images, stored_images, streaming
from rnascl_jax.data.datasets import Split, StoredImages

_REPEATS, _EPOCHS = 3, 10
# Records read at a call.
_READ = 32
_MIN_CROP = 0.08


class Files:
  """A source of encoded images that are records of a file."""

  def __init__(self, path: str):
    self._records = array_record_data_source.ArrayRecordDataSource([path])

  def __getitems__(self, records):
    return [{'image': image} for image in self._records.__getitems__(records)]


def parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
  parser.add_argument('--images', type=int, default=960)
  parser.add_argument('--image_size', type=int, default=224)
  parser.add_argument('--batch_size', type=int, default=32)
  parser.add_argument('--workers', type=int, nargs='*', default=[0, 1, 2])
  parser.add_argument(
    '--upscale', default='', help='Such as 500x375: enlarge images to it.'
  )
  parser.add_argument(
    '--quality', type=int, default=98, help='JPEG quality of enlarged images.'
  )
  parser.add_argument(
    '--images_per_second',
    type=float,
    default=0.0,
    help='Also print how many cores feed a training that takes so many.',
  )
  return parser.parse_args()


def enlarged(encoded: bytes, size: tuple[int, int], quality: int) -> bytes:
  """The same image with other numbers of pixels, upright if it is."""
  image = images.decode(encoded)
  if image.width < image.height:
    size = size[::-1]
  file = io.BytesIO()
  image.resize(size, Image.Resampling.BICUBIC).save(
    file, 'JPEG', quality=quality
  )
  return file.getvalue()


@contextlib.contextmanager
def sample(given: argparse.Namespace) -> Iterator[StoredImages]:
  """The images to read."""
  data = datasets.load(
    'imagenet',
    image_size=given.image_size,
    validation_size=0,
    limit=(given.images, 1),
  )
  stored = data.train.images
  if not given.upscale:
    yield stored
    return
  width, height = (int(length) for length in given.upscale.split('x'))
  with tempfile.TemporaryDirectory() as folder:
    path = str(pathlib.Path(folder) / 'images.array_record')
    writer = array_record_module.ArrayRecordWriter(path, 'group_size:1')
    for example in stored.source.__getitems__(stored.records.tolist()):
      writer.write(enlarged(example['image'], (width, height), given.quality))
    writer.close()
    records = np.arange(len(stored))
    yield StoredImages(Files(path), records, given.image_size, name='enlarged')


def per_core(function: Callable[[int], object], count: int) -> float:
  """Calls of a function a second of processor time, the fastest of several."""
  seconds = []
  for _ in range(_REPEATS):
    start = time.process_time()
    for index in range(count):
      function(index)
    seconds.append(time.process_time() - start)
  return count / min(seconds)


def one_core(stored: StoredImages) -> dict[str, float]:
  """What a core does alone, in images a second."""
  side, records = stored.shape[1], stored.records.tolist()
  encoded = [e['image'] for e in stored.source.__getitems__(records)]

  def decode(index: int) -> None:
    Image.open(io.BytesIO(encoded[index])).load()

  def train(index: int) -> None:
    draws = images.uniforms(0, 0, index)
    images.training_image(encoded[index], side, draws, min_area=_MIN_CROP)

  functions = {
    'decoding (the limit)': decode,
    'decoding, random-resized crop': train,
    'decoding, test transform': lambda i: images.evaluation_image(
      encoded[i], side
    ),
  }
  reading = per_core(
    lambda i: stored.source.__getitems__(records[_READ * i : _READ * (i + 1)]),
    len(stored) // _READ,
  )
  return {'reading': _READ * reading} | {
    name: per_core(function, len(stored))
    for name, function in functions.items()
  }


def processor_seconds() -> float:
  """Of this process and its workers so far, on Linux."""
  seconds = time.process_time()
  for worker in multiprocessing.active_children():
    status = pathlib.Path(f'/proc/{worker.pid}/stat').read_text()
    user, system = status.rpartition(')')[2].split()[11:13]
    seconds += (int(user) + int(system)) / os.sysconf('SC_CLK_TCK')
  return seconds


def stream(
  stored: StoredImages, batch_size: int, workers: int
) -> tuple[float, float]:
  """Images a second of processor time and of the clock, once batches come."""
  split = Split(stored, np.zeros(len(stored), np.int32))
  per_epoch = len(stored) // batch_size
  order = functools.partial(
    batches.batch_order, 0, num_examples=len(stored), batch_size=batch_size
  )
  rates, used = [], 0.0
  with streaming.training_batches(
    split,
    order,
    steps_per_epoch=per_epoch,
    epochs=_EPOCHS + 1,
    first_step=0,
    positions=np.arange(batch_size),
    seed=0,
    min_crop=_MIN_CROP,
    workers=workers,
  ) as found:
    for epoch in range(_EPOCHS + 1):
      start = time.perf_counter()
      for _ in range(per_epoch):
        next(found)
      seconds = time.perf_counter() - start
      if epoch:  # Workers start in the first.
        rates.append(per_epoch * batch_size / seconds)
      else:
        used = -processor_seconds()
    used += processor_seconds()
  return _EPOCHS * per_epoch * batch_size / used, max(rates)


def processor() -> str:
  path = pathlib.Path('/proc/cpuinfo')
  lines = path.read_text().splitlines() if path.exists() else []
  names = [line for line in lines if line.startswith('model name')]
  return names[0].partition(':')[2].strip() if names else 'unknown processor'


def describe(stored: StoredImages) -> str:
  examples = stored.source.__getitems__(stored.records.tolist())
  encoded = [example['image'] for example in examples]
  sizes = np.array([Image.open(io.BytesIO(e)).size for e in encoded])
  width, height = sizes.mean(0)
  return (
    f'{len(encoded)} images, mean {width:.0f} x {height:.0f} pixels '
    f'({sizes.prod(1).mean() / 1e6:.3f} million), '
    f'{np.mean([len(e) for e in encoded]) / 1e3:.0f} kB, '
    f'to {stored.shape[1]} x {stored.shape[1]}'
  )


def main() -> None:
  """Prints the table."""
  given = parse()
  with sample(given) as stored:
    cores = stored_images.cores()
    load = os.getloadavg()[0]
    print(f'{cores}-core CPU ({processor()}), load {load:.1f}; ', end='')
    print(f'{describe(stored)}; batches of {given.batch_size}\n')
    print('| what | images / core / s | images / s |\n| --- | ---: | ---: |')
    rates = one_core(stored)
    for name, rate in rates.items():
      print(f'| {name} | {rate:,.0f} | |', flush=True)
    slowest = math.inf
    for workers in given.workers:
      rate, clock = stream(stored, given.batch_size, workers)
      slowest = min(slowest, rate)
      what = f'workers={workers}' if workers else f'{cores} threads'
      print(
        f'| training stream, {what} | {rate:,.0f} | {clock:,.0f} |', flush=True
      )
  if given.images_per_second:
    busy = given.images_per_second / slowest
    print(
      f'\n{given.images_per_second:,.0f} images/s keep {busy:.1f} cores busy: '
      f'{math.ceil(busy)} workers, and a core for the main process.'
    )


if __name__ == '__main__':
  main()

"""Whether decoding and copying images overlaps with training steps.

Of the ImageNet images that TFDS has prepared (TFDS_DATA_DIR):

  PYTHONPATH=. python tests/benchmarks/prefetch.py [--workers=1] [--trace=DIR]

Four loops over the same batches, in one process and in this order, `repeats`
times; medians are printed:

- steps: the training step on one batch that is on the device already;
- images: reading, decoding, cropping and copying batches, without a step;
- threads: a thread of this process decodes ahead, the step waits for the copy;
- ahead: as a run does it (`loader.Streamed`); and how long that loop waited.

Where images are made ahead, a step costs what the slower of the first two
costs, if there are cores enough for both, and the loop does not wait. --trace
leaves a profile of the last loop for TensorBoard or Perfetto, in which
`data_loader`
is reading, decoding and copying, in a thread beside the steps.
"""

import argparse
import contextlib
import itertools
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rnascl_jax.data import batches, datasets, streaming
from rnascl_jax.distillation import compare
from rnascl_jax.models.fixed import build
from rnascl_jax.runtime import parallel
from rnascl_jax.training import (
  adversarial,
  loader,
  loop,
  train_state,
  train_step,
)

_SEED, _MIN_CROP = 0, 0.08


def _arguments() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--image_size', type=int, default=64)
  parser.add_argument('--batch_size', type=int, default=32)
  parser.add_argument('--steps', type=int, default=20)
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--workers', type=int, default=1)
  parser.add_argument('--network', default='small_resnet')
  parser.add_argument('--trace', default='', help='a folder for a profile')
  return parser.parse_args()


class _Training:
  """A training step and its state on the devices."""

  def __init__(self, given: argparse.Namespace, data: datasets.Dataset):
    self.devices = parallel.devices(1)
    net = build.network(
      build.from_text(given.network),
      num_classes=data.num_classes,
      mean=data.mean,
      std=data.std,
      axis_name=parallel.AXIS,
    )
    recipe = train_state.Recipe(
      net,
      optax.sgd(0.1),
      adversarial.standard(),
      compare.Distillation(),
      lambda key, image: batches.augment(key, image, padding=0, flip=True),
    )
    state = train_state.init_state(
      recipe, jax.random.key(0), data.image_shape, given.batch_size
    )
    self._state = parallel.replicate(state, self.devices)
    zero = jnp.float32(0)
    context = train_state.Context(jnp.uint32(0), (), (), zero, zero)
    self._context = parallel.replicate(context, self.devices)
    self._dispatch = loop.make_dispatch(
      train_step.make_train_step(recipe),
      tuple(self.devices),
      loader.Streamed.read,
    )

  def step(self, rows: Any) -> None:
    self._state, sums = self._dispatch(self._state, self._context, (), rows)
    jax.block_until_ready(sums)


def _schedule(given: argparse.Namespace, images: int) -> loader.BatchSchedule:
  epoch = images // given.batch_size
  return loader.BatchSchedule(
    order=lambda e: batches.batch_order(_SEED, e, images, given.batch_size),
    parts=(given.batch_size,),
    epochs=-(-given.steps // epoch),
    steps_per_epoch=epoch,
    steps_per_dispatch=1,
  )


def _loops(
  given: argparse.Namespace, split: datasets.Split, training: _Training
) -> dict[str, Callable[[], float]]:
  """Seconds of a step, for each loop; the last also says how long it waited."""
  schedule, devices = _schedule(given, len(split.labels)), training.devices
  options = {
    'seed': _SEED,
    'min_crop': _MIN_CROP,
    'workers': given.workers,
  }

  @contextlib.contextmanager
  def synchronous() -> Iterator[Iterator[loader.Dispatch]]:
    with streaming.training_batches(
      split,
      schedule.order,
      steps_per_epoch=schedule.steps_per_epoch,
      epochs=schedule.epochs,
      first_step=0,
      positions=schedule.positions(devices),
      **(options | {'workers': 0}),
    ) as stream:
      yield loader._placed(stream, schedule, 0, devices)

  def timed(
    dispatches: Iterator[loader.Dispatch], use: Callable[[Any], Any]
  ) -> float:
    use(next(dispatches)[1])  # Workers start, programs are compiled.
    started = time.perf_counter()
    for _ in range(given.steps - 1):
      use(next(dispatches)[1])
    return (time.perf_counter() - started) / (given.steps - 1)

  def steps_alone() -> float:
    with synchronous() as dispatches:
      rows = next(dispatches)[1]
    return timed(iter([(1, rows)] * given.steps), training.step)

  def images_alone() -> float:
    with synchronous() as dispatches:
      return timed(dispatches, jax.block_until_ready)

  def decoded_by_threads() -> float:
    with synchronous() as dispatches:
      return timed(dispatches, training.step)

  data_loader = loader.Streamed(split, **options)

  def ahead() -> float:
    with contextlib.closing(
      data_loader.dispatches(schedule, 0, devices)
    ) as dispatches:
      first = next(dispatches)
      data_loader.waited = 0.0
      found = timed(itertools.chain([first], dispatches), training.step)
    waits.append(data_loader.waited / (given.steps - 1))
    return found

  waits: list[float] = []
  return {
    'steps': steps_alone,
    'images': images_alone,
    'threads': decoded_by_threads,
    'ahead': ahead,
    'waited': lambda: waits[-1],
  }


def main() -> None:
  given = _arguments()
  data = datasets.load(
    'imagenet', image_size=given.image_size, validation_size=0
  )
  training = _Training(given, data)
  loops = _loops(given, data.train, training)
  found: dict[str, list[float]] = {name: [] for name in loops}
  for repeat in range(given.repeats):
    for name, timed in loops.items():
      last = repeat == given.repeats - 1 and name == 'ahead'
      profile: Any = contextlib.nullcontext()
      if given.trace and last:
        profile = jax.profiler.trace(pathlib.Path(given.trace))
      with profile:
        found[name].append(timed())
  medians = {name: statistics.median(v) for name, v in found.items()}
  print(
    f'{given.network}, {given.image_size} x {given.image_size} pixels, batch '
    f'{given.batch_size}, {given.workers} worker processes ahead, '
    f'{jax.devices()[0].device_kind}\n'
  )
  print('| loop | ms a step | of the step alone |\n| --- | --- | --- |')
  for name, seconds in medians.items():
    ratio = seconds / medians['steps']
    print(f'| {name} | {1000 * seconds:.1f} | {ratio:.2f} |')


if __name__ == '__main__':
  main()

"""Times halves of a batch on two virtual devices against a batch on one.

  PYTHONPATH=. python tests/benchmarks/virtual_devices.py

Both run in turn in one process that has two virtual devices, on a CPU: training
steps of S3, standard and PGD-10, batch 128; and an evaluation, PGD-20 of 64
images. Each line is a JSON object: medians in milliseconds, their quotient, and
how far the losses or the attacked images are from each other.
"""

import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=2'

import jax
import numpy as np
from absl import app

from rnascl_jax import attacks
from rnascl_jax.models import networks, student
from rnascl_jax.runtime import host_memory
from rnascl_jax.search import spaces
from tests.benchmarks import training_steps

_REPEATS = 7


def _steps(case: training_steps.Case) -> Any:
  """A training step for some devices, which returns the sum of losses."""

  def make(devices: tuple[jax.Device, ...]) -> Callable[[], np.ndarray]:
    prepared = training_steps.prepare(case, devices)
    state, context, data = prepared['held']

    def step() -> np.ndarray:
      nonlocal state
      state, sums = prepared['run'](state, context, data, prepared['rows'])
      return np.asarray(sums['loss'])

    return step

  return make


def _evaluation(devices: tuple[jax.Device, ...]) -> Callable[[], np.ndarray]:
  """PGD-20 on 64 images, for some devices."""
  net = student.Student(spaces.widest(spaces.CIFAR_SPACES['s3']), 10)
  blank = np.zeros((1, 32, 32, 3), np.float32)
  init = jax.jit(lambda key: net.init(key, blank, train=False))
  logits_fn = networks.logits_fn(net, init(jax.random.key(0)))
  images = np.random.default_rng(0).random((64, 32, 32, 3)).astype(np.float32)
  labels = np.asarray(logits_fn(images).argmax(-1))
  return lambda: attacks.perturb(
    attacks.PRESETS['pgd20_madry'],
    logits_fn,
    images,
    labels,
    batch_size=64,
    devices=devices,
    checks=False,
  )


def main(argv) -> None:
  """Prints a line for each."""
  del argv
  host_memory.keep()
  devices = tuple(jax.devices())
  for name, make in (
    ('S3, standard step, batch 128', _steps(training_steps.Case('s3'))),
    (
      'S3, PGD-10 step, batch 128',
      _steps(training_steps.Case('s3', method='pgd-10')),
    ),
    ('S3, PGD-20, 64 images', _evaluation),
  ):
    runs = [make(devices[:1]), make(devices)]
    first = [run() for run in runs]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_REPEATS):
      for run, taken in zip(runs, times, strict=True):
        begin = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begin)
    one, two = (1e3 * statistics.median(taken) for taken in times)
    row = {'what': name, 'one_ms': round(one, 1), 'two_ms': round(two, 1)}
    row['times_as_fast'] = round(one / two, 2)
    row['apart'] = float(np.abs(first[0] - first[1]).max())
    print(json.dumps(row), flush=True)


if __name__ == '__main__':
  app.run(main)

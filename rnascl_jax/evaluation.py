"""Exact clean and robust accuracy of a network on every image of a split.

Images are attacked in batches of one size over all devices; the last batch is
filled up and the filling ignored. The random draws of an image come from its
index in the data set, so batch size and devices do not change them. Epsilon is
an argument of the compiled program, so a curve over epsilon compiles once.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from rnascl_jax import (
  attacks,
  batches,
  metrics,
  networks,
  parallel,
  progress,
  steps,
)
from rnascl_jax.attacks import Preset
from rnascl_jax.base import Array, PyTree
from rnascl_jax.datasets import Split


class Outcome(NamedTuple):
  """What an attack left of a classifier.

  Attributes:
    correct: [N] bool, images still classified correctly.
    seconds: wall clock.
  """

  correct: np.ndarray
  seconds: float

  @property
  def accuracy(self) -> float:
    return float(self.correct.mean())


@functools.lru_cache(maxsize=4)
def _evaluator(net: nn.Module, over: tuple[jax.Device, ...]) -> Callable:
  return parallel.pmap(steps.make_eval_step(net), over)


@functools.lru_cache(maxsize=16)
def _clean(net: nn.Module, over: tuple[jax.Device, ...]) -> Callable:
  def classify(variables: PyTree, images: Array, labels: Array) -> Array:
    return _is_correct(net, variables, batches.to_float(images), labels)

  return parallel.pmap(classify, over)


def _is_correct(
  net: nn.Module, variables: PyTree, images: Array, labels: Array
) -> Array:
  """[B] bool, in full float32: accelerators would round products to TF32.

  Logits that are not numbers are wrong.
  """
  with jax.default_matmul_precision('highest'):
    logits, _ = networks.apply(net, variables, images)
  return metrics.accuracy(logits, labels) > 0


@functools.lru_cache(maxsize=32)
def _attacker(
  net: nn.Module,
  attack: Callable[..., Array],
  over: tuple[jax.Device, ...],
) -> Callable:
  """Maps an attack and the check of its result over devices."""

  def survive(
    variables: PyTree,
    images: Array,
    labels: Array,
    indices: Array,
    seed: Array,
    epsilon: Array,
  ) -> Array:
    logits_fn = networks.logits_fn(net, variables)
    keys = attacks.image_keys(jax.random.key(seed), indices)
    images = batches.to_float(images)
    perturbed = attacks.batched(attack)(
      logits_fn, keys, images, labels, epsilon=epsilon
    )
    # An attack on an image that was wrong before does not make it right.
    before = _is_correct(net, variables, images, labels)
    return before & _is_correct(net, variables, perturbed, labels)

  return parallel.pmap(survive, over)


def mean_metrics(
  net: nn.Module,
  variables: PyTree,
  split: Split,
  over: Sequence[jax.Device],
  *,
  batch_size: int,
) -> dict[str, float]:
  """Loss and accuracy on every image of a split.

  Args:
    net: the network.
    variables: replicated over the devices.
    split: uint8 images and labels.
    over: devices.
    batch_size: images at once, rounded up to a multiple of the devices.

  Returns:
    `loss` and `accuracy`.
  """
  step = _evaluator(net, tuple(over))
  totals: dict[str, Any] = {}
  for rows, mask in _rounds(len(split.labels), batch_size, len(over)):
    sums = parallel.unreplicate(
      step(
        variables,
        *_sharded((split.images[rows], split.labels[rows], mask), len(over)),
      )
    )
    totals = metrics.add(totals, sums) if totals else sums
  return metrics.means(totals)


def clean(
  net: nn.Module,
  variables: PyTree,
  split: Split,
  over: Sequence[jax.Device],
  *,
  batch_size: int,
) -> Outcome:
  """Which images are classified correctly; arguments as `mean_metrics`."""
  function = _clean(net, tuple(over))

  def run(rows):
    shares = _sharded((split.images[rows], split.labels[rows]), len(over))
    return function(variables, *shares)

  return _collect(run, len(split.labels), batch_size, len(over))


def attacked(
  net: nn.Module,
  variables: PyTree,
  split: Split,
  attack: Preset | Callable[..., Array],
  over: Sequence[jax.Device],
  *,
  epsilon: float,
  seed: int,
  batch_size: int,
  description: str = '',
) -> Outcome:
  """Which images an attack leaves classified correctly.

  An image that is wrong without an attack counts as broken.

  Args:
    net: the network.
    variables: replicated over the devices.
    split: uint8 images and labels.
    attack: for one image, taking `epsilon`; a preset scales its step with it.
    over: devices.
    epsilon: radius in [0, 1].
    seed: of the random draws.
    batch_size: images at once, rounded up to a multiple of the devices.
    description: what the progress, with the accuracy so far, is called; empty
      shows none.

  Returns:
    The outcome of every image.
  """
  function = _attacker(net, attack, tuple(over))
  constants = parallel.replicate(
    (np.uint32(seed), np.float32(epsilon)), list(over)
  )

  def run(rows):
    shares = _sharded((split.images[rows], split.labels[rows], rows), len(over))
    return function(variables, *shares, *constants)

  return _collect(run, len(split.labels), batch_size, len(over), description)


def _rounds(
  images: int, batch_size: int, devices: int
) -> list[tuple[np.ndarray, np.ndarray]]:
  """Rows and mask of each batch, of one size that the devices divide."""
  size = -(-batch_size // devices) * devices
  return list(zip(*batches.evaluation_batches(images, size), strict=True))


def _sharded(arrays: Sequence[np.ndarray], devices: int) -> list[np.ndarray]:
  return [parallel.shard(np.asarray(array), devices) for array in arrays]


def _collect(
  run: Callable[[np.ndarray], Any],
  images: int,
  batch_size: int,
  devices: int,
  description: str = '',
) -> Outcome:
  started = time.monotonic()
  correct = np.zeros(0, bool)
  shown = parallel.is_main_process() and bool(description)
  with progress.Progress(
    images, description=description, unit='images', is_main_process=shown
  ) as bar:
    for rows, mask in _rounds(images, batch_size, devices):
      found = np.asarray(run(rows)).reshape(-1)[mask]
      correct = np.concatenate([correct, found])
      bar.update(len(correct), {'accuracy': correct.mean()})
  return Outcome(correct, time.monotonic() - started)

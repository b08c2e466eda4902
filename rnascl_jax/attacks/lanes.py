"""Stepwise attacks on data sets: a lane for each image that is under attack.

A batch has a fixed number of lanes. All lanes do a step at a time, each at its
own step of its own trial. Every few steps the lanes are looked at, and those
that are done, because the classifier is fooled or the last trial is over, are
given the next images: no lane attacks an image that is broken, and nothing is
compiled again. When the queue is empty, the images that are left move to
smaller batches, of a few fixed sizes.

An image's steps and random draws depend on its own key, index and trial alone,
so batch size, order, devices and an interruption change nothing but rounding.
"""

import collections
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.attacks import lane_programs
from rnascl_jax.attacks.lane_programs import Constants, Lane
from rnascl_jax.attacks.stepwise import Stepwise
from rnascl_jax.base import Key, LogitsFn
from rnascl_jax.runtime import parallel

# Sizes of batches: the one asked for, and halves of it, but not below this.
_NUM_SIZES = 4
_SMALLEST = 8
# Lanes are refilled when this share of them is free: beginning a trial costs
# the same for one lane as for all.
_FREE = 0.25


class Finished(NamedTuple):
  """Trials that came to an end.

  Attributes:
    rows: [n] integers, positions of the images in the arrays.
    trials: [n] integers.
    steps: [n] integers, steps of the trial when it ended.
    fooled: [n] bool, whether it ended because the classifier is fooled.
    images: adversarial images, one for each that is `fooled`, in order.
  """

  rows: np.ndarray
  trials: np.ndarray
  steps: np.ndarray
  fooled: np.ndarray
  images: np.ndarray


def run(
  attack: Stepwise,
  logits_fn: LogitsFn,
  key: Key,
  images: np.ndarray,
  labels: np.ndarray,
  queue: Sequence[tuple[int, int]],
  *,
  indices: np.ndarray,
  num_trials: int,
  epsilon: float,
  batch_size: int,
  over: Sequence[jax.Device],
  stop_early: bool = True,
) -> Iterator[tuple[Finished, int]]:
  """Attacks images until each is broken or has had all trials.

  Args:
    attack: in steps.
    logits_fn: [B, H, W, C] -> [B, K], a pytree (`jax.tree_util.Partial`).
    key: typed random key of the attack.
    images: [N, H, W, C] in [0, 1].
    labels: [N], integers.
    queue: rows of the images to attack, each with its first trial.
    indices: [N], the images' indices in the data set.
    num_trials: of an image.
    epsilon: radius.
    batch_size: lanes at once over all devices, and no more than images.
    over: the devices.
    stop_early: whether a trial ends with the first step that fools the
      classifier. As published it goes on, and finds another image.

  Yields:
    Every few steps the trials that have finished since the last time, perhaps
    none; those of one image in order, up to the one that was not in vain. And
    how many steps the trials that are under way have done together.
  """
  waiting = collections.deque(queue)
  constants = Constants(logits_fn, key, jnp.asarray(epsilon, images.dtype))
  batch = _Batch(attack, constants, images, over, stop_early)
  allowed = sizes(batch_size, len(over), len(images))
  while waiting or batch.busy:
    left = len(waiting) + batch.busy
    batch.resize(next((s for s in allowed if s >= left), allowed[-1]))
    if waiting and batch.size - batch.busy >= _FREE * batch.size:
      free = batch.size - batch.busy
      entering = [waiting.popleft() for _ in range(min(free, len(waiting)))]
      batch.enter(entering, images, labels, indices)
    finished = batch.advance()
    yield finished, batch.under_way
    for row, trial, fooled in zip(
      finished.rows, finished.trials, finished.fooled, strict=True
    ):
      if not fooled and trial + 1 < num_trials:
        waiting.appendleft((int(row), int(trial) + 1))


class _Batch:
  """The lanes of one batch, and which image is in which of them."""

  def __init__(
    self,
    attack: Stepwise,
    constants: Constants,
    images: np.ndarray,
    over: Sequence[jax.Device],
    stop_early: bool,
  ):
    self._attack, self._over, self._stop_early = attack, over, stop_early
    self._empty_lane = lane_programs.empty_lane(attack, constants, images)
    self._calls, count = lane_programs.calls(
      attack, constants, self._empty_lane, over[0].platform
    )
    leaves, structure = jax.tree.flatten(constants)
    self._constants = parallel.put(leaves, over)
    self._programs = lane_programs.programs(
      attack, structure, tuple(over), stop_early, count
    )
    self._lanes: Lane | None = None
    self._rows = np.zeros(0, int)  # -1 where there is no image.
    self._trials = self._steps = np.zeros(0, np.int32)

  @property
  def size(self) -> int:
    return len(self._rows)

  @property
  def busy(self) -> int:
    return int((self._rows >= 0).sum())

  def resize(self, size: int) -> None:
    """Moves the images that are left to fewer lanes; the first time, to any."""
    if self._lanes is None:
      lanes = jax.tree.map(
        lambda x: np.broadcast_to(x, (size, *x.shape)), self._empty_lane
      )
      self._rows, self._trials = np.full(size, -1), np.zeros(size, np.int32)
      self._steps = np.zeros(size, np.int32)
    elif size < self.size:
      kept = np.argsort(self._rows < 0, kind='stable')[:size]
      lanes = jax.tree.map(
        lambda x: parallel.fetch(x, self._over)[kept], self._lanes
      )
      self._rows, self._trials = self._rows[kept], self._trials[kept]
      self._steps = self._steps[kept]
    else:
      return
    self._lanes = parallel.put(lanes, self._over, split=True)

  def enter(
    self,
    entering: Sequence[tuple[int, int]],
    images: np.ndarray,
    labels: np.ndarray,
    indices: np.ndarray,
  ) -> None:
    """Begins trials, given as (row, trial), in free lanes."""
    lanes = np.flatnonzero(self._rows < 0)[: len(entering)]
    self._rows[lanes], self._trials[lanes] = np.transpose(entering)
    self._steps[lanes] = 0
    fresh = np.zeros(self.size, bool)
    fresh[lanes] = True
    rows = self._rows
    given = fresh, images[rows], labels[rows], indices[rows], self._trials
    given = parallel.put(given, self._over, split=True)
    self._lanes = self._programs.begin(self._constants, (self._lanes, *given))

  @property
  def under_way(self) -> int:
    """Steps that the trials under way have done together."""
    return int(self._steps[self._rows >= 0].sum())

  def advance(self) -> Finished:
    """Does a segment of steps; empties the lanes whose trials are over."""
    for _ in range(self._calls):
      self._lanes, *told = self._programs.advance(
        self._constants, (self._lanes,)
      )
    # A copy, since what is on a device cannot be written to.
    steps = np.array(parallel.fetch(told[0], self._over))
    fooled = parallel.fetch(told[1], self._over)
    done = (steps >= self._attack.num_steps) | (self._stop_early & fooled)
    done &= self._rows >= 0
    empty = self._empty_lane.image
    images = np.zeros((0, *empty.shape), empty.dtype)
    if fooled[done].any():
      found = self._programs.found(self._constants, (self._lanes,))
      images = parallel.fetch(found, self._over)[done & fooled]
    rows, self._steps = self._rows[done], steps
    self._rows[done] = -1
    return Finished(rows, self._trials[done], steps[done], fooled[done], images)


def sizes(batch_size: int, devices: int, images: int) -> list[int]:
  """Sizes of batches in ascending order, multiples of the devices.

  Args:
    batch_size: the one asked for.
    devices: how many there are.
    images: how many there are; no batch has place for more.
  """
  halved = (batch_size >> halvings for halvings in range(_NUM_SIZES))
  found = {
    -(-min(max(size, min(batch_size, _SMALLEST)), max(images, 1)) // devices)
    for size in halved
  }
  return [size * devices for size in sorted(found)]

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
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnascl_jax import parallel
from rnascl_jax.attacks import unrolling
from rnascl_jax.attacks.ascent import Point
from rnascl_jax.attacks.stepwise import Problem, Stepwise
from rnascl_jax.base import Array, Key, LogitsFn, PyTree

# Sizes of batches: the one asked for, and halves of it, but not below this.
_NUM_SIZES = 4
_SMALLEST = 8
# Lanes are refilled when this share of them is free: beginning a trial costs
# the same for one lane as for all.
_FREE = 0.25


class Constants(NamedTuple):
  """What all lanes share.

  Attributes:
    logits_fn: the classifier, a pytree.
    key: typed random key of the attack.
    epsilon: scalar.
  """

  logits_fn: LogitsFn
  key: Key
  epsilon: Array


class Lane(NamedTuple):
  """A place for an image; all leaves have a leading axis of lanes.

  Attributes:
    image: [H, W, C], without an attack.
    label: scalar integer.
    index: of the image in the data set.
    trial: the one under way.
    step: steps done in it; after the last one the lane is done.
    state: of the attack.
  """

  image: Array
  label: Array
  index: Array
  trial: Array
  step: Array
  state: PyTree


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


class _Programs(NamedTuple):
  """Compiled functions of (constants, lanes and more).

  Attributes:
    begin: starts a trial in the lanes that are fresh.
    advance: does some steps; also returns steps and verdicts of all lanes.
    found: adversarial images of all lanes.
  """

  begin: Callable[..., Lane]
  advance: Callable[..., tuple[Lane, Array, Array]]
  found: Callable[..., Array]


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
) -> Iterator[Finished]:
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
    batch_size: lanes at once over all devices.
    over: the devices.
    stop_early: whether a trial ends with the first step that fools the
      classifier. As published it goes on, and finds another image.

  Yields:
    The trials that have finished since the last time; those of one image in
    order, up to the one that was not in vain.
  """
  waiting = collections.deque(queue)
  constants = Constants(logits_fn, key, jnp.asarray(epsilon, images.dtype))
  batch = _Batch(attack, constants, images, over, stop_early)
  allowed = sizes(batch_size, len(over))
  while waiting or batch.busy:
    left = len(waiting) + batch.busy
    batch.resize(next((s for s in allowed if s >= left), allowed[-1]))
    if waiting and batch.size - batch.busy >= _FREE * batch.size:
      free = batch.size - batch.busy
      entering = [waiting.popleft() for _ in range(min(free, len(waiting)))]
      batch.enter(entering, images, labels, indices)
    finished = batch.advance()
    if finished is None:
      continue
    yield finished
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
    self._empty_lane = _empty_lane(attack, constants, images)
    self._calls, count = _calls(attack, constants, self._empty_lane)
    self._constants = parallel.put(constants, over)
    self._programs = _programs(attack, tuple(over), stop_early, count)
    self._lanes: Lane | None = None
    self._rows = np.zeros(0, int)  # -1 where there is no image.
    self._trials = np.zeros(0, np.int32)

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
    elif size < self.size:
      kept = np.argsort(self._rows < 0, kind='stable')[:size]
      lanes = jax.tree.map(lambda x: np.asarray(x)[kept], self._lanes)
      self._rows, self._trials = self._rows[kept], self._trials[kept]
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
    fresh = np.zeros(self.size, bool)
    fresh[lanes] = True
    rows = self._rows
    given = fresh, images[rows], labels[rows], indices[rows], self._trials
    given = parallel.put(given, self._over, split=True)
    self._lanes = self._programs.begin(self._constants, (self._lanes, *given))

  def advance(self) -> Finished | None:
    """Does a segment of steps; empties the lanes whose trials are over."""
    for _ in range(self._calls):
      self._lanes, steps, fooled = self._programs.advance(
        self._constants, (self._lanes,)
      )
    steps, fooled = np.asarray(steps), np.asarray(fooled)
    done = (steps >= self._attack.num_steps) | (self._stop_early & fooled)
    done &= self._rows >= 0
    if not done.any():
      return None
    images = np.zeros((0, *self._empty_lane.image.shape), fooled.dtype)
    if fooled[done].any():
      found = self._programs.found(self._constants, (self._lanes,))
      images = np.asarray(found)[done & fooled]
    rows = self._rows[done]
    self._rows[done] = -1
    return Finished(rows, self._trials[done], steps[done], fooled[done], images)


def sizes(batch_size: int, devices: int) -> list[int]:
  """Sizes of batches in ascending order, multiples of the devices."""
  found = {
    -(-max(batch_size >> halvings, min(batch_size, _SMALLEST)) // devices)
    for halvings in range(_NUM_SIZES)
  }
  return [size * devices for size in sorted(found)]


def _empty_lane(
  attack: Stepwise, constants: Constants, images: np.ndarray
) -> Lane:
  """A lane without an image, which is done."""
  image, zero = np.zeros(images.shape[1:], images.dtype), np.zeros((), np.int32)
  lane = Lane(image, zero, zero, zero, zero, None)
  state = jax.eval_shape(
    lambda c, lane: attack.init(c.logits_fn, _problem(c, lane), lane.trial),
    constants,
    lane,
  )
  return lane._replace(
    step=np.asarray(attack.num_steps, np.int32),
    state=jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state),
  )


def _calls(
  attack: Stepwise, constants: Constants, lane: Lane
) -> tuple[int, int]:
  """How often `advance` is called in a segment, and how many steps it does.

  Where loops are slow, every step is a call of its own.
  """
  length = min(attack.segment, attack.num_steps)
  slow = unrolling.is_slow_in_loops(
    lambda c, lane: attack.step(
      c.logits_fn, _problem(c, lane), lane.state, lane.step
    ),
    constants,
    lane,
  )
  return (length, 1) if slow else (1, length)


def _problem(constants: Constants, lane: Lane) -> Problem:
  key = jax.random.fold_in(constants.key, lane.index)
  key = jax.random.fold_in(key, lane.trial)
  return Problem(key, lane.image, lane.label, constants.epsilon)


def _point(attack: Stepwise, constants: Constants, lane: Lane) -> Point:
  return attack.found(_problem(constants, lane), lane.state)


@functools.lru_cache(maxsize=32)
def _programs(
  attack: Stepwise, over: tuple[jax.Device, ...], stop_early: bool, count: int
) -> _Programs:
  """Compiles functions of lanes that are split over devices."""

  def begin(constants: Constants, arrays: tuple[Any, ...]) -> Lane:
    def one(lane, fresh, image, label, index, trial):
      new = Lane(image, label, index, trial, jnp.zeros_like(lane.step), None)
      problem = _problem(constants, new)
      state = attack.init(constants.logits_fn, problem, trial)
      return _where(fresh, new._replace(state=state), lane)

    return jax.vmap(one)(*arrays)

  def advance(constants: Constants, arrays: tuple[Lane]) -> tuple[Any, ...]:
    def is_done(lane: Lane) -> Array:
      fooled = stop_early & _point(attack, constants, lane).fooled
      return fooled | (lane.step >= attack.num_steps)

    def one(lane: Lane) -> Lane:
      problem = _problem(constants, lane)
      state = attack.step(constants.logits_fn, problem, lane.state, lane.step)
      moved = lane._replace(state=state, step=lane.step + 1)
      return _where(is_done(lane), lane, moved)

    def goes_on(carry: tuple[Array, Lane]) -> Array:
      return (carry[0] < count) & ~jnp.all(jax.vmap(is_done)(carry[1]))

    def body(carry: tuple[Array, Lane]) -> tuple[Array, Lane]:
      return carry[0] + 1, jax.vmap(one)(carry[1])

    (lanes,) = arrays
    if count == 1:
      lanes = jax.vmap(one)(lanes)
    else:
      _, lanes = lax.while_loop(goes_on, body, (jnp.zeros((), int), lanes))
    points = jax.vmap(functools.partial(_point, attack, constants))(lanes)
    return lanes, lanes.step, points.fooled

  def found(constants: Constants, arrays: tuple[Lane]) -> Array:
    one = functools.partial(_point, attack, constants)
    return jax.vmap(one)(*arrays).image

  return _Programs(*(parallel.split(f, over) for f in (begin, advance, found)))


def _where(condition: Array, chosen: PyTree, other: PyTree) -> PyTree:
  return jax.tree.map(lambda a, b: jnp.where(condition, a, b), chosen, other)

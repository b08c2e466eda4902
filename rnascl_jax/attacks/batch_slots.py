"""Attacks in steps on a data set: a batch slot for each image under attack.

A batch has a fixed number of slots. All slots do a step at a time, each at its
own step of its own trial. Every few steps the batch looks which slots are done,
because the classifier is fooled or the trial is over, and the next images take
their places: no slot attacks an image that is broken, and nothing compiles
again. When no image waits any more, the images that are left move to smaller
batches, of a few fixed sizes.

An image's steps and random draws depend on its own key, index and trial alone,
so batch size, order, devices and an interruption change nothing but rounding.
"""

import collections
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnascl_jax.attacks import compiled, stepwise, unrolling
from rnascl_jax.attacks.attack_log import AttackLog, AutoAttackInput, Finished
from rnascl_jax.attacks.stepwise import AttackInput, Stepwise
from rnascl_jax.base import Array, Key, LogitsFn, PyTree
from rnascl_jax.runtime import parallel

# Batches have the size that was asked for, or halves of it, but not below this.
_NUM_SIZES = 4
_SMALLEST = 8
# Images enter when this share of the slots is free: to begin a trial costs the
# same for one slot as for all.
_FREE = 0.25


def run(
  inputs: AutoAttackInput, key: Key, log: AttackLog, rows: np.ndarray
) -> Iterator[tuple[Finished, float, int]]:
  """Attacks images until each is broken or has had all trials.

  Args:
    inputs: the classifier, the images and how they are attacked.
    key: typed random key of the attack.
    log: of the attack; every trial is added when it has finished.
    rows: [n] integers, the images to attack; those whose trials are all in the
      log are left out.

  Yields:
    Every few steps the trials that have finished since the last time, perhaps
    none, and the seconds they took; those of one image in order, the first that
    fools the classifier being its last. And how many steps the trials under way
    have done together.
  """
  waiting = collections.deque(rows[~log.is_over(rows)].tolist())
  if not waiting:
    return
  before = time.monotonic()
  allowed = sizes(inputs.batch_size, len(inputs.devices), len(inputs.images))
  batch = _Batch(log.attack, inputs, key, _smallest(allowed, len(waiting)))
  while waiting or batch.busy:
    batch.shrink(_smallest(allowed, len(waiting) + batch.busy))
    free = batch.size - batch.busy
    if waiting and free >= _FREE * batch.size:
      entering = [waiting.popleft() for _ in range(min(free, len(waiting)))]
      batch.enter(entering, log.trials)
    finished, seconds = batch.advance(log.trials), 0.0
    if len(finished.rows):
      seconds, before = time.monotonic() - before, time.monotonic()
      log.add(finished, seconds)
    yield finished, seconds, batch.steps_under_way
    waiting.extendleft(finished.rows[~log.is_over(finished.rows)].tolist())


def sizes(batch_size: int, devices: int, images: int) -> list[int]:
  """Sizes of batches in ascending order, multiples of the number of devices.

  Args:
    batch_size: the one asked for.
    devices: how many there are.
    images: how many there are; no batch has place for more.
  """
  halved = (batch_size >> halvings for halvings in range(_NUM_SIZES))
  of_a_device = {
    -(-min(max(size, min(batch_size, _SMALLEST)), max(images, 1)) // devices)
    for size in halved
  }
  return [size * devices for size in sorted(of_a_device)]


def _smallest(allowed: list[int], count: int) -> int:
  """The smallest of the sizes with place for so many images, or the largest."""
  return next((size for size in allowed if size >= count), allowed[-1])


class Shared(NamedTuple):
  """What all slots share.

  Attributes:
    logits_fn: the classifier, a pytree.
    key: typed random key of the attack.
    epsilon: scalar.
  """

  logits_fn: LogitsFn
  key: Key
  epsilon: Array


class Slot(NamedTuple):
  """A place for an image; in a batch all leaves have a leading axis of slots.

  Attributes:
    image: [H, W, C], without an attack.
    label: scalar integer.
    example: index of the image in the data set.
    trial: the one under way.
    step: steps done in it; after the last one the slot is done.
    state: of the attack.
  """

  image: Array
  label: Array
  example: Array
  trial: Array
  step: Array
  state: PyTree

  def inputs(self, shared: Shared) -> AttackInput:
    key = jax.random.fold_in(shared.key, self.example)
    key = jax.random.fold_in(key, self.trial)
    return AttackInput(key, self.image, self.label, shared.epsilon)


class _Batch:
  """The slots of one batch, and which image is in which of them."""

  def __init__(
    self, attack: Stepwise, inputs: AutoAttackInput, key: Key, size: int
  ):
    self._attack, self._inputs = attack, inputs
    images, self._devices = inputs.images, inputs.devices
    epsilon = jnp.asarray(inputs.epsilon, images.dtype)
    leaves, structure = jax.tree.flatten(Shared(inputs.logits_fn, key, epsilon))
    slot = _empty_slot(attack, leaves, structure, images)
    # Where loops are slow, every step is a call of its own.
    step = compiled.of_leaves(functools.partial(_step, attack), structure)
    platform = self._devices[0].platform
    slow = unrolling.is_slow_in_loops(step, leaves, slot, platform=platform)
    segment = min(attack.segment, attack.num_steps)
    self._calls, count = (segment, 1) if slow else (1, segment)
    self._begin, self._advance, self._candidates = _programs(
      attack, structure, self._devices, inputs.stop_early, count
    )
    self._shared = parallel.put(leaves, self._devices)
    self._slots = self._put(
      jax.tree.map(lambda x: np.broadcast_to(x, (size, *x.shape)), slot)
    )
    self._rows = np.full(size, -1)  # -1 where there is no image.
    self._steps = np.zeros(size, np.int32)

  @property
  def size(self) -> int:
    return len(self._rows)

  @property
  def busy(self) -> int:
    """Slots with an image."""
    return int((self._rows >= 0).sum())

  @property
  def steps_under_way(self) -> int:
    """Steps that the trials under way have done together."""
    return int(self._steps[self._rows >= 0].sum())

  def shrink(self, size: int) -> None:
    """Moves the images that are left to fewer slots, if these are fewer."""
    if size >= self.size:
      return
    kept = np.argsort(self._rows < 0, kind='stable')[:size]
    self._slots = self._put(
      jax.tree.map(lambda x: self._fetch(x)[kept], self._slots)
    )
    self._rows, self._steps = self._rows[kept], self._steps[kept]

  def enter(self, rows: list[int], trials: np.ndarray) -> None:
    """Begins the next trial of images, after `trials` [N], in free slots."""
    slots = np.flatnonzero(self._rows < 0)[: len(rows)]
    self._rows[slots], self._steps[slots] = rows, 0
    fresh = np.zeros(self.size, bool)
    fresh[slots] = True
    inputs = self._inputs
    of_all = (inputs.images, inputs.labels, inputs.indices, trials)
    arrays = self._put((fresh, *(array[self._rows] for array in of_all)))
    self._slots = self._begin(self._shared, (self._slots, *arrays))

  def advance(self, trials: np.ndarray) -> Finished:
    """Does a segment of steps; empties the slots whose trials are over."""
    for _ in range(self._calls):
      self._slots, *verdicts = self._advance(self._shared, (self._slots,))
    # A copy, since what is on a device cannot be written to.
    steps, fooled = np.array(self._fetch(verdicts[0])), self._fetch(verdicts[1])
    done = steps >= self._attack.num_steps
    done |= self._inputs.stop_early & fooled
    done &= self._rows >= 0
    images = self._inputs.images[:0]
    if fooled[done].any():
      of_all = self._candidates(self._shared, (self._slots,))
      images = self._fetch(of_all)[done & fooled]
    rows, self._steps = self._rows[done], steps
    self._rows[done] = -1
    return Finished(rows, trials[rows], steps[done], fooled[done], images)

  def _put(self, tree: PyTree) -> PyTree:
    return parallel.put(tree, self._devices, split=True)

  def _fetch(self, array: Array) -> np.ndarray:
    return parallel.fetch(array, self._devices)


def _empty_slot(
  attack: Stepwise, leaves: list[Any], structure: Any, images: np.ndarray
) -> Slot:
  """A slot without an image, which is done."""
  image = jnp.zeros(images.shape[1:], images.dtype)
  zero = jnp.zeros((), jnp.int32)
  slot = Slot(image, zero, zero, zero, zero, None)
  init = compiled.of_leaves(functools.partial(_init, attack), structure)
  state = jax.eval_shape(init, leaves, slot)
  return slot._replace(
    step=jnp.asarray(attack.num_steps, jnp.int32),
    state=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state),
  )


def _init(attack: Stepwise, shared: Shared, slot: Slot) -> PyTree:
  return attack.init(shared.logits_fn, slot.inputs(shared), slot.trial)


def _step(attack: Stepwise, shared: Shared, slot: Slot) -> PyTree:
  inputs = slot.inputs(shared)
  return attack.step(shared.logits_fn, inputs, slot.state, slot.step)


@functools.lru_cache(maxsize=32)
def _programs(
  attack: Stepwise,
  structure: Any,
  devices: tuple[jax.Device, ...],
  stop_early: bool,
  count: int,
) -> tuple[Callable[..., Any], ...]:
  """Compiles functions of (leaves of the `Shared`, (slots, ...)).

  The slots are split over devices.

  Args:
    attack: in steps.
    structure: of the `Shared`: the classifier without its arrays.
    devices: the devices.
    stop_early: whether a slot is done when its image fools the classifier.
    count: steps of a call of `advance`.

  Returns:
    begin: starts a trial in the slots that are fresh.
    advance: does some steps; also returns steps and verdicts of all slots.
    images: adversarial images [slots, H, W, C].
  """

  def candidates(shared: Shared, slots: Slot) -> stepwise.Candidate:
    def one(slot: Slot) -> stepwise.Candidate:
      return attack.candidate(slot.inputs(shared), slot.state)

    return jax.vmap(one)(slots)

  def begin(shared: Shared, arrays: tuple[Any, ...]) -> Slot:
    def one(slot, fresh, image, label, index, trial):
      new = Slot(image, label, index, trial, jnp.zeros_like(slot.step), None)
      new = new._replace(state=_init(attack, shared, new))
      return stepwise.select(fresh, new, slot)

    return jax.vmap(one)(*arrays)

  def advance(shared: Shared, arrays: tuple[Slot]) -> tuple[Any, ...]:
    def are_done(slots: Slot) -> Array:
      fooled = stop_early & candidates(shared, slots).fooled
      return fooled | (slots.step >= attack.num_steps)  # [slots]

    def step(slots: Slot) -> Slot:
      states = jax.vmap(functools.partial(_step, attack, shared))(slots)
      moved = slots._replace(state=states, step=slots.step + 1)
      return jax.vmap(stepwise.select)(are_done(slots), slots, moved)

    def goes_on(carry: tuple[Array, Slot]) -> Array:
      return (carry[0] < count) & ~jnp.all(are_done(carry[1]))

    def body(carry: tuple[Array, Slot]) -> tuple[Array, Slot]:
      return carry[0] + 1, step(carry[1])

    (slots,) = arrays
    if count == 1:
      slots = step(slots)
    else:
      _, slots = lax.while_loop(goes_on, body, (jnp.zeros((), int), slots))
    return slots, slots.step, candidates(shared, slots).fooled

  def images(shared: Shared, arrays: tuple[Slot]) -> Array:
    return candidates(shared, *arrays).image

  return tuple(
    parallel.split(compiled.of_leaves(function, structure), devices)
    for function in (begin, advance, images)
  )

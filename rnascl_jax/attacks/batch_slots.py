"""Attacks in steps on a data set: a batch slot for each trial under way.

A batch has a fixed number of slots. All slots do a step at a time, each at its
own step of its own trial. Every few steps the batch looks which slots are done,
because the classifier is fooled or the trial is over, and the next trials take
their places: no slot attacks an image that is broken, and nothing compiles
again. `attack_queue` says which trials are next; where no image waits, these
are further trials of images that are under attack already. When no trial waits
any more, those that are left move to fewer slots.

On a CPU the slots are in parts of 16: while the host looks at one of them, the
device works on the others, no core waits, and a batch becomes smaller by whole
parts without another program. What a pass keeps of 16 images also stays in
memory that the process has already; for larger arrays the system hands out new
pages in each pass.

An image's steps and random draws depend on its own key, index and trial alone,
so batch size, order, devices and an interruption change nothing but rounding.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnascl_jax.attacks import compiled, stepwise, unrolling
from rnascl_jax.attacks.attack_log import AttackLog, AutoAttackInput, Finished
from rnascl_jax.attacks.attack_queue import AttackQueue
from rnascl_jax.attacks.stepwise import AttackInput, Stepwise
from rnascl_jax.base import Array, Key, LogitsFn, PyTree
from rnascl_jax.runtime import parallel

# Slots of a part, where batches have several.
_PART = {'cpu': 16}
# Trials enter when this share of the slots is free: to begin a trial costs the
# same for one slot as for all.
_FREE = 0.25
# Slot steps that another size, which is compiled anew, is to save at least.
_WORTH = 16_000


def run(
  inputs: AutoAttackInput, key: Key, log: AttackLog, rows: np.ndarray
) -> Iterator[tuple[Finished, float, int]]:
  """Attacks images until each is broken or has had all trials.

  Args:
    inputs: the classifier, the images and how they are attacked.
    key: typed random key of the attack.
    log: of the attack; every trial is added when it and all trials of the image
      before it have finished.
    rows: [n] integers, the images to attack; those whose trials are all in the
      log are left out.

  Yields:
    Every few steps the trials that were added since the last time, perhaps
    none, and the seconds they took; those of one image in order, the first that
    fools the classifier being its last. And how many steps the trials that are
    not in the log have done together.
  """
  queue = AttackQueue(log, rows)
  if not queue.left:
    return
  before = time.monotonic()
  batch = _Batch(log.attack, inputs, key, queue.left)
  for turn in itertools.count():
    batch.fit(queue.waiting)
    part = turn % batch.num_parts
    finished, seconds = queue.add(batch.collect(part)), 0.0
    if len(finished.rows):
      seconds, before = time.monotonic() - before, time.monotonic()
      log.add(finished, seconds)
    batch.keep(queue)
    batch.enter(part, queue)
    batch.advance(part)
    yield finished, seconds, batch.steps_under_way + queue.steps_ahead
    if not queue.left:
      return


def fitted(trials: int, batch_size: int, divisor: int = 1) -> int:
  """The size of the batch in which trials take as few rounds as in the largest.

  Args:
    trials: how many there are, at least 1.
    batch_size: the largest size, rounded up to a multiple of the divisor.
    divisor: of the size: the number of devices.

  Returns:
    The divisor times an integer of which all binary digits but the first three
    are 0, so that few sizes are compiled; or the largest size.
  """
  rounds = -(-trials // batch_size)
  size = -(-trials // (rounds * divisor))
  step = 1 << max(size.bit_length() - 3, 0)
  largest = -(-batch_size // divisor)
  return min(-(-size // step) * step, largest) * divisor


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
  """The slots, in parts that advance in turn, and which trials are in them."""

  def __init__(
    self, attack: Stepwise, inputs: AutoAttackInput, key: Key, trials: int
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
    self._begin, self._advance = _programs(
      attack, structure, self._devices, inputs.stop_early, count
    )
    self._shared = parallel.put(leaves, self._devices)
    most = inputs.batch_size
    self._largest = min(most, _PART.get(platform, most))
    size = fitted(trials, self._largest, len(self._devices))
    num_parts = max(min(-(-trials // size), most // size), 1)
    empty = jax.tree.map(lambda x: np.broadcast_to(x, (size, *x.shape)), slot)
    self._slots = [self._put(empty)] * num_parts
    self._verdicts: list[Any] = [None] * num_parts
    # [parts, slots]; rows are -1 where there is no trial.
    self._rows = np.full((num_parts, size), -1)
    self._trials, self._steps = np.zeros((2, num_parts, size), np.int32)

  @property
  def num_parts(self) -> int:
    return len(self._rows)

  @property
  def steps_under_way(self) -> int:
    """Steps that the trials under way have done together."""
    return int(self._steps[self._rows >= 0].sum())

  def keep(self, queue: AttackQueue) -> None:
    """Empties the slots whose trials are of no use any more."""
    self._rows[~queue.are_of_use(self._rows, self._trials)] = -1

  def fit(self, waiting: int) -> None:
    """Moves trials to fewer slots where these are enough and it is worth it."""
    trials = int((self._rows >= 0).sum()) + waiting
    size = self._rows.shape[1]
    parts = -(-trials // size)
    if parts == 1:  # Another size is compiled anew.
      smaller = fitted(trials, self._largest, len(self._devices))
      if (size - smaller) * self._attack.num_steps >= _WORTH:
        size = smaller
    if not 0 < parts * size < self._rows.size:
      return
    order = np.argsort(self._rows.ravel() < 0, kind='stable')
    kept = order[: parts * size].reshape(size, parts).T  # [parts, slots]
    whole = jax.tree.map(
      lambda *parts: np.concatenate([self._fetch(x) for x in parts]),
      *self._slots,
    )
    self._slots = [
      self._put(jax.tree.map(lambda x, rows=rows: x[rows], whole))
      for rows in kept
    ]
    # The next segments say again which slots are done.
    self._verdicts = [None] * parts
    self._rows, self._trials, self._steps = (
      array.ravel()[kept] for array in (self._rows, self._trials, self._steps)
    )

  def enter(self, part: int, queue: AttackQueue) -> None:
    """Begins trials in the free slots of a part, if these are worth it."""
    free = np.flatnonzero(self._rows[part] < 0)
    if len(free) < _FREE * self._rows.shape[1]:
      return
    rows, trials = queue.take(len(free))
    if not len(rows):
      return
    slots, fresh = free[: len(rows)], np.zeros(self._rows.shape[1], bool)
    self._rows[part, slots], self._trials[part, slots] = rows, trials
    self._steps[part, slots], fresh[slots] = 0, True
    inputs = self._inputs
    arrays = (
      fresh,
      *(
        array[self._rows[part]]
        for array in (inputs.images, inputs.labels, inputs.indices)
      ),
      self._trials[part].copy(),  # JAX may use the memory of what it is given.
    )
    self._slots[part] = self._begin(
      self._shared, (self._slots[part], *self._put(arrays))
    )

  def advance(self, part: int) -> None:
    """Begins a segment of steps of a part, and does not wait for it."""
    self._verdicts[part] = None
    if (self._rows[part] < 0).all():
      return
    with parallel.side_by_side(part + 1):
      for _ in range(self._calls):
        self._slots[part], *self._verdicts[part] = self._advance(
          self._shared, (self._slots[part],)
        )

  def collect(self, part: int) -> Finished:
    """Waits for the segment of a part; empties the slots that are done."""
    rows, trials = self._rows[part], self._trials[part]
    steps, fooled = self._steps[part], np.zeros(len(rows), bool)
    if self._verdicts[part] is not None:
      steps, fooled = map(self._fetch, self._verdicts[part][:2])
    done = steps >= self._attack.num_steps
    done |= self._inputs.stop_early & fooled
    done &= rows >= 0
    images = self._inputs.images[:0]
    if fooled[done].any():
      images = self._fetch(self._verdicts[part][2])[done & fooled]
    finished = Finished(
      rows[done], trials[done], steps[done], fooled[done], images
    )
    self._rows[part, done], self._steps[part] = -1, steps
    return finished

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
    advance: does some steps; also returns steps, verdicts and adversarial
      images [slots, H, W, C].
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
    after = candidates(shared, slots)
    return slots, slots.step, after.fooled, after.image

  return tuple(
    parallel.split(compiled.of_leaves(function, structure), devices)
    for function in (begin, advance)
  )

"""The compiled programs that `lanes` calls, and what is in a lane."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnascl_jax.attacks import ascent, compiled, unrolling
from rnascl_jax.attacks.ascent import Point
from rnascl_jax.attacks.stepwise import Problem, Stepwise
from rnascl_jax.base import Array, Key, LogitsFn, PyTree
from rnascl_jax.runtime import parallel


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
    example: index of the image in the data set.
    trial: the one under way.
    step: steps done in it; after the last one the lane is done.
    state: of the attack.
  """

  image: Array
  label: Array
  example: Array
  trial: Array
  step: Array
  state: PyTree


class Programs(NamedTuple):
  """Compiled functions of (leaves of the constants, lanes and more).

  Attributes:
    begin: starts a trial in the lanes that are fresh.
    advance: does some steps; also returns steps and verdicts of all lanes.
    found: adversarial images of all lanes.
  """

  begin: Callable[..., Lane]
  advance: Callable[..., tuple[Lane, Array, Array]]
  found: Callable[..., Array]


def empty_lane(
  attack: Stepwise, constants: Constants, images: np.ndarray
) -> Lane:
  """A lane without an image, which is done."""
  image = jnp.zeros(images.shape[1:], images.dtype)
  zero = jnp.zeros((), jnp.int32)
  lane = Lane(image, zero, zero, zero, zero, None)
  leaves, structure = jax.tree.flatten(constants)

  def init(c: Constants, lane: Lane) -> PyTree:
    return attack.init(c.logits_fn, _problem(c, lane), lane.trial)

  state = jax.eval_shape(compiled.of_leaves(init, structure), leaves, lane)
  return lane._replace(
    step=jnp.asarray(attack.num_steps, jnp.int32),
    state=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), state),
  )


def calls(
  attack: Stepwise, constants: Constants, lane: Lane, platform: str
) -> tuple[int, int]:
  """How often `advance` is called in a segment, and how many steps it does.

  Where loops are slow, every step is a call of its own.
  """
  length = min(attack.segment, attack.num_steps)
  leaves, structure = jax.tree.flatten(constants)

  def step(c: Constants, lane: Lane) -> PyTree:
    return attack.step(c.logits_fn, _problem(c, lane), lane.state, lane.step)

  slow = unrolling.is_slow_in_loops(
    compiled.of_leaves(step, structure), leaves, lane, platform=platform
  )
  return (length, 1) if slow else (1, length)


def _problem(constants: Constants, lane: Lane) -> Problem:
  key = jax.random.fold_in(constants.key, lane.example)
  key = jax.random.fold_in(key, lane.trial)
  return Problem(key, lane.image, lane.label, constants.epsilon)


def _point(attack: Stepwise, constants: Constants, lane: Lane) -> Point:
  return attack.found(_problem(constants, lane), lane.state)


@functools.lru_cache(maxsize=32)
def programs(
  attack: Stepwise,
  structure: Any,
  over: tuple[jax.Device, ...],
  stop_early: bool,
  count: int,
) -> Programs:
  """Compiles functions of lanes that are split over devices.

  Args:
    attack: in steps.
    structure: of the `Constants`: the classifier without its arrays.
    over: the devices.
    stop_early: whether a lane is done when its image fools the classifier.
    count: steps of a call of `advance`.

  Returns:
    The functions; those that were not used for long are given back.
  """

  def begin(constants: Constants, arrays: tuple[Any, ...]) -> Lane:
    def one(lane, fresh, image, label, index, trial):
      new = Lane(image, label, index, trial, jnp.zeros_like(lane.step), None)
      problem = _problem(constants, new)
      state = attack.init(constants.logits_fn, problem, trial)
      return ascent.select(fresh, new._replace(state=state), lane)

    return jax.vmap(one)(*arrays)

  def advance(constants: Constants, arrays: tuple[Lane]) -> tuple[Any, ...]:
    def is_done(lane: Lane) -> Array:
      fooled = stop_early & _point(attack, constants, lane).fooled
      return fooled | (lane.step >= attack.num_steps)

    def one(lane: Lane) -> Lane:
      problem = _problem(constants, lane)
      state = attack.step(constants.logits_fn, problem, lane.state, lane.step)
      moved = lane._replace(state=state, step=lane.step + 1)
      return ascent.select(is_done(lane), lane, moved)

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

  functions = [
    compiled.of_leaves(f, structure) for f in (begin, advance, found)
  ]
  return Programs(*(parallel.split(f, over) for f in functions))

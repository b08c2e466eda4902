"""Attacks that can be stopped after any step and continued.

APGD, FAB and Square are given as three pure functions of one image: `init`
begins a trial (a random restart or a target class), `step` does one step, and
`found` says what the attack has so far. `run` puts them into one loop: an
attack on one image like any other, to be lifted by `vmap`. `lanes` runs the
same functions on a data set, and gives the place of an image that is done to
the next one.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from rnascl_jax.attacks import arguments, ascent
from rnascl_jax.attacks.ascent import Point
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.base import Array, Key, LogitsFn, PyTree


class Problem(NamedTuple):
  """One image under attack; the same in all steps of a trial.

  Attributes:
    key: typed random key of the image and the trial.
    image: [H, W, C] in [0, 1], without an attack.
    label: scalar integer.
    epsilon: scalar, radius of the ball.
  """

  key: Key
  image: Array
  label: Array
  epsilon: Array


class Passes(NamedTuple):
  """How often an attack goes through the network for one image.

  Attributes:
    forward: evaluations of the logits.
    backward: gradients by the image.
  """

  forward: int
  backward: int


class Stepwise(Protocol):
  """An attack in steps; a frozen dataclass, so that equal ones compile once."""

  def __hash__(self) -> int:
    """Of its fields."""

  @property
  def num_steps(self) -> int:
    """Steps of a trial, static."""

  @property
  def segment(self) -> int:
    """Steps after which it is worth looking which images are done."""

  @property
  def norm(self) -> Norm:
    """Of the ball."""

  def passes(self, num_classes: int) -> tuple[Passes, Passes]:
    """What `init` and one `step` cost, for a classifier of K classes."""

  def num_trials(self, num_classes: int) -> int:
    """Trials of an image, for a classifier of K classes; static.

    Returns:
      0 where the attack is not defined for so few classes.
    """

  def init(self, logits_fn: LogitsFn, problem: Problem, trial: Array) -> PyTree:
    """The state before the first step of a trial, a traced scalar."""

  def step(
    self, logits_fn: LogitsFn, problem: Problem, state: PyTree, index: Array
  ) -> PyTree:
    """The state after one more step; index is traced and counts from 0."""

  def found(self, problem: Problem, state: PyTree) -> Point:
    """An adversarial image in the ball, or the worst that was found."""


def fools(logits: Array, label: Array) -> Array:
  """Whether logits [K] are wrong: another class is largest, or one is NaN.

  Of equal logits the first counts as the largest.
  """
  return (jnp.argmax(logits) != label) | jnp.any(jnp.isnan(logits))


def ranked_target(logits: Array, label: Array, rank: Array) -> Array:
  """The class other than the label with the rank-th largest logit.

  Args:
    logits: [K], of the image without an attack.
    label: scalar integer.
    rank: scalar in [0, K - 2]; 0 is the likeliest wrong class.

  Returns:
    Scalar int32. Of equal logits the lower class comes first.
  """
  is_label = jnp.arange(logits.shape[0]) == label
  others = jnp.where(is_label, -jnp.inf, jnp.nan_to_num(logits))
  return lax.top_k(others, logits.shape[0])[1][rank].astype(jnp.int32)


def run(
  attack: Stepwise,
  logits_fn: LogitsFn,
  key: Key,
  image: Array,
  label: int | Array,
  *,
  epsilon: float | Array,
  unroll: int = 1,
) -> Array:
  """All trials of an attack on one image, one after the other.

  Args:
    attack: in steps.
    logits_fn: [1, H, W, C] -> [1, K], in evaluation mode.
    key: typed random key; trial t draws from `fold_in(key, t)`.
    image: [H, W, C] in [0, 1].
    label: in [0, K).
    epsilon: radius, may be traced.
    unroll: steps unrolled in the loop, static.

  Returns:
    [H, W, C] in the ball: what the first trial found that fools the classifier,
    or the worst of all trials if none does. A constant.

  Raises:
    ValueError: if the attack is not defined for so few classes, for a raw key,
      or if epsilon, not traced, is out of range.
  """
  image, label = jnp.asarray(image), jnp.asarray(label)
  arguments.check_one(logits_fn, image)
  arguments.check_key(key)
  arguments.check_length('epsilon', epsilon, attack.norm.longest(image.size))
  num_classes = jax.eval_shape(logits_fn, image[None]).shape[-1]
  num_trials = attack.num_trials(num_classes)
  if num_trials < 1:
    raise ValueError(f'{attack} is not defined for {num_classes} classes.')

  def try_once(best: Point, trial: Array) -> tuple[Point, None]:
    problem = Problem(
      key=jax.random.fold_in(key, trial),
      image=image,
      label=label,
      epsilon=jnp.asarray(epsilon, image.dtype),
    )

    def step(state: Any, index: Array) -> tuple[Any, None]:
      return attack.step(logits_fn, problem, state, index), None

    state = attack.init(logits_fn, problem, trial)
    state, _ = lax.scan(
      step, state, jnp.arange(attack.num_steps), unroll=unroll
    )
    point = ascent.worse_of(best, attack.found(problem, state))
    return ascent.select(best.fooled, best, point), None

  best, _ = lax.scan(try_once, ascent.nothing(image), jnp.arange(num_trials))
  return lax.stop_gradient(best.image)

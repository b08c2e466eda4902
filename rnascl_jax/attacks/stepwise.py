"""Attacks that can be stopped after any step and continued.

APGD, FAB and Square are given as three pure functions of one image: `init`
begins a trial (a random restart or a target class), `step` does one step, and
`candidate` gives the best image of the trial so far. A call puts them into one
loop: an attack on one image like any other, to be lifted by `vmap`.
`batch_slots` runs the same functions on a data set, and gives the place of an
image that is done to the next one.
"""

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnascl_jax.attacks import arguments
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.base import Array, Key, LogitsFn, PyTree


class Candidate(NamedTuple):
  """An image with what the classifier makes of it.

  Attributes:
    image: [H, W, C].
    loss: scalar.
    fooled: scalar bool; always false where the target is not a label.
  """

  image: Array
  loss: Array
  fooled: Array


class AttackInput(NamedTuple):
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


class NetworkPasses(NamedTuple):
  """How often an attack goes through the network for one image.

  Attributes:
    forward: evaluations of the logits.
    backward: gradients by the image.
  """

  forward: int
  backward: int


class Stepwise(abc.ABC):
  """An attack in steps; a frozen dataclass, so that equal ones compile once."""

  @property
  @abc.abstractmethod
  def num_steps(self) -> int:
    """Steps of a trial, static."""

  @property
  @abc.abstractmethod
  def segment(self) -> int:
    """Steps after which it is worth looking which images are done."""

  @property
  @abc.abstractmethod
  def norm(self) -> Norm:
    """Of the ball."""

  @abc.abstractmethod
  def passes(self, num_classes: int) -> tuple[NetworkPasses, NetworkPasses]:
    """What `init` and one `step` cost, for a classifier of K classes."""

  @abc.abstractmethod
  def num_trials(self, num_classes: int) -> int:
    """Trials of an image, for a classifier of K classes; static.

    Returns:
      0 where the attack is not defined for so few classes.
    """

  @abc.abstractmethod
  def init(
    self, logits_fn: LogitsFn, inputs: AttackInput, trial: Array
  ) -> PyTree:
    """The state before the first step of a trial, a traced scalar."""

  @abc.abstractmethod
  def step(
    self, logits_fn: LogitsFn, inputs: AttackInput, state: PyTree, index: Array
  ) -> PyTree:
    """The state after one more step; index is traced and counts from 0."""

  @abc.abstractmethod
  def candidate(self, inputs: AttackInput, state: PyTree) -> Candidate:
    """An adversarial image in the ball, or the one of the largest loss."""

  def __call__(
    self,
    logits_fn: LogitsFn,
    key: Key,
    image: Array,
    label: int | Array,
    *,
    epsilon: float | Array,
    unroll: int = 1,
  ) -> Array:
    """Does all trials on one image, one after the other.

    Args:
      logits_fn: [1, H, W, C] -> [1, K], in evaluation mode.
      key: typed random key; trial t draws from `fold_in(key, t)`.
      image: [H, W, C] in [0, 1].
      label: in [0, K).
      epsilon: radius, may be traced.
      unroll: steps unrolled in the loop, static.

    Returns:
      [H, W, C] in the ball: the image of the first trial that fools the
      classifier, or that of the largest loss if none does. A constant.

    Raises:
      ValueError: if the attack is not defined for so few classes, for a raw
        key, or if epsilon, not traced, is out of range.
    """
    image, label = jnp.asarray(image), jnp.asarray(label)
    arguments.check_one(logits_fn, image)
    arguments.check_key(key)
    arguments.check_length('epsilon', epsilon, self.norm.longest(image.size))
    num_classes = jax.eval_shape(logits_fn, image[None]).shape[-1]
    num_trials = self.num_trials(num_classes)
    if num_trials < 1:
      raise ValueError(f'{self} is not defined for {num_classes} classes.')
    radius = jnp.asarray(epsilon, image.dtype)

    def try_once(best: Candidate, trial: Array) -> tuple[Candidate, None]:
      trial_key = jax.random.fold_in(key, trial)
      inputs = AttackInput(trial_key, image, label, radius)

      def step(state: PyTree, index: Array) -> tuple[PyTree, None]:
        return self.step(logits_fn, inputs, state, index), None

      state = self.init(logits_fn, inputs, trial)
      indices = jnp.arange(self.num_steps)
      state, _ = lax.scan(step, state, indices, unroll=unroll)
      point = worse_of(best, self.candidate(inputs, state))
      return select(best.fooled, best, point), None

    best, _ = lax.scan(try_once, nothing(image), jnp.arange(num_trials))
    return lax.stop_gradient(best.image)


def nothing(image: Array) -> Candidate:
  """The clean image [H, W, C] as a candidate that every other one replaces."""
  loss = jnp.asarray(-jnp.inf, image.dtype)
  return Candidate(image, loss, jnp.asarray(False))


def select(condition: Array, one: Any, other: Any) -> Any:
  """One of two candidates, or any pytrees of arrays, by a scalar condition."""
  return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def worse_of(one: Candidate, other: Candidate) -> Candidate:
  """The candidate that is worse for the classifier.

  That is the one that fools it; if both do or none does, the one of the larger
  loss. The first is kept in a tie, and where the other's loss is NaN.
  """
  as_fooled = other.fooled == one.fooled
  gains = other.fooled & ~one.fooled
  return select(gains | (as_fooled & (other.loss > one.loss)), other, one)


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

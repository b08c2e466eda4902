"""APGD in L1: sparse steps, and radii that shrink to the one asked for.

A step moves the share s of the values with the largest gradients, all by the
same amount, and has no momentum:

  x_{i+1} = project(x_i + eta sparse_direction(g_i, s)).

In L-infinity and L2 (`apgd`) eta is 2 epsilon at first and is halved where the
loss does not rise. In L1 it is epsilon at first, and what decides is how many
values the image of the largest loss changes. Checkpoints are 4 % of the steps
apart, or follow every step if there are less than 50. There s becomes two
thirds of the share of values that this image changes. If these have become
fewer by more than 5 %, eta becomes epsilon again and the attack goes on from
this image; if not, eta is divided by 1.5, down to epsilon / 10.

With `large_radii` a trial has three stages, with 3, 2 and 1 times the radius,
which get 30, 30 and 40 % of the steps. Each later one begins at the image of
the largest loss of the one before, projected into its own ball. Only the last
stage can break an image. AutoAttack's `standard` attacks like this.

Two details of the published code are kept, for they decide results: a value
that the projection returns to the image may miss it by a rounding error, and
then counts as changed, so that the first of several stages begins with dense
steps; and the start of that stage is projected twice.
`tests/attacks/test_apgd_l1.py` compares every pixel with it.

Example:
  >>> import jax
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.attacks import apgd_l1, norms
  >>> def logits_fn(images):  # light or dark?
  ...   brightness = images.mean(axis=(1, 2, 3))
  ...   return jnp.stack([brightness - .5, .5 - brightness], axis=-1)
  >>> image = jnp.full((4, 4, 1), .53)
  >>> attack = apgd_l1.APGDL1(num_steps=12, large_radii=True)
  >>> adversarial = attack(
  ...   logits_fn, jax.random.key(0), image, 0, epsilon=.5)
  >>> print(logits_fn(adversarial[None]).argmax(axis=-1))
  [1]
  >>> print(float(norms.L1.length(adversarial - image)) < .5 + 1e-6)
  True

Reference:
  Croce and Hein, Mind the box: l1-APGD for sparse adversarial attacks on image
  classifiers, ICML 2021, section 3 and algorithm 1.
"""

import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rnascl_jax.attacks import arguments, l1, norms, stepwise
from rnascl_jax.attacks.ascent import GradientAscent
from rnascl_jax.attacks.stepwise import AttackInput, Candidate
from rnascl_jax.base import Array, Key, LogitsFn

# Factors of the radius, and the share of the steps that all but the last get.
_RADII = (3.0, 2.0, 1.0)
_EARLY_STAGE = 0.3
_FEWEST_STEPS = 7
# The share of the steps between two checkpoints.
_WINDOW = 0.04
# The share of values that the first steps move, with one radius.
_FIRST_SHARE = 0.2
# This many times fewer values move than are changed.
_MORE_CHANGED = 1.5
# They have become fewer if less than this part is left.
_FEWER = 0.95
# What divides the step size, and the most that it is divided by.
_SHORTER = 1.5
_SHORTEST = 10.0


class Stages(NamedTuple):
  """What each of the N steps of a trial does, as NumPy arrays.

  Attributes:
    factor: [N], of the radius.
    begins: [N] bool, whether the step begins a later stage: it moves into the
      next ball and does not follow the gradient.
    is_checkpoint: [N] bool, whether it ends in a checkpoint.
  """

  factor: np.ndarray
  begins: np.ndarray
  is_checkpoint: np.ndarray


def stages(num_steps: int, large_radii: bool) -> Stages:
  """The stages of a trial of N steps; the first is begun before them."""
  radii, counts = [_RADII[-1]], [num_steps]
  if large_radii:
    radii, following = [*_RADII], num_steps - len(_RADII) + 1
    early = math.ceil(_EARLY_STAGE * following)
    counts = [early, early, following - 2 * early]
  tables: tuple[list[float], list[bool], list[bool]] = ([], [], [])
  for radius, count in zip(radii, counts, strict=True):
    window = max(int(_WINDOW * count), 1)
    begin = [True] if tables[0] else []
    tables[0].extend([radius] * (len(begin) + count))
    tables[1].extend(begin + [False] * count)
    tables[2].extend([False] * len(begin))
    tables[2].extend(step % window == 0 for step in range(1, count + 1))
  return Stages(*map(np.array, tables))


class Sparsity(NamedTuple):
  """The schedule of sparsity and step size.

  Attributes:
    share: scalar, the share of values that a step moves.
    changed: scalar, how many values the image of the largest loss changed at
      the last checkpoint.
    step_size: scalar.
  """

  share: Array
  changed: Array
  step_size: Array


def next_sparsity(
  sparsity: Sparsity, changed: Array, size: int, epsilon: Array
) -> tuple[Sparsity, Array]:
  """Adapts sparsity and step size at a checkpoint.

  Args:
    sparsity: since the last checkpoint.
    changed: scalar, how many values the image of the largest loss changes.
    size: H W C of the image.
    epsilon: scalar, the radius of the stage.

  Returns:
    The schedule after the checkpoint, and whether the changed values have
    become fewer.
  """
  is_sparser = changed / sparsity.changed < _FEWER
  step_size = jnp.where(is_sparser, epsilon, sparsity.step_size / _SHORTER)
  step_size = jnp.clip(step_size, epsilon / _SHORTEST, epsilon)
  return Sparsity(
    changed / size / _MORE_CHANGED, changed, step_size
  ), is_sparser


class APGDL1State(NamedTuple):
  """The carry of the loop.

  Attributes:
    image: [H, W, C], the iterate.
    gradient: [H, W, C], of the loss at the iterate.
    best: the iterate of the largest loss, of this stage.
    best_gradient: [H, W, C], of the loss at that one.
    adversarial: [H, W, C], the last iterate of the last stage that fooled the
      classifier.
    fooled: scalar bool, whether one fooled it.
    target: scalar, the class to reach, -1 without one.
    sparsity: the schedule.
  """

  image: Array
  gradient: Array
  best: Candidate
  best_gradient: Array
  adversarial: Array
  fooled: Array
  target: Array
  sparsity: Sparsity


@dataclasses.dataclass(frozen=True, kw_only=True)
class APGDL1(GradientAscent):
  """APGD in L1, in steps.

  Starts are the image with normal noise, projected. The other attributes are
  those of `GradientAscent`.

  Attributes:
    large_radii: whether the attack begins in balls of 3 and 2 times the radius.
      Two of the steps then begin a stage, so that `num_steps=102`, at least 7,
      are the 100 of the official code.
  """

  large_radii: bool = False

  def __post_init__(self) -> None:
    super().__post_init__()
    arguments.check_flags(large_radii=self.large_radii)
    if self.large_radii and self.num_steps < _FEWEST_STEPS:
      raise ValueError(
        f'num_steps={self.num_steps} must be at least {_FEWEST_STEPS} with '
        'large_radii: two steps begin a stage, and each of three stages needs '
        'others.'
      )

  @property
  def norm(self) -> norms.Norm:
    return norms.L1

  def init(
    self, logits_fn: LogitsFn, inputs: AttackInput, trial: Array
  ) -> APGDL1State:
    target = self._target(logits_fn, inputs, trial)
    factor = float(self._stages.factor[0])
    epsilon = inputs.epsilon * factor
    start = self.start or self._random_start
    image = start(inputs.key, inputs.image, epsilon)
    # The key of a step is folded with its index, from 1 on.
    candidate, gradient = self._evaluate(logits_fn, inputs, image, target, 0)
    changed = _count_changed(image, inputs.image)
    share = changed / image.size / _MORE_CHANGED
    if not self.large_radii:
      share = jnp.full_like(share, _FIRST_SHARE)
      changed = jnp.full_like(changed, image.size)
    return APGDL1State(
      image=image,
      gradient=gradient,
      best=candidate,
      best_gradient=gradient,
      adversarial=image,
      fooled=candidate.fooled & (factor == _RADII[-1]),
      target=target,
      sparsity=Sparsity(share, changed, epsilon),
    )

  def step(
    self,
    logits_fn: LogitsFn,
    inputs: AttackInput,
    state: APGDL1State,
    index: Array,
  ) -> APGDL1State:
    factor, begins, is_checkpoint = (
      jnp.asarray(table)[index] for table in self._stages
    )
    epsilon = inputs.epsilon * factor.astype(inputs.epsilon.dtype)
    image = _next_image(inputs.image, state, epsilon, begins)
    candidate, gradient = self._evaluate(
      logits_fn, inputs, image, state.target, index + 1
    )
    better = begins | (candidate.loss > state.best.loss)
    best, best_gradient = stepwise.select(
      better, (candidate, gradient), (state.best, state.best_gradient)
    )
    changed = _count_changed(best.image, inputs.image)
    adapted, is_sparser = next_sparsity(
      state.sparsity, changed, image.size, epsilon
    )
    # A stage begins with the longest step.
    whole = jnp.where(begins, epsilon, adapted.step_size)
    adapted = adapted._replace(step_size=whole)
    next_image, next_gradient = stepwise.select(
      is_checkpoint & is_sparser,
      (best.image, best_gradient),
      (image, gradient),
    )
    fooled = candidate.fooled & (factor == _RADII[-1])
    return APGDL1State(
      image=next_image,
      gradient=next_gradient,
      best=best,
      best_gradient=best_gradient,
      adversarial=jnp.where(fooled, image, state.adversarial),
      fooled=state.fooled | fooled,
      target=state.target,
      sparsity=stepwise.select(begins | is_checkpoint, adapted, state.sparsity),
    )

  @property
  def _stages(self) -> Stages:
    return stages(self.num_steps, self.large_radii)

  def _random_start(self, key: Key, image: Array, epsilon: Array) -> Array:
    noise = self.norm.noise(key, image)
    # A ball of one image has no other, not even by rounding.
    noise = jnp.where(epsilon > 0, noise, 0.0)
    if not self.large_radii:
      start = image + noise + l1.correction(image, noise, epsilon)
      return jnp.clip(start, 0.0, 1.0)
    start = image + noise
    for _ in range(2):
      start = start + l1.correction(image, start - image, epsilon)
    return jnp.clip(start, 0.0, 1.0)


def _next_image(
  image: Array, state: APGDL1State, epsilon: Array, begins: Array
) -> Array:
  """The next iterate: one step further, or the start of the next stage."""
  direction = l1.sparse_direction(
    state.gradient, state.sparsity.share, state.sparsity.step_size
  )
  point = jnp.where(begins, state.best.image, state.image + direction)
  delta = point - image
  # As published; the two differ by a rounding error, which may be counted.
  point = jnp.where(begins, point, image + delta)
  moved = point + l1.correction(image, delta, epsilon)
  return jnp.clip(moved, 0.0, 1.0)


def _count_changed(image_adv: Array, image: Array) -> Array:
  """How many values differ, as a scalar of the image's type."""
  return jnp.sum(image_adv != image).astype(image.dtype)

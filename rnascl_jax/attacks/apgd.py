"""APGD: projected gradient descent that chooses its step size itself.

A step goes along the gradient and keeps a quarter of the one before,

  u       = project(x_i + eta direction(g_i))
  x_{i+1} = project(x_i + a (u - x_i) + (1 - a) (x_i - x_{i-1})),  a = 0.75,

and eta, 2 epsilon at first, is halved at fixed checkpoints, 22, 41, 57, 70,
80, 87, 93 and 99 of 100 steps, if the loss rose in at most 75 % of the steps
since the last checkpoint, or if neither eta nor the largest loss has changed
since then. The attack then goes on from the image of the largest loss.

Two details of the published code are kept, for they decide results: the loss of
the first step is compared with 0, not with that of the start, and x_{i-1} is
not reset with x_i. `tests/attacks/test_apgd.py` compares every pixel with it.
Steps in L1 are others; they are in `apgd_l1`.

Example:
  >>> import jax
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.attacks import apgd
  >>> def logits_fn(images):  # light or dark?
  ...   brightness = images.mean(axis=(1, 2, 3))
  ...   return jnp.stack([brightness - .5, .5 - brightness], axis=-1)
  >>> image = jnp.full((4, 4, 1), .53)
  >>> attack = apgd.APGD(num_steps=10)
  >>> adversarial = attack(
  ...   logits_fn, jax.random.key(0), image, 0, epsilon=8 / 255)
  >>> print(logits_fn(adversarial[None]).argmax(axis=-1))
  [1]

Reference:
  Croce and Hein, Reliable evaluation of adversarial robustness with an ensemble
  of diverse parameter-free attacks, ICML 2020, algorithm 1 and section 4.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rnascl_jax.attacks import norms, stepwise
from rnascl_jax.attacks.ascent import GradientAscent
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.attacks.stepwise import AttackInput, Candidate
from rnascl_jax.base import Array, LogitsFn

# Share of the new direction in a step; the first one has no other.
_NEW = 0.75


class StepSchedule(NamedTuple):
  """What the step size depends on, since the last checkpoint.

  Attributes:
    step_size: scalar.
    loss: of the step before; 0 before the first.
    rises: steps in which the loss rose.
    halved: whether the step size was halved at the last checkpoint.
    best: the largest loss at the last checkpoint.
  """

  step_size: Array
  loss: Array
  rises: Array
  halved: Array
  best: Array


def windows(num_steps: int) -> np.ndarray:
  """Where the checkpoints of N >= 1 steps are.

  Returns:
    [N] integers: at a step that ends in a checkpoint the number of steps since
    the last one, and 0 at all others.
  """
  length = max(int(0.22 * num_steps), 1)
  least, shorter = (max(int(s * num_steps), 1) for s in (0.06, 0.03))
  lengths, step = np.zeros(num_steps, np.int32), length - 1
  while step < num_steps:
    lengths[step] = length
    length = max(length - shorter, least)
    step += length
  return lengths


def next_schedule(
  schedule: StepSchedule, loss: Array, best: Array, window: Array, rho: float
) -> tuple[StepSchedule, Array]:
  """Halves the step size at a checkpoint where the loss did not rise enough.

  Args:
    schedule: before the step.
    loss: scalar, after the step.
    best: scalar, the largest loss, this step included.
    window: scalar, an entry of `windows`.
    rho: share of rising steps up to which the step is halved.

  Returns:
    The schedule after the step, and whether the step size was halved.
  """
  rises = schedule.rises + (loss > schedule.loss)
  is_checkpoint = window > 0
  oscillates = rises <= rho * window
  stuck = ~schedule.halved & (schedule.best >= best)
  halve = is_checkpoint & (oscillates | stuck)
  return StepSchedule(
    step_size=jnp.where(halve, schedule.step_size / 2, schedule.step_size),
    loss=loss,
    rises=jnp.where(is_checkpoint, 0, rises),
    halved=jnp.where(is_checkpoint, halve, schedule.halved),
    best=jnp.where(is_checkpoint, best, schedule.best),
  ), halve


class APGDState(NamedTuple):
  """The carry of the loop.

  Attributes:
    image: [H, W, C], the iterate.
    before: [H, W, C], the one before.
    gradient: [H, W, C], of the loss at the iterate.
    best: the iterate of the largest loss.
    best_gradient: [H, W, C], of the loss at that one.
    adversarial: [H, W, C], the last iterate that fooled the classifier.
    fooled: scalar bool, whether one fooled it.
    target: scalar, the class to reach, -1 without one.
    schedule: of the step size.
  """

  image: Array
  before: Array
  gradient: Array
  best: Candidate
  best_gradient: Array
  adversarial: Array
  fooled: Array
  target: Array
  schedule: StepSchedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class APGD(GradientAscent):
  """APGD in steps, in L-infinity and L2.

  Starts are noise of length epsilon. The other attributes are those of
  `GradientAscent`.

  Attributes:
    norm: the norm of the ball.
    rho: share of rising steps up to which the step size is halved.
  """

  norm: Norm = norms.LINF
  rho: float = 0.75

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.norm.length is norms.L1.length:
      raise ValueError(
        'APGD has other steps in L1: take apgd_l1.APGDL1, or '
        'ensembles.apgd_ce(norms.L1) and the like.'
      )

  def init(
    self, logits_fn: LogitsFn, inputs: AttackInput, trial: Array
  ) -> APGDState:
    target = self._target(logits_fn, inputs, trial)
    start = self.start or self.norm.random_start
    image = start(inputs.key, inputs.image, inputs.epsilon)
    # The key of a step is folded with its index, from 1 on.
    candidate, gradient = self._evaluate(logits_fn, inputs, image, target, 0)
    return APGDState(
      image=image,
      before=image,
      gradient=gradient,
      best=candidate,
      best_gradient=gradient,
      adversarial=image,
      fooled=candidate.fooled,
      target=target,
      schedule=StepSchedule(
        step_size=2 * inputs.epsilon,
        loss=jnp.zeros_like(candidate.loss),
        rises=jnp.zeros((), jnp.int32),
        halved=jnp.asarray(True),
        best=candidate.loss,
      ),
    )

  def step(
    self,
    logits_fn: LogitsFn,
    inputs: AttackInput,
    state: APGDState,
    index: Array,
  ) -> APGDState:
    image = self._next_image(inputs, state, index)
    candidate, gradient = self._evaluate(
      logits_fn, inputs, image, state.target, index + 1
    )
    better = candidate.loss > state.best.loss
    best, best_gradient = stepwise.select(
      better, (candidate, gradient), (state.best, state.best_gradient)
    )
    window = jnp.asarray(windows(self.num_steps))[index]
    schedule, halved = next_schedule(
      state.schedule, candidate.loss, best.loss, window, self.rho
    )
    next_image, next_gradient = stepwise.select(
      halved, (best.image, best_gradient), (image, gradient)
    )
    return APGDState(
      image=next_image,
      before=state.image,
      gradient=next_gradient,
      best=best,
      best_gradient=best_gradient,
      adversarial=jnp.where(candidate.fooled, image, state.adversarial),
      fooled=state.fooled | candidate.fooled,
      target=state.target,
      schedule=schedule,
    )

  def _next_image(
    self, inputs: AttackInput, state: APGDState, index: Array
  ) -> Array:
    """One step with momentum."""

    def project(point: Array) -> Array:
      return self.norm.project(inputs.image, point, inputs.epsilon)

    share = jnp.where(index > 0, _NEW, 1.0).astype(state.image.dtype)
    direction = self.norm.direction(state.gradient)
    moved = project(state.image + state.schedule.step_size * direction)
    momentum = (state.image - state.before) * (1 - share)
    return project(state.image + (moved - state.image) * share + momentum)

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

Example:
  >>> import jax
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.attacks import apgd
  >>> def logits_fn(images):  # light or dark?
  ...   brightness = images.mean(axis=(1, 2, 3))
  ...   return jnp.stack([brightness - .5, .5 - brightness], axis=-1)
  >>> image = jnp.full((4, 4, 1), .53)
  >>> adversarial = apgd.apgd(
  ...   logits_fn, jax.random.key(0), image, 0, epsilon=8 / 255, num_steps=10)
  >>> print(logits_fn(adversarial[None]).argmax(axis=-1))
  [1]

Reference:
  Croce and Hein, Reliable evaluation of adversarial robustness with an ensemble
  of diverse parameter-free attacks, ICML 2020, algorithm 1 and section 4.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnascl_jax import losses
from rnascl_jax.attacks import (
  arguments,
  norms,
  prediction,
  randomized,
  step_size,
  stepwise,
)
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.attacks.step_size import StepSchedule
from rnascl_jax.attacks.stepwise import AttackInput, Candidate, NetworkPasses
from rnascl_jax.base import Array, Key, LogitsFn

# Share of the new direction in a step; the first one has no other.
_NEW = 0.75


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
class APGD:
  """APGD in steps, see `stepwise`.

  Attributes:
    loss: ([B, K], labels [B]) -> [B], which the attack maximises, such as
      `losses.dlr`; with `targets` ([B, K], labels [B], targets [B]) -> [B],
      such as `losses.targeted_dlr`.
    norm: the norm of the ball.
    num_steps: N, at least 1.
    restarts: random starts, each with all steps.
    targets: the most classes that are tried as targets, likeliest first; 0
      for an attack without a target.
    least_classes: the fewest classes for which the loss is defined.
    rho: share of rising steps up to which the step size is halved.
    draws: gradients averaged in each step (expectation over transformation);
      more than 1 are of use for a `randomized.Randomized` classifier only.
    start: (key, image, epsilon) -> the first iterate; None for noise of length
      epsilon.
  """

  loss: Callable[..., Array] = losses.cross_entropy
  norm: Norm = norms.LINF
  num_steps: int = 100
  restarts: int = 1
  targets: int = 0
  least_classes: int = 2
  rho: float = 0.75
  draws: int = 1
  start: Callable[[Key, Array, Array], Array] | None = None

  def __post_init__(self) -> None:
    arguments.check_counts(
      num_steps=self.num_steps, restarts=self.restarts, draws=self.draws
    )
    if self.targets != 0:
      arguments.check_counts(targets=self.targets)

  @property
  def segment(self) -> int:
    return 10

  def passes(self, num_classes: int) -> tuple[NetworkPasses, NetworkPasses]:
    del num_classes
    step = NetworkPasses(self.draws, self.draws)
    return step._replace(forward=self.draws + (self.targets > 0)), step

  def num_trials(self, num_classes: int) -> int:
    if num_classes < self.least_classes:
      return 0
    return self.restarts * (min(self.targets, num_classes - 1) or 1)

  def init(
    self, logits_fn: LogitsFn, inputs: AttackInput, trial: Array
  ) -> APGDState:
    target = jnp.full((), -1, jnp.int32)
    if self.targets:
      logits = logits_fn(inputs.image[None])[0]
      rank = trial // self.restarts
      target = stepwise.ranked_target(logits, inputs.label, rank)
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
    window = jnp.asarray(step_size.windows(self.num_steps))[index]
    schedule, halved = step_size.next_schedule(
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

  def candidate(self, inputs: AttackInput, state: APGDState) -> Candidate:
    image = jnp.where(state.fooled, state.adversarial, state.best.image)
    return Candidate(image, state.best.loss, state.fooled)

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

  def _evaluate(
    self,
    logits_fn: LogitsFn,
    inputs: AttackInput,
    image: Array,
    target: Array,
    index: int | Array,
  ) -> tuple[Candidate, Array]:
    """The image with its loss and verdict, and the gradient [H, W, C] there.

    Of several draws of a random classifier the gradients are averaged.
    """

    def value(image: Array, draw: Array) -> tuple[Array, Array]:
      key = jax.random.fold_in(jax.random.fold_in(inputs.key, index), draw)
      logits = randomized.call(logits_fn, key, image[None])
      classes = (inputs.label[None], target[None])[: 2 if self.targets else 1]
      loss = self.loss(logits, *classes)[0].astype(image.dtype)
      return loss, prediction.fooled(logits[0], inputs.label)

    def add(total: Array, draw: Array) -> tuple[Array, Any]:
      (loss, fooled), gradient = jax.value_and_grad(value, has_aux=True)(
        image, draw
      )
      return total + gradient, (loss, fooled)

    if self.draws == 1:
      gradient, (loss, fooled) = add(jnp.zeros_like(image), jnp.asarray(0))
      return Candidate(image, loss, fooled), gradient
    # As published, the loss and the verdict are those of the last draw.
    total, drawn = lax.scan(add, jnp.zeros_like(image), jnp.arange(self.draws))
    loss, fooled = jax.tree.map(lambda x: x[-1], drawn)
    return Candidate(image, loss, fooled), total / self.draws


def apgd(
  logits_fn: LogitsFn,
  key: Key,
  image: Array,
  label: int | Array,
  *,
  epsilon: float | Array,
  **options: Any,
) -> Array:
  """APGD on one image.

  Args:
    logits_fn: [1, H, W, C] -> [1, K], in evaluation mode.
    key: typed random key.
    image: [H, W, C] in [0, 1].
    label: in [0, K).
    epsilon: radius, may be traced.
    **options: the fields of `APGD`, static.

  Returns:
    [H, W, C], in the ball and in [0, 1]: the last iterate that fools the
    classifier, of the first trial that has one; if none has, the iterate of the
    largest loss.

  Raises:
    ValueError: for fewer than one step or restart.
  """
  attack = APGD(**options)
  return stepwise.run(attack, logits_fn, key, image, label, epsilon=epsilon)

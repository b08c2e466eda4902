"""The loop of the gradient attacks: signed steps up a loss inside the ball.

  v_{i+1} = decay v_i + g_i / mean|g_i|,   g_i = grad objective(x_i)
  x_{i+1} = project(x_i + step_size sign(v_{i+1}))

with v = g where there is no decay. `gradient` makes the named attacks of it.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from rnascl_jax.attacks import linf, norms, stepwise
from rnascl_jax.attacks.stepwise import Candidate
from rnascl_jax.base import Array, LogitsFn, LossFn

# What an attack climbs: image [H, W, C] -> (loss, fooled), both scalars.
Objective = Callable[[Array], tuple[Array, Array]]


class PGDState(NamedTuple):
  """The carry of the loop.

  Attributes:
    image: [H, W, C], the iterate.
    velocity: [H, W, C], accumulated gradients; None without momentum.
    best: the iterate of the largest loss so far; None where the last is kept.
  """

  image: Array
  velocity: Array | None
  best: Candidate | None


def objective(
  logits_fn: LogitsFn, loss: LossFn, target: Array, targeted: bool
) -> Objective:
  """What an attack on one image climbs, as a function of that image.

  Args:
    logits_fn: [1, H, W, C] -> [1, K].
    loss: ([1, K], [1, ...]) -> [1].
    target: scalar label, or an array for losses that take one.
    targeted: climb minus the loss; then reaching the target is success.

  Returns:
    image [H, W, C] -> (loss, fooled), scalars; the loss in the image's type.
  """

  def value(image):
    logits = logits_fn(image[None])
    chex.assert_shape(logits, (1, None))
    losses = loss(logits, target[None])
    chex.assert_shape(losses, (1,))
    climbed = losses[0].astype(image.dtype)
    if target.ndim:
      return -climbed if targeted else climbed, jnp.asarray(False)
    hit = jnp.argmax(logits[0]) == target
    return (-climbed, hit) if targeted else (climbed, ~hit)

  return value


def run(
  objective: Objective,
  image: Array,
  first: Array,
  *,
  epsilon: float | Array,
  step_size: float | Array,
  num_steps: int,
  decay: float | Array | None = None,
  keep_best: bool = False,
  stop_when_fooled: bool = False,
  unroll: int | bool = 1,
) -> Array:
  """PGD on one image from one start.

  Args:
    objective: image -> (loss, fooled).
    image: [H, W, C], the centre of the ball.
    first: [H, W, C], the first iterate; may lie outside of the ball.
    epsilon: the ball's radius; all other arguments are as of `gradient.pgd`.
    step_size: scalar.
    num_steps: static.
    decay: of the momentum, or None.
    keep_best: whether the iterate of the largest loss is returned.
    stop_when_fooled: whether to stay where the classifier is fooled first.
    unroll: steps unrolled in the loop; True for all.

  Returns:
    [H, W, C], in the ball.
  """
  lower, upper = linf.ball(image, epsilon)
  step_size = jnp.asarray(step_size, image.dtype)
  gradient_fn = jax.value_and_grad(objective, has_aux=True)

  def step(state, _):
    (loss, fooled), gradient = gradient_fn(state.image)
    velocity = _accumulate(state.velocity, gradient, decay)
    image_adv = state.image + step_size * norms.LINF.direction(velocity)
    image_adv = linf.project(image_adv, lower, upper)
    # A start need not be clamped; outside of the ball it is no result.
    inside = jnp.all((state.image >= lower) & (state.image <= upper))
    if stop_when_fooled:
      image_adv = jnp.where(fooled & inside, state.image, image_adv)
    best = None
    if keep_best:
      loss = jnp.where(inside, loss, -jnp.inf)
      best = _larger(state.best, Candidate(state.image, loss, fooled))
    return PGDState(image_adv, None if decay is None else velocity, best), None

  state = PGDState(
    image=first,
    velocity=None if decay is None else jnp.zeros_like(image),
    best=stepwise.nothing(image) if keep_best else None,
  )
  state, _ = lax.scan(step, state, length=num_steps, unroll=unroll)
  if not keep_best:
    return state.image
  return _larger(
    state.best, Candidate(state.image, *objective(state.image))
  ).image


def _larger(one, other):
  """The candidate of the larger loss."""
  return stepwise.select(other.loss > one.loss, other, one)


def _accumulate(velocity, gradient, decay):
  """Adds a gradient of mean absolute value 1, or replaces if no decay."""
  if decay is None:
    return gradient
  # Bounded such that the sum over pixels stays finite.
  largest = jnp.finfo(gradient.dtype).max / gradient.size
  gradient = jnp.clip(jnp.nan_to_num(gradient), -largest, largest)
  scale = jnp.mean(jnp.abs(gradient))
  # No 1e-12 is added: gradients of confident networks are smaller than that.
  unit = jnp.where(scale > 0, gradient / jnp.where(scale > 0, scale, 1.0), 0.0)
  return jnp.asarray(decay, gradient.dtype) * velocity + unit

"""Free adversarial training: one backward pass for weights and perturbation.

Each batch is replayed m times. A pass through the network at x + delta gives
the gradient of the loss by the weights, which makes an update, and by delta,

  delta <- clip(delta + step_size sign(g), -epsilon, epsilon),

which the next replay starts from. delta belongs to a position in the batch and
is carried from batch to batch, never reset.

In L2 and L1, which were not published, delta takes the step of
`gradient.ascend` at x + delta, which projects it onto the ball and into [0, 1],
as the code of Wong et al. does for L-infinity.

Reference:
  Shafahi et al., Adversarial training for free!, NeurIPS 2019, algorithm 1.
"""

import functools

import jax
import jax.numpy as jnp

from rnascl_jax.attacks import gradient, norms
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.base import Array
from rnascl_jax.training.adversarial.method import (
  AdversarialMethod,
  Perturbed,
  RobustTerm,
  View,
)


def free(
  *,
  epsilon: float,
  step_size: float | None = None,
  replays: int = 8,
  norm: Norm = norms.LINF,
  distill_on: View = 'adversarial',
  robust_term: RobustTerm | None = None,
) -> AdversarialMethod:
  """Free-m adversarial training.

  The gradient by the perturbation is that of the whole loss, terms of a teacher
  and the robust term included, as one backward pass gives it. Pixels that
  x + delta pushes out of [0, 1] are clamped for the network and do not move.

  Args:
    epsilon: radius of the ball.
    step_size: in the norm; None for epsilon, as in the authors' code.
    replays: m, updates of the weights on each batch; the authors have 8 on
      CIFAR-10 and 4 on ImageNet, and divide the epochs by it.
    norm: the ball's.
    distill_on: see `pgd_training`.
    robust_term: compares both views, see `losses.cac`; None for no such term.

  Returns:
    The method; its state is delta [B, H, W, C].

  Raises:
    ValueError: if replays is below 1.
  """
  if replays < 1:
    raise ValueError(f'replays={replays} must be at least 1.')
  step = epsilon if step_size is None else step_size

  def perturb(
    network, params, batch_stats, delta, keys, images, labels, teacher=None
  ):
    del network, params, keys, labels, teacher
    return Perturbed(jnp.clip(images + delta, 0.0, 1.0), batch_stats, delta)

  def next_state(delta: Array, images: Array, by_images: Array) -> Array:
    moved = images + delta
    if norm != norms.LINF:
      ascend = functools.partial(
        gradient.ascend, norm, epsilon=epsilon, step_size=step
      )
      moved = jnp.clip(moved, 0.0, 1.0)
      return jax.vmap(ascend)(images, moved, by_images) - images
    inside = (moved >= 0.0) & (moved <= 1.0)
    direction = norm.direction(jnp.where(inside, by_images, 0.0))
    return jnp.clip(delta + step * direction, -epsilon, epsilon)

  return AdversarialMethod(
    perturb,
    distill_on=distill_on,
    robust_term=robust_term,
    replays=replays,
    init=jnp.zeros,
    next_state=next_state,
  )

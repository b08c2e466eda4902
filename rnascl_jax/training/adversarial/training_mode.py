"""PGD on a whole batch, with BatchNorm in training mode.

In evaluation mode images do not see each other, and an attack on one image is
lifted by `vmap` (`attacks.batched`). Much published training code attacks in
training mode: BatchNorm then takes the statistics of the batch under attack,
which couples its images, and every pass of the attack moves the running
statistics. `pgd` does that, for a batch at once.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from rnascl_jax.attacks import linf, norms, unrolling
from rnascl_jax.base import Array, PyTree
from rnascl_jax.training.adversarial.method import Classifier


def pgd(
  network: Classifier,
  loss: Callable[[Array], Array],
  params: PyTree,
  batch_stats: PyTree,
  images: Array,
  start: Array,
  *,
  epsilon: float | Array,
  step_size: float | Array,
  num_steps: int,
) -> tuple[Array, PyTree]:
  """Signed gradient steps in the L-infinity ball, in training mode.

  Args:
    network: see `method`.
    loss: logits [B, K] -> [B], what the attack makes larger.
    params: of the network.
    batch_stats: running statistics.
    images: [B, H, W, C] in [0, 1], centres of the balls.
    start: [B, H, W, C], where the attack begins.
    epsilon: radius, in [0, 1].
    step_size: in [0, 1]; may exceed epsilon.
    num_steps: at least 1, static.

  Returns:
    The adversarial images [B, H, W, C], constants, and the running statistics
    after the attack's passes.
  """
  lower, upper = linf.ball(images, epsilon)

  def total(adversarial: Array, batch_stats: PyTree):
    logits, batch_stats = network(params, batch_stats, adversarial, train=True)
    return jnp.sum(loss(logits)), batch_stats

  gradient_fn = jax.grad(total, has_aux=True)

  def step(carry, _):
    adversarial, batch_stats = carry
    gradient, batch_stats = gradient_fn(adversarial, batch_stats)
    moved = adversarial + step_size * norms.LINF.direction(gradient)
    return (linf.project(moved, lower, upper), batch_stats), None

  unroll = unrolling.choose(gradient_fn, start, batch_stats, length=num_steps)
  attacked, _ = lax.scan(
    step, (start, batch_stats), length=num_steps, unroll=unroll
  )
  # The adversarial image is data that the attack found (Danskin).
  return lax.stop_gradient(attacked)

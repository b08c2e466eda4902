"""Attacks inside of a training step: signed steps on a whole batch.

In evaluation mode images do not see each other, and an attack on one image is
lifted by `vmap` (`attacks.batched`). Much published training code attacks in
training mode: BatchNorm then takes the statistics of the batch under attack,
which couples its images, and every forward pass of the attack moves the running
statistics. `ascend` does that, for a batch at once.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnascl_jax.attacks import linf, norms, unrolling
from rnascl_jax.base import Array, PyTree
from rnascl_jax.training.adversarial.regime import Network


class Found(NamedTuple):
  """What an attack in training mode leaves.

  Attributes:
    images: [B, H, W, C], in the ball and in [0, 1].
    batch_stats: running statistics after its forward passes.
  """

  images: Array
  batch_stats: PyTree


def ascend(
  network: Network,
  loss: Callable[[Array], Array],
  params: PyTree,
  batch_stats: PyTree,
  images: Array,
  first: Array,
  *,
  epsilon: float | Array,
  step_size: float | Array,
  num_steps: int,
) -> Found:
  """Signed gradient ascent in the L-infinity ball, in training mode.

  Args:
    network: see `regime`.
    loss: logits [B, K] -> [B], what is climbed.
    params: of the network.
    batch_stats: running statistics.
    images: [B, H, W, C] in [0, 1], centres of the balls.
    first: [B, H, W, C], where to begin.
    epsilon: radius, in [0, 1].
    step_size: in [0, 1]; may exceed epsilon.
    num_steps: at least 1, static.

  Returns:
    The adversarial images, constants, and the statistics.
  """
  lower, upper = linf.ball(images, epsilon)

  def total(x: Array, batch_stats: PyTree):
    (logits, _), new = network(params, batch_stats, x, train=True)
    return jnp.sum(loss(logits)), new

  gradient = jax.grad(total, has_aux=True)

  def step(found: Found, _):
    slope, new = gradient(*found)
    moved = found.images + step_size * norms.LINF.direction(slope)
    return Found(linf.project(moved, lower, upper), new), None

  start = Found(first, batch_stats)
  unroll = unrolling.choose(gradient, *start, length=num_steps)
  found, _ = lax.scan(step, start, length=num_steps, unroll=unroll)
  # The adversarial image is data, found by the attack (Danskin).
  return lax.stop_gradient(found)

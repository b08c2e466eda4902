"""Free adversarial training: one backward pass for weights and perturbation.

Each batch is replayed m times. A pass through the network at x + delta gives
the gradient of the loss by the weights, which makes an update, and by delta,

  delta <- clip(delta + step_size sign(g), -epsilon, epsilon),

which the next replay starts from. delta belongs to a position in the batch and
is carried from batch to batch, never reset.

Reference:
  Shafahi et al., Adversarial training for free!, NeurIPS 2019, algorithm 1.
"""

import jax
import jax.numpy as jnp

from rnascl_jax.attacks import norms
from rnascl_jax.base import Array, Key, PyTree
from rnascl_jax.training.adversarial import views
from rnascl_jax.training.adversarial.regime import (
  Network,
  Objective,
  Regime,
  Robustness,
)


def free(
  *,
  epsilon: float,
  step_size: float | None = None,
  replays: int = 8,
  lessons_on_adversarial: bool = True,
  robustness: Robustness | None = None,
) -> Regime:
  """Free-m adversarial training.

  The gradient by the perturbation is that of the whole loss, terms of a teacher
  and of `robustness` included, as one backward pass gives it. Pixels that x +
  delta pushes out of [0, 1] are clamped for the network and have no gradient.

  Args:
    epsilon: radius of the L-infinity ball, in [0, 1].
    step_size: in [0, 1]; None for epsilon, as in the authors' code.
    replays: m, updates of the weights on each batch; the authors have 8 on
      CIFAR-10 and 4 on ImageNet, and divide the epochs by it.
    lessons_on_adversarial: as in `pgd_training`.
    robustness: compares both views, see `losses.cac`; None for no such term.

  Returns:
    The regime; its state is delta [B, H, W, C].

  Raises:
    ValueError: if replays is below 1.
  """
  if replays < 1:
    raise ValueError(f'replays={replays} must be at least 1.')
  step = epsilon if step_size is None else step_size
  which = views.Views(True, lessons_on_adversarial, robustness)

  def value_and_grad(
    network: Network,
    objective: Objective,
    params: PyTree,
    batch_stats: PyTree,
    state: Array,
    keys: Key,
    images: Array,
    labels: Array,
  ):
    del keys

    def mean_loss(params, delta):
      images_adv = jnp.clip(images + delta, 0.0, 1.0)
      return views.loss(
        which,
        network,
        objective,
        params,
        batch_stats,
        images,
        images_adv,
        labels,
      )

    (mean, (stats, found)), (grads, slope) = jax.value_and_grad(
      mean_loss, (0, 1), has_aux=True
    )(params, state)
    delta = jnp.clip(
      state + step * norms.LINF.direction(slope), -epsilon, epsilon
    )
    return (mean, (stats, delta, found)), grads

  return Regime(jnp.zeros, value_and_grad, replays)

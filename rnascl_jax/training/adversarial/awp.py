"""AWP: the update is taken where the weights are at their worst.

  w <- w - rate grad L(w + v),   v = gamma |w| grad L(w) / |grad L(w)|

layer by layer, for the kernels of convolutions and of linear layers. It is
added to any adversarial method that takes one update for an attack: images are
attacked at w, then L, the whole loss of the method, is climbed for one step. As
in the authors' code, that step moves no running statistics of BatchNorm, and
the pass at w + v does. There the weight decay is that of w + v, here that of w.

With gradient accumulation every part of a batch has a perturbation of its own.

Reference:
  Wu et al., Adversarial weight perturbation helps robust generalization,
  NeurIPS 2020, and their code (csdongxian/AWP).
"""

import jax
import jax.numpy as jnp

from rnascl_jax.base import Array, PyTree
from rnascl_jax.training.adversarial.method import AdversarialMethod


def awp(
  method: AdversarialMethod, *, gamma: float, warmup_steps: int = 0
) -> AdversarialMethod:
  """A method with adversarial weight perturbation.

  Args:
    method: any that replays no batch.
    gamma: length of a layer's perturbation over that of its weights, positive;
      Wu et al.: 0.01 with PGD training, 0.005 with TRADES.
    warmup_steps: without the perturbation; Wu et al.: the first 10 of 200
      epochs with TRADES, none with PGD training.

  Raises:
    ValueError: if the method replays batches: its gradient serves the attack.
  """
  if method.replays > 1:
    raise ValueError(
      f'awp needs a method with one update for an attack, not '
      f'replays={method.replays}: choose another one, such as pgd_training.'
    )

  def perturb_weights(params: PyTree, gradient: PyTree, step: Array) -> PyTree:
    size = jnp.where(step >= warmup_steps, gamma, 0.0)

    def move(weights: Array, slope: Array) -> Array:
      # No biases, and no scales and shifts of norms.
      if weights.ndim < 2:
        return weights
      length = jnp.linalg.norm(slope)
      unit = slope / jnp.where(length > 0.0, length, 1.0)
      moved = weights + size * jnp.linalg.norm(weights) * unit
      return moved.astype(weights.dtype)

    return jax.tree.map(move, params, gradient)

  return method._replace(perturb_weights=perturb_weights)

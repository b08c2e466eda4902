"""TRADES, and with the confidence-aware consistency eq. (6) of RNAS-CL.

  objective(x) + beta KL(p, p'),   x' = argmax_{x' in B(x, epsilon)} KL(p, p')

The attack starts at x + 0.001 N(0, 1) and sees the network in evaluation mode;
p is computed once for all of its steps.

References:
  Zhang et al., Theoretically principled trade-off between robustness and
  accuracy, ICML 2019, algorithm 1.
  Nath et al., RNAS-CL, IJCV 2024, section 3.5.
"""

import functools

import jax
from jax import lax

from rnascl_jax import attacks, losses
from rnascl_jax.attacks import linf
from rnascl_jax.base import Array, Key, PyTree
from rnascl_jax.training.adversarial import perturbation, views
from rnascl_jax.training.adversarial.regime import (
  Network,
  Objective,
  Regime,
  Robustness,
  no_state,
)

_TRADES = functools.partial(losses.robustness, beta=6.0, cac_weight=0.0)


def trades(
  *,
  epsilon: float,
  step_size: float,
  num_steps: int = 10,
  robustness: Robustness = _TRADES,
  in_training_mode: bool = False,
  lessons_on_adversarial: bool = False,
) -> Regime:
  """TRADES: the objective on clean images, and predictions that do not change.

  Args:
    epsilon: radius of the L-infinity ball, in [0, 1]; 0.031 in the authors'
      code and in that of RNAS-CL.
    step_size: of the attack, in [0, 1]; 0.007 in the authors' code, 0.0078 in
      that of RNAS-CL.
    num_steps: of the attack, at least 1; 10 in both.
    robustness: compares both views; beta = 6 without consistency by default.
      `functools.partial(losses.robustness, beta=6.0, cac_weight=1.0)` makes it
      eq. (6), and with beta = 0 the row "CAC" of Table 4.
    in_training_mode: whether the attack sees, and moves, the statistics of
      BatchNorm in training mode.
    lessons_on_adversarial: whether a teacher's lesson is compared with what the
      student makes of x' instead of x; eq. (6) has x.

  Returns:
    The regime.
  """
  which = views.Views(
    False, lessons_on_adversarial, robustness, clean_again=True
  )

  def value_and_grad(
    network: Network,
    objective: Objective,
    params: PyTree,
    batch_stats: PyTree,
    state: PyTree,
    keys: Key,
    images: Array,
    labels: Array,
  ):
    climb = _in_training_mode if in_training_mode else _in_evaluation_mode
    worst, new_stats = climb(
      network,
      params,
      batch_stats,
      keys,
      images,
      epsilon=epsilon,
      step_size=step_size,
      num_steps=num_steps,
    )

    def mean_loss(params):
      mean, (stats, found) = views.loss(
        which, network, objective, params, new_stats, images, worst, labels
      )
      return mean, (stats, state, found)

    return jax.value_and_grad(mean_loss, has_aux=True)(params)

  return Regime(no_state, value_and_grad)


def divergence(logits: Array, clean: Array) -> Array:
  """What the attack climbs, KL(p, p').

  Args:
    logits: [B, K], of adversarial images.
    clean: [B, K], logits of the images, or log p.

  Returns:
    [B].
  """
  return losses.kl_divergence(clean, logits)


def _in_evaluation_mode(network, params, batch_stats, keys, images, **ball):
  def logits_fn(images: Array) -> Array:
    return network(params, batch_stats, images, train=False)[0][0]

  attack = functools.partial(
    attacks.batched(attacks.pgd), loss=divergence, start=linf.gaussian_start
  )
  worst = attack(logits_fn, keys, images, logits_fn(images), **ball)
  # The adversarial image is data, found by the attack (Danskin).
  return lax.stop_gradient(worst), batch_stats


def _in_training_mode(network, params, batch_stats, keys, images, **ball):
  (clean, _), batch_stats = network(params, batch_stats, images, train=True)
  first = jax.vmap(linf.gaussian_start, (0, 0, None))(
    keys, images, ball['epsilon']
  )
  return perturbation.ascend(
    network,
    lambda logits: divergence(logits, clean),
    params,
    batch_stats,
    images,
    first,
    **ball,
  )

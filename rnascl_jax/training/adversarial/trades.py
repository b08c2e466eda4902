"""TRADES, and with the confidence-aware consistency eq. (6) of RNAS-CL.

  loss(x) + beta KL(p, p'),   x' = argmax_{x' in B(x, epsilon)} KL(p, p')

The attack starts at x + 0.001 N(0, 1) and sees the network in evaluation mode;
p is computed once for all of its steps. The authors' code has it in L2 too,
with steps of 2 epsilon / num_steps. It clamps to [0, 1] before it projects onto
the ball, here it is after; and where the gradient is zero it moves at random,
here not at all.

References:
  Zhang et al., Theoretically principled trade-off between robustness and
  accuracy, ICML 2019, algorithm 1.
  Nath et al., RNAS-CL, IJCV 2024, section 3.5.
"""

import functools
from typing import Any

from rnascl_jax import losses
from rnascl_jax.attacks import norms
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.base import Array
from rnascl_jax.training.adversarial import maximization
from rnascl_jax.training.adversarial.method import (
  AdversarialMethod,
  Perturbed,
  RobustTerm,
  View,
)

_TRADES = functools.partial(losses.robust_term, beta=6.0, cac_weight=0.0)


def trades(
  *,
  epsilon: float,
  step_size: float,
  num_steps: int = 10,
  norm: Norm = norms.LINF,
  robust_term: RobustTerm = _TRADES,
  in_training_mode: bool = False,
  distill_on: View = 'clean',
) -> AdversarialMethod:
  """TRADES: the loss of clean images, and predictions that do not change.

  Args:
    epsilon: radius of the ball; in L-infinity 0.031 in the authors' code and in
      that of RNAS-CL.
    step_size: of the attack, in the norm; in L-infinity 0.007 in the authors'
      code, 0.0078 in that of RNAS-CL.
    num_steps: of the attack, at least 1; 10 in both.
    norm: the ball's.
    robust_term: compares both views; beta = 6 without consistency by default.
      `functools.partial(losses.robust_term, beta=6.0, cac_weight=1.0)` makes it
      eq. (6), and with beta = 0 the row "CAC" of Table 4.
    in_training_mode: whether the attack sees, and moves, the statistics of
      BatchNorm in training mode.
    distill_on: the view on which the student is compared with the teacher;
      eq. (6) has 'clean'.
  """
  ball: dict[str, Any] = {
    'epsilon': epsilon,
    'step_size': step_size,
    'num_steps': num_steps,
    'norm': norm,
  }

  def perturb(
    network, params, batch_stats, state, keys, images, labels, teacher=None
  ):
    del labels, teacher
    clean, batch_stats = network(
      params, batch_stats, images, train=in_training_mode
    )
    images_adv, batch_stats = maximization.maximize(
      network,
      divergence,
      params,
      batch_stats,
      keys,
      images,
      clean,
      start=Norm.gaussian_start,
      in_training_mode=in_training_mode,
      **ball,
    )
    return Perturbed(images_adv, batch_stats, state)

  return AdversarialMethod(
    perturb,
    labels_on='clean',
    distill_on=distill_on,
    robust_term=robust_term,
    passes=('clean', 'adversarial', 'clean'),
  )


def divergence(logits: Array, clean: Array) -> Array:
  """What the attack makes larger, KL(p, p').

  Args:
    logits: [B, K], of adversarial images.
    clean: [B, K], logits of the images, or log p.

  Returns:
    [B].
  """
  return losses.kl_divergence(clean, logits)

"""The objectives of RNAS-CL, eqs. (2), (4) and (6).

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> one = jnp.ones(2)
  >>> print(losses.training_objective(losses.Terms(one, one, one), gamma=10.))
  [12. 12.]
"""

from typing import NamedTuple

import chex
import jax.numpy as jnp

from rnascl_jax.base import Array


class Terms(NamedTuple):
  """The terms that eqs. (2), (4) and (6) add up, per example.

  Attributes:
    cross_entropy: [B], -y log p, or what an adversarial training method has in
      its place.
    kl: [B], divergence between student and teacher, or what a method has in
      its place (section 4.11).
    attention: [B], the attention loss of eq. (1).
    robust_term: [B], what eq. (6) adds, see `robust.robust_term`; 0 elsewhere.
  """

  cross_entropy: Array
  kl: Array
  attention: Array
  robust_term: Array | float = 0.0


def training_objective(
  terms: Terms, *, kl_weight: float | Array = 1.0, gamma: float | Array = 1.0
) -> Array:
  """Training loss, L = L_CE + KL + gamma_t L_Attn (eq. 4).

  With `robust_term` this is the loss of eq. (6), L_CAC + L_TRADES + KL
  + gamma_t L_Attn, as L_TRADES has the cross-entropy in it.

  Args:
    terms: each [B].
    kl_weight: weight of the divergence; the paper has 1.
    gamma: the normalisation constant gamma_t; the paper has 1.

  Returns:
    [B].
  """
  chex.assert_equal_shape(terms[:3])
  total = terms.cross_entropy + kl_weight * terms.kl + gamma * terms.attention
  return total + terms.robust_term


def search_objective(
  terms: Terms,
  cost: Array,
  *,
  kl_weight: float | Array = 1.0,
  gamma: float | Array = 1.0,
  exponent: float = 1.0,
) -> Array:
  """Search loss, L = (L_CE + KL + gamma_s L_Attn) n_f(G) (eq. 2).

  Args:
    terms: each [B].
    cost: scalar, n_f(G) / n_ref > 0. Raw FLOPs (about 1e7) as a factor diverge
      under SGD; dividing by a reference only rescales the step.
    kl_weight: weight of the divergence; the paper has 1.
    gamma: the normalisation constant gamma_s; the paper has 1.
    exponent: the cost's power, the knob that trades accuracy for FLOPs; the
      paper has 1.

  Returns:
    [B].
  """
  chex.assert_rank(cost, 0)
  total = training_objective(terms, kl_weight=kl_weight, gamma=gamma)
  return total * cost**exponent


def log_search_objective(
  terms: Terms,
  cost: Array,
  *,
  kl_weight: float | Array = 1.0,
  gamma: float | Array = 1.0,
  alpha: float = 0.2,
  exponent: float = 0.6,
) -> Array:
  """Search loss with FBNet's form of the penalty, L * alpha log(cost)^exponent.

  Args:
    terms: each [B].
    cost: scalar, FLOPs in absolute numbers, above 1.
    kl_weight: weight of the divergence.
    gamma: weight of the attention loss.
    alpha: factor, FBNet's 0.2.
    exponent: power of the logarithm, FBNet's 0.6.

  Returns:
    [B].

  Reference:
    Wu et al., FBNet, CVPR 2019, eq. (2).
  """
  chex.assert_rank(cost, 0)
  total = training_objective(terms, kl_weight=kl_weight, gamma=gamma)
  return total * alpha * jnp.log(cost) ** exponent

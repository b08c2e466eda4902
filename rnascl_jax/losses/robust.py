"""Losses of an image and its adversarial view: TRADES and CAC.

With p and p' the predictions of an image x and of its adversarial view x',

  TRADES  = -log p_y + beta KL(p, p')
  CAC     = 1(max pbar >= threshold) (KL(s, p) + KL(s, p'))             (eq. 5)
  pbar    = (p + p') / 2,   s_k = pbar_k^(1/tau) / sum_j pbar_j^(1/tau)

The adversarial view is data: find it outside of the function that is
differentiated. `robust_term` is what eq. (6) adds to the training loss of
eq. (4).

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> logits, adv_logits = jnp.array([[4., 0.]]), jnp.array([[1., 0.]])
  >>> f'{losses.trades(logits, adv_logits, jnp.array([0]))[0]:.4f}'
  '1.4651'
  >>> f'{losses.cac(logits, adv_logits)[0]:.4f}'
  '0.3314'

References:
  Zhang et al., Theoretically principled trade-off between robust_term and
  accuracy, ICML 2019, eq. (5).
  Nath et al., RNAS-CL, IJCV 2024, section 3.5.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import lax

from rnascl_jax.base import Array
from rnascl_jax.losses import kl
from rnascl_jax.losses.classification import cross_entropy


def trades(
  logits: Array, adv_logits: Array, labels: Array, *, beta: float = 6.0
) -> Array:
  """TRADES, -log p_y + beta KL(p, p').

  The gradient flows through both predictions, as in the authors' code.

  Args:
    logits: [B, K], of the images.
    adv_logits: [B, K], of their adversarial views.
    labels: [B], integers in [0, K).
    beta: weight of the divergence (1 / lambda in the paper), 6 for CIFAR-10.

  Returns:
    [B].

  Reference:
    Zhang et al., ICML 2019, eq. (5).
  """
  divergence = kl.kl_divergence(logits, adv_logits)
  return cross_entropy(logits, labels) + beta * divergence


def confident(
  logits: Array, adv_logits: Array, *, threshold: float = 0.2
) -> Array:
  """The indicator of eq. (5): whether max pbar is at least a threshold.

  Args:
    logits: [B, K], of the images.
    adv_logits: [B, K], of their adversarial views.
    threshold: gamma of eq. (5), in [0, 1).

  Returns:
    [B] bool, constant.
  """
  log_mean = _log_mean(logits, adv_logits)
  sure = jnp.max(log_mean, axis=-1) >= jnp.log(threshold)
  return lax.stop_gradient(sure)


def cac(
  logits: Array,
  adv_logits: Array,
  *,
  temperature: float = 0.1,
  threshold: float = 0.2,
  only_confident: bool = False,
  axis_name: str | None = None,
) -> Array:
  """Confidence-aware consistency (eq. 5).

  Both predictions are drawn to their sharpened average, a constant, where that
  average is confident. It is computed in log space: pbar^(1/tau) underflows.

  Args:
    logits: [B, K], of the images.
    adv_logits: [B, K], of their adversarial views.
    temperature: tau of eq. (5), in (0, 1]; 0.1 in the authors' code, the paper
      prints none.
    threshold: gamma of eq. (5), in [0, 1); 0.2 in the authors' code, the paper
      prints none.
    only_confident: whether the mean over the batch is to be one over confident
      images, as in the authors' code, instead of all images, as eq. (5) says:
      values are divided by the share of confident images. Where there is none,
      the loss is 0 (the authors' is NaN).
    axis_name: mapped axis over which that share is taken, if any.

  Returns:
    [B], non-negative up to rounding.

  Reference:
    Nath et al., RNAS-CL, IJCV 2024, eq. (5).
  """
  chex.assert_rank([logits, adv_logits], 2)
  chex.assert_equal_shape([logits, adv_logits])
  # A pseudo label is data: no gradient flows through it.
  target = lax.stop_gradient(_log_mean(logits, adv_logits) / temperature)
  sure = confident(logits, adv_logits, threshold=threshold)
  pull = kl.kl_divergence(target, logits)
  pull += kl.kl_divergence(target, adv_logits)
  loss = jnp.where(sure, pull, 0.0)
  if not only_confident:
    return loss
  share = jnp.mean(sure.astype(loss.dtype))
  if axis_name is not None:
    share = lax.pmean(share, axis_name)
  # Where the share is 0, so is what is divided.
  return loss / jnp.where(share > 0, share, 1.0)


def robust_term(
  logits: Array,
  adv_logits: Array,
  *,
  beta: float = 6.0,
  cac_weight: float = 1.0,
  **options: Any,
) -> Array:
  """What eq. (6) adds to eq. (4): beta KL(p, p') + cac_weight L_CAC.

  Args:
    logits: [B, K], of the images.
    adv_logits: [B, K], of their adversarial views.
    beta: weight of the divergence of TRADES; 0 leaves it out.
    cac_weight: of the consistency; 0 leaves it out, eq. (6) has 1.
    **options: of `cac`.

  Returns:
    [B].
  """
  chex.assert_equal_shape([logits, adv_logits])
  total = jnp.zeros_like(logits[:, 0])
  if beta:
    total += beta * kl.kl_divergence(logits, adv_logits)
  if cac_weight:
    total += cac_weight * cac(logits, adv_logits, **options)
  return total


def _log_mean(logits: Array, adv_logits: Array) -> Array:
  """The logarithm of pbar, [B, K]."""
  log_p, log_adv = jax.nn.log_softmax(logits), jax.nn.log_softmax(adv_logits)
  return jnp.logaddexp(log_p, log_adv) - jnp.log(2.0)

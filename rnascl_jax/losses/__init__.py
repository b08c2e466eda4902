"""Classification losses, margins, robust losses and the objectives of RNAS-CL.

Every function returns one value per example, `[B]`; the caller takes the mean
over the global batch. Nothing here knows of networks, configs or devices.

Implements cross-entropy, the margin of Carlini and Wagner, TRADES, the
confidence-aware consistency (eq. 5) and the objectives of eqs. (2), (4) and (6)
of Nath et al., RNAS-CL, IJCV 2024, sections 3.4 and 3.5.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> logits, labels = jnp.array([[2., 0., 0.]]), jnp.array([0])
  >>> print(losses.cross_entropy(logits, labels).round(4))
  [0.2395]
  >>> print(losses.margin(logits, labels))
  [2.]
"""

from rnascl_jax.losses.classification import cross_entropy
from rnascl_jax.losses.margins import cw_loss, dlr, margin, targeted_dlr
from rnascl_jax.losses.objectives import (
  Terms,
  log_search_objective,
  search_objective,
  training_objective,
)
from rnascl_jax.losses.robust import cac, confident, robustness, trades

__all__ = [
  'Terms',
  'cac',
  'confident',
  'cross_entropy',
  'cw_loss',
  'dlr',
  'log_search_objective',
  'margin',
  'robustness',
  'search_objective',
  'targeted_dlr',
  'trades',
  'training_objective',
]

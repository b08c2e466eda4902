"""MART: adversarial training that looks at misclassified images more.

  BCE(p', y) + beta KL(p, p') (1 - p_y)
  BCE(p', y) = -log p'_y - log(1 - max_{k != y} p'_k)

p and p' are the predictions on an image and on its adversarial view.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> logits, adv_logits = jnp.array([[2., 0.]]), jnp.array([[1., 0.]])
  >>> print(losses.mart(logits, adv_logits, jnp.array([0])).round(4))
  [0.6665]

Reference:
  Wang et al., Improving adversarial robustness requires revisiting
  misclassified examples, ICLR 2020, section 3, and their code.
"""

import chex
import jax
import jax.numpy as jnp

from rnascl_jax.base import Array
from rnascl_jax.losses import kl
from rnascl_jax.losses.classification import cross_entropy


def mart(
  logits: Array, adv_logits: Array, labels: Array, *, beta: float = 5.0
) -> Array:
  """The loss of MART.

  The gradient flows through both predictions and through the weight 1 - p_y, as
  in the authors' code. That adds 1e-4 inside of the second logarithm of BCE
  (and less elsewhere), so that it ends at 9.2; here it is computed from logits
  and has no end.

  Args:
    logits: [B, K], of the images; K is at least 2.
    adv_logits: [B, K], of their adversarial views.
    labels: [B], integers in [0, K).
    beta: weight of the divergence (lambda in the paper), 5 in the authors' code
      for ResNet-18.

  Returns:
    [B], non-negative up to rounding.

  Reference:
    Wang et al., ICLR 2020, section 3.
  """
  chex.assert_equal_shape([logits, adv_logits])
  doubt = 1.0 - jnp.exp(-cross_entropy(logits, labels))
  return (
    boosted_cross_entropy(adv_logits, labels)
    + beta * kl.kl_divergence(logits, adv_logits) * doubt
  )


def boosted_cross_entropy(logits: Array, labels: Array) -> Array:
  """The cross-entropy, and minus the logarithm of one minus the best rival.

  Args:
    logits: [B, K]; K is at least 2.
    labels: [B], integers in [0, K).

  Returns:
    [B], non-negative.

  Reference:
    Wang et al., ICLR 2020, section 3.
  """
  classes = logits.shape[-1]
  own = jax.nn.one_hot(labels, classes, dtype=bool)  # [B, K]
  rival = jnp.argmax(jnp.where(own, -jnp.inf, logits), axis=-1)
  # log(1 - p_k) from all logits but that of k.
  others = ~jax.nn.one_hot(rival, classes, dtype=bool)
  log_rest = jax.nn.logsumexp(jnp.where(others, logits, -jnp.inf), axis=-1)
  log_rest -= jax.nn.logsumexp(logits, axis=-1)
  return cross_entropy(logits, labels) - log_rest

"""Cross-entropy from logits.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> logits, labels = jnp.array([[2., 0., 0.]]), jnp.array([0])
  >>> print(losses.cross_entropy(logits, labels).round(4))
  [0.2395]
"""

import chex
import jax
import jax.numpy as jnp

from rnascl_jax.base import Array


def cross_entropy(
  logits: Array, labels: Array, *, smoothing: float = 0.0
) -> Array:
  """Cross-entropy between softmax(logits) and labels.

  Args:
    logits: [B, K].
    labels: [B], integers in [0, K), values outside give NaN; or [B, K], the
      classes' shares, which add up to 1.
    smoothing: share in [0, 1] of the label's probability that all K classes
      divide among them, static.

  Returns:
    [B], non-negative.

  Reference:
    Szegedy et al., Rethinking the Inception architecture for computer vision,
    CVPR 2016, section 7, for the smoothing.
  """
  chex.assert_rank([logits, labels], [2, {1, 2}])
  chex.assert_equal_shape_prefix([logits, labels], labels.ndim)
  log_probs = jax.nn.log_softmax(logits)
  if labels.ndim == 2:
    loss = -jnp.sum(labels * log_probs, axis=-1)
  else:
    # Indexing takes a negative label for one counted from the end.
    index = jnp.where(labels < 0, logits.shape[-1], labels)
    loss = -jnp.take_along_axis(
      log_probs, index[:, None], axis=-1, mode='fill', fill_value=jnp.nan
    )[:, 0]
  if not smoothing:
    return loss
  return (1.0 - smoothing) * loss - smoothing * jnp.mean(log_probs, axis=-1)

"""Probabilistic knowledge transfer (PKT): who is whose neighbour.

With K_ij = (cos(x_i, x_j) + 1) / 2, rows divided by their sum,

  PKT = mean over i, j of K_t log((K_t + e) / (K_s + e)),    e = 1e-7

The mean is over B^2 entries, not over B rows as of a divergence: hence the
large weight.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> student, teacher = jnp.eye(2), jnp.array([[1., 0.], [-1., 0.]])
  >>> [f'{value:.4f}' for value in losses.pkt(student, teacher)]
  ['0.2027', '0.2027']

Reference:
  Passalis and Tefas, Learning deep representations with probabilistic knowledge
  transfer, ECCV 2018, with the cosine kernel. RepDistiller's weight is 30000.
"""

import chex
import jax.numpy as jnp

from rnascl_jax.base import Array
from rnascl_jax.losses import rows

_EPSILON = 1e-7


def pkt(
  student: Array, teacher: Array, *, axis_name: str | None = None
) -> Array:
  """PKT, see above: value i is the share of row i.

  A row of zeros has cosine 0 to all others and itself, with gradient 0.

  Args:
    student: [B, C] features.
    teacher: [B, C'] features, constant.
    axis_name: mapped axis over which the batch is split, if any.

  Returns:
    [B], non-negative up to rounding; their mean is PKT.
  """
  chex.assert_rank([student, teacher], 2)
  chex.assert_equal_shape_prefix([student, teacher], 1)
  s, t = (_neighbours(x, axis_name) for x in (student, teacher))
  ratio = jnp.log(t + _EPSILON) - jnp.log(s + _EPSILON)
  return jnp.mean(t * ratio, axis=-1)


def _neighbours(x: Array, axis_name: str | None) -> Array:
  """Conditional probabilities [b, B], each row of sum 1."""
  own = rows.normalize(rows.widen(x))
  cosines = rows.products(own, rows.gather(own, axis_name))
  # Rounding may leave [-1, 1], where the logarithm has no argument.
  kernel = (jnp.clip(cosines, -1.0, 1.0) + 1.0) / 2.0
  return kernel / jnp.sum(kernel, axis=-1, keepdims=True)

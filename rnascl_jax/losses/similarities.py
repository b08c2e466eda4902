"""Similarity-preserving distillation (SP): images that the teacher finds alike.

With F the activations [B, D] of a batch and G = F F^T, its rows l2-normalised,

  SP = |G_s - G_t|^2 / B^2    (squares of all entries)

The size of the loss depends on the batch: entries are about 1 / sqrt(B).

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> student, teacher = jnp.eye(2), jnp.array([[1., 0., 0.], [1., 0., 0.]])
  >>> print(losses.similarity(student, teacher).round(4))
  [0.2929 0.2929]

Reference:
  Tung and Mori, Similarity-preserving knowledge distillation, ICCV 2019.
  RepDistiller's weight is 3000, on the last stage.
"""

import chex
import jax.numpy as jnp

from rnascl_jax.base import Array
from rnascl_jax.losses import rows


def similarity(
  student: Array, teacher: Array, *, axis_name: str | None = None
) -> Array:
  """SP, see above: value i is the share of row i.

  Args:
    student: [B, ...], flattened for each image.
    teacher: [B, ...], of any other shape; constant.
    axis_name: mapped axis over which the batch is split, if any.

  Returns:
    [B], in [0, 4 / B] with B images in the global batch; their mean is SP.
  """
  chex.assert_equal_shape_prefix([student, teacher], 1)
  s, t = (_similarities(x, axis_name) for x in (student, teacher))
  return jnp.mean(jnp.square(s - t), axis=-1)


def _similarities(x: Array, axis_name: str | None) -> Array:
  own = rows.flatten(x)
  return rows.normalize(rows.products(own, rows.gather(own, axis_name)))

"""Attention transfer (AT): the student looks where the teacher looks.

With a = mean_c A_c^2 the map of a stage and q = a / |a| over its positions,

  AT = sum over pairs of stages of the mean over positions of (q_s - q_t)^2

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> student = [jnp.array([1., 0., 0., 0.]).reshape(1, 2, 2, 1)]
  >>> teacher = [jnp.array([0., 3., 0., 0.]).reshape(1, 2, 2, 1)]
  >>> print(losses.attention_transfer(student, teacher))
  [0.5]

Reference:
  Zagoruyko and Komodakis, Paying more attention to attention: improving the
  performance of convolutional neural networks via attention transfer, ICLR
  2017. As in RepDistiller (Tian et al., Contrastive representation
  distillation, ICLR 2020), with weight 1000 there.
"""

from collections.abc import Sequence

import jax.numpy as jnp

from rnascl_jax.base import Array
from rnascl_jax.losses import rows, stages


def attention_transfer(
  student: Sequence[Array], teacher: Sequence[Array]
) -> Array:
  """AT of paired stages, see above.

  Stages are paired from the end. Of a pair, the larger activation is pooled to
  the size of the smaller one before it is squared: a map of means is not the
  mean of maps. A map of zeros stays zero.

  Args:
    student: stages [B, H, W, C] in forward order.
    teacher: likewise, with sizes and channels of their own; constant.

  Returns:
    [B], non-negative; a pair adds at most 2 / (H W).
  """
  distances = []
  for pair in stages.pair(student, teacher):
    s, t = map(_attend, stages.same_size(*pair))
    distances.append(jnp.mean(jnp.square(s - t), axis=-1))
  return jnp.sum(jnp.stack(distances), axis=0)


def _attend(x: Array) -> Array:
  """Where an activation [B, H, W, C] looks, [B, HW] of norm 1."""
  return rows.normalize(rows.flatten(jnp.mean(jnp.square(x), axis=-1)))

"""Relational distillation (RKD): distances and angles between images.

With d_ij = |x_i - x_j| and its mean m over all pairs of d_ij > 0, with
u_ij = (x_j - x_i) / d_ij and h the Huber loss of delta 1,

  RKD_D = mean over i, j    of h(d_ij / m, the teacher's)
  RKD_A = mean over i, j, k of h(<u_ij, u_ik>, the teacher's)
  RKD   = 25 RKD_D + 50 RKD_A

The means of the losses are over all B^2 and B^3 entries, those with equal
indices included, as in the authors' and RepDistiller's code; they depend on the
size of the batch. Distances come from differences, not from products, which
cancel where rows are close; these take B b D floats with b images on a device,
and angles b B^2.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> student = jnp.array([[0., 0.], [3., 0.], [0., 4.]])
  >>> teacher = 2 * student[:, ::-1] + 1  # Turned, scaled and moved.
  >>> bool((losses.rkd(student, teacher) < 1e-9).all())
  True
  >>> line = jnp.array([[0.], [1.], [2.]])
  >>> print(losses.rkd_angle(student, line).round(4))
  [0.1111 0.2444 0.0044]

Reference:
  Park et al., Relational knowledge distillation, CVPR 2019, section 3.2.
  25, 50 and the weight of 1 are RepDistiller's; the authors have 1 and 2.
"""

from typing import NamedTuple

import chex
import jax.numpy as jnp
from jax import lax

from rnascl_jax.base import Array
from rnascl_jax.losses import rows


class _Edges(NamedTuple):
  """From each of this device's rows to all: lengths [b, B], steps [b, B, D]."""

  lengths: Array
  steps: Array


def rkd(
  student: Array,
  teacher: Array,
  *,
  distance_weight: float = 25.0,
  angle_weight: float = 50.0,
  axis_name: str | None = None,
) -> Array:
  """RKD, see above: value i is the share of image i, the vertex of its angles.

  Args:
    student: [B, C] features.
    teacher: [B, C'] features, constant.
    distance_weight: of RKD_D.
    angle_weight: of RKD_A.
    axis_name: mapped axis over which the batch is split, if any.

  Returns:
    [B], non-negative; their mean is RKD.
  """
  distances = rkd_distance(student, teacher, axis_name=axis_name)
  angles = rkd_angle(student, teacher, axis_name=axis_name)
  return distance_weight * distances + angle_weight * angles


def rkd_distance(
  student: Array, teacher: Array, *, axis_name: str | None = None
) -> Array:
  """RKD_D, see above; arguments and result are those of `rkd`.

  Rows that coincide are at distance 0, with gradient 0; where all do, distances
  are not divided.
  """
  s, t = (
    _relative(_edges(x, axis_name).lengths, axis_name)
    for x in _checked(student, teacher)
  )
  return jnp.mean(_huber(s - t), axis=-1)


def rkd_angle(
  student: Array, teacher: Array, *, axis_name: str | None = None
) -> Array:
  """RKD_A, see above; arguments and result are those of `rkd`.

  An angle with a side of length 0 has cosine 0, with gradient 0.
  """
  s, t = (_cosines(_edges(x, axis_name)) for x in _checked(student, teacher))
  return jnp.mean(_huber(s - t), axis=(1, 2))


def _checked(student: Array, teacher: Array) -> tuple[Array, Array]:
  chex.assert_rank([student, teacher], 2)
  chex.assert_equal_shape_prefix([student, teacher], 1)
  return rows.widen(student), rows.widen(teacher)


def _edges(x: Array, axis_name: str | None) -> _Edges:
  steps = rows.gather(x, axis_name)[None] - x[:, None]  # [b, B, D]
  return _Edges(rows.lengths(steps), steps)


def _relative(lengths: Array, axis_name: str | None) -> Array:
  """Lengths divided by the mean of those of the global batch that are not 0."""
  total, count = jnp.sum(lengths), jnp.sum((lengths > 0).astype(lengths.dtype))
  if axis_name is not None:
    total, count = lax.psum((total, count), axis_name)
  return lengths / jnp.where(count > 0, total / jnp.maximum(count, 1.0), 1.0)


def _cosines(edges: _Edges) -> Array:
  """Of the angles at each row between all pairs of edges, [b, B, B]."""
  directions = rows.normalize(edges.steps)
  return jnp.einsum(
    'ijd,ikd->ijk', directions, directions, precision=lax.Precision.HIGHEST
  )


def _huber(difference: Array) -> Array:
  size = jnp.abs(difference)
  return jnp.where(size < 1, 0.5 * jnp.square(difference), size - 0.5)

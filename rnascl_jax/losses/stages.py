"""Which stages of a student and a teacher are compared, and at which size.

Networks may have different numbers of stages. They end alike, in the maps that
the classifier pools, so stages are paired from the end.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.losses import stages
  >>> student = [jnp.ones((1, s, s, 2)) for s in (16, 8, 4)]
  >>> teacher = [jnp.ones((1, s, s, 3)) for s in (8, 7)]
  >>> [(s.shape[1], t.shape[1]) for s, t in stages.pair(student, teacher)]
  [(8, 8), (4, 7)]
  >>> [x.shape for x in stages.same_size(student[-1], teacher[-1])]
  [(1, 4, 4, 2), (1, 4, 4, 3)]
"""

from collections.abc import Sequence

import chex
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnascl_jax.base import Array
from rnascl_jax.losses import rows


def pair(
  student: Sequence[Array], teacher: Sequence[Array]
) -> list[tuple[Array, Array]]:
  """Pairs stages, last with last, as many as both networks have.

  Args:
    student: outputs of its stages in forward order.
    teacher: likewise.

  Returns:
    Pairs in forward order.

  Raises:
    ValueError: one of them has no stage.
  """
  count = min(len(student), len(teacher))
  if not count:
    raise ValueError(
      f'there are {len(student)} stages of the student and {len(teacher)} of '
      'the teacher; at least 1 of each is needed to compare them.'
    )
  return list(zip(student[-count:], teacher[-count:], strict=True))


def same_size(student: Array, teacher: Array) -> tuple[Array, Array]:
  """Pools the larger of two activations to the size of the smaller.

  Args:
    student: [B, H, W, C].
    teacher: [B, H', W', C'].

  Returns:
    Both at (min(H, H'), min(W, W')), at least float32.
  """
  chex.assert_rank([student, teacher], 4)
  chex.assert_equal_shape_prefix([student, teacher], 1)
  height, width = map(min, student.shape[1:3], teacher.shape[1:3])
  return pool(student, (height, width)), pool(teacher, (height, width))


def pool(x: Array, size: tuple[int, int]) -> Array:
  """Adaptive average pooling, as PyTorch's `adaptive_avg_pool2d`.

  Cell i of h covers rows floor(i H / h) to ceil((i + 1) H / h); cells overlap
  where h does not divide H.

  Args:
    x: [B, H, W, C], of any float type.
    size: (h, w), at most (H, W).

  Returns:
    [B, h, w, C], at least float32.

  Raises:
    ValueError: a side would have to grow.
  """
  chex.assert_rank(x, 4)
  x = rows.widen(x)
  for axis, side in zip((1, 2), size, strict=True):
    x = pool_axis(x, axis, side)
  return x


def pool_axis(x: Array, axis: int, side: int) -> Array:
  """`pool` of one axis, of any array: its length becomes `side`."""
  have = x.shape[axis]
  if side > have:
    raise ValueError(
      f'a side of {have} cannot be pooled to {side}; pool the larger of two '
      'maps to the smaller.'
    )
  if have == side:
    return x
  if have % side == 0:
    shape = (*x.shape[:axis], side, have // side, *x.shape[axis + 1 :])
    return x.reshape(shape).mean(axis + 1)
  weights = np.zeros((side, have))
  for i in range(side):
    low, high = i * have // side, -(-(i + 1) * have // side)
    weights[i, low:high] = 1 / (high - low)
  pooled = jnp.tensordot(
    x,
    jnp.asarray(weights, x.dtype),
    axes=(axis, 1),
    precision=lax.Precision.HIGHEST,
  )
  # What was summed over has come last.
  return jnp.moveaxis(pooled, -1, axis)

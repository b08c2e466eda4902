"""Attention maps, their pairwise distances and the attention loss (eq. 1).

A layer's attention map says where it looks: the sum of squares over channels.
Maps of all layers are brought to one common size, flattened and l2-normalised,
so that the distances of all student layers to all teacher layers are a single
matrix product. Implements section 3.1 and eq. (1) of RNAS-CL; the maps are
those of Zagoruyko and Komodakis, ICLR 2017.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.losses import attention
  >>> student = [jnp.ones((1, 8, 8, 3)), jnp.ones((1, 4, 4, 5))]
  >>> teacher = [jnp.ones((1, 2, 2, 7))]
  >>> s = attention.attention_vectors(student, (4, 4))
  >>> t = attention.attention_vectors(teacher, (4, 4))
  >>> s.shape, t.shape
  ((1, 2, 16), (1, 1, 16))
  >>> weights = jnp.ones((2, 1))
  >>> print(attention.attention_loss(s, t, weights).round(3))
  [0.]
"""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from rnascl_jax.base import Array

# Smallest squared distance under the root, so that the gradient at zero is
# finite; rounding of |a|^2 + |b|^2 - 2ab in float32 is larger, about 1e-7.
_DELTA = 1e-12
# A map of a smaller squared norm counts as zero: its activations are below
# about 1e-8. Float32 holds such squares.
_ZERO = 1e-30


def attention_map(activation: Array) -> Array:
  """Where a layer looks, F(A)_hw = sum_c A_chw^2 (section 3.1).

  Args:
    activation: [B, H, W, C], of any float type.

  Returns:
    [B, H, W], non-negative, at least float32.
  """
  chex.assert_rank(activation, 4)
  wide = jnp.promote_types(activation.dtype, jnp.float32)
  return jnp.sum(jnp.square(activation.astype(wide)), axis=-1)


def _pool_or_stretch(maps: Array, axis: int, side: int) -> Array:
  have = maps.shape[axis]
  if have == side:
    return maps
  if have > side and have % side == 0:
    shape = maps.shape[:axis] + (side, have // side) + maps.shape[axis + 1 :]
    return maps.reshape(shape).mean(axis + 1)
  if have < side:
    shape = maps.shape[:axis] + (side,) + maps.shape[axis + 1 :]
    return jax.image.resize(maps, shape, 'bilinear', antialias=False)
  raise ValueError(
    f'A map of side {have} cannot be average-pooled to map_size={side}: choose '
    f'a map size that divides {have}, or one that is larger.'
  )


def resize_maps(maps: Array, size: tuple[int, int]) -> Array:
  """Brings maps to a size: average pooling down, bilinear (half-pixel) up.

  Args:
    maps: [B, H, W].
    size: (height, width) to reach.

  Returns:
    [B, height, width].

  Raises:
    ValueError: if a side must shrink to one that does not divide it.
  """
  chex.assert_rank(maps, 3)
  for axis, side in zip((1, 2), size, strict=True):
    maps = _pool_or_stretch(maps, axis, side)
  return maps


def attention_vectors(taps: Sequence[Array], size: tuple[int, int]) -> Array:
  """Attention maps of all layers at one size, flattened and normalised.

  Args:
    taps: activations of L layers, each [B, H, W, C] with sizes of its own.
    size: (h, w), the common size; D = h * w.

  Returns:
    [B, L, D], of l2-norm 1 over the last axis; a zero map stays zero.

  Raises:
    ValueError: if a map must shrink to a size that does not divide it.
  """
  flat = [
    resize_maps(attention_map(tap), size).reshape(tap.shape[0], -1)
    for tap in taps
  ]
  vectors = jnp.stack(flat, axis=1)  # [B, L, D]
  squares = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
  # Where a map is all zero, the root's argument is replaced before the root is
  # taken: its gradient would be infinite and times zero gives NaN.
  positive = squares > _ZERO
  norms = jnp.sqrt(jnp.where(positive, squares, 1.0))
  return jnp.where(positive, vectors / norms, 0.0)


def pairwise_distances(student: Array, teacher: Array) -> Array:
  """Euclidean distances of all student to all teacher layers, by one matmul.

  The product runs in the highest precision: TF32 or bfloat16 would ruin the
  cancellation in |a|^2 + |b|^2 - 2ab.

  Args:
    student: [B, S, D].
    teacher: [B, T, D].

  Returns:
    [B, S, T], in [0, sqrt(2)] for normalised non-negative maps; the gradient is
    finite where two maps coincide.
  """
  chex.assert_rank([student, teacher], 3)
  chex.assert_equal_shape_prefix([student, teacher], 1)
  products = jnp.einsum(
    'bsd,btd->bst', student, teacher, precision=jax.lax.Precision.HIGHEST
  )
  student_squares = jnp.sum(jnp.square(student), axis=-1)[:, :, None]
  teacher_squares = jnp.sum(jnp.square(teacher), axis=-1)[:, None, :]
  squares = student_squares + teacher_squares - 2.0 * products
  return jnp.sqrt(jnp.maximum(squares, _DELTA))


def attention_loss(
  student: Array, teacher: Array, tutor_weights: Array
) -> Array:
  """The Gumbel-weighted attention loss of one image each (eq. 1).

  L_Attn = 1 / (n_s n_t) sum_ij g_ij |F(A_s^i)/|F(A_s^i)| - F(A_t^j)/|F(A_t^j)||

  The factor is literal. As sum_j g_ij = 1, the loss is at most sqrt(2) / n_t:
  expect it to matter only with gamma >> 1.

  Args:
    student: [B, S, D], normalised maps of the student layers.
    teacher: [B, T, D], normalised maps of the teacher layers.
    tutor_weights: [S, T], the weights g_ij, non-negative and summing to 1 over
      the teacher layers; one-hot in the training phase.

  Returns:
    [B], non-negative.
  """
  distances = pairwise_distances(student, teacher)
  chex.assert_shape(tutor_weights, distances.shape[1:])
  weighted = tutor_weights[None] * distances
  return jnp.sum(weighted, axis=(1, 2)) / tutor_weights.size

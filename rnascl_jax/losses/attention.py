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
from jax import lax

from rnascl_jax.base import Array
from rnascl_jax.losses import stages

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


def resize_maps(
  maps: Array, size: tuple[int, int], *, bilinear: bool = False
) -> Array:
  """Brings maps to any size, each side by itself.

  A side grows by bilinear interpolation between the centres of cells, as
  PyTorch's `interpolate` without aligned corners. It shrinks by adaptive
  average pooling, or by the same interpolation, which has no antialiasing.

  Args:
    maps: [B, H, W].
    size: (height, width) to reach.
    bilinear: whether sides shrink by interpolation; the authors' code has that.

  Returns:
    [B, height, width].
  """
  chex.assert_rank(maps, 3)
  for axis, side in zip((1, 2), size, strict=True):
    if bilinear or side > maps.shape[axis]:
      shape = (*maps.shape[:axis], side, *maps.shape[axis + 1 :])
      maps = jax.image.resize(maps, shape, 'bilinear', antialias=False)
    else:
      maps = stages.pool_axis(maps, axis, side)
  return maps


def flat_maps(
  taps: Sequence[Array], size: tuple[int, int], *, bilinear: bool = False
) -> Array:
  """Attention maps of all layers at one size, flattened.

  Args:
    taps: activations of L layers, each [B, H, W, C] with sizes of its own.
    size: (h, w), the common size; D = h * w.
    bilinear: as of `resize_maps`.

  Returns:
    [B, L, D], non-negative.
  """
  maps = [
    resize_maps(attention_map(tap), size, bilinear=bilinear) for tap in taps
  ]
  return jnp.stack([m.reshape(len(m), -1) for m in maps], axis=1)


def attention_vectors(
  taps: Sequence[Array],
  size: tuple[int, int],
  *,
  bilinear: bool = False,
  norm_over_batch: bool = False,
  axis_name: str | None = None,
) -> Array:
  """Attention maps of all layers at one size, flattened and normalised.

  Args:
    taps: activations of L layers, each [B, H, W, C] with sizes of its own.
    size: (h, w), the common size; D = h * w.
    bilinear: as of `resize_maps`.
    norm_over_batch: whether the maps of a layer are divided by one number, the
      root of the mean over images of their squared norms, and not each by its
      own norm. An image of larger activations then weighs more. The authors'
      code divides by the norm of the whole batch, which is sqrt(B) times this
      number: with it the loss of an image would fall as the batch grows.
    axis_name: mapped axis over which the batch is split, if any; that mean is
      then over the global batch.

  Returns:
    [B, L, D], of l2-norm 1 over the last axis, or of a mean squared norm of 1
    over the batch; a zero map stays zero.
  """
  vectors = flat_maps(taps, size, bilinear=bilinear)
  squares = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
  if norm_over_batch:
    squares = jnp.mean(squares, axis=0, keepdims=True)  # [1, L, 1]
    if axis_name is not None:
      squares = lax.pmean(squares, axis_name)
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


def reduce_pairs(
  pairs: Array, tutor_weights: Array, reduction: str = 'literal'
) -> Array:
  """Adds up what compares layers with their tutors: sum_ij g_ij d_ij / divisor.

  Args:
    pairs: [B, S, T], d_ij of student layer i and teacher layer j.
    tutor_weights: [S, T], the weights g_ij, non-negative and summing to 1 over
      the teacher layers; one-hot in the training phase.
    reduction: 'literal' divides by S T, as eq. (1) prints it; 'mean' by S,
      which is a mean over student layers; 'sum' by 1, as the authors' code.

  Returns:
    [B].

  Raises:
    ValueError: if the reduction is another one.
  """
  chex.assert_shape(tutor_weights, pairs.shape[1:])
  divisors = {
    'literal': tutor_weights.size,
    'mean': len(tutor_weights),
    'sum': 1,
  }
  if reduction not in divisors:
    raise ValueError(
      f'reduction={reduction!r} must be one of {tuple(divisors)}.'
    )
  weighted = tutor_weights[None] * pairs
  return jnp.sum(weighted, axis=(1, 2)) / divisors[reduction]


def attention_loss(
  student: Array,
  teacher: Array,
  tutor_weights: Array,
  *,
  reduction: str = 'literal',
) -> Array:
  """The Gumbel-weighted attention loss of one image each (eq. 1).

  L_Attn = 1 / (n_s n_t) sum_ij g_ij |F(A_s^i)/|F(A_s^i)| - F(A_t^j)/|F(A_t^j)||

  As sum_j g_ij = 1, the loss with the printed factor is at most sqrt(2) / n_t,
  and hardly acts unless gamma >> 1. The sum with gamma = 1 is the same as the
  printed loss with gamma = n_s n_t.

  Args:
    student: [B, S, D], normalised maps of the student layers.
    teacher: [B, T, D], normalised maps of the teacher layers.
    tutor_weights: [S, T], as of `reduce_pairs`.
    reduction: 'literal', 'mean' or 'sum', see `reduce_pairs`.

  Returns:
    [B], non-negative.
  """
  distances = pairwise_distances(student, teacher)
  return reduce_pairs(distances, tutor_weights, reduction)

"""Layer-wise KL: a divergence of attention maps in the place of eq. (1).

The paper compares RNAS-CL with "layer-wise KL between feature maps" (section
4.10, Table 8) and leaves open what that is where shapes differ. Here a layer's
map F of section 3.1, at the common size, becomes the distribution

  p = softmax over positions of F / mean(F)

(the size of activations does not matter; a map of zeros is uniform), and

  L = 1 / (n_s n_t) sum_ij g_ij KL(p_s^i, p_t^j)

or without a part of the factor, as eq. (1).

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> student = [jnp.zeros((1, 4, 4, 3))]
  >>> teacher = [jnp.zeros((1, 2, 2, 1)).at[0, 0, 0, 0].set(7.)]
  >>> s = losses.map_log_probabilities(student, (2, 2))
  >>> t = losses.map_log_probabilities(teacher, (2, 2))
  >>> print(jnp.exp(t).round(4))
  [[[0.9479 0.0174 0.0174 0.0174]]]
  >>> print(losses.layerwise_kl(s, t, jnp.ones((1, 1))).round(4))
  [1.6672]

Reference:
  Nath et al., RNAS-CL, IJCV 2024, section 4.10.
"""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
from jax import lax

from rnascl_jax.base import Array
from rnascl_jax.losses import attention

# A map of a smaller mean counts as zero: its activations are below 1e-15.
_ZERO = 1e-30


def map_log_probabilities(
  taps: Sequence[Array], size: tuple[int, int], *, bilinear: bool = False
) -> Array:
  """Where layers look, as log-probabilities of positions, see above.

  Args:
    taps: activations of L layers, each [B, H, W, C] with sizes of its own.
    size: (h, w), the common size; D = h * w.
    bilinear: as of `attention.resize_maps`.

  Returns:
    [B, L, D], each row's exponentials of sum 1.
  """
  maps = attention.flat_maps(taps, size, bilinear=bilinear)
  means = jnp.mean(maps, axis=-1, keepdims=True)
  positive = means > _ZERO
  relative = jnp.where(positive, maps / jnp.where(positive, means, 1.0), 0.0)
  return jax.nn.log_softmax(relative)


def layerwise_kl(
  student: Array,
  teacher: Array,
  tutor_weights: Array,
  *,
  reduction: str = 'literal',
) -> Array:
  """Layer-wise KL, see above; all pairs of layers by one matrix product.

  Args:
    student: [B, S, D] log-probabilities.
    teacher: [B, T, D] log-probabilities, constant.
    tutor_weights: [S, T], the g_ij of eq. (1).
    reduction: 'literal', 'mean' or 'sum', see `attention.reduce_pairs`.

  Returns:
    [B], non-negative up to rounding.
  """
  chex.assert_rank([student, teacher], 3)
  chex.assert_equal_shape_prefix([student, teacher], 1)
  p = jnp.exp(student)
  crossed = jnp.einsum(
    'bsd,btd->bst', p, teacher, precision=lax.Precision.HIGHEST
  )
  divergences = jnp.sum(p * student, axis=-1)[:, :, None] - crossed
  return attention.reduce_pairs(divergences, tutor_weights, reduction)

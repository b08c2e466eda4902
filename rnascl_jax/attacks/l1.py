"""The L1 ball around one image: projection and sparse directions.

The ball is intersected with [0, 1], which the projection takes into account: in
L1, unlike in L-infinity, clamping to [0, 1] what was projected onto the whole
ball is not the nearest point. A perturbation y moves each value towards an end
of [0, 1] that is p away, and the nearest perturbation in the ball is

  sign(y) clip(|y| - shift, 0, p),  sum clip(|y| - shift, 0, p) = epsilon,

with one shift for all values (0 if y needs no shortening beyond [0, 1]). The
shift is found by fixing variables, without sorting: it is computed as if
neither 0 nor p mattered; if the clipped sum is then too large, the values that
became 0 stay 0, and otherwise those that reached p stay there. What remains is
a smaller problem of the same kind. The end is exact, after a few rounds.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.attacks import l1
  >>> image = jnp.array([.5, .875, .5]).reshape(3, 1, 1)
  >>> point = jnp.array([1., 1.375, .375]).reshape(3, 1, 1)
  >>> print(l1.project(image, point, .5).ravel())
  [0.875 1.    0.5  ]
  >>> print(l1.sparse_direction(point - image, share=.5).ravel())
  [0.5 0.5 0. ]

References:
  Croce and Hein, Mind the box: l1-APGD for sparse adversarial attacks on image
  classifiers, ICML 2021, proposition 2.1 and section 3.
  Kiwiel, Variable fixing algorithms for the continuous quadratic knapsack
  problem, Journal of Optimization Theory and Applications 2008.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from rnascl_jax.base import Array

# As published: keeps the division finite where a gradient is zero everywhere.
_TINY = 1e-10


class _Fixing(NamedTuple):
  """The carry of variable fixing.

  Attributes:
    shift: scalar, of the last round.
    lower: scalar, values of at most this size are fixed at 0.
    upper: scalar, values beyond their end of [0, 1] by at least this much are
      fixed there.
    num_free: scalar, how many are not fixed.
    shrank: scalar bool, whether the last round fixed any.
  """

  shift: Array
  lower: Array
  upper: Array
  num_free: Array
  shrank: Array


def project(image: Array, point: Array, epsilon: float | Array) -> Array:
  """The point of the ball and of [0, 1] that is nearest to a point, in L2.

  Args:
    image: [H, W, C] in [0, 1], the centre.
    point: [H, W, C], finite.
    epsilon: scalar, at least 0, may be traced.

  Returns:
    [H, W, C] in [0, 1], of the image's type.
  """
  delta = point - image
  moved = image + delta + correction(image, delta, epsilon)
  return jnp.clip(moved, 0.0, 1.0)


def correction(image: Array, delta: Array, epsilon: float | Array) -> Array:
  """What to add to a perturbation [H, W, C], to bring it into ball and [0, 1].

  The arguments are as for `project`. A value that must return to the image gets
  exactly -delta. Added to image + delta, this may miss the image by a rounding
  error of the size of delta.
  """
  size = jnp.abs(delta)
  reach = jnp.where(delta >= 0, 1.0 - image, image)
  beyond = jnp.maximum(size - reach, 0.0)
  shift = _shift(size, beyond, jnp.asarray(epsilon, image.dtype))
  return -jnp.sign(delta) * jnp.clip(shift, beyond, size)


def _shift(size: Array, beyond: Array, epsilon: Array) -> Array:
  """The smallest shift >= 0 of sum clip(size - shift, 0, reach) <= epsilon.

  Args:
    size: [H, W, C], |y|.
    beyond: [H, W, C], size - min(size, reach).
    epsilon: scalar.
  """
  end = size - beyond

  def fix(state: _Fixing) -> _Fixing:
    is_end = beyond >= state.upper
    is_free = (size > state.lower) & ~is_end
    rest = jnp.where(is_free, size, jnp.where(is_end, end, 0.0)).sum() - epsilon
    shift = rest / jnp.maximum(state.num_free, 1)
    too_long = jnp.clip(size - shift, 0.0, end).sum() > epsilon
    lower = jnp.where(too_long, jnp.maximum(shift, state.lower), state.lower)
    upper = jnp.where(too_long, state.upper, jnp.minimum(shift, state.upper))
    num_free = jnp.sum((size > lower) & (beyond < upper))
    shrank = num_free < state.num_free
    return _Fixing(shift, lower, upper, num_free, shrank)

  zero = jnp.zeros_like(epsilon)
  start = _Fixing(
    shift=zero,
    lower=zero,
    upper=jnp.full_like(epsilon, jnp.inf),
    num_free=jnp.sum(size > 0),
    shrank=end.sum() > epsilon,
  )
  last = lax.while_loop(
    lambda state: state.shrank & (state.num_free > 0), fix, start
  )
  return last.shift


def sparse_direction(
  gradient: Array, share: float | Array, length: float | Array = 1.0
) -> Array:
  """The signs of the largest entries of a gradient, scaled to a length in L1.

  Args:
    gradient: [H, W, C]. A NaN does not move its pixel.
    share: scalar in [0, 1], the share of entries that move, rounded up to at
      least one; may be traced. Entries as large as the smallest of these move
      too.
    length: scalar, may be traced.

  Returns:
    [H, W, C], +-length/n at the n entries that move and 0 elsewhere; 0 if the
    gradient is. With `share=0` it is the direction of steepest ascent in L1.
  """
  gradient = jnp.nan_to_num(gradient, posinf=0.0, neginf=0.0)
  size, count = jnp.abs(gradient), gradient.size
  before = jnp.clip((1.0 - share) * count, 0, count - 1).astype(jnp.int32)
  least = threshold(size, lambda moves: moves.sum() >= count - before)
  signs = jnp.where(size >= least, jnp.sign(gradient), 0.0)
  return length * signs / (jnp.abs(signs).sum() + _TINY)


def threshold(values: Array, is_enough: Callable[[Array], Array]) -> Array:
  """The largest threshold that enough values reach, without sorting.

  Floats that are not negative are in the order of their bits, which are found
  one after the other.

  Args:
    values: [H, W, C], not negative and not NaN.
    is_enough: mask [H, W, C] of the values that reach a threshold -> scalar
      bool; stays true if more of them do.

  Returns:
    Scalar; 0 if all values are not enough, and NaN if none are needed.
  """
  num_bits = 8 * values.dtype.itemsize
  bits = lax.bitcast_convert_type(values, jnp.dtype(f'uint{num_bits}'))
  one = jnp.ones((), bits.dtype)

  def set_bit(index: Array, least: Array) -> Array:
    # The sign is bit num_bits - 1, and not set.
    tried = least | (one << (num_bits - 2 - index).astype(bits.dtype))
    return jnp.where(is_enough(bits >= tried), tried, least)

  zero = jnp.zeros((), bits.dtype)
  least = lax.fori_loop(0, num_bits - 1, set_bit, zero)
  return lax.bitcast_convert_type(least, values.dtype)

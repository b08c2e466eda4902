"""The shortest move of one image onto a hyperplane that stays in [0, 1].

FAB replaces the classifier by a linear one and asks for the nearest image that
this one confuses. With w the gradient and c = <w, x> - b the value at x, let c
be positive (else flip the signs of both). The pixels then move against w, each
at its own speed s, until the plane or their end of [0, 1] is reached:

  d_i = -sign(w_i) min(t s_i, p_i),  p_i = x_i if w_i >= 0 else 1 - x_i
  f(t) = sum_i |w_i| min(t s_i, p_i) = c

The speed is 1 in L-infinity and |w_i| in L2. (In L1 the pixels move one after
the other, those of the largest |w_i| first.) f is concave and piecewise linear,
so that Newton's method from t = 0 never overshoots the smallest solution, fixes
a pixel at its end once it got there, and is exact after finitely many steps.
Nothing is sorted. If no move gets as far as the plane all pixels go to their
ends, which is as near as they come.

Example:
  >>> import jax.numpy as jnp
  >>> import numpy as np
  >>> from rnascl_jax.attacks import hyperplane
  >>> image = jnp.array([.1, .5, .5]).reshape(3, 1, 1)
  >>> normal = jnp.array([1., 2., 0.]).reshape(3, 1, 1)
  >>> value = jnp.sum(normal * image) - .7  # the plane <w, x> = .7
  >>> for geometry in (hyperplane.LINF, hyperplane.L2, hyperplane.L1):
  ...   moved = image + hyperplane.move(image, normal, value, geometry)
  ...   print(np.asarray(moved.ravel(), float).round(3))
  [0.   0.35 0.5 ]
  [0.02 0.34 0.5 ]
  [0.1 0.3 0.5]

References:
  Croce and Hein, Minimally distorted adversarial examples with a fast adaptive
  boundary attack, ICML 2020.
  Cominetti, Mascarenhas and Silva, A Newton's method for the continuous
  quadratic knapsack problem, Mathematical Programming Computation 2014.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnascl_jax.attacks import l1, norms, stepwise
from rnascl_jax.base import Array

# This many planes are computed side by side, in as many times the memory.
_AT_ONCE = 16


class Geometry(NamedTuple):
  """The shortest moves onto a hyperplane in one norm.

  Attributes:
    path: (weight, reach, value) -> how far each pixel moves [H, W, C], from 0
      to reach, so that sum weight path = value. Weights and reaches are
      [H, W, C] in [0, 1], and the value is a scalar of at least 0.
    dual_length: [H, W, C] -> scalar. A plane at value c is |c| / dual_length(w)
      away if pixels may leave [0, 1].
  """

  path: Callable[[Array, Array, Array], Array]
  dual_length: Callable[[Array], Array]


class Plane(NamedTuple):
  """A hyperplane as seen from a point.

  Attributes:
    normal: [H, W, C], w.
    value: scalar, <w, point> - b.
    distance: scalar, from the point, if pixels may leave [0, 1].
  """

  normal: Array
  value: Array
  distance: Array


class _Moving(NamedTuple):
  """The carry of Newton's method."""

  time: Array
  grows: Array
  rounds: Array


def geometry_of(norm: norms.Norm) -> Geometry:
  """The geometry that belongs to a norm's length, whatever its noise is.

  Raises:
    ValueError: unless the length is that of a norm of `norms`.
  """
  if norm.length not in _GEOMETRIES:
    raise ValueError(
      f'moves onto hyperplanes are known in {", ".join(norms.NORMS)}, not in '
      f'{norm.name}; take a norm of rnascl_jax.attacks.norms.'
    )
  return _GEOMETRIES[norm.length]


def nearest(plane_of: Callable[[Array], Plane], indices: Array) -> Plane:
  """The nearest of several planes; of equally near ones, the first.

  Args:
    plane_of: scalar index -> its plane; called for a few indices at once, so
      that memory does not grow with their number.
    indices: [N], integers, N >= 1.

  Returns:
    The plane of one of the indices.
  """
  num_rounds = -(-indices.size // _AT_ONCE)
  at_once = -(-indices.size // num_rounds)
  # Rounds of equal size: the last plane is looked at again to fill the last.
  rows = jnp.minimum(jnp.arange(num_rounds * at_once), indices.size - 1)
  rounds = indices[rows].reshape(num_rounds, at_once)  # [rounds, at once]

  def look(best, round_indices):
    planes = jax.vmap(plane_of)(round_indices)
    first = jnp.argmin(planes.distance)
    plane = jax.tree.map(lambda x: x[first], planes)
    nearer = plane.distance < best.distance
    return stepwise.select(nearer, plane, best), None

  shapes = jax.eval_shape(plane_of, indices[0])
  nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
  nothing = nothing._replace(distance=jnp.full_like(nothing.distance, jnp.inf))
  return lax.scan(look, nothing, rounds, unroll=num_rounds == 1)[0]


def move(
  point: Array, normal: Array, value: float | Array, geometry: Geometry
) -> Array:
  """The shortest move of a point onto a hyperplane, inside of [0, 1].

  Args:
    point: [H, W, C] in [0, 1].
    normal: [H, W, C], the normal w. Where it is not finite the pixel stays.
    value: scalar, <w, point> - b for the plane <w, x> = b. Given as such
      because it is known better than b, which is the difference of two sums
      over all pixels.
    geometry: of the norm in which the move is short.

  Returns:
    [H, W, C]: a move d with point + d in [0, 1] and on the plane, or as near to
    it as [0, 1] allows; 0 where the normal is. Never NaN.
  """
  value = jnp.asarray(value, point.dtype)
  normal = jnp.where(jnp.isfinite(normal), normal, 0.0)
  # With a largest entry of 1 its squares neither overflow nor vanish. (In L2
  # the official code holds pixels of |w_i| <= 1e-8, and stops on flat ground.)
  largest = jnp.max(jnp.abs(normal))
  scale = jnp.where(largest > 0, largest, 1.0)
  normal = jnp.where(value >= 0, normal, -normal) / scale
  reach = jnp.where(normal >= 0, point, 1.0 - point)
  path = geometry.path(jnp.abs(normal), reach, jnp.abs(value) / scale)
  return -jnp.sign(normal) * path


def _arrival(weight: Array, speed: Array, reach: Array, value: Array) -> Array:
  """The smallest t of sum weight min(t speed, reach) = value.

  Args:
    weight: [H, W, C], |w|, at most 1.
    speed: [H, W, C], in [0, 1].
    reach: [H, W, C], in [0, 1].
    value: scalar, c, at least 0.

  Returns:
    Scalar; the largest finite number if there is no such t.
  """
  never = jnp.asarray(jnp.finfo(reach.dtype).max, reach.dtype)

  def advance(state):
    moves = reach > state.time * speed
    slope = jnp.sum(jnp.where(moves, weight * speed, 0.0))
    rest = value - jnp.sum(jnp.where(moves, 0.0, weight * reach))
    time = jnp.where(slope > 0, rest / jnp.where(slope > 0, slope, 1.0), never)
    time = jnp.minimum(time, never)
    # Pixels stop one after the other, or time stands still: this ends. A NaN
    # does not grow either.
    grows = time > state.time
    return _Moving(jnp.where(grows, time, state.time), grows, state.rounds + 1)

  start = _Moving(jnp.zeros_like(never), jnp.asarray(True), jnp.asarray(0))
  end = lax.while_loop(
    lambda state: state.grows & (state.rounds <= reach.size), advance, start
  )
  return end.time


def _at_once(weight: Array, reach: Array, value: Array) -> Array:
  """In L-infinity: all pixels move at speed 1."""
  time = _arrival(weight, jnp.ones_like(weight), reach, value)
  return jnp.minimum(time, reach)


def _by_weight(weight: Array, reach: Array, value: Array) -> Array:
  """In L2: the speeds are the weights."""
  time = _arrival(weight, weight, reach, value)
  return jnp.minimum(time * weight, reach)


def _one_by_one(weight: Array, reach: Array, value: Array) -> Array:
  """In L1: pixels of larger weight go to their ends, until one is enough.

  Several of the same weight share what is missing in proportion to their reach.
  """
  gain = weight * reach

  def is_enough(reaches: Array) -> Array:
    # Nothing has to move for a value that is NaN.
    return ~(jnp.where(reaches, gain, 0.0).sum() < value)

  last = l1.threshold(weight, is_enough)
  rest = value - jnp.where(weight > last, gain, 0.0).sum()
  shared = jnp.where(weight == last, gain, 0.0).sum()
  share = jnp.clip(rest / jnp.where(shared > 0, shared, 1.0), 0.0, 1.0)
  part = jnp.where(weight == last, share * reach, 0.0)
  return jnp.where(weight > last, reach, part)


LINF = Geometry(_at_once, norms.L1.length)
L2 = Geometry(_by_weight, norms.L2.length)
L1 = Geometry(_one_by_one, norms.LINF.length)
_GEOMETRIES = {
  norms.LINF.length: LINF,
  norms.L2.length: L2,
  norms.L1.length: L1,
}

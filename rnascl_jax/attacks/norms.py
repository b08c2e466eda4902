"""The norms of perturbations: L-infinity, L2 and L1, with their balls.

A norm is a tuple of functions of one image or perturbation [H, W, C]. All balls
are intersected with [0, 1]:

  B(x, epsilon) = {x' : |x' - x|_p <= epsilon} intersected with [0, 1].

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.attacks import norms
  >>> image, far = jnp.zeros((1, 1, 2)), jnp.array([3., 4.]).reshape(1, 1, 2)
  >>> print(norms.L2.project(image, far, 1.).ravel())
  [0.6 0.8]
  >>> print(norms.LINF.project(image, far, .5).ravel())
  [0.5 0.5]
  >>> print(norms.L1.project(image, far / 8, .5).ravel())
  [0.1875 0.3125]
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnascl_jax.attacks import l1
from rnascl_jax.base import Array, Key

# Keeps divisions finite where a gradient or a draw is zero everywhere.
_TINY = 1e-12


class Norm(NamedTuple):
  """A norm of perturbations, and its ball around an image.

  Attributes:
    name: the name that people read.
    length: [H, W, C] -> scalar.
    direction: of steepest ascent for a gradient, [H, W, C] -> [H, W, C] of
      length 1, or 0 where the gradient is. A NaN does not move its pixel.
    project: (image, point, epsilon) -> the point, brought into the ball around
      the image, all [H, W, C].
    noise: (key, image) -> random numbers of the image's shape and type.
    uniform: (key, image) -> a point drawn uniformly from the ball of radius 1
      around 0, of the image's shape and type.
    longest: no perturbation of an image of this many values is longer.
  """

  name: str
  length: Callable[[Array], Array]
  direction: Callable[[Array], Array]
  project: Callable[[Array, Array, float | Array], Array]
  noise: Callable[[Key, Array], Array]
  uniform: Callable[[Key, Array], Array]
  longest: Callable[[float], float]

  def random_start(
    self, key: Key, image: Array, epsilon: float | Array
  ) -> Array:
    """APGD's start [H, W, C]: noise of length epsilon, clamped to [0, 1]."""
    noise = self.noise(key, image)
    unit = noise / (self.length(noise) + _TINY)
    start = image + jnp.asarray(epsilon, image.dtype) * unit
    return jnp.clip(start, 0.0, 1.0)

  def uniform_start(
    self, key: Key, image: Array, epsilon: float | Array, *, clip: bool = True
  ) -> Array:
    """PGD's start: a point drawn uniformly from the ball, clamped to [0, 1].

    Args:
      key: typed random key.
      image: [H, W, C] in [0, 1].
      epsilon: scalar, may be traced.
      clip: whether to clamp. The evaluation code of TRADES, of RobNets, of
        Huang et al. and of RNAS-CL does not before the first gradient, and so
        takes that gradient at a point that is no image.

    Returns:
      [H, W, C], in [0, 1] if `clip`.
    """
    start = image + jnp.asarray(epsilon, image.dtype) * self.uniform(key, image)
    return jnp.clip(start, 0.0, 1.0) if clip else start

  def gaussian_start(
    self, key: Key, image: Array, epsilon: float | Array, *, scale: float = 1e-3
  ) -> Array:
    """The start of TRADES' training attack: x + 0.001 N(0, 1), not clamped.

    The divergence that TRADES climbs has a zero gradient at x itself; any small
    noise gets the attack away from there. The authors have it in L-infinity and
    in L2.

    Args:
      key: typed random key.
      image: [H, W, C] in [0, 1].
      epsilon: unused, so that all starts are called alike.
      scale: standard deviation of the noise.

    Returns:
      [H, W, C]; may lie outside of [0, 1] and, where epsilon is small, outside
      of the ball. The first projected step brings it back.

    Reference:
      Zhang et al., Theoretically principled trade-off between robustness and
      accuracy, ICML 2019, algorithm 1.
    """
    del epsilon
    return image + scale * jax.random.normal(key, image.shape, image.dtype)


def _linf_length(delta: Array) -> Array:
  return jnp.max(jnp.abs(delta))


def _linf_direction(gradient: Array) -> Array:
  # sign(NaN) is NaN in JAX, and would stay in the image.
  return jnp.where(jnp.isnan(gradient), 0.0, jnp.sign(gradient))


def _linf_project(image: Array, point: Array, epsilon: float | Array) -> Array:
  """The ball is a box, onto which clamping projects.

  `image + epsilon` is rounded in the image's precision: in float32 a
  perturbation may be larger than epsilon by 3e-8, half the spacing of float32
  below 1. (8 / 255 itself is rounded up by 2e-9.)
  """
  epsilon = jnp.asarray(epsilon, image.dtype)
  lower = jnp.clip(image - epsilon, 0.0, 1.0)
  upper = jnp.clip(image + epsilon, 0.0, 1.0)
  return jnp.clip(point, lower, upper)


def _linf_noise(key: Key, image: Array) -> Array:
  return jax.random.uniform(key, image.shape, image.dtype, -1.0, 1.0)


def _l2_length(delta: Array) -> Array:
  return jnp.sqrt(jnp.sum(delta**2))


def _l2_direction(gradient: Array) -> Array:
  gradient = jnp.nan_to_num(gradient, posinf=0.0, neginf=0.0)
  return gradient / (_l2_length(gradient) + _TINY)


def _l2_project(image: Array, point: Array, epsilon: float | Array) -> Array:
  """As published: the ball first, then [0, 1], which only shortens it."""
  delta = point - image
  length = _l2_length(delta)
  epsilon = jnp.asarray(epsilon, image.dtype)
  shortened = delta / (length + _TINY) * jnp.minimum(epsilon, length)
  return jnp.clip(image + shortened, 0.0, 1.0)


def _l2_noise(key: Key, image: Array) -> Array:
  return jax.random.normal(key, image.shape, image.dtype)


def _l2_uniform(key: Key, image: Array) -> Array:
  """Normal noise over the root of its square and an exponential variable.

  Reference:
    Barthe et al., A probabilistic approach to the geometry of the l_p^n-ball,
    Annals of Probability 2005, theorem 1, with p = 2.
  """
  key, radius_key = jax.random.split(key)
  noise = jax.random.normal(key, image.shape, image.dtype)
  rest = jax.random.exponential(radius_key, (), image.dtype)
  return noise / jnp.sqrt(jnp.sum(noise**2) + 2.0 * rest)


def _l1_length(delta: Array) -> Array:
  return jnp.sum(jnp.abs(delta))


def _l1_direction(gradient: Array) -> Array:
  """All of the length in the largest entry; equal ones share it."""
  return l1.sparse_direction(gradient, 0.0)


def _l1_uniform(key: Key, image: Array) -> Array:
  """As `_l2_uniform`, with p = 1 and therefore Laplace noise."""
  key, radius_key = jax.random.split(key)
  noise = jax.random.laplace(key, image.shape, image.dtype)
  rest = jax.random.exponential(radius_key, (), image.dtype)
  return noise / (_l1_length(noise) + rest)


LINF = Norm(
  name='L∞',
  length=_linf_length,
  direction=_linf_direction,
  project=_linf_project,
  noise=_linf_noise,
  uniform=_linf_noise,
  longest=lambda size: 1.0,
)
L2 = Norm(
  name='L2',
  length=_l2_length,
  direction=_l2_direction,
  project=_l2_project,
  noise=_l2_noise,
  uniform=_l2_uniform,
  longest=lambda size: size**0.5,
)
L1 = Norm(
  name='L1',
  length=_l1_length,
  direction=_l1_direction,
  project=l1.project,
  noise=_l2_noise,
  uniform=_l1_uniform,
  longest=float,
)
NORMS = {'Linf': LINF, 'L2': L2, 'L1': L1}


def by_name(name: str | Norm) -> Norm:
  """Returns the norm of this name, a key of `NORMS`; a norm is returned as is.

  Raises:
    ValueError: if there is none; the message lists the names.
  """
  if isinstance(name, Norm):
    return name
  if name not in NORMS:
    raise ValueError(f'norm={name!r} must be one of {", ".join(NORMS)}.')
  return NORMS[name]

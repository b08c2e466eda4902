"""The norms of APGD, FAB and Square: L-infinity, L2 and L1, with their balls.

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

from rnascl_jax.attacks import l1, linf
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
    longest: no perturbation of an image of this many values is longer.
  """

  name: str
  length: Callable[[Array], Array]
  direction: Callable[[Array], Array]
  project: Callable[[Array, Array, float | Array], Array]
  noise: Callable[[Key, Array], Array]
  longest: Callable[[int], float]

  def random_start(
    self, key: Key, image: Array, epsilon: float | Array
  ) -> Array:
    """APGD's start [H, W, C]: noise of length epsilon, clamped to [0, 1]."""
    noise = self.noise(key, image)
    unit = noise / (self.length(noise) + _TINY)
    start = image + jnp.asarray(epsilon, image.dtype) * unit
    return jnp.clip(start, 0.0, 1.0)


def _linf_length(delta: Array) -> Array:
  return jnp.max(jnp.abs(delta))


def _linf_direction(gradient: Array) -> Array:
  # sign(NaN) is NaN in JAX, and would stay in the image.
  return jnp.where(jnp.isnan(gradient), 0.0, jnp.sign(gradient))


def _linf_project(image: Array, point: Array, epsilon: float | Array) -> Array:
  return linf.project(point, *linf.ball(image, epsilon))


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


def _l1_length(delta: Array) -> Array:
  return jnp.sum(jnp.abs(delta))


def _l1_direction(gradient: Array) -> Array:
  """All of the length in the largest entry; equal ones share it."""
  return l1.sparse_direction(gradient, 0.0)


LINF = Norm(
  name='L∞',
  length=_linf_length,
  direction=_linf_direction,
  project=_linf_project,
  noise=_linf_noise,
  longest=lambda size: 1.0,
)
L2 = Norm(
  name='L2',
  length=_l2_length,
  direction=_l2_direction,
  project=_l2_project,
  noise=_l2_noise,
  longest=lambda size: size**0.5,
)
L1 = Norm(
  name='L1',
  length=_l1_length,
  direction=_l1_direction,
  project=l1.project,
  noise=_l2_noise,
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

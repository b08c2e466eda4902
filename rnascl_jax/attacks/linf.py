"""The L-infinity ball around one image: bounds, projection, starting points.

Every attack of the package perturbs an image x inside

  B(x, epsilon) = {x' : |x' - x|_inf <= epsilon} intersected with [0, 1],

which is a box, so that projecting onto it is clamping, in one operation and
in whichever order the two conditions are taken. The box is computed in the
image's own precision: in float32, `x + epsilon` is rounded, and a perturbation
may be larger than epsilon by up to 3e-8 (half the spacing of float32 below 1).
Compare distances with a tolerance of that size, as one does with 8 / 255,
which float32 rounds up by 2e-9 too.

Example:
  >>> import jax
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.attacks import linf
  >>> image = jnp.array([0., .5, 1.]).reshape(3, 1, 1)
  >>> lower, upper = linf.ball(image, .25)
  >>> print(lower.ravel(), upper.ravel())
  [0.   0.25 0.75] [0.25 0.75 1.  ]
  >>> x = linf.uniform_start(jax.random.key(0), image, .25)
  >>> print(bool(((x >= lower) & (x <= upper)).all()))
  True
"""

import jax
import jax.numpy as jnp

from rnascl_jax.base import Array, Key


def ball(image: Array, epsilon: float | Array) -> tuple[Array, Array]:
  """The smallest and the largest image of the ball.

  Args:
    image: [H, W, C] or any other shape, floating point in [0, 1].
    epsilon: scalar in [0, 1], may be traced; pixels are in [0, 1], so 8 / 255.

  Returns:
    (lower, upper), both of the image's shape and type, in [0, 1]. Both are
    exactly the image where epsilon is 0.

  Raises:
    ValueError: if the image holds integers.
  """
  if not jnp.issubdtype(image.dtype, jnp.floating):
    raise ValueError(
      f'image has type {image.dtype}, but a perturbation needs floating point '
      'in [0, 1]; divide uint8 images by 255.'
    )
  epsilon = jnp.asarray(epsilon, image.dtype)
  lower = jnp.clip(image - epsilon, 0.0, 1.0)
  upper = jnp.clip(image + epsilon, 0.0, 1.0)
  return lower, upper


def project(image_adv: Array, lower: Array, upper: Array) -> Array:
  """The point of the ball nearest to an image, in any l_p norm.

  Args:
    image_adv: [H, W, C].
    lower: [H, W, C], of `ball`.
    upper: [H, W, C], of `ball`.

  Returns:
    [H, W, C], between the bounds. NaN stays NaN: an attack keeps NaN out of
    its steps, not out of its images.
  """
  return jnp.clip(image_adv, lower, upper)


def uniform_start(
  key: Key, image: Array, epsilon: float | Array, *, clip: bool = True
) -> Array:
  """A random point of the ball: x + U(-epsilon, epsilon), clamped to [0, 1].

  Args:
    key: typed random key.
    image: [H, W, C] in [0, 1].
    epsilon: scalar, may be traced.
    clip: whether to clamp. The evaluation code of TRADES, of RobNets, of Huang
      et al. and of RNAS-CL does not before the first gradient, and so takes
      that gradient at a point that is no image.

  Returns:
    [H, W, C], in [0, 1] if `clip`.
  """
  noise = jax.random.uniform(key, image.shape, image.dtype, -1.0, 1.0)
  start = image + jnp.asarray(epsilon, image.dtype) * noise
  return project(start, *ball(image, epsilon)) if clip else start


def gaussian_start(
  key: Key, image: Array, epsilon: float | Array, *, scale: float = 1e-3
) -> Array:
  """The start of TRADES' training attack: x + 0.001 N(0, 1), not clamped.

  The divergence that TRADES climbs has a zero gradient at x itself; any small
  noise gets the attack away from there.

  Args:
    key: typed random key.
    image: [H, W, C] in [0, 1].
    epsilon: unused, so that all starts are called alike.
    scale: standard deviation of the noise.

  Returns:
    [H, W, C]; may lie outside of [0, 1] and, where epsilon is tiny, outside of
    the ball. The first projected step brings it back.

  Reference:
    Zhang et al., Theoretically principled trade-off between robustness and
    accuracy, ICML 2019, algorithm 1.
  """
  del epsilon
  return image + scale * jax.random.normal(key, image.shape, image.dtype)

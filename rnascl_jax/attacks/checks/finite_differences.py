"""Whether the gradients that attacks follow are those of the logits.

With w a random number for each logit and d a random sign for each pixel,

  d . grad (w . z)(x)  =  (w . z(x + h d) - w . z(x - h d)) / 2 h + O(h^2)

unless a part of the gradient is hidden or replaced by something else, or the
logits jump. The kinks of relus and of max-pooling disturb a few directions, and
not most of them. x is taken a little away from the image, because pixels that
are equal to each other or at an end of [0, 1] are where kinks are.

Example:
  >>> import jax
  >>> import jax.numpy as jnp
  >>> import numpy as np
  >>> from rnascl_jax.attacks.checks import finite_differences
  >>> def logits_fn(images):
  ...   images = jax.lax.stop_gradient(images) + .5 * images
  ...   return jnp.sin(images.reshape(-1, 4) @ jnp.eye(4, 3))
  >>> def gradient_fn(images, weights):
  ...   return jax.grad(lambda x: (weights * logits_fn(x)).sum())(images)
  >>> errors = finite_differences.errors(
  ...   logits_fn, gradient_fn, np.full([2, 2, 2, 1], .5, np.float32))
  >>> errors.shape, bool(np.median(errors) > .5)
  ((8,), True)
"""

from collections.abc import Callable

import numpy as np

from rnascl_jax.base import Array, LogitsFn

# Directions for each image.
_NUM_DIRECTIONS = 4
# How far a point is taken from its image, at most.
_AWAY = 0.05
# Times the cube root of the resolution: the step, 3e-4 in float32. At this the
# error of rounding equals that of kinks in residual networks.
_STEP = 0.06
# An image whose differences are rounded by more than this share tells nothing,
# and no image does at a resolution coarser than that.
_MAX_ROUNDING, _COARSEST = 0.05, 1e-4


def errors(
  logits_fn: LogitsFn,
  gradient_fn: Callable[[np.ndarray, np.ndarray], Array],
  images: np.ndarray,
  resolution: float | None = None,
) -> np.ndarray:
  """How far gradients are from differences of the logits.

  Args:
    logits_fn: [B, H, W, C] -> [B, K], compiled; the logits of an image must not
      depend on the others.
    gradient_fn: (images [B, H, W, C], weights [B, K]) -> [B, H, W, C], the
      gradients of the weighted sums of the logits.
    images: [B, H, W, C] in [0, 1], floating point.
    resolution: relative spacing of the numbers that the logits are computed
      with; by default that of the images' type.

  Returns:
    [M], M <= 4 B: for each direction the difference between both derivatives,
    as a share of the larger of them (of its root mean square over the
    directions of an image). Images are left out where rounding hides the
    differences; all are, in half precision.
  """
  rng = np.random.default_rng(0)
  resolution = max(resolution or 0.0, float(np.finfo(images.dtype).eps))
  if resolution > _COARSEST:
    return np.zeros(0)
  step = images.dtype.type(_STEP * resolution ** (1 / 3))
  noise = rng.uniform(size=images.shape)
  points = ((1 - _AWAY) * images + _AWAY * noise).astype(images.dtype)
  logits = _logits(logits_fn, points)
  weights = rng.normal(size=logits.shape).astype(images.dtype)
  gradients = np.asarray(gradient_fn(points, weights)).astype(np.float64)
  pairs = []
  for _ in range(_NUM_DIRECTIONS):
    signs = rng.choice([-1, 1], size=images.shape).astype(images.dtype)
    ahead, behind = points + step * signs, points - step * signs
    change = _logits(logits_fn, ahead) - _logits(logits_fn, behind)
    measured = (change * weights).sum(axis=1) / (2 * float(step))
    pairs.append((measured, (gradients * signs).sum(axis=(1, 2, 3))))
  derivatives = np.array(pairs)  # [directions, 2, B]
  scale = np.sqrt((derivatives**2).mean(axis=0).max(axis=0))
  rounding = resolution * np.abs(logits * weights).sum(axis=1) / float(step)
  tells = np.isfinite(scale) & (rounding < _MAX_ROUNDING * scale)
  distance = np.abs(derivatives[:, 0] - derivatives[:, 1])
  return (distance[:, tells] / scale[tells][None]).ravel()


def _logits(logits_fn, images):
  return np.asarray(logits_fn(images)).astype(np.float64)

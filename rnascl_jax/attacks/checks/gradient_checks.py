"""Whether gradients are such that an attack can follow them.

A gradient is of no use where it is zero, not finite or gigantic. It is wrong
where it is not that of the logits: with w a random number for each logit and d
a random sign for each pixel,

  d . grad (w . z)(x)  =  (w . z(x + h d) - w . z(x - h d)) / 2 h + O(h^2)

unless a part of the gradient is hidden or replaced by something else, or the
logits jump. The kinks of relus and of max-pooling disturb a few directions, and
not most of them. x is taken a little away from the image, because pixels that
are equal to each other or at an end of [0, 1] are where kinks are.

Example:
  >>> import numpy as np
  >>> from rnascl_jax.attacks.checks import gradient_checks
  >>> logits, labels = np.array([[900., 0.], [1., 0.]]), np.array([0, 0])
  >>> grads = gradient_checks.Gradients(logits, *np.ones([2, 2, 4, 4, 1]))
  >>> for warning in gradient_checks.degenerate(grads, labels):
  ...   print(warning.kind)
  saturated softmax

Reference:
  Athalye, Carlini and Wagner, Obfuscated gradients give a false sense of
  security, ICML 2018, section 3: shattered, vanishing and exploding gradients.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax import losses
from rnascl_jax.attacks import arguments, compiled
from rnascl_jax.attacks.checks.warning import AttackWarning
from rnascl_jax.base import Array, LogitsFn

SATURATED = 'saturated softmax'
# What JAX raises where a function has no gradient, or cannot be lifted.
MISSING = (ValueError, TypeError, NotImplementedError)
# At this, a change of a pixel by 1 / 255 would change a loss by thousands.
_EXPLODING = 1e6
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


class Gradients(NamedTuple):
  """What attacks see of images, each evaluated by itself.

  Attributes:
    logits: [B, K].
    cross_entropy: [B, H, W, C], gradients of the loss.
    margin: [B, H, W, C], gradients of z_y - max z_other.
    weighted: [B, H, W, C], gradients of weighted sums of the logits.
  """

  logits: Array
  cross_entropy: Array
  margin: Array
  weighted: Array | None = None


@compiled.jit
def gradients(
  logits_fn: LogitsFn,
  images: Array,
  labels: Array,
  weights: Array | None = None,
) -> Gradients:
  """Computes gradients as attacks do: of one image at a time, lifted.

  Args:
    logits_fn: [B, H, W, C] -> [B, K], as `compiled.as_argument` has it.
    images: [B, H, W, C].
    labels: [B].
    weights: [B, K], of the logits in `weighted`, which is None without them.
  """

  def of_one(image, label, weight):
    logits, pull = jax.vjp(lambda x: logits_fn(x[None])[0], image)

    def by_logits(loss):
      return jax.grad(lambda z: loss(z[None], label[None])[0])(logits)

    cotangents = [by_logits(losses.cross_entropy), by_logits(losses.margin)]
    if weight is not None:
      cotangents.append(weight.astype(logits.dtype))
    (pulled,) = jax.vmap(pull)(jnp.stack(cotangents))
    return Gradients(logits, *pulled)

  return jax.vmap(of_one)(images, labels, weights)


def flat(
  logits_fn: LogitsFn, images: np.ndarray, labels: np.ndarray
) -> list[AttackWarning]:
  """Looks for a gradient that is exactly zero wherever an attack begins.

  Args:
    logits_fn: [B, H, W, C] -> [B, K], as `compiled.as_argument` has it.
    images: [B, H, W, C] in [0, 1], B >= 1.
    labels: [B].

  Returns:
    A warning if the gradient of the margin is zero for all images; none if the
    classifier has no gradient, which attacks that need one say themselves.

  Raises:
    ValueError: if logits are NaN or infinite.
  """
  try:
    grads = gradients(logits_fn, images, labels)
  except MISSING:
    return []
  arguments.check_finite(np.asarray(grads.logits))
  if np.asarray(grads.margin).any():
    return []
  return [_zero(len(images), len(images))]


def degenerate(grads: Gradients, labels: Any) -> list[AttackWarning]:
  """Looks for gradients that are exactly zero, not finite, or above 1e6.

  A gradient of the cross-entropy counts as zero, too, where the probabilities
  of all other classes are: it may be a rounding error then, after compilation.

  Args:
    grads: what `gradients` gives.
    labels: [B].

  Returns:
    At most one warning of each kind.
  """
  of_loss, of_margin = (
    np.abs(np.asarray(gradient).astype(np.float64)).max(axis=(1, 2, 3))
    for gradient in (grads.cross_entropy, grads.margin)
  )
  margins = np.asarray(losses.margin(grads.logits, labels))
  underflows = margins > -np.log(float(jnp.finfo(grads.logits.dtype).tiny))
  zero = of_margin == 0
  saturated = ((of_loss == 0) | underflows) & ~zero
  # Not >: a NaN explodes.
  exploding = ~(np.maximum(of_loss, of_margin) <= _EXPLODING)
  warnings, count = [], len(margins)
  if zero.any():
    warnings.append(_zero(zero.sum(), count))
  if saturated.any():
    warnings.append(_saturated(margins[saturated], count))
  if exploding.any():
    warnings.append(_exploding(exploding.sum(), count))
  return warnings


def _zero(num: int, count: int) -> AttackWarning:
  return AttackWarning(
    'zero gradient',
    f'The gradient of the margin between logits is exactly zero for {num} of '
    f'{count} images: attacks by gradients cannot move them, and an image that '
    'they leave unbroken says nothing. Look for rounding, saturation or dead '
    'units in logits_fn and give them a smooth substitute in the backward pass '
    '(BPDA, Athalye et al. 2018); until then only black-box attacks count.',
  )


def _saturated(margins: np.ndarray, count: int) -> AttackWarning:
  return AttackWarning(
    SATURATED,
    f'The gradient of the cross-entropy is zero for {len(margins)} of {count} '
    'images, or a rounding error, though that of the margin between logits is '
    f'not: logits are up to {margins.max():.3g} apart, and their softmax is 0 '
    'and 1. Attacks on the cross-entropy (FGSM, PGD, APGD-CE) may do nothing '
    'there. Trust those on margins (CW, APGD-DLR, APGD-T), or divide the '
    'logits by a constant, which does not change predictions: auto_attack does '
    'it, and gives the robust accuracy with rescaled logits beside the other.',
  )


def _exploding(num: int, count: int) -> AttackWarning:
  return AttackWarning(
    'exploding gradient',
    f'The gradient is NaN, infinite or above {_EXPLODING:.0e} in some pixel '
    f'for {num} of {count} images, and attacks cannot follow it. Look in '
    'logits_fn for divisions by almost zero, long recurrences or an '
    'optimisation within, and attack through a substitute (BPDA or '
    'reparameterisation, Athalye et al. 2018).',
  )


def errors(
  logits_fn: LogitsFn,
  gradient_fn: Callable[[np.ndarray, np.ndarray], Array],
  images: np.ndarray,
  resolution: float = 0.0,
) -> np.ndarray:
  """Tells how far gradients are from differences of the logits.

  Args:
    logits_fn: [B, H, W, C] -> [B, K], compiled; the logits of an image must not
      depend on the others.
    gradient_fn: (images [B, H, W, C], weights [B, K]) -> [B, H, W, C], the
      gradients of the weighted sums of the logits.
    images: [B, H, W, C] in [0, 1], floating point.
    resolution: relative spacing of the numbers that the logits are computed
      with, if it is wider than that of the images' type.

  Returns:
    [M], M <= 4 B: for each direction the difference between both derivatives,
    as a share of the larger of them (of its root mean square over the
    directions of an image). Images are left out where rounding hides the
    differences; all are, in half precision.
  """
  rng = np.random.default_rng(0)
  resolution = max(resolution, float(np.finfo(images.dtype).eps))
  if resolution > _COARSEST:
    return np.zeros(0)
  step = images.dtype.type(_STEP * resolution ** (1 / 3))

  def logits_of(points):
    return np.asarray(logits_fn(points)).astype(np.float64)

  noise = rng.uniform(size=images.shape)
  points = ((1 - _AWAY) * images + _AWAY * noise).astype(images.dtype)
  logits = logits_of(points)
  weights = rng.normal(size=logits.shape).astype(images.dtype)
  gradients = np.asarray(gradient_fn(points, weights)).astype(np.float64)
  pairs = []
  for _ in range(_NUM_DIRECTIONS):
    signs = rng.choice([-1, 1], size=images.shape).astype(images.dtype)
    ahead, behind = points + step * signs, points - step * signs
    change = logits_of(ahead) - logits_of(behind)
    measured = (change * weights).sum(axis=1) / (2 * float(step))
    pairs.append((measured, (gradients * signs).sum(axis=(1, 2, 3))))
  derivatives = np.array(pairs)  # [directions, 2, B]
  scale = np.sqrt((derivatives**2).mean(axis=0).max(axis=0))
  rounding = resolution * np.abs(logits * weights).sum(axis=1) / float(step)
  tells = np.isfinite(scale) & (rounding < _MAX_ROUNDING * scale)
  distance = np.abs(derivatives[:, 0] - derivatives[:, 1])
  return (distance[:, tells] / scale[tells][None]).ravel()

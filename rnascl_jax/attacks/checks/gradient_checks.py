"""Whether gradients are such that an attack can follow them.

Example:
  >>> import numpy as np
  >>> from rnascl_jax.attacks.checks import gradient_checks
  >>> logits, labels = np.array([[900., 0.], [1., 0.]]), np.array([0, 0])
  >>> gradients = np.ones([2, 4, 4, 1])
  >>> for warning in gradient_checks.degenerate(
  ...   logits, labels, gradients, gradients):
  ...   print(warning.kind)
  saturated softmax

Reference:
  Athalye, Carlini and Wagner, Obfuscated gradients give a false sense of
  security, ICML 2018, section 3: shattered, vanishing and exploding gradients.
"""

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax import losses
from rnascl_jax.attacks import compiled
from rnascl_jax.attacks.checks import logit_checks
from rnascl_jax.attacks.checks.warning import AttackWarning
from rnascl_jax.base import Array, LogitsFn

# What JAX raises where a function has no gradient, or cannot be lifted.
MISSING = (ValueError, TypeError, NotImplementedError)
# At this, a change of a pixel by 1 / 255 would change a loss by thousands.
_EXPLODING = 1e6


def flat(
  logits_fn: LogitsFn, images: np.ndarray, labels: np.ndarray
) -> list[AttackWarning]:
  """Looks for a gradient that is exactly zero wherever an attack begins.

  Args:
    logits_fn: [B, H, W, C] -> [B, K], as `compiled.as_argument` has it.
    images: [B, H, W, C] in [0, 1], B >= 1.
    labels: [B].

  Returns:
    A warning if the gradient of the margin is zero for all images; none if
    the classifier has no gradient, which attacks that need one say themselves.

  Raises:
    ValueError: if logits are NaN or infinite.
  """
  try:
    logits, steepest = _slopes(logits_fn, images, labels)
  except MISSING:
    return []
  logit_checks.refuse_infinite(np.asarray(logits))
  if np.asarray(steepest).any():
    return []
  return [_zero(len(images), len(images))]


@compiled.jit
def _slopes(
  logits_fn: LogitsFn, images: Array, labels: Array
) -> tuple[Array, Array]:
  """Logits [B, K] and the steepest slope [B] of the margin, image by image."""

  def of_one(image, label):
    def margin(x):
      logits = logits_fn(x[None])
      return losses.margin(logits, label[None])[0], logits[0]

    gradient, logits = jax.grad(margin, has_aux=True)(image)
    return logits, jnp.abs(gradient).max()

  return jax.vmap(of_one)(images, labels)


def degenerate(
  logits: Array, labels: Array, by_cross_entropy: Array, by_margin: Array
) -> list[AttackWarning]:
  """Looks for gradients that are exactly zero, not finite, or above 1e6.

  A gradient of the cross-entropy counts as zero, too, where the probabilities
  of all other classes are: it may be a rounding error then, after compilation.

  Args:
    logits: [B, K].
    labels: [B].
    by_cross_entropy: [B, H, W, C], gradients of the loss by the image.
    by_margin: [B, H, W, C], gradients of z_y - max z_other by the image.

  Returns:
    At most one warning of each sort.
  """
  of_loss, of_margin = _largest(by_cross_entropy), _largest(by_margin)
  margins = np.asarray(losses.margin(logits, labels))
  underflows = margins > -np.log(float(jnp.finfo(logits.dtype).tiny))
  count = len(margins)
  zero = of_margin == 0
  saturated = ((of_loss == 0) | underflows) & ~zero
  # Not >: a NaN explodes.
  exploding = ~(np.maximum(of_loss, of_margin) <= _EXPLODING)
  found = []
  if zero.any():
    found.append(_zero(int(zero.sum()), count))
  if saturated.any():
    apart = float(margins[saturated].max())
    found.append(_saturated(int(saturated.sum()), count, apart))
  if exploding.any():
    found.append(_exploding(int(exploding.sum()), count))
  return found


def _largest(gradients):
  return np.abs(np.asarray(gradients).astype(np.float64)).max(axis=(1, 2, 3))


def _zero(found: int, count: int) -> AttackWarning:
  return AttackWarning(
    'zero gradient',
    f'The gradient of the margin between logits is exactly zero for {found} of '
    f'{count} images: attacks by gradients cannot move them, and an image that '
    'they leave unbroken says nothing. Look for rounding, saturation or dead '
    'units in logits_fn and give them a smooth substitute in the backward pass '
    '(BPDA, Athalye et al. 2018); until then only black-box attacks count.',
  )


def _saturated(found: int, count: int, apart: float) -> AttackWarning:
  return AttackWarning(
    'saturated softmax',
    f'The gradient of the cross-entropy is zero for {found} of {count} images, '
    'or a rounding error, though that of the margin between logits is not: '
    f'logits are up to {apart:.3g} apart, and their softmax is 0 and 1. '
    'Attacks on the cross-entropy (FGSM, PGD, APGD-CE) may do nothing there. '
    'Trust those on margins (CW, APGD-T), or divide the logits by a constant, '
    'which does not change predictions.',
  )


def _exploding(found: int, count: int) -> AttackWarning:
  return AttackWarning(
    'exploding gradient',
    f'The gradient is NaN, infinite or above {_EXPLODING:.0e} in some pixel '
    f'for {found} of {count} images, and attacks cannot follow it. Look in '
    'logits_fn for divisions by almost zero, long recurrences or an '
    'optimisation within, and attack through a substitute (BPDA or '
    'reparameterisation, Athalye et al. 2018).',
  )

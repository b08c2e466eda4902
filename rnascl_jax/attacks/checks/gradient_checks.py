"""Whether gradients are such that an attack can follow them.

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

from typing import NamedTuple

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

  Returns:
    The logits and their gradients.
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
  logit_checks.refuse_infinite(np.asarray(grads.logits))
  if np.asarray(grads.margin).any():
    return []
  return [_zero(len(images), len(images))]


def degenerate(grads: Gradients, labels: Array) -> list[AttackWarning]:
  """Looks for gradients that are exactly zero, not finite, or above 1e6.

  A gradient of the cross-entropy counts as zero, too, where the probabilities
  of all other classes are: it may be a rounding error then, after compilation.

  Args:
    grads: what `gradients` gives.
    labels: [B].

  Returns:
    At most one warning of each sort.
  """
  of_loss, of_margin = map(_largest, (grads.cross_entropy, grads.margin))
  margins = np.asarray(losses.margin(grads.logits, labels))
  underflows = margins > -np.log(float(jnp.finfo(grads.logits.dtype).tiny))
  count = len(margins)
  zero = of_margin == 0
  saturated = ((of_loss == 0) | underflows) & ~zero
  # Not >: a NaN explodes.
  exploding = ~(np.maximum(of_loss, of_margin) <= _EXPLODING)
  warnings = []
  if zero.any():
    warnings.append(_zero(int(zero.sum()), count))
  if saturated.any():
    apart = float(margins[saturated].max())
    warnings.append(_saturated(int(saturated.sum()), count, apart))
  if exploding.any():
    warnings.append(_exploding(int(exploding.sum()), count))
  return warnings


def _largest(grads):
  return np.abs(np.asarray(grads).astype(np.float64)).max(axis=(1, 2, 3))


def _zero(num: int, count: int) -> AttackWarning:
  return AttackWarning(
    'zero gradient',
    f'The gradient of the margin between logits is exactly zero for {num} of '
    f'{count} images: attacks by gradients cannot move them, and an image that '
    'they leave unbroken says nothing. Look for rounding, saturation or dead '
    'units in logits_fn and give them a smooth substitute in the backward pass '
    '(BPDA, Athalye et al. 2018); until then only black-box attacks count.',
  )


def _saturated(num: int, count: int, apart: float) -> AttackWarning:
  return AttackWarning(
    'saturated softmax',
    f'The gradient of the cross-entropy is zero for {num} of {count} images, '
    'or a rounding error, though that of the margin between logits is not: '
    f'logits are up to {apart:.3g} apart, and their softmax is 0 and 1. '
    'Attacks on the cross-entropy (FGSM, PGD, APGD-CE) may do nothing there. '
    'Trust those on margins (CW, APGD-T), or divide the logits by a constant, '
    'which does not change predictions.',
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

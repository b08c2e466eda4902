"""Whether the outputs of a classifier are logits, and of the image alone.

Example:
  >>> import numpy as np
  >>> from rnascl_jax.attacks.checks import logit_checks
  >>> logit_checks.refuse_probabilities(np.array([[.5, .6], [.1, .9]]))
  >>> logit_checks.refuse_probabilities(np.array([[.4, .6], [.1, .9]]))
  ... # doctest: +ELLIPSIS
  Traceback (most recent call last):
  ...
  ValueError: logits_fn gives probabilities for all of 2 images ...
"""

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.attacks import compiled
from rnascl_jax.attacks.checks.warning import AttackWarning
from rnascl_jax.base import Array, LogitsFn

NOT_DETERMINISTIC = 'not deterministic'
# Probabilities are at most this far outside of [0, 1], and from a sum of 1.
_PROBABILITY_TOLERANCE = 1e-5
# Differences, as shares of the largest logit, between two evaluations of the
# same images, and between an image by itself and in a batch (two programs,
# which round differently).
_REPEAT_TOLERANCE = 1e-4
_BATCH_TOLERANCE = 1e-3


def refuse_infinite(logits: np.ndarray) -> None:
  """Refuses logits that are NaN or infinite.

  Args:
    logits: [B, K], of images without an attack.

  Raises:
    ValueError: it says for how many images.
  """
  bad = int((~np.isfinite(logits)).any(axis=1).sum())
  if bad:
    raise ValueError(
      f'logits_fn gives NaN or infinite logits for {bad} of {len(logits)} '
      'images without an attack; every attack would count them as broken.'
    )


def refuse_probabilities(logits: np.ndarray) -> None:
  """Refuses probabilities, by the rule of the official AutoAttack.

  Args:
    logits: [B, K], in the type that they were computed in.

  Raises:
    ValueError: if all are in [0, 1] and all sums are 1, up to 1e-5 or the
      precision of the type.
  """
  tolerance = max(_PROBABILITY_TOLERANCE, float(jnp.finfo(logits.dtype).eps))
  values = logits.astype(np.float64)
  if (
    values.max() < 1 + tolerance
    and values.min() > -tolerance
    and (np.abs(values.sum(axis=1) - 1) < tolerance).all()
  ):
    raise ValueError(
      f'logits_fn gives probabilities for all of {len(logits)} images (values '
      'in [0, 1] with sums of 1), and losses would take the softmax of them '
      'once more, which flattens the gradient. Return logits, without the '
      'softmax (log-probabilities do as well). If these are logits all the '
      'same, checks=False of auto_attack (allow_probabilities=True of '
      'pre_attack.check) lets them pass.'
    )


def unsteady(
  logits_fn: LogitsFn,
  images: np.ndarray,
  logits: np.ndarray,
  *,
  again: Array,
  alone: Array,
  resolution: float,
) -> list[AttackWarning]:
  """Looks for logits that differ between evaluations of the same images.

  Args:
    logits_fn: [B, H, W, C] -> [B, K]; compiled once more where the logits of
      images by themselves differ, to tell why.
    images: [B, H, W, C].
    logits: [B, K], of the batch.
    again: [B, K], of the same program.
    alone: [B, K], of each image as a batch of its own.
    resolution: relative spacing of the numbers that they are computed with.

  Returns:
    A warning if they differ: by chance, or because of other images.
  """
  tolerance = max(_BATCH_TOLERANCE, 8 * resolution)
  different = _count_different(logits, alone, tolerance)
  random = _count_different(logits, again, _REPEAT_TOLERANCE)
  if different and not random:
    # Random numbers that do not come from JAX are drawn when it is compiled.
    again = jax.jit(lambda x: logits_fn(x))(images)
    random = _count_different(logits, again, tolerance)
  if random:
    return [_not_deterministic(len(logits))]
  return [_coupled(different, len(logits))] if different else []


@compiled.jit
def evaluate_alone(logits_fn: LogitsFn, images: Array) -> Array:
  """Gives the logits [B, K] of images each of which is a batch of its own."""
  return jax.vmap(lambda image: logits_fn(image[None])[0])(images)


def _count_different(logits, others, tolerance):
  """How many images have other logits, by a share of the largest logit."""
  logits, others = (np.asarray(x).astype(np.float64) for x in (logits, others))
  distance = np.abs(logits - others).max(axis=1)
  # Not >: a NaN differs.
  return int((~(distance <= tolerance * np.abs(logits).max())).sum())


def _not_deterministic(count: int) -> AttackWarning:
  return AttackWarning(
    NOT_DETERMINISTIC,
    f'logits_fn gave different logits for the same {count} images when it was '
    'evaluated twice: an image counts as broken or robust by chance. If the '
    'classifier is random, make it a function of a key as well and evaluate '
    'with the version rand, which averages gradients over draws; else make it '
    'a pure function.',
  )


def _coupled(different: int, count: int) -> AttackWarning:
  return AttackWarning(
    'depends on the batch',
    f'The logits of {different} of {count} images depend on which others are '
    'in the batch, as with BatchNorm in training mode. Attacks see an image by '
    'itself, and what breaks it there need not break it in a batch. Evaluate '
    'with train=False (running averages).',
  )

"""Is a classifier fit to be attacked, or would it only look robust?

A classifier whose gradients lead nowhere looks robust to every attack that
follows them. `check` examines it on a few images: whether its outputs are
logits and depend on nothing but the image, what is in its code
(`program_checks`), and whether its gradients exist, are neither zero nor
gigantic and are those of the logits (`gradient_checks`). `post_attack` examines
what attacks left.

A warning is no proof of masking, and no warning no proof of robustness: an
attack made for the classifier at hand, an adaptive one, decides.

Example:
  >>> import jax.numpy as jnp
  >>> import numpy as np
  >>> from rnascl_jax.attacks.checks import pre_attack
  >>> def logits_fn(images):
  ...   return 1000 * images.reshape(-1, 4) @ jnp.eye(4, 3)
  >>> images = np.eye(4, dtype=np.float32)[:2].reshape(2, 2, 2, 1)
  >>> for warning in pre_attack.check(logits_fn, images, np.arange(2)):
  ...   print(warning.kind)
  saturated softmax

References:
  Athalye, Carlini and Wagner, Obfuscated gradients give a false sense of
  security, ICML 2018, section 3.
  Croce and Hein, Reliable evaluation of adversarial robustness with an ensemble
  of diverse parameter-free attacks, ICML 2020.
  Tramer, Carlini, Brendel and Madry, On adaptive attacks to adversarial example
  defenses, NeurIPS 2020.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.attacks import arguments, compiled, lifting, randomized
from rnascl_jax.attacks.checks import gradient_checks, program_checks
from rnascl_jax.attacks.checks.dataflow import Step
from rnascl_jax.attacks.checks.warning import AttackWarning
from rnascl_jax.attacks.ensembles import EnsembleMember
from rnascl_jax.base import Array, LogitsFn

_NO_GRADIENT = 'no gradient'
# `check` looks at this many images.
MAX_IMAGES = 32
# Probabilities are at most this far outside of [0, 1], and from a sum of 1.
_PROBABILITY_TOLERANCE = 1e-5
# Differences, as shares of the largest logit, between two evaluations of the
# same images, and between an image by itself and in a batch (two programs,
# which round differently).
_REPEAT_TOLERANCE = 1e-4
_BATCH_TOLERANCE = 1e-3
# Share of the derivative by which the gradient may be wrong in most directions.
_GRADIENT_TOLERANCE = 0.1


def check(
  logits_fn: LogitsFn,
  images: np.ndarray | Array,
  labels: np.ndarray | Array,
  *,
  channels: str = 'last',
  allow_probabilities: bool = False,
) -> tuple[AttackWarning, ...]:
  """Examines a classifier before it is attacked.

  Compiles two programs, one of the logits and one of the gradients, and runs
  them about a dozen times. Gradients in half precision are not compared with
  differences of the logits, which rounding hides.

  Args:
    logits_fn: [B, H, W, C] -> [B, K], as it will be attacked.
    images: [N, H, W, C] in [0, 1], floating point; the first 32 are used.
    labels: [N], integers in [0, K), or one-hot [N, K].
    channels: 'first' if images and those of `logits_fn` are [N, C, H, W].
    allow_probabilities: whether outputs that look like probabilities are taken
      for logits.

  Returns:
    Warnings; none for an honest network.

  Raises:
    ValueError: as `arguments.check_inputs`, and if outputs are probabilities,
      NaN or infinite.
  """
  images = np.asarray(images)[:MAX_IMAGES]
  labels = arguments.as_labels(labels)[:MAX_IMAGES]
  logits_fn, images = lifting.channels_last(logits_fn, images, channels)
  arguments.check_inputs(logits_fn, images, labels, epsilon=0.0)
  if not len(images):
    return ()
  # Accelerators multiply float32 in fewer bits unless they are asked not to.
  with jax.default_matmul_precision('highest'):
    logits = np.asarray(_evaluate(compiled.as_argument(logits_fn), images))
    arguments.check_finite(logits)
    if not allow_probabilities:
      _refuse_probabilities(logits)
    steps = program_checks.steps(logits_fn, images.shape[1:], images.dtype)
    return (
      *program_checks.warnings(steps, measurable=False),
      *_measured(logits_fn, steps, images, labels, logits),
    )


def check_ensemble(
  members: Sequence[EnsembleMember],
  logits_fn: LogitsFn,
  images: np.ndarray,
  labels: np.ndarray,
) -> tuple[AttackWarning, ...]:
  """Does what `check` does, for the members of an ensemble.

  Random numbers of a `Randomized` classifier are no reason for a warning if all
  members draw them anew; else a warning says which do not.
  """
  warnings = check(logits_fn, images, labels)
  white = [member.label for member in members if not member.black_box]
  for warning in warnings:
    if warning.kind == _NO_GRADIENT and white:
      raise ValueError(
        f'{", ".join(white)} cannot run. {warning.message} '
        "attacks=('square',) runs Square alone."
      )
  if not isinstance(logits_fn, randomized.Randomized):
    return warnings
  warnings = tuple(w for w in warnings if w.kind != program_checks.RANDOM)
  fixed = [m.label for m in members if getattr(m.attack, 'draws', 1) == 1]
  return (*warnings, _one_draw(', '.join(fixed))) if fixed else warnings


def misplaced_channels(shape: tuple[int, ...]) -> tuple[AttackWarning, ...]:
  """Warns if the channels of images [N, H, W, C] seem to lie elsewhere."""
  message = arguments.misplaced_channels(shape)
  return (AttackWarning('channels', message),) if message else ()


def _refuse_probabilities(logits: np.ndarray) -> None:
  """Refuses probabilities [B, K], by the rule of the official AutoAttack.

  That is where all are in [0, 1] and all sums are 1, up to 1e-5 or the
  precision of the type that they were computed in.
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


def _measured(
  logits_fn: LogitsFn,
  steps: Sequence[Step],
  images: np.ndarray,
  labels: np.ndarray,
  logits: np.ndarray,
) -> list[AttackWarning]:
  """Warns of what gradients and repeated evaluations of some images show."""
  classifier = compiled.as_argument(logits_fn)
  weights = np.zeros(logits.shape, images.dtype)
  try:
    grads = gradient_checks.gradients(classifier, images, labels, weights)
  except gradient_checks.MISSING as error:
    return [_no_gradient(error)]
  resolution = program_checks.resolution(steps)
  warnings = gradient_checks.degenerate(grads, labels)
  random, different = _unsteady(
    logits_fn, images, logits, alone=grads.logits, resolution=resolution
  )
  if not any(map(program_checks.is_random, steps)):
    if random:
      warnings.append(_not_deterministic(len(images)))
    elif different:
      warnings.append(_coupled(different, len(images)))
  if random:
    return warnings
  evaluate = evaluate_alone if different else _evaluate
  errors = gradient_checks.errors(
    functools.partial(evaluate, classifier),
    lambda x, w: gradient_checks.gradients(classifier, x, labels, w).weighted,
    images,
    resolution,
  )
  if errors.size and np.median(errors) > _GRADIENT_TOLERANCE:
    hidden = program_checks.warnings(steps, measurable=True)
    warnings.append(_wrong_gradient(errors, hidden))
  return warnings


def _unsteady(
  logits_fn: LogitsFn,
  images: np.ndarray,
  logits: np.ndarray,
  *,
  alone: Array,
  resolution: float,
) -> tuple[int, int]:
  """Counts images whose logits differ between evaluations.

  Args:
    logits_fn: [B, H, W, C] -> [B, K]; compiled once more where the logits of
      images by themselves differ, to tell why.
    images: [B, H, W, C].
    logits: [B, K], of the batch.
    alone: [B, K], of each image as a batch of its own.
    resolution: relative spacing of the numbers that they are computed with.

  Returns:
    How many differ by chance, and how many differ by themselves.
  """

  def count_different(others, tolerance):
    first, second = (np.asarray(x).astype(np.float64) for x in (logits, others))
    distance = np.abs(first - second).max(axis=1)
    # Not >: a NaN differs.
    return int((~(distance <= tolerance * np.abs(first).max())).sum())

  tolerance = max(_BATCH_TOLERANCE, 8 * resolution)
  different = count_different(alone, tolerance)
  again = _evaluate(compiled.as_argument(logits_fn), images)
  random = count_different(again, _REPEAT_TOLERANCE)
  if different and not random:
    # Random numbers that do not come from JAX are drawn when it is compiled.
    again = jax.jit(lambda x: logits_fn(x))(images)
    random = count_different(again, tolerance)
  return random, different


@compiled.jit
def _evaluate(logits_fn: LogitsFn, images: Array) -> Array:
  return logits_fn(images)


@compiled.jit
def evaluate_alone(logits_fn: LogitsFn, images: Array) -> Array:
  """Gives the logits [B, K] of images each of which is a batch of its own."""
  return jax.vmap(lambda image: logits_fn(image[None])[0])(images)


def _no_gradient(error: Exception) -> AttackWarning:
  first = (str(error).strip() or type(error).__name__).splitlines()[0]
  return AttackWarning(
    _NO_GRADIENT,
    f'JAX has no gradient of logits_fn for single images ("{first}"): attacks '
    'by gradients cannot run. Use black-box attacks (Square), or give the part '
    'without a gradient a custom one (BPDA, Athalye et al. 2018).',
  )


def _one_draw(labels: str) -> AttackWarning:
  return AttackWarning(
    program_checks.RANDOM,
    f'{labels} attack a random classifier through one draw in a step, or '
    'through the same draw in all steps (FAB, Square): what they leave may '
    "fall to other draws. version='rand' averages gradients over 20 draws, and "
    'votes=9 lets most of 9 draws decide what is broken.',
  )


def _not_deterministic(count: int) -> AttackWarning:
  return AttackWarning(
    'not deterministic',
    f'logits_fn gave different logits for the same {count} images when it was '
    'evaluated twice: an image counts as broken or robust by chance. If the '
    'classifier is random, give auto_attack a Randomized(function of images '
    "and key) and version='rand', which averages gradients over draws; else "
    'make it a pure function.',
  )


def _coupled(different: int, count: int) -> AttackWarning:
  return AttackWarning(
    'depends on the batch',
    f'The logits of {different} of {count} images depend on which others are '
    'in the batch, as with BatchNorm in training mode. Attacks see an image by '
    'itself, and what breaks it there need not break it in a batch. Evaluate '
    'with train=False (running averages).',
  )


def _wrong_gradient(
  errors: np.ndarray, hidden: Sequence[AttackWarning]
) -> AttackWarning:
  wrong = int((errors > _GRADIENT_TOLERANCE).sum())
  return AttackWarning(
    'wrong gradient',
    f'Along {wrong} of {len(errors)} random directions, what the gradient says '
    'and how the logits change differ by more than '
    f'{100 * _GRADIENT_TOLERANCE:.0f} % (median: {100 * np.median(errors):.0f} '
    '%), so that attacks by gradients are led astray. '
    + ''.join(f'Perhaps {warning.message} ' for warning in hidden)
    + 'Attack a copy of the classifier without what changes its gradient, or '
    'with a better substitute (BPDA, Athalye et al. 2018), and compare with '
    'black-box attacks (Square).',
  )

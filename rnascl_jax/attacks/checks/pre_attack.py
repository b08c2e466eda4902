"""Is a classifier fit to be attacked, or would it only look robust?

A classifier whose gradients lead nowhere looks robust to every attack that
follows them. `check` examines it on a few images: what is in its code
(`program_checks`), whether its outputs are logits and depend on nothing but the
image (`logit_checks`), and whether its gradients exist, are neither zero nor
gigantic (`gradient_checks`) and are those of the logits (`finite_differences`).
`post_attack` examines what attacks left.

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
import numpy as np

from rnascl_jax.attacks import arguments, compiled, randomized
from rnascl_jax.attacks.checks import (
  finite_differences,
  gradient_checks,
  logit_checks,
  program_checks,
)
from rnascl_jax.attacks.checks.warning import AttackWarning
from rnascl_jax.attacks.ensembles import EnsembleMember
from rnascl_jax.base import Array, LogitsFn

# `check` looks at this many images.
MAX_IMAGES = 32
# Share of the derivative by which the gradient may be wrong in most directions.
_GRADIENT_TOLERANCE = 0.1


def check(
  logits_fn: LogitsFn,
  images: np.ndarray | Array,
  labels: np.ndarray | Array,
  *,
  allow_probabilities: bool = False,
) -> tuple[AttackWarning, ...]:
  """Examines a classifier before it is attacked.

  Compiles two programs, one of the logits and one of the gradients, and runs
  them about a dozen times. Gradients in half precision are not compared with
  differences of the logits, which rounding hides.

  Args:
    logits_fn: [B, H, W, C] -> [B, K], as it will be attacked.
    images: [N, H, W, C] in [0, 1], floating point; the first 32 are used.
    labels: [N], integers in [0, K).
    allow_probabilities: whether outputs that look like probabilities are taken
      for logits.

  Returns:
    Warnings; none for an honest network.

  Raises:
    ValueError: as `arguments.check_inputs`, and if outputs are probabilities,
      NaN or infinite.
  """
  images = np.asarray(images)[:MAX_IMAGES]
  labels = np.asarray(labels)[:MAX_IMAGES]
  arguments.check_inputs(logits_fn, images, labels, epsilon=0.0)
  if not len(images):
    return ()
  # Accelerators multiply float32 in fewer bits unless they are asked not to.
  with jax.default_matmul_precision('highest'):
    logits = np.asarray(_evaluate(compiled.as_argument(logits_fn), images))
    logit_checks.refuse_infinite(logits)
    if not allow_probabilities:
      logit_checks.refuse_probabilities(logits)
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
  """Does what `check` does, and accepts randomness that members average over.

  Random numbers of a `Randomized` classifier are no reason for a warning if all
  members draw them anew.
  """
  warnings = check(logits_fn, images, labels)
  averaged = all(getattr(member.attack, 'draws', 1) > 1 for member in members)
  if isinstance(logits_fn, randomized.Randomized) and averaged:
    warnings = tuple(w for w in warnings if w.kind != program_checks.RANDOM)
  return warnings


def channels(shape: tuple[int, ...]) -> tuple[AttackWarning, ...]:
  """Warns if the channels of images [N, H, W, C] seem to lie elsewhere."""
  message = arguments.misplaced_channels(shape)
  return (AttackWarning('channels', message),) if message else ()


def _measured(logits_fn, steps, images, labels, logits):
  """Warns of what gradients and repeated evaluations of some images show."""
  classifier = compiled.as_argument(logits_fn)
  weights = np.zeros(logits.shape, images.dtype)
  try:
    grads = gradient_checks.gradients(classifier, images, labels, weights)
  except gradient_checks.MISSING as error:
    return [_no_gradient(error)]
  resolution = program_checks.resolution(steps)
  warnings = gradient_checks.degenerate(grads, labels)
  unsteady = logit_checks.unsteady(
    logits_fn,
    images,
    logits,
    again=_evaluate(classifier, images),
    alone=grads.logits,
    resolution=resolution,
  )
  if not any(map(program_checks.is_random, steps)):
    warnings += unsteady
  if any(w.kind == logit_checks.NOT_DETERMINISTIC for w in unsteady):
    return warnings
  evaluate = logit_checks.evaluate_alone if unsteady else _evaluate
  errors = finite_differences.errors(
    functools.partial(evaluate, classifier),
    lambda x, w: gradient_checks.gradients(classifier, x, labels, w).weighted,
    images,
    resolution,
  )
  if errors.size and np.median(errors) > _GRADIENT_TOLERANCE:
    hidden = program_checks.warnings(steps, measurable=True)
    warnings.append(_wrong_gradient(errors, hidden))
  return warnings


@compiled.jit
def _evaluate(logits_fn: LogitsFn, images: Array) -> Array:
  return logits_fn(images)


def _no_gradient(error: Exception) -> AttackWarning:
  first = (str(error).strip() or type(error).__name__).splitlines()[0]
  return AttackWarning(
    'no gradient',
    f'JAX has no gradient of logits_fn for single images ("{first}"): attacks '
    'by gradients cannot run. Use black-box attacks (Square), or give the part '
    'without a gradient a custom one (BPDA, Athalye et al. 2018).',
  )


def _wrong_gradient(errors, hidden: list[AttackWarning]) -> AttackWarning:
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

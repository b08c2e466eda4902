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
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax import losses
from rnascl_jax.attacks import arguments, compiled
from rnascl_jax.attacks.checks import (
  finite_differences,
  gradient_checks,
  logit_checks,
  program_checks,
)
from rnascl_jax.attacks.checks.warning import AttackWarning
from rnascl_jax.base import Array, LogitsFn

# `check` looks at this many images.
MAX_IMAGES = 32
# Share of the derivative by which the gradient may be wrong in most directions.
_GRADIENT_TOLERANCE = 0.1


class _Gradients(NamedTuple):
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
  weighted: Array


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
    What looks suspicious; nothing for an honest network.

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
      *program_checks.certain(steps),
      *_measured(logits_fn, steps, images, labels, logits),
    )


def _measured(logits_fn, steps, images, labels, logits):
  """What the gradients, and repeated evaluations, of some images show."""
  classifier = compiled.as_argument(logits_fn)
  weights = np.zeros(logits.shape, images.dtype)
  try:
    found = _gradients(classifier, images, labels, weights)
  except gradient_checks.MISSING as error:
    return [_no_gradient(error)]
  resolution = program_checks.resolution(steps)
  warnings = gradient_checks.degenerate(
    found.logits, labels, found.cross_entropy, found.margin
  )
  unsteady = logit_checks.repeated(
    logits, _evaluate(classifier, images)
  ) or logit_checks.alone(logits_fn, images, logits, found.logits, resolution)
  if not program_checks.is_random(steps):
    warnings += unsteady
  if any(s.kind == logit_checks.NOT_DETERMINISTIC for s in unsteady):
    return warnings
  evaluate = _evaluate_alone if unsteady else _evaluate
  errors = finite_differences.errors(
    functools.partial(evaluate, classifier),
    lambda x, w: _gradients(classifier, x, labels, w).weighted,
    images,
    resolution,
  )
  if errors.size and np.median(errors) > _GRADIENT_TOLERANCE:
    warnings.append(_wrong_gradient(errors, program_checks.measurable(steps)))
  return warnings


@compiled.jit
def _evaluate(logits_fn: LogitsFn, images: Array) -> Array:
  return logits_fn(images)


@compiled.jit
def _evaluate_alone(logits_fn: LogitsFn, images: Array) -> Array:
  """Logits of images each of which is a batch of its own."""
  return jax.vmap(lambda image: logits_fn(image[None])[0])(images)


@compiled.jit
def _gradients(
  logits_fn: LogitsFn, images: Array, labels: Array, weights: Array
) -> _Gradients:
  """Gradients as attacks compute them: of one image at a time, lifted."""

  def of_one(image, label, weight):
    logits, pull = jax.vjp(lambda x: logits_fn(x[None])[0], image)

    def slope(loss):
      return jax.grad(lambda z: loss(z[None], label[None])[0])(logits)

    slopes = [
      slope(losses.cross_entropy),
      slope(losses.margin),
      weight.astype(logits.dtype),
    ]
    (pulled,) = jax.vmap(pull)(jnp.stack(slopes))
    return _Gradients(logits, *pulled)

  return jax.vmap(of_one)(images, labels, weights)


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

"""Do the outcomes of attacks make sense together?

Gradients that are masked show in what attacks leave: one without gradients
breaks what those with gradients could not, one step breaks more than many,
images are still being broken when the steps run out, or some survive although
nothing bounds the attack. Each function looks for one or two of these.

Example:
  >>> import numpy as np
  >>> from rnascl_jax.attacks.checks import post_attack
  >>> from rnascl_jax.attacks.checks.post_attack import Tried
  >>> tried = [Tried('APGD-CE', False, 100), Tried('Square', True, 5000)]
  >>> broken_by = np.array([-1, 0, 0, 1])
  >>> steps = np.array([0, 3, 5, 420])
  >>> for warning in post_attack.after(tried, broken_by, steps):
  ...   print(warning.kind)
  black-box attack is stronger

References:
  Athalye, Carlini and Wagner, Obfuscated gradients give a false sense of
  security, ICML 2018, section 3.1.
  Croce and Hein, Reliable evaluation of adversarial robustness with an ensemble
  of diverse parameter-free attacks, ICML 2020.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from rnascl_jax.attacks import arguments, compiled, gradient, lifting
from rnascl_jax.attacks.checks import gradient_checks
from rnascl_jax.attacks.checks.warning import AttackWarning
from rnascl_jax.base import Array, LogitsFn

# A black-box attack may lower robust accuracy by this much, as with the
# official AutoAttack: 0.2 points, written as 1 in 500 to compare whole numbers.
_BLACK_BOX_SHARE = 500
# The last tenth of the steps may break up to one in twenty of the images that
# an attack breaks, and up to two of few.
_LATE_STEPS, _LATE_SHARE, _FEWEST_LATE = 10, 20, 3
# `large_epsilon`: images, and steps of the attack.
_MAX_IMAGES, _NUM_STEPS, _STEP_SIZE = 64, 20, 0.1


class Tried(NamedTuple):
  """An attack of an ensemble.

  Attributes:
    name: for people.
    black_box: whether it uses no gradients.
    num_steps: on an image, or in each of its restarts.
  """

  name: str
  black_box: bool
  num_steps: int


def after(
  tried: Sequence[Tried],
  broken_by: np.ndarray,
  steps: np.ndarray | None = None,
) -> tuple[AttackWarning, ...]:
  """Examines the outcome of attacks that went one after the other.

  Args:
    tried: the attacks, in their order; each attacked what the ones before it
      had left.
    broken_by: [N] integers, of all images evaluated: the position in `tried` of
      what broke them, and negative where nothing did.
    steps: [N] integers in [0, num_steps], after how many steps of that attack
      an image was broken; the others count for nothing. None where attacks go
      on to the end with images that are broken.

  Returns:
    One warning for each black-box attack that lowers robust accuracy by more
    than 0.2 points below what attacks by gradients had left, and for each
    attack that breaks more than 5 % of its images, and at least 3, in the last
    tenth of its steps.
  """
  found = []
  for place, attack in enumerate(tried):
    broken = broken_by == place
    num_broken = int(broken.sum())
    earlier = [other.name for other in tried[:place] if not other.black_box]
    if attack.black_box and earlier:
      if num_broken * _BLACK_BOX_SHARE > len(broken_by):
        found.append(
          _stronger(attack, ', '.join(earlier), num_broken, len(broken_by))
        )
    if steps is not None:
      is_late = steps[broken] * _LATE_STEPS > attack.num_steps * (
        _LATE_STEPS - 1
      )
      num_late = int(is_late.sum())
      if num_late >= _FEWEST_LATE and num_late * _LATE_SHARE > num_broken:
        found.append(_late(attack, num_late, num_broken))
  return tuple(found)


def large_epsilon(
  logits_fn: LogitsFn,
  images: np.ndarray | Array,
  labels: np.ndarray | Array,
) -> tuple[AttackWarning, ...]:
  """Attacks without a bound, which every image must fall to.

  20 steps of CW-infinity with an epsilon of 1, so that any image may become any
  other, starting at the image itself: noise would be misclassified already.

  Args:
    logits_fn: [B, H, W, C] -> [B, K], as it is attacked.
    images: [N, H, W, C] in [0, 1], floating point; the first 64 are used.
    labels: [N], integers in [0, K).

  Returns:
    A warning if an image is left that was classified correctly; none if the
    classifier has no gradient, which `pre_attack.check` reports.

  Raises:
    ValueError: as `arguments.check_inputs`.
  """
  images = np.asarray(images)[:_MAX_IMAGES]
  labels = np.asarray(labels)[:_MAX_IMAGES]
  arguments.check_inputs(logits_fn, images, labels, epsilon=1.0)
  if not len(images):
    return ()
  try:
    adversarial = lifting.perturb(
      gradient.cw,
      logits_fn,
      jax.random.key(0),
      images,
      labels,
      epsilon=1.0,
      step_size=_STEP_SIZE,
      num_steps=_NUM_STEPS,
      start=None,
      keep_best=True,
      checks=False,
    )
  except gradient_checks.MISSING:
    return ()
  classifier = compiled.as_argument(logits_fn)
  correct = _is_correct(classifier, images, labels)
  left = int((correct & _is_correct(classifier, adversarial, labels)).sum())
  if not left:
    return ()
  return (_unbounded(left, int(correct.sum())),)


@compiled.jit
def _predict(logits_fn: LogitsFn, images: Array) -> Array:
  """Classes [B] of images each of which is a batch of its own."""
  return jax.vmap(lambda x: logits_fn(x[None])[0].argmax())(images)


def _is_correct(logits_fn, images, labels):
  return np.asarray(_predict(logits_fn, images)) == labels


def _stronger(
  attack: Tried, earlier: str, num_broken: int, count: int
) -> AttackWarning:
  return AttackWarning(
    'black-box attack is stronger',
    f'{attack.name}, which uses no gradients, broke {num_broken} of {count} '
    f'images ({100 * num_broken / count:.1f} points of robust accuracy) that '
    f'{earlier} had left: gradients may be masked, and the robust accuracy too '
    f'high. Run {attack.name} with more steps and restarts, and an attack made '
    'for this classifier (Athalye et al. 2018; Croce and Hein 2020).',
  )


def _late(attack: Tried, num_late: int, num_broken: int) -> AttackWarning:
  return AttackWarning(
    'more steps still help',
    f'{num_late} of the {num_broken} images that {attack.name} broke fell in '
    f'the last tenth of its {attack.num_steps} steps: more steps would '
    'probably break more images, and the robust accuracy may be too high. '
    'Double the steps until it no longer falls.',
  )


def _unbounded(left: int, count: int) -> AttackWarning:
  return AttackWarning(
    'survives any perturbation',
    f'{left} of {count} images that were classified correctly still are after '
    f'{_NUM_STEPS} steps of an attack that may turn any image into any other '
    '(epsilon 1, CW): accuracy must fall to 0 there, so that gradients may be '
    'masked (Athalye et al. 2018). Look at what Square breaks, and attack '
    'through a substitute of what has no useful gradient (BPDA). A classifier '
    'that hardly looks at the image, or was not trained, survives too.',
  )

"""Do the outcomes of attacks make sense together?

Gradients that are masked show in what attacks leave: one without gradients
breaks what those with gradients could not, one step breaks more than many,
images are still being broken when the steps run out, or some survive although
nothing bounds the attack. Each function looks for one or two of these.

Example:
  >>> import numpy as np
  >>> from rnascl_jax.attacks.checks import post_attack
  >>> for warning in post_attack.infinite(np.array([[1., 2.], [np.inf, 0.]])):
  ...   print(warning.kind)
  infinite logits

References:
  Athalye, Carlini and Wagner, Obfuscated gradients give a false sense of
  security, ICML 2018, section 3.1.
  Croce and Hein, Reliable evaluation of adversarial robustness with an ensemble
  of diverse parameter-free attacks, ICML 2020.
"""

from collections.abc import Sequence

import numpy as np

from rnascl_jax.attacks import arguments, compiled, gradient, lifting
from rnascl_jax.attacks.checks import gradient_checks, pre_attack
from rnascl_jax.attacks.checks.warning import AttackWarning
from rnascl_jax.attacks.ensembles import EnsembleMember
from rnascl_jax.attacks.result import AutoAttackResult, MemberResult
from rnascl_jax.base import Array, LogitsFn

# A black-box attack may lower robust accuracy by this much, as with the
# official AutoAttack: 0.2 points, written as 1 in 500 to compare whole numbers.
_BLACK_BOX_SHARE = 500
# The last tenth of the steps may break up to one in twenty of the images that
# an attack breaks, and up to two of few.
_LATE_STEPS, _LATE_SHARE, _FEWEST_LATE = 10, 20, 3
# `large_epsilon`: images, and steps of the attack.
_MAX_IMAGES, _NUM_STEPS, _STEP_SIZE = 64, 20, 0.1


def replaced(
  asked_for: Sequence[EnsembleMember], members: Sequence[EnsembleMember]
) -> tuple[AttackWarning, ...]:
  """Warns of members that took the place of others, for few classes."""
  return tuple(
    AttackWarning(
      'classes',
      f'{new.label} took the place of {old.label}, whose loss is not defined '
      'for 3 classes. Results compare only with evaluations that did the same.',
    )
    for old, new in zip(asked_for, members, strict=True)
    if new.name != old.name
  )


def infinite(logits: np.ndarray) -> tuple[AttackWarning, ...]:
  """Warns of adversarial images with logits that are NaN or infinite.

  Args:
    logits: [n, K] of all adversarial images.
  """
  bad = int((~np.isfinite(logits)).any(axis=-1).sum())
  if not bad:
    return ()
  return (
    AttackWarning(
      'infinite logits',
      f'The logits of {bad} of {len(logits)} adversarial images are NaN or '
      'infinite: the classifier was driven out of the range of its numbers '
      'rather than fooled. They count as broken. Look in logits_fn for '
      'divisions by almost zero, logarithms and exponentials.',
    ),
  )


def after(
  result: AutoAttackResult, stop_early: bool
) -> tuple[AttackWarning, ...]:
  """Examines what attacks that went one after the other left.

  Args:
    result: of AutoAttack; each member attacked what the ones before it left.
    stop_early: whether an attack on an image ended when it was broken, so that
      `result.steps` says when.

  Returns:
    A warning for each member that was left out, each that broke images which
    were not confirmed, each black-box attack that lowers robust accuracy by
    more than 0.2 points below what attacks by gradients had left, and each
    attack that breaks more than 5 % of its images, and at least 3, in the last
    tenth of its steps.
  """
  members, count = result.members, len(result.broken_by)
  warnings = [_left_out(m, result) for m in members if not m.num_trials]
  warnings += [_rejected(m) for m in members if m.rejected]
  earlier: list[str] = []  # Attacks by gradients.
  for place, member in enumerate(members):
    broken = result.broken_by == place
    num_broken = int(broken.sum())
    is_stronger = num_broken * _BLACK_BOX_SHARE > count
    if member.black_box and earlier and is_stronger:
      warnings.append(_stronger(member, ', '.join(earlier), num_broken, count))
    if member.num_trials and not member.black_box:
      earlier.append(member.label)
    first_late = member.num_steps * (_LATE_STEPS - 1)
    num_late = int((result.steps[broken] * _LATE_STEPS > first_late).sum())
    if (
      stop_early
      and num_late >= _FEWEST_LATE
      and num_late * _LATE_SHARE > num_broken
    ):
      warnings.append(_late(member, num_late, num_broken))
  return tuple(warnings)


def large_epsilon(
  logits_fn: LogitsFn,
  images: np.ndarray | Array,
  labels: np.ndarray | Array,
  *,
  channels: str = 'last',
) -> tuple[AttackWarning, ...]:
  """Attacks without a bound, which every image must fall to.

  20 steps of CW-infinity with an epsilon of 1, so that any image may become any
  other, starting at the image itself: noise would be misclassified already.

  Args:
    logits_fn: [B, H, W, C] -> [B, K], as it is attacked.
    images: [N, H, W, C] in [0, 1], floating point; the first 64 are used.
    labels: [N], integers in [0, K), or one-hot [N, K].
    channels: 'first' if images and those of `logits_fn` are [N, C, H, W].

  Returns:
    A warning if an image is left that was classified correctly; none if the
    classifier has no gradient, which `pre_attack.check` reports.

  Raises:
    ValueError: as `arguments.check_inputs`.
  """
  images = np.asarray(images)[:_MAX_IMAGES]
  labels = arguments.as_labels(labels)[:_MAX_IMAGES]
  logits_fn, images = lifting.channels_last(logits_fn, images, channels)
  arguments.check_inputs(logits_fn, images, labels, epsilon=1.0)
  if not len(images):
    return ()
  try:
    adversarial = lifting.perturb(
      gradient.cw,
      logits_fn,
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
  return (_unbounded(left, int(correct.sum())),) if left else ()


def _is_correct(logits_fn, images, labels):
  logits = pre_attack.evaluate_alone(logits_fn, images)
  return np.asarray(logits).argmax(axis=-1) == labels


def _left_out(member, result):
  untargeted = [
    f' {other.label} ran, which needs one class less.'
    for other in result.members
    if other.name == 'apgd_dlr' and other.num_trials
  ]
  return AttackWarning(
    'classes',
    f'{member.label} was left out: it is not defined for {result.num_classes} '
    f'classes.{"".join(untargeted)} Results compare only with evaluations that '
    'left it out too.',
  )


def _rejected(member):
  return AttackWarning(
    'not confirmed',
    f'{member.rejected} of {member.rejected + member.broken} images that '
    f'{member.label} found do not fool the classifier when they are classified '
    'once more in full float32, or are not in the ball. The classifier is '
    'random or computes in low precision. They count as robust.',
  )


def _stronger(
  member: MemberResult, earlier: str, num_broken: int, count: int
) -> AttackWarning:
  return AttackWarning(
    'black-box attack is stronger',
    f'{member.label}, which uses no gradients, broke {num_broken} of {count} '
    f'images ({100 * num_broken / count:.1f} points of robust accuracy) that '
    f'{earlier} had left: gradients may be masked, and the robust accuracy too '
    f'high. Run {member.label} with more steps and restarts, and an attack '
    'made for this classifier (Athalye et al. 2018; Croce and Hein 2020).',
  )


def _late(
  member: MemberResult, num_late: int, num_broken: int
) -> AttackWarning:
  return AttackWarning(
    'more steps still help',
    f'{num_late} of the {num_broken} images that {member.label} broke fell in '
    f'the last tenth of its {member.num_steps} steps: more steps would '
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

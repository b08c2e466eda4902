"""Whether AutoAttack can be believed, and what PGD alone would have said.

Every comparison is on the same images, image by image: an image that any attack
breaks is not robust, whatever another one leaves.
"""

import numpy as np

from rnascl_jax.reporting import results, statistics
from rnascl_jax.reporting.results import (
  AttackResult,
  AutoAttacked,
  ModelEvaluation,
  Run,
)

# What is called so in the saved warnings needs no sentence of its own.
_STRONGER = 'black-box attack is stronger'
# A black-box attack may break one image in so many that the others left: 0.2
# points, the threshold of the official AutoAttack.
_BLACK_BOX_SHARE = 500


def signs(run: Run) -> list[str]:
  """Signs that AutoAttack is too weak on a model, or its gradients masked.

  Args:
    run: the saved results.

  Returns:
    Sentences; empty where there is no sign.
  """
  attacked = [a for group in run.auto_attacked() for a in group]
  return [s for a in attacked if (s := _escaped(a, run.images))] + [
    s for a in attacked if (s := _black_box(a))
  ]


def compares(
  found: ModelEvaluation, other: AttackResult, ensemble: AttackResult
) -> bool:
  """Whether `signs` compares AutoAttack with another attack by image.

  Args:
    found: the model.
    other: the other attack on it.
    ensemble: AutoAttack on it.

  Returns:
    True if the images that each left are known, and are the same images.
  """
  if not ensemble.members or found.per_image(ensemble) is None:
    return False
  return any(o is other for o, _ in _others(AutoAttacked(found, ensemble)))


def gaps(run: Run) -> list[str]:
  """By how much PGD overestimates what AutoAttack leaves, model by model.

  Args:
    run: the saved results.

  Returns:
    Sentences; none of a model without both on the same images.
  """
  attacked = [a for group in run.auto_attacked() for a in group]
  return [s for a in attacked if (s := _gap(a, run))]


def rejected(run: Run) -> list[str]:
  """Images that an attack claimed and that were not confirmed."""
  sentences = []
  for found in run.evaluations:
    named = [_rejections(o) for o in found.attacks if o.rejected]
    if named:
      sentences.append(
        f'{found.label}: adversarial images that an attack claimed, and that '
        'were not confirmed when they were classified again in float32: '
        f'{", ".join(named)}. They count as right. A few are close calls; many '
        'are a sign of attacks in too low a precision.'
      )
  return sentences


def _rejections(outcome: AttackResult) -> str:
  """'PGD-20 2', 'AutoAttack 3 (FAB-T 2, Square 1)'."""
  text = f'{outcome.label} {outcome.rejected}'
  of = [f'{m.label} {m.rejected}' for m in outcome.members if m.rejected]
  return f'{text} ({", ".join(of)})' if of else text


def _others(attacked: AutoAttacked) -> list[tuple[AttackResult, np.ndarray]]:
  """Other attacks with the same radius, on at least the same images."""
  found, ensemble = attacked
  return [
    (outcome, right[: ensemble.images])
    for outcome in found.attacks
    if outcome.attack != ensemble.attack
    and outcome.same_ball(ensemble)
    and (right := found.per_image(outcome)) is not None
    and len(right) >= ensemble.images
  ]


def _escaped(attacked: AutoAttacked, images: int) -> str:
  """Images that AutoAttack left right though another attack broke them."""
  found, ensemble = attacked
  left = found.per_image(ensemble)
  if left is None:
    return ''
  others = _others(attacked)
  broke = [(o.label, int(np.sum(left & ~right))) for o, right in others]
  named = [f'{label} {count}' for label, count in broke if count]
  if not named:
    return ''
  every = np.logical_and.reduce([left, *(right for _, right in others)])
  escaped = int(left.sum() - every.sum())
  return (
    f'{found.label}: of {results.which_images(ensemble, images)}, '
    f'{ensemble.label} left {escaped} right that another attack with the same '
    f'ε broke ({", ".join(named)}): it was too weak on this model, or random '
    'draws decide. Under all attacks together at most '
    f'{100 * every.mean():.1f} % of these images are robust, not '
    f'{100 * ensemble.accuracy:.1f} %.'
  )


def _black_box(attacked: AutoAttacked) -> str:
  """An attack without gradients that broke what those with them left."""
  found, ensemble = attacked
  if any(doubt.kind == _STRONGER for doubt in found.warnings):
    return ''
  for place, member in enumerate(ensemble.members):
    before = [m.label for m in ensemble.members[:place] if not m.black_box]
    is_more = member.broken * _BLACK_BOX_SHARE > ensemble.images
    if member.black_box and before and is_more:
      return (
        f'{found.label}: {member.label}, which uses no gradients, broke '
        f'{member.broken} of {ensemble.images} images that {", ".join(before)} '
        'had left: a possible sign of gradient masking.'
      )
  return ''


def _gap(attacked: AutoAttacked, run: Run) -> str:
  """PGD against AutoAttack on the same images of one model."""
  found, ensemble = attacked
  left = found.per_image(ensemble)
  others = [
    (o, right)
    for o, right in _others(attacked)
    if o.attack == run.headline_attack
  ]
  if left is None or not others:
    return ''
  pgd, right = others[0]
  shares = [100 * float(flags.mean()) for flags in (right, left)]
  only = int(np.sum(right & ~left)), int(np.sum(left & ~right))
  p_value = statistics.mcnemar(*only)
  radius = results.epsilon_text(ensemble.epsilon, run.dataset)
  points = shares[0] - shares[1]
  start = (
    f'{found.label}, {results.which_images(ensemble, run.images)}, ε = '
    f'{radius}: {pgd.label} leaves {shares[0]:.1f} % right, {ensemble.label} '
    f'{shares[1]:.1f} %'
  )
  if not any(only):
    return f'{start}, the same images: {pgd.label} overestimates nothing here.'
  numbers = (
    f'{only[0]} broken by {ensemble.label} only, {only[1]} by {pgd.label} '
    f"only; McNemar's exact p {statistics.p_text(p_value)}"
  )
  if points <= 0:
    return (
      f'{start} ({numbers}): on these images {ensemble.label} is no stronger.'
    )
  text = (
    f'{start}: **{pgd.label} overestimates the robust accuracy by {points:.1f} '
    f'points** ({numbers}).'
  )
  if p_value < statistics.LEVEL:
    return text
  return (
    f'{text} On these images that is a fact; they are too few to say that it '
    'does so on others.'
  )

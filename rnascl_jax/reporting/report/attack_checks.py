"""Whether the attacks can be believed: warnings and signs of gradient masking.

AutoAttack is compared with other attacks image by image: an image that any
attack breaks is not robust, whatever another one leaves.

Reference:
  Athalye, Carlini and Wagner, Obfuscated gradients give a false sense of
  security, ICML 2018, section 3.1: iterative attacks are weaker than one step;
  unbounded attacks do not reach 0; more distortion does not break more images.
"""

import numpy as np

from rnascl_jax.reporting import tables
from rnascl_jax.reporting.evaluations import (
  Curve,
  ModelEvaluation,
  SavedAttack,
  SavedWarning,
)
from rnascl_jax.reporting.results import SavedRun

_MASKING = 'a possible sign of gradient masking, or of an attack set too weak'
# "Not near 0": an accuracy at the end of a curve above this.
_NEAR_ZERO = 0.05
# A smaller rise along a curve is left to the random starts of an attack.
_NOISE = 0.005
# Iterated attacks, which must find at least what one step of FGSM finds.
_ITERATED = ('pgd', 'mi_fgsm', 'apgd', 'autoattack')
# What is called so in the saved warnings needs no sentence of its own.
_STRONGER = 'black-box attack is stronger'
# A black-box attack may break one image in so many that the others left: 0.2
# points, the threshold of the official AutoAttack.
_BLACK_BOX_SHARE = 500


def findings(run: SavedRun) -> list[str]:
  """A sentence for every sign of gradient masking, or that there is none.

  There is no sentence where there is nothing to check.
  """
  pairs = [
    (e, weak, strong)
    for e in run.evaluations
    for weaker in e.attacks
    for stronger in e.attacks
    if _is_weaker(weaker, stronger)
    and not any(other is weaker for other, _ in _others(e, stronger))
    and (weak := weaker.on_first(min(weaker.images, stronger.images)))
    and (strong := stronger.on_first(min(weaker.images, stronger.images)))
  ]
  curves = _curves(run)
  attacked = [a for group in run.auto_attacked() for a in group]
  signs = [
    *(_inverted(*pair, run.images) for pair in pairs),
    *(_rising(e, c, run.dataset) for e, c in curves),
    *(_escaped(*a, run.images) for a in attacked),
    *(_black_box(*a) for a in attacked),
  ]
  signs = list(filter(None, signs))
  warnings = _warnings(run)
  if pairs and not signs:
    rises = f', and no accuracy rises with ε by over {100 * _NOISE:.1f} points'
    signs.append(
      f'{"Apart from the warnings above: no" if warnings else "No"} attack '
      'left more images right than one it must be at least as strong as'
      f'{rises if curves else ""}: these checks show no sign of gradient '
      'masking (they cannot rule it out).'
    )
  return [*warnings, *signs, *_rejected(run), *_unbroken(run)]


def _warnings(run: SavedRun) -> list[str]:
  """What was noticed as the models were attacked, each once."""
  labels: dict[SavedWarning, list[str]] = {}
  for e in run.evaluations:
    for warning in e.warnings:
      labels.setdefault(warning, []).append(e.label)
  return [
    f'**Warning, {warning.kind}** ({", ".join(models)}): {warning.message}'
    for warning, models in labels.items()
  ]


def _is_weaker(weaker: SavedAttack, stronger: SavedAttack) -> bool:
  """Whether the second attack must do at least as much as the first."""
  first, second = weaker.attack, stronger.attack
  if first == second:
    return False
  if first == 'clean':
    return True
  if not weaker.same_ball(stronger):
    return False
  if first.startswith('fgsm'):
    return second.startswith(_ITERATED)
  if second.startswith('autoattack'):
    return True
  both_pgd = first.startswith('pgd') and second.startswith('pgd')
  return both_pgd and (weaker.steps or 0) < (stronger.steps or 0)


def _inverted(
  model: ModelEvaluation,
  weaker: SavedAttack,
  stronger: SavedAttack,
  images: int,
) -> str:
  """An attack that left more images right than a weaker one."""
  if stronger.correct <= weaker.correct:
    return ''
  few = 'the first ' * (stronger.images < images)
  return (
    f'{model.label}: {stronger.label} leaves {stronger.correct} of '
    f'{few}{stronger.images} images right, {weaker.label} '
    f'{weaker.correct}; the first should be at least as strong: {_MASKING}.'
  )


def _rising(model: ModelEvaluation, curve: Curve, dataset: str) -> str:
  """The largest rise of accuracy from one epsilon to the next, if it is one."""
  steps = np.diff(curve.accuracies)
  if steps.max(initial=0.0) <= _NOISE:
    return ''
  at = int(steps.argmax())
  radii = [
    tables.epsilon_text(float(e), dataset, curve.norm)
    for e in curve.epsilons[at : at + 2]
  ]
  return (
    f'{model.label}: accuracy under {curve.label} rises by '
    f'{100 * steps[at]:.1f} points from ε = {radii[0]} to {radii[1]}; a '
    f'larger ε should break at least as many images: {_MASKING}.'
  )


def _others(
  model: ModelEvaluation, ensemble: SavedAttack
) -> list[tuple[SavedAttack, np.ndarray]]:
  """Other attacks with the same radius, and what they left of the same images.

  They are those that AutoAttack is compared with image by image.
  """
  if not ensemble.members or ensemble.right is None:
    return []
  return [
    (result, result.right[: ensemble.images])
    for result in model.attacks
    if result.attack != ensemble.attack
    and result.same_ball(ensemble)
    and result.right is not None
    and result.images >= ensemble.images
  ]


def _escaped(model: ModelEvaluation, ensemble: SavedAttack, images: int) -> str:
  """Images that AutoAttack left right though another attack broke them."""
  if ensemble.right is None:
    return ''
  every, named = ensemble.right, []
  for other, right in _others(model, ensemble):
    count = int(np.sum(ensemble.right & ~right))
    named += [f'{other.label} {count}'] * (count > 0)
    every = every & right
  if not named:
    return ''
  return (
    f'{model.label}: of {tables.which_images(ensemble, images)}, '
    f'{ensemble.label} left {ensemble.correct - int(every.sum())} right that '
    f'another attack with the same ε broke ({", ".join(named)}): it was too '
    'weak on this model, or random draws decide. Under all attacks together at '
    f'most {100 * every.mean():.1f} % of these images are robust, not '
    f'{100 * ensemble.accuracy:.1f} %.'
  )


def _black_box(model: ModelEvaluation, ensemble: SavedAttack) -> str:
  """An attack without gradients that broke what those with them left."""
  if any(warning.kind == _STRONGER for warning in model.warnings):
    return ''
  for place, member in enumerate(ensemble.members):
    before = [m.label for m in ensemble.members[:place] if not m.black_box]
    is_more = member.broken * _BLACK_BOX_SHARE > ensemble.images
    if member.black_box and before and is_more:
      return (
        f'{model.label}: {member.label}, which uses no gradients, broke '
        f'{member.broken} of {ensemble.images} images that {", ".join(before)} '
        'had left: a possible sign of gradient masking.'
      )
  return ''


def _rejected(run: SavedRun) -> list[str]:
  """Images that an attack claimed and that were not confirmed."""
  sentences = []
  for model in run.evaluations:
    claims = []
    for result in model.attacks:
      if result.rejected:
        members = [
          f'{m.label} {m.rejected}' for m in result.members if m.rejected
        ]
        of = f' ({", ".join(members)})' if members else ''
        claims.append(f'{result.label} {result.rejected}{of}')
    if claims:
      sentences.append(
        f'{model.label}: adversarial images that an attack claimed, and that '
        'were not confirmed when they were classified again in float32: '
        f'{", ".join(claims)}. They count as right. A few are close calls; '
        'many are a sign of attacks in too low a precision.'
      )
  return sentences


def _curves(run: SavedRun) -> list[tuple[ModelEvaluation, Curve]]:
  return [(e, c) for e in run.evaluations for c in e.curves]


def _unbroken(run: SavedRun) -> list[str]:
  """Curves that end before the accuracy is near 0, which decides nothing."""
  attack = run.headline_attack
  curves = [(e, c) for e, c in _curves(run) if c.attack == attack]
  if not curves:
    return []
  left = [
    f'{e.label} {100 * c.accuracies[-1]:.1f} % at ε = '
    f'{tables.epsilon_text(float(c.epsilons[-1]), run.dataset, c.norm)}'
    for e, c in curves
    if c.accuracies[-1] > _NEAR_ZERO
  ]
  if not left:
    return [
      f'Under {curves[0][1].label} every model falls to '
      f'{100 * _NEAR_ZERO:.0f} % or less at the largest ε evaluated.'
    ]
  return [
    f'Accuracy under {curves[0][1].label} is not near 0 at the largest ε '
    f'evaluated: {"; ".join(left)}. Either that ε is too small to break the '
    'model or its gradients are masked (possible gradient masking); a curve '
    'that goes on to larger ε would tell.'
  ]

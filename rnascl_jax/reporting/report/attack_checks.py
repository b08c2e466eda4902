"""Whether the attacks can be believed: signs of gradient masking.

Reference:
  Athalye, Carlini and Wagner, Obfuscated gradients give a false sense of
  security, ICML 2018, section 3.1: iterative attacks are weaker than one step;
  unbounded attacks do not reach 0; more distortion does not break more images.
"""

from rnascl_jax.reporting import results, statistics
from rnascl_jax.reporting.report import (
  ensemble_checks,
)
from rnascl_jax.reporting.results import (
  AttackResult,
  AttackWarning,
  Curve,
  ModelEvaluation,
  Run,
)

_MASKING = 'a possible sign of gradient masking, or of an attack set too weak'
# "Not near 0": an accuracy at the end of a curve above this.
_NEAR_ZERO = 0.05
# A smaller rise along a curve is left to the random starts of an attack.
_NOISE = 0.005
# Iterated attacks, which must find at least what one step of FGSM finds.
_ITERATED = ('pgd', 'mi_fgsm', 'apgd', 'autoattack')


def findings(run: Run) -> list[str]:
  """Every sign of gradient masking, or that the checks found none.

  Args:
    run: the saved results.

  Returns:
    Sentences; empty where there is nothing to check.
  """
  pairs = [
    (e, same)
    for e in run.evaluations
    for weaker in e.attacks
    for stronger in e.attacks
    if _is_weaker(weaker, stronger)
    and not ensemble_checks.compares(e, weaker, stronger)
    and (same := e.on_same(weaker, stronger)) is not None
  ]
  curves = [(e, c) for e in run.evaluations for c in e.curves]
  signs = [
    _inverted(e, same, run.images)
    for e, same in pairs
    if same[1].correct > same[0].correct
  ]
  signs += [_rising(e, c, run.dataset) for e, c in curves if _rise(c) > _NOISE]
  signs += ensemble_checks.signs(run)
  warnings = _warnings(run)
  if pairs and not signs:
    signs.append(_quiet(bool(curves), bool(warnings)))
  return [
    *warnings,
    *signs,
    *ensemble_checks.rejected(run),
    *ensemble_checks.gaps(run),
    *_unbroken(run, curves),
    *_strongest(run),
  ]


def _warnings(run: Run) -> list[str]:
  """What was noticed as the models were attacked, each once."""
  found: dict[AttackWarning, list[str]] = {}
  for e in run.evaluations:
    for doubt in e.warnings:
      found.setdefault(doubt, []).append(e.label)
  return [
    f'**Warning, {doubt.kind}** ({", ".join(labels)}): {doubt.message}'
    for doubt, labels in found.items()
  ]


def _quiet(curves: bool, warnings: bool) -> str:
  rises = f', and no accuracy rises with ε by over {100 * _NOISE:.1f} points'
  return (
    f'{"Apart from the warnings above: no" if warnings else "No"} attack left '
    'more images right than one it must be at least as strong '
    f'as{rises if curves else ""}: these checks show no sign of gradient '
    'masking (they cannot rule it out).'
  )


def _is_weaker(weaker: AttackResult, stronger: AttackResult) -> bool:
  """Whether the second attack must do at least as much as the first."""
  if weaker.attack == stronger.attack:
    return False
  if weaker.attack == 'clean':
    return True
  if not weaker.same_ball(stronger):
    return False
  if weaker.attack.startswith('fgsm'):
    return stronger.attack.startswith(_ITERATED)
  if stronger.attack.startswith('autoattack'):
    return True
  both_pgd = weaker.attack.startswith('pgd') and stronger.attack.startswith(
    'pgd'
  )
  return both_pgd and (weaker.steps or 0) < (stronger.steps or 0)


def _inverted(
  found: ModelEvaluation, pair: tuple[AttackResult, AttackResult], images: int
) -> str:
  weaker, stronger = pair
  few = 'the first ' if stronger.images < images else ''
  return (
    f'{found.label}: {stronger.label} leaves {stronger.correct} of '
    f'{few}{stronger.images} images right, {weaker.label} '
    f'{weaker.correct}; the first should be at least as strong: {_MASKING}.'
  )


def _rise(curve: Curve) -> float:
  """The largest rise of accuracy from one epsilon to the next, at least 0."""
  steps = curve.accuracies[1:] - curve.accuracies[:-1]
  return max(0.0, float(steps.max(initial=0.0)))


def _rising(found: ModelEvaluation, curve: Curve, dataset: str) -> str:
  steps = curve.accuracies[1:] - curve.accuracies[:-1]
  at = int(steps.argmax())
  radii = [
    results.epsilon_text(float(e), dataset) for e in curve.epsilons[at : at + 2]
  ]
  return (
    f'{found.label}: accuracy under {curve.label} rises by '
    f'{100 * _rise(curve):.1f} points from ε = {radii[0]} to {radii[1]}; a '
    f'larger ε should break at least as many images: {_MASKING}.'
  )


def _unbroken(
  run: Run, curves: list[tuple[ModelEvaluation, Curve]]
) -> list[str]:
  """Curves that end before the accuracy is near 0, which decides nothing."""
  curves = [(e, c) for e, c in curves if c.attack == run.headline_attack]
  left = [
    f'{e.label} {100 * c.accuracies[-1]:.1f} % at ε = '
    f'{results.epsilon_text(float(c.epsilons[-1]), run.dataset)}'
    for e, c in curves
    if c.accuracies[-1] > _NEAR_ZERO
  ]
  if left:
    return [
      f'Accuracy under {curves[0][1].label} is not near 0 at the largest ε '
      f'evaluated: {"; ".join(left)}. Either that ε is too small to break the '
      'model or its gradients are masked (possible gradient masking); a curve '
      'that goes on to larger ε would tell.'
    ]
  if curves:
    return [
      f'Under {curves[0][1].label} every model falls to '
      f'{100 * _NEAR_ZERO:.0f} % or less at the largest ε evaluated.'
    ]
  return []


def _strongest(run: Run) -> list[str]:
  """The attack that leaves RNAS-CL the least; its robustness is no more.

  Attacks on different numbers of images are compared on those that all of them
  attacked, and those on most images among themselves.
  """
  found = run.evaluation('rnas_cl')
  attacks = [] if found is None else found.attacks
  attacks = [o for o in attacks if o.attack != 'clean']
  if found is None or len(attacks) < 2:
    return []
  sentences = []
  for images in sorted({o.images for o in attacks}):
    same = [o for a in attacks if (o := found.on_first(a, images)) is not None]
    if len(same) > 1:
      sentences.append(_least(run, found, same))
  return sentences


def _least(
  run: Run, found: ModelEvaluation, attacks: list[AttackResult]
) -> str:
  """The strongest of attacks on the same images; the last of equal ones."""
  worst = min(reversed(attacks), key=lambda o: o.correct)
  radius = results.epsilon_text(worst.epsilon, run.dataset)
  low, high = statistics.wilson(worst.correct, worst.images)
  return (
    f'On {results.which_images(worst, run.images)}, the attack that leaves '
    f'{found.label} the least is {worst.label}: {100 * worst.accuracy:.1f} % '
    f'at ε = {radius} (95 % interval {100 * low:.1f} to {100 * high:.1f} %); '
    'its robust accuracy at this ε is at most that.'
  )

"""Comparisons of two models in words, for all that is said of a run."""

from rnascl_jax.reporting import results, statistics
from rnascl_jax.reporting.report import (
  comparison,
)
from rnascl_jax.reporting.report.comparison import Comparison
from rnascl_jax.reporting.results import ModelEvaluation, Run


def attacked_and_clean(
  run: Run, first: ModelEvaluation | None, second: ModelEvaluation | None
) -> list[str]:
  """One model against another, under the headline attack and without any.

  Args:
    run: the saved results.
    first: a model, None if it was not evaluated.
    second: a model, None if it was not evaluated.

  Returns:
    One text; none if both did not face the same attack.
  """
  found = comparison.compare(first, second, run.headline_attack)
  if found is None:
    return []
  without = comparison.compare(first, second, 'clean')
  return [_gain(found, run.dataset) + _clean(without)]


def under_auto_attack(
  run: Run, first: ModelEvaluation | None, second: ModelEvaluation | None
) -> list[str]:
  """The same under the strongest attacks, which may be on few images."""
  every = () if first is None else first.attacks
  compared = [
    comparison.compare(first, second, outcome.attack)
    for outcome in every
    if outcome.members
  ]
  return [
    _gain(found, run.dataset, run.images) + _reservation(run, found)
    for found in compared
    if found is not None
  ]


def _gain(found: Comparison, dataset: str, most: int = 0) -> str:
  """A comparison in words; on fewer than `most` images, it says on which."""
  first, second = found.results
  radius = results.epsilon_text(first.epsilon, dataset)
  few = ''
  if first.images < most:
    few = f', {results.which_images(first, most)}'
  text = (
    f'**{found.first.label} against {found.second.label}** under {first.label} '
    f'(ε = {radius}{few}): {percent(first.accuracy)} against '
    f'{percent(second.accuracy)}, {points(found.points)} points '
    f'({found.evidence}). '
  )
  if not found.distinct:
    return text + 'This run does not show a difference between the two.'
  more = found.first if found.points > 0 else found.second
  return (
    f'{text}{more.label} is right more often than the choice of test images '
    'explains.'
  )


def _clean(found: Comparison | None) -> str:
  if found is None:
    return ''
  first, second = found.results
  beyond = 'more' if found.distinct else 'not more'
  return (
    f' Clean: {percent(first.accuracy)} against {percent(second.accuracy)}, '
    f'{points(found.points)} points, {beyond} than the choice of test images '
    'explains.'
  )


def _reservation(run: Run, found: Comparison) -> str:
  """How much so many images can say, and what PGD says of the same ones."""
  images, (low, high) = found.results[0].images, found.interval
  text = (
    f' {images:,} images bound the difference{" only" * (images < run.images)} '
    f'to {low:+.1f} to {high:+.1f} points (95 % interval, images taken as '
    'unpaired).'
  )
  same = comparison.compare(
    found.first, found.second, run.headline_attack, images
  )
  if same is None or not same.results[0].same_ball(found.results[0]):
    return text
  return (
    f'{text} On the same images {same.results[0].label} says '
    f'{points(same.points)} points.'
  )


def brief(found: Comparison) -> str:
  """'76.6 % against 35.9 %, +40.6 points (p = 3e-08)'; no more than that."""
  first, second = found.results
  evidence = f'p {statistics.p_text(found.p_value)}'
  if found.p_value is None:
    evidence = found.evidence
  return (
    f'{percent(first.accuracy)} against {percent(second.accuracy)}, '
    f'{points(found.points)} points ({evidence})'
  )


def percent(share: float) -> str:
  """'43.7 %'."""
  return f'{100 * share:.1f} %'


def points(difference: float) -> str:
  """'+6.8', '-0.8', '0.0'; never '-0.0'."""
  rounded = round(difference, 1)
  return f'{rounded:+.1f}' if rounded else '0.0'

"""Two models under one attack, or one model under two: the report's table.

Where both sides saved which images they classified correctly, the images are
paired (McNemar's exact test, Newcombe's interval for pairs); otherwise the
interval of the difference of two independent shares decides, which is wider.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rnascl_jax.reporting import statistics, tables
from rnascl_jax.reporting.evaluations import ModelEvaluation, SavedAttack
from rnascl_jax.reporting.results import SavedRun

STUDENT = 'rnas_cl'
BASELINES = ('ce', 'ce_kl')
# A control is named after the student that it is the control of.
CONTROL = 'control_'
# The training method that has no attack: a control of the further epochs.
PLAIN = 'standard'
_HEADINGS = (
  *('First', 'Second', 'Under', 'First (%)', 'Second (%)', 'Difference'),
  *('95 % interval', 'Right alone', 'p', 'Shown'),
)
NOTE = (
  'Difference: first minus second, in points. Right alone: images that only '
  'the first and only the second classifies correctly; p: McNemar, exact, of '
  "these. The interval is Newcombe's for the same images. Shown: which side is "
  'right more often than the choice of test images explains, by p < '
  f'{statistics.LEVEL}. Where p is not known, images are taken as unpaired, '
  'and the interval decides. Of one model under two attacks, the difference is '
  'by how much the first overestimates what the second leaves.'
)


class Comparison(NamedTuple):
  """Two sides that faced the same images.

  Attributes:
    names: what a reader sees of the first and of the second side.
    under: the attack that both faced; '' for one model under two attacks.
    results: what each reached, on the same number of images.
    only: images that only the first and only the second classified correctly;
      None where the images are not paired.
  """

  names: tuple[str, ...]
  under: str
  results: tuple[SavedAttack, SavedAttack]
  only: tuple[int, int] | None

  @property
  def points(self) -> float:
    """First minus second, in percentage points."""
    return 100 * (self.results[0].accuracy - self.results[1].accuracy)

  @property
  def p_value(self) -> float | None:
    """McNemar's exact p, None where the images are not paired."""
    return None if self.only is None else statistics.mcnemar(*self.only)

  @property
  def interval(self) -> tuple[float, float]:
    """95 % interval of the difference in points."""
    first, second = self.results
    correlation = 0.0
    if self.only is not None:
      both = first.correct - self.only[0]
      neither = first.images - both - sum(self.only)
      correlation = statistics.phi(both, *self.only, neither)
    low, high = statistics.newcombe(
      first.correct, first.images, second.correct, second.images, correlation
    )
    return 100 * low, 100 * high

  @property
  def sign(self) -> int:
    """1 or -1 if the first or the second is distinctly better, else 0."""
    low, high = self.interval
    is_distinct = low > 0 or high < 0
    if self.p_value is not None:
      is_distinct = self.p_value < statistics.LEVEL
    return int(np.sign(self.points)) if is_distinct else 0


def compare(
  first: ModelEvaluation | None,
  second: ModelEvaluation | None,
  attack: str | None,
  images: int | None = None,
) -> Comparison | None:
  """Compares two models, of which one that was not evaluated is None.

  Args:
    first: a model.
    second: a model.
    attack: key of the attack.
    images: how many of the first images to compare on; None for all that both
      attacked.

  Returns:
    The comparison, paired where both saved their result for every image; None
    where they did not face the same attack, and where the results of images are
    needed to look at fewer of them, and were not saved.
  """
  if first is None or second is None:
    return None
  pair = first.under(attack), second.under(attack)
  if pair[0] is None or pair[1] is None or not pair[0].same_attack(pair[1]):
    return None
  names = first.label, second.label
  return _compare(names, pair[0].label, pair[0], pair[1], images)


def _compare(
  names: tuple[str, ...],
  under: str,
  first: SavedAttack,
  second: SavedAttack,
  images: int | None = None,
) -> Comparison | None:
  """Compares two results on the images that both have."""
  images = images or min(first.images, second.images)
  pair = first.on_first(images), second.on_first(images)
  if pair[0] is None or pair[1] is None:
    return None
  only = None
  if pair[0].right is not None and pair[1].right is not None:
    left, right = pair[0].right, pair[1].right
    only = int(np.sum(left & ~right)), int(np.sum(~left & right))
  return Comparison(names, under, (pair[0], pair[1]), only)


def cells(run: SavedRun) -> list[list[str]]:
  """Headings, then a row for each comparison of a run."""
  return [list(_HEADINGS), *(_row(run, c) for c in comparisons(run))]


def comparisons(run: SavedRun) -> list[Comparison]:
  """All comparisons of a run.

  They are RNAS-CL against students without tutors, students against their
  controls, fine-tuned students against what they were, and the headline attack
  against AutoAttack.
  """
  compared = [
    c for first, second in _pairs(run) for c in _comparisons(run, first, second)
  ]
  for group in run.auto_attacked():
    for model, result in group:
      other = model.under(run.headline_attack)
      if other is not None and other.same_ball(result):
        labels = other.label, result.label
        names = tuple(f'{model.label}, {label}' for label in labels)
        pair = _compare(names, '', other, result)
        # Of counts alone nothing is known of the same images.
        if pair is not None and pair.only is not None:
          compared.append(pair)
  return compared


def fine_tuned(run: SavedRun) -> list[tuple[ModelEvaluation, ModelEvaluation]]:
  """Every fine-tuned student with what it was before, if both are there."""
  return [
    (tuned, base)
    for tuned in run.evaluations
    if tuned.base and (base := run.evaluation(tuned.base)) is not None
  ]


def from_scratch(run: SavedRun, model: str) -> ModelEvaluation | None:
  """A model's evaluation; None of one that was fine-tuned."""
  evaluation = run.evaluation(model)
  return None if evaluation is None or evaluation.base else evaluation


def controls(
  run: SavedRun,
) -> list[tuple[ModelEvaluation | None, ModelEvaluation]]:
  """Every student with its control, taught by a teacher without attacks.

  A student of another architecture is no control.
  """
  return [
    (from_scratch(run, name), e)
    for e in run.evaluations
    if e.model.startswith(CONTROL) and not e.base
    if network(run, name := e.model.removeprefix(CONTROL))
    == network(run, e.model)
  ]


def network(run: SavedRun, model: str) -> dict[str, Any]:
  """The fixed network of a student; empty for searched ones and teachers."""
  student = (run.config.get('students') or {}).get(model, {})
  fields = student.get('network') or {}
  return {field: value for field, value in fields.items() if value}


def _pairs(
  run: SavedRun,
) -> Iterator[tuple[ModelEvaluation | None, ModelEvaluation | None]]:
  for baseline in BASELINES:
    yield from_scratch(run, STUDENT), from_scratch(run, baseline)
  yield from controls(run)
  if controls(run):
    yield run.evaluation('teacher'), run.evaluation('vulnerable_teacher')
  for tuned, base in fine_tuned(run):
    yield tuned, base
    for other in run.evaluations:
      is_plain = (
        other.base == tuned.base
        and run.adversarial_method(other.model) == PLAIN
      )
      if is_plain and run.adversarial_method(tuned.model) != PLAIN:
        yield tuned, other


def _comparisons(
  run: SavedRun, first: ModelEvaluation | None, second: ModelEvaluation | None
) -> list[Comparison]:
  """Without an attack, under the headline attack, and under AutoAttack.

  AutoAttack may be on few images: the headline attack is compared on these
  images too.
  """
  headline = compare(first, second, run.headline_attack)
  compared = [compare(first, second, 'clean'), headline]
  for result in first.attacks if first else ():
    if result.members:
      strongest = compare(first, second, result.attack)
      compared.append(strongest)
      images = strongest.results[0].images if strongest else run.images
      if headline and images < headline.results[0].images:
        compared.append(compare(first, second, run.headline_attack, images))
  return [c for c in compared if c is not None]


def under(run: SavedRun, compared: Comparison) -> str:
  """'PGD-20, ε = 0.1, the first 64 images': what both sides faced."""
  first, second = compared.results
  text = compared.under or 'both'
  if second.epsilon:
    radius = tables.epsilon_text(second.epsilon, run.dataset, second.norm)
    text += f', ε = {radius}'
  if first.images < run.images:
    text += f', the first {first.images:,} images'
  return text


def _row(run: SavedRun, compared: Comparison) -> list[str]:
  first, second = compared.results
  low, high = compared.interval
  alone, p_value = tables.NOTHING, tables.NOTHING
  if compared.only is not None:
    alone = f'{compared.only[0]:,} : {compared.only[1]:,}'
    p_value = statistics.p_text(compared.p_value).removeprefix('= ')
  return [
    *compared.names,
    under(run, compared),
    f'{100 * first.accuracy:.1f}',
    f'{100 * second.accuracy:.1f}',
    f'{compared.points:+z.1f}',
    f'{low:+.1f} to {high:+.1f}',
    alone,
    p_value,
    {1: 'first', -1: 'second', 0: 'no difference'}[compared.sign],
  ]

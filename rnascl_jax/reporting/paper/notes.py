"""What stands below a table: how to read it, and what its numbers lack."""

import textwrap

from rnascl_jax.reporting import results, tables
from rnascl_jax.reporting.paper import agreement, measures, provenance
from rnascl_jax.reporting.paper.definition import Line
from rnascl_jax.reporting.paper.rendering import Filled
from rnascl_jax.reporting.results import Run

# Images in the test split of a data set, and in that of a class of ImageNet.
_TEST_IMAGES = {'cifar10': 10_000, 'digits': 517}
_IMAGENET, _PER_CLASS, _CLASSES = 'imagenet', 50, 1000
# Points of deviation from which on a mean hides what the seeds are.
_APART = 5.0


def notes(filled: Filled) -> list[str]:
  """What a reader must know beside the table.

  Args:
    filled: with at least one row that was run.

  Returns:
    Sentences: of the table, of what is missing, of the attacks, of where the
    numbers come from.
  """
  return [
    *filled.table.notes,
    _how(filled),
    *_missing(filled),
    *_apart(filled),
    *_attacks(filled),
    *_fewer(filled),
    *_otherwise(filled),
    *provenance.facts(filled),
  ]


def _how(filled: Filled) -> str:
  seeds = ', '.join(map(str, filled.seeds))
  if len(filled.seeds) < 2:
    return f'Accuracies in %, of one seed ({seeds}).'
  return (
    f'Accuracies in %, mean ± standard deviation over seeds ({seeds}); a '
    'number without ± is of one seed.'
  )


def _missing(filled: Filled) -> list[str]:
  """Which rows lack which seeds."""
  lacking = []
  for row in filled.rows:
    absent = [s for s in filled.seeds if s not in row.models]
    if row.models and absent:
      seeds = ', '.join(map(str, absent))
      lacking.append(f'{_name(row.line)} (seed {seeds})')
  if not lacking:
    return []
  return [f'Lacking, so that means are of other seeds: {"; ".join(lacking)}.']


def _apart(filled: Filled) -> list[str]:
  """Every seed of rows whose seeds are far apart."""
  found = []
  for row in filled.rows:
    for column in filled.table.columns:
      if not column.is_accuracy:
        continue
      reached = measures.summary(row.models, column.key)
      if reached is not None and (reached.deviation or 0.0) > _APART:
        values = ', '.join(
          f'{value:.1f} (seed {seed})' for seed, value in reached.values.items()
        )
        found.append(f'{_name(row.line)}, {column.heading}: {values}')
  return [f'Seeds that are far apart: {"; ".join(found)}.'] if found else []


def _name(line: Line) -> str:
  return ': '.join(line.labels)


def _attacks(filled: Filled) -> list[str]:
  """The settings of every attack of a column."""
  keys = [column.key for column in filled.table.columns]
  found: dict[str, None] = {}
  radii = set()
  for _, e in filled.evaluated:
    for outcome in e.attacks:
      if outcome.attack in keys and outcome.attack != 'clean':
        found[tables.attack_settings(outcome, e.dataset)] = None
        radii.add((round(outcome.epsilon, 6), e.dataset))
  if not found:
    return []
  text = f'Attacks (L∞, ε in pixel values): {"; ".join(found)}.'
  paper = filled.table.radius_255 / 255
  if filled.table.is_printed and any(abs(r - paper) > 1e-4 for r, _ in radii):
    text += f' The paper has ε = {_paper_radius(filled)}.'
  return [text]


def _paper_radius(filled: Filled) -> str:
  return f'{filled.table.radius_255:g}/255'


def _fewer(filled: Filled) -> list[str]:
  """Columns on fewer images than others, and fewer than there are."""
  keys = [column.key for column in filled.table.columns]
  found: dict[str, None] = {}
  for run, e in filled.evaluated:
    for outcome in e.attacks:
      if outcome.attack in keys and outcome.images < e.images:
        which = results.which_images(outcome, e.images)
        found[
          f'{outcome.label} is on {which}: compare it with other columns on '
          'the same images only.'
        ] = None
    there = test_images(run)
    if there is not None and e.images < there:
      found[
        f'Evaluated on the first {e.images:,} of {there:,} test images.'
      ] = None
  return list(found)


def test_images(run: Run) -> int | None:
  """Images in the test split of a run's data set, None if unknown."""
  if run.dataset != _IMAGENET:
    return _TEST_IMAGES.get(run.dataset)
  classes = (run.config.get('data') or {}).get('classes') or ()
  return _PER_CLASS * (len(classes) or _CLASSES)


def _otherwise(filled: Filled) -> list[str]:
  """Columns whose rows were attacked in different ways."""
  found = []
  for column in filled.table.columns:
    outcomes = [
      outcome
      for _, e in filled.evaluated
      if (outcome := e.under(column.key)) is not None
    ]
    if any(not agreement.is_alike(outcomes[0], other) for other in outcomes):
      found.append(
        f'**{column.heading} does not compare across rows: they were attacked '
        'with other settings, or on other images.**'
      )
  return found


def wrapped(lines: list[str], width: int) -> str:
  """Sentences for a console, each on lines of its own, without emphasis."""
  return '\n'.join(
    textwrap.fill(line.replace('**', ''), width, break_on_hyphens=False)
    for line in lines
  )

"""Several runs of one config, which differ in their seed, as one table.

A run's intervals cover the choice of test images; only several seeds show what
the randomness of training does.
"""

import statistics
from collections.abc import Sequence

from rnascl_jax.figures.results import Run
from rnascl_jax.report import tables


def cells(runs: Sequence[Run]) -> list[list[str]]:
  """Mean and standard deviation of every accuracy, over runs.

  Args:
    runs: at least two, evaluated under the same attacks.

  Returns:
    A row of headings, then one row a model that all runs have.

  Raises:
    ValueError: if there are fewer than two runs, or if they were evaluated
      under different attacks or on different data.
  """
  if len(runs) < 2:
    raise ValueError(f'{len(runs)} run given; a mean over seeds needs two.')
  first = runs[0]
  for run in runs[1:]:
    if _attacks(run) != _attacks(first) or run.dataset != first.dataset:
      raise ValueError(
        f'{run.workdir} was evaluated under other attacks, or on other data, '
        f'than {first.workdir}; evaluate both with the same config.'
      )
  rows = [['Model', *(label for _, label in _attacks(first))]]
  for found in first.evaluations:
    same = [
      next((e for e in run.evaluations if e.model == found.model), None)
      for run in runs
    ]
    complete = [e for e in same if e is not None]
    if len(complete) < len(runs):
      continue
    columns = zip(*(e.outcomes for e in complete), strict=True)
    rows.append(
      [
        found.label,
        *(_mean([o.accuracy for o in column]) for column in columns),
      ]
    )
  return rows


def note(runs: Sequence[Run]) -> str:
  """What the numbers are."""
  seeds = ', '.join(str(run.config.get('seed', '?')) for run in runs)
  return (
    f'Accuracies in %, mean ± standard deviation over {len(runs)} runs (seeds '
    f'{seeds}).'
  )


def _attacks(run: Run) -> list[tuple[tuple, str]]:
  """Settings and labels of the attacks, the same for all models of a run."""
  if not run.evaluations:
    raise ValueError(f'{run.workdir} has no evaluated model.')
  return [
    ((o.attack, round(o.epsilon, 6), o.steps, o.images), o.label)
    for o in run.evaluations[0].outcomes
  ]


def _mean(shares: Sequence[float]) -> str:
  mean, deviation = statistics.mean(shares), statistics.stdev(shares)
  return f'{100 * mean:.1f} ± {100 * deviation:.1f}'


def markdown(runs: Sequence[Run]) -> str:
  """The table and its note, as Markdown."""
  return f'{tables.markdown(cells(runs))}\n\n{note(runs)}'

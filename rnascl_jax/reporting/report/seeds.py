"""Several runs of one config, which differ in their seed, as one table.

A run's intervals cover the choice of test images; only several seeds show what
the randomness of training does.
"""

import statistics
from collections.abc import Sequence

from rnascl_jax.reporting import tables
from rnascl_jax.reporting.results import AttackResult, Run


def cells(runs: Sequence[Run]) -> list[list[str]]:
  """Mean and standard deviation of every accuracy, over runs.

  Args:
    runs: at least two, evaluated under the same attacks.

  Returns:
    A row of headings, then one row a model that all runs have; a dash for an
    attack that one of them lacks.

  Raises:
    ValueError: if there are fewer than two runs, or if they are of different
      data, or an attack on a model has other settings or images in one.
  """
  if len(runs) < 2:
    raise ValueError(f'{len(runs)} run given; a mean over seeds needs two.')
  first = runs[0]
  for run in runs[1:]:
    if not _agree(run, first) or run.dataset != first.dataset:
      raise ValueError(
        f'{run.workdir} was evaluated under other attacks, or on other data, '
        f'than {first.workdir}; evaluate both with the same config.'
      )
  columns = tables.columns(first)
  rows = [['Model', *columns.values()]]
  for found in first.evaluations:
    same = [run.evaluation(found.model) for run in runs]
    reached = [tables.by_column(e) for e in same if e is not None]
    if len(reached) == len(runs):
      rows.append(
        [
          found.label,
          *(_mean([r.get(column) for r in reached]) for column in columns),
        ]
      )
  return rows


def note(runs: Sequence[Run]) -> str:
  """What the numbers are, and of how many images."""
  seeds = ', '.join(str(run.config.get('seed', '?')) for run in runs)
  lines = [
    f'Accuracies in %, mean ± standard deviation over {len(runs)} runs (seeds '
    f'{seeds}).',
    *tables.fewer_notes(runs[0]),
  ]
  return ' '.join(lines)


def _agree(first: Run, second: Run) -> bool:
  """Whether no attack on a model has other settings in the other run."""
  attacks = _attacks(first), _attacks(second)
  both = attacks[0].keys() & attacks[1].keys()
  return all(attacks[0][key] == attacks[1][key] for key in both)


def _attacks(run: Run) -> dict[tuple[str, str], set[tuple]]:
  """The settings of every attack on every model of a run."""
  if not run.evaluations:
    raise ValueError(f'{run.workdir} has no evaluated model.')
  found: dict[tuple[str, str], set[tuple]] = {}
  for e in run.evaluations:
    for column, o in tables.by_column(e).items():
      members = tuple(member.name for member in o.members)
      settings = column, o.steps, o.norm, members
      found.setdefault((e.model, o.attack), set()).add(settings)
  return found


def _mean(outcomes: Sequence[AttackResult | None]) -> str:
  """A dash where a run lacks the attack: a mean would be over other seeds."""
  shares = [o.accuracy for o in outcomes if o is not None]
  if len(shares) < len(outcomes):
    return tables.NOTHING
  mean, deviation = statistics.mean(shares), statistics.stdev(shares)
  return f'{100 * mean:.1f} ± {100 * deviation:.1f}'


def markdown(runs: Sequence[Run]) -> str:
  """The table and its note, as Markdown."""
  return f'{tables.markdown(cells(runs))}\n\n{note(runs)}'

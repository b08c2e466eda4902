"""The table of a sweep: what every model of every row reached, over seeds."""

import dataclasses
from collections.abc import Sequence

from absl import logging

from rnascl_jax.reporting import results, tables
from rnascl_jax.reporting.results import SavedRun
from rnascl_jax.sweeps.jobs import Job
from rnascl_jax.sweeps.runner import FINISHED, States

DAMAGED = 'damaged'
# For each (seed, row) that is finished what its folder holds.
Runs = dict[tuple[int, str], SavedRun]


def load(jobs: Sequence[Job], states: States) -> tuple[Runs, States]:
  """Reads what finished jobs left, so that one that is damaged ends no sweep.

  Args:
    jobs: the jobs of a sweep.
    states: what became of each (seed, row), from `runner.run`.

  Returns:
    The runs, and the same states with `DAMAGED` for each finished job whose
    results cannot be read; a warning names the file.
  """
  runs, states = {}, dict(states)
  for job in jobs:
    key = job.seed, job.name
    try:
      if states[key] == FINISHED:
        runs[key] = results.load(job.folder)
    except (OSError, ValueError) as error:
      logging.warning('Seed %d, row %s is left out: %s', *key, error)
      states[key] = DAMAGED
  return runs, states


def cells(runs: Runs, states: States) -> list[list[str]]:
  """Writes the results as text.

  Args:
    runs: the runs from `load`.
    states: the states from `load`.

  Returns:
    A row of headings; then one row for each model of a row: for how many seeds
    it is finished, and for each attack the mean and, of several seeds, the
    standard deviation of the accuracy in %. A row of the sweep that is finished
    for no seed says why; one without evaluated models has a dash.
  """
  columns = _columns(runs)
  table = [['Row', 'Model', 'Seeds', *columns.values()]]
  for row in dict.fromkeys(name for _, name in states):
    of_row = [run for (_, name), run in runs.items() if name == row]
    seeds = _seeds(
      [state for (_, name), state in states.items() if name == row]
    )
    models = {e.model: e.label for run in of_row for e in run.evaluations}
    for model, label in (models or {'': tables.NOTHING}).items():
      same = [run.evaluation(model) for run in of_row]
      reached = [tables.by_column(e) if e else {} for e in same]
      means = [tables.mean_accuracy(reached, column) for column in columns]
      table.append([row, label, seeds, *means])
  return table


def note(seeds: Sequence[int]) -> str:
  """Says what the numbers are."""
  text = ', '.join(map(str, seeds))
  if len(seeds) == 1:
    return f'Accuracies in %, seed {text}.'
  return (
    f'Accuracies in %: mean ± standard deviation over the seeds {text}, or '
    'over as many of them as are finished.'
  )


def _columns(runs: Runs) -> dict[tables.AttackColumn, str]:
  """The attacks with their headings, as if one run had all models."""
  evaluations = tuple(e for run in runs.values() for e in run.evaluations)
  for run in runs.values():
    return tables.columns(dataclasses.replace(run, evaluations=evaluations))
  return {}


def _seeds(states: Sequence[str]) -> str:
  """'2', or '1 of 2 (failed)'."""
  others = [state for state in states if state != FINISHED]
  text = f'{len(states) - len(others)}'
  if others:
    text += f' of {len(states)} ({"; ".join(dict.fromkeys(others))})'
  return text

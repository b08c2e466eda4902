"""The table of a sweep: what every model of every row reached, over seeds."""

import os
import pathlib
from collections.abc import Mapping, Sequence

from absl import logging

from rnascl_jax.reporting import results, tables
from rnascl_jax.reporting.results import ModelEvaluation
from rnascl_jax.sweeps import rows as rows_lib
from rnascl_jax.sweeps.runner import FINISHED

DAMAGED = 'damaged'


def checked(
  root: str | os.PathLike[str], states: Mapping[tuple[int, str], str]
) -> dict[tuple[int, str], str]:
  """Reads what finished rows left, so that one that is damaged ends no sweep.

  Args:
    root: folder of the sweep.
    states: for each (seed, row) what became of it, from `runner.run`.

  Returns:
    The same states, but `DAMAGED` for a finished row whose results cannot be
    read; a warning names the file.
  """
  found = dict(states)
  for (seed, row), state in states.items():
    try:
      if state == FINISHED:
        _of_run(root, seed, row)
    except (OSError, ValueError) as error:
      logging.warning('Seed %d, row %s is left out: %s', seed, row, error)
      found[seed, row] = DAMAGED
  return found


def cells(
  root: str | os.PathLike[str],
  rows: Sequence[rows_lib.Row],
  states: Mapping[tuple[int, str], str],
) -> list[list[str]]:
  """The results as text.

  Args:
    root: folder of the sweep.
    rows: its rows.
    states: for each (seed, row) what became of it, from `checked`.

  Returns:
    A row of headings; then one row for each model of a row: for how many seeds
    it is finished, and for each attack the mean and, of several seeds, the
    standard deviation of the accuracy in %. A row of the sweep that is finished
    for no seed says why; one without evaluated models has a dash.
  """
  found = {row.name: _evaluations(root, row.name, states) for row in rows}
  every = [e for seeds in found.values() for es in seeds for e in es]
  columns = tables.columns(_as_run(root, every))
  table = [['Row', 'Model', 'Seeds', *columns.values()]]
  for row in rows:
    of_row = {s: t for (s, name), t in states.items() if name == row.name}
    finished = list(of_row.values()).count(FINISHED)
    models = {e.model: e.label for es in found[row.name] for e in es}
    for model, label in (models or {'': tables.NOTHING}).items():
      same = [
        next((tables.by_column(e) for e in es if e.model == model), {})
        for es in found[row.name]
      ]
      numbers = [tables.mean_accuracy(same, c) for c in columns]
      table.append([row.name, label, _seeds(finished, of_row), *numbers])
  return table


def note(seeds: Sequence[int]) -> str:
  """What the numbers are."""
  named = ', '.join(map(str, seeds))
  if len(seeds) == 1:
    return f'Accuracies in %, seed {named}.'
  return (
    f'Accuracies in %: mean ± standard deviation over the seeds {named}, or '
    'over as many of them as are finished.'
  )


def _evaluations(
  root: str | os.PathLike[str],
  name: str,
  states: Mapping[tuple[int, str], str],
) -> list[list[ModelEvaluation]]:
  """For each seed that is finished, what was evaluated in a row."""
  return [
    _of_run(root, seed, name)
    for (seed, row), state in states.items()
    if row == name and state == FINISHED
  ]


def _of_run(
  root: str | os.PathLike[str], seed: int, name: str
) -> list[ModelEvaluation]:
  """What was evaluated in a row with a seed."""
  place = pathlib.Path(rows_lib.folder(str(root), seed, name))
  # Models before those that were fine-tuned.
  return sorted(
    results.read_evaluations(place), key=lambda e: (bool(e.base), e.order)
  )


def _as_run(
  root: str | os.PathLike[str], every: Sequence[ModelEvaluation]
) -> results.Run:
  """All models as if one run had evaluated them: they share columns."""
  return results.Run(pathlib.Path(root), tuple(every))


def _seeds(finished: int, states: Mapping[int, str]) -> str:
  if finished == len(states):
    return f'{finished}'
  others = dict.fromkeys(t for t in states.values() if t != FINISHED)
  return f'{finished} of {len(states)} ({"; ".join(others)})'

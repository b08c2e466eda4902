"""The index of a sweep: all runs, and the paper's tables beside ours."""

import dataclasses
import pathlib
from typing import Any
from urllib.parse import quote

from absl import logging

from rnascl_jax.reporting import html, paper, tables
from rnascl_jax.reporting.html import pictures, scores, template
from rnascl_jax.reporting.html.scores import Cell, Table, table
from rnascl_jax.reporting.paper import comparison, notes, sweep_runs
from rnascl_jax.reporting.paper.sweep_runs import SweepRuns
from rnascl_jax.runtime import files, lock

# What a sweep leaves in the folder of a row that is finished.
_MARKER = 'sweep.json'


def write(root: pathlib.Path) -> pathlib.Path:
  """Writes `index.html`, and `report.html` of every run that has none.

  Args:
    root: folder of a sweep with at least one run.

  Returns:
    The path of index.html.

  Raises:
    ValueError: if the folder has no run.
    DiskError: a page cannot be written.
  """
  sweep = sweep_runs.load(root)
  for runs in sweep.runs.values():
    for run in runs.values():
      if run.evaluations and not (run.workdir / 'report.html').exists():
        try:
          html.write(run.workdir)
        except lock.HeldError:
          continue  # It is under way: its end writes the page.
        except (OSError, ValueError) as error:
          logging.warning('%s has no page: %s', run.workdir, error)
  path = sweep.root / 'index.html'
  files.write_atomically(path, page(sweep))
  return path


def page(sweep: SweepRuns, *, is_live: bool = False) -> str:
  """Makes the index; a live one draws no figures, which take seconds."""
  printed = _printed(sweep, draws=not is_live)
  runs = [run for of_row in sweep.runs.values() for run in of_row.values()]
  finished = sum((run.workdir / _MARKER).exists() for run in runs)
  contents = [('runs', 'Runs')]
  contents += [
    (f'table-{index}', filled['name'])
    for index, filled in enumerate(printed['tables'])
  ]
  contents += [('figures', 'Figures')] * bool(printed['figures'])
  return template.render(
    'index.html',
    f'Sweep {sweep.root.name}',
    f'{len(runs)} runs, {finished} of them finished',
    contents,
    is_live=is_live,
    runs=_runs(sweep, is_live=is_live),
    how=comparison.HOW,
    **printed,
  )


def _runs(sweep: SweepRuns, *, is_live: bool) -> Table:
  """A row for each model of each run; the first cell leads to its report."""
  runs = [
    (row, seed, run)
    for row, of_row in sweep.runs.items()
    for seed, run in sorted(of_row.items())
  ]
  every = tuple(e for _, _, run in runs for e in run.evaluations)
  columns: dict[tables.AttackColumn, str] = {}
  if runs:
    joined = dataclasses.replace(runs[0][2], evaluations=every)
    columns = tables.columns(joined)
  rows = []
  for row, seed, run in runs:
    state = 'finished' if (run.workdir / _MARKER).exists() else 'not finished'
    has_page = is_live or (run.workdir / 'report.html').exists()
    link = quote(f'seed{seed}/{row}/report.html') if has_page else ''
    for e in run.evaluations or (None,):
      reached = tables.by_column(e) if e else {}
      label = e.label if e else tables.NOTHING
      words = [Cell(row, link=link), *map(Cell, (f'{seed}', label, state))]
      numbers = [
        Cell(
          tables.mean_accuracy([reached], column),
          scores.interval(reached.get(column)),
        )
        for column in columns
      ]
      sizes = [tables.count(e.parameters if e else None)]
      sizes.append(tables.count(e.macs if e else None))
      rows.append([*words, *numbers, *map(Cell, sizes)])
  names = ['Row', 'Seed', 'Model', 'State']
  headings = [*names, *columns.values(), 'Params', 'MACs']
  return Table(headings, rows, len(names))


def _printed(sweep: SweepRuns, *, draws: bool) -> dict[str, Any]:
  """The paper's tables and figures of which something was run."""
  try:
    whole = paper.collect(sweep, draws=draws)
  except ValueError as error:
    return {'tables': [], 'figures': [], 'refused': f'{error}'}
  filled_tables = []
  for filled in whole.run:
    labels = len(filled.table.headings)
    differences = comparison.difference_cells(filled)
    filled_tables.append(
      {
        'name': filled.table.name,
        'title': filled.table.title,
        'warning': filled.table.warning,
        'cells': table(comparison.cells(filled), labels, is_sortable=False),
        'notes': notes.notes(filled),
        'differences': table(differences, labels, is_sortable=False)
        if differences
        else None,
        'commands': '\n'.join(notes.commands(filled)),
      }
    )
  figures = [
    (figure.name, picture.caption, pictures.figure(picture.figure))
    for figure in whole.figures
    if (picture := figure.picture) is not None
  ]
  return {'tables': filled_tables, 'figures': figures, 'refused': ''}

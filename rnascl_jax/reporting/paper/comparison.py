"""A table filled from a sweep: our numbers beside the printed ones.

Below it stands what a term gives: differences of two rows, seed by seed. Rows
of one seed share their teacher, their data and its order, so that their
difference varies less than either: a mean over few seeds is judged by it.
"""

import decimal
import re
from typing import NamedTuple

from rnascl_jax.reporting import tables
from rnascl_jax.reporting.paper import measures
from rnascl_jax.reporting.paper.definition import Column, Line, Table
from rnascl_jax.reporting.paper.sweep_runs import (
  EvaluatedModel,
  Models,
  SweepRuns,
)

HOW = (
  'Differences in points, first row minus second, seed by seed: mean ± '
  'standard deviation, and in how many of the seeds that have both rows it is '
  'positive.'
)
_CITATION = re.compile(r' \([^()]* et al\.[^()]*\)')
# At this one no line is broken.
_HYPHEN = '\u2011'


# A row of a table, and what a sweep has of it.
FilledRow = tuple[Line, Models]


class FilledTable(NamedTuple):
  """A table with the results of a sweep for each of its lines."""

  table: Table
  rows: tuple[FilledRow, ...]
  sweep: SweepRuns

  @property
  def is_empty(self) -> bool:
    """Whether nothing of it was run, but for what it shares with others."""
    return not any(
      models and line.source and self.table.needs in line.source.row
      for line, models in self.rows
    )

  @property
  def seeds(self) -> tuple[int, ...]:
    """Those of any of its rows, increasing."""
    return tuple(sorted({s for _, models in self.rows for s in models}))

  @property
  def missing(self) -> list[Line]:
    """Lines that could be run and were not."""
    return [line for line, models in self.rows if line.source and not models]

  @property
  def run(self) -> list[FilledRow]:
    """The rows of which a seed was run."""
    return [row for row in self.rows if row[1]]

  @property
  def evaluated(self) -> list[EvaluatedModel]:
    """All models of all rows."""
    return [model for _, models in self.rows for model in models.values()]


def fill(table: Table, sweep: SweepRuns) -> FilledTable:
  """Finds the results of all lines of a table.

  Raises:
    ValueError: if seeds of a line were trained or attacked otherwise.
  """
  rows = [(line, sweep.models(line.source)) for line in table.lines]
  return FilledTable(table, tuple(rows), sweep)


def cells(filled: FilledTable) -> list[list[str]]:
  """Headings, then for each line its labels, measures, and seeds.

  A measure is ours, and the paper's where it has the table.
  """
  table = filled.table
  heads = [*table.headings]
  for column in table.columns:
    if not table.is_printed:
      heads.append(column.heading)
      continue
    heads.append(f'{column.heading} (ours)')
    heads += [f'{column.heading} ({table.paper})'] * column.printed
  rows = [[*heads, 'Seeds']]
  for line, models in filled.rows:
    printed = iter(line.printed)
    texts = [*line.labels]
    for column in table.columns:
      texts.append(_ours(line, models, column))
      if table.is_printed and column.printed:
        texts.append(next(printed))
    rows.append([*texts, _seeds(filled, line, models)])
  return rows


def _ours(line: Line, models: Models, column: Column) -> str:
  """Our number; without one a dash in a row that could be run, else nothing."""
  nothing = tables.NOTHING if line.source else ''
  if column.key == 'devices':
    return ', '.join(measures.devices(models)) or nothing
  values = measures.values(models, column.key)
  if not values:
    return nothing
  is_accuracy = column.is_accuracy
  decimals = measures.decimals(models, column.key) if is_accuracy else None
  text = measures.text(values, decimals)
  if len(values) < len(models):
    text += f' ({len(values)} of {len(models)} seeds)'
  return text


def _seeds(filled: FilledTable, line: Line, models: Models) -> str:
  """'3', '2 of 3', 'not run', 'paper only'."""
  if line.source is None:
    return 'paper only'
  if not models:
    return 'not run'
  count, of_any_row = len(models), len(filled.seeds)
  return f'{count}' if count == of_any_row else f'{count} of {of_any_row}'


def difference_cells(filled: FilledTable) -> list[list[str]]:
  """Headings, then a row for each pair of which a seed has both.

  A row has for each accuracy the difference, in how many seeds it is positive,
  and that of the paper's numbers. Where no seed has both of a pair, there are
  neither rows nor headings.
  """
  table = filled.table
  heads = [*table.headings[:-1], 'First minus second']
  for column in table.accuracies:
    heads += [f'{column.heading} (ours)', f'{column.heading} (positive)']
    heads += [f'{column.heading} ({table.paper})'] * table.is_printed
  of_line = dict(filled.rows)
  rows = []
  for pair in table.pairs:
    differences = []
    for column in table.accuracies:
      left, right = (measures.values(of_line[x], column.key) for x in pair)
      differences.append([left[s] - right[s] for s in left if s in right])
    if not any(differences):
      continue
    # Rows of a pair differ in their last label only.
    names = [line.labels[-1] for line in pair]
    names = [f'({name})' if ' + ' in name else name for name in names]
    texts = [*pair[0].labels[:-1], ' − '.join(names)]
    for place, points in enumerate(differences):
      key = table.accuracies[place].key
      decimals = measures.decimals(of_line[pair[0]], key)
      texts.append(tables.mean(points, decimals=decimals, sign='+'))
      positive = f'{sum(p > 0 for p in points)} of {len(points)}'
      texts.append(positive if points else tables.NOTHING)
      if table.is_printed:
        printed = [decimal.Decimal(line.printed[place]) for line in pair]
        texts.append(f'{printed[0] - printed[1]:+}')
    rows.append(texts)
  return [heads, *rows] if rows else []


def grouped(rows: list[list[str]], labels: int) -> str:
  """Aligned rows; each group of equal first labels is below that label.

  Of the columns, 1 or 2 in front are labels. Names of others lose their source,
  and are broken between words only.
  """
  heads, *others = rows
  table = [heads[labels - 1 :]]
  group = ''
  for row in others:
    if labels > 1 and row[0] != group:
      group = row[0]
      table.append([group, *[''] * (len(heads) - labels)])
    name = _CITATION.sub('', row[labels - 1])
    table.append(['  ' * (labels > 1) + name, *row[labels:]])
  for row in table[1:]:
    row[0] = row[0].replace('-', _HYPHEN)
  return tables.plain(table).replace(_HYPHEN, '-')

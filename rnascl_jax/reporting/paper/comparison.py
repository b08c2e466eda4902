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
from rnascl_jax.reporting.paper.sweep_runs import EvaluatedModel, SweepRuns

HOW = (
  'Differences in points, first row minus second, seed by seed: mean ± '
  'standard deviation, and in how many of the seeds that have both rows it is '
  'positive.'
)
_CITATION = re.compile(r' \([^()]* et al\.[^()]*\)')
# At this one no line is broken.
_HYPHEN = '\u2011'


class FilledRow(NamedTuple):
  """A row of a table with what a sweep has of it.

  Attributes:
    line: its definition.
    models: by seed; empty where nothing was run.
  """

  line: Line
  models: dict[int, EvaluatedModel]


class FilledTable(NamedTuple):
  """A table with the results of a sweep.

  Attributes:
    table: its definition.
    rows: one for each of its lines.
    sweep: the results.
  """

  table: Table
  rows: tuple[FilledRow, ...]
  sweep: SweepRuns

  @property
  def is_empty(self) -> bool:
    """Whether nothing of it was run, but for what it shares with others."""
    return not any(
      row.models and self.table.needs in row.line.source.row
      for row in self.rows
      if row.line.source is not None
    )

  @property
  def seeds(self) -> tuple[int, ...]:
    """Those of any of its rows, increasing."""
    return tuple(sorted({s for row in self.rows for s in row.models}))

  @property
  def missing(self) -> list[Line]:
    """Lines that could be run and were not."""
    return [r.line for r in self.rows if r.line.source and not r.models]

  @property
  def evaluated(self) -> list[EvaluatedModel]:
    """All models of all rows."""
    return [model for row in self.rows for model in row.models.values()]


def fill(table: Table, sweep: SweepRuns) -> FilledTable:
  """Finds the results of all lines of a table.

  Args:
    table: its definition.
    sweep: the results.

  Returns:
    The filled table.

  Raises:
    ValueError: if seeds of a line were trained or attacked otherwise.
  """
  rows = [FilledRow(line, sweep.models(line.source)) for line in table.lines]
  return FilledTable(table, tuple(rows), sweep)


def cells(filled: FilledTable) -> list[list[str]]:
  """Headings, then a row for each line.

  Args:
    filled: the table.

  Returns:
    Text: labels, for each measure ours and the paper's, and the seeds.
  """
  table = filled.table
  heads = [*table.headings]
  for column in table.columns:
    if not table.is_printed:
      heads.append(column.heading)
      continue
    heads.append(f'{column.heading} (ours)')
    heads += [f'{column.heading} ({table.paper})'] * column.printed
  return [[*heads, 'Seeds'], *(_row(filled, row) for row in filled.rows)]


def _row(filled: FilledTable, row: FilledRow) -> list[str]:
  printed = iter(row.line.printed)
  texts = [*row.line.labels]
  for column in filled.table.columns:
    texts.append(_ours(row, column))
    if filled.table.is_printed and column.printed:
      texts.append(next(printed))
  return [*texts, _seeds(filled, row)]


def _ours(row: FilledRow, column: Column) -> str:
  """Our number; without one a dash in a row that could be run, else nothing."""
  nothing = tables.NOTHING if row.line.source else ''
  if column.key == 'devices':
    return ', '.join(measures.devices(row.models)) or nothing
  values = measures.values(row.models, column.key)
  if not values:
    return nothing
  decimals = None
  if column.is_accuracy:
    decimals = measures.decimals(row.models, column.key)
  text = measures.text(values, decimals)
  if len(values) < len(row.models):
    text += f' ({len(values)} of {len(row.models)} seeds)'
  return text


def _seeds(filled: FilledTable, row: FilledRow) -> str:
  """'3', '2 of 3', 'not run', 'paper only'."""
  if row.line.source is None:
    return 'paper only'
  if not row.models:
    return 'not run'
  count, of_any_row = len(row.models), len(filled.seeds)
  return f'{count}' if count == of_any_row else f'{count} of {of_any_row}'


def difference_cells(filled: FilledTable) -> list[list[str]]:
  """Headings, then a row for each pair of which a seed has both.

  Args:
    filled: a table with pairs.

  Returns:
    Text: for each accuracy the difference, in how many seeds it is positive,
    and that of the paper's numbers; empty where no seed has both of a pair.
  """
  table = filled.table
  heads = [*table.headings[:-1], 'First minus second']
  for column in table.accuracies:
    heads += [f'{column.heading} (ours)', f'{column.heading} (positive)']
    heads += [f'{column.heading} ({table.paper})'] * table.is_printed
  by_line = {row.line: row for row in filled.rows}
  rows = []
  for pair in table.pairs:
    first, second = (by_line[line] for line in pair)
    by_column = [_paired(first, second, c) for c in table.accuracies]
    if any(by_column):
      rows.append(_difference_row(table, first, second, by_column))
  return [heads, *rows] if rows else []


def _paired(
  first: FilledRow, second: FilledRow, column: Column
) -> dict[int, float]:
  """First minus second in points, for the seeds that have both."""
  left = measures.values(first.models, column.key)
  right = measures.values(second.models, column.key)
  return {seed: left[seed] - right[seed] for seed in left if seed in right}


def _difference_row(
  table: Table,
  first: FilledRow,
  second: FilledRow,
  by_column: list[dict[int, float]],
) -> list[str]:
  # Rows of a pair differ in their last label only.
  *labels, name = first.line.labels
  other = second.line.labels[-1]
  texts = [*labels, f'{_bracketed(name)} − {_bracketed(other)}']
  for place, column in enumerate(table.accuracies):
    points = list(by_column[place].values())
    if points:
      decimals = measures.decimals(first.models, column.key)
      texts.append(tables.mean(points, decimals=decimals, sign='+'))
      texts.append(f'{sum(p > 0 for p in points)} of {len(points)}')
    else:
      texts += [tables.NOTHING, tables.NOTHING]
    if table.is_printed:
      numbers = [row.line.printed[place] for row in (first, second)]
      left, right = map(decimal.Decimal, numbers)
      texts.append(f'{left - right:+}')
  return texts


def _bracketed(label: str) -> str:
  return f'({label})' if ' + ' in label else label


def grouped(rows: list[list[str]], labels: int) -> str:
  """Aligned rows; each group of equal first labels is below that label.

  Args:
    rows: headings, then text; names of others lose their source.
    labels: how many columns in front are labels, 1 or 2.

  Returns:
    Lines without a trailing newline; names are broken between words only.
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

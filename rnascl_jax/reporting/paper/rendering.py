"""A table as text: our numbers beside the printed ones, for every measure."""

import re
from typing import NamedTuple

from rnascl_jax.reporting import tables
from rnascl_jax.reporting.paper import measures
from rnascl_jax.reporting.paper.definition import Column, Line, Source, Table
from rnascl_jax.reporting.paper.sweep_results import Evaluated, Sweep

NOT_RUN = 'not run'
PAPER_ONLY = 'paper only'
_DEVICES = 'devices'
_CITATION = re.compile(r' \([^()]* et al\.[^()]*\)')
# At this one no line is broken.
_HYPHEN = '\u2011'


class Row(NamedTuple):
  """A line of a table with what a sweep has of it.

  Attributes:
    line: its definition.
    models: by seed; empty where nothing was run.
  """

  line: Line
  models: dict[int, Evaluated]


class Filled(NamedTuple):
  """A table with the results of a sweep.

  Attributes:
    table: its definition.
    rows: of all of its lines.
    sweep: the results.
  """

  table: Table
  rows: tuple[Row, ...]
  sweep: Sweep

  @property
  def is_empty(self) -> bool:
    """Whether nothing of it was run, but for what it shares with others."""
    return not any(
      row.models
      and row.line.source is not None
      and row.line.source.variant.startswith(self.table.needs)
      for row in self.rows
    )

  @property
  def seeds(self) -> tuple[int, ...]:
    """Of any of its rows, increasing."""
    return tuple(sorted({s for row in self.rows for s in row.models}))

  @property
  def missing(self) -> tuple[Line, ...]:
    """Lines that could be run and were not."""
    return tuple(
      row.line
      for row in self.rows
      if row.line.source is not None and not row.models
    )

  @property
  def evaluated(self) -> list[Evaluated]:
    """All models of all rows."""
    return [e for row in self.rows for e in row.models.values()]

  def models(self, source: Source) -> dict[int, Evaluated]:
    """Of the row of a source, which the table must have."""
    for row in self.rows:
      if row.line.source == source:
        return row.models
    raise KeyError(source)


def fill(table: Table, sweep: Sweep) -> Filled:
  """Finds the results of all lines of a table.

  Args:
    table: its definition.
    sweep: the results.

  Returns:
    The filled table.

  Raises:
    ValueError: if seeds of a line were trained or attacked otherwise.
  """
  rows = tuple(
    Row(line, {} if line.source is None else sweep.models(line.source))
    for line in table.lines
  )
  return Filled(table, rows, sweep)


def cells(filled: Filled) -> list[list[str]]:
  """Headings, then a row for each line.

  Args:
    filled: the table.

  Returns:
    Text: labels, for each measure ours and the paper's, and the seeds.
  """
  table = filled.table
  heads = [*table.headings]
  for column in table.columns:
    heads += _headings(table, column)
  return [[*heads, 'Seeds'], *(_row(filled, row) for row in filled.rows)]


def _headings(table: Table, column: Column) -> list[str]:
  if not table.is_printed:
    return [column.heading]
  ours = f'{column.heading} (ours)'
  printed = f'{column.heading} ({table.paper})'
  return [ours, printed] if column.printed else [ours]


def _row(filled: Filled, row: Row) -> list[str]:
  printed = iter(row.line.printed)
  found = [*row.line.labels]
  for column in filled.table.columns:
    found.append(ours(row, column))
    if filled.table.is_printed and column.printed:
      found.append(next(printed))
  return [*found, seeds_text(filled, row)]


def ours(row: Row, column: Column) -> str:
  """Our number of a measure; a dash where there is none."""
  if column.key == _DEVICES:
    kinds = [
      kind
      for evaluated in row.models.values()
      for kind in measures.devices(*evaluated)
    ]
    return ', '.join(dict.fromkeys(kinds)) or _nothing(row)
  found = measures.summary(row.models, column.key)
  if found is None:
    return _nothing(row)
  decimals = None
  if column.is_accuracy:
    decimals = measures.decimals(row.models, column.key)
  text = measures.text(found, decimals)
  if len(found.values) < len(row.models):
    text += f' ({len(found.values)} of {len(row.models)} seeds)'
  return text


def _nothing(row: Row) -> str:
  """A dash in a row that could be run, nothing in one of others."""
  return '' if row.line.source is None else tables.NOTHING


def seeds_text(filled: Filled, row: Row) -> str:
  """'3', '2 of 3', 'not run', 'paper only'."""
  if row.line.source is None:
    return PAPER_ONLY
  if not row.models:
    return NOT_RUN
  count, all_of_them = len(row.models), len(filled.seeds)
  return f'{count}' if count == all_of_them else f'{count} of {all_of_them}'


def markdown(filled: Filled) -> str:
  """The rows as a Markdown table."""
  return tables.markdown(cells(filled), left=len(filled.table.headings))


def plain(filled: Filled) -> str:
  """The rows for a console; the first of two labels heads a group."""
  return grouped(cells(filled), len(filled.table.headings))


def grouped(rows: list[list[str]], labels: int) -> str:
  """Aligned rows, each group of equal first labels below that label.

  Args:
    rows: headings, then text; names of others without their source.
    labels: how many columns in front are labels, 1 or 2.

  Returns:
    Lines without a trailing newline.
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
  return _unbroken(table)


def _unbroken(rows: list[list[str]]) -> str:
  """Aligned rows whose names are broken between words only."""
  for row in rows[1:]:
    row[0] = row[0].replace('-', _HYPHEN)
  return tables.plain(rows).replace(_HYPHEN, '-')

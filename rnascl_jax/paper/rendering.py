"""A table as text: our numbers beside the printed ones, for every measure."""

from typing import NamedTuple

from rnascl_jax.paper import measures
from rnascl_jax.paper.definition import Column, Line, Source, Table
from rnascl_jax.paper.sweep_results import Evaluated, Sweep
from rnascl_jax.report import tables

NOT_RUN = 'not run'
PAPER_ONLY = 'paper only'
_DEVICES = 'devices'


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
    """Whether nothing of it was run."""
    return not any(row.models for row in self.rows)

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
  return [ours, f'{column.heading} (paper)'] if column.printed else [ours]


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
    return ', '.join(dict.fromkeys(kinds)) or tables.NOTHING
  found = measures.summary(row.models, column.key)
  if found is None:
    return tables.NOTHING if row.line.source is not None else ''
  decimals = measures.decimals(row.models) if _is_accuracy(column) else None
  text = measures.text(found, decimals)
  if len(found.values) < len(row.models):
    text += f' ({len(found.values)} of {len(row.models)} seeds)'
  return text


def _is_accuracy(column: Column) -> bool:
  return column.key not in ('parameters', 'macs', 'gigamacs', 'hours')


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
  """The rows for a console; the labels of a row are one."""
  return tables.plain(
    [
      [': '.join(row[:labels]), *row[labels:]]
      for labels in [len(filled.table.headings)]
      for row in cells(filled)
    ]
  )

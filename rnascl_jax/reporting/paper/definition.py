"""What a table of the paper is: columns, and rows with the printed numbers.

`cifar10.json` holds all tables that the paper prints, those of ImageNet too,
and others that it does not print: the numbers of Fig. 3 and studies of ours.
`digits.json` holds those that anyone can make on a CPU, with rows of
handwritten digits beside the paper's numbers of CIFAR-10. Numbers are exactly
as printed: Tables 8 and 9 have 90.64 where Tables 1, 7 and 10 have 90.62.

A row that this library can make names the place of its own numbers, 'row/model'
for the folder `ROOT/seed<N>/<row>/` of a sweep and a model in it. All other
rows are the paper's alone.

Example:
  >>> from rnascl_jax.reporting.paper import definition
  >>> line = definition.TABLES['cifar10']['7'].lines[5]
  >>> line.labels, line.printed
  (('With adversarial training', 'CE + KL'), ('85.07', '41.63'))
  >>> line.source
  RowSource(row='s7_wrn34_ce_kl', model='ce_kl_eq6')
  >>> [definition.TABLES['digits'][key].name for key in ('7', 'reduction')]
  ['Table 7 on digits', 'The factor of eq. (1) on digits']
"""

import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

# Measures that are no accuracies.
_SIZES = ('parameters', 'kiloparameters', 'macs', 'gigamacs')
# Of a search: mean filters of a stage, and blocks with few filters.
WIDTHS = ('stage1', 'stage2', 'stage3', 'narrow')
_OTHERS = (*_SIZES, *WIDTHS, 'hours', 'devices')
# A number, with a star where the paper calls it approximate, or a dash.
_PRINTED = re.compile(r'\d+(\.\d+)?\*?|[—–]')


class RowSource(NamedTuple):
  """Where numbers of ours come from."""

  row: str  # A row of the sweep, which is a folder in that of a seed.
  model: str  # Key of the model in that run.


class Column(NamedTuple):
  """One measure of all rows."""

  key: str  # 'clean', an attack's key, or one of `_OTHERS`.
  heading: str  # As the paper has it.
  printed: bool = True  # Whether the paper has it at all.

  @property
  def is_accuracy(self) -> bool:
    """Whether it is one, in %, with or without an attack."""
    return self.key not in _OTHERS


class Line(NamedTuple):
  """One row.

  Attributes:
    labels: one for each of the table's label columns.
    printed: for each column that the paper has, exactly what it prints; empty
      for a row that the paper does not have.
    source: the place of our numbers, None where there can be none.
  """

  labels: tuple[str, ...]
  printed: tuple[str, ...] = ()
  source: RowSource | None = None


class Table(NamedTuple):
  """One table.

  Attributes:
    key: how a command names it: '7', 'reduction'.
    title: 'Table 7' and what it shows.
    headings: those of the label columns.
    pairs: two rows whose difference, first minus second, says something.
    notes: what the paper says below it, and what is to be said of it here.
    warning: what stands above it, '' for nothing.
    paper: what the columns of printed numbers are called.
    radius_255: the radius of the paper's attacks, in 1/255.
    needs: what a row has in its name that is the table's own; '' where the
      table shares no row with others.
  """

  key: str
  title: str
  headings: tuple[str, ...]
  columns: tuple[Column, ...]
  lines: tuple[Line, ...]
  pairs: tuple[tuple[Line, Line], ...] = ()
  notes: tuple[str, ...] = ()
  warning: str = ''
  paper: str = 'paper'
  radius_255: float = 8.0
  needs: str = ''

  @property
  def accuracies(self) -> tuple[Column, ...]:
    """Columns that are accuracies."""
    return tuple(column for column in self.columns if column.is_accuracy)

  @property
  def sources(self) -> dict[RowSource, Line]:
    """The rows that have a source, by it, in order."""
    return {line.source: line for line in self.lines if line.source}

  @property
  def name(self) -> str:
    """A short name: 'Table 7', 'Table 7 on digits'."""
    name = re.sub(r' \([^)]*\)$', '', self.title.split(':')[0])
    on_digits = 'on digits' in self.title and 'on digits' not in name
    return name + ' on digits' * on_digits

  @property
  def is_printed(self) -> bool:
    """Whether the paper has the table."""
    return any(line.printed for line in self.lines)


def read(
  saved: Sequence[Mapping[str, Any]], shown: Mapping[str, Table]
) -> dict[str, Table]:
  """Makes tables, by their keys, from the content of a file, and checks them.

  Args:
    saved: the tables in order, with the fields of `Table`. A row of `rows` has
      `labels`, and optionally `ours` ('row/model'), and either `printed`
      (numbers with blanks between them) or `printed_of`. `pairs` has the first
      of two sources, and a list of all that are subtracted from it.
    shown: tables by key; `printed_of` is the source of a row in that of the
      same key, whose printed numbers a row shows.

  Raises:
    ValueError: if a field is missing or unknown, a row has not one label for
      each heading or one number for each column that is printed, two rows have
      one source, or a pair names no rows that differ in their last label only.
  """
  tables: dict[str, Table] = {}
  for fields in saved:
    try:
      table = _table(shown, **fields)
      if table.key in tables:
        raise ValueError('the key is that of another table')
    except (KeyError, TypeError, ValueError) as error:
      name = fields.get('title')
      raise ValueError(f'{name!r} is no table: {error!r}.') from error
    tables[table.key] = table
  return tables


def _table(
  shown: Mapping[str, Table],
  *,
  rows: Sequence[Mapping[str, Any]],
  columns: Sequence[Sequence],
  pairs: Mapping[str, Sequence[str]] | None = None,
  headings: Sequence[str],
  notes: Sequence[str] = (),
  **others: Any,
) -> Table:
  table = Table(
    headings=tuple(headings),
    columns=tuple(Column(*column) for column in columns),
    lines=tuple(_line(shown.get(others['key']), **row) for row in rows),
    notes=tuple(notes),
    **others,
  )
  count = sum(column.printed for column in table.columns) * table.is_printed
  for line in table.lines:
    if len(line.labels) != len(headings) or len(line.printed) != count:
      raise ValueError(f'{line} needs {len(headings)} labels, {count} numbers')
  if len(table.sources) < sum(line.source is not None for line in table.lines):
    raise ValueError('two rows have one source')
  lines = table.sources
  paired = tuple(
    (lines[_source(first)], lines[_source(second)])
    for first, seconds in (pairs or {}).items()
    for second in seconds
  )
  for first, second in paired:
    if first.labels[:-1] != second.labels[:-1] or first == second:
      raise ValueError(f'{first} and {second} must differ in the last label')
  return table._replace(pairs=paired)


def _line(
  shown: Table | None,
  *,
  labels: Sequence[str],
  ours: str = '',
  printed: str = '',
  printed_of: str = '',
) -> Line:
  numbers = tuple(printed.split())
  if printed_of:
    if shown is None or printed:
      raise ValueError(f'{labels} has numbers of its own, or of no table')
    numbers = shown.sources[_source(printed_of)].printed
  for number in numbers:
    if not _PRINTED.fullmatch(number):
      raise ValueError(f'{number!r} of {labels} is no number')
  return Line(tuple(labels), numbers, _source(ours) if ours else None)


def _source(text: str) -> RowSource:
  row, model = text.split('/')
  return RowSource(row, model)


# By data ('cifar10' stands for all that the paper has) and by key, in order.
TABLES: dict[str, dict[str, Table]] = {}
for _data in ('cifar10', 'digits'):
  _file = resources.files(__package__).joinpath(f'{_data}.json')
  _saved = json.loads(_file.read_text('utf-8'))
  TABLES[_data] = read(_saved, TABLES.get('cifar10', {}))

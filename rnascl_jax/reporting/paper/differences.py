"""What a term gives: differences of two rows, seed by seed.

Rows of one seed share their teacher, their data and its order, so that their
difference varies less than either: a mean over few seeds is judged by it.
"""

import decimal
import textwrap

from rnascl_jax.reporting import tables
from rnascl_jax.reporting.paper import measures, rendering
from rnascl_jax.reporting.paper.definition import Column, Line, Source
from rnascl_jax.reporting.paper.measures import Summary
from rnascl_jax.reporting.paper.rendering import Filled

_HOW = (
  'Differences in points, first row minus second, seed by seed: mean ± '
  'standard deviation, and in how many of the seeds that have both rows it is '
  'positive.'
)


def section(filled: Filled) -> str:
  """The differences as Markdown; '' where no seed has both rows of a pair."""
  rows = cells(filled)
  if len(rows) < 2:
    return ''
  return f'{_HOW}\n\n{tables.markdown(rows, left=_labels(filled))}'


def plain(filled: Filled, width: int) -> str:
  """The same for a console, text wrapped to a width."""
  rows = cells(filled)
  if len(rows) < 2:
    return ''
  table = rendering.grouped(rows, _labels(filled))
  return f'{textwrap.fill(_HOW, width)}\n\n{table}'


def _labels(filled: Filled) -> int:
  return len(filled.table.headings)


def cells(filled: Filled) -> list[list[str]]:
  """Headings, then a row for each pair of which a seed has both.

  Args:
    filled: a table with pairs.

  Returns:
    Text: for each measure the difference, in how many seeds it is positive, and
    that of the paper's numbers.
  """
  heads = [*filled.table.headings[:-1], 'First minus second']
  for column in filled.table.accuracies:
    heads += [f'{column.heading} (ours)', f'{column.heading} (positive)']
    heads += [
      f'{column.heading} ({filled.table.paper})'
    ] * filled.table.is_printed
  rows = [heads]
  for first, second in filled.table.pairs:
    if any(paired(filled, first, second, c) for c in filled.table.accuracies):
      rows.append(_row(filled, first, second))
  return rows


def paired(
  filled: Filled, first: Source, second: Source, column: Column
) -> Summary | None:
  """First minus second, for the seeds that have both.

  Args:
    filled: the table.
    first: source of a row.
    second: source of another one.
    column: an accuracy.

  Returns:
    Points by seed; None where no seed has both.
  """
  found = [
    measures.summary(filled.models(source), column.key)
    for source in (first, second)
  ]
  if found[0] is None or found[1] is None:
    return None
  values, other = found[0].values, found[1].values
  both = {seed: values[seed] - other[seed] for seed in values if seed in other}
  return Summary(both) if both else None


def _row(filled: Filled, first: Source, second: Source) -> list[str]:
  lines = filled.table.line(first), filled.table.line(second)
  # Rows of a pair differ in their last label only.
  row = [*lines[0].labels[:-1], f'{_name(lines[0])} − {_name(lines[1])}']
  for place, column in enumerate(filled.table.accuracies):
    found = paired(filled, first, second, column)
    if found is None:
      row += [tables.NOTHING, tables.NOTHING]
    else:
      decimals = measures.decimals(filled.models(first), column.key)
      positive = sum(value > 0 for value in found.values.values())
      row += [_signed(found, decimals), f'{positive} of {len(found.values)}']
    if filled.table.is_printed:
      row.append(_printed(lines[0].printed[place], lines[1].printed[place]))
  return row


def _signed(found: Summary, decimals: int) -> str:
  text = f'{found.mean:+z,.{decimals}f}'
  if found.deviation is not None:
    text += f' ± {found.deviation:,.{decimals}f}'
  return text


def _printed(first: str, second: str) -> str:
  """The difference of two printed numbers, with their decimals."""
  return f'{decimal.Decimal(first) - decimal.Decimal(second):+}'


def _name(line: Line) -> str:
  label = line.labels[-1]
  return f'({label})' if ' + ' in label else label

"""What a table of the paper is: columns, and rows with the printed numbers.

A row that this library can make names the place of its own numbers: a row of a
sweep, `ROOT/seed<N>/<row>/`, and a model in it. All other rows are the paper's
alone.

Example:
  >>> from rnascl_jax.reporting.paper import definition
  >>> source = definition.Source('s7', 'wrn34', 'ce_kl', 'ce_kl_eq6')
  >>> source.row
  's7_wrn34_ce_kl'
  >>> definition.Source('', 'wrn34', '', 'teacher').row
  'teacher_wrn34'
"""

from typing import NamedTuple


class Source(NamedTuple):
  """Where numbers of ours come from.

  Attributes:
    space: of the search, 's7'; '' for a teacher by itself.
    teacher: 'wrn34'; '' for none.
    variant: what else the name of the row ends in, 'ce_kl'; '' for nothing.
    model: key of the model in that run.
  """

  space: str
  teacher: str
  variant: str
  model: str

  @property
  def row(self) -> str:
    """Name of the sweep's row, a folder in that of a seed."""
    parts = (self.space or 'teacher', self.teacher, self.variant)
    return '_'.join(part for part in parts if part)


# Measures that are no accuracies.
_OTHERS = (
  'parameters',
  'kiloparameters',
  'macs',
  'gigamacs',
  'hours',
  'devices',
)


class Column(NamedTuple):
  """One measure of all rows.

  Attributes:
    key: 'clean', an attack's key, 'parameters', 'kiloparameters', 'macs',
      'gigamacs', 'hours' or 'devices'.
    heading: as the paper has it.
    printed: whether the paper has it at all.
  """

  key: str
  heading: str
  printed: bool = True

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
    source: of our numbers, None where there can be none.
  """

  labels: tuple[str, ...]
  printed: tuple[str, ...] = ()
  source: Source | None = None


class Table(NamedTuple):
  """One table.

  Attributes:
    key: how a command names it: '7', 'gamma'.
    title: 'Table 7' and what it shows.
    headings: of the label columns.
    columns: measures, in order.
    lines: rows, in order.
    notes: what the paper says below it, and what is to be said of it here.
    radius_255: of the paper's attacks, in 1/255.
    pairs: sources whose difference, first minus second, says something.
    warning: what stands above it, '' for nothing.
    needs: how the variant of a row begins that is the table's own; '' where it
      shares none with others.
    paper: what the columns of printed numbers are called.
  """

  key: str
  title: str
  headings: tuple[str, ...]
  columns: tuple[Column, ...]
  lines: tuple[Line, ...]
  notes: tuple[str, ...] = ()
  radius_255: float = 8.0
  pairs: tuple[tuple[Source, Source], ...] = ()
  warning: str = ''
  needs: str = ''
  paper: str = 'paper'

  @property
  def accuracies(self) -> tuple[Column, ...]:
    """Columns that are accuracies."""
    return tuple(column for column in self.columns if column.is_accuracy)

  @property
  def sources(self) -> tuple[Source, ...]:
    """Of all rows that have one, in order."""
    return tuple(line.source for line in self.lines if line.source is not None)

  @property
  def name(self) -> str:
    """A short name: 'Table 7', 'Table 7 on digits'."""
    name = self.title.split(':')[0].split(' (')[0]
    on_digits = 'on digits' in self.title and 'on digits' not in name
    return name + ' on digits' * on_digits

  @property
  def is_printed(self) -> bool:
    """Whether the paper has the table."""
    return any(line.printed for line in self.lines)

  def line(self, source: Source) -> Line:
    """The first row of a source.

    Raises:
      KeyError: if the table has none.
    """
    for found in self.lines:
      if found.source == source:
        return found
    raise KeyError(source)


CLEAN = Column('clean', 'Clean')
PGD20 = Column('pgd20', 'PGD-20')
# Rows with a search of their own are not of one size.
SIZE = Column('parameters', 'Params (M)', printed=False)
SMALL_SIZE = Column('kiloparameters', 'Params (k)', printed=False)


def line(
  labels: str | tuple[str, ...], printed: str, source: Source | None = None
) -> Line:
  """A row from its printed numbers, with blanks between them."""
  labels = (labels,) if isinstance(labels, str) else labels
  return Line(labels, tuple(printed.split()), source)

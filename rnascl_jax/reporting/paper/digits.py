"""The same tables on handwritten digits, which anyone can make on a CPU.

Our rows are of digits; beside them stand the paper's numbers of the same row in
one of its spaces. They are other data: nothing but the order of rows compares.

Example:
  >>> from rnascl_jax.reporting.paper import digits
  >>> [table.key for table in digits.TABLES]
  ['4', '7', '8', '9', '10', '11', 'fig3', 'gamma']
  >>> digits.TABLES[1].lines[1].source.row
  'digits_small_ce_kl'
"""

from rnascl_jax.reporting.paper import ablations, studies, teachers
from rnascl_jax.reporting.paper.definition import (
  SIZE,
  SMALL_SIZE,
  Column,
  Line,
  Source,
  Table,
)

# The paper's space whose rows stand beside ours, where it is not S3.
_SPACES = {'7': 's7'}
_TEACHERS = {
  'wrn34': 'small',
  'vulnerable_resnet50': 'vulnerable_small',
  '': '',
}
_LABELS = {
  'RNAS-CL-S3': 'RNAS-CL',
  'S3': 'digits',
  'Standard-S3': 'Standard',
  'RNAS-CL-S3-WRT-34': 'RNAS-CL, robust teacher',
  'RNAS-CL-S3-R50': 'RNAS-CL, vulnerable teacher',
  'WRT-34 (robust teacher)': 'Robust teacher',
  'ResNet-50 (vulnerable teacher)': 'Vulnerable teacher',
}
_WARNING = (
  '**Other data: ours are handwritten digits of 8×8 pixels, a small student '
  'and a small teacher; {paper}. The numbers do not compare in size. What may '
  'be compared is which row is above which, and only where the differences '
  'below are larger than their spread.**'
)


def table(printed: Table) -> Table:
  """A table of CIFAR-10 on digits.

  Args:
    printed: with rows of WRT-34, or of the vulnerable teacher.

  Returns:
    The rows of one space whose teacher has a counterpart on digits.
  """
  space = _SPACES.get(printed.key, 's3')
  lines = tuple(
    _line(line, source)
    for line in printed.lines
    if (source := _source(line.source, space)) is not None
  )
  pairs = tuple(
    (first, second)
    for pair in printed.pairs
    if (first := _source(pair[0], space)) is not None
    and (second := _source(pair[1], space)) is not None
  )
  paper = "the paper's columns are its numbers of CIFAR-10, of the same row in "
  paper += f'space {space.upper()} with its teacher (WRT-34; vulnerable: '
  paper += 'ResNet-50)'
  if not printed.is_printed:
    paper = 'the paper shows CIFAR-10 in Fig. 3'
  return printed._replace(
    title=printed.title.replace('on CIFAR-10', 'on digits'),
    columns=_columns(printed),
    lines=lines,
    pairs=pairs,
    notes=_notes(printed),
    warning=_WARNING.format(paper=paper),
    paper='paper, CIFAR-10',
  )


def _columns(printed: Table) -> tuple[Column, ...]:
  """Sizes in thousands."""
  return tuple(SMALL_SIZE if c == SIZE else c for c in printed.columns)


def _notes(printed: Table) -> tuple[str, ...]:
  """Without what is said of other rows or of the paper's setting."""
  if printed.key == '7':
    return (
      'Each row is searched and trained with its own objective. ICC: '
      'intermediate cross-connections, the attention loss of eq. (1).',
    )
  if printed.key == '9':
    return ()
  return printed.notes[-1:] if printed.key == '8' else printed.notes


def _source(source: Source | None, space: str) -> Source | None:
  """Its counterpart; None where there is none."""
  if source is None or source.space not in (space, ''):
    return None
  if source.teacher not in _TEACHERS:
    return None
  return source._replace(
    space='digits' if source.space else '', teacher=_TEACHERS[source.teacher]
  )


def _line(line: Line, source: Source) -> Line:
  labels = tuple(_LABELS.get(label, label) for label in line.labels)
  return line._replace(labels=labels, source=source)


TABLE_7 = table(ablations.TABLE_7)
TABLES = (
  table(ablations.TABLE_4),
  TABLE_7,
  table(ablations.TABLE_8),
  table(ablations.TABLE_9),
  table(teachers.TABLE_10),
  table(teachers.TABLE_11),
  table(studies.FIGURE_3),
  studies.GAMMA_DIGITS._replace(columns=_columns(studies.GAMMA_DIGITS)),
)

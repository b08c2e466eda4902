"""Tables 10, 11, 12 and 15: who teaches.

Example:
  >>> from rnascl_jax.reporting.paper import teachers
  >>> teachers.TABLE_11.lines[0].source.row
  'teacher_vulnerable_resnet50'
"""

from rnascl_jax.reporting.paper.definition import (
  CLEAN,
  PGD20,
  Line,
  Source,
  Table,
)
from rnascl_jax.reporting.paper.definition import line as _line

_COLUMNS = (CLEAN, PGD20)
_SPACES = ('s3', 's5', 's7')


def _students(teacher: str, name: str, *printed: str) -> tuple[Line, ...]:
  """Rows of the students of S3, S5 and S7 that one teacher has."""
  return tuple(
    _line(
      f'RNAS-CL-{space.upper()}-{name}',
      numbers,
      Source(space, teacher, '', 'rnas_cl'),
    )
    for space, numbers in zip(_SPACES, printed, strict=True)
  )


def _teacher(name: str, teacher: str, printed: str) -> Line:
  return _line(name, printed, Source('', teacher, '', 'teacher'))


_OF_WRN34 = _students(
  'wrn34', 'WRT-34', '89.4 34.3', '90.4 35.59', '90.62 37.24'
)

TABLE_10 = Table(
  key='10',
  title='Table 10: robust teachers on CIFAR-10',
  headings=('Method',),
  columns=_COLUMNS,
  lines=(
    *(
      _line(f'Standard-{space.upper()}', printed, Source(space, '', 'ce', 'ce'))
      for space, printed in zip(
        _SPACES, ('89.92 17.69', '90.76 18.44', '90.98 19.3'), strict=True
      )
    ),
    *_OF_WRN34,
    *_students('resnet50', 'R50', '89.39 35.76', '90.53 37.32', '90.41 37.98'),
    *_students('resnet18', 'R18', '88.47 26.35', '88.77 25.49', '89.47 27.96'),
  ),
  notes=(
    '“Standard” is searched and trained by cross-entropy, without a teacher.',
  ),
  pairs=tuple(
    (Source(space, 'wrn34', '', 'rnas_cl'), Source(space, '', 'ce', 'ce'))
    for space in _SPACES
  ),
)

TABLE_11 = Table(
  key='11',
  title='Table 11: a vulnerable and a robust teacher on CIFAR-10',
  headings=('Model',),
  columns=_COLUMNS,
  lines=(
    _teacher(
      'ResNet-50 (vulnerable teacher)', 'vulnerable_resnet50', '93.67 18.5'
    ),
    *_students(
      'vulnerable_resnet50', 'R50', '90.33 17.68', '91.51 19.11', '92.39 20.2'
    ),
    _teacher('WRT-34 (robust teacher)', 'wrn34', '86.07 58.33'),
    *_OF_WRN34,
  ),
  pairs=tuple(
    (
      Source(space, 'wrn34', '', 'rnas_cl'),
      Source(space, 'vulnerable_resnet50', '', 'rnas_cl'),
    )
    for space in _SPACES
  ),
)

TABLE_12 = Table(
  key='12',
  title='Table 12: robust transformers as teachers on CIFAR-10',
  headings=('Model',),
  columns=_COLUMNS,
  lines=(
    _teacher('ViT', 'vit', '81.24 51.42'),
    *_students('vit', 'ViT', '88.1 33.39', '87.7 35.42', '87.0 34.3'),
    _teacher('DeiT Tiny', 'deit', '79.5 49.3'),
    *_students('deit', 'DeiT', '87.0 30.8', '87.6 31.5', '88.2 32.1'),
  ),
  notes=(
    'Mo et al., whose transformers the paper has, publish none for CIFAR-10: '
    'ours are trained as docs/teachers.md says, or what was imported.',
  ),
)

TABLE_15 = Table(
  key='15',
  title='Table 15: the robust teachers on CIFAR-10',
  headings=('Method',),
  columns=_COLUMNS,
  lines=(
    _teacher('WRT-34', 'wrn34', '86.07 58.33'),
    _teacher('ResNet 18', 'resnet18', '84.59 55.54'),
    _teacher('ResNet 50', 'resnet50', '87.03 49.25'),
  ),
  notes=(
    "The paper's 55.54 and 49.25 are what RobustBench lists for these networks "
    'under AutoAttack; ours are under PGD-20, as its heading says.',
  ),
)

TABLES = (TABLE_10, TABLE_11, TABLE_12, TABLE_15)

"""Tables 3 and 5: ImageNet and ImageNet-100.

Example:
  >>> from rnascl_jax.reporting.paper import imagenet
  >>> [table.radius_255 for table in imagenet.TABLES]
  [4.0, 8.0]
"""

from rnascl_jax.reporting.paper.definition import (
  CLEAN,
  PGD20,
  Column,
  Source,
  Table,
)
from rnascl_jax.reporting.paper.definition import line as _line

TABLE_3 = Table(
  key='3',
  title='Table 3: ImageNet',
  headings=('Method', 'Objective'),
  columns=(
    CLEAN,
    Column('pgd10', 'PGD-10'),
    Column('parameters', 'Params (M)'),
    Column('gigamacs', 'GFLOPs'),
  ),
  lines=(
    _line(
      ('ResNet-50-R (Huang et al., 2021)', 'FastAT'), '56.63 31.14 25.5 4*'
    ),
    _line(
      ('RobNet-large (Guo et al., 2020)', 'Free Training'),
      '61.26 37.17 12.76 –',
    ),
    _line(
      ('RNAS-CL-IL-WRT-50', 'FastAT'),
      '61.7 32.5 8.5 0.35',
      Source('il', 'wrn50', 'fast', 'rnas_cl'),
    ),
    _line(
      ('RNAS-CL-IL-WRT-50', 'FastAT + CAC'),
      '61.5 33.5 8.5 0.35',
      Source('il', 'wrn50', 'fast_cac', 'rnas_cl'),
    ),
  ),
  notes=(
    '*: approximate, says the paper. What it calls GFLOPs are 10⁹ '
    'multiply-accumulates.',
  ),
  radius_255=4.0,
)

# Teacher: its name in the paper, as trained, and after TRADES.
_STUDENTS = {
  'resnet18': ('R-18', '85.22 3.36 3.94 241.98', '78.94 28.06 3.94 241.98'),
  'resnet50': ('R-50', '85.98 8.3 3.96 244.76', '79.95 32.44 3.96 244.76'),
  'wrn50': ('WRT-50', '85.46 5.08 4.01 255.37', '79.42 29.02 4.01 255.37'),
}

TABLE_5 = Table(
  key='5',
  title='Table 5: efficient and robust methods on ImageNet-100',
  headings=('Method',),
  columns=(
    CLEAN,
    PGD20,
    Column('parameters', '# Params (M)'),
    Column('macs', 'MACs (M)'),
  ),
  lines=(
    _line(
      'Hydra (ResNet-18)—90% (Sehwag et al., 2020)', '59.96 29.79 1.1 1200'
    ),
    _line('LWM (ResNet-18)—90% (Han et al., 2015)', '59.02 27.67 1.1 1200'),
    *(
      _line(f'RNAS-CL-I-{name}', printed, Source('i', teacher, '', 'rnas_cl'))
      for teacher, (name, printed, _) in _STUDENTS.items()
    ),
    *(
      _line(
        f'RNAS-CL-I-{name} + TRADES',
        printed,
        Source('i', teacher, '', 'rnas_cl_trades'),
      )
      for teacher, (name, _, printed) in _STUDENTS.items()
    ),
  ),
  notes=(
    'The paper calls its teachers those of Engstrom et al., who publish a '
    'ResNet-50 only; ours are those of Salman et al.',
  ),
)

TABLES = (TABLE_3, TABLE_5)

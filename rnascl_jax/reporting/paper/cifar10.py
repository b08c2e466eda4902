"""Tables 1, 2 and 6: CIFAR-10, beside what others have published.

Numbers are the paper's, of its own rows and of others', exactly as printed; a
star stands behind those that it calls approximate.

Example:
  >>> from rnascl_jax.reporting.paper import cifar10
  >>> [len(table.lines) for table in cifar10.TABLES]
  [40, 7, 8]
"""

from rnascl_jax.reporting.paper.definition import (
  CLEAN,
  PGD20,
  Column,
  Line,
  Source,
  Table,
)
from rnascl_jax.reporting.paper.definition import line as _line

_SIZES = (Column('parameters', 'Params (M)'), Column('macs', 'MACs (M)'))

# Method, clean, FGSM, PGD-20, MI-FGSM, parameters, MACs.
_EFFICIENT = (
  ('DARTS (Liu et al., 2019)', '97.03 42.48 7.09 0.28 3.3 500*'),
  ('PC-DARTS (Xu et al., 2020)', '97.05 49.18 9.84 1.21 3.6 600*'),
  ('RACL (Dong et al., 2020)', '97.44 50.53 1.93 4.68 3.6 500*'),
  ('AmoebaNet (Real et al., 2019)', '97.39 44.79 0.25 0.80 3.2 500*'),
  ('NasNet (Zoph et al., 2018)', '97.37 47.53 0.42 1.01 3.8 600*'),
  ('MVV2-ARD (Goldblum et al., 2020)', '76.13 — 38.21 — 3.4 300'),
  ('E2RNAS-C16 (Yue et al., 2022)', '93.97 — 6.76 — 0.44 —'),
)
_ROBUST = (
  ('Hydra ResNet 18 (Sehwag et al., 2020)', '69 — 41.6 — 0.11 37.63'),
  ('Hydra ResNet 34 (Sehwag et al., 2020)', '71.8 — 44.4 — 0.21 75.43'),
  ('Hydra ResNet 50 (Sehwag et al., 2020)', '73.9 — 45.3 — 0.25 85.92'),
  ('ADV-ADMM ResNet 18 (Ye et al., 2019)', '58.7 — 36.1 — 0.11 37.63'),
  ('ADV-ADMM ResNet 34 (Ye et al., 2019)', '68.8 — 41.5 — 0.21 75.43'),
  ('ADV-ADMM ResNet 50 (Ye et al., 2019)', '69.1 — 42.2 — 0.25 85.92'),
  ('RobNet-Small (Guo et al., 2020)', '78.05 53.93 48.32 48.98 4.41 —'),
  ('RobNet-Medium (Guo et al., 2020)', '78.33 54.55 49.13 49.34 5.66 —'),
  ('RobNet-Large (Guo et al., 2020)', '78.57 54.98 49.44 49.92 6.89 —'),
  ('AmoebaNet (Real et al., 2019)', '83.41 56.40 39.47 47.60 3.2 500*'),
  ('NasNet (Zoph et al., 2018)', '83.66 55.67 48.02 53.05 3.8 600*'),
  ('DARTS (Liu et al., 2019)', '83.75 55.75 44.91 51.63 3.3 500*'),
  ('PC-DARTS (Xu et al., 2020)', '83.94 52.67 41.92 49.09 3.6 600*'),
  ('RACL (Dong et al., 2020)', '83.89 57.44 49.34 54.73 3.6 500*'),
  ('VGG-11-R (Huang et al., 2021)', '79.63 57.35 43.93 — 5.83 —'),
  ('DN-121-R (Huang et al., 2021)', '87.22 67.12 52.52 — 6 —'),
  ('DARTS-R (Huang et al., 2021)', '87.2 66.74 52.36 — 2.53 —'),
  ('MVV2-ARD (Goldblum et al., 2020)', '84.70 — 46.28 — 3.4 300'),
  ('MSRobNet-1000 (Ning et al., 2020)', '84.5 59.6 52.7 — 3.16 —'),
  ('MSRobNet-2000 (Ning et al., 2020)', '85.7 60.6 53.6 — 6.46 —'),
  ('S²8/255 (Xie et al., 2023)', '76.54 — 31.83 — 1.68 —'),
  ('AdvRush (Mok et al., 2021)', '87.30 60.87 53.07 — 4.2 659'),
)
_TRAINED = {
  's3': '89.4 44.95 34.3 38.92 0.11 6.64',
  's5': '90.4 46.72 35.59 40.57 0.21 11.02',
  's7': '90.62 48.93 37.24 42.27 0.32 15.58',
  'm': '92.46 50.51 39.84 44.54 3 326',
  'l': '92.6 52.37 41.9 46.66 11 1210',
}
_HARDENED = {
  's3': '83.11 50.67 43.41 43.98 0.11 6.64',
  's5': '84.81 51.99 45.34 46.3 0.21 11.02',
  's7': '85.06 49.11 43.88 45.53 0.32 15.58',
  'm': '87.29 59.71 51.76 53.43 3 326',
  'm2': '87.17 60.98 53.14 54.64 5.6 604',
  'l': '86.28 61.12 53.69 55.07 11 1210',
}
_UNDER_ENSEMBLES = {
  's3': '47.07 37.17',
  's5': '48.33 39.28',
  's7': '47.91 38.36',
  'm': '53.52 46.89',
  'l': '52.63 48.49',
}
WITHOUT = 'Without adversarial training'
WITH = 'With adversarial training'


def _student(space: str, model: str) -> Source:
  return Source(space, 'wrn34', '', model)


def _part(
  training: str, others: tuple, ours: dict[str, str], model: str
) -> tuple[Line, ...]:
  """Rows of Table 1 with or without adversarial training."""
  found = [_line((training, name), printed) for name, printed in others]
  found += [
    _line(
      (training, f'RNAS-CL-{space.upper()}-WRT-34'),
      printed,
      _student(space, model),
    )
    for space, printed in ours.items()
  ]
  return tuple(found)


TABLE_1 = Table(
  key='1',
  title='Table 1: efficient and robust methods on CIFAR-10',
  headings=('Training type', 'Method'),
  columns=(
    Column('clean', 'Clean Acc'),
    Column('fgsm', 'FGSM'),
    PGD20,
    Column('mi_fgsm', 'MI-FGSM'),
    *_SIZES,
  ),
  lines=(
    *_part(WITHOUT, _EFFICIENT, _TRAINED, 'rnas_cl'),
    *_part(WITH, _ROBUST, _HARDENED, 'rnas_cl_eq6'),
  ),
  notes=('*: approximate, says the paper. —: not reported.',),
)

TABLE_2 = Table(
  key='2',
  title='Table 2: CW∞ and AutoAttack on CIFAR-10',
  headings=('Method',),
  columns=(Column('cw20', 'CW∞'), Column('autoattack', 'AA')),
  lines=(
    _line('VGG-R (Huang et al., 2021)', '46.49 38.44'),
    _line('DN-121-R (Huang et al., 2021)', '53.07 47.75'),
    *(
      _line(
        f'RNAS-CL-{space.upper()}-WRT-34',
        printed,
        _student(space, 'rnas_cl_eq6'),
      )
      for space, printed in _UNDER_ENSEMBLES.items()
    ),
  ),
  notes=(
    'Ours are the models after eq. (6): of those before it, PGD-20 alone '
    "leaves less than the paper's AutoAttack does (Table 1).",
  ),
)

TABLE_6 = Table(
  key='6',
  title='Table 6: training time on CIFAR-10',
  headings=('Method',),
  columns=(
    CLEAN,
    PGD20,
    Column('parameters', '# Params (M)'),
    _SIZES[1],
    Column('hours', 'Training Time (h)'),
    Column('devices', 'Trained on', printed=False),
  ),
  lines=(
    _line('RoboNet-Small (Guo et al., 2020)', '78.05 48.32 4.4 1260 130'),
    _line('RACL (Dong et al., 2020)', '83.89 49.34 3.3 500 44'),
    _line('MSRobNet-1000 (Ning et al., 2020)', '84.5 52.7 3.16 1018 48.7'),
    _line('MVV2-ARD (Goldblum et al., 2020)', '84.7 46.28 3.4 300 41.1'),
    _line('DN-121-R (Huang et al., 2021)', '87.22 52.52 6 900 16.6'),
    _line('AdvRush (Mok et al., 2021)', '87.30 53.07 4.2 659 71.74'),
    _line(
      'RNAS-CL-M2-WRT-34',
      '87.17 53.14 5.6 604 22.5',
      _student('m2', 'rnas_cl_eq6'),
    ),
    _line(
      'RNAS-CL-L-WRT-34',
      '86.28 53.69 11 1210 28.7',
      _student('l', 'rnas_cl_eq6'),
    ),
  ),
  notes=(
    "The paper's hours are of a single Tesla V100 with 16 GB; ours are those "
    'of the device named, times the number of devices: search, training, and '
    'training with eq. (6), without the teacher and the evaluation.',
  ),
)

TABLES = (TABLE_1, TABLE_2, TABLE_6)

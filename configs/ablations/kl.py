"""KL's direction and temperature: a study that the paper does not have.

Eqs. (2) and (4) print KL(p, q) with p the student; where the authors' code has
a KL it is KL(teacher, student), and distillation commonly softens predictions
(Hinton et al., 2015). A student for both directions, for T = 1 and 4 (the
divergence is multiplied by T^2), without attention and with it, in the
architecture and by the tutors that RNAS-CL found:

| KL of            | T | CE + KL                 | CE + KL + ICC               |
| ---------------- | - | ----------------------- | --------------------------- |
| student, teacher | 1 | student_teacher_1: 31.6 | RNAS-CL, in its row: 38.4   |
| student, teacher | 4 | student_teacher_4: 55.2 | student_teacher_4_icc: 60.3 |
| teacher, student | 1 | teacher_student_1: 23.0 | teacher_student_1_icc: 35.5 |
| teacher, student | 4 | teacher_student_4: 55.6 | teacher_student_4_icc: 59.3 |

in %, on digits under PGD-20 at epsilon 0.1, means of seeds 0 to 5, two CPU
cores (docs/ablations.md); elsewhere not yet run. The sweep has rows with a
search of their own besides, which take the divergence in the search too:
`digits_small_kl_teacher_student_4` and so on.

  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=ablations/kl:data=digits
  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=ablations/kl:space=s3

By hand, with the architecture and the teacher of a run of
configs/ablations/terms.py:

  rnascl pipeline --workdir=DIR2 \
    --config=ablations/kl:data=digits \
    --config.search.architecture=DIR/architecture.json \
    --config.teacher.checkpoint=DIR/teacher

Hardware: one GPU; on digits minutes on a CPU.
"""

import itertools
from typing import Any

import ml_collections

from rnascl_jax import sweeps
from rnascl_jax.config import config_files, settings
from rnascl_jax.sweeps import table_rows as rows

terms = config_files.shipped('ablations/terms')

# Fields of the divergence; the first are those of RNAS-CL.
_DIVERGENCES: dict[str, dict[str, Any]] = {
  f'{direction}_{temperature}': {
    'kl_direction': direction,
    'kl_temperature': float(temperature),
  }
  for direction, temperature in itertools.product(
    ('student_teacher', 'teacher_student'), (1, 4)
  )
}
_RNAS_CL = 'student_teacher_1'


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
  """Makes a config of students that differ in their KL.

  Args:
    argument: `space=` and `teacher=` (of configs/ablations/teacher.py), `data=`
      (cifar10, digits), `smoke`, separated by commas.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  students = {}
  for name, fields in _DIVERGENCES.items():
    first, second = fields['kl_direction'].split('_')
    label = f'KL({first}, {second}), T = {fields["kl_temperature"]:g}'
    students[name] = settings.student_template(
      label=f'CE + {label}', gamma=0.0, **fields
    )
    if name != _RNAS_CL:
      students[f'{name}_icc'] = settings.student_template(
        label=f'CE + {label} + ICC', **fields
      )
  return terms.compare(argument, students)


def sweep(argument: str | None = None) -> list[sweeps.Row]:
  """Makes the rows of the study of KL.

  Args:
    argument: `data=` (cifar10, digits); `space=` (without it S3) and
      `teacher=`; `smoke`.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  anew = {
    f'kl_{name}': fields
    for name, fields in _DIVERGENCES.items()
    if name != _RNAS_CL
  }
  return rows.study(argument, 'kl', ('s3',), anew=lambda of: anew)

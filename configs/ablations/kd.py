"""Fig. 3: other ways to distil, in the architectures that RNAS-CL found.

The paper draws SP, VID, RKD, CRD and PKT against RNAS-CL, with the WRT-34
teacher and the architectures of S3, S5 and S7 (section 4.3), and prints no
numbers; in its text RKD comes near RNAS-CL in S3, and all others stay behind.
Here there are attention transfer (AT) and the KL of eq. (4) by itself besides:

| student | method                                  | digits      |
| ------- | --------------------------------------- | ----------- |
| sp      | similarity, Tung and Mori (2019)        | 97.6 / 39.2 |
| vid     | Ahn et al. (2019)                       | 97.3 / 17.3 |
| rkd     | Park et al. (2019)                      | 99.0 / 53.8 |
| crd     | Tian et al. (2020)                      | 98.6 / 49.6 |
| pkt     | Passalis and Tefas (2018)               | 98.1 / 38.0 |
| at      | Zagoruyko and Komodakis (2017)          | 89.5 / 13.0 |
| kd      | KL(student, teacher), no temperature    | 98.4 / 31.6 |
| RNAS-CL | in its own row                          | 98.2 / 38.5 |

On digits in %, clean and under PGD-20 at epsilon 0.1, means of seeds 0 to 5,
two CPU cores (docs/ablations.md); on CIFAR-10 not yet run.

All have the cross-entropy and the method with its published weight, and no
cross-connections. `kd` is what eq. (4) leaves of itself without them;
that of Hinton et al. has --config.students.kd.kl_direction=teacher_student and
--config.students.kd.kl_temperature=4, see configs/ablations/kl.py.

  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=ablations/kd
  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=ablations/kd:data=digits

search and train RNAS-CL first, unless ROOT has it. By hand, with the
architecture and the teacher of a run of configs/ablations/terms.py:

  rnascl pipeline --workdir=DIR2 \
    --config=ablations/kd:space=s5 \
    --config.search.architecture=DIR/architecture.json \
    --config.teacher.checkpoint=DIR/teacher

Hardware: one GPU; on digits minutes on a CPU.
"""

import ml_collections

from rnascl_jax import sweeps
from rnascl_jax.config import config_files, settings
from rnascl_jax.sweeps import table_rows as rows

terms = config_files.shipped('ablations/terms')

# Labels by the students' names, which but for 'kd' are those of their methods.
_METHODS = {
  'at': 'AT',
  'sp': 'SP',
  'vid': 'VID',
  'rkd': 'RKD',
  'crd': 'CRD',
  'pkt': 'PKT',
  'kd': 'KD',
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
  """Makes a config of students that differ in their method of distillation.

  Args:
    argument: `space=` and `teacher=` (of configs/ablations/teacher.py), `data=`
      (cifar10, digits), `smoke`, separated by commas.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  students = {
    name: settings.student_template(
      label=label, method='kl' if name == 'kd' else name, gamma=0.0
    )
    for name, label in _METHODS.items()
  }
  return terms.compare(argument, students)


def sweep(argument: str | None = None) -> list[sweeps.Row]:
  """Makes the rows of Fig. 3.

  Args:
    argument: `data=` (cifar10, digits); `space=` and `teacher=` in place of the
      paper's; `smoke`.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  return rows.study(argument, 'kd')

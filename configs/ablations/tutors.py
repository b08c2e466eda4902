"""Tutor controls: do the tutors matter that a search chooses?

A study that the paper does not have, and the authors' code asks for: it trains
with tutors that are drawn anew at every pass, as the searched ones are not
loaded there. The students of the first table are in the architecture that
RNAS-CL found, and differ in what their layers are compared with:

| student   | tutors                                          | digits |
| --------- | ----------------------------------------------- | ------ |
| RNAS-CL   | the searched ones, in its own row               | 38.4   |
| depth     | at the same relative depth                      | 34.8   |
| random    | a draw of the seed, for all of the training     | 31.5   |
| resampled | a draw at every step                            | 34.7   |
| uniform   | all teacher layers, with equal weights          | 32.1   |
| none      | no attention loss: CE + KL                      | 31.6   |

in % under PGD-20 at epsilon 0.1, means of seeds 0 to 5, two CPU cores
(docs/ablations.md); elsewhere not yet run.

Rows with a search of their own have the control in the search too, where it
takes the place of the tutor weights, so that only filters are searched:
`digits_small_tutors_depth` and so on.

  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=ablations/tutors:data=digits
  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=ablations/tutors:space=s3

By hand, with the architecture and the teacher of a run of
configs/ablations/terms.py, and with tutors of one's choice:

  rnascl pipeline --workdir=DIR2 \
    --config=ablations/tutors:data=digits \
    --config.search.architecture=DIR/architecture.json \
    --config.teacher.checkpoint=DIR/teacher \
    --config.students.random.tutors=layer3_0/conv2

Hardware: one GPU; on digits minutes on a CPU.
"""

import ml_collections

from rnascl_jax import sweeps
from rnascl_jax.config import config_files, settings
from rnascl_jax.sweeps import table_rows as rows

terms = config_files.shipped('ablations/terms')

_CONTROLS = {
  'depth': 'tutors by depth',
  'random': 'random tutors',
  'resampled': 'tutors drawn at every step',
  'uniform': 'all layers as tutors',
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
  """Makes a config of students that differ in their tutors.

  Args:
    argument: `space=` and `teacher=` (of configs/ablations/teacher.py), `data=`
      (cifar10, digits), `smoke`, separated by commas.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  students = {
    name: settings.student_template(label=f'RNAS-CL, {label}', tutors=name)
    for name, label in _CONTROLS.items()
  }
  students['none'] = settings.student_template(label='CE + KL', gamma=0.0)
  return terms.compare(argument, students)


def sweep(argument: str | None = None) -> list[sweeps.Row]:
  """Makes the rows of the study of tutors.

  Args:
    argument: `data=` (cifar10, digits); `space=` (without it S3) and
      `teacher=`; `smoke`.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  anew = {f'tutors_{name}': {'tutors': name} for name in _CONTROLS}
  return rows.study(argument, 'tutors', ('s3',), anew=lambda of: anew)

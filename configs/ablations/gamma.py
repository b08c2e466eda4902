"""The weight gamma of the attention loss: a study that the paper does not have.

Eq. (1) averages over student and over teacher layers, although the tutor
weights of a student layer sum to 1 already. So with the gamma of 1 that the
paper has, the term is at most sqrt(2) / n_t beside a cross-entropy that starts
at log(10). On digits, with 10 student and 7 teacher layers, gamma = 70 undoes
the average, and is what configs/digits.py has.

| objective             | 0    | 1    | 7    | 70   | 700  |
| --------------------- | ---- | ---- | ---- | ---- | ---- |
| CE + KL + gamma * ICC | 31.6 | 30.8 | 28.9 | 38.5 | 36.2 |
| CE + gamma * ICC      |      | 15.5 | 23.5 | 31.8 | 32.7 |

in %, on digits under PGD-20 at epsilon 0.1, means of seeds 0 to 5, two CPU
cores (docs/ablations.md); elsewhere not yet run. The students are gamma_0 to
gamma_700 and only_gamma_1 to only_gamma_700, in the architecture and by the
tutors that RNAS-CL found. The sweep has rows with a search of their own
besides: CE + KL for 0, and on digits `digits_small_gamma_1`, `_7` and `_700`,
where that of 70 is `digits_small`:

  python -m experiments.sweep --workdir=ROOT --seeds=0,1,2 \
    --config=configs/ablations/gamma.py:data=digits
  python -m experiments.sweep --workdir=ROOT --seeds=0,1,2 \
    --config=configs/ablations/gamma.py:space=s3

By hand, with the architecture and the teacher of a run of
configs/ablations/terms.py:

  python -m experiments.pipeline --workdir=DIR2 \
    --config=configs/ablations/gamma.py:data=digits \
    --config.search.architecture=DIR/architecture.json \
    --config.teacher.checkpoint=DIR/teacher
"""

import dataclasses

import ml_collections

from configs import rows
from configs.ablations import terms
from rnascl_jax import sweeps
from rnascl_jax.config import settings

_GAMMAS = (0, 1, 7, 70, 700)
# That of digits.py has a row already.
_SEARCHED = (1, 7, 700)


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
  """Makes a config of students that differ in gamma, with and without KL.

  Args:
    argument: `space=` and `teacher=` (of configs/ablations/teacher.py), `data=`
      (cifar10, digits), `smoke`, separated by commas.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  students = {
    f'gamma_{gamma}': settings.student_template(
      label=f'CE + KL + {gamma} ICC', gamma=float(gamma)
    )
    for gamma in _GAMMAS
  } | {
    f'only_gamma_{gamma}': settings.student_template(
      label=f'CE + {gamma} ICC', kl_weight=0.0, gamma=float(gamma)
    )
    for gamma in _GAMMAS[1:]
  }
  return terms.compare(argument, students)


def sweep(argument: str | None = None) -> list[sweeps.Row]:
  """Makes the rows of the study of gamma.

  Args:
    argument: `data=` (cifar10, digits); `space=` (without it S3) and
      `teacher=`; `smoke`.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  shared = rows.study(argument, 'gamma', ('s3',))
  (of,) = rows.combine(rows.parse(argument, *rows.ROBUST), ('s3',))
  gammas = _SEARCHED if of.data == 'digits' else ()
  searched = [_searched(of, gamma) for gamma in gammas]
  return [*shared, rows.student(of, 'ce_kl'), *searched]


def _searched(of: rows.Setting, gamma: int) -> sweeps.Row:
  """Makes the row of RNAS-CL with another gamma, in its search too."""
  row = rows.student(of, 'rnas_cl', fine_tuned=False)
  fields = 'search.gamma', 'students.rnas_cl.gamma'
  weights = dict.fromkeys(fields, float(gamma))
  return dataclasses.replace(
    row, name=f'{of.name}_gamma_{gamma}', changes={**row.changes, **weights}
  )

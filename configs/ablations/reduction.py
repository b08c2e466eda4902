"""The factor of eq. (1): a study of the attention loss that the paper lacks.

Eq. (1) averages over student and over teacher layers, although the tutor
weights of a student layer sum to 1 already. So with the gamma of 1 that the
paper has, the term is at most sqrt(2) / n_t beside a cross-entropy that starts
at log(10). The mean over student layers alone is n_t times that, and their sum,
which the authors' code has, n_s n_t times: 70 times on digits (10 student and 7
teacher layers), 868 times in S3 with WRT-34.

| objective     | none | literal | mean | sum  | 10 sum |
| ------------- | ---- | ------- | ---- | ---- | ------ |
| CE + KL + ICC | 31.6 | 30.1    | 28.8 | 38.4 | 36.7   |
| CE + ICC      |      | 15.7    | 24.2 | 33.0 | 31.6   |

in %, on digits under PGD-20 at epsilon 0.1, means of seeds 0 to 5, two CPU
cores (docs/ablations.md); elsewhere not yet run. The students, `none` to
`ten_sums` and `only_literal` to `only_ten_sums`, are in the architecture and by
the tutors that RNAS-CL found. The sweep has rows with a search of their own
besides: CE + KL for none, RNAS-CL for the sum, and on digits
`digits_small_literal`, `_mean` and `_ten_sums`:

  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=ablations/reduction:data=digits
  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=ablations/reduction:space=s3

By hand, with the architecture and the teacher of a run of
configs/ablations/terms.py:

  rnascl pipeline --workdir=DIR2 \
    --config=ablations/reduction:data=digits \
    --config.search.architecture=DIR/architecture.json \
    --config.teacher.checkpoint=DIR/teacher
"""

from typing import Any

import ml_collections

from rnascl_jax import sweeps
from rnascl_jax.config import config_files, settings
from rnascl_jax.sweeps import table_rows as rows

terms = config_files.shipped('ablations/terms')

# Labels, and fields of the attention loss.
_REDUCTIONS: dict[str, tuple[str, dict[str, Any]]] = {
  'none': ('none', {'gamma': 0.0}),
  'literal': ('literal', {'reduction': 'literal'}),
  'mean': ('mean', {'reduction': 'mean'}),
  'sum': ('sum', {'reduction': 'sum'}),
  'ten_sums': ('10 × sum', {'reduction': 'sum', 'gamma': 10.0}),
}
# The others have a row already.
_SEARCHED = ('literal', 'mean', 'ten_sums')


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
  """Makes a config of students that differ in the attention loss's weight.

  Args:
    argument: `space=` and `teacher=` (of configs/ablations/teacher.py), `data=`
      (cifar10, digits), `smoke`, separated by commas.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  students = {
    name: settings.student_template(label=f'CE + KL + ICC, {label}', **fields)
    for name, (label, fields) in _REDUCTIONS.items()
  } | {
    f'only_{name}': settings.student_template(
      label=f'CE + ICC, {label}', kl_weight=0.0, **fields
    )
    for name, (label, fields) in _REDUCTIONS.items()
    if name != 'none'
  }
  return terms.compare(argument, students)


def sweep(argument: str | None = None) -> list[sweeps.Row]:
  """Makes the rows of the study of the factor.

  Args:
    argument: `data=` (cifar10, digits); `space=` (without it S3) and
      `teacher=`; `smoke`.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  anew = {name: _REDUCTIONS[name][1] for name in _SEARCHED}
  shared = rows.study(
    argument,
    'reduction',
    ('s3',),
    anew=lambda of: anew if of.data == 'digits' else {},
  )
  values = rows.parse(argument, *rows.ROBUST)
  return shared + [
    rows.student(of, 'ce_kl') for of in rows.combine(values, ('s3',))
  ]

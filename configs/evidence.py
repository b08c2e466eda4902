r"""What a compact student inherits on CIFAR-10: S3 and a WRN-22-2 as teacher.

A sweep for two CPU cores or one GPU. All rows have one schedule: eight epochs
of search, eight of training, three of eq. (6), on all but 1,000 of the training
images. A step of RNAS-CL takes 1.05 s on two cores (AMD EPYC), most of it the
teacher's pass: its search and its training take 55 min each, and the rows down
to `short_s3_wrn22_tutors` should take about 15 hours. They are in the order of
their value; --only has some of them:

  for name in wrn_22_2 wrn_22_2_standard; do
    rnascl import-teacher --output=teachers/$name \
      --file=docs/results/cifar10_$name.safetensors \
      --network=wide_resnet,depth=22,width=2
  done
  rnascl sweep --workdir=ROOT --config=evidence

| row                         | what it is                 | result      |
| --------------------------- | -------------------------- | ----------- |
| short_s3_wrn22              | RNAS-CL, and with eq. (6)  | cifar10.md  |
| short_s3_wrn22_ce_kl        | CE + KL, and with eq. (6)  | not yet run |
| short_s3_ce                 | CE, and with eq. (6)       | not yet run |
| short_s3_vulnerable_wrn22   | by the vulnerable teacher  | not yet run |
| short_s3_wrn22_tutors       | tutor controls             | not yet run |
| short_s3_wrn22_rivals       | RKD, ARD and RSLAD         | not yet run |
| short_s3_wrn22_kl_4         | KL at T = 4                | not yet run |
| short_s3_wrn22_literal      | factor of eq. (1)          | not yet run |
| short_s3_wrn22_ce_icc, _rkd | CE + ICC; RNAS-CL with RKD | not yet run |

docs/cifar10.md has what was run. The teachers were trained on one H100 in 183
and 102 s by configs/teachers.py, whose docstring has commands and accuracy.
"""

import dataclasses

from rnascl_jax import sweeps
from rnascl_jax.config import arguments
from rnascl_jax.sweeps import table_rows as rows

_TEACHERS = {'wrn22': 'wrn_22_2', 'vulnerable_wrn22': 'wrn_22_2_standard'}
_EPOCHS, _FINE_TUNED = 8, 3
_SCHEDULE = {
  'search.optimization.epochs': _EPOCHS,
  # The paper's 100 epochs end at 5 exp(-4.5); so do these.
  'search.temperature_decay': 4.5 / _EPOCHS,
  # With 0.1 Adam decided all choices within the first epoch, at the first
  # temperature, and all layers took the same tutor.
  'search.arch_learning_rate': 0.01,
  'search.arch_warmup_epochs': 1,
  'train.optimization.epochs': _EPOCHS,
  'adversarial.optimization.epochs': _FINE_TUNED,
  # Of all students, on the first images.
  'evaluation.auto_attack': ('standard',),
  'evaluation.auto_attack_models': (),
  'evaluation.auto_attack_images': 1000,
  # An epoch takes minutes; a run that is killed loses one at the most.
  **{
    f'{stage}.optimization.checkpoint_every': 1
    for stage in ('search', 'train', 'adversarial')
  },
}


def sweep(argument: str | None = None) -> list[sweeps.Row]:
  """Makes the rows.

  Args:
    argument: `smoke` (minutes), or nothing.

  Raises:
    ValueError: if the argument is another one.
  """
  smoke = arguments.parse(argument, {'smoke': ''})['smoke']
  robust, vulnerable = (
    rows.Setting('s3', name, smoke=smoke) for name in _TEACHERS
  )
  made = [
    *(_given(rows.teacher(of), smoke) for of in (robust, vulnerable)),
    *(rows.student(robust, terms) for terms in ('rnas_cl', 'ce_kl', 'ce')),
    rows.student(vulnerable, fine_tuned=False),
    rows.in_its_architecture(robust, 'tutors'),
    dataclasses.replace(
      rows.in_its_architecture(robust, 'rivals'),
      config=robust.config('rivals', methods='rkd+ard+rslad'),
    ),
    rows.searched_anew(robust, 'kl_4', {'kl_temperature': 4.0}),
    rows.searched_anew(robust, 'literal', {'reduction': 'literal'}),
    *(rows.student(robust, terms) for terms in ('ce_icc', 'rkd')),
  ]
  return [
    row if row.name.startswith('teacher_') else _short(row, not smoke)
    for row in made
  ]


def _short(row: sweeps.Row, scheduled: bool) -> sweeps.Row:
  """The row of a student, under a name of its own as its schedule differs."""
  takes = {
    field: path if path.startswith('teacher_') else f'short_{path}'
    for field, path in row.takes.items()
  }
  return dataclasses.replace(
    row,
    name=f'short_{row.name}',
    takes=takes,
    changes={**row.changes, **(_SCHEDULE if scheduled else {})},
  )


def _given(row: sweeps.Row, smoke: str) -> sweeps.Row:
  """The row of a teacher that is not trained; a smoke test trains its own."""
  if smoke:
    return row
  folder = f'teachers/{_TEACHERS[row.name.removeprefix("teacher_")]}'
  return dataclasses.replace(
    row, changes={**row.changes, 'teacher.checkpoint': folder}
  )

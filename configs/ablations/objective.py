"""Table 4: the objective of adversarial training, and others beside it.

One student, RNAS-CL, goes on for 20 epochs with each objective (section 4.6;
the terms of its teacher stay in all of them). Table 4 prints, in %:

| space | objective    | clean | PGD-20 | here                |
| ----- | ------------ | ----- | ------ | ------------------- |
| s3    | TRADES       | 83.45 | 43.07  | not yet run         |
| s3    | CAC          | 82.03 | 43.53  | not yet run         |
| s3    | TRADES + CAC | 83.11 | 43.41  | not yet run         |
| s5    | TRADES       | 84.75 | 44.68  | not yet run         |
| s5    | CAC          | -     | -      | not yet run         |
| s5    | TRADES + CAC | 84.81 | 45.34  | not yet run         |
| s7    | TRADES       | 85.81 | 43.24  | not yet run         |
| s7    | CAC          | 82.35 | 44.07  | not yet run         |
| s7    | TRADES + CAC | 85.06 | 43.88  | not yet run         |

A command makes three of its rows (WRT-34 teacher; hardware: one GPU):

  rnascl pipeline \
    --config=ablations/objective:space=s3 --workdir=DIR3
  rnascl pipeline \
    --config=ablations/objective:space=s5 --workdir=DIR5 \
    --config.teacher.checkpoint=DIR3/teacher
  rnascl pipeline \
    --config=ablations/objective:space=s7 --workdir=DIR7 \
    --config.teacher.checkpoint=DIR3/teacher

or, over seeds, with the architectures of RNAS-CL in ROOT if it has them:

  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=ablations/objective

and on digits, at epsilon 0.1, minutes on a CPU:

  rnascl pipeline \
    --config=ablations/objective:data=digits,rows=all --workdir=DIR

`rows=all` adds CAC as in the authors' code, TRADES + CAC with their mean,
PGD-AT, FastAT and Free, both with and without CAC, and a control: as many
epochs without attacks, so that what fine-tuning gives is not taken for what
more epochs give. All rows have one radius, on CIFAR-10 the 0.031 of the
authors' code. Free replays each batch 8 times: it makes 8 times as many updates
as the others, in 8 passes through the network where PGD-AT needs 11.

`rows=pruning` has TRADES + CAC with half and with 90 % of the student's weights
pruned, by HYDRA and by magnitude, beside the same with all of them.

Table 4 has no attack beyond PGD-20. A loss that compares predictions, as CAC
does, can flatten the surface that PGD climbs: `autoattack=` asks AutoAttack
too, on the first images (`some`: 1,000, of digits 64; the default), on `all`,
or not (`none`).
"""

import ml_collections

from rnascl_jax import sweeps
from rnascl_jax.config import arguments, config_files, settings
from rnascl_jax.sweeps import table_rows as rows

cifar10 = config_files.shipped('cifar10')
digits = config_files.shipped('digits')

# The cross-entropy stays with beta = 0: it is part of the objective.
_CAC = {'beta': 0.0, 'cac_weight': 1.0}
_TABLE_4 = {
  'trades': ('TRADES', {'cac_weight': 0.0}),
  'cac': ('CAC', _CAC),
  'trades_cac': ('TRADES + CAC', {}),
}
_OTHERS = {
  # Half of their beta = 6, as they take the mean of both divergences.
  'cac_authors': (
    "CAC as in the authors' code",
    {'beta': 0.0, 'cac_weight': 3.0, 'cac_mean': 'confident'},
  ),
  'trades_cac_confident': (
    'TRADES + CAC, mean over confident images',
    {'cac_mean': 'confident'},
  ),
  'pgd_at': ('PGD-AT', {'name': 'pgd', 'cac_weight': 0.0}),
  'fast': ('FastAT', {'name': 'fast', 'cac_weight': 0.0}),
  'fast_cac': ('FastAT + CAC', {'name': 'fast'}),
  'free': ('Free', {'name': 'free', 'cac_weight': 0.0}),
  'free_cac': ('Free + CAC', {'name': 'free'}),
  'control': (
    'as many epochs without attacks',
    {'name': 'standard', 'cac_weight': 0.0},
  ),
}
_PRUNED = {
  f'{method}_{round(100 * sparsity)}': (
    f'{label}, {100 * sparsity:.0f} % pruned',
    {'prune': method, 'sparsity': sparsity},
  )
  for sparsity in (0.5, 0.9)
  for method, label in (('magnitude', 'LWM'), ('hydra', 'HYDRA'))
}
_ROWS = {
  'table4': _TABLE_4,
  'all': _TABLE_4 | _OTHERS,
  'pruning': {'trades_cac': _TABLE_4['trades_cac']} | _PRUNED,
}
# Images of `autoattack=some`.
_SOME = {'cifar10': 1000, 'digits': 64}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
  """Makes a student, and fine-tuned students that differ in their objective.

  Args:
    argument: `space=` and `teacher=` (of configs/cifar10.py; digits have
      neither), `data=` (cifar10, digits), `rows=` (table4, all, pruning),
      `autoattack=` (some, all, none), `smoke`, separated by commas.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  names = ('space', 'teacher', 'smoke')
  values = arguments.parse(
    argument,
    {'data': 'cifar10', 'rows': 'table4', 'autoattack': 'some'}
    | dict.fromkeys(names, ''),
  )
  rows = _ROWS[arguments.pick(values, 'rows', _ROWS)]
  epsilon = settings.fine_tuning_template().adversarial_training.epsilon_255
  if arguments.pick(values, 'data', _SOME) == 'digits':
    arguments.refuse(values, 'data=digits', 'space', 'teacher')
    config = digits.get_config(arguments.forward(values, 'smoke'))
    epsilon = digits.EPSILON_255
  else:
    config = cifar10.get_config(arguments.forward(values, *names))
  # The student of the paper alone.
  config.controls = False
  config.students = {'rnas_cl': config.students.rnas_cl}
  config.adversarial.students = {
    name: settings.fine_tuning_template(
      label=f'RNAS-CL, {label}', **{'epsilon_255': epsilon} | method
    )
    for name, (label, method) in rows.items()
  }
  if values['smoke']:
    config.adversarial.pruning.optimization.epochs = 1
    for tuned in config.adversarial.students.values():
      tuned.adversarial_training.num_steps = (
        tuned.adversarial_training.validation_steps
      ) = 2
    return config
  _auto_attack(config, values)
  return config


def sweep(argument: str | None = None) -> list[sweeps.Row]:
  """Makes the rows of Table 4.

  Args:
    argument: `data=` (cifar10, digits); `space=` and `teacher=` in place of the
      paper's; `smoke`.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  return rows.study(argument, 'objective')


def _auto_attack(
  config: ml_collections.ConfigDict, values: dict[str, str]
) -> None:
  which = arguments.pick(values, 'autoattack', ('some', 'all', 'none'))
  config.evaluation.auto_attack = () if which == 'none' else ('standard',)
  config.evaluation.auto_attack_models = (
    'rnas_cl',
    *config.adversarial.students,
  )
  images = _SOME[values['data']] if which == 'some' else 0
  config.evaluation.auto_attack_images = images

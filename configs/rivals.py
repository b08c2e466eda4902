"""Rivals: what others do with the same teacher, network, epochs and attacks.

The paper compares RNAS-CL with numbers that others have printed, of networks,
teachers and trainings of their own. Here all but the method is the same: each
student is trained on clean images first, for as many epochs, and those that are
hardened go on from there, for as many epochs on adversarial images.

| student                  | begins as | method                               |
| ------------------------ | --------- | ------------------------------------ |
| ce                       |           | no teacher                           |
| kd                       |           | KL(student, teacher), as in eq. (4)  |
| rkd                      |           | Park et al. (2019)                   |
| rnas_cl                  |           | eq. (4)                              |
| pgd_at                   | ce        | Madry et al. (2018)                  |
| trades                   | ce        | Zhang et al. (2019)                  |
| trades_awp               | ce        | Wu et al. (2020)                     |
| mart                     | ce        | Wang et al. (2020)                   |
| ard                      | ce        | Goldblum et al. (2020)               |
| rslad                    | ce        | Zi et al. (2021)                     |
| iad                      | ce        | Zhu et al. (2022), IAD-I             |
| adaad                    | ce        | Huang et al. (2023)                  |
| rnas_cl_eq6              | rnas_cl   | eq. (6)                              |

  rnascl sweep --config=rivals:data=digits --workdir=ROOT --seeds=0,1,2
  rnascl tables --workdir=ROOT --data=digits --table=rivals

trains them in the architecture that RNAS-CL finds, and as a MobileNetV2, whose
layers have tutors by depth as nothing is searched; on CIFAR-10 (the default)
the architectures are those of S3 and S5. Weights of all losses are the
published ones, that of kd is eq. (4)'s. Rate and schedule are those of eq. (6)
in the data's config, which were chosen for eq. (6) alone. What came of it is on
the page docs/rivals.md. Hardware: minutes on a CPU for digits, one GPU for
CIFAR-10 (not yet run).

It is not what the rivals' papers do in all: they train on adversarial images
from new weights, and for longer. --config.adversarial.optimization has the
epochs. Other ways to distil without attacks are in configs/ablations/kd.py;
other objectives of RNAS-CL, and pruning, in configs/ablations/objective.py.
"""

from typing import Any

import ml_collections

from rnascl_jax import sweeps
from rnascl_jax.config import arguments, config_files, settings
from rnascl_jax.sweeps import table_rows as rows

teacher = config_files.shipped('ablations/teacher')

# Labels and fields of students, and of what is made of some.
_AS_TRAINED: dict[str, tuple[str, dict[str, Any]]] = {
  'ce': ('CE', {'kl_weight': 0.0, 'gamma': 0.0}),
  'kd': ('KD (CE + KL)', {'gamma': 0.0}),
  'rkd': ('RKD', {'method': 'rkd', 'gamma': 0.0}),
  'rnas_cl': ('RNAS-CL', {}),
}
_HARDENED: dict[str, tuple[str, dict[str, Any]]] = {
  'pgd_at': ('PGD-AT', {'name': 'pgd'}),
  'trades': ('TRADES', {}),
  'trades_awp': ('TRADES-AWP', {'awp_gamma': 0.005, 'awp_warmup': 0.05}),
  'mart': ('MART', {'name': 'mart'}),
  'ard': ('ARD', {'name': 'ard'}),
  'rslad': ('RSLAD', {'name': 'rslad'}),
  'iad': ('IAD', {'name': 'iad'}),
  'adaad': ('AdaAD', {'name': 'adaad'}),
  'rnas_cl_eq6': ('RNAS-CL + eq. (6)', {'cac_weight': 1.0}),
}
# Of each other method 'ce' is the beginning, whose terms of a teacher are 0.
_BEGINNINGS = {'rnas_cl_eq6': 'rnas_cl'}
# MobileNetV2 where nothing else is said, and one for images of 8x8 pixels.
_MOBILENETS = {
  'cifar10': {'name': 'mobilenet_v2'},
  'digits': {
    'name': 'mobilenet_v2',
    'features': (8, 16, 32),
    'stage_sizes': (1, 1, 1),
    'strides': (1, 2, 2),
  },
}
# Images of AutoAttack.
_ATTACKED = {'cifar10': 1000, 'digits': 64}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
  """Makes a config of one network, trained by several methods.

  Args:
    argument: `network=` (searched, mobilenet_v2), `methods=` (students of the
      table above with + between them; all without it), `space=` and `teacher=`
      (of configs/ablations/teacher.py), `data=` (cifar10, digits), `smoke`,
      separated by commas.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  own = {'network': 'searched', 'methods': ''}
  values = arguments.parse(argument, own | teacher.ARGUMENTS)
  network = arguments.pick(values, 'network', ('searched', 'mobilenet_v2'))
  config = teacher.start(values)
  _train(config, _methods(values))
  if network == 'mobilenet_v2':
    for name, student in config.students.items():
      student.network.update(_MOBILENETS[values['data']])
      student.tutors = 'depth' if name == 'rnas_cl' else student.tutors
  config.evaluation.auto_attack = () if values['smoke'] else ('standard',)
  config.evaluation.auto_attack_models = ()
  config.evaluation.auto_attack_images = _ATTACKED[values['data']]
  config.evaluation.curve_attacks = ()
  return config


def _train(config: ml_collections.ConfigDict, methods: set[str]) -> None:
  """Gives a config the students of some methods, and those they begin as."""
  eq6 = config.adversarial.students.rnas_cl_eq6.adversarial_training
  # The fields of all of them, as the config of the data has them for eq. (6).
  same = ('epsilon_255', 'num_steps', 'validation_steps')
  shared = {'cac_weight': 0.0, **{name: eq6[name] for name in same}}
  config.adversarial.students = {
    name: settings.fine_tuning_template(
      label=label, student=_BEGINNINGS.get(name, 'ce'), **shared | fields
    )
    for name, (label, fields) in _HARDENED.items()
    if name in methods
  }
  begun = {tuned.student for tuned in config.adversarial.students.values()}
  config.students = {
    name: settings.student_template(label=label, **fields)
    for name, (label, fields) in _AS_TRAINED.items()
    if name in methods | begun
  }


def _methods(values: dict[str, str]) -> set[str]:
  """The students that are wanted."""
  known = {**_AS_TRAINED, **_HARDENED}
  named = values['methods'].split('+') if values['methods'] else known
  return {arguments.pick({'methods': name}, 'methods', known) for name in named}


def sweep(argument: str | None = None) -> list[sweeps.Row]:
  """Makes the rows of all networks.

  Args:
    argument: `data=` (cifar10, digits); `space=` (without it S3 and S5) and
      `teacher=`; `smoke`.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  values = rows.parse(argument, *rows.ROBUST)
  arguments.refuse(values, 'configs/rivals.py', 'table')
  return rows.together(
    row
    for of in rows.combine(values, ('s3', 's5'))
    for row in (
      rows.teacher(of),
      _row(of, 'rivals'),
      _row(of._replace(space=''), 'mobilenet_v2', network='mobilenet_v2'),
    )
  )


def _row(of: rows.Setting, name: str, **values: str) -> sweeps.Row:
  return sweeps.Row(
    f'{of.name}_{name}',
    of.config('rivals', **values),
    changes={'evaluation.teachers': False},
    takes=of.takes,
  )

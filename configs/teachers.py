r"""Teachers, or any single network, trained with any method and attacked.

  rnascl teacher --config=teachers:network=resnet18 \
    --workdir=DIR
  rnascl evaluate --config=(the same) --workdir=DIR
  rnascl report --workdir=DIR

A student is taught by it with `--config.teacher.checkpoint=DIR/teacher` and the
same network in its own config. `method=standard` makes the vulnerable teacher
of Table 11, and is what all other methods are to be compared with.

CIFAR-10 has the published schedules: PGD-AT of Rice et al. (2020), 200 epochs;
FastAT of Wong et al. (2020), 15 epochs, cyclic; Free-8 of Shafahi et al.
(2019), 80,000 updates; TRADES of Zhang et al. (2019), 76 epochs; MART of Wang
et al. (2020), 120 epochs; AT-AWP and TRADES-AWP of Wu et al. (2020), 200
epochs. Transformers have that of Mo et al. (2022), 40 epochs, in all but FastAT
and Free-8. The checkpoint is that of the best accuracy under PGD on held-out
images, as in Rice et al.; of transformers the last.

Not as published: the networks (Rice et al. and Wong et al. have the
pre-activation ResNet-18, network=preact_resnet18, the others a WRN-34-10 or
-32-10), radii of 8 / 255 throughout (TRADES, MART: 0.031), zero instead of
reflected pixels around crops.

| data, network             | method       | clean | PGD-20 | AutoAttack  |
| ------------------------- | ------------ | ----- | ------ | ----------- |
| CIFAR-10 (JPEG), small    | fast         | 67.1  | 34.6   | 30.0        |
| CIFAR-10 (JPEG), wrn-22-2 | pgd, 7 steps | 70.7  | 43.1   | not yet run |
| CIFAR-10 (JPEG), wrn-22-2 | standard     | 87.0  | 0.0    | not yet run |
| digits, small             | standard     | 98.9  | 51.2   | 35.9        |
| digits, small             | pgd          | 99.5  | 91.3   | 78.1        |
| digits, small             | fast         | 99.7  | 87.6   | 73.4        |
| digits, small             | free         | 99.0  | 82.4   | 71.9        |
| digits, small             | trades       | 99.4  | 92.6   | 82.8        |
| all others                |              |       |        | not yet run |

In %, --config.seed=0, on CIFAR-10 the first 1,000 test images at 8 / 255. The
WRN-22-2 was trained on one H100, 18 epochs in 183 s with compilation and beside
other work, and is docs/results/cifar10_wrn_22_2.safetensors (70.8 % of all test
images):

  O=--config.teacher.optimization
  rnascl teacher --workdir=DIR --config.teacher.bfloat16=always \
    --config=teachers:network=wrn-22-2,method=pgd \
    --config.teacher.adversarial_training.num_steps=7 $O.schedule=cyclic \
    --config.teacher.adversarial_training.step_size_255=2 $O.epochs=18 \
    --config.data.validation_size=0 $O.learning_rate=0.2 $O.select=last

With method=standard and 15 epochs it is cifar10_wrn_22_2_standard.safetensors,
trained in 102 s; PGD-20 attacked the first 250 images of it. The rest: two CPU
cores (AMD EPYC). The small network took 34 min for 15 epochs beside other work,
AutoAttack the first 100 images of configs/cifar10_cpu.py. Digits: epsilon 0.1,
means of seeds 0 to 2 on 517 images, AutoAttack on the first 64 of seed 0.

On a GPU, not yet run: network=resnet18,method=fast and network=resnet18, and
Table 15 (clean / PGD-20: WRT-34 86.07 / 58.33, ResNet-18 84.59 / 55.54 and
ResNet-50 87.03 / 49.25), whose teachers teach in other sweeps with this ROOT:

  rnascl sweep --config=teachers --workdir=ROOT
"""

import re
from typing import Any

import ml_collections

from rnascl_jax import sweeps
from rnascl_jax.config import arguments, config_files, settings
from rnascl_jax.sweeps import table_rows as rows

cifar10 = config_files.shipped('cifar10')
digits = config_files.shipped('digits')

_WIDE = re.compile(r'wrn-(\d+)-(\d+)')
_PIECEWISE = {
  'epochs': 200,
  'schedule': 'piecewise',
  'learning_rate': 0.1,
  'milestones': (0.5, 0.75),
  'weight_decay': 5e-4,
}
_SCHEDULES = {
  'standard': _PIECEWISE,
  'pgd': _PIECEWISE,
  'fast': {
    'epochs': 15,
    'schedule': 'cyclic',
    'learning_rate': 0.2,
    'weight_decay': 5e-4,
  },
  # 26 epochs of 390 batches, each replayed 8 times.
  'free': {
    'epochs': 26,
    'schedule': 'piecewise',
    'learning_rate': 0.1,
    'milestones': (0.5, 0.75),
    'weight_decay': 2e-4,
  },
  # The last two of them follow the first decay of a schedule of 100: early
  # stopping.
  'trades': {
    'epochs': 76,
    'schedule': 'piecewise',
    'learning_rate': 0.1,
    'milestones': (74 / 76,),
    'weight_decay': 2e-4,
  },
  # The last rate, a thousandth, follows 100 epochs.
  'mart': {
    'epochs': 120,
    'schedule': 'piecewise',
    'learning_rate': 0.01,
    'milestones': (75 / 120, 90 / 120, 100 / 120),
    'weight_decay': 3.5e-3,
  },
  'pgd-awp': _PIECEWISE,
  'trades-awp': _PIECEWISE,
}
# Fields of methods that have other names here.
_AWP = {
  'pgd-awp': {'name': 'pgd', 'awp_gamma': 0.01, 'attack_mode': 'evaluation'},
  'trades-awp': {
    'name': 'trades',
    'awp_gamma': 0.005,
    'awp_warmup': 0.05,
    'step_size_255': 2.0,
  },
}
# On digits every method makes the updates of 40 epochs, so Free-8 has 5.
_DIGITS = {
  'epochs': 40,
  'schedule': 'piecewise',
  'learning_rate': 0.1,
  'milestones': (0.75, 0.9),
  'weight_decay': 5e-4,
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
  """Makes the config of a teacher.

  Args:
    argument: `network=` (resnet18, resnet50, preact_resnet18, wrn34, vit, deit,
      small or a wide one such as wrn-28-10; digits have the small one of
      configs/digits.py alone),
      `method=` (pgd, fast, free, trades, mart, pgd-awp, trades-awp, standard),
      `data=` (cifar10, digits), `smoke` (seconds), separated by commas.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  values = arguments.parse(
    argument, {'network': '', 'method': 'pgd', 'data': 'cifar10', 'smoke': ''}
  )
  method = arguments.pick(values, 'method', _SCHEDULES)
  data = arguments.pick(values, 'data', _ON)
  default, start = _ON[data]
  config = start(values['network'] or default, method, bool(values['smoke']))
  last = method == 'standard' or values['network'] in cifar10.TRANSFORMERS
  config.teacher.optimization.select = 'last' if last else 'best'
  config.teacher.optimization.checkpoint_every = 1
  if method == 'standard':
    config.teacher.label = 'Teacher without attacks'
  config.evaluation.auto_attack_models = ('teacher',)
  return config


def sweep(argument: str | None = None) -> list[sweeps.Row]:
  """Makes the rows of Table 15: the teachers of Table 10 by themselves.

  Args:
    argument: `teacher=` (of configs/ablations/teacher.py) for one alone;
      `smoke`.

  Returns:
    The rows, which are those that students of other sweeps take; they are
    trained like `network=` of this file with `method=pgd`.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  values = rows.parse(argument, 'cifar10')
  arguments.refuse(values, 'configs/teachers.py', 'table', 'space')
  networks = ('wrn34', 'resnet18', 'resnet50')
  return [rows.teacher(of) for of in rows.combine(values, ('',), networks)]


def _on_cifar10(
  network: str, method: str, smoke: bool
) -> ml_collections.ConfigDict:
  config = settings.template()
  config.teacher.network.update(_network(network))
  config.teacher.adversarial_training = _method(method)
  config.teacher.optimization.update(_SCHEDULES[method])
  if network in cifar10.TRANSFORMERS and method not in ('fast', 'free'):
    config.teacher.optimization.update(cifar10.TRANSFORMER)
  config.distillation.map_size = cifar10.MAP_SIZES.get(network, 8)
  if smoke:
    cifar10.shrink(config)
  return config


def _on_digits(
  network: str, method: str, smoke: bool
) -> ml_collections.ConfigDict:
  arguments.pick({'network': network}, 'network', ['small'])
  config = digits.get_config('smoke' if smoke else None)
  config.teacher.adversarial_training = _method(
    method, epsilon_255=digits.EPSILON_255
  )
  config.teacher.optimization.update(_DIGITS)
  if method == 'trades-awp':
    # The published share of the radius.
    config.teacher.adversarial_training.step_size_255 = digits.EPSILON_255 / 4
  if method == 'free':
    config.teacher.optimization.epochs //= (
      config.teacher.adversarial_training.replays
    )
  if smoke:
    config.teacher.optimization.epochs = 1
  # The teacher alone.
  config.controls = False
  config.students = {'ce': config.students['ce']}
  config.adversarial.students = {}
  config.evaluation.auto_attack = ('standard',)
  config.evaluation.auto_attack_images = 16 if smoke else 64
  return config


# For each data set the default network, and what makes the config.
_ON = {'cifar10': ('resnet18', _on_cifar10), 'digits': ('small', _on_digits)}


def _network(name: str) -> dict[str, Any]:
  """Fields of `config.teacher.network`."""
  if name in cifar10.NETWORKS:
    return cifar10.NETWORKS[name]
  wide = _WIDE.fullmatch(name)
  if not wide:
    raise ValueError(
      f'The config argument network={name} is unknown. Choose one of '
      f'{", ".join(cifar10.NETWORKS)}, or a wide one such as wrn-28-10.'
    )
  depth, width = map(int, wide.groups())
  return {'name': 'wide_resnet', 'depth': depth, 'width': width}


def _method(name: str, **fields: Any) -> ml_collections.ConfigDict:
  fields = _AWP.get(name, {'name': name}) | fields
  return ml_collections.ConfigDict(vars(settings.AdversarialTraining(**fields)))

"""Teachers, trained with any regime on CIFAR-10 or on digits.

  python -m experiments.teacher --config=configs/teachers.py:network=resnet18 \
    --workdir=DIR
  python -m experiments.evaluate --config=(the same) --workdir=DIR
  python -m experiments.report --workdir=DIR

A student is taught by one with `--config.teacher.checkpoint=DIR/teacher` and
the same `network=` in its own config. `regime=standard` makes the vulnerable
teacher of Table 11.

Schedules are the published ones: PGD-AT of Rice et al. (200 epochs, the best
checkpoint on held-out images), FastAT of Wong et al. (15 epochs, cyclic), Free-8
of Shafahi et al. (80,000 updates), TRADES of Zhang et al. (76 epochs).
"""

import ml_collections

from configs import arguments, digits
from rnascl_jax import settings

_NETWORKS = {
  'resnet18': {'name': 'resnet18'},
  'resnet50': {'name': 'resnet50'},
  'wrn34': {'name': 'wide_resnet34_10'},
  # 0.31 million parameters; maps of 16x16, 8x8 and 4x4 pixels.
  'small': {
    'name': 'small_resnet',
    'features': (32, 64, 128),
    'stage_sizes': (1, 1, 1),
    'strides': (2, 2, 2),
  },
}
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
  # Two epochs after the first decay, at epoch 75 of 100: early stopping.
  'trades': {
    'epochs': 76,
    'schedule': 'piecewise',
    'learning_rate': 0.1,
    'milestones': (75 / 76,),
    'weight_decay': 2e-4,
  },
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
  """A teacher's config.

  Args:
    argument: `network=` (resnet18, resnet50, wrn34, small), `regime=` (pgd,
      fast, free, trades, standard), `data=` (cifar10, digits), `smoke`,
      separated by commas.

  Returns:
    The config.

  Raises:
    ValueError: for an argument or a value that there is not.
  """
  chosen = arguments.parse(
    argument,
    {'network': 'resnet18', 'regime': 'pgd', 'data': 'cifar10', 'smoke': ''},
  )
  network = arguments.pick(chosen, 'network', _NETWORKS)
  regime = arguments.pick(chosen, 'regime', _SCHEDULES)
  if arguments.pick(chosen, 'data', ('cifar10', 'digits')) == 'digits':
    config = digits.get_config('smoke' if chosen['smoke'] else None)
  else:
    config = settings.template()
    config.teacher.network.update(_NETWORKS[network])
    config.teacher.regime = _regime(regime)
    config.teacher.optimization.update(_SCHEDULES[regime])
    config.distillation.map_size = 4 if network == 'small' else 8
  config.teacher.optimization.select = 'best'
  config.teacher.optimization.checkpoint_every = 1
  config.evaluation.auto_attack_models = ('teacher',)
  return config


def _regime(name: str) -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict(vars(settings.Regime(name)))

"""CIFAR-10 as in the paper: RNAS-CL-S3-WRT-34 of Table 1, and its neighbours.

  python -m experiments.pipeline --config=configs/cifar10.py --workdir=DIR
  python -m experiments.pipeline \
    --config=configs/cifar10.py:space=s5,teacher=resnet18 --workdir=DIR

Table 1 prints for S3 without adversarial training: clean 89.4, FGSM 44.95,
PGD-20 34.3, MI-FGSM 38.92 (%), 0.11M parameters, 6.64M MACs. Hardware: one GPU.
Not yet run in full. The paper's teachers are published PyTorch checkpoints;
here the teacher is trained, unless config.teacher.checkpoint names one.

Data: CIFAR-10 through TensorFlow Datasets, prepared as ArrayRecord.
"""

import ml_collections

from configs import arguments
from rnascl_jax import search_space, settings

_TEACHERS = {
  'wrn34': 'wide_resnet34_10',
  'resnet18': 'resnet18',
  'resnet50': 'resnet50',
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
  """The paper's setting.

  Args:
    argument: `space=` (s3, s5, s7, m, m2, l), `teacher=` (wrn34, resnet18,
      resnet50), `smoke` (minutes on a CPU), separated by commas.

  Returns:
    The config.

  Raises:
    ValueError: for an argument or a value that there is not.
  """
  chosen = arguments.parse(
    argument, {'space': 's3', 'teacher': 'wrn34', 'smoke': ''}
  )
  config = settings.template()
  config.space.name = arguments.pick(chosen, 'space', search_space.CIFAR_SPACES)
  network = arguments.pick(chosen, 'teacher', _TEACHERS)
  for teacher in (config.teacher, config.vulnerable_teacher):
    teacher.network.name = _TEACHERS[network]

  # Section 4.1: 100 epochs of search and of training, batches of 128, SGD at
  # 0.1 with momentum 0.9 and weight decay 2e-4, a tenth of the rate after 75 %
  # and after 90 %.
  for stage in (config.search, config.train):
    stage.optimization.epochs = 100
    stage.optimization.batch_size = 128
    stage.optimization.learning_rate = 0.1
    stage.optimization.milestones = (0.75, 0.9)
    stage.optimization.weight_decay = 2e-4
  # The teacher of Rice et al. (2020): PGD-10, its best checkpoint.
  config.teacher.regime.name = 'pgd'
  config.teacher.regime.num_steps = 10
  config.teacher.optimization.select = 'best'
  # The best one comes soon after the first decay.
  config.teacher.optimization.checkpoint_every = 1

  # AutoAttack evaluates an image that it cannot break thousands of times: only
  # students, whose rows Table 1 has.
  config.evaluation.auto_attack = ('standard',)
  config.evaluation.auto_attack_models = tuple(config.students)

  if chosen['smoke']:
    _shrink(config)
  return config


def _shrink(config: ml_collections.ConfigDict) -> None:
  """Every stage on real images in minutes on a CPU, with a small teacher."""
  config.data.max_train = 1024
  config.data.max_test = 256
  config.data.validation_size = 128
  config.teacher.network.name = 'small_resnet'
  config.teacher.network.features = (16, 32, 64)
  config.teacher.network.stage_sizes = (1, 1, 1)
  config.teacher.network.strides = (2, 2, 2)
  config.teacher.regime.num_steps = 2
  config.teacher.regime.step_size_255 = 6.0
  config.distillation.map_size = 4
  for stage in (config.teacher, config.search, config.train):
    stage.optimization.epochs = 1
  config.students = {name: config.students[name] for name in ('rnas_cl', 'ce')}
  config.evaluation.batch_size = 128
  config.evaluation.curve_attacks = ('fgsm',)
  config.evaluation.curve_images = 128
  config.evaluation.curve_epsilons_255 = (2.0, 8.0)
  config.evaluation.attacks = ('fgsm', 'pgd20_rnascl')
  # AutoAttack would take longer than all of this.
  config.evaluation.auto_attack = ()
  config.evaluation.auto_attack_models = ()

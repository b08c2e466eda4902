"""The smallest run that has every part: digits, one block, a small teacher."""

import ml_collections

from rnascl_jax.config import settings
from rnascl_jax.stages import run as runs


def config() -> ml_collections.ConfigDict:
  found = settings.template()
  found.data.name = 'digits'
  found.data.validation_size = 32
  found.data.max_train = 128
  found.data.max_test = 40
  found.data.padding = 0
  found.data.flip = False
  found.space.name = 'custom'
  found.space.depths = (1,)
  found.space.choices = ((4, 2),)
  found.space.strides = (2,)
  found.space.stem_features = 4
  found.space.stem_stride = 2
  found.space.expansion = 2
  found.distillation.map_size = 2
  found.teacher.network.name = 'small_resnet'
  found.teacher.network.features = (4,)
  found.teacher.network.stage_sizes = (1,)
  found.teacher.network.strides = (2,)
  found.teacher.adversarial_training.num_steps = 2
  found.teacher.adversarial_training.validation_steps = 2
  found.vulnerable_teacher.network = found.teacher.network
  for optimization in (
    found.teacher.optimization,
    found.vulnerable_teacher.optimization,
    found.search.optimization,
    found.train.optimization,
  ):
    optimization.epochs = 3
    optimization.batch_size = 32
    optimization.checkpoint_every = 2
  found.students = {
    'rnas_cl': settings.student_template(),
    'ce': settings.student_template(
      label='CE', teacher='', kl_weight=0.0, gamma=0.0
    ),
  }
  found.adversarial.optimization.epochs = 1
  found.adversarial.optimization.batch_size = 32
  found.adversarial.students = {
    'rnas_cl_eq6': settings.fine_tuning_template(
      epsilon_255=16.0, num_steps=1, validation_steps=2
    )
  }
  found.devices = 1
  found.evaluation.attacks = ('fgsm', 'pgd20_rnascl')
  found.evaluation.curve_attacks = ('fgsm',)
  found.evaluation.curve_epsilons_255 = (8.0, 32.0)
  found.evaluation.batch_size = 32
  found.evaluation.epsilon_255 = 16.0
  found.evaluation.auto_attack = ('apgd_ce',)
  found.evaluation.auto_attack_models = ('ce',)
  found.evaluation.auto_attack_images = 32
  found.evaluation.map_images = 2
  return found


def opened(config: ml_collections.ConfigDict, folder: str) -> runs.Run:
  """A run to look at, which was opened and is closed again."""
  with runs.open_run(config, folder) as run:
    return run

r"""Your own images: the whole method, from a robust teacher to a report.

  rnascl pipeline --config=images \
    --config.data.name=folder:/path --workdir=DIR
  rnascl pipeline --config=images:smoke \
    --config.data.name=folder:/path --workdir=DIR_SMOKE

`folder:` names a folder with one folder for each class; `npz:`, `tfds:` and
`cifar:` are other sources, docs/data.md says which. The network, the space and
the schedule are made for images of about 32 x 32 pixels and thousands of them,
and fit one GPU; on CPUs `smoke` shows in minutes that all of it runs. They
are a start and have no published numbers. Not run on a GPU yet.
"""

import ml_collections

from rnascl_jax.config import arguments, settings


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
  """Makes the config.

  Args:
    argument: `data=` (what `config.data.name` is, without a comma in it),
      `smoke` (minutes on two cores), separated by commas.

  Raises:
    ValueError: if a name is unknown.
  """
  values = arguments.parse(argument, {'data': '', 'smoke': ''})
  config = settings.template()

  config.data.name = values['data']
  # A tenth of the training images, 1000 at most.
  config.data.validation_size = -1
  # Images that differ in size are resized once, and shifted by 4 pixels.
  config.data.min_crop = 0.0

  # At 32 x 32 pixels maps of 16 x 16, 8 x 8 and 4 x 4 for 15 layers.
  config.space.name = 'custom'
  config.space.depths = (1, 2, 1)
  config.space.choices = ((24, 16, 8), (48, 40, 32, 24), (96, 80, 64, 48))
  config.space.strides = (1, 2, 2)
  config.space.stem_features = 16
  config.space.stem_stride = 2
  config.distillation.map_size = 8

  for teacher in (config.teacher, config.vulnerable_teacher):
    teacher.network.name = 'small_resnet'
    teacher.network.features = (32, 64, 128)
    teacher.network.stage_sizes = (1, 1, 1)
    teacher.network.strides = (1, 2, 2)
    teacher.optimization.epochs = 40
  config.search.optimization.epochs = 20
  # The paper's 100 epochs end at 5 exp(-4.5); so do these 20.
  config.search.temperature_decay = 0.225
  config.search.arch_learning_rate = 0.1
  config.train.optimization.epochs = 60
  for name in ('teacher', 'vulnerable_teacher', 'search', 'train'):
    config[name].optimization.batch_size = 64
  config.adversarial.optimization.batch_size = 64

  config.evaluation.auto_attack_images = 256
  config.evaluation.curve_images = 256

  if values['smoke']:
    _shrink(config)
  return config


def _shrink(config: ml_collections.ConfigDict) -> None:
  """A run of a minute that only shows that everything runs."""
  config.data.max_train = 64
  config.data.max_test = 32
  stages = 'teacher', 'vulnerable_teacher', 'search', 'train', 'adversarial'
  for name in stages:
    config[name].optimization.epochs = 1
    config[name].optimization.batch_size = 16
  config.search.temperature_decay = 0.045
  # Most of such a run is compilation.
  config.space.depths = (1,)
  config.space.choices = ((16, 8),)
  config.space.strides = (2,)
  for teacher in (config.teacher, config.vulnerable_teacher):
    teacher.network.features = (16,)
    teacher.network.stage_sizes = (1,)
    teacher.network.strides = (2,)
  methods = (
    config.teacher.adversarial_training,
    config.adversarial.students.rnas_cl_eq6.adversarial_training,
  )
  for method in methods:
    method.num_steps, method.validation_steps = 2, 1
  config.students = {name: config.students[name] for name in ('rnas_cl', 'ce')}
  config.evaluation.attacks = ('fgsm',)
  config.evaluation.curve_attacks = ('fgsm',)
  config.evaluation.curve_epsilons_255 = (8.0,)
  config.evaluation.auto_attack = ()
  config.evaluation.map_images = 2
  config.evaluation.batch_size = 32

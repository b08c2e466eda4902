"""CIFAR-10 as in the paper: RNAS-CL-S3-WRT-34 of Table 1, and its neighbours.

  rnascl pipeline --config=cifar10 --workdir=DIR
  rnascl pipeline \
    --config=cifar10:space=s5,teacher=resnet18 --workdir=DIR

Table 1 prints for the WRT-34 teacher (%; millions), students as they are
trained, and after 20 more epochs of adversarial training with eq. (6):

| space | eq. (6) | clean | FGSM  | PGD-20 | MI-FGSM | params | MACs  |
| ----- | ------- | ----- | ----- | ------ | ------- | ------ | ----- |
| s3    | no      | 89.4  | 44.95 | 34.3   | 38.92   | 0.11   | 6.64  |
| s5    | no      | 90.4  | 46.72 | 35.59  | 40.57   | 0.21   | 11.02 |
| s7    | no      | 90.62 | 48.93 | 37.24  | 42.27   | 0.32   | 15.58 |
| m     | no      | 92.46 | 50.51 | 39.84  | 44.54   | 3      | 326   |
| l     | no      | 92.6  | 52.37 | 41.9   | 46.66   | 11     | 1210  |
| s3    | yes     | 83.11 | 50.67 | 43.41  | 43.98   | 0.11   | 6.64  |
| s5    | yes     | 84.81 | 51.99 | 45.34  | 46.3    | 0.21   | 11.02 |
| s7    | yes     | 85.06 | 49.11 | 43.88  | 45.53   | 0.32   | 15.58 |
| m     | yes     | 87.29 | 59.71 | 51.76  | 53.43   | 3      | 326   |
| m2    | yes     | 87.17 | 60.98 | 53.14  | 54.64   | 5.6    | 604   |
| l     | yes     | 86.28 | 61.12 | 53.69  | 55.07   | 11     | 1210  |

Table 2 prints under AutoAttack: s3 37.17, s5 39.28, s7 38.36, m 46.89, l 48.49,
which must be those with eq. (6): without it PGD-20 alone leaves less of s3.

Hardware: one GPU. Not yet run in full. The paper's teachers are published
PyTorch checkpoints, which `rnascl import-teacher` reads (docs/teachers.md):

  rnascl import-teacher --teacher=wrn34 \
    --file=model_best.pth --output=teachers/wrn34
  rnascl pipeline --config=cifar10:teacher=wrn34 \
    --config.teacher.checkpoint=teachers/wrn34 --workdir=DIR

Without config.teacher.checkpoint the teacher is trained. All of Table 1 over
seeds (`table=` 1, 2, 6, widths, fig1, fig2, fig5, fig6, fig7, fig8, fig9 or
fig12); its students are those of configs/ablations/terms.py, without the
controls of this config:

  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=cifar10:table=1 \
    --set=teacher_wrn34:teacher.checkpoint=teachers/wrn34

The attention loss is the sum over student layers with gamma = 1, as in the
authors' code (`reduction`). With the factor that eq. (1) prints, 1 / 868 for 28
student and 31 teacher layers, it would be at most 0.046 and hardly act:
--config.search.reduction=literal --config.students.rnas_cl.reduction=literal.

Data: CIFAR-10 through TensorFlow Datasets, prepared as ArrayRecord.
"""

from typing import Any

import ml_collections

from rnascl_jax import sweeps
from rnascl_jax.config import arguments, presets, settings
from rnascl_jax.models.teachers.published import PUBLISHED
from rnascl_jax.search import spaces
from rnascl_jax.sweeps import table_rows as rows

# Teachers by their short names, as fields of `config.teacher.network`: those of
# the paper (wrn34, resnet18, resnet50, vit, deit) and others.
NETWORKS: dict[str, dict[str, Any]] = {
  **{
    name: dict(known.network)
    for name, known in PUBLISHED.items()
    if known.data == 'CIFAR-10'
  },
  'preact_resnet18': {'name': 'preact_resnet18'},
  # The teacher of configs/evidence.py, 1.1 million parameters.
  'wrn22': {'name': 'wide_resnet', 'depth': 22, 'width': 2},
  # For CPUs: 0.31 million parameters, maps of 16x16, 8x8 and 4x4 pixels.
  'small': {
    'name': 'small_resnet',
    'features': (32, 64, 128),
    'stage_sizes': (1, 1, 1),
    'strides': (2, 2, 2),
  },
}
# How Mo et al. (2022) train transformers (train_cifar.py and parser_cifar.py of
# their code), beside PGD-10 at 8 / 255, mixed images and weights of ImageNet.
TRANSFORMERS = ('vit', 'deit')
TRANSFORMER = {
  'epochs': 40,
  'batch_size': 64,
  'learning_rate': 0.1,
  'milestones': (35 / 40, 38 / 40),
  'weight_decay': 1e-4,
  'gradient_clip': 1.0,
  'select': 'last',
}
# Sides of the common attention maps, where it is not 8.
MAP_SIZES = {'small': 4}
# Spaces and terms (configs/ablations/terms.py) of tables and figures. The paper
# does not say which spaces Figs. 2, 5B, 6, 8, 9 and 12 show.
_TABLE_1 = ('s3', 's5', 's7', 'm', 'm2', 'l')
_SMALL = ('s3', 's5', 's7')
_TERMS = ('ce', 'ce_kl', 'rnas_cl')
_TABLES: dict[str, rows.Table] = {
  '1': (_TABLE_1, (), ('rnas_cl',)),
  '2': ((*_SMALL, 'm', 'l'), (), ('rnas_cl',)),
  '6': (('m2', 'l'), (), ('rnas_cl',)),
  'fig1': (_TABLE_1, (), ('rnas_cl',)),
  'fig2': (('s3',), (), ('rnas_cl',)),
  'fig5': (('s7',), (), _TERMS),
  'fig6': (_SMALL, (), _TERMS),
  'fig7': (('s5',), (), ('rnas_cl',)),
  'fig8': ((*_SMALL, 'm'), (), ('rnas_cl',)),
  'fig9': ((*_SMALL, 'm'), (), ('rnas_cl',)),
  'fig12': (('s3',), (), ('rnas_cl',)),
  'widths': (_SMALL, (), _TERMS),
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
  """Makes the config of the paper's setting.

  Args:
    argument: `space=` (s3, s5, s7, m, m2, l), `teacher=` (wrn34, resnet18,
      resnet50, vit, deit, preact_resnet18, wrn22, small), `preset=` (`ours`,
      `paper` as printed, `authors` as released), `smoke` (minutes on a CPU),
      `adversarial=` (`yes`, or `no` for the first half of Table 1 alone),
      separated by commas.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  values = arguments.parse(
    argument,
    {
      'space': 's3',
      'teacher': 'wrn34',
      'smoke': '',
      'adversarial': 'yes',
      'preset': 'ours',
    },
  )
  config = settings.template()
  config.space.name = arguments.pick(values, 'space', spaces.CIFAR_SPACES)
  teacher = arguments.pick(values, 'teacher', NETWORKS)
  for section in (config.teacher, config.vulnerable_teacher):
    section.network.update(NETWORKS[teacher])
  config.distillation.map_size = MAP_SIZES.get(teacher, 8)

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
  config.teacher.adversarial_training.name = 'pgd'
  config.teacher.adversarial_training.num_steps = 10
  config.teacher.optimization.select = 'best'
  # The best one comes soon after the first decay.
  config.teacher.optimization.checkpoint_every = 1
  if teacher in TRANSFORMERS:
    for section in (config.teacher, config.vulnerable_teacher):
      section.optimization.update(TRANSFORMER)

  # Section 4.2: RNAS-CL goes on for 20 epochs of eq. (6), TRADES + CAC beside
  # the terms of its teacher. The optimiser (by default Adam, a cosine from
  # 0.004 to 4e-5, weight decay 4e-5), and the attack's radius 0.031 with 10
  # steps of 0.0078, are those of the authors' code.
  config.adversarial.optimization.epochs = 20
  config.adversarial.optimization.learning_rate = 0.004
  if arguments.pick(values, 'adversarial', ('yes', 'no')) == 'no':
    config.adversarial.students = {}

  # AutoAttack evaluates an image that it cannot break thousands of times: only
  # students, whose rows Table 1 has.
  config.evaluation.auto_attack = ('standard',)
  config.evaluation.auto_attack_models = (
    *config.students,
    *config.adversarial.students,
  )

  presets.apply(config, arguments.pick(values, 'preset', presets.NAMES))
  if values['smoke']:
    shrink(config)
  return config


def sweep(argument: str | None = None) -> list[sweeps.Row]:
  """Makes the rows of Tables 1, 2 and 6, and of the figures of CIFAR-10.

  Args:
    argument: `table=` (1, 2, 6, fig1, fig2, fig5, fig6, fig7, fig8, fig9,
      fig12, and `widths` for section 5.3), all without it; `space=` and
      `teacher=` (of configs/ablations/teacher.py) in place of the paper's;
      `smoke`.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  return rows.tables(rows.parse(argument, 'cifar10'), _TABLES, rows.students)


def shrink(config: ml_collections.ConfigDict) -> None:
  """Makes every stage run on real images in minutes on a CPU."""
  config.data.max_train = 1024
  config.data.max_test = 256
  config.data.validation_size = 128
  config.teacher.network = settings.template().teacher.network
  config.teacher.network.update(NETWORKS['small'], features=(16, 32, 64))
  config.teacher.adversarial_training.num_steps = 2
  config.teacher.adversarial_training.step_size_255 = 6.0
  config.distillation.map_size = 4
  one_epoch(config)
  if 'ce_kl' in config.students:
    del config.students.ce_kl
  config.evaluation.batch_size = 128
  config.evaluation.curve_attacks = ('fgsm',)
  config.evaluation.curve_images = 128
  config.evaluation.curve_epsilons_255 = (2.0, 8.0)
  config.evaluation.attacks = ('fgsm', 'pgd20_rnascl')
  # AutoAttack would take longer than all of this.
  config.evaluation.auto_attack = ()
  config.evaluation.auto_attack_models = ()


def one_epoch(config: ml_collections.ConfigDict) -> None:
  """Gives all stages one epoch, and further training attacks of two steps."""
  for name in ('teacher', 'search', 'train', 'adversarial'):
    config[name].optimization.epochs = 1
  for tuned in config.adversarial.students.values():
    tuned.adversarial_training.num_steps = 2
    tuned.adversarial_training.validation_steps = 2

"""ImageNet-100: the search of Tables 3 and 5, and the students of Table 5.

  rnascl import-teacher --teacher=imagenet_wrn50 \
    --file=Salman2020Do_50_2.pt --output=teachers/imagenet_wrn50
  rnascl pipeline --config=imagenet100 --workdir=DIR
  rnascl pipeline \
    --config=imagenet100:teacher=resnet18,rows=fig4 --workdir=DIR18

The teachers are published checkpoints of ImageNet (docs/teachers.md), imported
as by the first command and never trained: a run whose teacher is not in
`teachers/imagenet_<teacher>`, or in `--config.teacher.checkpoint=FOLDER`, says
so and ends. A student learns from the logits of its hundred classes.

Table 5 prints for students of space I, as they are trained, and after further
training with TRADES in place of the cross-entropy of eq. (4) (%; millions):

| teacher  | TRADES | clean | PGD-20 | params | MACs   | here        |
| -------- | ------ | ----- | ------ | ------ | ------ | ----------- |
| resnet18 | no     | 85.22 | 3.36   | 3.94   | 241.98 | not yet run |
| resnet50 | no     | 85.98 | 8.3    | 3.96   | 244.76 | not yet run |
| wrn50    | no     | 85.46 | 5.08   | 4.01   | 255.37 | not yet run |
| resnet18 | yes    | 78.94 | 28.06  | 3.94   | 241.98 | not yet run |
| resnet50 | yes    | 79.95 | 32.44  | 3.96   | 244.76 | not yet run |
| wrn50    | yes    | 79.42 | 29.02  | 4.01   | 255.37 | not yet run |

The radius of its PGD-20 is not printed: it is attacked at 8 / 255, as section
4.1 says of all, and the curves have 4 / 255 and the budgets of Fig. 4 besides,
on all test images. `rows=fig4` adds the students "KL-X-T" and "Standard" of
section 4.9. They differ from the paper's in that they are trained in the
architecture that RNAS-CL found; its own were searched with their own losses, as
are the rows of the sweep (`table=` 5, fig4, fig5, fig10 or fig11), which are
runs of configs/ablations/terms.py:

  rnascl sweep --workdir=ROOT \
    --config=imagenet100:table=fig4

Not printed either, and as on CIFAR-10 here: 20 epochs of TRADES at a rate of
0.004, radius 0.031 with 10 steps of 0.0078. The paper calls its teachers those
of Engstrom et al., who publish a ResNet-50 only (teacher=resnet50_madry); the
others are of Salman et al. (2020). These four were trained at 4 / 255. The
authors' code names three of Salman et al. that were trained in an L2 ball of
radius 1 (teacher=wrn50_l2, resnet50_l2, resnet18_l2): `preset=authors` has
wrn50_l2 unless `teacher=` names another.

Hardware: one GPU or more; what a run costs on which is in docs/costs.md. Where
its memory is too small, `--config.search.optimization.accumulate=4` and the
same for train and adversarial, or `--config.space.remat`. Not yet run.

Data: ImageNet through TensorFlow Datasets, prepared as ArrayRecord; the classes
of Tian et al. (2020) are in configs/imagenet100.txt.
"""

import pathlib

import ml_collections

from rnascl_jax import sweeps
from rnascl_jax.config import arguments, config_files, presets, settings
from rnascl_jax.data import datasets
from rnascl_jax.models.teachers.published import PUBLISHED
from rnascl_jax.search import spaces
from rnascl_jax.sweeps import table_rows as rows

cifar10 = config_files.shipped('cifar10')

_PREFIX = 'imagenet_'
# Teachers by their short names: resnet18, resnet50, resnet50_madry, wrn50, and
# resnet18_l2, resnet50_l2, wrn50_l2.
TEACHERS = tuple(
  name.removeprefix(_PREFIX)
  for name, known in PUBLISHED.items()
  if known.data == 'ImageNet'
)
_CLASSES = pathlib.Path(__file__).with_name('imagenet100.txt')
_ROWS = ('table5', 'fig4')
# Spaces, teachers and terms (configs/ablations/terms.py). The paper does not
# say which three spaces Figs. 10 and 11 show.
_PAPERS = ('resnet18', 'resnet50', 'wrn50')
_TABLES: dict[str, rows.Table] = {
  '5': (('i',), _PAPERS, ('rnas_cl',)),
  'fig4': (('i',), _PAPERS, ('ce', 'ce_kl', 'rnas_cl')),
  'fig5': (('i',), ('resnet50',), ('ce_kl', 'rnas_cl')),
  'fig10': (('is', 'im', 'i'), ('wrn50',), ('rnas_cl',)),
  'fig11': (('is', 'im', 'i'), ('wrn50',), ('rnas_cl',)),
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
  """Makes the config of the paper's setting.

  Args:
    argument: `space=` (i, is, im, il), `teacher=` (one of `TEACHERS`; without
      it wrn50, and wrn50_l2 of preset=authors), `rows=` (table5, fig4),
      `preset=` (`ours`, `paper`, `authors`), `smoke` (minutes on a CPU),
      separated by commas.

  Raises:
    ValueError: if a name or a value is unknown.
    FileNotFoundError: configs/imagenet100.txt is missing.
  """
  values = arguments.parse(
    argument,
    {
      'space': 'i',
      'teacher': '',
      'rows': 'table5',
      'preset': 'ours',
      'smoke': '',
    },
  )
  config = settings.template()
  config.space.name = arguments.pick(values, 'space', spaces.IMAGENET_SPACES)
  preset = arguments.pick(values, 'preset', presets.NAMES)
  default = 'wrn50_l2' if preset == 'authors' else 'wrn50'
  values['teacher'] = values['teacher'] or default
  use_imagenet(config, arguments.pick(values, 'teacher', TEACHERS))
  config.data.classes = datasets.read_classes(_CLASSES)

  if arguments.pick(values, 'rows', _ROWS) == 'table5':
    config.students = {'rnas_cl': config.students.rnas_cl}
  # Section 4.7: TRADES replaces the cross-entropy of eq. (4), whose other terms
  # stay; no consistency.
  config.adversarial.students = {
    'rnas_cl_trades': settings.fine_tuning_template(
      label='RNAS-CL + TRADES', cac_weight=0.0
    )
  }
  # The paper has 20 such epochs on CIFAR-10, and its code this rate, of Adam.
  config.adversarial.optimization.epochs = 20
  config.adversarial.optimization.learning_rate = 0.004

  config.evaluation.attacks = ('fgsm', 'pgd20_rnascl')
  config.evaluation.epsilon_255 = 8.0
  config.evaluation.curve_attacks = ('fgsm', 'pgd20_rnascl')
  config.evaluation.curve_epsilons_255 = (1.0, 2.0, 4.0, 8.0)
  config.evaluation.curve_images = 0
  presets.apply(config, preset)
  if values['smoke']:
    shrink(config)
  return config


def sweep(argument: str | None = None) -> list[sweeps.Row]:
  """Makes the rows of Table 5, and of Figs. 4, 5A, 10 and 11.

  Args:
    argument: `table=` (5, fig4, fig5, fig10, fig11), all without it; `space=`
      and `teacher=` for one alone; `smoke`.

  Returns:
    The rows; teachers are not attacked.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  values = rows.parse(argument, 'imagenet100')
  return rows.tables(values, _TABLES, rows.students)


def use_imagenet(config: ml_collections.ConfigDict, teacher: str) -> None:
  """Sets data, teacher and schedules of section 4.1, also for the subset.

  Args:
    config: to be changed.
    teacher: one of `TEACHERS`.
  """
  config.data.name = 'imagenet'
  # Random-resized crops instead of padding.
  config.data.padding = 0
  config.teacher.network.update(PUBLISHED[_PREFIX + teacher].network)
  config.teacher.checkpoint = f'teachers/{_PREFIX}{teacher}'
  # Maps of 112 to 7 pixels at 224.
  config.distillation.map_size = 14
  config.space.bfloat16 = 'accelerators'
  config.adversarial.optimization.batch_size = 256
  for stage in (config.search, config.train):
    stage.optimization.batch_size = 256
    stage.optimization.learning_rate = 0.1
    stage.optimization.schedule = 'cosine'
    stage.optimization.momentum = 0.9
    stage.optimization.weight_decay = 4e-5
  config.search.optimization.epochs = 100
  config.train.optimization.epochs = 200
  # An adversarial image of ImageNet has 600 kB as float32.
  config.evaluation.save_images = False
  # Table 3 and Table 5 have no AutoAttack.
  config.evaluation.auto_attack = ()


def shrink(config: ml_collections.ConfigDict) -> None:
  """Makes every stage run on few real images of 64 pixels, minutes on a CPU.

  As there is no checkpoint, a tiny teacher is trained for an epoch.
  """
  config.data.image_size = 64
  config.data.max_train = 64
  config.data.max_test = 32
  config.data.validation_size = 16
  config.data.workers = 0
  config.teacher.checkpoint = ''
  config.teacher.network = settings.template().teacher.network
  config.teacher.network.update(
    cifar10.NETWORKS['small'], features=(8, 16, 32), stage_sizes=(1, 1, 1)
  )
  config.teacher.adversarial_training.num_steps = 1
  config.teacher.adversarial_training.validation_steps = 1
  config.train.adversarial_training.validation_steps = 2
  config.distillation.map_size = 4
  # One step has no parts.
  config.search.split = 'batches'
  cifar10.one_epoch(config)
  for name in ('teacher', 'search', 'train', 'adversarial'):
    config[name].optimization.batch_size = 32
  config.evaluation.batch_size = 32
  config.evaluation.curve_attacks = ('fgsm',)
  config.evaluation.curve_epsilons_255 = (4.0, 8.0)
  config.evaluation.map_images = 2
  config.evaluation.scored_images = 16

"""ImageNet: RNAS-CL-IL-WRT-50 of Table 3, trained with FastAT, CAC or Free.

  rnascl pipeline \
    --config=imagenet100:space=il --workdir=imagenet100_il
  rnascl pipeline --config=imagenet --workdir=DIR
  rnascl pipeline \
    --config=imagenet:objective=fast --workdir=DIR_FAST

Both rows of Table 3, with the search that they share:

  rnascl sweep --config=imagenet --workdir=ROOT

The first command searches on ImageNet-100, with a teacher that was imported as
configs/imagenet100.py says (`rnascl search` after
`rnascl teacher` is enough). What it found is read from
`imagenet100_il/architecture.json`; from elsewhere with
`--config.search.architecture=FILE`. The student is trained with attacks from
the start, 4 / 255, with the divergence and the attention loss of eq. (4) on the
attacked images.

Table 3 prints, under PGD-10 at 4 / 255 (%; millions; GFLOPs are MACs here):

| objective | paper's name | clean | PGD-10 | params | GFLOPs | here        |
| --------- | ------------ | ----- | ------ | ------ | ------ | ----------- |
| fast      | FastAT       | 61.7  | 32.5   | 8.5    | 0.35   | not yet run |
| fast_cac  | FastAT + CAC | 61.5  | 33.5   | 8.5    | 0.35   | not yet run |
| free      | none printed |       |        |        |        | not yet run |
| free_cac  | none printed |       |        |        |        | not yet run |

Section 4.5 names Free Training beside FastAT without a row of it. Its replays
are 4, as its authors have on ImageNet, and they divide the 200 epochs. The
attack is `pgd10_imagenet_free`, that of their code: 10 steps of 1 / 255. It is
run on the first 5,000 of the 50,000 images, as many as RobustBench takes;
`--config.evaluation.max_images=0` takes all, and 30 GB of memory for what it
makes of them.

Hardware: what a run costs on which is in docs/costs.md. Not yet run.

Data: ImageNet through TensorFlow Datasets, prepared as ArrayRecord.
"""

from typing import Any

import ml_collections

from rnascl_jax import sweeps
from rnascl_jax.config import arguments, config_files, settings
from rnascl_jax.search import spaces
from rnascl_jax.sweeps import table_rows as rows

imagenet100 = config_files.shipped('imagenet100')

EPSILON_255 = 4.0
_REPLAYS = 4
_FREE = {'name': 'free', 'replays': _REPLAYS}
# Labels, and fields of `config.train.adversarial_training`.
_OBJECTIVES: dict[str, tuple[str, dict[str, Any]]] = {
  'fast_cac': ('FastAT + CAC', {'name': 'fast', 'cac_weight': 1.0}),
  'fast': ('FastAT', {'name': 'fast'}),
  'free': ('Free', _FREE),
  'free_cac': ('Free + CAC', _FREE | {'cac_weight': 1.0}),
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
  """Makes the config of the paper's setting.

  Args:
    argument: `objective=` (fast_cac, fast, free, free_cac), `space=` (il, is,
      im, i), `teacher=` (one of `imagenet100.TEACHERS`), `smoke` (minutes on a
      CPU, with a search of its own), separated by commas.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  values = arguments.parse(
    argument,
    {'objective': 'fast_cac', 'space': 'il', 'teacher': 'wrn50', 'smoke': ''},
  )
  config = settings.template()
  space = arguments.pick(values, 'space', spaces.IMAGENET_SPACES)
  teacher = arguments.pick(values, 'teacher', imagenet100.TEACHERS)
  objective = arguments.pick(values, 'objective', _OBJECTIVES)
  config.space.name = space
  imagenet100.use_imagenet(config, teacher)
  config.search.architecture = f'imagenet100_{space}/architecture.json'
  # Ten images of each class.
  config.data.validation_size = 10_000

  label, fields = _OBJECTIVES[objective]
  config.train.adversarial_training.update(fields, epsilon_255=EPSILON_255)
  if fields['name'] == 'free':
    config.train.optimization.epochs //= _REPLAYS
  config.students = {
    'rnas_cl': settings.student_template(label=f'RNAS-CL, {label}')
  }
  config.adversarial.students = {}

  # Adversarial images of all 50,000 would take 30 GB.
  config.evaluation.max_images = 5000
  config.evaluation.attacks = ('fgsm', 'pgd10_imagenet_free')
  config.evaluation.epsilon_255 = EPSILON_255
  config.evaluation.curve_attacks = ()
  if values['smoke']:
    imagenet100.shrink(config)
    config.search.architecture = ''
    config.train.adversarial_training.replays = 2
    config.evaluation.curve_attacks = ()
  return config


def sweep(argument: str | None = None) -> list[sweeps.Row]:
  """Makes the rows of Table 3: one search, and two trainings on ImageNet.

  Args:
    argument: `space=` and `teacher=` in place of the paper's; `smoke`.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  values = rows.parse(argument, 'imagenet100')
  arguments.refuse(values, 'configs/imagenet.py', 'table')
  (of,) = rows.combine(values, ('il',), ('wrn50',))
  search = sweeps.Row(
    f'{of.name}_search',
    of._replace(data='').config('imagenet100'),
    commands=('teacher', 'search'),
  )
  trained = [
    sweeps.Row(
      f'{of.name}_{objective}',
      of._replace(data='').config('imagenet', objective=objective),
      changes={'evaluation.teachers': False},
      takes={'search.architecture': f'{search.name}/architecture.json'},
    )
    for objective in ('fast', 'fast_cac')
  ]
  return [search, *trained]

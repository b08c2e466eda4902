"""Tables 10, 11 and 12: who teaches. Robust teachers, a vulnerable one, none.

Sections 5.2, 5.4 and 5.5 print, in % (clean / PGD-20):

| teacher                     | argument                    | s3            |
| --------------------------- | --------------------------- | ------------- |
| none, "Standard"            | terms=ce (terms.py)         | 89.92 / 17.69 |
| WRT-34, robust              | teacher=wrn34               | 89.4 / 34.3   |
| ResNet-50, robust           | teacher=resnet50            | 89.39 / 35.76 |
| ResNet-18, robust           | teacher=resnet18            | 88.47 / 26.35 |
| ResNet-50, without attacks  | teacher=vulnerable_resnet50 | 90.33 / 17.68 |
| ViT, robust                 | teacher=vit                 | 88.1 / 33.39  |
| DeiT Tiny, robust           | teacher=deit                | 87.0 / 30.8   |

| argument                    | s5            | s7            | the teacher   |
| --------------------------- | ------------- | ------------- | ------------- |
| terms=ce (terms.py)         | 90.76 / 18.44 | 90.98 / 19.3  |               |
| teacher=wrn34               | 90.4 / 35.59  | 90.62 / 37.24 | 86.07 / 58.33 |
| teacher=resnet50            | 90.53 / 37.32 | 90.41 / 37.98 |               |
| teacher=resnet18            | 88.77 / 25.49 | 89.47 / 27.96 |               |
| teacher=vulnerable_resnet50 | 91.51 / 19.11 | 92.39 / 20.2  | 93.67 / 18.5  |
| teacher=vit                 | 87.7 / 35.42  | 87.0 / 34.3   | 81.24 / 51.42 |
| teacher=deit                | 87.6 / 31.5   | 88.2 / 32.1   | 79.5 / 49.3   |

Each table is a sweep (`table=` 10, 11 or 12; `space=` and `teacher=` for one of
its columns or teachers). Hardware: one GPU; on digits minutes on a CPU. Not yet
run. Published teachers are imported as in docs/teachers.md:

  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=ablations/teacher:table=10 \
    --set=teacher_wrn34:teacher.checkpoint=teachers/wrn34
  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=ablations/teacher:table=11,data=digits

Its students are those of configs/ablations/terms.py, which go on with eq. (6)
besides. A teacher, its search and its student alone:

  rnascl pipeline \
    --config=ablations/teacher:teacher=vulnerable_resnet50 \
    --workdir=DIR
  rnascl pipeline \
    --config=ablations/teacher:data=digits,teacher=small \
    --workdir=DIR

"Standard" is `terms=ce` of configs/ablations/terms.py. Every teacher has a
search of its own, unlike the controls of configs/digits.py, which are taught in
the architecture and by the tutors that the robust teacher found.

What differs from the paper: its robust teachers are published checkpoints (of
Rice et al., Engstrom et al., and for ResNet-18 of Sehwag et al., who train with
additional generated images); without a checkpoint all three are trained by
PGD-AT of Rice et al. Its transformers are those of Mo et al., who publish no
files for CIFAR-10. They are trained here by the schedule of their code, with
SGD and clipped gradients. Theirs start from weights trained on ImageNet, which
`start` reads, fitted to images of 32x32 pixels and patches of 4:

  rnascl import-teacher --file=vit_base_patch16_224.safetensors \
    --network=vit_base,patch_size=16 --image_size=224 \
    --normalization=0.5,0.5,0.5/0.5,0.5,0.5 --output=teachers/vit_imagenet
  rnascl sweep --workdir=ROOT --seeds=0,1,2 \
    --config=ablations/teacher:table=12,teacher=vit \
    --set=teacher_vit:teacher.start=teachers/vit_imagenet

Their mixed images are left out (mixup and cutmix of teacher.optimization have
them), and what they add to the architecture is not here (masked gradients and
perturbations); it is not stated whether the paper's teachers have the latter.
Their positions are resized bilinearly, here as in timm. Which of their ViTs the
paper means, it does not say; here it is ViT-B/4.

The training of the paper's vulnerable teacher is not printed; here it is that
of the robust one without attacks, to its last epoch.
"""

from collections.abc import Sequence

import ml_collections

from rnascl_jax import sweeps
from rnascl_jax.config import arguments, config_files
from rnascl_jax.sweeps import table_rows as rows

cifar10 = config_files.shipped('cifar10')
digits = config_files.shipped('digits')

_CIFAR10 = (
  'wrn34',
  'resnet50',
  'resnet18',
  'vit',
  'deit',
  'vulnerable_resnet50',
  'wrn22',
  'vulnerable_wrn22',
  'small',
  'vulnerable_small',
)
_DIGITS = ('small', 'vulnerable_small')
# Names of the argument, with their defaults.
ARGUMENTS = {'teacher': '', 'space': '', 'data': 'cifar10', 'smoke': ''}
_VULNERABLE = 'vulnerable_'
# Spaces, teachers, and terms of the row that has no teacher.
_STANDARD = ('ce',)
_SPACES = ('s3', 's5', 's7')
_TABLES: dict[str, dict[str, rows.Table]] = {
  'cifar10': {
    '10': (_SPACES, ('wrn34', 'resnet50', 'resnet18'), _STANDARD),
    '11': (_SPACES, ('vulnerable_resnet50', 'wrn34'), ()),
    '12': (_SPACES, ('vit', 'deit'), ()),
  },
  'digits': {
    '10': ((), ('small',), _STANDARD),
    '11': ((), ('vulnerable_small', 'small'), ()),
  },
}


def get_config(argument: str | None = None) -> ml_collections.ConfigDict:
  """Makes the config of one teacher, its search and its student.

  Args:
    argument: `teacher=` (wrn34, resnet50, resnet18, vit, deit,
      vulnerable_resnet50, wrn22, vulnerable_wrn22, small, vulnerable_small;
      digits: the last two),
      `space=` (of configs/cifar10.py), `data=` (cifar10, digits), `smoke`,
      separated by commas.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  config = start(arguments.parse(argument, ARGUMENTS))
  # Tables 10 to 12 have no adversarial training.
  leave_as_trained(config)
  return config


def leave_as_trained(config: ml_collections.ConfigDict) -> None:
  """Leaves out further training on attacks, and AutoAttack."""
  config.adversarial.students = {}
  config.evaluation.auto_attack = ()
  config.evaluation.auto_attack_models = ()


def start(values: dict[str, str]) -> ml_collections.ConfigDict:
  """Makes RNAS-CL, as trained and with eq. (6), of any teacher; no controls.

  Args:
    values: `data`, `space`, `teacher` and `smoke` of an argument; '' where they
      were not given.

  Returns:
    A config for ablations to change.

  Raises:
    ValueError: if a value is unknown.
  """
  on_digits = arguments.pick(values, 'data', ('cifar10', 'digits')) == 'digits'
  default = 'small' if on_digits else 'wrn34'
  values = values | {'teacher': values['teacher'] or default}
  teacher = arguments.pick(
    values, 'teacher', _DIGITS if on_digits else _CIFAR10
  )
  if on_digits:
    arguments.refuse(values, 'data=digits', 'space')
    config = digits.get_config(arguments.forward(values, 'smoke'))
  else:
    network = {'teacher': teacher.removeprefix(_VULNERABLE)}
    names = ('teacher', 'space', 'smoke')
    config = cifar10.get_config(arguments.forward(values | network, *names))
  config.controls = False
  config.students = {'rnas_cl': config.students.rnas_cl}
  if teacher.startswith(_VULNERABLE):
    without_attacks(config)
  return config


def without_attacks(config: ml_collections.ConfigDict) -> None:
  """Trains the teacher on clean images, to its last epoch."""
  config.teacher.adversarial_training.name = 'standard'
  config.teacher.optimization.select = 'last'
  config.teacher.label = 'Teacher without attacks'


def sweep(argument: str | None = None) -> list[sweeps.Row]:
  """Makes the rows of Tables 10, 11 and 12.

  Args:
    argument: `table=` (10, 11, 12; digits have no 12), all without it;
      `data=` (cifar10, digits); `space=` and `teacher=` for one alone; `smoke`.

  Raises:
    ValueError: if a name or a value is unknown.
  """
  values = rows.parse(argument, *_TABLES)
  return rows.tables(values, _TABLES[values['data']], _rows)


def _rows(of: rows.Setting, terms: Sequence[str]) -> list[sweeps.Row]:
  alone = [rows.student(of, name) for name in terms]
  # Other tables fine-tune the students of their own teacher.
  robust = of.teacher == rows.ROBUST[of.data]
  return [*alone, rows.teacher(of), rows.student(of, fine_tuned=robust)]

"""The settings of a run: what a config may hold, with types and bounds.

A config is an `ml_collections.ConfigDict` of numbers, strings, booleans and
tuples. `parse` turns it into the frozen dataclasses below and complains, before
anything is computed, of unknown and missing fields and of values out of bounds.
`template` is a config with every field at the paper's value for CIFAR-10, for
config files to change. Names are turned into functions in `resolve` alone.

Example:
  >>> from rnascl_jax import settings
  >>> config = settings.template()
  >>> config.search.gamma = -1.0
  >>> settings.parse(config)
  Traceback (most recent call last):
    ...
  ValueError: config.search.gamma=-1.0 must be at least 0.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from rnascl_jax import fields


@dataclasses.dataclass(frozen=True)
class Data:
  """Images and their augmentation.

  Attributes:
    name: of the data set, see `datasets.DATASETS`.
    data_dir: of TensorFlow Datasets; empty means TFDS_DATA_DIR or its default.
    validation_size: images held out of the training set to choose checkpoints.
    max_train: most images to train on; 0 means all.
    max_test: most images to test on; 0 means all.
    padding: pixels added on every side before a random crop.
    flip: whether images are mirrored at random.
  """

  name: str = 'cifar10'
  data_dir: str = ''
  validation_size: int = fields.bounded(1000, 1)
  max_train: int = fields.bounded(0, 0)
  max_test: int = fields.bounded(0, 0)
  padding: int = fields.bounded(4, 0)
  flip: bool = True


@dataclasses.dataclass(frozen=True)
class Space:
  """The search space.

  Attributes:
    name: a space of Table 13 ('s3', 's5', 's7', 'm', 'm2', 'l') or 'custom'.
    depths: blocks of each stage (custom only, as are the next five).
    choices: filter choices of each stage.
    strides: stride of each stage.
    stem_features: filters of the stem.
    stem_stride: stride of the stem.
    expansion: inner over input width of a block.
    shortcut: what a residual does where widths differ: 'pad', 'drop' or
      'project'.
    layers: which student layers are taught: every 'conv' or every 'block'.
  """

  name: str = 's3'
  depths: tuple[int, ...] = fields.bounded((), 1)
  choices: tuple[tuple[int, ...], ...] = ()
  strides: tuple[int, ...] = fields.bounded((), 1)
  stem_features: int = fields.bounded(16, 1)
  stem_stride: int = fields.bounded(2, 1)
  expansion: int = fields.bounded(6, 1)
  shortcut: str = 'pad'
  layers: str = fields.one_of('conv', 'block')


@dataclasses.dataclass(frozen=True)
class Optimization:
  """Stochastic gradient descent and its schedule.

  Attributes:
    epochs: how long.
    batch_size: images of a step, over all devices.
    learning_rate: the highest.
    schedule: 'piecewise', 'cosine', 'cyclic' (up, then down) or 'constant'.
    milestones: 'piecewise' divides the rate by 10 after these shares of the
      training; the paper has 0.75 and 0.9.
    warmup: share of the training in which the rate rises linearly.
    momentum: of SGD.
    weight_decay: added to the gradient for every parameter, as in PyTorch.
    checkpoint_every: epochs between checkpoints and validations.
    select: which checkpoint is used afterwards: the 'last' or the 'best' on the
      validation images.
  """

  epochs: int = fields.bounded(100, 1)
  batch_size: int = fields.bounded(128, 1)
  learning_rate: float = fields.bounded(0.1, 0)
  schedule: str = 'piecewise'
  milestones: tuple[float, ...] = fields.bounded((0.75, 0.9), 0, 1)
  warmup: float = fields.bounded(0.0, 0, 1)
  momentum: float = fields.bounded(0.9, 0, 1)
  weight_decay: float = fields.bounded(2e-4, 0)
  checkpoint_every: int = fields.bounded(5, 1)
  select: str = fields.one_of('last', 'best')


@dataclasses.dataclass(frozen=True)
class Network:
  """A teacher network.

  Attributes:
    name: see `teachers.TEACHERS`.
    depth: of a 'wide_resnet'.
    width: of a 'wide_resnet', its widening factor.
    features: of a 'small_resnet', filters of each stage.
    stage_sizes: of a 'small_resnet', blocks of each stage.
    strides: of a 'small_resnet', stride of each stage.
    bfloat16: whether to compute in bfloat16: 'never', 'always' or on
      'accelerators' only.
  """

  name: str = 'wide_resnet34_10'
  depth: int = fields.bounded(0, 0)
  width: int = fields.bounded(0, 0)
  features: tuple[int, ...] = fields.bounded((), 1)
  stage_sizes: tuple[int, ...] = fields.bounded((), 1)
  strides: tuple[int, ...] = fields.bounded((), 1)
  bfloat16: str = fields.one_of('accelerators', 'never', 'always')


@dataclasses.dataclass(frozen=True)
class Regime:
  """On which images to train.

  Attributes:
    name: 'standard' or 'pgd'.
    epsilon_255: radius of the L-infinity ball, in 1/255.
    step_size_255: step of the attack, in 1/255.
    num_steps: of the attack.
  """

  name: str = 'standard'
  epsilon_255: float = fields.bounded(8.0, 0, 255)
  step_size_255: float = fields.bounded(2.0, 0, 255)
  num_steps: int = fields.bounded(10, 1)


@dataclasses.dataclass(frozen=True)
class Teacher:
  """A teacher and how it is trained.

  Attributes:
    network: its architecture.
    regime: on which images it is trained.
    optimization: how long and how fast.
    label: what tables call it.
    checkpoint: folder of a trained teacher (`teacher/` of another workdir) to
      use instead of training one; empty to train.
  """

  network: Network = Network()
  regime: Regime = Regime('pgd')
  optimization: Optimization = Optimization(
    epochs=200,
    milestones=(0.5, 0.75),
    weight_decay=5e-4,
    select='best',
  )
  label: str = 'Robust teacher'
  checkpoint: str = ''


@dataclasses.dataclass(frozen=True)
class Search:
  """The search of filters and tutors (section 4.1).

  Attributes:
    optimization: of the supernet's weights.
    regime: on which images the weights are trained.
    kl_weight: of the divergence from the teacher, 1 in eq. (2).
    gamma: gamma_s of eq. (2).
    arch_optimizer: of the architecture parameters: 'adam' or 'sgd'.
    arch_learning_rate: of the architecture parameters.
    arch_share: share of each batch that moves the architecture parameters.
    arch_warmup_epochs: epochs before they move.
    temperature: of the Gumbel-Softmax at the start.
    temperature_decay: rate at which it falls per epoch.
    noise: 'gumbel' or 'normal'.
    hard: whether draws are one-hot, with the gradient of soft ones.
    penalty: how the cost enters: 'power' multiplies the loss by
      (n_f / n_ref)^exponent, 'log' by alpha log(n_f)^exponent (FBNet).
    flops_exponent: the exponent; FBNet's log penalty has 0.6.
    log_alpha: alpha of the 'log' penalty.
    weigh_cost: whether the weights' step has the cost as a constant factor.
  """

  optimization: Optimization = Optimization()
  regime: Regime = Regime()
  kl_weight: float = fields.bounded(1.0, 0)
  gamma: float = fields.bounded(1.0, 0)
  arch_optimizer: str = 'adam'
  arch_learning_rate: float = fields.bounded(0.01, 0)
  arch_share: float = fields.bounded(0.2, 0, 1)
  arch_warmup_epochs: int = fields.bounded(0, 0)
  temperature: float = fields.bounded(5.0, 1e-6)
  temperature_decay: float = fields.bounded(0.045, 0)
  noise: str = 'gumbel'
  hard: bool = False
  penalty: str = 'power'
  flops_exponent: float = fields.bounded(1.0)
  log_alpha: float = fields.bounded(0.2, 0)
  weigh_cost: bool = True


@dataclasses.dataclass(frozen=True)
class Distillation:
  """What students take from a teacher's logits and maps.

  Attributes:
    direction: 'student_teacher' is the paper's KL(p, q) with p the student.
    temperature: divides the logits in the divergence.
    map_size: side of the common attention maps.
  """

  direction: str = 'student_teacher'
  temperature: float = fields.bounded(1.0, 1e-6)
  map_size: int = fields.bounded(8, 1)


@dataclasses.dataclass(frozen=True)
class Student:
  """One training of the derived architecture.

  Attributes:
    label: what tables call it.
    teacher: 'teacher', 'vulnerable_teacher' or '' to learn from labels alone.
    kl_weight: of the divergence, 1 in eq. (4).
    gamma: gamma_t of eq. (4).
  """

  label: str = 'RNAS-CL'
  teacher: str = 'teacher'
  kl_weight: float = fields.bounded(1.0, 0)
  gamma: float = fields.bounded(1.0, 0)


@dataclasses.dataclass(frozen=True)
class Train:
  """Training of the derived architecture from scratch.

  Attributes:
    optimization: how long and how fast.
    regime: on which images.
  """

  optimization: Optimization = Optimization()
  regime: Regime = Regime()


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Attacks on trained models.

  Attributes:
    attacks: presets, see `attacks.PRESETS`.
    auto_attack: ensembles of AutoAttack, 'standard' or 'plus', or members of
      it, see `resolve.ENSEMBLES` and `resolve.MEMBERS`; empty for none.
    auto_attack_models: which models it attacks: 'teacher',
      'vulnerable_teacher' and names of students; empty for all.
    auto_attack_images: most test images to attack with it; 0 means all.
    epsilon_255: radius of the L-infinity ball in 1/255; each preset keeps the
      ratio of its step to its radius. 0 leaves presets as published, and
      AutoAttack at 8.
    curve_attacks: presets whose accuracy is drawn against epsilon.
    curve_epsilons_255: radii of the curves, in 1/255.
    max_images: most test images to attack; 0 means all.
    curve_images: most test images for the curves; 0 means all.
    batch_size: images attacked at once, over all devices.
    save_images: whether adversarial images are kept, for each model and attack
      those that it broke, as float32: 12 kB an image of CIFAR-10. They are
      written and checked in any case.
    map_images: test images whose attention maps are saved.
  """

  attacks: tuple[str, ...] = (
    'fgsm',
    'pgd20_rnascl',
    'mi_fgsm20_rnascl',
    'cw20_rnascl',
  )
  auto_attack: tuple[str, ...] = ('standard',)
  auto_attack_models: tuple[str, ...] = ()
  auto_attack_images: int = fields.bounded(0, 0)
  epsilon_255: float = fields.bounded(0.0, 0, 255)
  curve_attacks: tuple[str, ...] = ('fgsm', 'pgd20_rnascl')
  curve_epsilons_255: tuple[float, ...] = fields.bounded(
    (1.0, 2.0, 4.0, 8.0, 16.0, 32.0), 0, 255
  )
  max_images: int = fields.bounded(0, 0)
  curve_images: int = fields.bounded(1000, 0)
  batch_size: int = fields.bounded(256, 1)
  save_images: bool = True
  map_images: int = fields.bounded(6, 1)


@dataclasses.dataclass(frozen=True)
class Settings:
  """All settings of a run.

  Attributes:
    seed: decides every random draw.
    devices: how many to use of each process; 0 means all.
    steps_per_dispatch: training steps in one program; 0 picks 1 on a CPU and 10
      elsewhere, where starting a program costs as much as a small step.
    data: images.
    space: filter choices.
    distillation: what is taken from teachers.
    teacher: the robust one.
    vulnerable_teacher: a control, trained without attacks (Table 11).
    controls: whether the control is trained, with the students it teaches.
    search: of filters and tutors.
    train: of the derived architecture.
    students: trainings of the derived architecture, by name.
    evaluation: attacks on the results.
  """

  seed: int = fields.bounded(0, 0, 2**32 - 1)
  devices: int = fields.bounded(0, 0)
  steps_per_dispatch: int = fields.bounded(0, 0)
  data: Data = Data()
  space: Space = Space()
  distillation: Distillation = Distillation()
  teacher: Teacher = Teacher()
  vulnerable_teacher: Teacher = Teacher(
    regime=Regime('standard'), label='Teacher without attacks'
  )
  controls: bool = False
  search: Search = Search()
  train: Train = Train()
  students: Mapping[str, Student] = dataclasses.field(
    default_factory=lambda: {
      'rnas_cl': Student(),
      'ce_kl': Student('CE + KL', gamma=0.0),
      'ce': Student('CE', '', 0.0, 0.0),
    }
  )
  evaluation: Evaluation = Evaluation()


def template() -> ml_collections.ConfigDict:
  """A config with every field, at the paper's values for CIFAR-10."""
  return ml_collections.ConfigDict(dataclasses.asdict(Settings()))


def student_template(**changes: Any) -> ml_collections.ConfigDict:
  """A student's fields, for `config.students.<name>`."""
  return ml_collections.ConfigDict(dataclasses.asdict(Student(**changes)))


def parse(config: Mapping[str, Any] | ml_collections.ConfigDict) -> Settings:
  """Reads and checks a config.

  Args:
    config: nested fields, named as the dataclasses of this module.

  Returns:
    The settings.

  Raises:
    ValueError: for an unknown or missing field, a value of the wrong type or
      out of bounds, or settings that contradict each other.
  """
  if isinstance(config, ml_collections.ConfigDict):
    config = config.to_dict()
  settings = fields.read(Settings, config, 'config')
  _check_together(settings)
  return settings


# What describes the stages of a custom search space.
_STAGES = ('depths', 'choices', 'strides')
# Names of other models and files of a run.
_RESERVED = ('teacher', 'vulnerable_teacher', 'search', 'robustness')


def _check_together(settings: Settings) -> None:
  """Raises where fields are fine one by one but contradict each other."""
  space = settings.space
  for name in (*_STAGES, 'stem_features', 'stem_stride', 'expansion'):
    value, default = getattr(space, name), getattr(Space(), name)
    if space.name != 'custom' and value != default:
      raise ValueError(
        f'config.space.{name}={value} has no meaning beside '
        f"config.space.name={space.name!r}: set name='custom', or leave it at "
        f'{default}.'
      )
    if space.name == 'custom' and name in _STAGES and not value:
      raise ValueError(
        f"config.space.name='custom' needs config.space.{name}, one entry for "
        'each stage.'
      )
  if not settings.evaluation.attacks or not settings.students:
    raise ValueError(
      f'config.evaluation.attacks={settings.evaluation.attacks} and '
      f'config.students={tuple(settings.students)} must not be empty.'
    )
  for name, student in settings.students.items():
    where = f'config.students.{name}'
    if name in _RESERVED or not name.isidentifier():
      raise ValueError(
        f'{where} cannot be the name of a student: use letters, digits and _, '
        f'and none of {_RESERVED}.'
      )
    if student.teacher not in ('', 'teacher', 'vulnerable_teacher'):
      raise ValueError(
        f'{where}.teacher={student.teacher!r} must be "teacher", '
        '"vulnerable_teacher" or "" for none.'
      )
    if not student.teacher and (student.kl_weight or student.gamma):
      raise ValueError(
        f'{where} has kl_weight={student.kl_weight} and gamma={student.gamma} '
        'but no teacher: set both to 0 or name a teacher.'
      )
    if student.teacher == 'vulnerable_teacher' and not settings.controls:
      raise ValueError(
        f'{where}.teacher is the control, which is not trained: set '
        'config.controls=True.'
      )

"""Fields that are fine one by one and contradict each other."""

import dataclasses
import math
import operator
import re
from collections.abc import Iterable

from rnascl_jax.config.schema import (
  AdversarialTraining,
  Data,
  EvaluationSettings,
  FineTuning,
  NetworkShape,
  Optimization,
  SearchSettings,
  Settings,
  Space,
  StudentSettings,
  Teacher,
  TeacherWeights,
)
from rnascl_jax.runtime import spelling

# What describes the stages of a custom search space, and the rest of it.
_STAGES = ('depths', 'choices', 'strides')
_CUSTOM = (
  *_STAGES,
  'stem_features',
  'stem_stride',
  'expansion',
  'expansions',
  'squeeze_excite',
  'head_features',
)
# Schedules that end where they end, without a floor to choose.
_WITHOUT_FLOOR = ('piecewise', 'cyclic', 'one_cycle', 'constant')
_TRAININGS = ('search', 'train', 'adversarial', 'adversarial.pruning')
# Names of other models and files of a run.
_RESERVED = (
  'teacher',
  'vulnerable_teacher',
  'search',
  'robustness',
  'attention',
)
_NAME = re.compile(r'[A-Za-z][A-Za-z0-9_]{0,63}')
# Characters of a label.
_LONGEST = 100
# Blocks of a network and widths of one of them, at most.
_MOST_BLOCKS, _MOST_CHOICES = 256, 64
# Radii at which accuracies on CIFAR-10 are published.
_RADII = {'L2': 0.5, 'L1': 12.0}
# The least temperature of a search.
_COLDEST = 1e-6


def check(settings: Settings) -> None:
  """Raises where fields are fine one by one but contradict each other."""
  _check_data(settings.data)
  _check_space(settings.space)
  _check_search(settings.search)
  _check_optimizations(settings)
  _check_norms(settings)
  _check_robust_distillation(settings)
  _check_labels(settings)
  if not settings.data.validation_size:
    check_validation(settings)
  if not settings.evaluation.attacks or not settings.students:
    raise ValueError(
      f'config.evaluation.attacks={settings.evaluation.attacks} and '
      f'config.students={tuple(settings.students)} must not be empty.'
    )
  _check_map_norm(settings)
  _check_tutors(settings)
  _check_divergences(settings)
  _check_names(settings)
  for where in ('teacher', 'vulnerable_teacher'):
    teacher = getattr(settings, where)
    _check_teacher(teacher, f'config.{where}')
    _check_label(teacher, f'config.{where}')
  for name, student in settings.students.items():
    where = f'config.students.{name}'
    _check_student(student, where, settings.controls)
    _check_label(student, where)
  for name, fine_tuning in settings.adversarial.students.items():
    where = f'config.adversarial.students.{name}'
    _check_label(fine_tuning, where)
    _check_pruning(fine_tuning, where)
    start = fine_tuning.student
    if start not in settings.students:
      hint = spelling.did_you_mean(start, settings.students)
      raise ValueError(
        f'{where}.student={start!r} is not a student of this '
        f'config.{hint} Choose one of: '
        f'{", ".join(map(repr, settings.students))}; or leave the entry out of '
        'config.adversarial.students.'
      )


def _check_data(data: Data) -> None:
  if data.name == 'imagenet':
    check_crops(data)
  _check_extra(data)
  # With JAX, which reading a config file, as tables do, does not need.
  from rnascl_jax.data import datasets

  for name in datasets.OPTIONS if datasets.is_known(data.name) else ():
    if name in datasets.options(data.name):
      continue
    if data.extra and name == 'memory_limit':
      continue
    value, default = getattr(data, name), getattr(Data(), name)
    if value != default:
      raise ValueError(
        f'config.data.{name}={value!r} has no meaning beside config.data.name='
        f'{data.name!r}: leave it at {default!r}.'
      )


def _check_extra(data: Data) -> None:
  """Raises for a share of no extra images, and for extra images of no place."""
  default = Data().extra_share
  if not data.extra and data.extra_share != default:
    raise ValueError(
      f'config.data.extra_share={data.extra_share} has no meaning beside '
      f"config.data.extra='': name extra images, or leave it at {default}."
    )
  if data.extra and ':' not in data.extra:
    raise ValueError(
      f'config.data.extra={data.extra!r} names no place: write npz:PATH, '
      'folder:PATH or tfds:NAME.'
    )


def check_crops(data: Data) -> None:
  """Raises for two kinds of random crops of images that are resized."""
  if data.padding and data.min_crop:
    raise ValueError(
      f'config.data.padding={data.padding} has no meaning beside the '
      f'random-resized crops of {data.name!r} (config.data.min_crop='
      f'{data.min_crop}): set it to 0; or set min_crop=0, for images that are '
      'resized as test images are and then cropped.'
    )


def _check_space(space: Space) -> None:
  for name in _CUSTOM:
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
  _check_blocks(space.depths, 'config.space.depths')
  for widths in space.choices:
    if len(widths) > _MOST_CHOICES:
      raise ValueError(
        f'config.space.choices has a stage of {len(widths)} widths; a search '
        f'is among {_MOST_CHOICES} at most.'
      )


def _check_optimizations(settings: Settings) -> None:
  """Raises for fields of an optimiser or a schedule that it does not have."""
  for name in ('teacher', 'vulnerable_teacher', *_TRAININGS):
    spec = operator.attrgetter(name)(settings).optimization
    _check_optimization(spec, f'config.{name}.optimization')
  search = settings.search
  _check_betas(search.arch_betas, search.arch_optimizer, 'config.search.arch_')
  scores = settings.adversarial.pruning.optimization
  for field in ('average_decay', 'average_from'):
    if value := getattr(search.optimization, field):
      raise ValueError(
        f'config.search.optimization.{field}={value} has no meaning in a '
        'search, whose weights are not used afterwards: set it to 0.'
      )
    if value := getattr(scores, field):
      raise ValueError(
        f'config.adversarial.pruning.optimization.{field}={value} is not '
        'possible: weights that are pruned and come back have no average of '
        '0. Set it to 0; the fine-tuning after it may have one.'
      )
  if search.optimization.mixes:
    raise ValueError(
      f'config.search.optimization.mixup={search.optimization.mixup} and '
      f'cutmix={search.optimization.cutmix}: a search does not mix images; set '
      'both to 0.'
    )


def _check_optimization(spec: Optimization, where: str) -> None:
  adaptive = spec.optimizer != 'sgd'
  if adaptive and spec.momentum != Optimization().momentum:
    raise ValueError(
      f'{where}.momentum={spec.momentum} has no meaning beside '
      f'{where}.optimizer={spec.optimizer!r}, which has betas: leave it at '
      f'{Optimization().momentum}.'
    )
  _check_betas(spec.betas, spec.optimizer, f'{where}.')
  _check_average(spec, where)
  _check_mixing(spec, where)
  if spec.min_learning_rate and spec.schedule in _WITHOUT_FLOOR:
    raise ValueError(
      f'{where}.min_learning_rate={spec.min_learning_rate} is where '
      f"schedule='cosine' ends, and has no meaning beside {where}.schedule="
      f'{spec.schedule!r}: set it to 0.'
    )
  if spec.min_learning_rate > spec.learning_rate:
    raise ValueError(
      f'{where}.min_learning_rate={spec.min_learning_rate} is above '
      f'{where}.learning_rate={spec.learning_rate}, the highest: lower it.'
    )
  if spec.schedule == 'one_cycle' and spec.warmup:
    raise ValueError(
      f"{where}.warmup={spec.warmup} is not for {where}.schedule='one_cycle', "
      'whose rate rises by itself: set it to 0.'
    )


def _check_average(spec: Optimization, where: str) -> None:
  """Raises for an average of no weights, and for two."""
  if spec.average_from > spec.epochs:
    raise ValueError(
      f'{where}.average_from={spec.average_from} must be at most {where}.'
      f'epochs={spec.epochs}: no weights would be averaged.'
    )
  if spec.average_from and spec.average_decay:
    raise ValueError(
      f'{where}.average_from={spec.average_from} and {where}.average_decay='
      f'{spec.average_decay} are two averages of the same weights: set one of '
      'them to 0.'
    )


def _check_mixing(spec: Optimization, where: str) -> None:
  """Raises for a probability of no mixture."""
  if spec.mixes and not spec.mix_probability:
    raise ValueError(
      f'{where}.mix_probability=0 mixes nothing beside {where}.mixup='
      f'{spec.mixup} and cutmix={spec.cutmix}: raise it, or set both to 0.'
    )
  if spec.mix_probability != 1 and not spec.mixes:
    raise ValueError(
      f'{where}.mix_probability={spec.mix_probability} has no meaning beside '
      f'{where}.mixup=0 and cutmix=0: set one of them, such as cutmix=1, or '
      'leave it at 1.'
    )


def _check_betas(betas: tuple[float, ...], optimizer: str, where: str) -> None:
  """Raises for betas that are not two, or beside an optimiser without them."""
  if len(betas) != 2:
    raise ValueError(
      f'{where}betas={betas} must have two numbers, such as '
      f'{Optimization().betas}.'
    )
  if optimizer == 'sgd' and betas != Optimization().betas:
    raise ValueError(
      f"{where}betas={betas} has no meaning beside {where}optimizer='sgd': "
      f'leave it at {Optimization().betas}.'
    )


def _check_norms(settings: Settings) -> None:
  """Raises for a radius that is not in the field of its norm."""
  methods = {
    name: getattr(settings, name).adversarial_training
    for name in ('teacher', 'vulnerable_teacher', 'search', 'train')
  }
  for name, tuned in settings.adversarial.students.items():
    methods[f'adversarial.students.{name}'] = tuned.adversarial_training
  for name, method in methods.items():
    where = f'config.{name}.adversarial_training'
    _check_norm(method, where, ('epsilon', 'step_size'))
    if (
      method.norm != 'Linf' and method.name != 'standard' and not method.epsilon
    ):
      raise ValueError(
        f'{where}.norm={method.norm!r} needs a radius: set {where}.epsilon, of '
        f'pixels in [0, 1], such as {_RADII[method.norm]}; epsilon_255 is the '
        "radius in 'Linf'."
      )
  spec = settings.evaluation
  _check_norm(spec, 'config.evaluation', ('epsilon', 'curve_epsilons'))
  if spec.norm != 'Linf' and spec.curve_attacks and not spec.curve_epsilons:
    raise ValueError(
      f'config.evaluation.norm={spec.norm!r} needs the radii of the curves of '
      f'curve_attacks={spec.curve_attacks}: set '
      'config.evaluation.curve_epsilons, of pixels in [0, 1], such as '
      f'(0, {_RADII[spec.norm]}); or set curve_attacks=().'
    )


def _check_robust_distillation(settings: Settings) -> None:
  """Raises for a method that learns from a teacher where there is none."""
  for name in ('teacher', 'vulnerable_teacher'):
    method = getattr(settings, name).adversarial_training
    if method.needs_teacher:
      raise ValueError(
        f'config.{name}.adversarial_training.name={method.name!r} learns from '
        "a teacher, and a teacher has none: choose another, such as 'trades'."
      )
  trainings = {
    f'config.train.adversarial_training.name, of config.students.{name}': (
      settings.train.adversarial_training,
      student,
    )
    for name, student in settings.students.items()
  }
  for name, tuned in settings.adversarial.students.items():
    if tuned.student in settings.students:
      where = f'config.adversarial.students.{name}.adversarial_training.name'
      student = settings.students[tuned.student]
      trainings[where] = tuned.adversarial_training, student
  for where, (method, student) in trainings.items():
    if method.needs_teacher and not student.teacher:
      raise ValueError(
        f'{where}: {method.name!r} learns from a teacher, and '
        f'{student.label!r} has none: set its teacher, or choose another '
        "method, such as 'trades'."
      )


def _check_labels(settings: Settings) -> None:
  """Raises for smooth and mixed labels where a loss has no use for them."""
  stages = ('teacher', 'vulnerable_teacher', 'search', 'train')
  trainings = [(name, getattr(settings, name)) for name in stages]
  methods = [
    (name, s.optimization, s.adversarial_training) for name, s in trainings
  ]
  entries = settings.adversarial.trainings
  methods += [
    (name, spec, tuned.adversarial_training)
    for name, (spec, students) in entries.items()
    for tuned in students.values()
  ]
  for name, spec, method in methods:
    where = f'config.{name}.optimization'
    if spec.label_smoothing and not method.has_cross_entropy:
      raise ValueError(
        f'{where}.label_smoothing={spec.label_smoothing} '
        f'has no meaning beside the method {method.name!r}, whose loss is not '
        'the cross-entropy: set it to 0.'
      )
    if spec.mixes and method.needs_one_label:
      raise ValueError(
        f'{where}.mixup={spec.mixup} and cutmix={spec.cutmix} mix labels, and '
        f'the loss of the method {method.name!r} is one of a single label: set '
        "both to 0, or choose another method, such as 'trades'."
      )
  _check_pairs(settings, settings.students, 'train')
  for name, (_, tunings) in entries.items():
    _check_pairs(settings, [t.student for t in tunings.values()], name)


def _check_pairs(
  settings: Settings, students: Iterable[str], name: str
) -> None:
  """Raises for mixed labels where images of other classes are needed."""
  spec = operator.attrgetter(name)(settings).optimization
  if not spec.mixes:
    return
  for student in students:
    terms = settings.students.get(student)
    if terms and terms.method == 'crd' and terms.teacher:
      raise ValueError(
        f'config.{name}.optimization.mixup={spec.mixup} and cutmix='
        f'{spec.cutmix} mix labels, and config.students.{student}.method='
        "'crd' compares with images of other classes: set both to 0, or "
        'choose another method.'
      )


def _check_norm(
  spec: AdversarialTraining | EvaluationSettings,
  where: str,
  others: tuple[str, ...],
) -> None:
  """Raises for a length of L2 and L1, a field of `others`, in L-infinity."""
  for name in others:
    value = getattr(spec, name)
    if spec.norm == 'Linf' and value:
      raise ValueError(
        f'{where}.{name}={value} has no meaning beside {where}.norm='
        f"'Linf', where it is {name}_255: set it to {type(value)()}, or set "
        "norm='L2' or 'L1'."
      )


def check_validation(settings: Settings) -> None:
  """Raises where validation images, of which there are none, are needed."""
  none = f'config.data.validation_size={settings.data.validation_size}'
  trainings: list[tuple[str, Optimization, list[AdversarialTraining]]] = [
    (name, teacher.optimization, [teacher.adversarial_training])
    for name, teacher in (
      ('teacher', settings.teacher),
      ('vulnerable_teacher', settings.vulnerable_teacher),
    )
    if not teacher.checkpoint and (name == 'teacher' or settings.controls)
  ]
  train = settings.train
  trainings.append(('train', train.optimization, [train.adversarial_training]))
  for name, (spec, students) in settings.adversarial.trainings.items():
    methods = [tuned.adversarial_training for tuned in students.values()]
    trainings.append((name, spec, methods))
  for where, spec, methods in trainings:
    if spec.select == 'best':
      raise ValueError(
        f'{none} holds no images out to choose a '
        f"checkpoint by, and config.{where}.optimization.select='best' needs "
        "some: set select='last', or hold images out."
      )
    for method in methods:
      if method.name in ('fast', 'free') and method.max_drop:
        raise ValueError(
          f'{none} holds no images out to see by whether '
          f'{method.name!r}, the method of config.{where}, overfits to its '
          'attack: set its max_drop=0, or hold images out.'
        )


def _check_search(search: SearchSettings) -> None:
  for name in ('cost_batch', 'cost_device'):
    value, default = getattr(search, name), getattr(SearchSettings(), name)
    if value != default and 'latency' not in search.cost:
      raise ValueError(
        f'config.search.{name}={value!r} has no meaning beside '
        f'config.search.cost={search.cost!r}, which has no times: leave it at '
        f'{default!r}.'
      )
  method = search.adversarial_training.name
  if search.arch_adversarial and method in ('standard', 'free'):
    reason = 'makes no adversarial images'
    if method == 'free':
      reason = "makes them by the weights' updates"
    raise ValueError(
      'config.search.arch_adversarial=True needs a method that attacks, and '
      f'config.search.adversarial_training.name={method!r} {reason}: choose '
      "another, such as 'pgd', or set it to False."
    )
  if search.method == 'vid' and search.kl_weight:
    raise ValueError(
      "config.search.method='vid' can be negative, and eq. (2) multiplies the "
      'loss by n_f(G): it would search for the most expensive network. Choose '
      'another method, or kl_weight=0; students may have it.'
    )
  coldest = search.temperature * math.exp(
    -search.temperature_decay * (search.optimization.epochs - 1)
  )
  if coldest < _COLDEST:
    raise ValueError(
      f'config.search.temperature_decay={search.temperature_decay} lets the '
      f'temperature fall to {coldest:.1e} in {search.optimization.epochs} '
      f'epochs, where the logits are divided by it; keep it above {_COLDEST} '
      'with a smaller decay or fewer epochs.'
    )


def _check_tutors(settings: Settings) -> None:
  for where, stage in settings.distilled.items():
    if stage.tutors != 'searched' and not stage.gamma:
      raise ValueError(
        f'config.{where}.tutors={stage.tutors!r} has no meaning beside '
        f'config.{where}.gamma=0: no layer is compared with a tutor. Leave it '
        "at 'searched', or set gamma > 0."
      )
  search = settings.search
  for name, student in settings.students.items():
    if not student.gamma or student.tutors != 'searched':
      continue
    if not student.is_searched:
      raise ValueError(
        f"config.students.{name}.tutors='searched' needs an architecture from "
        'the search, and config.students.'
        f'{name}.network.name={student.network.name!r} is fixed: choose other '
        "tutors, such as 'depth', or set its gamma to 0."
      )
    if not search.architecture and not search.searches_tutors:
      raise ValueError(
        f"config.students.{name}.tutors='searched', but the search of this "
        f'config has tutors={search.tutors!r} and gamma={search.gamma}, and '
        'searches none: choose a control for the student too, or set its gamma '
        'to 0.'
      )


def _check_divergences(settings: Settings) -> None:
  for where, stage in settings.distilled.items():
    for name in ('kl_direction', 'kl_temperature'):
      value, default = getattr(stage, name), getattr(TeacherWeights(), name)
      if value != default and (stage.method != 'kl' or not stage.kl_weight):
        raise ValueError(
          f'config.{where}.{name}={value!r} has no meaning beside method='
          f'{stage.method!r} and kl_weight={stage.kl_weight}: there is no KL. '
          f'Leave it at {default!r}.'
        )


def _check_map_norm(settings: Settings) -> None:
  if settings.distillation.map_norm == 'image':
    return
  for where, stage in settings.distilled.items():
    if stage.gamma and stage.layer_loss == 'layerwise_kl':
      raise ValueError(
        "config.distillation.map_norm='batch' normalises the maps of eq. (1), "
        f"and config.{where}.layer_loss='layerwise_kl' compares maps that are "
        "probabilities of one image: set map_norm='image', or another loss."
      )


def _check_shape(network: NetworkShape, where: str) -> None:
  """Raises for fields of a network that is not named, and for a huge one."""
  _check_blocks(network.stage_sizes, f'{where}.stage_sizes')
  for name, value in dataclasses.asdict(network).items():
    if value and not network.name:
      raise ValueError(
        f'{where}.{name}={value!r} has no meaning beside {where}.name='
        f'{network.name!r}, the architecture of the search: name a network, or '
        f'leave it at {getattr(NetworkShape(), name)!r}.'
      )


def _check_teacher(teacher: Teacher, where: str) -> None:
  _check_blocks(teacher.network.stage_sizes, f'{where}.network.stage_sizes')
  if teacher.checkpoint and teacher.start:
    raise ValueError(
      f'{where}.checkpoint={teacher.checkpoint!r} is used as it is, and '
      f'{where}.start={teacher.start!r} is trained further: leave one empty.'
    )
  if teacher.classes and not teacher.checkpoint:
    raise ValueError(
      f'{where}.classes names {len(teacher.classes)} classes of a checkpoint, '
      f'but {where}.checkpoint is empty: name one, or leave classes empty.'
    )


def _check_blocks(stages: tuple[int, ...], where: str) -> None:
  if sum(stages) > _MOST_BLOCKS:
    raise ValueError(
      f'{where}={stages} has {sum(stages)} blocks; compiling more than '
      f'{_MOST_BLOCKS} takes hours: use fewer.'
    )


def _check_names(settings: Settings) -> None:
  """Raises for a name of a student that cannot be a folder of its own."""
  taken: dict[str, str] = {name: name for name in _RESERVED}
  sections = (
    *(('students', name) for name in settings.students),
    *(('adversarial.students', name) for name in settings.adversarial.students),
  )
  for section, name in sections:
    where = f'config.{section}.{name}'
    if not isinstance(name, str) or not _NAME.fullmatch(name):
      raise ValueError(
        f'config.{section} has {name!r}, which cannot be the name of a '
        'student: it is a folder. Use at most 64 ASCII letters, digits and '
        '_, with a letter in front.'
      )
    if section == 'adversarial.students' and name in settings.students:
      raise ValueError(
        f'{where} has the name of the student config.students.{name}, and '
        'both are rows of one table: choose another, such as '
        f'{name}_fine_tuned.'
      )
    if name.lower() in taken:
      raise ValueError(
        f'{where} cannot be the name of a student: {taken[name.lower()]!r} '
        'has its folder, on some systems whatever the case of letters. '
        'Choose another.'
      )
    taken[name.lower()] = name


def _check_label(
  model: Teacher | StudentSettings | FineTuning, where: str
) -> None:
  """Raises for a label that would break a row of a table."""
  label = model.label
  # Matplotlib leaves labels with a _ in front out of a legend.
  if (
    not label.strip()
    or label.startswith('_')
    or not label.isprintable()
    or len(label) > _LONGEST
  ):
    raise ValueError(
      f'{where}.label={label[:_LONGEST]!r} has {len(label)} characters and '
      f'heads a row of tables: use one line of 1 to {_LONGEST} printable '
      'characters, without a _ in front.'
    )


def _check_pruning(tuned: FineTuning, where: str) -> None:
  """Raises for a share to prune without a method, and the reverse."""
  if tuned.prune and not tuned.sparsity:
    raise ValueError(
      f'{where}.prune={tuned.prune!r} with sparsity=0 prunes nothing: set '
      f'{where}.sparsity to the share of weights to prune, such as 0.9, or '
      "prune=''."
    )
  if tuned.sparsity and not tuned.prune:
    raise ValueError(
      f"{where}.sparsity={tuned.sparsity} has no meaning beside prune='': "
      "choose 'magnitude' or 'hydra', or set it to 0."
    )


def _check_student(
  student: StudentSettings, where: str, controls: bool
) -> None:
  _check_shape(student.network, f'{where}.network')
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
  if student.teacher == 'vulnerable_teacher' and not controls:
    raise ValueError(
      f'{where}.teacher is the control, which is not trained: set '
      'config.controls=True.'
    )

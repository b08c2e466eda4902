"""Turns the names in settings into functions: the border of the library.

Every name that a config may hold stands in one of the dicts of this module (or
in those of `datasets`, `teachers`, `attacks` and `spaces`); the rest of the
library takes functions and knows no names.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnascl_jax import attacks, losses
from rnascl_jax.attacks import Preset, ensembles, norms
from rnascl_jax.attacks.ensembles import EnsembleMember
from rnascl_jax.base import PyTree
from rnascl_jax.config import settings
from rnascl_jax.data import batches, datasets
from rnascl_jax.data.datasets import Dataset
from rnascl_jax.distillation import compare, methods
from rnascl_jax.distillation.compare import LayerLoss
from rnascl_jax.distillation.methods import Method
from rnascl_jax.models import student, teachers
from rnascl_jax.models.teachers import build
from rnascl_jax.runtime import parallel, spelling
from rnascl_jax.search import flops, gumbel, spaces, tutor_controls
from rnascl_jax.search.spaces import SearchSpace
from rnascl_jax.training import (
  adversarial,
  optimizers,
  search_step,
  train_state,
)
from rnascl_jax.training.adversarial import AdversarialMethod, RobustTerm


def pick(table: Mapping[str, Any], name: str, where: str) -> Any:
  """The entry of a table.

  Args:
    table: names and what they mean.
    name: as written in a config.
    where: the config's field.

  Raises:
    ValueError: if there is no such name; it lists those there are.
  """
  if name in table:
    return table[name]
  raise ValueError(
    f'config.{where}={name!r} is unknown.{spelling.did_you_mean(name, table)} '
    f'Choose one of: {", ".join(map(repr, table))}.'
  )


SHORTCUTS = {shortcut.value: shortcut for shortcut in spaces.Shortcut}
_SPACES = {**spaces.CIFAR_SPACES, **spaces.IMAGENET_SPACES, 'custom': None}


def dataset(
  spec: settings.Data, statistics: datasets.PixelStatistics | None = None
) -> Dataset:
  """The data set; one whose images never change is read once in a process.

  Args:
    spec: its settings.
    statistics: that of the training images, if it is known.
  """
  if spec.name in datasets.DATASETS:
    return _fixed_dataset(spec)
  return _read_dataset(spec, statistics)


@functools.lru_cache(maxsize=2)
def _fixed_dataset(spec: settings.Data) -> Dataset:
  return _read_dataset(spec)


def _read_dataset(
  spec: settings.Data, statistics: datasets.PixelStatistics | None = None
) -> Dataset:
  if not datasets.is_known(spec.name):
    prefix, colon, _ = spec.name.partition(':')
    pick(dict.fromkeys(datasets.names()), prefix + colon, 'data.name')
  limit = None
  if spec.max_train or spec.max_test:
    most = 10**9  # More images than any data set has.
    limit = datasets.Limit(spec.max_train or most, spec.max_test or most)
  return datasets.load(
    spec.name,
    data_dir=spec.data_dir or None,
    validation_size=None if spec.validation_size < 0 else spec.validation_size,
    limit=limit,
    image_size=spec.image_size,
    classes=spec.classes,
    train_split=spec.train_split,
    test_split=spec.test_split,
    test_share=spec.test_share,
    min_crop=spec.min_crop,
    memory_limit=2**20 * spec.memory_limit,
    statistics=statistics,
  )


def augmentation(spec: settings.Data) -> train_state.Augment:
  """Random crop and flip of one image, on a device.

  Random-resized crops were made before images came there: padding is 0 then.
  """
  return functools.partial(
    batches.augment, padding=spec.padding, flip=spec.flip
  )


def space(spec: settings.Space) -> SearchSpace:
  """The search space."""
  published = pick(_SPACES, spec.name, 'space.name')
  shortcut = pick(SHORTCUTS, spec.shortcut, 'space.shortcut')
  if published:
    return dataclasses.replace(published, shortcut=shortcut)
  return spaces.from_stages(
    spec.depths,
    spec.choices,
    spec.strides,
    stem_features=spec.stem_features,
    stem_stride=spec.stem_stride,
    expansion=spec.expansion,
    expansions=spec.expansions,
    shortcut=shortcut,
    squeeze_excite=spec.squeeze_excite,
    head_features=spec.head_features,
  )


def student_network(
  data: Dataset,
  blocks: SearchSpace,
  layers: str,
  *,
  trained: settings.Space | None = None,
) -> student.Student:
  """The student for a space, supernet or derived.

  Args:
    data: decides classes and normalisation.
    blocks: the space.
    layers: which are compared with tutors: every 'conv' or every 'block'.
    trained: how a network that is trained computes: its fields `bfloat16` and
      `remat`. None computes in float32: for evaluation, which takes the same
      variables.

  Raises:
    ValueError: if the images do not fit the space.
  """
  spaces.check_image(blocks, data.image_shape)
  return student.Student(
    space=blocks,
    num_classes=data.num_classes,
    mean=data.mean,
    std=data.std,
    blocks_only=layers == 'block',
    axis_name=parallel.AXIS,
    dtype=_compute_type(trained.bfloat16) if trained else None,
    remat=trained.remat if trained else False,
  )


def _compute_type(bfloat16: str) -> Any:
  """bfloat16, or None for float32, as 'always' or 'accelerators' say."""
  accelerated = jax.default_backend() != 'cpu'
  narrow = bfloat16 == 'always' or (bfloat16 == 'accelerators' and accelerated)
  return jnp.bfloat16 if narrow else None


class TrainedFor(NamedTuple):
  """The inputs and classes of a trained teacher, whatever a run's data set.

  Attributes:
    num_classes: how many classes it tells apart.
    mean: of its inputs, per channel.
    std: of its inputs, per channel.
    classes: those whose logits are used, empty for all.
  """

  num_classes: int
  mean: tuple[float, ...]
  std: tuple[float, ...]
  classes: tuple[int, ...] = ()


def teacher_spec(network: settings.NetworkSettings) -> dict[str, Any]:
  """The fields of a teacher's network that are set, for `teachers.build`."""
  values = dataclasses.asdict(network).items()
  return {name: value for name, value in values if value}


def teacher_network(
  data: Dataset,
  spec: settings.NetworkSettings,
  *,
  where: str = 'teacher',
  bfloat16: str = 'never',
  trained: TrainedFor | None = None,
) -> nn.Module:
  """A teacher's network.

  Args:
    data: decides classes and normalisation where `trained` does not.
    spec: the network.
    where: the config's section, for messages.
    bfloat16: whether it computes in bfloat16: 'never', 'always' or on
      'accelerators' only. All evaluation is in float32.
    trained: what a checkpoint was trained for; None for a new network.

  Raises:
    ValueError: for an unknown network, or a shape that it does not take.
  """
  pick(teachers.TEACHERS, spec.name, f'{where}.network.name')
  trained = trained or TrainedFor(data.num_classes, data.mean, data.std)
  try:
    net = build.network(
      teacher_spec(spec),
      dtype=_compute_type(bfloat16),
      axis_name=parallel.AXIS,
      **trained._replace(classes=())._asdict(),
    )
  except ValueError as error:
    raise ValueError(f'config.{where}.network: {error}') from error
  try:
    return build.some_classes(net, trained.num_classes, trained.classes)
  except ValueError as error:
    raise ValueError(f'config.{where}.{error}') from error


def _piecewise(spec: settings.Optimization, total: int) -> optax.Schedule:
  bounds = {int(share * total): 0.1 for share in spec.milestones}
  return optax.piecewise_constant_schedule(spec.learning_rate, bounds)


def _cyclic(spec: settings.Optimization, total: int) -> optax.Schedule:
  peak = max(2 * total // 5, 1)
  return optax.join_schedules(
    [
      optax.linear_schedule(0.0, spec.learning_rate, peak),
      optax.linear_schedule(spec.learning_rate, 0.0, max(total - peak, 1)),
    ],
    [peak],
  )


SCHEDULES: Mapping[
  str, Callable[[settings.Optimization, int], optax.Schedule]
] = {
  'piecewise': _piecewise,
  'cosine': lambda spec, total: optax.cosine_decay_schedule(
    spec.learning_rate,
    total,
    # A floor of 0 is one of any rate, also of 0.
    spec.min_learning_rate and spec.min_learning_rate / spec.learning_rate,
  ),
  'cyclic': _cyclic,
  'one_cycle': lambda spec, total: optimizers.one_cycle(
    spec.learning_rate, total
  ),
  'constant': lambda spec, _: optax.constant_schedule(spec.learning_rate),
}
NOISES = {'gumbel': jax.random.gumbel, 'normal': jax.random.normal}
# Each optimiser, and the fields that it alone has.
OPTIMIZERS: Mapping[
  str, tuple[Callable[..., optax.GradientTransformation], tuple[str, ...]]
] = {
  'sgd': (optimizers.sgd, ('momentum',)),
  'adam': (optimizers.adam, ('betas',)),
  'adamw': (optimizers.adamw, ('betas',)),
}
PENALTIES = {
  'power': losses.search_objective,
  'log': losses.log_search_objective,
}


def schedule(
  spec: settings.Optimization, steps_per_epoch: int, where: str = 'train'
) -> optax.Schedule:
  """Step -> learning rate."""
  total = spec.epochs * steps_per_epoch
  make = pick(SCHEDULES, spec.schedule, f'{where}.optimization.schedule')
  rate = make(spec, total)
  rising = int(spec.warmup * total)
  if not rising:
    return rate
  return lambda step: rate(step) * jnp.minimum((step + 1) / rising, 1.0)


def optimizer(
  spec: settings.Optimization, steps_per_epoch: int, where: str = 'train'
) -> optax.GradientTransformation:
  """The optimiser of a network's weights.

  Args:
    spec: its name and numbers.
    steps_per_epoch: updates of the weights in an epoch.
    where: the config's section, for messages.

  Raises:
    ValueError: for an unknown name.
  """
  field = f'{where}.optimization.optimizer'
  make, own = pick(OPTIMIZERS, spec.optimizer, field)
  made = make(
    schedule(spec, steps_per_epoch, where),
    weight_decay=spec.weight_decay,
    mask=optimizers.kernels if spec.decayed == 'kernels' else None,
    **{name: getattr(spec, name) for name in own},
  )
  if not spec.gradient_clip:
    return made
  return optax.chain(optax.clip_by_global_norm(spec.gradient_clip), made)


def arch_optimizer(
  spec: settings.SearchSettings,
) -> optax.GradientTransformation:
  """The optimiser of the architecture parameters."""
  make, own = pick(OPTIMIZERS, spec.arch_optimizer, 'search.arch_optimizer')
  betas = {'betas': spec.arch_betas} if 'betas' in own else {}
  return make(
    spec.arch_learning_rate, weight_decay=spec.arch_weight_decay, **betas
  )


def search(
  spec: settings.SearchSettings,
  data: Dataset,
  blocks: SearchSpace,
  epoch_steps: int,
) -> search_step.Search:
  """How filters and tutors are searched."""
  tables = flops.costs(blocks, data.image_shape, data.num_classes)
  penalty = pick(PENALTIES, spec.penalty, 'search.penalty')
  absolute = spec.penalty == 'log'
  extra = {'alpha': spec.log_alpha} if absolute else {}
  uniform = search_step.uniform_macs(blocks, tables)
  by_epochs = spec.split == 'epochs'
  return search_step.Search(
    space=blocks,
    tables=tables,
    optimizer=arch_optimizer(spec),
    steps_per_epoch=epoch_steps,
    reference=1.0 if absolute else uniform,
    temperature=functools.partial(
      gumbel.temperature,
      initial=spec.temperature,
      decay=spec.temperature_decay,
    ),
    objective=functools.partial(penalty, exponent=spec.flops_exponent, **extra),
    noise=pick(NOISES, spec.noise, 'search.noise'),
    hard=spec.hard,
    warmup_epochs=spec.arch_warmup_epochs,
    weigh_cost=spec.weigh_cost,
    accumulate=spec.optimization.accumulate
    if by_epochs
    else search_step.arch_parts(spec.optimization.accumulate, spec.arch_share),
    weight_steps=search_weight_steps(spec, epoch_steps) if by_epochs else None,
    adversarial=adversarial_method(spec.adversarial_training, 'search')
    if spec.arch_adversarial
    else adversarial.standard(),
  )


def search_weight_steps(spec: settings.SearchSettings, epoch_steps: int) -> int:
  """Steps of an epoch of a search that move weights: the first ones, or all."""
  if spec.split == 'batches':
    return epoch_steps
  return epoch_steps - round(epoch_steps * spec.arch_share)


DIVERGENCES = {
  'student_teacher': losses.kl_student_teacher,
  'teacher_student': losses.kl_teacher_student,
}


class DistillationSpec(NamedTuple):
  """What a stage takes from a teacher; equal ones are one program.

  Attributes:
    method: in `METHODS`.
    divergence: direction and temperature of the method 'kl'.
    layer_loss: in `LAYER_LOSSES`.
    reduction: of the layer loss.
    attends: whether layers are compared.
    redraws: whether their tutors are drawn anew at each step.
  """

  method: str = 'kl'
  divergence: tuple[str, float] = ('student_teacher', 1.0)
  layer_loss: str = 'attention'
  reduction: str = 'sum'
  attends: bool = False
  redraws: bool = False


def _kl(spec: settings.DistillationSettings, used: DistillationSpec) -> Method:
  del spec
  direction, temperature = used.divergence
  divergence = DIVERGENCES[direction]
  return methods.kl(functools.partial(divergence, temperature=temperature))


def _crd(spec: settings.DistillationSettings, _: DistillationSpec) -> Method:
  return methods.crd(
    features=spec.crd_features,
    num_negatives=spec.crd_negatives,
    axis_name=parallel.AXIS,
  )


METHODS: Mapping[
  str, Callable[[settings.DistillationSettings, DistillationSpec], Method]
] = {
  'kl': _kl,
  'at': lambda *_: methods.attention_transfer(),
  'sp': lambda *_: methods.similarity(axis_name=parallel.AXIS),
  'vid': lambda *_: methods.vid(),
  'rkd': lambda *_: methods.rkd(axis_name=parallel.AXIS),
  'pkt': lambda *_: methods.pkt(axis_name=parallel.AXIS),
  'crd': _crd,
}


def _attention(
  spec: settings.DistillationSettings, used: DistillationSpec
) -> LayerLoss:
  vectors = functools.partial(
    losses.attention_vectors,
    bilinear=spec.map_resize == 'bilinear',
    norm_over_batch=spec.map_norm == 'batch',
    axis_name=parallel.AXIS,
  )
  return LayerLoss(
    vectors,
    functools.partial(losses.attention_loss, reduction=used.reduction),
  )


def _layerwise_kl(
  spec: settings.DistillationSettings, used: DistillationSpec
) -> LayerLoss:
  log_probabilities = functools.partial(
    losses.map_log_probabilities, bilinear=spec.map_resize == 'bilinear'
  )
  return LayerLoss(
    log_probabilities,
    functools.partial(losses.layerwise_kl, reduction=used.reduction),
  )


LAYER_LOSSES: Mapping[
  str, Callable[[settings.DistillationSettings, DistillationSpec], LayerLoss]
] = {'attention': _attention, 'layerwise_kl': _layerwise_kl}


# Controls of searched tutors: (S, T, seed) -> weights [S, T]. Those of
# 'resampled' are the probabilities of each step's draw.
TUTORS: Mapping[str, Callable[[int, int, int], np.ndarray]] = {
  'uniform': tutor_controls.uniform,
  'random': tutor_controls.at_random,
  'resampled': tutor_controls.uniform,
  'depth': tutor_controls.by_depth,
}


def tutor_weights(
  control: str,
  student_layers: Sequence[str],
  teacher_layers: Sequence[str],
  *,
  where: str,
  seed: int = 0,
  searched: PyTree = (),
) -> PyTree:
  """The tutor weights of a control, or those that are searched.

  Args:
    control: 'searched', a key of `TUTORS`, or names of teacher layers, one for
      each student layer or one for all, with commas between them.
    student_layers: names of the S student layers.
    teacher_layers: names of the T teacher layers.
    where: the config's section, for messages.
    seed: decides the draw of 'random'.
    searched: what 'searched' stands for.

  Returns:
    [S, T], or `searched`.

  Raises:
    ValueError: for an unknown control or layer, or another number of layers.
  """
  if control == 'searched':
    return searched
  count, choices = len(student_layers), len(teacher_layers)
  if control in TUTORS:
    return TUTORS[control](count, choices, seed)
  names = [name.strip() for name in control.split(',')]
  for name in names:
    if name not in teacher_layers:
      known = ('searched', *TUTORS, *teacher_layers)
      raise ValueError(
        f'config.{where}.tutors={control!r} has {name!r}, which is neither a '
        f'control nor a layer of the teacher.'
        f'{spelling.did_you_mean(name, known)} Choose one of '
        f'{", ".join(("searched", *TUTORS))}, or layers of the teacher: '
        f'{", ".join(teacher_layers)}.'
      )
  if len(names) not in (1, count):
    raise ValueError(
      f'config.{where}.tutors names {len(names)} teacher layers for {count} '
      f'student layers: name one for each, or one for all. The student layers '
      f'are {", ".join(student_layers)}.'
    )
  indices = [teacher_layers.index(name) for name in names]
  return tutor_controls.one_hot(indices * (count // len(names)), choices)


def distillation_spec(
  stage: settings.TeacherWeights, where: str
) -> DistillationSpec:
  """What a stage takes from a teacher.

  Args:
    stage: its methods and their weights; a term of weight 0 is not used.
    where: the config's section, for messages.

  Raises:
    ValueError: for an unknown name.
  """
  pick(METHODS, stage.method, f'{where}.method')
  pick(LAYER_LOSSES, stage.layer_loss, f'{where}.layer_loss')
  used = DistillationSpec()
  if stage.kl_weight:
    divergence = stage.kl_direction, stage.kl_temperature
    used = used._replace(method=stage.method, divergence=divergence)
  if stage.gamma:
    used = used._replace(
      layer_loss=stage.layer_loss,
      reduction=stage.reduction,
      attends=True,
      redraws=stage.tutors == 'resampled',
    )
  return used


def distill(
  spec: settings.DistillationSettings,
  teacher: nn.Module | None,
  used: DistillationSpec,
) -> compare.Distillation:
  """How a student learns from a teacher.

  Args:
    spec: what all stages of a run have in common.
    teacher: the network, or None.
    used: what is taken from it.
  """
  return compare.Distillation(
    teacher=teacher,
    map_size=(spec.map_size, spec.map_size),
    method=METHODS[used.method](spec, used),
    layer_loss=LAYER_LOSSES[used.layer_loss](spec, used),
    attends=used.attends,
    redraws=used.redraws,
  )


# Each method, the step of its attack as a share of the radius in each norm, and
# the settings that it alone has. Published are those of L-infinity; in L2 that
# of Rice et al. and, for 10 steps, of TRADES; in L1 that of SLIDE.
_SLIDE = 2 / (2000 / 255)
ADVERSARIAL_METHODS: Mapping[
  str,
  tuple[Callable[..., AdversarialMethod], dict[str, float], tuple[str, ...]],
] = {
  'standard': (adversarial.standard, {}, ()),
  'pgd': (
    adversarial.pgd_training,
    {'Linf': 0.25, 'L2': 15 / 128, 'L1': _SLIDE},
    ('num_steps',),
  ),
  'fast': (adversarial.fast, dict.fromkeys(norms.NORMS, 1.25), ()),
  'free': (adversarial.free, dict.fromkeys(norms.NORMS, 1.0), ('replays',)),
  'trades': (
    adversarial.trades,
    {'Linf': 0.0078 / 0.031, 'L2': 0.2, 'L1': _SLIDE},
    ('num_steps',),
  ),
}
# Methods that attack in a single step, and may overfit to it.
_SINGLE_STEP = ('fast', 'free')
# Steps of the attack under which checkpoints are compared, as that share.
_VALIDATION_STEP = 0.25


def adversarial_method(
  spec: settings.AdversarialTraining, where: str = 'train'
) -> AdversarialMethod:
  """Makes the adversarial training method.

  Args:
    spec: its name and numbers.
    where: the config's section, for messages.

  Raises:
    ValueError: for an unknown name, and for settings that the method does not
      have.
  """
  field = f'{where}.adversarial_training'
  make, shares, own = pick(ADVERSARIAL_METHODS, spec.name, f'{field}.name')
  if spec.name == 'standard':
    if spec.cac_weight:
      raise ValueError(
        f'config.{field}.cac_weight={spec.cac_weight} compares an image with '
        "its adversarial view, and name='standard' has none: set it to 0, or "
        'choose another method.'
      )
    return make()
  if spec.name == 'free' and spec.attack_mode == 'evaluation':
    raise ValueError(
      f"config.{field}.attack_mode='evaluation' is not possible with "
      "name='free': one pass serves the attack and the weights."
    )
  trades = spec.name == 'trades'
  attack_mode, distill_on = spec.attack_mode, spec.distill_on
  if attack_mode == 'published':
    attack_mode = 'evaluation' if trades else 'training'
  if distill_on == 'published':
    distill_on = 'clean' if trades else 'adversarial'
  share = shares[spec.norm]
  step_size = spec.step_size or share * spec.epsilon
  if spec.norm == 'Linf':
    step_size = (spec.step_size_255 or share * spec.epsilon_255) / 255
  options = {name: getattr(spec, name) for name in own}
  if spec.name != 'free':
    options['in_training_mode'] = attack_mode == 'training'
  return make(
    epsilon=spec.radius,
    step_size=step_size,
    norm=norms.by_name(spec.norm),
    distill_on=distill_on,
    robust_term=_robust_term(spec),
    **options,
  )


def validation_attack(spec: settings.AdversarialTraining) -> Preset | None:
  """The attack under which checkpoints are compared, if any."""
  if spec.name == 'standard':
    return None
  return Preset(
    origin='the validation of an adversarial training method',
    epsilon=spec.radius,
    step_size=_VALIDATION_STEP * spec.radius,
    num_steps=spec.validation_steps,
    norm=norms.by_name(spec.norm),
  )


def max_drop(spec: settings.AdversarialTraining) -> float:
  """The drop of robust accuracy that ends a training; 0 for none."""
  return spec.max_drop if spec.name in _SINGLE_STEP else 0.0


def replays(spec: settings.AdversarialTraining) -> int:
  """Updates of the weights on each batch."""
  return spec.replays if spec.name == 'free' else 1


def _robust_term(spec: settings.AdversarialTraining) -> RobustTerm | None:
  """TRADES' divergence and CAC; None where neither has a part."""
  beta = spec.beta if spec.name == 'trades' else 0.0
  if spec.name != 'trades' and not spec.cac_weight:
    return None
  return functools.partial(
    losses.robust_term,
    beta=beta,
    cac_weight=spec.cac_weight,
    temperature=spec.cac_temperature,
    threshold=spec.cac_threshold,
    only_confident=spec.cac_mean == 'confident',
    axis_name=parallel.AXIS,
  )


# What AutoAttack may consist of: whole ensembles, and single members.
ENSEMBLES = {
  'standard': ensembles.standard,
  'plus': ensembles.plus,
  'rand': ensembles.rand,
}
MEMBERS = {
  'apgd_ce': ensembles.apgd_ce,
  'apgd_dlr': ensembles.apgd_dlr,
  'apgd_t': ensembles.apgd_t,
  'fab': ensembles.fab,
  'fab_t': ensembles.fab_t,
  'square': ensembles.square,
}


def attack(
  name: str, norm: str = 'Linf', where: str = 'evaluation.attacks'
) -> Preset:
  """A preset of an attack in a norm.

  Raises:
    ValueError: if there is none of this name, or if it is of another norm; the
      message lists those of the norm.
  """
  preset = pick(attacks.PRESETS, name, where)
  wanted = norms.by_name(norm)
  if preset.norm != wanted:
    others = [n for n, p in attacks.PRESETS.items() if p.norm == wanted]
    raise ValueError(
      f'config.{where} has {name!r}, an attack in {preset.norm.name}, but '
      f'config.evaluation.norm={norm!r}. Presets in {wanted.name} are '
      f'{", ".join(map(repr, others))}.'
    )
  return preset


def ensemble(
  names: Sequence[str], norm: str = 'Linf'
) -> tuple[EnsembleMember, ...]:
  """All members of AutoAttack that `names` stand for, in order.

  Args:
    names: keys of `ENSEMBLES` and `MEMBERS`.
    norm: key of `norms.NORMS`.

  Raises:
    ValueError: for an unknown name, and for a member that is named twice.
  """
  where = 'evaluation.auto_attack'
  members: list[EnsembleMember] = []
  for name in names:
    made = pick(ENSEMBLES | MEMBERS, name, where)(norms.by_name(norm))
    members += [made] if isinstance(made, EnsembleMember) else made
  counts = collections.Counter(member.name for member in members)
  for member, count in counts.items():
    if count > 1:
      raise ValueError(
        f'config.{where}={tuple(names)} has {member} twice: name an ensemble, '
        'or members of your choice.'
      )
  return tuple(members)

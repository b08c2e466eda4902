"""Turns the names in settings into functions: the border of the library.

Every name a config may hold stands in one of the dicts below (or in those of
`datasets`, `teachers`, `attacks` and `search_space`); beyond this module there
are functions and no names.
"""

import dataclasses
import difflib
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from rnascl_jax import (
  adversarial,
  attacks,
  batches,
  datasets,
  distillation,
  flops,
  gumbel,
  losses,
  parallel,
  search_space,
  search_steps,
  settings,
  steps,
  student,
  teachers,
)
from rnascl_jax.attacks import Preset, ensembles
from rnascl_jax.attacks.ensembles import Member
from rnascl_jax.datasets import Dataset
from rnascl_jax.search_space import SearchSpace


def _piecewise(spec: settings.Optimization, total: int) -> optax.Schedule:
  bounds = {int(share * total): 0.1 for share in spec.milestones}
  return optax.piecewise_constant_schedule(spec.learning_rate, bounds)


def _cosine(spec: settings.Optimization, total: int) -> optax.Schedule:
  return optax.cosine_decay_schedule(spec.learning_rate, total)


def _cyclic(spec: settings.Optimization, total: int) -> optax.Schedule:
  peak = max(2 * total // 5, 1)
  return optax.join_schedules(
    [
      optax.linear_schedule(0.0, spec.learning_rate, peak),
      optax.linear_schedule(spec.learning_rate, 0.0, max(total - peak, 1)),
    ],
    [peak],
  )


def _constant(spec: settings.Optimization, total: int) -> optax.Schedule:
  del total
  return optax.constant_schedule(spec.learning_rate)


SCHEDULES = {
  'piecewise': _piecewise,
  'cosine': _cosine,
  'cyclic': _cyclic,
  'constant': _constant,
}
NOISES = {'gumbel': jax.random.gumbel, 'normal': jax.random.normal}
DIVERGENCES = {
  'student_teacher': distillation.kl_student_teacher,
  'teacher_student': distillation.kl_teacher_student,
}
ARCH_OPTIMIZERS = {'adam': optax.adam, 'sgd': optax.sgd}
PENALTIES = {
  'power': losses.search_objective,
  'log': losses.log_search_objective,
}
SHORTCUTS = {shortcut.value: shortcut for shortcut in search_space.Shortcut}


def _standard(spec: settings.Regime) -> adversarial.Regime:
  del spec
  return adversarial.standard()


def _pgd(spec: settings.Regime) -> adversarial.Regime:
  return adversarial.pgd_training(
    epsilon=spec.epsilon_255 / 255,
    step_size=spec.step_size_255 / 255,
    num_steps=spec.num_steps,
  )


def _pgd_preset(spec: settings.Regime) -> Preset:
  return Preset(
    origin='the attack of the training regime',
    epsilon=spec.epsilon_255 / 255,
    step_size=spec.step_size_255 / 255,
    num_steps=spec.num_steps,
    start=attacks.linf.uniform_start,
  )


REGIMES = {'standard': _standard, 'pgd': _pgd}
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
# Regimes whose checkpoints are compared under attack.
VALIDATION_ATTACKS = {'pgd': _pgd_preset}


def pick(table: Mapping[str, Any], name: str, where: str) -> Any:
  """The entry of a table.

  Args:
    table: names and what they mean.
    name: as written in a config.
    where: the config's field.

  Returns:
    The entry.

  Raises:
    ValueError: if there is no such name; it lists those there are.
  """
  if name in table:
    return table[name]
  close = difflib.get_close_matches(name, table, 1)
  hint = f' Did you mean {close[0]!r}?' if close else ''
  raise ValueError(
    f'config.{where}={name!r} is unknown.{hint} Choose one of: '
    f'{", ".join(map(repr, table))}.'
  )


@functools.lru_cache(maxsize=2)
def dataset(spec: settings.Data) -> Dataset:
  """The data set, read once for all stages of a process."""
  pick(datasets.DATASETS, spec.name, 'data.name')
  limit = None
  if spec.max_train or spec.max_test:
    everything = 10**9
    limit = datasets.Limit(
      spec.max_train or everything, spec.max_test or everything
    )
  return datasets.load(
    spec.name,
    data_dir=spec.data_dir or None,
    validation_size=spec.validation_size,
    limit=limit,
  )


def augmentation(spec: settings.Data) -> steps.Augment:
  """Random crop and flip of one image."""
  return functools.partial(
    batches.augment, padding=spec.padding, flip=spec.flip
  )


def space(spec: settings.Space) -> SearchSpace:
  """The search space."""
  table = {**search_space.CIFAR_SPACES, 'custom': None}
  found = pick(table, spec.name, 'space.name')
  shortcut = pick(SHORTCUTS, spec.shortcut, 'space.shortcut')
  if found is not None:
    return dataclasses.replace(found, shortcut=shortcut)
  return search_space.from_stages(
    spec.depths,
    spec.choices,
    spec.strides,
    stem_features=spec.stem_features,
    stem_stride=spec.stem_stride,
    expansion=spec.expansion,
    shortcut=shortcut,
  )


def student_network(
  data: Dataset, blocks: SearchSpace, layers: str
) -> student.Student:
  """The student for a space, supernet or derived."""
  search_space.check_image(blocks, data.image_shape)
  return student.Student(
    space=blocks,
    num_classes=data.num_classes,
    mean=data.mean,
    std=data.std,
    blocks_only=layers == 'block',
    axis_name=parallel.AXIS,
  )


def teacher_network(
  data: Dataset,
  spec: settings.Network,
  *,
  where: str = 'teacher',
  guides: bool = False,
) -> nn.Module:
  """A teacher's network.

  Args:
    data: decides classes and normalisation.
    spec: the network.
    where: the config's section, for messages.
    guides: whether it only guides a student, and may compute in bfloat16.
      Teachers are trained and evaluated in float32.

  Returns:
    The network.

  Raises:
    ValueError: for an unknown network, or a shape that it does not take.
  """
  make = pick(teachers.TEACHERS, spec.name, f'{where}.network.name')
  shape = {
    name: getattr(spec, name)
    for name in ('depth', 'width', 'features', 'stage_sizes', 'strides')
    if getattr(spec, name)
  }
  accelerated = jax.default_backend() != 'cpu'
  narrow = spec.bfloat16 == 'always' or (
    spec.bfloat16 == 'accelerators' and accelerated
  )
  dtype = jnp.bfloat16 if guides and narrow else None
  try:
    return make(
      num_classes=data.num_classes,
      mean=data.mean,
      std=data.std,
      dtype=dtype,
      axis_name=parallel.AXIS,
      **shape,
    )
  except TypeError as error:
    raise ValueError(
      f'config.{where}.network.name={spec.name!r} does not take '
      f'{", ".join(shape) or "no shape"}: {error}'
    ) from error


def regime(spec: settings.Regime, where: str = 'train') -> adversarial.Regime:
  """The training regime."""
  return pick(REGIMES, spec.name, f'{where}.regime.name')(spec)


def validation_attack(spec: settings.Regime) -> Preset | None:
  """The attack under which checkpoints of a regime are compared, if any."""
  return VALIDATION_ATTACKS.get(spec.name, lambda spec: None)(spec)


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
  spec: settings.Optimization, steps_per_epoch: int
) -> optax.GradientTransformation:
  """SGD with momentum and L2 regularisation of all parameters."""
  return optax.chain(
    optax.add_decayed_weights(spec.weight_decay),
    optax.sgd(schedule(spec, steps_per_epoch), momentum=spec.momentum),
  )


def distill(
  spec: settings.Distillation, teacher: nn.Module | None, *, attends: bool
) -> steps.Distillation:
  """How a student learns from a teacher."""
  divergence = pick(DIVERGENCES, spec.direction, 'distillation.direction')
  return steps.Distillation(
    teacher=teacher,
    map_size=(spec.map_size, spec.map_size),
    divergence=functools.partial(divergence, temperature=spec.temperature),
    attends=attends,
  )


def search(
  spec: settings.Search, data: Dataset, blocks: SearchSpace, epoch_steps: int
) -> search_steps.Search:
  """How filters and tutors are searched."""
  tables = flops.costs(blocks, data.image_shape, data.num_classes)
  make = pick(ARCH_OPTIMIZERS, spec.arch_optimizer, 'search.arch_optimizer')
  penalty = pick(PENALTIES, spec.penalty, 'search.penalty')
  absolute = spec.penalty == 'log'
  extra = {'alpha': spec.log_alpha} if absolute else {}
  uniform = search_steps.uniform_macs(blocks, tables)
  return search_steps.Search(
    space=blocks,
    tables=tables,
    optimizer=make(spec.arch_learning_rate),
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
  )


def attack(name: str, where: str = 'evaluation.attacks') -> Any:
  """A preset of an attack."""
  return pick(attacks.PRESETS, name, where)


def ensemble(names: Sequence[str]) -> tuple[Member, ...]:
  """The members of AutoAttack that ensembles, or they themselves, name.

  Args:
    names: keys of `ENSEMBLES` and `MEMBERS`.

  Returns:
    All members in order.

  Raises:
    ValueError: for an unknown name, and for a member that is named twice.
  """
  where = 'evaluation.auto_attack'
  found: list[Member] = []
  for name in names:
    made = pick(ENSEMBLES | MEMBERS, name, where)()
    found += [made] if isinstance(made, Member) else made
  members = [member.name for member in found]
  for member in members:
    if members.count(member) > 1:
      raise ValueError(
        f'config.{where}={tuple(names)} has {member} twice: name an ensemble, '
        'or members of your choice.'
      )
  return tuple(found)

"""Checks of a run's settings against its data, before anything is computed.

Names are resolved, networks are built as shapes, batches are divided among the
devices: what cannot work fails here, and not hours later.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnascl_jax import resolve, search_steps, settings
from rnascl_jax.base import Taps
from rnascl_jax.datasets import Dataset
from rnascl_jax.settings import Settings


def check(everything: Settings, data: Dataset, devices: int) -> None:
  """Raises for the first thing that does not exist or does not fit.

  Args:
    everything: the settings of a run.
    data: its data set.
    devices: how many there are to divide batches among.

  Raises:
    ValueError: it says which field, its value and what would do.
  """
  taught = _teachers(everything)
  _check_networks(everything, data, taught)
  _check_trainings(everything, taught, data, devices)
  space = resolve.space(everything.space)
  resolve.search(everything.search, data, space, 1)
  split_batch(
    everything.search.optimization.batch_size,
    everything.search.arch_share,
    devices,
    everything.search.optimization.accumulate,
  )
  _check_lessons(everything, data)
  for name in everything.evaluation.attacks:
    resolve.attack(name)
  for name in everything.evaluation.curve_attacks:
    resolve.attack(name, 'evaluation.curve_attacks')
  _check_auto_attack(everything, taught)


def _check_lessons(everything: Settings, data: Dataset) -> None:
  """What is learned from teachers."""
  learners: dict[str, settings.Student | settings.Search] = {
    'search': everything.search
  }
  for name, student in everything.students.items():
    learners[f'students.{name}'] = student
  for where, learner in learners.items():
    used = resolve.kind(learner, where)
    resolve.distill(everything.distillation, None, used)
    labels = data.train.labels
    if used.method == 'crd' and (labels == labels[0]).all():
      raise ValueError(
        f"config.{where}.method='crd' compares images with those of other "
        f'classes, and all {len(labels)} training images are of class '
        f'{labels[0]}: choose another method, or more images with '
        'config.data.max_train.'
      )


def split_batch(
  batch_size: int, arch_share: float, devices: int, accumulate: int = 1
) -> tuple[int, int]:
  """Sizes of a search batch's two parts, which devices divide evenly.

  Args:
    batch_size: images of the whole batch.
    arch_share: share of the part that moves the architecture parameters.
    devices: among which both parts are split evenly.
    accumulate: into how many a device divides its share for the weights;
      `search_steps.arch_parts` says it of the other one.

  Returns:
    Images for the weights and for the architecture parameters.

  Raises:
    ValueError: if one of the parts would be empty.
  """
  of_arch = devices * search_steps.arch_parts(accumulate, arch_share)
  of_weights = devices * accumulate
  arch = round(batch_size * arch_share / of_arch) * of_arch
  weights = (batch_size - arch) // of_weights * of_weights
  if arch < 1 or weights < 1:
    raise ValueError(
      f'A batch of {batch_size} images with config.search.arch_share='
      f'{arch_share} leaves {max(weights, 0)} images for the weights and '
      f'{arch} for the architecture on {devices} devices; both need at least '
      f'one for each device and each of its parts (config.search.optimization.'
      f'accumulate={accumulate}), that is {of_weights} and {of_arch}.'
    )
  return weights, arch


def _check_trainings(
  everything: Settings,
  taught: Mapping[str, settings.Teacher],
  data: Dataset,
  devices: int,
) -> None:
  stages: dict[str, settings.Teacher | settings.Search | settings.Train] = {
    **taught,
    'search': everything.search,
    'train': everything.train,
  }
  chosen = {name: stage.optimization for name, stage in stages.items()}
  regimes = {name: stage.regime for name, stage in stages.items()}
  hardened = everything.adversarial.students
  if hardened:
    chosen['adversarial'] = everything.adversarial.optimization
  for name, student in hardened.items():
    regimes[f'adversarial.students.{name}'] = student.regime
  for name, optimization in chosen.items():
    resolve.schedule(optimization, 1, name)
    _check_batch(optimization, data, devices, name)
  for name, regime in regimes.items():
    resolve.regime(regime, name)


def _check_auto_attack(
  everything: Settings, taught: Mapping[str, settings.Teacher]
) -> None:
  spec = everything.evaluation
  resolve.ensemble(spec.auto_attack)
  if 'rand' in spec.auto_attack:
    raise ValueError(
      "config.evaluation.auto_attack has 'rand', which is for classifiers that "
      'draw random numbers; the networks of a run do not: use "standard".'
    )
  models = {
    **(taught if spec.teachers else {}),
    **everything.students,
    **everything.adversarial.students,
  }
  for name in spec.auto_attack_models:
    resolve.pick(models, name, 'evaluation.auto_attack_models')


def _teachers(everything: Settings) -> dict[str, settings.Teacher]:
  """The teachers of a run, by their sections."""
  found = {'teacher': everything.teacher}
  if everything.controls:
    found['vulnerable_teacher'] = everything.vulnerable_teacher
  return found


def _check_networks(
  everything: Settings, data: Dataset, taught: dict[str, settings.Teacher]
) -> None:
  space = resolve.space(everything.space)
  nets = {
    name: resolve.teacher_network(data, spec.network, where=name)
    for name, spec in taught.items()
  }
  names = {name: net.tap_names for name, net in nets.items()}
  guided = [s for s in everything.students.values() if s.gamma > 0]
  for student in guided:
    if names[student.teacher] != names['teacher']:
      raise ValueError(
        f'config.{student.teacher}.network has {len(names[student.teacher])} '
        f'layers and config.teacher.network {len(names["teacher"])}: tutors '
        'that were searched with the one are layers of that one alone. Give '
        'both the same network, or set gamma=0 for its students.'
      )
  side = everything.distillation.map_size
  _check_maps(_shapes(nets['teacher'], data), side, 'teacher.network')
  net = resolve.student_network(data, space, everything.space.layers)
  _check_maps(_shapes(net, data), side, 'space')


def _shapes(net: nn.Module, data: Dataset) -> Taps:
  """Shapes of a network's taps."""
  images = jax.ShapeDtypeStruct((2, *data.image_shape), jnp.float32)
  (_, taps), _ = jax.eval_shape(
    lambda key, x: net.init_with_output(key, x, train=False),
    jax.random.key(0),
    images,
  )
  return taps


def _check_maps(taps: Taps, side: int, where: str) -> None:
  """Raises unless all maps can be brought to the common size."""
  for tap in taps:
    for have in tap.shape[1:3]:
      if have > side and have % side:
        raise ValueError(
          f'config.distillation.map_size={side} does not divide {have}, the '
          f'side of a map of config.{where}: choose a divisor of {have}.'
        )


def _check_batch(
  spec: settings.Optimization, data: Dataset, devices: int, name: str
) -> None:
  size, images = spec.batch_size, len(data.train.labels)
  where = f'config.{name}.optimization'
  if size > images:
    raise ValueError(
      f'{where}.batch_size={size} exceeds the {images} training images.'
    )
  if name == 'search':
    return  # `split_batch` rounds both of its parts.
  if size % devices:
    raise ValueError(
      f'{where}.batch_size={size} cannot be split evenly over {devices} '
      f'devices: use a multiple of {devices}, or fewer devices with '
      'config.devices.'
    )
  if size // devices % spec.accumulate:
    raise ValueError(
      f'{where}.accumulate={spec.accumulate} does not divide the '
      f'{size // devices} images of a device (batch_size={size} over {devices} '
      f'devices): use a divisor of {size // devices}, or a batch_size that is '
      f'a multiple of {devices * spec.accumulate}.'
    )

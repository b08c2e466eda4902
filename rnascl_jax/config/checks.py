"""Checks of a run's settings against its data, before anything is computed.

Names are resolved, networks are built as shapes, batches are divided among the
devices: what cannot work fails here, and not hours later.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnascl_jax.base import Taps
from rnascl_jax.config import resolve, settings
from rnascl_jax.config.settings import Settings
from rnascl_jax.data.datasets import Dataset
from rnascl_jax.training import search_step

# Parameters of a network at most: with gradients and momentum, 12 GB of them.
_MOST_PARAMETERS = 10**9
# Bytes at most of what the layers of a batch give on one device.
_MOST_BYTES = 2**40
# The counter of steps is a 32-bit integer.
_MOST_STEPS = 2**31


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
  _check_padding(everything.data, data)
  _check_networks(everything, data, taught, devices)
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
    used = resolve.distillation_spec(learner, where)
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
      `search_step.arch_parts` says it of the other one.

  Returns:
    Images for the weights and for the architecture parameters.

  Raises:
    ValueError: if one of the parts would be empty.
  """
  of_arch = devices * search_step.arch_parts(accumulate, arch_share)
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
  methods = {name: stage.adversarial_training for name, stage in stages.items()}
  hardened = everything.adversarial.students
  if hardened:
    chosen['adversarial'] = everything.adversarial.optimization
  for name, student in hardened.items():
    methods[f'adversarial.students.{name}'] = student.adversarial_training
  for name, optimization in chosen.items():
    resolve.schedule(optimization, 1, name)
    _check_batch(optimization, data, devices, name)
    replays = [
      resolve.replays(method)
      for where, method in methods.items()
      if where.split('.')[0] == name
    ]
    _check_steps(optimization, max(replays), data, name)
  for name, method in methods.items():
    resolve.adversarial_method(method, name)


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
  everything: Settings,
  data: Dataset,
  taught: dict[str, settings.Teacher],
  devices: int,
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
  net = resolve.student_network(data, space, everything.space.layers)
  shapes = {
    **{f'{name}.network': _shapes(found, data) for name, found in nets.items()},
    'space': _shapes(net, data),
  }
  batches = {
    f'{name}.network': spec.optimization for name, spec in taught.items()
  }
  batches['space'] = everything.search.optimization
  for where, found in shapes.items():
    _check_size(*found, batches[where], devices, where)
  side = everything.distillation.map_size
  maps = {name: shapes[name][0] for name in ('teacher.network', 'space')}
  largest = max(max(tap.shape[1:3]) for taps in maps.values() for tap in taps)
  if side > largest:
    raise ValueError(
      f'config.distillation.map_size={side} is larger than every map of the '
      f'teacher and of the students: choose {largest} or a divisor of it.'
    )
  for where, taps in maps.items():
    _check_maps(taps, side, where)


def _shapes(net: nn.Module, data: Dataset) -> tuple[Taps, Any]:
  """Shapes of a network's taps, for one image, and of its parameters."""
  images = jax.ShapeDtypeStruct((1, *data.image_shape), jnp.float32)
  (_, taps), variables = jax.eval_shape(
    lambda key, x: net.init_with_output(key, x, train=False),
    jax.random.key(0),
    images,
  )
  return taps, variables['params']


def _check_size(
  taps: Taps,
  params: Any,
  spec: settings.Optimization,
  devices: int,
  where: str,
) -> None:
  """Raises for a network that no device can hold or train."""
  parameters = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
  if parameters > _MOST_PARAMETERS:
    raise ValueError(
      f'config.{where} makes a network of {parameters:,} parameters; at most '
      f'{_MOST_PARAMETERS:,} are supported: make it narrower or shallower.'
    )
  images = -(-spec.batch_size // (devices * spec.accumulate))
  size = 4 * images * sum(math.prod(tap.shape) for tap in taps)
  if size > _MOST_BYTES:
    raise ValueError(
      f'config.{where} makes a network whose layers give {size / 2**30:,.0f} '
      f'GiB for the {images} images that a device trains on at once, more than '
      f'{_MOST_BYTES / 2**30:,.0f}: make it narrower, or lower '
      f'batch_size={spec.batch_size}.'
    )


def _check_padding(spec: settings.Data, data: Dataset) -> None:
  side = min(data.image_shape[:2])
  if spec.padding >= side:
    raise ValueError(
      f'config.data.padding={spec.padding} must be less than {side}, the side '
      'of the images: a crop could show nothing of them.'
    )


def _check_steps(
  spec: settings.Optimization, replays: int, data: Dataset, name: str
) -> None:
  steps = spec.epochs * (len(data.train.labels) // spec.batch_size) * replays
  if steps >= _MOST_STEPS:
    raise ValueError(
      f'config.{name}.optimization.epochs={spec.epochs} with batch_size='
      f'{spec.batch_size} makes {steps:,} steps; fewer than {_MOST_STEPS:,} '
      'can be counted: lower epochs or raise batch_size.'
    )


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

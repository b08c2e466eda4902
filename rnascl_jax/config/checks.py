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

from rnascl_jax.attacks import norms
from rnascl_jax.base import Taps
from rnascl_jax.config import contradictions, resolve
from rnascl_jax.config.schema import (
  Data,
  Optimization,
  SearchSettings,
  Settings,
  StudentSettings,
  Teacher,
  Train,
)
from rnascl_jax.data.datasets import Dataset
from rnascl_jax.search import space_layers
from rnascl_jax.training import search_step

# Parameters of a network at most: 12 GB with their gradients and momentum.
_MOST_PARAMETERS = 10**9
# Bytes at most of the outputs of all layers, for the images of one device.
_MOST_BYTES = 2**40
# The counter of steps is a 32-bit integer.
_MOST_STEPS = 2**31


def check(settings: Settings, data: Dataset, devices: int) -> None:
  """Raises for the first thing that does not exist or does not fit.

  Args:
    settings: the settings of a run.
    data: its data set.
    devices: the number of devices to divide batches among.

  Raises:
    ValueError: it says which field, its value and what would do.
  """
  teachers = {'teacher': settings.teacher}
  if settings.controls:
    teachers['vulnerable_teacher'] = settings.vulnerable_teacher
  _check_padding(settings.data, data)
  if not len(data.validation.labels):
    contradictions.check_validation(settings)
  _check_networks(settings, data, teachers, devices)
  _check_trainings(settings, teachers, data, devices)
  if settings.searches:
    search = settings.search
    steps = len(data.train.labels) // search.optimization.batch_size
    _check_split(search, steps)
    resolve.search(search, data, resolve.space(settings.space), steps)
    search_parts(search, devices)
  _check_distillation(settings, data)
  _check_attacks(settings, teachers, data)


def _check_distillation(settings: Settings, data: Dataset) -> None:
  labels = data.train.labels
  for where, stage in settings.distilled.items():
    spec = resolve.distillation_spec(stage, where)
    resolve.distill(settings.distillation, None, spec)
    if spec.method == 'crd' and (labels == labels[0]).all():
      raise ValueError(
        f"config.{where}.method='crd' compares images with those of other "
        f'classes, and all {len(labels)} training images are of class '
        f'{labels[0]}: choose another method, or more images with '
        'config.data.max_train.'
      )


def _check_split(search: SearchSettings, steps: int) -> None:
  """Raises unless an epoch has steps for the weights and others."""
  weights = resolve.search_weight_steps(search, steps)
  if search.split == 'epochs' and not 0 < weights < steps:
    raise ValueError(
      "config.search.split='epochs' with config.search.arch_share="
      f'{search.arch_share} leaves {weights} of the {steps} steps of an epoch '
      f'for the weights and {steps - weights} for the architecture; both need '
      'at least one: change arch_share, or lower '
      'config.search.optimization.batch_size.'
    )


def search_parts(search: SearchSettings, devices: int) -> tuple[int, ...]:
  """Sizes of the parts of a search's batch: two, or one that is split by steps.

  Args:
    search: the settings of the search.
    devices: among which each part is split evenly.

  Raises:
    ValueError: if a part cannot be split so, or would be empty.
  """
  spec = search.optimization
  if search.split == 'batches':
    return split_batch(
      spec.batch_size, search.arch_share, devices, spec.accumulate
    )
  _check_division(spec, devices, 'config.search.optimization')
  return (spec.batch_size,)


def split_batch(
  batch_size: int, arch_share: float, devices: int, accumulate: int = 1
) -> tuple[int, int]:
  """Sizes of a search batch's two parts, which devices divide evenly.

  Args:
    batch_size: images of the whole batch.
    arch_share: share of the part that moves the architecture parameters.
    devices: among which both parts are split evenly.
    accumulate: the parts into which a device divides its share for the
      weights; `search_step.arch_parts` gives those of the other share.

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
  settings: Settings,
  teachers: Mapping[str, Teacher],
  data: Dataset,
  devices: int,
) -> None:
  stages: dict[str, Teacher | SearchSettings | Train] = {
    **teachers,
    **({'search': settings.search} if settings.searches else {}),
    'train': settings.train,
  }
  trainings = {
    name: (stage.optimization, {name: stage.adversarial_training})
    for name, stage in stages.items()
  }
  for name, (optimization, students) in settings.adversarial.trainings.items():
    trainings[name] = (
      optimization,
      {
        f'adversarial.students.{key}': student.adversarial_training
        for key, student in students.items()
      },
    )
  for name, (optimization, methods) in trainings.items():
    resolve.optimizer(optimization, 1, name)
    _check_batch(optimization, data, devices, name, settings.data.extra_share)
    replays = max(resolve.replays(method) for method in methods.values())
    _check_steps(optimization, replays, data, name)
    for where, method in methods.items():
      resolve.adversarial_method(method, where)
      _check_radius(
        method.radius,
        method.norm,
        data,
        f'config.{where}.adversarial_training.epsilon',
      )


def _check_radius(radius: float, norm: str, data: Dataset, where: str) -> None:
  """Raises for a radius that no perturbation of the images has."""
  longest = norms.by_name(norm).longest(math.prod(data.image_shape))
  if radius > longest:
    raise ValueError(
      f'{where}={radius} is more than {longest:.4g}, the length in {norm} of '
      f'the longest perturbation of images {data.image_shape} in [0, 1]: lower '
      'it.'
    )


def _check_attacks(
  settings: Settings, teachers: Mapping[str, Teacher], data: Dataset
) -> None:
  spec = settings.evaluation
  for name in spec.attacks:
    resolve.attack(name, spec.norm)
  for name in spec.curve_attacks:
    resolve.attack(name, spec.norm, 'evaluation.curve_attacks')
  resolve.ensemble(spec.auto_attack, spec.norm)
  _check_radius(spec.radius, spec.norm, data, 'config.evaluation.epsilon')
  for radius in spec.curve_radii:
    where = 'config.evaluation.curve_epsilons'
    _check_radius(radius, spec.norm, data, where)
  if 'rand' in spec.auto_attack:
    raise ValueError(
      "config.evaluation.auto_attack has 'rand', which is for classifiers that "
      'draw random numbers; the networks of a run do not: use "standard".'
    )
  models = {
    **(teachers if spec.teachers else {}),
    **settings.students,
    **settings.adversarial.students,
  }
  for name in spec.auto_attack_models:
    resolve.pick(models, name, 'evaluation.auto_attack_models')


def _check_networks(
  settings: Settings,
  data: Dataset,
  teachers: Mapping[str, Teacher],
  devices: int,
) -> None:
  networks = {
    name: resolve.fixed_network(data, spec.network, where=name)
    for name, spec in teachers.items()
  }
  layers = {name: net.tap_names for name, net in networks.items()}
  fixed = {
    f'students.{name}': resolve.fixed_network(
      data, student.network, where=f'students.{name}'
    )
    for name, student in settings.students.items()
    if not student.is_searched
  }
  _check_tutors(settings, layers, fixed)
  for student in settings.students.values():
    if not student.is_searched or not student.gamma:
      continue
    if layers[student.teacher] != layers['teacher']:
      raise ValueError(
        f'config.{student.teacher}.network has {len(layers[student.teacher])} '
        f'layers and config.teacher.network {len(layers["teacher"])}: tutors '
        'that were searched with the one are layers of that one alone. Give '
        'both the same network, or set gamma=0 for its students.'
      )
  trained: dict[str, tuple[nn.Module, Optimization]] = {
    f'{name}.network': (network, teachers[name].optimization)
    for name, network in networks.items()
  }
  for where, network in fixed.items():
    trained[f'{where}.network'] = network, settings.train.optimization
  if settings.searches:
    network = resolve.student_network(
      data, resolve.space(settings.space), settings.space.layers
    )
    trained['space'] = network, settings.search.optimization
  taps = {}
  for where, (network, spec) in trained.items():
    taps[where], params = _shapes(network, data)
    _check_size(taps[where], params, spec, devices, where)
  taps.pop('vulnerable_teacher.network', None)
  _check_maps(taps, settings.distillation.map_size)


def _check_tutors(
  settings: Settings,
  layers: Mapping[str, tuple[str, ...]],
  fixed: Mapping[str, nn.Module],
) -> None:
  """Raises for tutors that are no layers of the teacher, or too many.

  Args:
    settings: the settings of a run.
    layers: of each teacher.
    fixed: networks of students that are not searched, by their section.
  """
  searched = space_layers.layer_names(
    resolve.space(settings.space), blocks_only=settings.space.layers == 'block'
  )
  for where, stage in settings.distilled.items():
    names, teacher = searched, 'teacher'
    if where in fixed and isinstance(stage, StudentSettings):
      names, teacher = fixed[where].tap_names, stage.teacher
    resolve.tutor_weights(
      stage.tutors, names, layers.get(teacher, ()), where=where
    )


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
  spec: Optimization,
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


def _check_padding(spec: Data, data: Dataset) -> None:
  if data.resized:
    contradictions.check_crops(spec)
  side = min(data.image_shape[:2])
  if spec.padding >= side:
    raise ValueError(
      f'config.data.padding={spec.padding} must be less than {side}, the side '
      'of the images: a crop could show nothing of them.'
    )


def _check_steps(
  spec: Optimization, replays: int, data: Dataset, name: str
) -> None:
  steps = spec.epochs * (len(data.train.labels) // spec.batch_size) * replays
  if steps >= _MOST_STEPS:
    raise ValueError(
      f'config.{name}.optimization.epochs={spec.epochs} with batch_size='
      f'{spec.batch_size} makes {steps:,} steps; fewer than {_MOST_STEPS:,} '
      'can be counted: lower epochs or raise batch_size.'
    )


def _check_maps(taps: Mapping[str, Taps], side: int) -> None:
  """Raises where every map would only be blown up to the common size."""
  largest = max(
    size for maps in taps.values() for tap in maps for size in tap.shape[1:3]
  )
  if side > largest:
    raise ValueError(
      f'config.distillation.map_size={side} is larger than every map of the '
      f'teacher and of the students: choose {largest} or less.'
    )


def _check_batch(
  spec: Optimization,
  data: Dataset,
  devices: int,
  name: str,
  extra_share: float,
) -> None:
  size, images = spec.batch_size, len(data.train.labels)
  where = f'config.{name}.optimization'
  if size > images:
    raise ValueError(
      f'{where}.batch_size={size} exceeds the {images} training images.'
    )
  of_extra = round(extra_share * size)
  if data.extra is not None and not of_extra:
    raise ValueError(
      f'config.data.extra_share={extra_share} of {where}.batch_size={size} is '
      'no image: raise one of them, or leave config.data.extra empty.'
    )
  if data.extra is not None and of_extra == size and extra_share < 1:
    raise ValueError(
      f'config.data.extra_share={extra_share} of {where}.batch_size={size} '
      'leaves no place for a training image: lower it, or set it to 1.'
    )
  if name == 'search':
    return  # `search_parts` checks it.
  _check_division(spec, devices, where)
  if spec.mixes and size // devices % 2:
    raise ValueError(
      f'{where}.batch_size={size} gives each of {devices} devices '
      f'{size // devices} images, and mixup={spec.mixup} and cutmix='
      f'{spec.cutmix} mix them two by two: use a multiple of {2 * devices}.'
    )


def _check_division(spec: Optimization, devices: int, where: str) -> None:
  """Raises unless devices, and their parts, divide a batch evenly."""
  size = spec.batch_size
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

"""Data sets, search spaces and networks, from their names."""

import dataclasses
import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnascl_jax.config import settings
from rnascl_jax.config.resolve.names import pick
from rnascl_jax.data import batches, datasets
from rnascl_jax.data.datasets import Dataset
from rnascl_jax.models import student, teachers
from rnascl_jax.models.teachers import build
from rnascl_jax.runtime import parallel
from rnascl_jax.search import spaces
from rnascl_jax.search.spaces import SearchSpace
from rnascl_jax.training import train_state

SHORTCUTS = {shortcut.value: shortcut for shortcut in spaces.Shortcut}


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
    image_size=spec.image_size,
    classes=spec.classes,
  )


def augmentation(spec: settings.Data) -> train_state.Augment:
  """Random crop and flip of one image, on a device.

  Images of 'imagenet' were cropped before they came there: its padding is 0.
  """
  return functools.partial(
    batches.augment, padding=spec.padding, flip=spec.flip
  )


def space(spec: settings.Space) -> SearchSpace:
  """The search space."""
  table = {
    **spaces.CIFAR_SPACES,
    **spaces.IMAGENET_SPACES,
    'custom': None,
  }
  found = pick(table, spec.name, 'space.name')
  shortcut = pick(SHORTCUTS, spec.shortcut, 'space.shortcut')
  if found is not None:
    return dataclasses.replace(found, shortcut=shortcut)
  return spaces.from_stages(
    spec.depths,
    spec.choices,
    spec.strides,
    stem_features=spec.stem_features,
    stem_stride=spec.stem_stride,
    expansion=spec.expansion,
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
    layers: which are taught: every 'conv' or every 'block'.
    trained: of a network that is trained, how it computes: its fields
      `bfloat16` and `remat`. None computes in float32: for evaluation, which
      takes the same variables.

  Returns:
    The network.

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
  """What a trained teacher expects and tells, whatever the data set of a run.

  Attributes:
    num_classes: that it tells apart.
    mean: of its inputs, per channel.
    std: of its inputs, per channel.
    classes: those whose logits are used, empty for all.
  """

  num_classes: int
  mean: tuple[float, ...]
  std: tuple[float, ...]
  classes: tuple[int, ...] = ()


def teacher_spec(network: settings.Network) -> dict[str, Any]:
  """What a config says of a teacher's network, for `teachers.build`."""
  given = dataclasses.asdict(network).items()
  return {name: value for name, value in given if value}


def teacher_network(
  data: Dataset,
  spec: settings.Network,
  *,
  where: str = 'teacher',
  guides: bool = False,
  trained: TrainedFor | None = None,
) -> nn.Module:
  """A teacher's network.

  Args:
    data: decides classes and normalisation where `trained` does not.
    spec: the network.
    where: the config's section, for messages.
    guides: whether it only guides a student, and may compute in bfloat16.
      Teachers are trained and evaluated in float32.
    trained: what a checkpoint was trained for; None for a new network.

  Returns:
    The network.

  Raises:
    ValueError: for an unknown network, or a shape that it does not take.
  """
  pick(teachers.TEACHERS, spec.name, f'{where}.network.name')
  trained = trained or TrainedFor(data.num_classes, data.mean, data.std)
  try:
    net = build.network(
      teacher_spec(spec),
      dtype=_compute_type(spec.bfloat16) if guides else None,
      axis_name=parallel.AXIS,
      **trained._replace(classes=())._asdict(),
    )
  except ValueError as error:
    raise ValueError(f'config.{where}.network: {error}') from error
  try:
    return build.some_classes(net, trained.num_classes, trained.classes)
  except ValueError as error:
    raise ValueError(f'config.{where}.{error}') from error

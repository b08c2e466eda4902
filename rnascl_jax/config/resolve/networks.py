"""The search space and the networks of a config."""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnascl_jax.config import settings
from rnascl_jax.config.resolve.names import pick
from rnascl_jax.data.datasets import Dataset
from rnascl_jax.models import fixed, student
from rnascl_jax.models.fixed import build
from rnascl_jax.runtime import parallel
from rnascl_jax.search import space_layers, spaces
from rnascl_jax.search.space import SearchSpace, Shortcut

# Shortcuts of a block by `shortcut`.
SHORTCUTS = {shortcut.value: shortcut for shortcut in Shortcut}


_SPACES = {**spaces.CIFAR_SPACES, **spaces.IMAGENET_SPACES, 'custom': None}


def space(spec: settings.Space) -> SearchSpace:
  """The search space."""
  published = pick(_SPACES, spec.name, 'space.name')
  shortcut = pick(SHORTCUTS, spec.shortcut, 'space.shortcut')
  widths = (
    dataclasses.replace(published, shortcut=shortcut)
    if published
    else _custom(spec, shortcut)
  )
  try:
    return spaces.with_operators(
      widths,
      kernel_sizes=spec.kernel_choices,
      expansions=spec.expansion_choices,
      depth=spec.depth_choices,
    )
  except ValueError as error:
    raise ValueError(
      f'config.space.kernel_choices={spec.kernel_choices}, expansion_choices='
      f'{spec.expansion_choices} and depth_choices={spec.depth_choices} do not '
      f'fit this space: {error}'
    ) from error


def _custom(spec: settings.Space, shortcut: Shortcut) -> SearchSpace:
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
  space_layers.check_image(blocks, data.image_shape)
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


def network_spec(network: settings.NetworkShape) -> dict[str, Any]:
  """The fields of a fixed network that are set, for `build.network`."""
  values = dataclasses.asdict(network).items()
  return {name: value for name, value in values if value}


def fixed_network(
  data: Dataset,
  spec: settings.NetworkShape,
  *,
  where: str = 'teacher',
  bfloat16: str = 'never',
  trained: TrainedFor | None = None,
) -> nn.Module:
  """The network of a teacher, or of a student that is not searched.

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
  pick(fixed.NETWORKS, spec.name, f'{where}.network.name')
  trained = trained or TrainedFor(data.num_classes, data.mean, data.std)
  try:
    net = build.network(
      network_spec(spec),
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

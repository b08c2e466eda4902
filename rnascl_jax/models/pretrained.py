"""Loads a trained model of a workdir, without the code that searched it.

  model = rnascl_jax.load('/tmp/digits')
  logits = model.logits_fn(images)  # [B, H, W, C] in [0, 1] -> [B, K]

`logits_fn` is a pure function in evaluation mode: jit it, attack it, take its
gradient, or its `jax.jvp`.
"""

import os
from typing import Any, NamedTuple

import flax.linen as nn

from rnascl_jax.base import LogitsFn, Variables
from rnascl_jax.models import networks
from rnascl_jax.models.fixed.build import network as build_network
from rnascl_jax.models.student import Student
from rnascl_jax.runtime import commands, paths, saved_variables
from rnascl_jax.search import architecture
from rnascl_jax.search.architecture import Architecture

# Folders in a workdir with a folder for each student.
_STAGES = ('train', 'adversarial')


class Pretrained(NamedTuple):
  """A trained classifier.

  Attributes:
    logits_fn: images [B, H, W, C] in [0, 1] -> logits [B, K].
    net: its network, which also returns taps.
    variables: parameters and BatchNorm statistics, NumPy arrays.
    architecture: filters and tutors of a student; None for a teacher and for a
      student of a fixed architecture.
    metadata: what was saved with it: data set, classes, normalisation.
  """

  logits_fn: LogitsFn
  net: nn.Module
  variables: Variables
  architecture: Architecture | None
  metadata: dict[str, Any]

  def __repr__(self) -> str:
    count = networks.count_parameters(self.variables, batch_norm=True)
    data, classes = self.metadata['dataset'], self.metadata['num_classes']
    kind = type(self.net).__name__
    return (
      f'Pretrained({kind}, {count:,} parameters, {data}, {classes} classes)'
    )


def load(workdir: str | os.PathLike[str], model: str = 'rnas_cl') -> Pretrained:
  """Loads a trained model.

  Args:
    workdir: of a run.
    model: a student's name ('rnas_cl', 'ce', ...), one that was trained further
      on attacks ('rnas_cl_eq6'), or a teacher's ('teacher').

  Returns:
    The model.

  Raises:
    FileNotFoundError: if it was not trained there; it lists those that were.
  """
  folder = paths.local(workdir, 'workdir')
  for place in (*(folder / stage / model for stage in _STAGES), folder / model):
    if (place / 'stage.json').exists():
      variables, metadata = saved_variables.load(place / 'model')
      return build(variables, metadata)
  trained = sorted(
    path.parent.name
    for pattern in ('*', *(f'{stage}/*' for stage in _STAGES))
    for path in folder.glob(f'{pattern}/stage.json')
    if path.parent.name != 'search'
  )
  raise FileNotFoundError(
    f'{folder} has no trained model {model!r}; it has '
    f'{", ".join(trained) or "none"}. Models are trained by '
    f'{commands.usage("pipeline")}.'
  )


def build(variables: Variables, metadata: dict[str, Any]) -> Pretrained:
  """Makes a model of its weights and of what was saved with them."""
  net, arch = network(metadata)
  logits_fn = networks.logits_fn(net, variables)
  return Pretrained(logits_fn, net, variables, arch, metadata)


def network(metadata: dict[str, Any]) -> tuple[nn.Module, Architecture | None]:
  """A model's network, and its architecture if it was searched."""
  fields: dict[str, Any] = {
    'num_classes': metadata['num_classes'],
    'mean': tuple(metadata['mean']),
    'std': tuple(metadata['std']),
  }
  if 'architecture' not in metadata:
    classes = metadata.get('classes', ())
    return build_network(metadata['network'], classes=classes, **fields), None
  arch = architecture.from_dict(metadata['architecture'])
  blocks_only = metadata['layers'] == 'block'
  net = Student(space=arch.derived_space, blocks_only=blocks_only, **fields)
  return net, arch

"""Teachers that were trained elsewhere: of another run, or imported.

A checkpoint is compared with the config before anything is written or computed,
and copied into the run's own folder when its stage is run: afterwards the run
stands by itself.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import logging

from rnascl_jax.base import Variables
from rnascl_jax.config import resolve, settings
from rnascl_jax.data.datasets import Dataset
from rnascl_jax.models.teachers import build
from rnascl_jax.runtime import checkpoints, named_arrays, parallel, paths

# Of a checkpoint's metadata, what is not the run's.
_KEPT = ('dataset', 'image_shape', 'num_classes', 'mean', 'std', 'source')


def folder(chosen: settings.Teacher, where: str) -> pathlib.Path:
  """The folder of the weights of a trained teacher.

  Args:
    chosen: settings of the teacher, with a checkpoint.
    where: the config's section.

  Raises:
    FileNotFoundError: there is none.
  """
  given = paths.local(chosen.checkpoint, f'config.{where}.checkpoint')
  place = given / 'model'
  if not place.exists():
    raise FileNotFoundError(
      f'config.{where}.checkpoint={chosen.checkpoint!r} has no folder "model": '
      'name the folder teacher/ of a complete workdir, or what python -m '
      'experiments.import_teacher wrote.'
    )
  return place


def trained_for(
  metadata: Mapping[str, Any], chosen: settings.Teacher, data: Dataset
) -> resolve.TrainedFor:
  """What a checkpoint expects and tells.

  Of a teacher of all classes of a data set, a run on some of them takes the
  logits of these, unless its config names others.
  """
  classes = tuple(chosen.classes)
  if not classes and metadata['num_classes'] == data.full_classes:
    classes = data.subset
  return resolve.TrainedFor(
    metadata['num_classes'],
    tuple(metadata['mean']),
    tuple(metadata['std']),
    classes,
  )


def check(chosen: settings.Teacher, where: str, data: Dataset) -> nn.Module:
  """Compares a checkpoint with a config.

  Args:
    chosen: settings of the teacher, with a checkpoint.
    where: the config's section.
    data: of the run.

  Returns:
    The network.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: it was trained on another data set and the config names none of
      its classes, it has other classes, or is of another network.
  """
  metadata = checkpoints.load_metadata(folder(chosen, where))
  trained = trained_for(metadata, chosen, data)
  _check_data(chosen, where, data, metadata)
  _check_classes(chosen, where, data, metadata, trained.classes)
  net = resolve.teacher_network(
    data, chosen.network, where=where, trained=trained
  )
  there = build.network(
    metadata['network'], axis_name=parallel.AXIS, **trained._asdict()
  )
  if there != net:
    raise ValueError(
      f'config.{where}.network is not that of {chosen.checkpoint}, '
      f'{build.text(metadata["network"])}: choose it by the argument of the '
      f'config file (teacher=...), or by --config.{where}.network.name and its '
      'other fields.'
    )
  shape = tuple(metadata['image_shape'])
  if shape != data.image_shape:
    logging.warning(
      'The teacher in %s is for images of shape %s, and %s has %s.',
      chosen.checkpoint,
      shape,
      data.name,
      data.image_shape,
    )
  return net


def load(
  chosen: settings.Teacher, where: str, data: Dataset
) -> tuple[Variables, dict[str, Any]]:
  """Loads a checkpoint, see `check`.

  Returns:
    Its variables, and what its metadata says that is not of this run.

  Raises:
    ValueError: its arrays do not fit the network.
  """
  net = check(chosen, where, data)
  variables, metadata = checkpoints.load_variables(folder(chosen, where))
  images = jax.ShapeDtypeStruct((1, *data.image_shape), jnp.float32)
  template = jax.eval_shape(
    lambda x: net.init(jax.random.key(0), x, train=False), images
  )
  found = named_arrays.into_template(
    template,
    named_arrays.from_state(variables),
    source=f'the teacher in {chosen.checkpoint}',
  )
  given = {name: metadata[name] for name in _KEPT if name in metadata}
  classes = trained_for(metadata, chosen, data).classes
  return found, {**given, 'classes': list(classes)}


def _check_data(
  chosen: settings.Teacher,
  where: str,
  data: Dataset,
  metadata: Mapping[str, Any],
) -> None:
  """Raises for a teacher of other data, unless the config names its classes."""
  there = metadata.get('dataset', '')
  if not there or build.same_data(there, data.name):
    return
  if not chosen.classes:
    raise ValueError(
      f'The teacher in {chosen.checkpoint} was trained on {there}, and the run '
      f'is on {data.name}: use a teacher of {data.name}, or train one: '
      f"config.{where}.checkpoint=''. If both are names of the same images, "
      f'import it with --dataset={data.name}; if it knows the classes of '
      f'{data.name}, name the index of each among its '
      f'{metadata["num_classes"]} in config.{where}.classes.'
    )
  logging.warning(
    'The teacher in %s was trained on %s, and the run is on %s.',
    chosen.checkpoint,
    there,
    data.name,
  )


def _check_classes(
  chosen: settings.Teacher,
  where: str,
  data: Dataset,
  metadata: Mapping[str, Any],
  classes: tuple[int, ...],
) -> None:
  """Raises unless the teacher's logits are those of the run's classes."""
  wanted = data.num_classes
  if (len(classes) or metadata['num_classes']) == wanted:
    return
  if classes:
    raise ValueError(
      f'config.{where}.classes names {len(classes)} classes, but {data.name} '
      f'has {wanted}: name one of the teacher for each.'
    )
  raise ValueError(
    f'The teacher in {chosen.checkpoint} tells {metadata["num_classes"]} '
    f'classes apart, but {data.name} has {wanted}. Use a teacher of '
    f"this data set, or train one: config.{where}.checkpoint=''; if these are "
    f"some of the teacher's classes, name their indices in config.{where}."
    'classes.'
  )

"""What a run takes from elsewhere: trained teachers, and an architecture.

A teacher is of another run, or imported; it is used as it is, or trained
further. The architecture is of a run that searched it on other images: the
paper searches on ImageNet-100 and trains on ImageNet (section 4.5). Both are
compared with the config before anything is written or computed, and copied into
the run's own folder when their stage is run: afterwards the run stands by
itself.
"""

import hashlib
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
from rnascl_jax.models.fixed import build, vit
from rnascl_jax.runtime import (
  commands,
  files,
  named_arrays,
  parallel,
  paths,
  saved_variables,
)
from rnascl_jax.search import architecture, space_layers
from rnascl_jax.search.architecture import Architecture

# Of a checkpoint's metadata, what is not the run's.
_KEPT = ('dataset', 'image_shape', 'num_classes', 'mean', 'std', 'source')
_REMEDY = 'Restore it from a copy, or name another one.'


def teacher_folder(spec: settings.Teacher, where: str) -> pathlib.Path:
  """The folder of the weights of a trained teacher.

  Args:
    spec: settings of the teacher, with a checkpoint.
    where: the config's section.

  Raises:
    FileNotFoundError: there is none.
  """
  field = 'start' if spec.start else 'checkpoint'
  model = paths.local(source(spec), f'config.{where}.{field}') / 'model'
  if not model.exists():
    raise FileNotFoundError(
      f'config.{where}.{field}={source(spec)!r} has no folder "model": '
      'name the folder teacher/ of a complete workdir, or what '
      f'{commands.usage("import-teacher")} wrote.'
    )
  return model


def source(spec: settings.Teacher) -> str:
  """The folder of a trained teacher that a config names, or ''."""
  return spec.start or spec.checkpoint


def trained_for(
  metadata: Mapping[str, Any], spec: settings.Teacher, data: Dataset
) -> resolve.TrainedFor:
  """What a checkpoint expects and tells.

  Of a teacher of all classes of a data set, a run on some of them takes the
  logits of these, unless its config names others.
  """
  classes = tuple(spec.classes)
  if not classes and metadata['num_classes'] == data.full_classes:
    classes = data.subset
  return resolve.TrainedFor(
    metadata['num_classes'],
    tuple(metadata['mean']),
    tuple(metadata['std']),
    classes,
  )


def check_teacher(
  spec: settings.Teacher, where: str, data: Dataset
) -> nn.Module:
  """Compares a trained teacher with a config.

  Args:
    spec: settings of the teacher, with a checkpoint or a start.
    where: the config's section.
    data: of the run.

  Returns:
    The network.

  Raises:
    FileNotFoundError: there is no such teacher.
    ValueError: it is of another network; or, unless it is trained further, was
      trained on another data set and the config names none of its classes, or
      has other classes.
  """
  metadata = saved_variables.load_metadata(teacher_folder(spec, where))
  if spec.start:
    trained = resolve.TrainedFor(data.num_classes, data.mean, data.std)
  else:
    trained = trained_for(metadata, spec, data)
    _check_data(spec, where, data, metadata)
    _check_classes(spec, where, data, metadata, trained.classes)
  net = resolve.fixed_network(data, spec.network, where=where, trained=trained)
  there = build.network(
    metadata['network'], axis_name=parallel.AXIS, **trained._asdict()
  )
  transformers = isinstance(there, vit.ViT) and isinstance(net, vit.ViT)
  if spec.start and transformers and not there.patch_size % net.patch_size:
    there = there.clone(patch_size=net.patch_size)
  if there != net:
    raise ValueError(
      f'config.{where}.network is not that of {source(spec)}, '
      f'{build.text(metadata["network"])}: choose it by the argument of the '
      f'config file (teacher=...), or by --config.{where}.network.name and its '
      'other fields.'
    )
  shape = tuple(metadata['image_shape'])
  if shape != data.image_shape:
    logging.warning(
      'The teacher in %s is for images of shape %s, and %s has %s.',
      source(spec),
      shape,
      data.name,
      data.image_shape,
    )
  return net


def load_teacher(
  spec: settings.Teacher, where: str, data: Dataset
) -> tuple[Variables, dict[str, Any]]:
  """Loads a checkpoint, see `check_teacher`.

  Returns:
    Its variables, and what its metadata says that is not of this run.

  Raises:
    ValueError: its arrays do not fit the network.
  """
  net = check_teacher(spec, where, data)
  variables, metadata = saved_variables.load(teacher_folder(spec, where))
  images = jax.ShapeDtypeStruct((1, *data.image_shape), jnp.float32)
  template = jax.eval_shape(
    lambda x: net.init(jax.random.key(0), x, train=False), images
  )
  variables = named_arrays.into_template(
    template,
    named_arrays.from_state(variables),
    source=f'the teacher in {spec.checkpoint}',
  )
  kept = {name: metadata[name] for name in _KEPT if name in metadata}
  classes = trained_for(metadata, spec, data).classes
  return variables, {**kept, 'classes': list(classes)}


def load_start(
  spec: settings.Teacher, where: str, data: Dataset, fresh: Variables
) -> Variables:
  """Loads the weights that a teacher's training starts from.

  Args:
    spec: settings of the teacher, with a start.
    where: the config's section.
    data: of the run.
    fresh: new variables of the teacher's network.

  Returns:
    Variables of the network: those of the start, with the last layer of `fresh`
    where the start has other classes.

  Raises:
    ValueError: the start is of another network.
  """
  net = check_teacher(spec, where, data)
  variables, metadata = saved_variables.load(teacher_folder(spec, where))
  params = variables['params']
  if isinstance(net, vit.ViT):
    height, width, _ = data.image_shape
    grid = (height // net.patch_size, width // net.patch_size)
    params = vit.refit(params, net.patch_size, grid)
  if metadata['num_classes'] != data.num_classes:
    heads = [name for name in build.HEADS if name in params]
    params = {**params, **{name: fresh['params'][name] for name in heads}}
  return named_arrays.into_template(
    fresh,
    named_arrays.from_state({**variables, 'params': params}),
    source=f'the teacher in {spec.start}',
  )


def _check_data(
  spec: settings.Teacher,
  where: str,
  data: Dataset,
  metadata: Mapping[str, Any],
) -> None:
  """Raises for a teacher of other data, unless the config names its classes."""
  there = metadata.get('dataset', '')
  if not there or build.same_data(there, data.name):
    return
  if not spec.classes:
    raise ValueError(
      f'The teacher in {spec.checkpoint} was trained on {there}, and the run '
      f'is on {data.name}: use a teacher of {data.name}, or train one: '
      f"config.{where}.checkpoint=''. If both are names of the same images, "
      f'import it with --dataset={data.name}; if it knows the classes of '
      f'{data.name}, name the index of each among its '
      f'{metadata["num_classes"]} in config.{where}.classes.'
    )
  logging.warning(
    'The teacher in %s was trained on %s, and the run is on %s.',
    spec.checkpoint,
    there,
    data.name,
  )


def _check_classes(
  spec: settings.Teacher,
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
    f'The teacher in {spec.checkpoint} tells {metadata["num_classes"]} '
    f'classes apart, but {data.name} has {wanted}. Use a teacher of '
    f"this data set, or train one: config.{where}.checkpoint=''; if these are "
    f"some of the teacher's classes, name their indices in config.{where}."
    'classes.'
  )


def load_architecture(
  config: settings.Settings, teacher_layers: tuple[str, ...]
) -> Architecture:
  """Reads the architecture that a config names.

  Args:
    config: settings of a run, with `search.architecture`.
    teacher_layers: names of the layers of the run's teacher.

  Returns:
    The architecture.

  Raises:
    FileNotFoundError: if there is no such file.
    ValueError: if it is no architecture, or of another space or teacher, or
      has no tutors for students that attend to searched ones.
  """
  path = _architecture_file(config.search.architecture)
  where = f"config.search.architecture='{path}'"
  if not path.is_file():
    raise FileNotFoundError(
      f'{where} is no file: name the architecture.json of the workdir of a '
      'search.'
    )
  saved = files.read_json(path, remedy=_REMEDY)
  try:
    arch = architecture.from_dict(saved)
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise ValueError(f'{where} is not an architecture: {error}') from error
  spec = config.space
  names = space_layers.layer_names(
    arch.derived_space, blocks_only=spec.layers == 'block'
  )
  if arch.space != resolve.space(spec) or arch.student_layers != names:
    raise ValueError(
      f'{where} was searched in another space than config.space, whose name is '
      f"'{spec.name}' and whose layers are '{spec.layers}': choose the space "
      'it was searched in.'
    )
  if arch.teacher_layers != teacher_layers:
    raise ValueError(
      f'{where} names {len(arch.teacher_layers)} teacher layers '
      f'{arch.teacher_layers[:3]}..., but config.teacher.network has '
      f'{len(teacher_layers)}: {teacher_layers[:3]}.... Its tutors are layers '
      'of the teacher it was searched with: use that one.'
    )
  attentive = [
    name
    for name, student in config.students.items()
    if student.gamma > 0 and student.tutors == 'searched'
  ]
  if attentive and not saved.get('tutors_searched', True):
    raise ValueError(
      f'{where} was searched without the attention loss, or with a control of '
      'the tutors, and names no tutors, but '
      f"config.students.{attentive[0]}.tutors='searched' and its gamma is not "
      '0: choose a control, set gamma to 0, or take an architecture whose '
      'tutors were searched.'
    )
  return arch


def _architecture_file(path: str) -> pathlib.Path:
  return paths.local(path, 'config.search.architecture')


def about_architecture(path: str) -> dict[str, Any]:
  """What a run's own architecture.json says of the file that it took."""
  file = _architecture_file(path)
  content = file.read_bytes()
  return {
    'source': {
      'file': str(file.absolute()),
      'sha256': hashlib.sha256(content).hexdigest(),
    },
    'tutors_searched': files.read_json(file).get('tutors_searched', True),
  }

"""Trains teachers: the robust one, and the control without attacks."""

import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import logging

from rnascl_jax import (
  checkpoints,
  named_arrays,
  parallel,
  resolve,
  settings,
  steps,
  workdir,
)
from rnascl_jax.base import Variables
from rnascl_jax.loops import run as runs
from rnascl_jax.loops.run import Run
from rnascl_jax.teachers import build


def teacher(config: Mapping[str, Any], path: str) -> None:
  """Trains the teacher, and the control if the config asks for it.

  Args:
    config: see `settings`.
    path: the workdir; the teacher is left in `teacher/`, the control in
      `vulnerable_teacher/`.

  Raises:
    ValueError: if the config is not valid or the workdir is of another one.
  """
  run = runs.open_run(config, path)
  for name in names(run):
    _train(run, name)


def names(run: Run) -> list[str]:
  """The run's teachers: names of settings and of folders alike."""
  both = ['teacher', 'vulnerable_teacher']
  return both if run.settings.controls else both[:1]


def spec(run: Run, name: str) -> settings.Teacher:
  """Settings of a teacher."""
  return getattr(run.settings, name)


def network(run: Run, name: str, *, guides: bool = False) -> nn.Module:
  """A teacher's network; as a guide it may compute in bfloat16."""
  chosen = spec(run, name)
  trained = None
  if chosen.checkpoint:
    done = workdir.is_done(run.folder / name)
    folder = run.folder / name if done else _checkpoint(chosen.checkpoint)
    metadata = checkpoints.load_metadata(folder / 'model')
    trained = _trained_for(metadata, chosen.classes)
  return resolve.teacher_network(
    run.data, chosen.network, where=name, guides=guides, trained=trained
  )


def _checkpoint(folder: str) -> pathlib.Path:
  """The folder of a trained teacher.

  Raises:
    FileNotFoundError: if it is none.
  """
  if not (pathlib.Path(folder) / 'model').exists():
    raise FileNotFoundError(
      f'config.teacher.checkpoint={folder!r} has no folder "model": name the '
      'folder teacher/ of a complete workdir, or what python -m '
      'experiments.import_teacher wrote.'
    )
  return pathlib.Path(folder)


def _trained_for(
  metadata: Mapping[str, Any], classes: tuple[int, ...]
) -> resolve.TrainedFor:
  return resolve.TrainedFor(
    metadata['num_classes'],
    tuple(metadata['mean']),
    tuple(metadata['std']),
    tuple(classes),
  )


def load(run: Run, name: str) -> tuple[nn.Module, Variables]:
  """A trained teacher.

  Raises:
    FileNotFoundError: if it was not trained yet.
  """
  return network(run, name), runs.load_variables(run.folder / name)


def _train(run: Run, name: str) -> None:
  folder: pathlib.Path = run.folder / name
  if workdir.is_done(folder):
    logging.info('%s is complete: %s', name, folder)
    return
  chosen, net = spec(run, name), network(run, name)
  metadata = {
    'kind': 'teacher',
    'network': resolve.teacher_spec(chosen.network),
    'layers': list(net.tap_names),
  }
  if chosen.checkpoint:
    variables, given = _given(run, net, chosen)
    summary = {'seconds': 0.0, 'checkpoint': chosen.checkpoint}
    if 'source' in given:
      summary['source'] = given['source']
    runs.finish(run, folder, name, summary, variables, {**metadata, **given})
    return
  recipe = runs.make_recipe(
    run, net, chosen.optimization, chosen.regime, steps.Distillation()
  )
  # Both teachers start from the same weights and see images in one order.
  key = jax.random.key(runs.stage_seed(run.settings.seed, 'teacher'))
  state, summary = runs.fit(
    run,
    name.replace('_', ' '),
    folder,
    chosen.optimization,
    chosen.regime,
    steps.make_train_step(recipe),
    steps.init_state(
      recipe, key, run.data.image_shape, chosen.optimization.batch_size
    ),
    runs.context(run, 'teacher'),
    order_stage='teacher',
    parts=(chosen.optimization.batch_size,),
    validate=runs.make_validate(
      run, net, chosen.regime, chosen.optimization.batch_size
    ),
  )
  runs.finish(run, folder, name, summary, state.variables, metadata)


def _given(
  run: Run, net: nn.Module, chosen: settings.Teacher
) -> tuple[Variables, dict[str, Any]]:
  """A trained teacher from elsewhere, if it fits the config.

  Returns:
    Its variables, and what its metadata says that is not of this run.

  Raises:
    ValueError: if it has other classes or another architecture.
    FileNotFoundError: if there is none.
  """
  folder = _checkpoint(chosen.checkpoint) / 'model'
  variables, metadata = checkpoints.load_variables(folder)
  _check_classes(run, chosen, metadata)
  there = build.network(
    metadata['network'],
    axis_name=parallel.AXIS,
    **_trained_for(metadata, chosen.classes)._asdict(),
  )
  if there != net:
    raise ValueError(
      f'config.teacher.network is not that of {chosen.checkpoint}, '
      f'{build.text(metadata["network"])}: choose it by the argument of the '
      'config file (teacher=...), or by --config.teacher.network.name and its '
      'other fields.'
    )
  images = jax.ShapeDtypeStruct((1, *run.data.image_shape), jnp.float32)
  template = jax.eval_shape(
    lambda x: net.init(jax.random.key(0), x, train=False), images
  )
  found = named_arrays.into_template(
    template,
    named_arrays.from_state(variables),
    source=f'the teacher in {chosen.checkpoint}',
  )
  kept = ('num_classes', 'mean', 'std', 'source')
  given = {name: metadata[name] for name in kept if name in metadata}
  return found, {**given, 'classes': list(chosen.classes)}


def _check_classes(
  run: Run, chosen: settings.Teacher, metadata: Mapping[str, Any]
) -> None:
  """Raises unless the teacher's logits are those of the run's classes."""
  wanted, classes = run.data.num_classes, chosen.classes
  if (len(classes) or metadata['num_classes']) == wanted:
    return
  if classes:
    raise ValueError(
      f'config.teacher.classes names {len(classes)} classes, but '
      f'{run.data.name} has {wanted}: name one of the teacher for each.'
    )
  raise ValueError(
    f'The teacher in {chosen.checkpoint} tells {metadata["num_classes"]} '
    f'classes apart (trained on {metadata["dataset"]}), but {run.data.name} '
    f'has {wanted}. Use a teacher of this data set, or train one: '
    "config.teacher.checkpoint=''; if these are some of the teacher's classes, "
    'name their indices in config.teacher.classes.'
  )

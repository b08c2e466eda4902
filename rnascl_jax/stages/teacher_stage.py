"""Trains teachers: the robust one, and the control without attacks."""

import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
from absl import logging

from rnascl_jax.base import Variables
from rnascl_jax.config import resolve, settings
from rnascl_jax.distillation import compare
from rnascl_jax.runtime import checkpoints
from rnascl_jax.stages import given, workdir
from rnascl_jax.stages import run as runs
from rnascl_jax.stages.run import Run
from rnascl_jax.training import train_state, train_step


def teacher(config: Mapping[str, Any], path: str) -> None:
  """Trains the teacher, and the control if the config asks for it.

  Args:
    config: see `settings`.
    path: the workdir; the teacher is left in `teacher/`, the control in
      `vulnerable_teacher/`.

  Raises:
    ValueError: if the config is not valid or the workdir is of another one.
  """
  with runs.open_run(config, path) as run:
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
    if workdir.is_done(run.folder / name):
      folder = runs.exported(run.folder / name)
    else:
      folder = given.folder(chosen, name)
    metadata = checkpoints.load_metadata(folder)
    trained = given.trained_for(metadata, chosen, run.data)
  return resolve.teacher_network(
    run.data, chosen.network, where=name, guides=guides, trained=trained
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
  chosen = spec(run, name)
  net = network(run, name)
  metadata = {
    'kind': 'teacher',
    'network': resolve.teacher_spec(chosen.network),
    'layers': list(net.tap_names),
  }
  if chosen.checkpoint:
    _copy(run, name, metadata)
    return
  recipe = runs.make_recipe(
    run,
    net,
    chosen.optimization,
    chosen.adversarial_training,
    compare.Distillation(),
  )
  # Both teachers start from the same weights and see images in one order.
  key = jax.random.key(runs.stage_seed(run.settings.seed, 'teacher'))
  state, summary = runs.fit(
    run,
    name.replace('_', ' '),
    folder,
    chosen.optimization,
    chosen.adversarial_training,
    train_step.make_train_step(recipe),
    train_state.init_state(
      recipe, key, run.data.image_shape, chosen.optimization.batch_size
    ),
    runs.context(run, 'teacher'),
    order_stage='teacher',
    parts=(chosen.optimization.batch_size,),
    validate=runs.make_validate(
      run, net, chosen.adversarial_training, chosen.optimization.batch_size
    ),
  )
  runs.finish(run, folder, name, summary, state.variables, metadata)


def _copy(run: Run, name: str, metadata: dict[str, Any]) -> None:
  """Takes a teacher from elsewhere into the run."""
  chosen = spec(run, name)
  variables, kept = given.load(chosen, name, run.data)
  summary = {'seconds': 0.0, 'checkpoint': chosen.checkpoint}
  if 'source' in kept:
    summary['source'] = kept['source']
  folder = run.folder / name
  runs.finish(run, folder, name, summary, variables, {**metadata, **kept})

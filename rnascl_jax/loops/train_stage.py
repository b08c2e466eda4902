"""Trains the derived architecture from scratch (eq. 4), with its controls."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

from rnascl_jax import architecture, resolve, settings, steps, workdir
from rnascl_jax.architecture import Architecture
from rnascl_jax.loops import run as runs
from rnascl_jax.loops import search_stage as searches
from rnascl_jax.loops import teacher_stage as teachers
from rnascl_jax.loops.run import Run
from rnascl_jax.student import Student


def train(config: Mapping[str, Any], path: str) -> None:
  """Trains every student of the config in the architecture that was found.

  All start from the same weights and see images in the same order; they differ
  in teacher and loss alone.

  Args:
    config: see `settings`.
    path: the workdir, with a complete search; students are left in
      `train/<name>/`.

  Raises:
    ValueError: if the config is not valid or the workdir is of another one.
    FileNotFoundError: if the search is not complete.
  """
  run = runs.open_run(config, path)
  found = searches.load(run)
  net = network(run, found)

  @functools.cache
  def make_step(teacher: str, attends: bool):
    # Students of one kind share the compiled step; weights are arguments.
    return _make_step(run, net, teacher, attends)

  for name, student in run.settings.students.items():
    _train(run, found, net, name, student, make_step)


def network(run: Run, found: Architecture) -> Student:
  """The derived network."""
  return resolve.student_network(
    run.data, found.derived_space, run.settings.space.layers
  )


def _make_step(
  run: Run, net: Student, teacher: str, attends: bool
) -> tuple[steps.Recipe, Callable[..., Any]]:
  chosen = run.settings.train
  teacher_net = None
  if teacher:
    teacher_net = teachers.network(run, teacher, guides=True)
  recipe = runs.make_recipe(
    run,
    net,
    chosen.optimization,
    chosen.regime,
    resolve.distill(run.settings.distillation, teacher_net, attends=attends),
  )
  return recipe, steps.make_train_step(recipe)


def _train(
  run: Run,
  found: Architecture,
  net: Student,
  name: str,
  student: settings.Student,
  make_step: Callable[..., Any],
) -> None:
  folder = run.folder / 'train' / name
  if workdir.is_done(folder):
    logging.info('student %s is complete: %s', name, folder)
    return
  chosen = run.settings.train
  attends = student.gamma > 0
  recipe, step = make_step(_same_network(run, student.teacher), attends)
  variables = None
  if student.teacher:
    _, variables = teachers.load(run, student.teacher)
  key = jax.random.key(runs.stage_seed(run.settings.seed, 'train'))
  state, summary = runs.fit(
    run,
    f'student {name}',
    folder,
    chosen.optimization,
    chosen.regime,
    step,
    steps.init_state(
      recipe, key, run.data.image_shape, chosen.optimization.batch_size
    ),
    runs.context(
      run,
      'train',
      teacher=variables,
      tutors=np.asarray(architecture.tutor_weights(found)) if attends else (),
      kl_weight=student.kl_weight,
      gamma=student.gamma,
    ),
    order_stage='train',
    parts=(chosen.optimization.batch_size,),
    validate=runs.make_validate(
      run, net, chosen.regime, chosen.optimization.batch_size
    ),
  )
  metadata = {
    'kind': 'student',
    'architecture': architecture.to_dict(found),
    'layers': run.settings.space.layers,
  }
  runs.finish(run, folder, f'train/{name}', summary, state.variables, metadata)


def _same_network(run: Run, teacher: str) -> str:
  """The first teacher with the same network: its program serves both."""
  if not teacher:
    return ''
  wanted = teachers.spec(run, teacher).network
  return next(
    name
    for name in teachers.names(run)
    if teachers.spec(run, name).network == wanted
  )

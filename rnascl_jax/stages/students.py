"""Trainings of students in the architecture that was found.

They are trained from scratch (`train_stage`), and further on attacks
(`adversarial_stage`): from other weights, and otherwise alike.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from absl import logging

from rnascl_jax.config import resolve, settings
from rnascl_jax.models.student import Student
from rnascl_jax.search import architecture
from rnascl_jax.search.architecture import Architecture
from rnascl_jax.stages import run as runs
from rnascl_jax.stages import search_stage as searches
from rnascl_jax.stages import teacher_stage as teachers
from rnascl_jax.stages import workdir
from rnascl_jax.stages.run import Run
from rnascl_jax.training import train_state, train_step

# A recipe -> the state at step 0.
Start = Callable[[train_state.Recipe], train_state.TrainState]


def network(run: Run, found: Architecture, *, trains: bool = False) -> Student:
  """The derived network.

  Args:
    run: the run.
    found: the architecture.
    trains: whether it is trained, and computes as `config.space` says; the
      network that is evaluated computes in float32.
  """
  spec = run.settings.space
  return resolve.student_network(
    run.data,
    found.derived_space,
    spec.layers,
    trained=spec if trains else None,
  )


class Trainings:
  """The trainings of a stage; those of one kind share the compiled step."""

  def __init__(self, run: Run, stage: str, spec: settings.Optimization):
    """Loads what was found.

    Args:
      run: the run.
      stage: 'train' or 'adversarial': folder of its trainings, and what their
        random draws follow from.
      spec: how long and how fast.

    Raises:
      FileNotFoundError: if the search is not complete.
    """
    self._run, self._stage, self._spec = run, stage, spec
    self._found = searches.load(run)
    self._evaluated = network(run, self._found)
    # Weights are arguments of a step, so that a step serves many trainings.
    self._step = functools.cache(self._make_step)

  def train(
    self,
    name: str,
    student: settings.Student,
    method: settings.AdversarialTraining,
    start: Start,
    about: Mapping[str, Any] | None = None,
  ) -> None:
    """Trains a student unless it is trained, and exports it.

    Args:
      name: of its folder.
      student: its teacher and its loss.
      method: on which images.
      start: makes the state at step 0.
      about: what else the export says of itself, as JSON.
    """
    run, spec = self._run, self._spec
    folder = run.folder / self._stage / name
    if workdir.is_done(folder):
      logging.info('student %s is complete: %s', name, folder)
      return
    used = resolve.distillation_spec(student, f'students.{name}')
    taught = student.kl_weight > 0 or student.gamma > 0
    teacher = _same_network(run, student.teacher if taught else '')
    recipe, step = self._step(method, teacher, used)
    state, summary = runs.fit(
      run,
      f'student {name}',
      folder,
      spec,
      method,
      step,
      start(recipe),
      self._context(student, used.attends),
      order_stage=self._stage,
      parts=(spec.batch_size,),
      validate=runs.make_validate(
        run, self._evaluated, method, spec.batch_size
      ),
    )
    metadata = {
      'kind': 'student',
      'architecture': architecture.to_dict(self._found),
      'layers': run.settings.space.layers,
      **(about or {}),
    }
    where = f'{self._stage}/{name}'
    runs.finish(run, folder, where, summary, state.variables, metadata)

  def _context(
    self, student: settings.Student, attends: bool
  ) -> train_state.Context:
    run, teacher = self._run, None
    if student.teacher:
      _, teacher = teachers.load(run, student.teacher)
    tutors = architecture.tutor_weights(self._found) if attends else None
    return runs.context(
      run,
      self._stage,
      teacher=teacher,
      tutors=() if tutors is None else np.asarray(tutors),
      kl_weight=student.kl_weight,
      gamma=student.gamma,
    )

  def _make_step(
    self,
    method: settings.AdversarialTraining,
    teacher: str,
    used: resolve.DistillationSpec,
  ) -> tuple[train_state.Recipe, Callable[..., Any]]:
    run = self._run
    net = teachers.network(run, teacher, guides=True) if teacher else None
    recipe = runs.make_recipe(
      run,
      network(run, self._found, trains=True),
      self._spec,
      method,
      resolve.distill(run.settings.distillation, net, used),
    )
    return recipe, train_step.make_train_step(recipe)


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

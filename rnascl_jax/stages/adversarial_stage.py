"""Trains students further on attacks (section 3.5), eq. (6) by default.

Beside what a method adds, a student learns what it learned before: from the
same teacher and the same tutors, with the same weights of KL and attention. So
`trades` with consistency is eq. (6): CAC + TRADES + KL + gamma Attn.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
from absl import logging

from rnascl_jax.base import Variables
from rnascl_jax.config import settings
from rnascl_jax.stages import run as runs
from rnascl_jax.stages import workdir
from rnascl_jax.stages.run import Run
from rnascl_jax.stages.students import Trainings
from rnascl_jax.training import train_state


def adversarial(config: Mapping[str, Any], path: str) -> None:
  """Hardens trained students: one training for each entry of the config.

  Each starts from the weights and statistics of its student, with a new
  optimiser; all see images in the same order.

  Args:
    config: see `settings`.
    path: the workdir, in which the students are trained; results are left in
      `adversarial/<name>/`.

  Raises:
    ValueError: if the config is not valid or the workdir is of another one.
    FileNotFoundError: if a student was not trained yet; nothing is computed.
  """
  with runs.open_run(config, path) as run:
    chosen = run.settings.adversarial
    if not chosen.students:
      logging.info('config.adversarial.students is empty: nothing to harden.')
      return
    for student in chosen.students.values():
      workdir.summary(run.folder / 'train' / student.student)
    trainings = Trainings(run, 'adversarial', chosen.optimization)
    for name, student in chosen.students.items():
      trainings.train(
        name,
        run.settings.students[student.student],
        student.adversarial_training,
        functools.partial(_start, run, student),
        _about(student),
      )


def _start(
  run: Run, student: settings.FineTuning, recipe: train_state.Recipe
) -> train_state.TrainState:
  """The trained student, with a new optimiser and new projections."""
  variables: Variables = runs.load_variables(
    run.folder / 'train' / student.student
  )
  return train_state.start_from(
    recipe,
    variables,
    run.data.image_shape,
    run.settings.adversarial.optimization.batch_size,
    jax.random.key(runs.stage_seed(run.settings.seed, 'adversarial')),
    run.data.train.labels,
  )


def _about(student: settings.FineTuning) -> dict[str, Any]:
  return {
    'student': student.student,
    'adversarial_training': dataclasses.asdict(student.adversarial_training),
  }

"""Students in the architecture that was found: trained, and fine-tuned.

They are trained from scratch (eq. 4), and further on attacks (section 3.5),
eq. (6) by default: from other weights, and otherwise alike. Beside what an
adversarial training method adds, a student is distilled as before: from the
same teacher and the same tutors, with the same weights of KL and attention. So
`trades` with consistency is eq. (6): CAC + TRADES + KL + gamma Attn.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging

from rnascl_jax.config import resolve, settings
from rnascl_jax.models.student import Student
from rnascl_jax.search import architecture
from rnascl_jax.search.architecture import Architecture
from rnascl_jax.stages import run as runs
from rnascl_jax.stages import searches, teachers, workdir
from rnascl_jax.stages.run import Run
from rnascl_jax.training import train_state, train_step


def train(run: Run) -> None:
  """Trains every student of the config in the architecture that was found.

  All start from the same weights and see images in the same order; they differ
  in teacher and loss alone.

  Raises:
    FileNotFoundError: if the search is not complete.
  """
  config = run.settings.train
  trainings = _Trainings(run, 'train', config.optimization)
  for name, student in run.settings.students.items():
    trainings.train(name, student, config.adversarial_training)


def fine_tune(run: Run) -> None:
  """Trains students further on attacks, once for each entry of the config.

  Each starts from the weights and statistics of its student, with a new
  optimiser; all see images in the same order.

  Raises:
    FileNotFoundError: if a student was not trained yet; nothing is computed.
  """
  config = run.settings.adversarial
  if not config.students:
    logging.info('config.adversarial.students is empty: nothing to fine-tune.')
    return
  for tuned in config.students.values():
    workdir.summary(run.folder / 'train' / tuned.student)
  trainings = _Trainings(run, 'adversarial', config.optimization)
  for name, tuned in config.students.items():
    student = run.settings.students[tuned.student]
    method = tuned.adversarial_training
    trainings.train(name, student, method, base=tuned.student)


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


class _Trainings:
  """The trainings of a stage; those of one kind share the compiled step."""

  def __init__(self, run: Run, stage: str, spec: settings.Optimization):
    """Loads the architecture.

    Args:
      run: the run.
      stage: 'train' or 'adversarial': folder of its trainings, and what their
        random draws follow from.
      spec: how long and how fast.

    Raises:
      FileNotFoundError: if the search is not complete.
    """
    self._run, self._stage, self._spec = run, stage, spec
    self._architecture = searches.load(run)
    self._evaluated = network(run, self._architecture)
    # Weights are arguments of a step, so that a step serves many trainings.
    self._step = functools.cache(self._make_step)

  def train(
    self,
    name: str,
    student: settings.StudentSettings,
    method: settings.AdversarialTraining,
    *,
    base: str = '',
  ) -> None:
    """Trains a student unless it is trained, and exports it.

    Args:
      name: name of its folder.
      student: its teacher and its loss.
      method: on which images.
      base: the trained student from which it starts; '' for new weights.
    """
    run, spec = self._run, self._spec
    place = f'{self._stage}/{name}'
    if workdir.is_done(run.folder / place):
      logging.info('student %s is complete: %s', name, run.folder / place)
      return
    distilled = resolve.distillation_spec(student, f'students.{name}')
    taught = student.kl_weight > 0 or student.gamma > 0
    teacher = _same_network(run, student.teacher if taught else '')
    recipe, step = self._step(method, teacher, distilled)
    state, summary = runs.fit(
      run,
      place,
      spec,
      method,
      step,
      self._start(recipe, base),
      self._context(name, student, distilled.attends),
      order_stage=self._stage,
      parts=(spec.batch_size,),
      validate=runs.make_validate(
        run, self._evaluated, method, spec.batch_size
      ),
    )
    metadata = {
      'kind': 'student',
      'architecture': architecture.to_dict(self._architecture),
      'layers': run.settings.space.layers,
    }
    if base:
      metadata['student'] = base
      metadata['adversarial_training'] = dataclasses.asdict(method)
    runs.finish(run, place, summary, state.variables, metadata)

  def _start(
    self, recipe: train_state.Recipe, base: str
  ) -> train_state.TrainState:
    """The state at step 0: new weights, or those of a trained student."""
    run = self._run
    key = jax.random.key(runs.stage_seed(run.settings.seed, self._stage))
    facts = run.data.image_shape, self._spec.batch_size
    labels = run.data.train.labels
    if not base:
      return train_state.init_state(recipe, key, *facts, labels)
    variables = runs.load_variables(run.folder / 'train' / base)
    return train_state.start_from(recipe, variables, *facts, key, labels)

  def _context(
    self, name: str, student: settings.StudentSettings, attends: bool
  ) -> train_state.Context:
    run, teacher = self._run, None
    if student.teacher:
      _, teacher = teachers.load(run, student.teacher)
    tutors: Any = ()
    if attends:
      arch = self._architecture
      tutors = resolve.tutor_weights(
        student.tutors,
        arch.student_layers,
        arch.teacher_layers,
        where=f'students.{name}',
        # The same as in the search.
        seed=runs.stage_seed(run.settings.seed, 'tutors'),
        searched=np.asarray(architecture.tutor_weights(arch)),
      )
    return runs.context(
      run,
      self._stage,
      teacher=teacher,
      tutors=tutors,
      kl_weight=student.kl_weight,
      gamma=student.gamma,
    )

  def _make_step(
    self,
    method: settings.AdversarialTraining,
    teacher: str,
    distilled: resolve.DistillationSpec,
  ) -> tuple[train_state.Recipe, Callable[..., Any]]:
    run = self._run
    net = teachers.network(run, teacher, guides=True) if teacher else None
    recipe = runs.make_recipe(
      run,
      network(run, self._architecture, trains=True),
      self._spec,
      method,
      resolve.distill(run.settings.distillation, net, distilled),
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

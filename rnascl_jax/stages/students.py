"""Students: trained, and fine-tuned.

They have the architecture that was found, or a fixed one. They are trained from
scratch (eq. 4), and further on attacks (section 3.5), eq. (6) by default: from
other weights, and otherwise alike. Beside what an adversarial training method
adds, a student is distilled as before: from the same teacher and the same
tutors, with the same weights of KL and attention. So `trades` with consistency
is eq. (6): CAC + TRADES + KL + gamma Attn. Before that a student may be pruned.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from absl import logging

from rnascl_jax.base import PyTree
from rnascl_jax.config import resolve, settings
from rnascl_jax.search import architecture, space_layers
from rnascl_jax.search.architecture import Architecture
from rnascl_jax.stages import run as runs
from rnascl_jax.stages import searches, student_trainings, teachers, workdir
from rnascl_jax.stages.run import Run
from rnascl_jax.stages.student_trainings import Training
from rnascl_jax.training import loop, pruning, train_state, train_step


def train(run: Run, stage: str = 'train') -> None:
  """Trains every student of a stage that is not trained, and exports it.

  All see images in the same order. Those of 'train' also start from the same
  weights, so they differ in teacher and loss alone; those of 'adversarial' each
  start from the weights and statistics of their student, which may be pruned.

  Args:
    run: the run.
    stage: 'train', from new weights, or 'adversarial', from trained students
      on attacks.

  Raises:
    FileNotFoundError: if the search, which some student needs, is not complete,
      or a student, which is to be fine-tuned, was not trained yet; nothing is
      computed.
  """
  trainings = student_trainings.plan(run, stage)
  if not trainings:
    logging.info('config.%s.students is empty: nothing to train.', stage)
    return
  arch = searches.load(run) if run.settings.searches else None
  # Weights are arguments of a step, so that a step serves many trainings.
  make_step = functools.cache(functools.partial(_make_step, run, arch))
  for training in trainings:
    folder = run.folder / training.place
    if workdir.is_done(folder):
      logging.info('%s is complete: %s', training.place, folder)
    else:
      _train(run, arch, make_step, training)


def _train(
  run: Run,
  arch: Architecture | None,
  make_step: Callable[..., Any],
  training: Training,
) -> None:
  """Trains a student, or its scores, and exports it."""
  place, student, method, spec, *_ = training
  distilled = resolve.distillation_spec(
    student, f'students.{place.split("/")[1]}'
  )
  taught = student.kl_weight > 0 or student.gamma > 0 or method.needs_teacher
  recipe, step, statistics_step = make_step(
    spec,
    method,
    _same_network(run, student.teacher if taught else ''),
    distilled,
    student.network,
    training.sparsity,
    training.learns_scores,
  )
  net = network(run, arch, student.network)
  stage = runs.make_stage(
    run,
    place,
    spec,
    method,
    step,
    parts=(spec.batch_size,),
    validate=runs.make_validate(run, net, method, spec.batch_size),
    statistics_step=statistics_step,
  )
  attending = recipe.net if distilled.attends else None
  context = _context(run, training, arch, attending, taught)
  start = _start(run, recipe, training)
  state, summary = loop.run(stage, start, context, run.devices)
  if training.sparsity:
    summary |= _pruned(run, training, state.variables['params'])
  metadata = {**_metadata(run, arch, student.network), **training.metadata}
  runs.finish(run, place, summary, state.variables, metadata)


def _pruned(run: Run, training: Training, params: PyTree) -> dict[str, float]:
  """What a summary says of a pruned student, and of its scores."""
  said = {'weights_kept': pruning.share_kept(params)}
  before = workdir.summary(run.folder / training.start)
  if 'weights_kept' in before:
    said['pruning_seconds'] = before['seconds']
  return said


def network(
  run: Run,
  arch: Architecture | None,
  shape: settings.NetworkShape,
  *,
  trains: bool = False,
) -> nn.Module:
  """A student's network.

  Args:
    run: the run.
    arch: the architecture that was found; None where none was searched.
    shape: of the student; the derived network if it has no name.
    trains: whether it is trained, and computes as `config.space` says; the
      network that is evaluated computes in float32.
  """
  spec = run.settings.space
  if shape.name or arch is None:
    bfloat16 = spec.bfloat16 if trains else 'never'
    return resolve.fixed_network(
      run.data, shape, where='students', bfloat16=bfloat16
    )
  return resolve.student_network(
    run.data,
    arch.derived_space,
    spec.layers,
    trained=spec if trains else None,
  )


def _metadata(
  run: Run, arch: Architecture | None, shape: settings.NetworkShape
) -> dict[str, Any]:
  """What is exported beside a student's weights."""
  if shape.name or arch is None:
    layers = list(network(run, arch, shape).tap_names)
    spec = resolve.network_spec(shape)
    return {'kind': 'student', 'network': spec, 'layers': layers}
  return {
    'kind': 'student',
    'architecture': architecture.to_dict(arch),
    'layers': run.settings.space.layers,
  }


def _make_step(
  run: Run,
  arch: Architecture | None,
  spec: settings.Optimization,
  method: settings.AdversarialTraining,
  teacher: str,
  distilled: resolve.DistillationSpec,
  shape: settings.NetworkShape,
  sparsity: float,
  learns_scores: bool,
) -> tuple[train_state.Recipe, Callable[..., Any], Callable[..., Any] | None]:
  net = teachers.guide(run, teacher) if teacher else None
  distillation = resolve.distill(run.settings.distillation, net, distilled)
  student = network(run, arch, shape, trains=True)
  recipe = runs.make_recipe(run, student, spec, method, distillation)
  if learns_scores:
    recipe = pruning.learn_scores(recipe, sparsity)
  elif sparsity:
    recipe = pruning.keep_zeros(recipe, sparsity)
  return (
    recipe,
    train_step.make_train_step(recipe),
    runs.make_statistics_step(run, spec, recipe),
  )


def _start(
  run: Run, recipe: train_state.Recipe, training: Training
) -> train_state.TrainState:
  """The state at step 0: new weights, or those of a trained student."""
  stage = training.place.split('/')[0]
  key = jax.random.key(runs.stage_seed(run.settings.seed, stage))
  shape, labels = run.data.image_shape, run.data.training.labels
  batch = training.spec.batch_size
  if not training.start:
    return train_state.init_state(recipe, key, shape, batch, labels)
  variables = runs.load_variables(run.folder / training.start)
  start = functools.partial(
    train_state.start_from,
    recipe,
    image_shape=shape,
    batch_size=batch,
    key=key,
    labels=labels,
  )
  if not training.sparsity:
    return start(variables=variables)
  pruned = pruning.by_magnitude(variables['params'], training.sparsity)
  if training.learns_scores:
    return start(variables=variables).replace(params=pruned)
  return start(variables={**variables, 'params': pruned})


def _context(
  run: Run,
  training: Training,
  arch: Architecture | None,
  attending: nn.Module | None,
  taught: bool,
) -> train_state.Context:
  """What the training of a student uses: its teacher, and its tutors."""
  stage, name, *_ = training.place.split('/')
  student = training.student
  teacher: Any = None
  tutors: Any = ()
  if taught:
    teacher_net, teacher = teachers.load(run, student.teacher)
  if attending is not None:
    layers = attending.tap_names, teacher_net.tap_names
    tutors = _tutors(run, f'students.{name}', student, arch, *layers)
  return runs.context(
    run,
    stage,
    teacher=teacher,
    tutors=tutors,
    kl_weight=student.kl_weight,
    gamma=student.gamma,
  )


def _tutors(
  run: Run,
  where: str,
  student: settings.StudentSettings,
  arch: Architecture | None,
  layers: Sequence[str],
  teacher_layers: Sequence[str],
) -> np.ndarray:
  """The tutor weights [S, T] of the layers of a student."""
  found = arch if student.is_searched else None
  if found and student.tutors == 'searched':
    return np.asarray(architecture.tutor_weights(found))
  if found:
    # Those of the search, which may be more.
    layers = space_layers.layer_names(
      found.space, blocks_only=run.settings.space.layers == 'block'
    )
  weights = resolve.tutor_weights(
    student.tutors,
    layers,
    teacher_layers,
    where=where,
    # The same as in the search.
    seed=runs.stage_seed(run.settings.seed, 'tutors'),
  )
  if found:
    return weights[architecture.kept(layers, found.operators)]
  return weights


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

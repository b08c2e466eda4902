"""The trained models of a run, in the order of its tables."""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn

from rnascl_jax import files, settings, workdir
from rnascl_jax.base import Variables
from rnascl_jax.loops import run as runs
from rnascl_jax.loops import search_stage as searches
from rnascl_jax.loops import teacher_stage as teachers
from rnascl_jax.loops import train_stage as students
from rnascl_jax.loops.run import Run


class Model(NamedTuple):
  """A trained model of a run.

  Attributes:
    name: of the files about it.
    label: what tables call it.
    kind: 'teacher' or 'student'.
    folder: of the stage that trained it.
    net: its network.
    variables: trained.
    order: row in tables.
  """

  name: str
  label: str
  kind: str
  folder: pathlib.Path
  net: nn.Module
  variables: Variables
  order: int


def trained_models(run: Run) -> Iterator[Model]:
  """All models of a run whose training is complete, in the tables' order."""
  order = 0
  for name in teachers.names(run):
    if workdir.is_done(run.folder / name):
      net, variables = teachers.load(run, name)
      label = teachers.spec(run, name).label
      folder = run.folder / name
      yield Model(name, label, 'teacher', folder, net, variables, order)
      order += 1
  rows = sorted(run.settings.students.items(), key=lambda item: _row(item[1]))
  for name, student in rows:
    folder = run.folder / 'train' / name
    if workdir.is_done(folder):
      net = students.network(run, searches.load(run))
      variables = runs.load_variables(folder)
      yield Model(name, student.label, 'student', folder, net, variables, order)
      order += 1


def _row(student: settings.Student) -> tuple[bool, ...]:
  """Students of the robust teacher before controls, full losses first."""
  control = student.teacher == 'vulnerable_teacher'
  return control, student.gamma == 0, student.kl_weight == 0


def under_auto_attack(spec: settings.Evaluation, name: str) -> bool:
  """Whether AutoAttack is to attack the model of this name."""
  named = spec.auto_attack_models
  return bool(spec.auto_attack) and (not named or name in named)


def key(run: Run, model: Model) -> Any:
  """What is left of a model's evaluation depends on this, as JSON.

  Equal keys mean equal numbers and files. How many images are attacked at once,
  or what is done with other models, is not in it.
  """
  spec = run.settings.evaluation
  fields = [
    'attacks',
    'epsilon_255',
    'curve_attacks',
    'curve_epsilons_255',
    'curve_images',
    'max_images',
    'save_images',
  ]
  if under_auto_attack(spec, model.name):
    fields += ['auto_attack', 'auto_attack_images']
  return files.to_json(
    {
      'evaluation': {name: getattr(spec, name) for name in fields},
      'stage': workdir.summary(model.folder),
    }
  )

"""The trained models of a run, in the order of its tables."""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn

from rnascl_jax.base import Variables
from rnascl_jax.config import settings
from rnascl_jax.runtime import files
from rnascl_jax.stages import run as runs
from rnascl_jax.stages import search_stage as searches
from rnascl_jax.stages import students, workdir
from rnascl_jax.stages import teacher_stage as teachers
from rnascl_jax.stages.run import Run


class Model(NamedTuple):
  """A trained model of a run.

  Attributes:
    name: of the files about it.
    label: what tables call it.
    kind: 'teacher' or 'student'.
    folder: of the stage that trained it.
    net: its network.
    variables: trained.
    order: row in tables, the same whichever other models are trained; of a
      model with a base, among all that have one, as it stands behind its base.
    base: the student that it was before its training on attacks; '' for all
      models that were trained from scratch.
  """

  name: str
  label: str
  kind: str
  folder: pathlib.Path
  net: nn.Module
  variables: Variables
  order: int
  base: str = ''


class _Row(NamedTuple):
  """A student of the config, trained or not; attributes as in `Model`."""

  name: str
  label: str
  folder: str
  order: int
  base: str = ''


def trained_models(run: Run) -> Iterator[Model]:
  """All models of a run whose training is complete, in the tables' order."""
  taught = teachers.names(run)
  for order, name in enumerate(taught):
    folder = run.folder / name
    if workdir.is_done(folder):
      label = teachers.spec(run, name).label
      net, variables = teachers.load(run, name)
      yield Model(name, label, 'teacher', folder, net, variables, order)
  for row in _rows(run.settings, len(taught)):
    folder = run.folder / row.folder
    if workdir.is_done(folder):
      net = students.network(run, searches.load(run))
      yield Model(
        row.name,
        row.label,
        'student',
        folder,
        net,
        runs.load_variables(folder),
        row.order,
        row.base,
      )


def _rows(everything: settings.Settings, first: int) -> Iterator[_Row]:
  """All students; behind each, what became of it under attacks."""
  named = sorted(everything.students.items(), key=lambda item: _place(item[1]))
  hardened = everything.adversarial.students.items()
  for order, (name, student) in enumerate(named, first):
    yield _Row(name, student.label, f'train/{name}', order)
    for place, (key, found) in enumerate(hardened):
      if found.student == name:
        yield _Row(key, found.label, f'adversarial/{key}', place, name)


def _place(student: settings.Student) -> tuple[bool, ...]:
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

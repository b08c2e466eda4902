"""The trained models of a run, in the order of its tables."""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator
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


def key(run: Run, found: Iterable[Model]) -> Any:
  """What results of models depend on, as JSON: equal keys, equal results."""
  return files.to_json(
    {
      'evaluation': dataclasses.asdict(run.settings.evaluation),
      'stages': {m.name: workdir.summary(m.folder) for m in found},
    }
  )

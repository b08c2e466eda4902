"""The trained models of a run, in the order of its tables."""

from collections.abc import Iterator

from rnascl_jax.config import settings
from rnascl_jax.evaluation.target import Model
from rnascl_jax.stages import run as runs
from rnascl_jax.stages import searches, students, teachers, workdir
from rnascl_jax.stages.run import Run


def trained_models(run: Run) -> Iterator[Model]:
  """Loads all models of a run whose training is complete."""
  names = teachers.names(run)
  for order, name in enumerate(names):
    folder = run.folder / name
    if workdir.is_done(folder):
      summary, label = workdir.summary(folder), teachers.spec(run, name).label
      net, variables = teachers.load(run, name)
      yield Model(name, label, 'teacher', summary, net, variables, order)
  for name, label, stage, order, base in _students(run.settings, len(names)):
    folder = run.folder / stage / name
    if workdir.is_done(folder):
      summary = workdir.summary(folder)
      student = run.settings.students[base or name]
      arch = searches.load(run) if student.is_searched else None
      net = students.network(run, arch, student.network)
      variables = runs.load_variables(folder)
      yield Model(name, label, 'student', summary, net, variables, order, base)


def _students(
  config: settings.Settings, first: int
) -> Iterator[tuple[str, str, str, int, str]]:
  """Lists all students; behind each, what became of it under attacks.

  Yields:
    Name, label, stage, order and base, see `Model`.
  """
  in_order = sorted(config.students.items(), key=lambda item: _place(item[1]))
  for order, (base, student) in enumerate(in_order, first):
    yield base, student.label, 'train', order, ''
    for place, (name, tuned) in enumerate(config.adversarial.students.items()):
      if tuned.student == base:
        yield name, tuned.label, 'adversarial', place, base


def _place(student: settings.StudentSettings) -> tuple[bool, ...]:
  """Students of the robust teacher before controls, full losses first."""
  control = student.teacher == 'vulnerable_teacher'
  return control, student.gamma == 0, student.kl_weight == 0

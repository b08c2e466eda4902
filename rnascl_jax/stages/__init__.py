"""The stages of a run, each a function of a config and a workdir.

`pipeline` runs them all: teacher, search, train, adversarial, evaluate, report.
A stage that is complete in the workdir is not run again; one that was
interrupted goes on from its last checkpoint.

All of them check the config and open the workdir before anything is computed,
and raise what `run.open_run` raises; FileNotFoundError if an earlier stage that
they need is not complete.
"""

from collections.abc import Mapping
from typing import Any

from rnascl_jax.reporting import html
from rnascl_jax.reporting import report as reports
from rnascl_jax.runtime import paths, processes
from rnascl_jax.search.architecture import Architecture
from rnascl_jax.stages import evaluations, searches, students, teachers, workdir
from rnascl_jax.stages import run as runs
from rnascl_jax.stages.run import Run


def teacher(config: Mapping[str, Any], path: str) -> None:
  """Trains the teacher, and the control if the config asks for it.

  Args:
    config: see `settings`.
    path: the workdir; the teacher is left in `teacher/`, the control in
      `vulnerable_teacher/`.
  """
  with runs.open_run(config, path) as run:
    teachers.train(run)


def search(config: Mapping[str, Any], path: str) -> Architecture:
  """Searches an architecture and its tutors, with the trained teacher.

  Args:
    config: see `settings`.
    path: the workdir, with a complete `teacher/`; the search is left in
      `search/` and its result in `architecture.json`, which is that of another
      run if the config names one.

  Returns:
    The architecture.
  """
  with runs.open_run(config, path) as run:
    return searches.search(run)


def train(config: Mapping[str, Any], path: str) -> None:
  """Trains every student of the config, from new weights.

  Args:
    config: see `settings`.
    path: the workdir, with a complete search where some student has no network
      of its own; students are left in `train/<name>/`.
  """
  with runs.open_run(config, path) as run:
    students.train(run)


def adversarial(config: Mapping[str, Any], path: str) -> None:
  """Fine-tunes trained students on attacks, once for each entry of the config.

  Args:
    config: see `settings`.
    path: the workdir, in which the students are trained; results are left in
      `adversarial/<name>/`.
  """
  with runs.open_run(config, path) as run:
    students.train(run, 'adversarial')


def evaluate(config: Mapping[str, Any], path: str) -> None:
  """Attacks all trained models of a workdir.

  Args:
    config: see `settings`.
    path: the workdir; results are left in `evaluation/`.

  Raises:
    Interrupted: after SIGTERM or SIGINT, when everything finished is saved.
  """
  with runs.open_run(config, path) as run:
    evaluations.evaluate(run)


def report(path: str) -> str:
  """Writes `report.md`, figures and `report.html` from what the workdir holds.

  Args:
    path: the workdir.

  Returns:
    The table and where the page is, for a terminal; of several processes the
    main one has it.

  Raises:
    ValueError: if a file of the run is broken.
    MissingStageError: if there is no run.
    HeldError: if another process is writing in the workdir.
  """
  folder = paths.local(path, 'workdir')
  workdir.check_run(folder)
  processes.on_main(reports.write, folder)
  processes.on_main(html.write, folder)
  if not processes.is_main():
    return ''
  table = reports.terminal_table(folder)
  return f'{table}\n\nThe whole report: {folder / "report.html"}'


def pipeline(config: Mapping[str, Any], path: str) -> str:
  """Goes from a robust teacher to an attacked student, and reports.

  Args:
    config: see `settings`; if `adversarial.students` is empty, that stage is
      left out.
    path: the workdir.

  Returns:
    The table, for a terminal.
  """
  with runs.open_run(config, path) as run:
    return run_all(run)


def run_all(run: Run) -> str:
  """Runs all stages of an opened run, the search if some student needs it."""
  teachers.train(run)
  if run.settings.searches:
    searches.search(run)
  students.train(run)
  students.train(run, 'adversarial')
  evaluations.evaluate(run)
  return report(str(run.folder))

"""The stages of a run, each a function of a config and a workdir.

`pipeline` runs them all: teacher, search, train, adversarial, evaluate, report.
A stage that is complete in the workdir is not run again; one that was
interrupted goes on from its last checkpoint.
"""

from collections.abc import Mapping
from typing import Any

from rnascl_jax.reporting import report as reports
from rnascl_jax.runtime import paths, processes
from rnascl_jax.stages import run as runs
from rnascl_jax.stages import workdir
from rnascl_jax.stages.adversarial_stage import adversarial
from rnascl_jax.stages.evaluate_stage import evaluate
from rnascl_jax.stages.search_stage import search
from rnascl_jax.stages.teacher_stage import teacher
from rnascl_jax.stages.train_stage import train

__all__ = [
  'adversarial',
  'evaluate',
  'pipeline',
  'report',
  'search',
  'teacher',
  'train',
]


def report(path: str) -> str:
  """Writes `report.md` and the figures from what the workdir holds.

  Args:
    path: the workdir.

  Returns:
    The table, for a terminal; of several processes the main one has it.

  Raises:
    ValueError: if a file of the run is broken.
    MissingStageError: if there is no run.
    HeldError: if another process is writing in the workdir.
  """
  folder = paths.local(path, 'workdir')
  if not processes.from_main((folder / 'config.json').exists()):
    raise workdir.MissingStageError(f'{folder} is not the workdir of a run.')
  processes.on_main(reports.write, folder)
  return reports.terminal_table(folder) if processes.is_main() else ''


def pipeline(config: Mapping[str, Any], path: str) -> str:
  """From a robust teacher to an attacked student, and the report.

  Args:
    config: see `settings`; if `adversarial.students` is empty, that stage is
      left out.
    path: the workdir.

  Returns:
    The table, for a terminal.

  Raises:
    ValueError: if the config is not valid or the workdir is of another one.
    HeldError: if another run is writing in the workdir.
    DiskError: if the workdir cannot be written to, or was deleted.
  """
  # No other run can begin between two stages.
  with runs.open_run(config, path):
    teacher(config, path)
    search(config, path)
    train(config, path)
    adversarial(config, path)
    evaluate(config, path)
    return report(path)

"""Evaluates the trained models of a run."""

import shutil
import time

from rnascl_jax.evaluation import analysis, model_evaluation
from rnascl_jax.evaluation.target import EvaluationTarget, Model
from rnascl_jax.runtime import commands, processes, signals
from rnascl_jax.stages import models, workdir
from rnascl_jax.stages import run as runs
from rnascl_jax.stages.run import Run


def evaluate(run: Run) -> None:
  """Attacks all trained models of a run; results are left in `evaluation/`.

  A run that was stopped or killed goes on after the last batch that it
  finished.

  Raises:
    FileNotFoundError: if no model was trained yet.
    Interrupted: after SIGTERM or SIGINT, when everything finished is saved.
  """
  started = time.monotonic()
  trained = list(models.trained_models(run))
  if not trained:
    raise workdir.MissingStageError(
      f'{run.folder} has no trained model. Train one first, or run all '
      f'stages with {commands.usage("pipeline")}.'
    )
  with signals.stop_on_signal() as stop:

    def target(model: Model) -> EvaluationTarget:
      return EvaluationTarget(
        model, run.settings, run.data, run.devices, run.folder, stop
      )

    evaluated = [
      model_evaluation.evaluate(target(model))
      for model in trained
      if model.kind == 'student' or run.settings.evaluation.teachers
    ]
  journals = run.folder / 'evaluation' / 'journal'
  processes.on_main(shutil.rmtree, journals, ignore_errors=True)
  analyzed = analysis.analyze([target(model) for model in trained])
  if any(evaluated) or analyzed:
    runs.record(run, 'evaluation', time.monotonic() - started)

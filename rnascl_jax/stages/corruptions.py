"""Evaluates the trained models of a run under common corruptions."""

import itertools
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from rnascl_jax.data.corruptions import names as known
from rnascl_jax.data.corruptions import sets
from rnascl_jax.data.corruptions.corrupted_set import CorruptedSet
from rnascl_jax.evaluation import corruption_baseline, corruptions
from rnascl_jax.evaluation.target import EvaluationTarget, Model
from rnascl_jax.reporting import corruptions as saved_corruptions
from rnascl_jax.reporting.report import corruptions as tables
from rnascl_jax.runtime import commands, processes, signals, spelling
from rnascl_jax.stages import models as trained
from rnascl_jax.stages import run as runs
from rnascl_jax.stages import workdir
from rnascl_jax.stages.run import Run


class Plan(NamedTuple):
  """What is to be evaluated, all of it checked.

  Attributes:
    models: the models.
    corrupted: the images.
    corruptions: names of corruptions.
    severities: ascending.
    baseline: see `corruption_baseline.load`; None for none.
  """

  models: tuple[Model, ...]
  corrupted: CorruptedSet
  corruptions: tuple[str, ...]
  severities: tuple[int, ...]
  baseline: dict[str, Any] | None


def plan(
  run: Run,
  *,
  data: str = sets.MADE,
  models: Sequence[str] = (),
  corruptions_or_groups: Sequence[str] = ('common',),
  severities: Sequence[int] = known.SEVERITIES,
  images: int = 0,
  baseline: str = '',
) -> Plan:
  """Checks what is asked for; nothing is computed or written.

  Args:
    run: the run.
    data: 'made', or the folder of CIFAR-10-C or ImageNet-C.
    models: names of trained models; empty for all that `evaluate` attacks.
    corruptions_or_groups: see `names.expand`.
    severities: 1 to 5.
    images: how many of each corruption and severity; 0 for all.
    baseline: 'alexnet' or a file, see `corruption_baseline.load`; '' for none.

  Raises:
    ValueError, FileNotFoundError: something does not fit; the message says
      what to do.
  """
  corrupted, names, severities = processes.together(
    _images, run, data, corruptions_or_groups, severities, images
  )
  errors = None
  if baseline:
    errors = processes.together(
      corruption_baseline.load,
      baseline,
      names,
      severities,
      is_imagenet_c=run.data.num_classes == 1000 and data != sets.MADE,
    )
  return Plan(_models(run, models), corrupted, names, severities, errors)


def _images(
  run: Run,
  data: str,
  corruptions_or_groups: Sequence[str],
  severities: Sequence[int],
  count: int,
) -> tuple[CorruptedSet, tuple[str, ...], tuple[int, ...]]:
  """The images, names of corruptions and severities, all checked."""
  severities = known.check_severities(severities)
  corrupted = sets.open_set(data, run.data, count)
  names = known.expand(corruptions_or_groups, corrupted.available)
  for name, severity in itertools.product(names, severities):
    corrupted.check(name, severity)
  folder = corruptions.folder_of(run.folder, corrupted)
  corruptions.check_folder(folder, corrupted)
  return corrupted, names, severities


def _models(run: Run, wanted: Sequence[str]) -> tuple[Model, ...]:
  there = {model.name: model for model in trained.trained_models(run)}
  if not there:
    raise workdir.MissingStageError(
      f'{run.folder} has no trained model. Train one first, or run all '
      f'stages with {commands.usage("pipeline")}.'
    )
  for name in wanted:
    if name not in there:
      raise ValueError(
        f'{run.folder} has no trained model {name!r}.'
        f'{spelling.did_you_mean(name, there)} It has {", ".join(there)}.'
      )
  teachers = run.settings.evaluation.teachers
  return tuple(
    model
    for model in there.values()
    if (model.name in wanted if wanted else model.kind == 'student' or teachers)
  )


def evaluate(run: Run, asked: Plan) -> str:
  """Evaluates; results are left in `evaluation/corruptions/`.

  Returns:
    The table, for a terminal; of several processes the main one has it.

  Raises:
    Interrupted: after SIGTERM or SIGINT, when everything finished is saved.
  """
  started = time.monotonic()
  with signals.stop_on_signal() as stop:
    targets = [
      EvaluationTarget(
        model, run.settings, run.data, run.devices, run.folder, stop
      )
      for model in asked.models
    ]
    evaluated = corruptions.evaluate(targets, *asked[1:])
  if evaluated:
    runs.record(run, 'corruptions', time.monotonic() - started)
  if not processes.is_main():
    return ''
  folder = corruptions.folder_of(run.folder, asked.corrupted)
  return tables.plain([saved_corruptions.read_set(folder)])

"""Attacks every trained model of a run, and saves what it looks at."""

import pathlib
import shutil
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from rnascl_jax.evaluation import adversarial_images
from rnascl_jax.models import convolutions, networks
from rnascl_jax.models.student import Student
from rnascl_jax.runtime import files, processes, signals
from rnascl_jax.runtime.signals import Stop
from rnascl_jax.search import flops
from rnascl_jax.stages import (
  inspection,
  models,
  records,
  subjects,
  trials,
  workdir,
)
from rnascl_jax.stages import run as runs
from rnascl_jax.stages.models import Model
from rnascl_jax.stages.run import Run
from rnascl_jax.stages.subjects import Subject
from rnascl_jax.stages.trials import Ensemble, Trial

# A record, and flags of images by their names in the .npz file.
_Found = tuple[dict[str, Any], dict[str, np.ndarray]]


def evaluate(config: Mapping[str, Any], path: str) -> None:
  """Attacks all trained models of a workdir.

  A run that was stopped or killed goes on after the last batch that it
  finished.

  Args:
    config: see `settings`.
    path: the workdir; results are left in `evaluation/`.

  Raises:
    ValueError: if the config is not valid or the workdir is of another one.
    FileNotFoundError: if no model was trained yet.
    Interrupted: after SIGTERM or SIGINT, when everything finished is saved.
  """
  with runs.open_run(config, path) as run:
    folder = run.folder / 'evaluation'
    started = time.monotonic()
    found = list(models.trained_models(run))
    if not found:
      raise workdir.MissingStageError(
        f'{run.folder} has no trained model. Train one first, or run all '
        'stages with python -m experiments.pipeline.'
      )
    attacked = [
      model
      for model in found
      if model.kind == 'student' or run.settings.evaluation.teachers
    ]
    with signals.stop_on_signal() as stop:
      evaluated = [_evaluate(run, model, folder, stop) for model in attacked]
    processes.on_main(shutil.rmtree, folder / 'journal', ignore_errors=True)
    inspected = inspection.inspect(run, found, folder)
    if any(evaluated) or inspected:
      runs.record(run, 'evaluation', time.monotonic() - started)


def _evaluate(run: Run, model: Model, folder: pathlib.Path, stop: Stop) -> bool:
  """Evaluates a model unless it was done with these settings."""
  spec = run.settings.evaluation
  path = folder / f'{model.name}.json'
  wanted = models.key(run, model)
  if processes.from_main(processes.together(_is_evaluated, path, wanted)):
    logging.info('%s is evaluated: %s', model.name, path)
    return False
  split = subjects.first(run.data.test, spec.max_images)
  size = min(spec.batch_size, len(split.labels))
  subject = Subject(run, model, folder, split, size, stop)
  processes.on_main(shutil.rmtree, subject.unfinished, ignore_errors=True)
  # What is in a network's code is told before hours of attacks.
  for warning in subject.warnings:
    logging.warning('%s: %s', model.name, warning.message)
  found = [_clean(subject), *_attacks(subject), *_auto_attack(subject)]
  curves = _curves(subject)
  arrays = {name: flags for _, named in found for name, flags in named.items()}
  # Up to here, an earlier evaluation is there with all of its files.
  processes.on_main(path.unlink, missing_ok=True)
  runs.save_arrays(path.with_suffix('.npz'), arrays)
  processes.on_main(
    adversarial_images.replace, subject.adversarial, subject.unfinished
  )
  processes.on_main(
    files.write_json,
    path,
    {
      **_about(subject),
      'attacks': [record for record, _ in found],
      'curves': curves,
      'key': wanted,
    },
  )
  processes.on_main(shutil.rmtree, subject.journals, ignore_errors=True)
  if processes.any_true(stop.signum is not None):
    raise subjects.stopped(stop)
  return True


def _is_evaluated(path: pathlib.Path, wanted: Any) -> bool:
  return path.exists() and files.read_json(path).get('key') == wanted


def _about(subject: Subject) -> dict[str, Any]:
  run, model = subject.run, subject.model
  return {
    'model': model.name,
    'label': model.label,
    'kind': model.kind,
    'base': model.base,
    'order': model.order,
    'dataset': run.data.name,
    'images': len(subject.split.labels),
    'parameters': networks.count_parameters(model.variables),
    'macs': _macs(run, model),
    'seconds': workdir.summary(model.folder)['seconds'],
    'warnings': records.warnings(subject.warnings),
  }


def _clean(subject: Subject) -> _Found:
  found = subject.clean
  return records.clean(found), {'correct/clean': found.correct}


def _attacks(subject: Subject) -> list[_Found]:
  spec = subject.run.settings.evaluation
  chosen = trials.trials(spec.attacks, spec.epsilon_255)
  return [_attack(subject, trial) for trial in chosen]


def _attack(subject: Subject, trial: Trial) -> _Found:
  """An attack, of which only counts what is confirmed from the file."""
  epsilon = float(trial.preset.epsilon)
  outcome = subject.attack(trial, epsilon)
  broken, path = subject.keep(trial.key, outcome.rows, outcome.images, epsilon)
  correct = subject.clean.correct.copy()
  correct[broken] = False
  record = records.attack(trial, outcome, correct, path)
  return record, {f'correct/{trial.key}': correct}


def _auto_attack(subject: Subject) -> list[_Found]:
  """The same for AutoAttack, if it is meant to attack this model."""
  spec = subject.run.settings.evaluation
  ensemble = trials.ensemble(spec)
  if not ensemble or not models.under_auto_attack(spec, subject.model.name):
    return []
  return [_ensemble(subject, ensemble, spec.auto_attack_images)]


def _ensemble(subject: Subject, ensemble: Ensemble, count: int) -> _Found:
  result = subject.auto_attack(ensemble, count)
  rows = np.flatnonzero(result.broken_by >= 0)
  key, epsilon = ensemble.key, ensemble.epsilon
  broken, path = subject.keep(key, rows, result.images[rows], epsilon)
  broken_by = np.full_like(result.broken_by, -1)
  broken_by[broken] = result.broken_by[broken]
  record = records.auto_attack(
    ensemble, result, broken_by, path, subject.warnings
  )
  return record, {
    f'correct/{key}': result.correct & (broken_by < 0),
    f'broken_by/{key}': broken_by,
  }


def _curves(subject: Subject) -> list[dict[str, Any]]:
  """Accuracy against epsilon, for each attack of the config's curves."""
  spec = subject.run.settings.evaluation
  count = len(subjects.first(subject.split, spec.curve_images).labels)
  at_zero = subject.clean.first(count).accuracy
  curves = []
  for trial in trials.trials(spec.curve_attacks, spec.epsilon_255):
    points = [{'epsilon': 0.0, 'accuracy': at_zero}]
    for epsilon_255 in spec.curve_epsilons_255:
      epsilon = epsilon_255 / 255
      outcome = subject.attack(trial, epsilon, count)
      points.append({'epsilon': epsilon, 'accuracy': outcome.accuracy})
    curves.append(
      {
        'attack': trial.key,
        'label': trial.label,
        'images': count,
        'points': points,
      }
    )
  return curves


def _macs(run: Run, model: Model) -> int:
  """MACs of convolutions and matrix products for one image."""
  net = model.net
  if isinstance(net, Student):
    net = net.clone(conv=convolutions.native_depthwise_conv)
  image = jax.ShapeDtypeStruct((1, *run.data.image_shape), jnp.float32)
  return flops.trace_macs(
    lambda variables, images: networks.logits_fn(net, variables)(images),
    model.variables,
    image,
  )

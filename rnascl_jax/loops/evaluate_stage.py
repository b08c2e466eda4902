"""Attacks every trained model of a run, and saves what it looks at."""

import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging

from rnascl_jax import (
  convolutions,
  evaluation,
  files,
  flops,
  networks,
  parallel,
  resolve,
  workdir,
)
from rnascl_jax.base import Array, Variables
from rnascl_jax.datasets import Split
from rnascl_jax.evaluation import Outcome
from rnascl_jax.loops import inspection, models, trials
from rnascl_jax.loops import run as runs
from rnascl_jax.loops.models import Model
from rnascl_jax.loops.run import Run
from rnascl_jax.loops.trials import Trial
from rnascl_jax.student import Student


def evaluate(config: Mapping[str, Any], path: str) -> None:
  """Attacks all trained models of a workdir.

  Args:
    config: see `settings`.
    path: the workdir; results are left in `evaluation/`.

  Raises:
    ValueError: if the config is not valid or the workdir is of another one.
    FileNotFoundError: if no model was trained yet.
  """
  run = runs.open_run(config, path)
  folder = run.folder / 'evaluation'
  started = time.monotonic()
  found = list(models.trained_models(run))
  if not found:
    raise workdir.MissingStageError(
      f'{run.folder} has no trained model. Train one first, or run all stages '
      'with python -m experiments.pipeline.'
    )
  evaluated = [_evaluate(run, model, folder) for model in found]
  inspected = inspection.inspect(run, found, folder)
  if any(evaluated) or inspected:
    runs.record(run, 'evaluation', time.monotonic() - started)


def _evaluate(run: Run, model: Model, folder: pathlib.Path) -> bool:
  """Evaluates a model unless it was done with these settings."""
  spec = run.settings.evaluation
  path = folder / f'{model.name}.json'
  wanted = models.key(run, [model])
  if path.exists() and files.read_json(path).get('key') == wanted:
    logging.info('%s is evaluated: %s', model.name, path)
    return False
  split = _first(run.data.test, spec.max_images)
  size = min(spec.batch_size, len(split.labels))
  variables = parallel.replicate(model.variables, run.over)
  clean = evaluation.clean(
    model.net, variables, split, run.over, batch_size=size
  )
  attacked = {
    trial.key: (
      trial,
      _attack(run, model, variables, split, trial, trial.preset.epsilon, size),
    )
    for trial in trials.trials(spec.attacks, spec.epsilon_255)
  }
  outcomes = {k: outcome.correct for k, (_, outcome) in attacked.items()}
  runs.save_arrays(
    folder / f'{model.name}.npz',
    {
      f'correct/{k}': v for k, v in {'clean': clean.correct, **outcomes}.items()
    },
  )
  files.write_json(
    path,
    {
      'model': model.name,
      'label': model.label,
      'kind': model.kind,
      'order': model.order,
      'dataset': run.data.name,
      'images': len(split.labels),
      'parameters': networks.count_parameters(model.variables),
      'macs': _macs(run, model),
      'seconds': workdir.summary(model.folder)['seconds'],
      'attacks': [_clean_record(clean)]
      + [_record(trial, outcome) for trial, outcome in attacked.values()],
      'curves': _curves(run, model, variables, split, clean, size),
      'key': wanted,
    },
  )
  return True


def _attack(
  run: Run,
  model: Model,
  variables: Variables,
  split: Split,
  trial: Trial,
  epsilon: float | Array,
  size: int,
) -> Outcome:
  """An attack of the config on a model, with progress."""
  return evaluation.attacked(
    model.net,
    variables,
    split,
    # Not the trial's preset: programs are shared between values of epsilon.
    resolve.attack(trial.name),
    run.over,
    epsilon=float(epsilon),
    seed=run.settings.seed,
    batch_size=size,
    description=f'{model.name}: {trial.label} at ε = {float(epsilon):.4f}',
  )


def _first(split: Split, count: int) -> Split:
  return Split(split.images[: count or None], split.labels[: count or None])


def _clean_record(clean: Outcome) -> dict[str, Any]:
  return {
    'attack': 'clean',
    'label': 'Clean',
    'epsilon': 0.0,
    'steps': 0,
    'step_size': 0.0,
    **_numbers(clean),
  }


def _record(trial: Trial, outcome: Outcome) -> dict[str, Any]:
  return {
    'attack': trial.key,
    'label': trial.label,
    'preset': trial.name,
    'origin': trial.preset.origin,
    'epsilon': float(trial.preset.epsilon),
    'steps': trial.preset.num_steps,
    'step_size': float(trial.preset.step_size),
    **_numbers(outcome),
  }


def _numbers(outcome: Outcome) -> dict[str, Any]:
  return {
    'images': len(outcome.correct),
    'correct': int(outcome.correct.sum()),
    'accuracy': outcome.accuracy,
    'seconds': round(outcome.seconds, 2),
  }


def _curves(
  run: Run,
  model: Model,
  variables: Variables,
  split: Split,
  clean: Outcome,
  size: int,
) -> list[dict[str, Any]]:
  """Accuracy against epsilon, for each attack of the config's curves."""
  spec = run.settings.evaluation
  part = _first(split, spec.curve_images)
  at_zero = float(clean.correct[: len(part.labels)].mean())
  curves = []
  for trial in trials.trials(spec.curve_attacks, spec.epsilon_255):
    points = [{'epsilon': 0.0, 'accuracy': at_zero}]
    for epsilon_255 in spec.curve_epsilons_255:
      outcome = _attack(
        run, model, variables, part, trial, epsilon_255 / 255, size
      )
      points.append(
        {'epsilon': epsilon_255 / 255, 'accuracy': outcome.accuracy}
      )
    curves.append(
      {
        'attack': trial.key,
        'label': trial.label,
        'images': len(part.labels),
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

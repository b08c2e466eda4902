"""Attacks a trained model and saves what it withstands."""

import shutil
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from rnascl_jax.config import settings
from rnascl_jax.evaluation import (
  adversarial_images,
  attack_journal,
  attack_specs,
  examples,
  results,
)
from rnascl_jax.evaluation.attack_specs import AttackSpec
from rnascl_jax.evaluation.target import EvaluationTarget, Model
from rnascl_jax.models import networks
from rnascl_jax.runtime import files, processes
from rnascl_jax.search import flops

# Fields of `config.evaluation` on which each model's results depend.
_FIELDS = (
  'attacks',
  'epsilon_255',
  'curve_attacks',
  'curve_epsilons_255',
  'curve_images',
  'max_images',
  'save_images',
)

# JSON of an attack, and flags of images by their names in the .npz file.
_AttackOutput = tuple[dict[str, Any], dict[str, np.ndarray]]


def evaluate(target: EvaluationTarget) -> bool:
  """Evaluates a model unless it was done with these settings.

  Args:
    target: the model and the run.

  Returns:
    Whether there was something to do.

  Raises:
    Interrupted: after SIGTERM or SIGINT, when everything finished is saved.
  """
  model, stop = target.model, target.stop
  path = target.folder / f'{model.name}.json'
  wanted = key(target.settings.evaluation, model)
  if results.is_saved(path, wanted):
    logging.info('%s is evaluated: %s', model.name, path)
    return False
  processes.on_main(shutil.rmtree, target.unfinished, ignore_errors=True)
  # What is in a network's code is told before hours of attacks.
  for warning in target.warnings:
    logging.warning('%s: %s', model.name, warning.message)
  outputs, shown = _outputs(target)
  curves = _curves(target)
  # Up to here, an earlier evaluation is there with all of its files.
  processes.on_main(path.unlink, missing_ok=True)
  arrays = {name: array for _, part in outputs for name, array in part.items()}
  processes.on_main(files.write_npz, path.with_suffix('.npz'), arrays)
  processes.on_main(files.write_npz, target.examples, shown)
  processes.on_main(
    adversarial_images.replace, target.adversarial, target.unfinished
  )
  evaluation = {
    'model': model.name,
    'label': model.label,
    'kind': model.kind,
    'base': model.base,
    'order': model.order,
    'dataset': target.data.name,
    'images': len(target.split.labels),
    'parameters': networks.count_parameters(model.variables),
    'macs': _macs(model, target.data.image_shape),
    'seconds': model.summary['seconds']
    + model.summary.get('pruning_seconds', 0.0),
    'warnings': results.warnings(target.warnings),
    'attacks': [json for json, _ in outputs],
    'curves': curves,
    'key': wanted,
  }
  if 'weights_kept' in model.summary:
    evaluation['weights_kept'] = model.summary['weights_kept']
  processes.on_main(files.write_json, path, evaluation)
  processes.on_main(shutil.rmtree, target.journals, ignore_errors=True)
  if processes.any_true(stop.signum is not None):
    raise attack_journal.stopped(stop)
  return True


def key(spec: settings.EvaluationSettings, model: Model) -> Any:
  """What is left of a model's evaluation depends on this, as JSON.

  Equal keys mean equal numbers and files. How many images are attacked at once,
  or what is done with other models, is not in it.
  """
  fields = [*_FIELDS]
  if _under_auto_attack(spec, model):
    fields += ['auto_attack', 'auto_attack_images']
  if spec.norm != 'Linf':
    fields += ['norm', 'epsilon', 'curve_epsilons']
  evaluation = {name: getattr(spec, name) for name in fields}
  return files.to_json({'evaluation': evaluation, 'stage': model.summary})


def _under_auto_attack(spec: settings.EvaluationSettings, model: Model) -> bool:
  named = spec.auto_attack_models
  return bool(spec.auto_attack) and (not named or model.name in named)


def _outputs(
  target: EvaluationTarget,
) -> tuple[list[_AttackOutput], dict[str, np.ndarray]]:
  """Attacks the model by all attacks of the config; gives examples of one."""
  spec, clean = target.settings.evaluation, target.clean
  outputs = [(results.clean(clean), {'correct/clean': clean.correct})]
  shown: dict[str, np.ndarray] = {}
  specs = attack_specs.attack_specs(spec.attacks, spec.norm, spec.radius)
  for attack in specs:
    file = target.unfinished / f'{attack.key}.npz'
    result = target.attack(attack, attack.epsilon, file=file)
    json = results.attack(attack, result, target.keep(file))
    outputs.append((json, {f'correct/{attack.key}': result.correct}))
    if attack == attack_specs.first_pgd(specs):
      shown = examples.collect(target, attack, result)
  if _under_auto_attack(spec, target.model):
    outputs.append(_auto_attack(target))
  return outputs, shown


def _auto_attack(target: EvaluationTarget) -> _AttackOutput:
  spec = attack_specs.auto_attack_spec(target.settings.evaluation)
  file = target.unfinished / f'{spec.key}.npz'
  result, broken_by = target.auto_attack(spec, file)
  json = results.auto_attack(
    spec, result, broken_by, target.keep(file), target.warnings
  )
  return json, {
    f'correct/{spec.key}': result.correct & (broken_by < 0),
    f'broken_by/{spec.key}': broken_by,
  }


def _curves(target: EvaluationTarget) -> list[dict[str, Any]]:
  """Accuracy against epsilon, for each attack of the config's curves."""
  config = target.settings.evaluation
  count = len(target.split.labels[: config.curve_images or None])
  specs = attack_specs.attack_specs(
    config.curve_attacks, config.norm, config.radius
  )
  at_zero = {'epsilon': 0.0, 'accuracy': target.clean.first(count).accuracy}

  def point(spec: AttackSpec, epsilon: float) -> dict[str, float]:
    accuracy = target.attack(spec, epsilon, count=count).accuracy
    return {'epsilon': epsilon, 'accuracy': accuracy}

  return [
    {
      'attack': spec.key,
      'label': spec.label,
      'norm': spec.norm.name,
      'images': count,
      'points': [
        at_zero,
        *(point(spec, radius) for radius in config.curve_radii),
      ],
    }
    for spec in specs
  ]


def _macs(model: Model, image_shape: Sequence[int]) -> int:
  """MACs of convolutions and matrix products for one image."""
  net = networks.with_native_convolutions(model.net)
  return flops.trace_macs(
    lambda variables, images: networks.logits_fn(net, variables)(images),
    model.variables,
    jax.ShapeDtypeStruct((1, *image_shape), jnp.float32),
  )

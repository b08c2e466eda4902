"""Saves what trained models look at, and how an attack moves the teacher."""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax import analysis, attacks, batches, files, networks, workdir
from rnascl_jax.attacks import Preset
from rnascl_jax.base import Array, Key, Variables
from rnascl_jax.loops import run as runs
from rnascl_jax.loops import trials
from rnascl_jax.loops.models import Model
from rnascl_jax.loops.run import Run

# Test images over which robustness scores are averaged, on one device.
_SCORED_IMAGES = 128


def inspect(run: Run, found: Sequence[Model], folder: pathlib.Path) -> bool:
  """Saves attention maps of some test images, and robustness scores.

  Args:
    run: the run.
    found: its trained models.
    folder: for `attention.npz` and `robustness.json`.

  Returns:
    Whether there was something to do: a teacher, and no results of these models
    under these settings.
  """
  teacher = next((m for m in found if m.name == 'teacher'), None)
  path, wanted = folder / 'robustness.json', _key(run, found)
  if teacher is None or (
    path.exists() and files.read_json(path).get('key') == wanted
  ):
    return False
  runs.save_arrays(folder / 'attention.npz', _maps(run, teacher, found))
  files.write_json(path, {**_robustness(run, teacher), 'key': wanted})
  return True


def _key(run: Run, found: Sequence[Model]) -> Any:
  """What the maps and the scores depend on, as JSON."""
  spec = run.settings.evaluation
  fields = ('attacks', 'epsilon_255', 'map_images')
  return files.to_json(
    {
      'evaluation': {name: getattr(spec, name) for name in fields},
      'stages': {m.name: workdir.summary(m.folder) for m in found},
    }
  )


def _maps(
  run: Run, teacher: Model, found: Sequence[Model]
) -> dict[str, np.ndarray]:
  side = run.settings.distillation.map_size
  count = run.settings.evaluation.map_images
  images = batches.to_float(run.data.test.images[:count])

  def maps(model: Model) -> np.ndarray:
    return analysis.maps(model.net, model.variables, images, (side, side))

  students = {f'maps/{m.name}': maps(m) for m in found if m.kind == 'student'}
  return {
    'images': np.asarray(images),
    'labels': run.data.test.labels[:count],
    'teacher_maps': maps(teacher),
    **students,
  }


@functools.partial(jax.jit, static_argnames=('net', 'attack'))
def _perturb(
  net: nn.Module,
  attack: Preset,
  variables: Variables,
  key: Key,
  images: Array,
  labels: Array,
  epsilon: float | Array,
) -> Array:
  keys = attacks.image_keys(key, jnp.arange(len(labels)))
  logits_fn = networks.logits_fn(net, variables)
  return attacks.batched(attack)(
    logits_fn, keys, images, labels, epsilon=epsilon
  )


def _robustness(run: Run, teacher: Model) -> dict[str, Any]:
  """Scores of all teacher layers under the first PGD, or the first attack."""
  spec, test = run.settings.evaluation, run.data.test
  chosen = trials.trials(spec.attacks, spec.epsilon_255)
  trial = max(chosen, key=lambda t: t.key.startswith('pgd'))
  images = batches.to_float(test.images[:_SCORED_IMAGES])
  labels = jnp.asarray(test.labels[:_SCORED_IMAGES])
  perturbed = _perturb(
    teacher.net,
    attacks.PRESETS[trial.name],
    teacher.variables,
    jax.random.key(run.settings.seed),
    images,
    labels,
    trial.preset.epsilon,
  )
  scores = analysis.robustness_scores(
    teacher.net, teacher.variables, images, perturbed
  )
  return {
    'layers': list(teacher.net.tap_names),
    'scores': [float(score) for score in scores],
    'attack': trial.label,
    'epsilon': float(trial.preset.epsilon),
    'images': len(labels),
  }

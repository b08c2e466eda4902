"""Saves what trained models look at, and how attacks move the teachers."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnascl_jax.config import resolve
from rnascl_jax.data import batches
from rnascl_jax.evaluation import analysis
from rnascl_jax.runtime import files, processes
from rnascl_jax.stages import run as runs
from rnascl_jax.stages import trials, workdir
from rnascl_jax.stages.models import Model
from rnascl_jax.stages.run import Run


def inspect(run: Run, found: Sequence[Model], folder: pathlib.Path) -> bool:
  """Saves attention maps of some test images, and robustness scores.

  Args:
    run: the run.
    found: its trained models.
    folder: for `attention.npz` and `robustness.json`, with an entry for each
      teacher that is attacked.

  Returns:
    Whether there was something to do: a teacher, and no results of these models
    under these settings.
  """
  teacher = next((m for m in found if m.name == 'teacher'), None)
  path, wanted = folder / 'robustness.json', _key(run, found)
  known = path.exists() and files.read_json(path).get('key') == wanted
  if teacher is None or processes.from_main(known):
    return False
  runs.save_arrays(folder / 'attention.npz', _maps(run, teacher, found))
  teachers = [m for m in found if m.kind == 'teacher']
  if not run.settings.evaluation.teachers:
    teachers = []
  scores = {**_robustness(run, teachers), 'key': wanted}
  processes.on_main(files.write_json, path, scores)
  return True


def _key(run: Run, found: Sequence[Model]) -> Any:
  """What the maps and the scores depend on, as JSON."""
  spec = run.settings.evaluation
  fields = (
    'attacks',
    'epsilon_255',
    'map_images',
    'scored_images',
    'teachers',
  )
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
  images = batches.to_float(np.asarray(run.data.test.images[:count]))

  def maps(model: Model) -> np.ndarray:
    return analysis.maps(model.net, model.variables, images, (side, side))

  students = {f'maps/{m.name}': maps(m) for m in found if m.kind == 'student'}
  return {
    'images': np.asarray(images),
    'labels': run.data.test.labels[:count],
    'teacher_maps': maps(teacher),
    **students,
  }


def _robustness(run: Run, teachers: Sequence[Model]) -> dict[str, Any]:
  """Scores of all layers of each teacher under an attack on this teacher.

  The attack is the first PGD of the config, or else its first one.
  """
  spec, test = run.settings.evaluation, run.data.test
  chosen = trials.trials(spec.attacks, spec.epsilon_255)
  trial = max(chosen, key=lambda t: t.key.startswith('pgd'))
  images = np.asarray(test.images[: spec.scored_images])

  def scores(teacher: Model) -> dict[str, Any]:
    found = analysis.robustness_scores(
      teacher.net,
      teacher.variables,
      images,
      test.labels[: spec.scored_images],
      # Not the trial's preset: programs are shared between values of epsilon.
      resolve.attack(trial.name),
      run.devices,
      epsilon=float(trial.preset.epsilon),
      seed=run.settings.seed,
      batch_size=min(spec.batch_size, len(images)),
    )
    return {'layers': list(teacher.net.tap_names), **found._asdict()}

  return {
    'teachers': {teacher.name: scores(teacher) for teacher in teachers},
    'attack': trial.label,
    'epsilon': float(trial.preset.epsilon),
    'images': len(images),
  }

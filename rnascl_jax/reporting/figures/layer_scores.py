"""Robustness scores of the teachers' layers, as they were saved.

`evaluation/robustness.json` holds, for each teacher of a run, a score of every
layer under an attack on this teacher (RNAS-CL, section 5.1).
"""

import pathlib
from typing import NamedTuple

import numpy as np

from rnascl_jax.reporting.figures import evaluation
from rnascl_jax.runtime import files


class LayerScores(NamedTuple):
  """How far an attack on a teacher moves its layers.

  Attributes:
    model: key of the teacher.
    layers: names of its T layers, in forward order.
    scores: [T], means over images; lower is more robust.
    errors: [T], their standard errors; NaN where unknown.
  """

  model: str
  layers: tuple[str, ...]
  scores: np.ndarray
  errors: np.ndarray

  @property
  def order(self) -> np.ndarray:
    """Indices [T] of the layers, the most robust one first."""
    return np.argsort(self.scores, kind='stable')


class Robustness(NamedTuple):
  """Scores of all teachers of a run.

  Attributes:
    teachers: one entry each, the robust one first.
    attack: what a reader sees.
    epsilon: its radius, pixels of [0, 1].
    images: over which scores are averaged.
  """

  teachers: tuple[LayerScores, ...]
  attack: str
  epsilon: float
  images: int


def read(path: pathlib.Path) -> Robustness | None:
  """Reads evaluation/robustness.json.

  Args:
    path: of the file.

  Returns:
    The scores; None where there are none, or only those of a former version,
    which had no errors and one teacher.

  Raises:
    DamagedFileError: the file is not what was saved, or a teacher has not one
      score and one error for each layer.
  """
  saved = evaluation.read_json(path)
  if saved is None or not saved.get('teachers'):
    return None
  with files.naming(path):
    return _robustness(saved)


def _robustness(saved: evaluation.Json) -> Robustness:
  teachers = tuple(
    LayerScores(
      model,
      tuple(found['layers']),
      np.asarray(found['scores'], float),
      np.asarray(found['errors'], float),
    )
    for model, found in saved['teachers'].items()
  )
  for found in teachers:
    counts = len(found.layers), len(found.scores), len(found.errors)
    if len(set(counts)) > 1:
      raise ValueError(
        f'{found.model} has {counts[0]} layers, {counts[1]} scores and '
        f'{counts[2]} errors; there must be as many'
      )
  return Robustness(
    teachers, saved['attack'], saved['epsilon'], saved['images']
  )

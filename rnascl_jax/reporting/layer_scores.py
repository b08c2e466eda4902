"""How far an attack moves the layers of teachers: evaluation/robustness.json.

A layer's score is that of RNAS-CL, section 5.1; lower is more robust.
"""

import pathlib
from typing import NamedTuple

import numpy as np

from rnascl_jax.reporting import evaluations
from rnascl_jax.runtime import files


class LayerScores(NamedTuple):
  """The scores of the T layers of one teacher."""

  model: str  # Key of the teacher.
  layers: tuple[str, ...]  # In forward order.
  scores: np.ndarray  # [T], means over images.
  errors: np.ndarray  # [T], their standard errors; NaN where unknown.

  @property
  def order(self) -> np.ndarray:
    """Indices [T] of the layers, the most robust one first."""
    return np.argsort(self.scores, kind='stable')


class TeacherScores(NamedTuple):
  """Scores of the layers of all teachers of a run."""

  teachers: tuple[LayerScores, ...]  # The robust one first.
  attack: str  # What a reader sees.
  epsilon: float  # Its radius, pixels of [0, 1].
  images: int  # Over which scores are averaged.
  norm: str = evaluations.LINF  # The norm that the radius is measured in.


def read(path: pathlib.Path) -> TeacherScores | None:
  """Reads evaluation/robustness.json.

  Returns:
    The scores; None where there are none, or only those of a former version,
    which had no errors and one teacher.

  Raises:
    DamagedFileError: the file is not what was saved, or a teacher has not one
      score and one error for each layer.
  """
  saved = files.read_json(path) if path.exists() else {}
  if not saved.get('teachers'):
    return None
  with files.naming(path):
    teachers = []
    for model, of_model in saved['teachers'].items():
      layers = tuple(of_model['layers'])
      scores, errors = (
        np.asarray(of_model[name], float) for name in ('scores', 'errors')
      )
      if not len(layers) == len(scores) == len(errors):
        raise ValueError(
          f'{model} has {len(layers)} layers, {len(scores)} scores and '
          f'{len(errors)} errors; there must be as many'
        )
      teachers.append(LayerScores(model, layers, scores, errors))
    return TeacherScores(
      tuple(teachers),
      saved['attack'],
      saved['epsilon'],
      saved['images'],
      saved.get('norm', evaluations.LINF),
    )

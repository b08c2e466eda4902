"""How models did under common corruptions, read back.

In `evaluation/corruptions/` there is a folder for each set of images, see
`evaluation.corruptions`.
"""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rnascl_jax.data.corruptions import names
from rnascl_jax.reporting import evaluations
from rnascl_jax.reporting.evaluations import Json
from rnascl_jax.runtime import files

_SEVERITIES = len(names.SEVERITIES)


class ModelUnderCorruptions(NamedTuple):
  """One model's accuracies."""

  model: str  # Its key, 'rnas_cl'.
  label: str  # What a reader sees.
  kind: str  # 'student' or 'teacher'.
  order: int  # Of rows of tables, as of `ModelEvaluation`.
  base: str  # Likewise.
  clean: float | None  # Without a corruption, in [0, 1].
  # By corruption and severity, in [0, 1].
  accuracies: Mapping[str, Mapping[int, float]]


class SavedSet(NamedTuple):
  """Models under the corruptions of one set of images.

  Attributes:
    folder: where its results are.
    name: 'made', or the folder that was read.
    images: of each corruption and severity.
    identity: what the images are, as JSON.
    baseline: name, source and errors of a reference model; None for none.
    models: in order; there may be none.
  """

  folder: pathlib.Path
  name: str
  images: int
  identity: Json
  baseline: Json | None
  models: tuple[ModelUnderCorruptions, ...]

  @property
  def severities(self) -> dict[str, tuple[int, ...]]:
    """The severities of each corruption under which some model is."""
    cells = {
      (name, severity)
      for model in self.models
      for name, of_name in model.accuracies.items()
      for severity in of_name
    }
    of_each = {
      name: tuple(s for s in names.SEVERITIES if (name, s) in cells)
      for name in names.NAMES
    }
    return {name: of_name for name, of_name in of_each.items() if of_name}

  @property
  def averaged(self) -> tuple[str, ...]:
    """The corruptions over which means are; extra ones only if alone."""
    common = tuple(name for name in self.severities if name in names.COMMON)
    return common or tuple(self.severities)

  def accuracy(
    self, model: ModelUnderCorruptions, corruption: str
  ) -> float | None:
    """The mean over severities; None if the model lacks some of the others'."""
    severities = self.severities[corruption]
    of_model = model.accuracies.get(corruption, {})
    if any(severity not in of_model for severity in severities):
      return None
    return float(np.mean([of_model[severity] for severity in severities]))

  def mean_accuracy(self, model: ModelUnderCorruptions) -> float | None:
    """The mean of `accuracy` over `averaged`; None if one is missing."""
    values = [self.accuracy(model, name) for name in self.averaged]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if values and known == values else None

  def corruption_error(
    self, model: ModelUnderCorruptions, corruption: str
  ) -> float | None:
    """Errors over those of the baseline, 1 where the model errs as often.

    None without a baseline, or where it or the model lacks a severity.
    """
    accuracy = self.accuracy(model, corruption)
    errors = (self.baseline or {}).get('errors', {}).get(corruption)
    severities = self.severities[corruption]
    if isinstance(errors, list):
      errors = float(np.mean([errors[s - 1] for s in severities]))
    elif len(severities) < _SEVERITIES:
      errors = None
    if accuracy is None or errors is None:
      return None
    return (1 - accuracy) / errors

  def mean_corruption_error(self, model: ModelUnderCorruptions) -> float | None:
    """The mCE of the paper, over `averaged`; None if an error is missing."""
    values = [self.corruption_error(model, name) for name in self.averaged]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if values and known == values else None

  def examples(self) -> dict[tuple[str, int], pathlib.Path]:
    """Pictures of one image, by corruption and severity; `clean` has 0."""
    wanted = [('clean', 0)]
    wanted += [
      (n, s) for n, of_name in self.severities.items() for s in of_name
    ]
    files_of = {
      (n, s): self.folder / 'examples' / f'{n}_{s}.png' for n, s in wanted
    }
    return {cell: path for cell, path in files_of.items() if path.exists()}


def read(workdir: pathlib.Path) -> tuple[SavedSet, ...]:
  """Reads the results of all sets, sorted by name.

  Raises:
    DamagedFileError: a file is not what was saved.
  """
  folders = sorted((workdir / 'evaluation' / 'corruptions').glob('*/set.json'))
  return tuple(read_set(path.parent) for path in folders)


def read_set(folder: pathlib.Path) -> SavedSet:
  """Reads the results of one set; raises as `read` does."""
  about = files.read_json(folder / 'set.json', 'name', 'images', 'identity')
  models = []
  for path in sorted(folder.glob('*.json')):
    if path.name != 'set.json':
      saved = files.read_json(path, 'model', 'results')
      with files.naming(path):
        models.append(_model(saved))
  return SavedSet(
    folder,
    about['name'],
    about['images'],
    about['identity'],
    about.get('baseline'),
    evaluations.in_order(models),
  )


def _model(saved: Json) -> ModelUnderCorruptions:
  accuracies: dict[str, dict[int, float]] = {}
  for name, by_severity in saved['results'].items():
    for severity, counts in by_severity.items():
      correct, images = counts['correct'], counts['images']
      if not 0 <= correct <= images or images < 1:
        raise ValueError(
          f'correct={correct} of images={images} under {name} {severity}; must '
          'be a count of at least one image'
        )
      accuracies.setdefault(name, {})[int(severity)] = correct / images
  clean = accuracies.pop('clean', {}).get(0)
  return ModelUnderCorruptions(
    saved['model'],
    saved['label'],
    saved['kind'],
    saved['order'],
    saved['base'],
    clean,
    accuracies,
  )

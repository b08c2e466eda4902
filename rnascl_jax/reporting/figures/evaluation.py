"""A model's evaluation as it was saved: accuracy under every attack.

`evaluation/<model>.json` holds counts, `evaluation/<model>.npz` beside it
(optional) which images were classified correctly, 'correct/<attack>'.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from rnascl_jax.reporting.figures import outcomes
from rnascl_jax.reporting.figures.outcomes import Json, Outcome, Suspicion
from rnascl_jax.runtime import files

# Data sets whose perturbations are stated on the [0, 1] scale; those of 8-bit
# colour images are stated in units of 1/255.
UNIT_SCALE_DATASETS = ('digits', 'mnist', 'fashion_mnist')
LABELS = {
  'teacher': 'Teacher',
  'vulnerable_teacher': 'Teacher trained without attacks',
  'search': 'Search',
  'rnas_cl': 'RNAS-CL',
  'rnas_cl_eq6': 'RNAS-CL + eq. (6)',
  'ce': 'CE',
  'ce_kl': 'CE + KL',
  'control_rnas_cl': 'Control: RNAS-CL',
  'control_ce_kl': 'Control: CE + KL',
}

Arrays = Mapping[str, np.ndarray]


class Curve(NamedTuple):
  """Accuracy against the size of the perturbation, for one attack.

  Attributes:
    attack: the attack's key.
    label: what a reader sees.
    epsilons: [P], increasing, pixels of [0, 1].
    accuracies: [P], in [0, 1].
    images: of which they are shares; 0 if the file does not say.
  """

  attack: str
  label: str
  epsilons: np.ndarray
  accuracies: np.ndarray
  images: int = 0


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """One row of the results: a model and how it did under every attack.

  Attributes:
    model: the model's key, 'rnas_cl'.
    label: what a reader sees.
    kind: 'student' or 'teacher'.
    dataset: name of the data set.
    parameters: number of trained parameters, None if unknown.
    macs: multiply-accumulates of one image, None if unknown.
    seconds: time of training, None if unknown.
    order: position of the row; of one with a base, among these.
    outcomes: one per attack.
    curves: one per attack that was run at several epsilons.
    correct: per-image outcomes by attack key, [images] bool; may be empty.
    suspicions: reasons to doubt any attack on this model.
    base: key of the student that it was before it was trained further on
      attacks, '' for a model that was trained from scratch.
  """

  model: str
  label: str
  kind: str
  dataset: str
  parameters: int | None
  macs: int | None
  seconds: float | None
  order: int
  outcomes: tuple[Outcome, ...]
  curves: tuple[Curve, ...]
  correct: Arrays
  suspicions: tuple[Suspicion, ...]
  base: str

  @property
  def images(self) -> int:
    """The most images that an attack was run on."""
    return max((o.images for o in self.outcomes), default=0)

  @property
  def doubts(self) -> tuple[Suspicion, ...]:
    """Every reason to doubt the model or an attack on it, each once."""
    of_attacks = [s for o in self.outcomes for s in o.suspicions]
    return tuple(dict.fromkeys([*self.suspicions, *of_attacks]))

  def outcome(self, attack: str) -> Outcome | None:
    """The first outcome of this attack, None where it was not run."""
    return next((o for o in self.outcomes if o.attack == attack), None)

  def per_image(self, outcome: Outcome) -> np.ndarray | None:
    """[images] bool of an outcome; None unless it adds up to its count."""
    correct = self.correct.get(outcome.attack)
    if correct is None or correct.shape != (outcome.images,):
      return None
    return correct if int(correct.sum()) == outcome.correct else None

  def on_first(self, outcome: Outcome, images: int) -> Outcome | None:
    """An outcome on the first images only; None where that was not saved.

    It has no members, as their counts are of all images.
    """
    if outcome.images == images:
      return outcome
    correct = self.per_image(outcome)
    if correct is None or len(correct) < images:
      return None
    return outcome._replace(
      images=images, correct=int(correct[:images].sum()), members=()
    )

  def on_same(
    self, first: Outcome, second: Outcome
  ) -> tuple[Outcome, Outcome] | None:
    """Two outcomes on the images both attacked; None where not saved."""
    images = min(first.images, second.images)
    pair = self.on_first(first, images), self.on_first(second, images)
    return None if pair[0] is None or pair[1] is None else (pair[0], pair[1])


def label(model: str) -> str:
  """A label for a model's key, for models that bring none of their own."""
  return LABELS.get(model, model.replace('_', ' '))


def epsilon_unit(dataset: str) -> tuple[float, str]:
  """Scale for an axis of epsilons and the name of its unit."""
  if dataset.split('/')[0] in UNIT_SCALE_DATASETS:
    return 1.0, 'pixel values in [0, 1]'
  return 255.0, 'units of 1/255'


def epsilon_text(epsilon: float, dataset: str) -> str:
  """'8/255' on 8-bit images where that is a round number, '0.1' elsewhere."""
  scaled = epsilon * epsilon_unit(dataset)[0]
  if scaled != epsilon and math.isclose(scaled, round(scaled), abs_tol=1e-3):
    return f'{round(scaled)}/255'
  return f'{epsilon:.4g}'


def read_json(path: pathlib.Path, *keys: str) -> Json | None:
  """The object in a file, see `files.read_json`; None where there is none."""
  return files.read_json(path, *keys) if path.exists() else None


def read_arrays(path: pathlib.Path, *names: str) -> Arrays | None:
  """The arrays of a file, see `files.read_npz`; None where there is none."""
  return files.read_npz(path, *names) if path.exists() else None


def read(path: pathlib.Path) -> Evaluation | None:
  """Reads evaluation/<model>.json and the .npz beside it.

  Args:
    path: of the JSON file.

  Returns:
    The evaluation, or None for robustness.json, which describes no model.

  Raises:
    DamagedFileError: a file is not what was saved, or a count is impossible.
  """
  if path.name == 'robustness.json':
    return None
  saved = files.read_json(path, 'model')
  arrays = read_arrays(path.with_suffix('.npz')) or {}
  with files.naming(path):
    return _evaluation(saved, arrays)


def _evaluation(saved: Json, arrays: Arrays) -> Evaluation:
  prefix = 'correct/'
  model = saved['model']
  return Evaluation(
    model=model,
    label=saved.get('label') or label(model),
    kind=saved.get('kind', 'student'),
    dataset=saved.get('dataset', ''),
    parameters=saved.get('parameters'),
    macs=saved.get('macs'),
    seconds=saved.get('seconds'),
    order=saved.get('order', 1_000),
    outcomes=tuple(outcomes.read(o) for o in saved.get('attacks', ())),
    curves=tuple(_curve(c) for c in saved.get('curves', ()) if c['points']),
    correct={
      name.removeprefix(prefix): value.astype(bool)
      for name, value in arrays.items()
      if name.startswith(prefix)
    },
    suspicions=outcomes.suspicions(saved),
    base=saved.get('base', ''),
  )


def _curve(saved: Json) -> Curve:
  points = sorted((p['epsilon'], p['accuracy']) for p in saved['points'])
  values = np.asarray(points, float)  # [P, 2]
  label = saved.get('label') or saved['attack']
  images = int(saved.get('images', 0))
  return Curve(saved['attack'], label, values[:, 0], values[:, 1], images)

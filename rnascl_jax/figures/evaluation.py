"""A model's evaluation as it was saved: accuracy under every attack.

`evaluation/<model>.json` holds counts, `evaluation/<model>.npz` beside it
(optional) which images were classified correctly, 'correct/<attack>'.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from rnascl_jax import files

# Data sets whose perturbations are stated on the [0, 1] scale; those of 8-bit
# colour images are stated in units of 1/255.
UNIT_SCALE_DATASETS = ('digits', 'mnist', 'fashion_mnist')
LABELS = {
  'teacher': 'Teacher',
  'vulnerable_teacher': 'Teacher trained without attacks',
  'search': 'Search',
  'rnas_cl': 'RNAS-CL',
  'ce': 'CE',
  'ce_kl': 'CE + KL',
  'control_rnas_cl': 'Control: RNAS-CL',
  'control_ce_kl': 'Control: CE + KL',
}

Json = dict[str, Any]
Arrays = Mapping[str, np.ndarray]


class Outcome(NamedTuple):
  """One attack on one model.

  Attributes:
    attack: its key, 'clean' for no attack.
    label: what a reader sees, 'PGD-20'.
    epsilon: radius in pixels of [0, 1]; 0 for 'clean'.
    steps: number of steps, None where it has none.
    step_size: in pixels of [0, 1], None where it has none.
    images: how many images were attacked, at least 1.
    correct: how many of them were classified correctly.
  """

  attack: str
  label: str
  epsilon: float
  steps: int | None
  step_size: float | None
  images: int
  correct: int

  @property
  def accuracy(self) -> float:
    """Share of images classified correctly, in [0, 1]."""
    return self.correct / self.images

  def same_attack(self, other: 'Outcome') -> bool:
    """Whether both came from one attack with the same settings."""
    return (
      self.attack == other.attack
      and self.steps == other.steps
      and math.isclose(self.epsilon, other.epsilon, abs_tol=1e-6)
      and math.isclose(
        self.step_size or 0.0, other.step_size or 0.0, abs_tol=1e-6
      )
    )


class Curve(NamedTuple):
  """Accuracy against the size of the perturbation, for one attack.

  Attributes:
    attack: the attack's key.
    label: what a reader sees.
    epsilons: [P], increasing, pixels of [0, 1].
    accuracies: [P], in [0, 1].
  """

  attack: str
  label: str
  epsilons: np.ndarray
  accuracies: np.ndarray


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
    order: position of the row.
    outcomes: one per attack.
    curves: one per attack that was run at several epsilons.
    correct: per-image outcomes by attack key, [images] bool; may be empty.
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

  def outcome(self, attack: str) -> Outcome | None:
    """The first outcome of this attack, None where it was not run."""
    return next((o for o in self.outcomes if o.attack == attack), None)

  def per_image(self, outcome: Outcome) -> np.ndarray | None:
    """[images] bool of an outcome; None unless it adds up to its count."""
    correct = self.correct.get(outcome.attack)
    if correct is None or correct.shape != (outcome.images,):
      return None
    return correct if int(correct.sum()) == outcome.correct else None


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


def read_json(path: pathlib.Path) -> Json | None:
  """The file's content, None where there is none; ValueError if broken."""
  return files.read_json(path) if path.is_file() else None


def read_arrays(path: pathlib.Path) -> Arrays | None:
  """The arrays of a .npz file, None where there is none."""
  if not path.is_file():
    return None
  with np.load(path, allow_pickle=False) as archive:
    return {name: archive[name] for name in archive.files}


def read(path: pathlib.Path) -> Evaluation | None:
  """Reads evaluation/<model>.json and the .npz beside it.

  Args:
    path: of the JSON file.

  Returns:
    The evaluation, or None if the file describes no model.

  Raises:
    ValueError: the file is not valid JSON or a count is impossible.
  """
  saved = read_json(path)
  if saved is None or 'model' not in saved:  # robustness.json is no model.
    return None
  prefix = 'correct/'
  arrays = read_arrays(path.with_suffix('.npz')) or {}
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
    outcomes=tuple(_outcome(o, path) for o in saved.get('attacks', ())),
    curves=tuple(_curve(c) for c in saved.get('curves', ()) if c['points']),
    correct={
      name.removeprefix(prefix): value.astype(bool)
      for name, value in arrays.items()
      if name.startswith(prefix)
    },
  )


def _outcome(saved: Json, path: pathlib.Path) -> Outcome:
  images = saved['images']
  correct = saved.get('correct')
  if correct is None:
    correct = round(saved['accuracy'] * images)
  if not 0 <= correct <= images or images < 1:
    raise ValueError(
      f'{path}: correct={correct} of images={images} for attack '
      f'{saved["attack"]!r}; must be a count of at least one image.'
    )
  return Outcome(
    attack=saved['attack'],
    label=saved.get('label') or saved['attack'],
    epsilon=saved.get('epsilon') or 0.0,
    steps=saved.get('steps'),
    step_size=saved.get('step_size'),
    images=images,
    correct=correct,
  )


def _curve(saved: Json) -> Curve:
  points = sorted((p['epsilon'], p['accuracy']) for p in saved['points'])
  values = np.asarray(points, float)  # [P, 2]
  label = saved.get('label') or saved['attack']
  return Curve(saved['attack'], label, values[:, 0], values[:, 1])

"""How models did under attack: `evaluation/<model>.json` and `.npz`, read back.

The JSON file says how many images the model classifies correctly under each
attack, the arrays beside it (optional) which ones.
"""

import dataclasses
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnascl_jax.reporting import statistics
from rnascl_jax.runtime import files

Json = dict[str, Any]
Arrays = Mapping[str, np.ndarray]

# The norm of attacks whose record does not name one.
LINF = 'L∞'
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
# Two radii or step sizes in pixels that differ by less are equal.
_EQUAL = 1e-6


class SavedWarning(NamedTuple):
  """A reason to doubt an evaluation."""

  kind: str  # A few words, the same for all of one sort.
  message: str  # What was seen and what it may mean, for people.


class SavedMember(NamedTuple):
  """One attack of AutoAttack on one model."""

  name: str
  label: str  # What a reader sees, 'APGD-CE'.
  black_box: bool  # Whether it uses no gradients.
  num_steps: int  # Steps of a trial.
  num_trials: int  # Trials of an image; 0 if undefined for so few classes.
  attacked: int  # Images that were classified correctly until then.
  broken: int  # How many of these it broke.
  rejected: int  # Images it claimed that full float32 did not confirm.
  robust: int  # Images of all that are right after it and those before it.
  seconds: float  # Wall clock.
  forward: int  # Passes through the network, of all images together.
  backward: int  # Passes back, of all images together.


class SavedAttack(NamedTuple):
  """One attack on one model; the fields are those of the JSON file.

  Attributes:
    right: which images were classified correctly, [images] bool; None where
      that was not saved, or does not add up to `correct`.
  """

  attack: str  # Its key, 'clean' for no attack.
  label: str  # What a reader sees, 'PGD-20'.
  images: int  # How many were attacked, at least 1: the first of the split.
  correct: int  # How many of them were classified correctly.
  epsilon: float = 0.0  # Radius in pixels of [0, 1]; 0 for 'clean'.
  norm: str = LINF  # The norm that the radius is measured in.
  steps: int | None = None
  step_size: float | None = None  # In pixels of [0, 1].
  rejected: int = 0  # Images it claimed that float32 did not confirm.
  adversarial: str | None = None  # File of its images, within the workdir.
  num_classes: int | None = None
  members: tuple[SavedMember, ...] = ()  # Of AutoAttack, in their order.
  right: np.ndarray | None = None

  @property
  def accuracy(self) -> float:
    """Share of images classified correctly, in [0, 1]."""
    return self.correct / self.images

  @property
  def interval(self) -> tuple[float, float]:
    """95 % interval of the accuracy, in [0, 1]."""
    return statistics.wilson(self.correct, self.images)

  @property
  def defined(self) -> tuple[SavedMember, ...]:
    """The members that are defined for the number of classes."""
    return tuple(m for m in self.members if m.num_trials)

  def same_ball(self, other: 'SavedAttack') -> bool:
    """Whether both may change an image by equally much."""
    near = math.isclose(self.epsilon, other.epsilon, abs_tol=_EQUAL)
    return self.norm == other.norm and near

  def same_attack(self, other: 'SavedAttack') -> bool:
    """Whether both came from one attack with the same settings."""
    sizes = self.step_size or 0.0, other.step_size or 0.0
    near = math.isclose(*sizes, abs_tol=_EQUAL)
    return self._fixed == other._fixed and self.same_ball(other) and near

  @property
  def _fixed(self) -> tuple:
    members = [(m.name, m.num_steps, m.num_trials) for m in self.members]
    return self.attack, self.steps, members

  def on_first(self, images: int) -> 'SavedAttack | None':
    """The result on the first images only; None where that was not saved.

    It has no members, as their counts are of all images.
    """
    if self.images == images:
      return self
    if self.right is None or self.images < images:
      return None
    right = self.right[:images]
    return self._replace(
      images=images, correct=int(right.sum()), members=(), right=right
    )


class Curve(NamedTuple):
  """Accuracy against the size of the perturbation, for one attack."""

  attack: str
  label: str  # What a reader sees.
  epsilons: np.ndarray  # [P], increasing, pixels of [0, 1].
  accuracies: np.ndarray  # [P], in [0, 1].
  images: int  # Of which they are shares; 0 if the file does not say.
  norm: str = LINF  # The norm that radii are measured in.


@dataclasses.dataclass(frozen=True)
class ModelEvaluation:
  """A model and how it did under every attack."""

  model: str  # Its key, 'rnas_cl'.
  label: str  # What a reader sees.
  attacks: tuple[SavedAttack, ...]
  curves: tuple[Curve, ...]  # Of attacks that were run at several epsilons.
  warnings: tuple[SavedWarning, ...]  # Of the model and its attacks, each once.
  kind: str = 'student'  # Or 'teacher'.
  dataset: str = ''
  parameters: int | None = None  # How many are trained.
  macs: int | None = None  # Multiply-accumulates of one image.
  weights_kept: float | None = None  # Share that is not 0, of a pruned network.
  seconds: float | None = None  # Time of training.
  order: int = 1_000  # Of rows; of one with a base, among these.
  base: str = ''  # The student that it was before its fine-tuning on attacks.

  @property
  def images(self) -> int:
    """The most images that an attack was run on."""
    return max((a.images for a in self.attacks), default=0)

  def under(self, attack: str | None) -> SavedAttack | None:
    """The first result of an attack, None where it was not run."""
    return next((a for a in self.attacks if a.attack == attack), None)

  def curve(self, attack: str | None) -> Curve | None:
    """The first curve of an attack, None where there is none."""
    return next((c for c in self.curves if c.attack == attack), None)


def read(root: pathlib.Path) -> tuple[ModelEvaluation, ...]:
  """Reads the evaluations of a run's directory.

  Returns:
    They are sorted by their `order`, fine-tuned models behind their base.

  Raises:
    DamagedFileError: a file is not what was saved, or a count is impossible.
  """
  evaluations = []
  for path in sorted((root / 'evaluation').glob('*.json')):
    if path.name != 'robustness.json':  # It describes no model.
      saved = files.read_json(path, 'model')
      beside = path.with_suffix('.npz')
      arrays = files.read_npz(beside) if beside.exists() else {}
      with files.naming(path):
        evaluations.append(_evaluation(saved, arrays))
  return in_order(evaluations)


def in_order(models: Iterable[Any]) -> tuple[Any, ...]:
  """Sorts what has `model`, `order` and `base`, as `ModelEvaluation` does."""
  models = tuple(models)
  orders = {m.model: m.order for m in models}

  def place(m: Any) -> tuple:
    first = orders.get(m.base, m.order) if m.base else m.order
    return first, m.base or m.model, bool(m.base), m.order, m.model

  return tuple(sorted(models, key=place))


def label(model: str) -> str:
  """What a reader sees of a model that brings no label of its own."""
  return LABELS.get(model, model.replace('_', ' '))


def _evaluation(saved: Json, arrays: Arrays) -> ModelEvaluation:
  fields = [field.name for field in dataclasses.fields(ModelEvaluation)]
  attacks, curves = saved.get('attacks', ()), saved.get('curves', ())
  warnings = [
    SavedWarning(warning['kind'], warning['message'])
    for record in (saved, *attacks)
    for warning in record.get('warnings') or ()
  ]
  return ModelEvaluation(
    **_present(saved, fields)
    | {
      'label': saved.get('label') or label(saved['model']),
      'attacks': tuple(_attack(a, arrays) for a in attacks),
      'curves': tuple(_curve(c) for c in curves if c['points']),
      'warnings': tuple(dict.fromkeys(warnings)),
    }
  )


def _present(saved: Json, names: Sequence[str]) -> Json:
  """The entries of these names that are there and not null."""
  return {name: saved[name] for name in names if saved.get(name) is not None}


def _attack(saved: Json, arrays: Arrays) -> SavedAttack:
  """One record of `attacks`; a ValueError if a count is impossible."""
  attack, images = saved['attack'], saved['images']
  correct = saved.get('correct')
  if correct is None:
    correct = round(saved['accuracy'] * images)
  if not 0 <= correct <= images or images < 1:
    raise ValueError(
      f'correct={correct} of images={images} for attack {attack!r}; must be a '
      'count of at least one image'
    )
  right = arrays.get(f'correct/{attack}', np.empty(0)).astype(bool)
  is_known = right.shape == (images,) and right.sum() == correct
  return SavedAttack(
    **_present(saved, SavedAttack._fields)
    | {
      'label': saved.get('label') or attack,
      'correct': correct,
      'members': tuple(_member(m, images) for m in saved.get('members') or ()),
      'right': right if is_known else None,
    }
  )


def _member(saved: Json, images: int) -> SavedMember:
  member = SavedMember(**{name: saved[name] for name in SavedMember._fields})
  if not 0 <= member.broken <= member.attacked <= images:
    raise ValueError(
      f'broken={member.broken} of attacked={member.attacked} of '
      f'images={images} for {member.label}; none may exceed the next'
    )
  return member


def _curve(saved: Json) -> Curve:
  points = sorted((p['epsilon'], p['accuracy']) for p in saved['points'])
  values = np.asarray(points, float)  # [P, 2]
  name = saved.get('label') or saved['attack']
  images = int(saved.get('images', 0))
  norm = saved.get('norm', LINF)
  return Curve(saved['attack'], name, values[:, 0], values[:, 1], images, norm)

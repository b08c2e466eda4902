"""The result of AutoAttack, image by image and member by member."""

import dataclasses
import json
from typing import Any, NamedTuple

import numpy as np

from rnascl_jax.attacks import norms
from rnascl_jax.attacks.checks.warning import AttackWarning
from rnascl_jax.attacks.stepwise import NetworkPasses
from rnascl_jax.runtime import files

_ARRAYS = ('images', 'correct', 'robust', 'broken_by', 'steps')


class MemberResult(NamedTuple):
  """One attack of the ensemble.

  Attributes:
    name: the member's name.
    label: the name that people read.
    black_box: whether it uses no gradients.
    num_steps: steps of a trial.
    num_trials: trials of an image; 0 if it is not defined for so few classes.
    attacked: number of images that all members before it left.
    broken: how many of these it broke.
    rejected: how many fooled the classifier in the attack, but not when they
      were classified again in full float32, or left the ball.
    robust: number of images that no member has broken up to here.
    seconds: wall clock, compilation included.
    passes: through the network, of all images together.
  """

  name: str
  label: str
  black_box: bool
  num_steps: int
  num_trials: int
  attacked: int
  broken: int
  rejected: int
  robust: int
  seconds: float
  passes: NetworkPasses


@dataclasses.dataclass(frozen=True)
class AutoAttackResult:
  """What AutoAttack found; printed, it has the official code's lines.

  Attributes:
    images: [N, H, W, C], the adversarial image where one was found, else the
      image itself; [N, C, H, W] if the images given are such.
    correct: [N] bool, classified correctly without an attack.
    robust: [N] bool, classified correctly under every attack.
    broken_by: [N] integers, the member that broke the image; -1 where none did,
      also where the image was misclassified without an attack.
    steps: [N] integers, steps of the member's trial that broke the image.
    num_classes: K.
    epsilon: radius of the ball.
    norm: name of the ball's norm.
    members: results of the members, in their order.
    warnings: reasons to doubt the result.
    farthest: the length of the longest perturbation.
    rescaled_accuracy: robust accuracy if APGD-CE attacks what is left once
      more, on logits that were divided by a constant; None unless the softmax
      is saturated.
  """

  images: np.ndarray
  correct: np.ndarray
  robust: np.ndarray
  broken_by: np.ndarray
  steps: np.ndarray
  num_classes: int
  epsilon: float
  norm: str
  members: tuple[MemberResult, ...]
  warnings: tuple[AttackWarning, ...]
  farthest: float = 0.0
  rescaled_accuracy: float | None = None

  @property
  def clean_accuracy(self) -> float:
    return _share(self.correct)

  @property
  def robust_accuracy(self) -> float:
    """Worst case over all members, of all images."""
    return _share(self.robust)

  def __str__(self) -> str:
    """The lines that the official code prints, and the warnings."""
    lines, seconds = [f'initial accuracy: {self.clean_accuracy:.2%}'], 0.0
    for member in self.members:
      name = member.name.upper().replace('_', '-')
      if not member.num_trials:
        lines.append(f'{name} is not defined for {self.num_classes} classes')
        continue
      seconds += member.seconds
      accuracy = member.robust / max(len(self.robust), 1)
      lines.append(
        f'robust accuracy after {name}: {accuracy:.2%} (total time '
        f'{seconds:.1f} s)'
      )
    largest, least = (
      f(self.images, initial=bound) for f, bound in ((np.max, 0), (np.min, 1))
    )
    lines += [
      f'max {self.norm.replace("∞", "inf")} perturbation: {self.farthest:.5f}, '
      f'nan in tensor: {np.isnan(self.images).sum()}, max: {largest:.5f}, '
      f'min: {least:.5f}',
      f'robust accuracy: {self.robust_accuracy:.2%}',
    ]
    if self.rescaled_accuracy is not None:
      lines.append(
        f'robust accuracy with rescaled logits: {self.rescaled_accuracy:.2%}'
      )
    lines += [f'Warning: {reason.message}' for reason in self.warnings]
    return '\n'.join(lines)

  def save(self, path: files.Path) -> None:
    """Writes the result to an .npz file, from which `load` makes it again."""
    values = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.name not in _ARRAYS
    }
    arrays = {name: getattr(self, name) for name in _ARRAYS}
    files.write_npz(path, arrays | {'rest': json.dumps(files.to_json(values))})

  @classmethod
  def load(cls, path: files.Path) -> 'AutoAttackResult':
    """Reads the result that `save` wrote.

    Raises:
      FileNotFoundError: if there is no such file.
      DamagedFileError: if it is not as `save` wrote it.
    """
    arrays: dict[str, Any] = files.read_npz(path, *_ARRAYS, 'rest')
    with files.naming(path):
      rest = files.from_json(json.loads(str(arrays.pop('rest'))))
      rest['members'] = tuple(
        MemberResult._make((*values, NetworkPasses(*passes)))
        for *values, passes in rest['members']
      )
      rest['warnings'] = tuple(AttackWarning(*w) for w in rest['warnings'])
      return cls(**arrays, **rest)

  def leaderboard_entry(self, **details: Any) -> dict[str, Any]:
    """Gives what RobustBench asks for in an entry of its leaderboard.

    Args:
      **details: what only you know: `name`, `authors`, `link`, `venue`,
        `architecture`, `dataset`, `additional_data`, `reported` and others,
        which replace the fields given here.

    Returns:
      The fields of the entry's JSON file (`model_info/` in RobustBench), with
      accuracies in percent, as text with two digits.
    """
    levels = round(255 * self.epsilon, 6)
    in_levels = self.norm == norms.LINF.name and levels.is_integer()
    accuracy = f'{100 * self.robust_accuracy:.2f}'
    return {
      'number_forward_passes': 1,
      'eps': f'{levels:.0f}/255' if in_levels else f'{self.epsilon:.6g}',
      'clean_acc': f'{100 * self.clean_accuracy:.2f}',
      'reported': accuracy,
      'autoattack_acc': accuracy,
      'unreliable': bool(self.warnings),
      **details,
    }


def _share(flags: np.ndarray) -> float:
  return float(flags.mean()) if len(flags) else float('nan')

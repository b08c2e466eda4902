"""What AutoAttack found, image by image and member by member."""

import dataclasses
from typing import NamedTuple

import numpy as np

from rnascl_jax.attacks.checks.warning import AttackWarning
from rnascl_jax.attacks.stepwise import Passes


class MemberResult(NamedTuple):
  """One attack of the ensemble.

  Attributes:
    name: of the member.
    label: what people read.
    black_box: whether it uses no gradients.
    num_steps: of a trial.
    num_trials: of an image; 0 if it is not defined for so few classes.
    attacked: images that were classified correctly until then.
    broken: of these.
    rejected: images that fooled the classifier in the attack, but not when
      they were classified again in full float32, or that left the ball.
    robust: images of all that no member has broken up to here.
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
  passes: Passes


@dataclasses.dataclass(frozen=True)
class Result:
  """The outcome of AutoAttack; printed, a table with all warnings.

  Attributes:
    images: [N, H, W, C], adversarial where an image is broken, else the image.
    correct: [N] bool, classified correctly without an attack.
    robust: [N] bool, and under every attack.
    broken_by: [N] integers, the member that broke the image; -1 where none did,
      also where it was wrong before.
    steps: [N] integers, the step at which it broke, of the member's trial.
    num_classes: K.
    epsilon: radius.
    norm: its norm.
    members: in their order.
    warnings: reasons to doubt the result.
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

  @property
  def clean_accuracy(self) -> float:
    return _share(self.correct)

  @property
  def robust_accuracy(self) -> float:
    """Worst case over all members, of all images."""
    return _share(self.robust)

  def __str__(self) -> str:
    count = len(self.robust)
    lines = [
      f'AutoAttack, {self.norm}, epsilon = {self.epsilon:.6g}, {count} images',
      f'{"":10} {"accuracy":>8} {"broken":>7} {"of":>6} {"seconds":>8}',
      f'{"clean":10} {100 * self.clean_accuracy:7.2f}%',
    ]
    for member in self.members:
      if not member.num_trials:
        lines.append(
          f'{member.label:10} left out: not defined for {self.num_classes} '
          'classes'
        )
        continue
      accuracy = 100 * member.robust / max(count, 1)
      lines.append(
        f'{member.label:10} {accuracy:7.2f}% {member.broken:7} '
        f'{member.attacked:6} {member.seconds:8.1f}'
      )
    lines += [f'Warning: {found.message}' for found in self.warnings]
    return '\n'.join(lines)


def _share(flags: np.ndarray) -> float:
  return float(flags.mean()) if len(flags) else float('nan')

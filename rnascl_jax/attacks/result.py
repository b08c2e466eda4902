"""The result of AutoAttack, image by image and member by member."""

import dataclasses
from typing import NamedTuple

import numpy as np

from rnascl_jax.attacks.masking.suspicion import Suspicion
from rnascl_jax.attacks.stepwise import NetworkPasses


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
  """What AutoAttack found; printed, it is a table with all warnings.

  Attributes:
    images: [N, H, W, C], the adversarial image where one was found, else the
      image itself.
    correct: [N] bool, classified correctly without an attack.
    robust: [N] bool, classified correctly under every attack.
    broken_by: [N] integers, the member that broke the image; -1 where none did,
      also where the image was misclassified without an attack.
    steps: [N] integers, steps of the member's trial that broke the image.
    num_classes: K.
    epsilon: radius of the ball.
    norm: name of the ball's norm.
    members: results of the members, in their order.
    suspicions: reasons to doubt the result.
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
  suspicions: tuple[Suspicion, ...]

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
    lines += [f'Warning: {reason.message}' for reason in self.suspicions]
    return '\n'.join(lines)


def _share(flags: np.ndarray) -> float:
  return float(flags.mean()) if len(flags) else float('nan')

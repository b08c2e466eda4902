"""What AutoAttack is given, and the trials of an attack that have finished."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from rnascl_jax.attacks.stepwise import NetworkPasses, Stepwise
from rnascl_jax.base import Key, LogitsFn


class Finished(NamedTuple):
  """Trials that came to an end.

  Attributes:
    rows: [n] integers, positions of the images in the arrays.
    trials: [n] integers.
    steps: [n] integers, steps of the trial when it ended.
    fooled: [n] bool, whether it ended because the classifier is fooled.
    images: adversarial images, one for each that is `fooled`, in order.
  """

  rows: np.ndarray
  trials: np.ndarray
  steps: np.ndarray
  fooled: np.ndarray
  images: np.ndarray


class JournalLike(Protocol):
  """Where finished trials are kept, so that a run can be taken up again."""

  def start(
    self, identity: Mapping[str, Any], logits: np.ndarray
  ) -> Sequence[tuple[str, Finished, float]]:
    """Opens the journal of an evaluation; returns what was appended earlier.

    Args:
      identity: what the result depends on, as JSON.
      logits: [N, K] of the images without an attack.

    Raises:
      ValueError: if it is the journal of another evaluation.
    """

  def append(self, member: str, finished: Finished, seconds: float) -> None:
    """Keeps trials of a member, perhaps none, and the seconds they took."""


@dataclasses.dataclass(frozen=True)
class AutoAttackInput:
  """A classifier, images, and how they are attacked.

  Attributes:
    logits_fn: [B, H, W, C] -> [B, K], a pytree.
    key: typed random key.
    images: [N, H, W, C] in [0, 1].
    labels: [N], int32.
    indices: [N], int32, in the data set; from 2^31 on they are negative.
    epsilon: radius of the ball.
    batch_size: images at once over all devices.
    devices: the devices.
    votes: draws of a random classifier that decide by their majority.
    stop_early: whether an attack on an image ends when the image is broken.
    journal: where finished trials are kept, if they are.
    description: stands in front of the attack's name in the progress.
    verbose: whether progress is shown.
  """

  logits_fn: LogitsFn
  key: Key
  images: np.ndarray
  labels: np.ndarray
  indices: np.ndarray
  epsilon: float
  batch_size: int
  devices: tuple[jax.Device, ...]
  votes: int = 1
  stop_early: bool = True
  journal: JournalLike | None = None
  description: str = ''
  verbose: bool = False


class AttackLog:
  """The trials of one attack that have finished, image by image.

  Attributes:
    attack: in steps.
    num_trials: how many an image has; 0 if the attack is not defined for so few
      classes.
    trials: [N] integers, how many have finished.
    steps: [N] integers, of the last one.
    fooled: [N] bool, whether the last one fooled the classifier.
    passes: through the network, of all images together.
    seconds: that the trials took.
  """

  def __init__(self, attack: Stepwise, count: int, num_classes: int):
    self.attack = attack
    self.num_trials = attack.num_trials(num_classes)
    self._costs = attack.passes(num_classes)
    self._images: dict[int, np.ndarray] = {}
    self.trials = np.zeros(count, np.int32)
    self.steps = np.zeros(count, np.int32)
    self.fooled = np.zeros(count, bool)
    self.passes = NetworkPasses(0, 0)
    self.seconds = 0.0

  def add(self, finished: Finished, seconds: float) -> None:
    """Adds trials; the last one of an image replaces those before it."""
    rows = finished.rows
    self.trials[rows] = finished.trials + 1
    self.steps[rows] = finished.steps
    self.fooled[rows] = finished.fooled
    broken = rows[finished.fooled].tolist()
    self._images.update(zip(broken, finished.images, strict=True))
    begin, step = self._costs
    begun, steps = len(rows), int(finished.steps.sum())
    self.passes = NetworkPasses(
      self.passes.forward + begun * begin.forward + steps * step.forward,
      self.passes.backward + begun * begin.backward + steps * step.backward,
    )
    self.seconds += seconds

  def is_over(self, rows: np.ndarray) -> np.ndarray:
    """[n] bool, whether these images are not to be attacked any more."""
    return self.fooled[rows] | (self.trials[rows] >= self.num_trials)

  def begin_again(self, rows: np.ndarray) -> None:
    """Forgets the trials of these images."""
    self.trials[rows], self.fooled[rows] = 0, False

  def images(self, rows: np.ndarray) -> np.ndarray:
    """[n, H, W, C], adversarial images of rows that are `fooled`, n >= 1."""
    return np.stack([self._images[row] for row in rows.tolist()])

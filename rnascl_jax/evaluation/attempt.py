"""What an attack has found so far, and in the end, image by image."""

from typing import NamedTuple

import numpy as np

from rnascl_jax.attacks import norms, prediction
from rnascl_jax.data import batches
from rnascl_jax.data.datasets import Split
from rnascl_jax.evaluation.classification import Clean
from rnascl_jax.evaluation.journal import Entry
from rnascl_jax.runtime import processes, progress


class Outcome(NamedTuple):
  """What an attack left of a classifier.

  Attributes:
    correct: [N] bool, images still classified correctly.
    rows: [n] integers, images that the attack broke.
    images: [n, H, W, C], float32, what it made of them.
    rejected: how many of its images are misclassified, but not in the ball or
      not in [0, 1].
    seconds: wall clock, with that of earlier runs.
  """

  correct: np.ndarray
  rows: np.ndarray
  images: np.ndarray
  rejected: int
  seconds: float

  @property
  def accuracy(self) -> float:
    return float(self.correct.mean())


class Attempt:
  """What an attack has found so far."""

  def __init__(self, clean: Clean, split: Split, epsilon: float):
    """Begins with what is wrong without an attack.

    Args:
      clean: what the classifier makes of the images.
      split: the images.
      epsilon: radius of the L-infinity ball.
    """
    self._clean, self._split, self._epsilon = clean, split, epsilon
    self.over = ~clean.correct  # [N] bool, not to be attacked any more.
    self._broken = np.zeros(len(clean.correct), bool)
    self._images: dict[int, np.ndarray] = {}  # Those that were broken, by row.
    self._rejected, self._seconds = 0, 0.0

  def add(self, entry: Entry) -> None:
    _, finished, seconds = entry
    rows = finished.rows[finished.fooled]
    self.over[finished.rows] = True
    self._seconds += seconds
    if not len(rows):
      return
    originals = np.asarray(batches.to_float(self._split.images[rows]))
    valid = prediction.in_ball(
      finished.images, originals, epsilon=self._epsilon, norm=norms.LINF
    )
    self._broken[rows[valid]] = True
    self._rejected += int((~valid).sum())
    kept = zip(rows[valid].tolist(), finished.images[valid], strict=True)
    self._images.update(kept)

  @property
  def accuracy(self) -> float:
    """As far as one can tell from the images that were attacked."""
    attacked = int((self.over & self._clean.correct).sum())
    share = 1 - int(self._broken.sum()) / max(attacked, 1)
    return float(share * self._clean.accuracy)

  def progress(self, description: str) -> progress.Progress:
    return progress.Progress(
      len(self.over),
      initial=int(self.over.sum()),
      description=description,
      unit='images',
      is_main_process=processes.is_main() and bool(description),
    )

  def outcome(self) -> Outcome:
    rows = np.flatnonzero(self._broken)
    images = np.zeros((len(rows), *self._split.images.shape[1:]), np.float32)
    for place, row in enumerate(rows.tolist()):
      images[place] = self._images[row]
    correct = self._clean.correct & ~self._broken
    return Outcome(correct, rows, images, self._rejected, self._seconds)

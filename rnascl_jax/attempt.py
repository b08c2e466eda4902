"""What an attack has found so far, and in the end, image by image."""

from typing import NamedTuple

import numpy as np

from rnascl_jax import batches, parallel, progress
from rnascl_jax.attacks import confirmation, norms
from rnascl_jax.classification import Clean
from rnascl_jax.datasets import Split
from rnascl_jax.journal import Entry


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

  def __init__(self, clean: Clean, shape: tuple[int, ...]):
    self._clean = clean
    self.over = ~clean.correct  # [N] bool, not to be attacked any more.
    self._images: dict[int, np.ndarray] = {}  # Those that were broken, by row.
    self._shape = shape[1:]
    self._seconds = 0.0

  def add(self, entry: Entry) -> None:
    _, finished, seconds = entry
    broken = finished.rows[finished.fooled]
    self.over[finished.rows] = True
    self._images.update(zip(broken.tolist(), finished.images, strict=True))
    self._seconds += seconds

  @property
  def accuracy(self) -> float:
    """As far as one can tell from the images that were attacked."""
    attacked = int((self.over & self._clean.correct).sum())
    share = 1 - len(self._images) / max(attacked, 1)
    return float(share * self._clean.accuracy)

  def progress(self, description: str) -> progress.Progress:
    return progress.Progress(
      len(self.over),
      initial=int(self.over.sum()),
      description=description,
      unit='images',
      is_main_process=parallel.is_main_process() and bool(description),
    )

  def outcome(self, split: Split, epsilon: float) -> Outcome:
    rows = np.array(sorted(self._images), int)
    images = np.zeros((len(rows), *self._shape), np.float32)
    for place, row in enumerate(rows):
      images[place] = self._images[row]
    originals = np.asarray(batches.to_float(split.images[rows]))
    valid = confirmation.in_ball(
      images, originals, epsilon=epsilon, norm=norms.LINF
    )
    correct = self._clean.correct.copy()
    correct[rows[valid]] = False
    rejected = int((~valid).sum())
    return Outcome(correct, rows[valid], images[valid], rejected, self._seconds)

"""What one member of an ensemble has tried so far, image by image."""

import numpy as np

from rnascl_jax.attacks.lanes import Finished
from rnascl_jax.attacks.stepwise import Passes, Stepwise


class Tally:
  """The trials of an attack that are over.

  Attributes:
    trials: [N] integers, how many are.
    steps: [N] integers, of the last one.
    fooled: [N] bool, whether that one fooled the classifier.
    passes: through the network, of all images together.
    seconds: that they took.
  """

  def __init__(self, count: int, attack: Stepwise, num_classes: int):
    self._costs = attack.passes(num_classes)
    self._images: dict[int, np.ndarray] = {}
    self.trials = np.zeros(count, np.int32)
    self.steps = np.zeros(count, np.int32)
    self.fooled = np.zeros(count, bool)
    self.passes = Passes(0, 0)
    self.seconds = 0.0

  def add(self, finished: Finished, seconds: float) -> None:
    """Takes trials; what is said of an image last is what holds."""
    rows = finished.rows
    self.trials[rows] = finished.trials + 1
    self.steps[rows] = finished.steps
    self.fooled[rows] = finished.fooled
    broken = rows[finished.fooled].tolist()
    self._images.update(zip(broken, finished.images, strict=True))
    once, each = self._costs
    begun, taken = len(rows), int(finished.steps.sum())
    self.passes = Passes(
      self.passes.forward + begun * once.forward + taken * each.forward,
      self.passes.backward + begun * once.backward + taken * each.backward,
    )
    self.seconds += seconds

  def begin_again(self, rows: np.ndarray) -> None:
    """Forgets what is known of some images."""
    self.trials[rows], self.fooled[rows] = 0, False

  def images(self, rows: np.ndarray) -> np.ndarray:
    """[n, H, W, C], adversarial images of rows that are `fooled`, n >= 1."""
    return np.stack([self._images[row] for row in rows.tolist()])

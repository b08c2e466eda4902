"""Which trials of an attack are next, and which have finished too early.

An image's trials count in their order, up to the first that fools the
classifier. Where there is place for more trials than images, several of one
image run at once: what finishes before the trials in front of it waits here,
and what comes after one that fools the classifier is of no use. So what is in
the log is the same as if they had run one after the other.
"""

from typing import NamedTuple

import numpy as np

from rnascl_jax.attacks.attack_log import AttackLog, Finished


class _Trial(NamedTuple):
  """A trial that has finished; fields as of `Finished`."""

  row: int
  trial: int
  steps: int
  fooled: bool
  image: np.ndarray | None


class AttackQueue:
  """The trials that are not in the log yet."""

  def __init__(self, log: AttackLog, rows: np.ndarray):
    """Takes what is in the log as finished.

    Args:
      log: of the attack; whoever takes trials adds to it what `add` returns.
      rows: [n] integers, the images to attack, in this order.
    """
    self._log, self._rows = log, rows[~log.is_over(rows)]
    self._begun = log.trials.copy()  # [N], the first trial not begun.
    self._end = np.full_like(self._begun, log.num_trials)
    self._ahead: dict[tuple[int, int], _Trial] = {}

  @property
  def left(self) -> int:
    """Trials that may still come into the log."""
    rows = self._rows[~self._log.is_over(self._rows)]
    return int((self._end[rows] - self._log.trials[rows]).sum())

  @property
  def waiting(self) -> int:
    """Trials that have not begun."""
    left = self._end[self._rows] - self._begun[self._rows]
    return int(np.maximum(left, 0).sum())

  @property
  def steps_ahead(self) -> int:
    """Steps of the trials that have finished too early."""
    return sum(trial.steps for trial in self._ahead.values())

  def take(self, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Begins trials: of each image the next one, before any has another.

    Returns:
      Rows and trials, [n] integers, n <= count.
    """
    taken, trials = [self._rows[:0]], [self._begun[:0]]
    while count > 0:
      rows = self._rows[self._begun[self._rows] < self._end[self._rows]]
      if not len(rows):
        break
      ahead = self._begun[rows] - self._log.trials[rows]
      rows = rows[ahead == ahead.min()][:count]
      taken.append(rows)
      trials.append(self._begun[rows])
      self._begun[rows] += 1
      count -= len(rows)
    return np.concatenate(taken), np.concatenate(trials)

  def are_of_use(self, rows: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """[n] bool, whether no trial in front of these fooled the classifier."""
    return trials < self._end[rows]

  def add(self, finished: Finished) -> Finished:
    """Takes trials in any order; returns those whose turn it is, in order."""
    of_fooled = iter(finished.images)
    for row, trial, steps, fooled in zip(
      *(array.tolist() for array in finished[:4]), strict=True
    ):
      image = next(of_fooled) if fooled else None
      self._ahead[row, trial] = _Trial(row, trial, steps, fooled, image)
      if fooled:
        self._end[row] = min(self._end[row], trial + 1)
    in_order = [
      trial
      for row in dict.fromkeys(finished.rows.tolist())
      for trial in self._in_order(row)
    ]
    rows, trials, steps, fooled = (
      np.array([trial[i] for trial in in_order], array.dtype)
      for i, array in enumerate(finished[:4])
    )
    broken = [trial.image for trial in in_order if trial.image is not None]
    images = np.stack(broken) if broken else finished.images[:0]
    return Finished(rows, trials, steps, fooled, images)

  def _in_order(self, row: int) -> list[_Trial]:
    """An image's trials from the first that is not in the log."""
    first, end = int(self._log.trials[row]), int(self._end[row])
    keys = [key for key in self._ahead if key[0] == row and key[1] >= end]
    for key in keys:
      del self._ahead[key]
    in_order = []
    for trial in range(first, end):
      if (row, trial) not in self._ahead:
        break
      in_order.append(self._ahead.pop((row, trial)))
    return in_order

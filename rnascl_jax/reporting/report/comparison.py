"""How far apart two models are under one attack, and if that may be chance.

Where both saved which images they classified correctly, the images are paired
(McNemar's exact test); otherwise the interval of the difference of two
independent shares decides (Newcombe), which is wider.
"""

from typing import NamedTuple

import numpy as np

from rnascl_jax.reporting import statistics
from rnascl_jax.reporting.results import AttackResult, ModelEvaluation

# A difference is called one where p is below this; intervals are 95 %.
LEVEL = 0.05


class Comparison(NamedTuple):
  """Two models under the same attack with the same settings.

  Attributes:
    first: the first model.
    second: the second model.
    results: what each reached, on the same number of images.
    only: images that only the first and only the second classified correctly;
      None where the images are not paired.
  """

  first: ModelEvaluation
  second: ModelEvaluation
  results: tuple[AttackResult, AttackResult]
  only: tuple[int, int] | None

  @property
  def points(self) -> float:
    """First minus second, in percentage points."""
    return 100 * (self.results[0].accuracy - self.results[1].accuracy)

  @property
  def p_value(self) -> float | None:
    """McNemar's exact p, None where the images are not paired."""
    return None if self.only is None else statistics.mcnemar(*self.only)

  @property
  def interval(self) -> tuple[float, float]:
    """95 % interval of the difference in points, images taken as unpaired."""
    first, second = self.results
    low, high = statistics.newcombe(
      first.correct, first.images, second.correct, second.images
    )
    return 100 * low, 100 * high

  @property
  def distinct(self) -> bool:
    """Whether the choice of test images is an unlikely explanation."""
    if self.p_value is not None:
      return self.p_value < LEVEL
    low, high = self.interval
    return low > 0 or high < 0

  @property
  def beyond_chance_above(self) -> bool:
    """Whether the first is distinctly the better one."""
    return self.distinct and self.points > 0

  @property
  def evidence(self) -> str:
    """What `distinct` rests on, in words."""
    if self.only is None:
      low, high = self.interval
      return f'95 % interval of the difference {low:+.1f} to {high:+.1f} points'
    first, second = self.only
    return (
      f'right on {first} images where the other is wrong, wrong on {second} '
      f"where it is right; McNemar's exact p {p_text(self.p_value)}"
    )


def compare(
  first: ModelEvaluation | None,
  second: ModelEvaluation | None,
  attack: str | None,
  images: int | None = None,
) -> Comparison | None:
  """Compares two models; None where they did not face the same attack.

  Args:
    first: a model, None if it was not evaluated.
    second: a model, None if it was not evaluated.
    attack: key of the attack.
    images: how many of the first images to compare on; None for all that both
      attacked.

  Returns:
    The comparison, paired where both saved their outcome for every image; None
    also where that is needed to look at fewer images, and was not saved.
  """
  if first is None or second is None or attack is None:
    return None
  outcomes = first.under(attack), second.under(attack)
  if outcomes[0] is None or outcomes[1] is None:
    return None
  if not outcomes[0].same_attack(outcomes[1]):
    return None
  images = images or min(outcomes[0].images, outcomes[1].images)
  flags = first.per_image(outcomes[0]), second.per_image(outcomes[1])
  pair = (
    first.on_first(outcomes[0], images),
    second.on_first(outcomes[1], images),
  )
  if pair[0] is None or pair[1] is None:
    return None
  only = None
  if flags[0] is not None and flags[1] is not None:
    left, right = flags[0][:images], flags[1][:images]
    only = int(np.sum(left & ~right)), int(np.sum(~left & right))
  return Comparison(first, second, (pair[0], pair[1]), only)


def p_text(p_value: float | None) -> str:
  """'= 0.031', '= 2e-05', '< 1e-12'."""
  if p_value is None:
    return 'unknown'
  if p_value < 1e-12:
    return '< 1e-12'
  return f'= {p_value:.2g}'

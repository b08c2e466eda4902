"""Intervals and tests for counts of correctly classified images, and for ranks.

Example:
  >>> from rnascl_jax.reporting import statistics
  >>> low, high = statistics.wilson(50, 100)
  >>> print(f'{low:.3f} {high:.3f}')
  0.404 0.596
  >>> print(f'{statistics.mcnemar(12, 3):.4f}')
  0.0352
  >>> print(statistics.rank_correlation([0.1, 0.2, 0.3, 0.4], [5, 3, 0, 0]))
  -0.95 (p = 0.17)
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

# The 97.5 % quantile of the normal distribution: two-sided 95 % intervals.
Z = 1.959963984540054
# A difference is called one where p is below this.
LEVEL = 0.05
PERMUTATIONS = 10_000
_SEED = 0x5CA1E
# Two correlations this close are equal: they differ by rounding.
_EQUAL = 1e-9


class RankCorrelation(NamedTuple):
  """A rank correlation with its permutation test."""

  rho: float  # Spearman's, in [-1, 1].
  p_value: float  # Two-sided, in (0, 1].

  def __str__(self) -> str:
    return f'{self.rho:+z.2f} (p = {self.p_value:.2g})'


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
  """Mean and standard deviation (n - 1 degrees of freedom) of a sample.

  At least one value is needed; the deviation of a single one is None.
  """
  deviation = statistics.stdev(values) if len(values) > 1 else None
  return statistics.mean(values), deviation


def interval_of_mean(
  values: Sequence[float],
) -> tuple[float, float] | None:
  """95 % interval of a mean by Student's t; None for fewer than two values.

  Of values that are all equal it is that value: they say nothing of a spread.

  Args:
    values: a sample, such as differences of one seed each.
  """
  mean, deviation = mean_and_deviation(values)
  if deviation is None:
    return None
  quantile = float(scipy.stats.t.ppf(0.975, len(values) - 1))
  half = quantile * deviation / math.sqrt(len(values))
  return mean - half, mean + half


def wilson(correct: int, images: int) -> tuple[float, float]:
  """95 % interval, in [0, 1], of a share: `correct` of at least one image.

  Reference:
    Wilson, Probable inference, the law of succession, and statistical
    inference, JASA 1927.
  """
  test = scipy.stats.binomtest(correct, images)
  low, high = test.proportion_ci(confidence_level=0.95, method='wilson')
  return float(low), float(high)


def newcombe(
  correct: int,
  images: int,
  other_correct: int,
  other_images: int,
  correlation: float = 0.0,
) -> tuple[float, float]:
  """95 % interval, in [-1, 1], of the difference of two shares.

  The shares are `correct` of `images`, minus `other_correct` of `other_images`,
  each of at least one image.

  Args:
    correct: images that the first side classifies correctly.
    images: of how many.
    other_correct: the same of the second side.
    other_images: of how many.
    correlation: of both sides on the same images, see `phi`; 0 of independent
      ones.

  Reference:
    Newcombe, Interval estimation for the difference between independent
    proportions, Statistics in Medicine 1998, 873-890, method 10. Newcombe,
    Improved confidence intervals for the difference between binomial
    proportions based on paired data, ibid., 2635-2650, method 10.
  """
  first, second = correct / images, other_correct / other_images
  low, high = wilson(correct, images)
  other_low, other_high = wilson(other_correct, other_images)

  def width(one: float, other: float) -> float:
    square = one**2 - 2 * correlation * one * other + other**2
    return math.sqrt(max(square, 0.0))

  return (
    first - second - width(first - low, other_high - second),
    first - second + width(high - first, second - other_low),
  )


def phi(both: int, only_first: int, only_second: int, neither: int) -> float:
  """Correlation of two models' results on the same images, in [-1, 1].

  A positive one is made smaller by Newcombe's correction, and it is 0 where a
  model is right on all images or on none.

  Args:
    both: images that both classify correctly.
    only_first: images that only the first one does.
    only_second: images that only the second one does.
    neither: the others.
  """
  rows = (both + only_first) * (only_second + neither)
  columns = (both + only_second) * (only_first + neither)
  if not rows * columns:
    return 0.0
  product = float(both * neither - only_first * only_second)
  if product > 0:
    images = both + only_first + only_second + neither
    product = max(product - images / 2, 0.0)
  return product / math.sqrt(rows * columns)


def mcnemar(only_first: int, only_second: int) -> float:
  """Exact two-sided p-value that two models are right equally often.

  Of the images that only the first or only the second classifies correctly,
  each is as likely to be either under the hypothesis: a sign test. The p-value
  is 0 only by underflow, and 1 where the models never differ.

  Reference:
    McNemar, Note on the sampling error of the difference between correlated
    proportions or percentages, Psychometrika 1947.
  """
  differ = only_first + only_second
  return (
    float(scipy.stats.binomtest(only_first, differ).pvalue) if differ else 1.0
  )


def p_text(p_value: float | None) -> str:
  """'= 0.031', '= 2e-05', '< 1e-12'."""
  if p_value is None:
    return 'unknown'
  return '< 1e-12' if p_value < 1e-12 else f'= {p_value:.2g}'


def rank_correlation(
  first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray
) -> RankCorrelation | None:
  """Spearman's rank correlation of pairs, [T] each, with a permutation p-value.

  The p-value is (1 + k) / (1 + P): of P = 10,000 random orders of `second`
  against `first`, k give a correlation of at least the same absolute value. No
  distribution is assumed, so that few pairs and many equal values do no harm;
  that all orders are equally likely is assumed. The orders sort the words of
  Philox under a fixed seed, which no version of NumPy changes: a report that is
  written again says the same (`scipy.stats.permutation_test` would not).

  Returns:
    None where it is undefined: all values of a side are equal, or one is not a
    finite number.

  Raises:
    ValueError: if they are not of one length.

  Reference:
    Spearman, The proof and measurement of association between two things, 1904.
    Phipson and Smyth, Permutation p-values should never be zero, 2010.
  """
  pair = np.asarray(first, float), np.asarray(second, float)
  if pair[0].shape != pair[1].shape or pair[0].ndim != 1:
    raise ValueError(
      f'pairs are needed, not values of shapes {pair[0].shape} and '
      f'{pair[1].shape}.'
    )
  if not all(np.isfinite(side).all() and np.ptp(side) > 0 for side in pair):
    return None
  rho = float(scipy.stats.spearmanr(*pair).statistic)
  # The mean of a product of z-scores is a correlation.
  left, right = (
    scipy.stats.zscore(scipy.stats.rankdata(side)) for side in pair
  )
  words = np.random.Philox(key=_SEED).random_raw(PERMUTATIONS * len(left))
  orders = np.argsort(words.reshape(PERMUTATIONS, -1), axis=1, kind='stable')
  by_chance = np.abs(right[orders] @ left) / len(left)
  as_much = int(np.sum(by_chance >= abs(rho) - _EQUAL))
  return RankCorrelation(rho, (1 + as_much) / (1 + PERMUTATIONS))

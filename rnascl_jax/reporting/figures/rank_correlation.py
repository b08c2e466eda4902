"""Spearman's rank correlation, and how often chance gives as much.

Example:
  >>> from rnascl_jax.reporting.figures import rank_correlation
  >>> found = rank_correlation.compare([0.1, 0.2, 0.3, 0.4], [5, 3, 0, 0])
  >>> print(found)
  -0.95 (p = 0.17)
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

PERMUTATIONS = 10_000
_SEED = 0x5CA1E
# Two correlations this close are equal: they differ by rounding.
_EQUAL = 1e-9


class RankCorrelation(NamedTuple):
  """A rank correlation with its permutation test.

  Attributes:
    rho: Spearman's, in [-1, 1].
    p_value: two-sided, in (0, 1].
  """

  rho: float
  p_value: float

  def __str__(self) -> str:
    # Never '-0.00'.
    return f'{round(self.rho, 2) + 0.0:+.2f} (p = {self.p_value:.2g})'


def compare(
  first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray
) -> RankCorrelation | None:
  """Spearman's rank correlation of pairs, with a permutation p-value.

  The correlation is Pearson's of the ranks, where equal values share the mean
  of their ranks. The p-value is (1 + k) / (1 + P): of P = 10,000 random orders
  of `second` against `first`, k give a correlation of at least the same
  absolute value. The orders sort the words of Philox under a fixed seed, which
  no version of NumPy changes. No distribution is assumed, so that few pairs and
  many equal values do no harm; that all orders are equally likely is assumed.

  Args:
    first: [T].
    second: [T].

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
  if not all(np.isfinite(side).all() and len(set(side)) > 1 for side in pair):
    return None
  left, right = _standardized(ranks(pair[0])), _standardized(ranks(pair[1]))
  rho = float(np.clip(left @ right, -1.0, 1.0))
  words = np.random.Philox(key=_SEED).random_raw(PERMUTATIONS * len(left))
  orders = np.argsort(words.reshape(PERMUTATIONS, -1), axis=1, kind='stable')
  by_chance = np.abs(right[orders] @ left)
  as_much = int(np.sum(by_chance >= abs(rho) - _EQUAL))
  return RankCorrelation(rho, (1 + as_much) / (1 + PERMUTATIONS))


def ranks(values: np.ndarray) -> np.ndarray:
  """Ranks [T] from 1 of values [T]; equal ones share the mean of theirs."""
  _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
  last = np.cumsum(counts)
  return (last - (counts - 1) / 2)[place]


def _standardized(values: np.ndarray) -> np.ndarray:
  """Of mean 0 and norm 1, so that products are correlations."""
  centred = values - values.mean()
  return centred / np.linalg.norm(centred)

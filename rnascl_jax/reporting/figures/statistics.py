"""Intervals and tests for counts of correctly classified images.

Example:
  >>> from rnascl_jax.reporting.figures import statistics
  >>> low, high = statistics.wilson(50, 100)
  >>> print(f'{low:.3f} {high:.3f}')
  0.404 0.596
  >>> print(f'{statistics.mcnemar(12, 3):.4f}')
  0.0352
"""

import math

# The 97.5 % quantile of the normal distribution: two-sided 95 % intervals.
Z = 1.959963984540054


def wilson(correct: int, images: int) -> tuple[float, float]:
  """95 % interval of a share.

  Args:
    correct: successes, 0 <= correct <= images.
    images: trials, at least 1.

  Returns:
    Lower and upper end, in [0, 1].

  Reference:
    Wilson, Probable inference, the law of succession, and statistical
    inference, JASA 1927.
  """
  share = correct / images
  shrink = 1 + Z**2 / images
  centre = (share + Z**2 / (2 * images)) / shrink
  half = (
    Z
    / shrink
    * math.sqrt(share * (1 - share) / images + Z**2 / (4 * images**2))
  )
  return max(0.0, centre - half), min(1.0, centre + half)


def newcombe(
  correct: int, images: int, other_correct: int, other_images: int
) -> tuple[float, float]:
  """95 % interval of the difference of two shares of independent samples.

  Args:
    correct: successes of the first.
    images: trials of the first, at least 1.
    other_correct: successes of the second.
    other_images: trials of the second, at least 1.

  Returns:
    Lower and upper end of first minus second, in [-1, 1].

  Reference:
    Newcombe, Interval estimation for the difference between independent
    proportions, Statistics in Medicine 1998, method 10.
  """
  first, second = correct / images, other_correct / other_images
  low, high = wilson(correct, images)
  other_low, other_high = wilson(other_correct, other_images)
  difference = first - second
  return (
    difference - math.hypot(first - low, other_high - second),
    difference + math.hypot(high - first, second - other_low),
  )


def mcnemar(only_first: int, only_second: int) -> float:
  """Exact two-sided p-value that two models are right equally often.

  Of the images on which exactly one of them is right, each is as likely to be
  right under the hypothesis: a sign test.

  Args:
    only_first: images that only the first classifies correctly.
    only_second: images that only the second classifies correctly.

  Returns:
    p in [0, 1], 0 only by underflow; 1 where they never differ.

  Reference:
    McNemar, Note on the sampling error of the difference between correlated
    proportions or percentages, Psychometrika 1947.
  """
  differ = only_first + only_second
  constant = math.lgamma(differ + 1) - differ * math.log(2)
  tail = sum(
    math.exp(constant - math.lgamma(k + 1) - math.lgamma(differ - k + 1))
    for k in range(min(only_first, only_second) + 1)
  )
  return min(1.0, 2 * tail)

"""Intervals and tests against published values and counting by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from rnascl_jax.reporting import statistics


@pytest.mark.parametrize(
  ('correct', 'images', 'published'),
  [
    (81, 263, (0.2553, 0.3662)),
    (15, 148, (0.0624, 0.1605)),
    (0, 20, (0.0, 0.1611)),
    (20, 20, (0.8389, 1.0)),
  ],
)
def test_wilson_interval_is_the_published_one(correct, images, published):
  # Newcombe, Statistics in Medicine 1998, 857-872, table I, method 3.
  interval = statistics.wilson(correct, images)
  np.testing.assert_allclose(interval, published, atol=5e-5)


@pytest.mark.parametrize('pair', [(0, 0), (3, 3), (12, 3), (0, 40), (700, 650)])
def test_mcnemar_is_the_exact_sign_test(pair):
  tail = sum(math.comb(sum(pair), k) for k in range(min(pair) + 1))
  expected = min(1.0, 2 * tail / 2 ** sum(pair))
  np.testing.assert_allclose(statistics.mcnemar(*pair), expected, rtol=1e-9)


def test_newcombe_interval_is_the_published_one():
  # Newcombe, Statistics in Medicine 1998, table II (a): 56/70 against 48/80.
  low, high = statistics.newcombe(56, 70, 48, 80)
  np.testing.assert_allclose([low, high], [0.0524, 0.3339], atol=5e-5)


@pytest.mark.parametrize(
  ('table', 'published'),
  [
    # Newcombe, Statistics in Medicine 1998, 2635-2650, table II, method 10.
    ((36, 12, 2, 0), (0.0569, 0.3404)),
    # Fagerland, Lydersen and Laake, Statistics in Medicine 2014, section 9.
    ((1, 1, 7, 12), (-0.507, -0.026)),
  ],
)
def test_newcombe_interval_of_pairs_is_the_published_one(table, published):
  both, first, second, _ = table
  images = sum(table)
  interval = statistics.newcombe(
    both + first, images, both + second, images, statistics.phi(*table)
  )
  np.testing.assert_allclose(interval, published, atol=5e-4)


def test_phi_is_the_correlation_of_large_tables():
  table = 4000, 1000, 500, 2500
  ones = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], table, axis=0)
  expected = np.corrcoef(ones.T)[0, 1]
  np.testing.assert_allclose(statistics.phi(*table), expected, atol=5e-4)
  assert statistics.phi(5, 5, 0, 0) == 0


@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('size', [2, 7, 49])
def test_rank_correlation_is_that_of_scipy(size, ties):
  random = np.random.default_rng(size)
  first, second = random.random((2, size))
  if ties:  # As counts of students: most of them 0.
    second = np.floor(3 * second) * (second > 0.6)
    second[-1] = 7
    first = np.round(first, 1)
    first[0], first[-1] = 2, 3
  correlation = statistics.rank_correlation(first, second)
  expected = stats.spearmanr(first, second).statistic
  np.testing.assert_allclose(correlation.rho, expected, atol=1e-12)


def test_the_p_value_is_the_share_of_orders_that_do_as_much():
  first, second = [0.1, 0.5, 0.2, 0.9, 0.7, 0.3], [4, 1, 5, 0, 0, 0]
  correlation = statistics.rank_correlation(first, second)
  every = [
    stats.spearmanr(first, order).statistic
    for order in itertools.permutations(second)
  ]
  exact = np.mean(np.abs(every) >= abs(correlation.rho) - 1e-9)
  assert 0.01 < exact < 0.5
  assert abs(correlation.p_value - exact) < 4 * np.sqrt(exact / 10_000)
  assert correlation == statistics.rank_correlation(first, second)


def test_the_p_value_is_never_zero():
  correlation = statistics.rank_correlation(range(40), range(40))
  assert correlation == (1.0, 1 / 10_001)
  assert statistics.rank_correlation([1, 2], [2, 1]) == pytest.approx((-1, 1))


@pytest.mark.parametrize(
  'pair',
  [([1, 2, 3], [4, 4, 4]), ([0.5, 0.5], [1, 2]), ([1, np.nan], [1, 2])],
)
def test_without_a_difference_there_is_no_correlation(pair):
  assert statistics.rank_correlation(*pair) is None


def test_values_without_a_partner_are_refused():
  with pytest.raises(ValueError, match=r'shapes \(3,\) and \(2,\)'):
    statistics.rank_correlation([1, 2, 3], [1, 2])

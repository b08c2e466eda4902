"""The statistics of Gumbel-Softmax, against closed forms and quadrature."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import test_util

from rnascl_jax.config import resolve, settings
from rnascl_jax.runtime import parallel
from rnascl_jax.search import arch_params, gumbel, spaces
from rnascl_jax.stages import searches
from rnascl_jax.training import search_step

LOGITS = (1.0, 0.0, -1.0, 0.5)
DRAWS = 40_000


def draws(logits, **options):
  """Independent draws, [DRAWS, N]."""
  keys = jax.random.split(jax.random.key(3), DRAWS)
  draw = jax.vmap(
    lambda k: gumbel.gumbel_softmax(k, jnp.array(logits), **options)
  )
  return np.asarray(jax.jit(draw)(keys))


def chi_square(found):
  """Pearson's statistic of the arg maxes against softmax(LOGITS)."""
  counts = np.bincount(found.argmax(-1), minlength=len(LOGITS))
  expected = np.exp(LOGITS) / np.exp(LOGITS).sum() * DRAWS
  return np.sum((counts - expected) ** 2 / expected)


@pytest.mark.parametrize('temperature', (0.05, 1.0, 5.0))
def test_arg_max_is_a_sample_of_the_softmax_at_every_temperature(temperature):
  # Three degrees of freedom: 16.3 is exceeded once in a thousand.
  assert chi_square(draws(LOGITS, temperature=temperature)) < 16.3


def test_arg_max_under_normal_noise_is_no_sample_of_the_softmax():
  found = draws(LOGITS, temperature=1.0, noise=jax.random.normal)
  assert chi_square(found) > 1000


@pytest.mark.parametrize('temperature', (0.3, 1.0, 4.0))
@pytest.mark.parametrize('difference', (0.0, 1.5))
def test_mean_of_two_choices_is_that_of_the_logistic(temperature, difference):
  # The difference of two Gumbel variables is logistic: log(u / (1 - u)).
  u = (np.arange(100_000) + 0.5) / 100_000
  logistic = np.log(u) - np.log1p(-u)
  exact = np.mean(1 / (1 + np.exp(-(difference + logistic) / temperature)))

  found = draws((difference, 0.0), temperature=temperature)[:, 0]

  assert abs(found.mean() - exact) < 4 * found.std() / np.sqrt(DRAWS)


@pytest.mark.parametrize('temperature', (0.05, 1.0, 100.0))
def test_draws_are_non_negative_and_sum_to_one(temperature):
  found = draws(LOGITS, temperature=temperature)

  assert found.min() >= 0
  np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)


def test_draws_tend_to_one_hot_as_the_temperature_falls():
  cold = draws(LOGITS, temperature=1e-6)

  hard = draws(LOGITS, temperature=1.0, hard=True)

  # Rounding of the perturbed logits decides near ties: a few in a million.
  assert np.mean(np.abs(cold - hard).max(-1) > 1e-3) < 1e-4


def test_draws_tend_to_uniform_as_the_temperature_rises():
  hot = draws(LOGITS, temperature=1e6)

  np.testing.assert_allclose(hot, 0.25, atol=1e-5)


def test_batched_logits_draw_over_the_last_axis_independently():
  found = gumbel.gumbel_softmax(
    jax.random.key(0), jnp.zeros((2, 5, 3)), temperature=1.0
  )

  np.testing.assert_allclose(found.sum(-1), np.ones((2, 5)), atol=1e-6)
  assert len(np.unique(np.asarray(found).round(6))) == found.size


def test_the_same_key_gives_the_same_draw():
  def draw(seed):
    key = jax.random.key(seed)
    return np.asarray(gumbel.gumbel_softmax(key, jnp.zeros(4), temperature=1.0))

  np.testing.assert_array_equal(draw(1), draw(1))
  assert np.abs(draw(1) - draw(2)).max() > 0.01


@pytest.mark.parametrize('temperature', (0.05, 1.0, 5.0))
def test_straight_through_draws_are_exactly_one_hot(temperature):
  hard = draws(LOGITS, temperature=temperature, hard=True)

  assert set(np.unique(hard)) == {0.0, 1.0}
  np.testing.assert_array_equal(hard.sum(-1), 1)
  soft = draws(LOGITS, temperature=temperature)
  np.testing.assert_array_equal(hard.argmax(-1), soft.argmax(-1))


def test_straight_through_has_the_gradient_of_the_soft_draw():
  weights = jnp.array([3.0, -1.0, 2.0, 0.5])

  def value(logits, hard):
    draw = gumbel.gumbel_softmax(
      jax.random.key(1), logits, temperature=0.7, hard=hard
    )
    return draw @ weights

  soft = jax.jit(jax.grad(value), static_argnums=1)(jnp.array(LOGITS), False)
  hard = jax.jit(jax.grad(value), static_argnums=1)(jnp.array(LOGITS), True)

  assert np.abs(soft).max() > 0.01
  np.testing.assert_allclose(hard, soft, rtol=1e-6)


def test_gradients_of_a_draw_agree_with_finite_differences():
  with jax.enable_x64(True):
    logits = jnp.array(LOGITS, jnp.float64)

    def draw(logits, temperature):
      key = jax.random.key(5)
      return gumbel.gumbel_softmax(key, logits, temperature=temperature)

    test_util.check_grads(
      jax.jit(draw), (logits, jnp.float64(0.8)), 1, ['rev'], 1e-7, 1e-7, 1e-6
    )


def test_cold_draws_of_large_logits_are_finite_with_finite_gradients():
  logits = jnp.array([1e4, -1e4, 9.9e3, 0.0])

  def draw(logits):
    return gumbel.gumbel_softmax(jax.random.key(0), logits, temperature=0.05)

  value, gradient = jax.jit(lambda v: (draw(v), jax.jacrev(draw)(v)))(logits)

  assert value.dtype == gradient.dtype == jnp.float32
  np.testing.assert_array_equal(value, [1, 0, 0, 0])
  assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
  'epoch, expected',
  # 5 exp(-0.045 epoch) of section 4.1.
  ((0, 5.0), (10, 3.18814), (49.5, 0.538988), (99, 0.0581015)),
)
def test_temperature_follows_the_schedule_of_the_paper(epoch, expected):
  found = gumbel.temperature(epoch)

  assert found.dtype == jnp.float32
  assert found.shape == ()
  np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_temperature_takes_traced_epochs_and_other_schedules():
  found = jax.jit(lambda e: gumbel.temperature(e, initial=2.0, decay=0.5))(
    jnp.int32(4)
  )

  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, 2 * np.exp(-2), rtol=1e-6)


# Noise of every draw, one number for each choice; and steps of an epoch.
NOISE = np.array([0.3, -0.7, 1.9, 0.1])
STEPS = 5


@pytest.fixture
def searched(digits) -> search_step.Search:
  """A search of one block as configs have it by default, but for the noise."""
  blocks = spaces.from_stages([1], [(8, 6, 4, 2)], [2], stem_features=4)
  found = resolve.search(settings.SearchSettings(), digits, blocks, STEPS)
  return dataclasses.replace(
    found, noise=lambda key, shape, dtype: jnp.broadcast_to(NOISE, shape)
  )


def _arch() -> arch_params.ArchParams:
  logits = jnp.array(LOGITS)
  return arch_params.ArchParams((logits,), jnp.stack([logits, -logits]))


def _gumbel_softmax(logits, temperature):
  """An own one, in float64."""
  powers = np.exp((np.asarray(logits, np.float64) + NOISE) / temperature)
  return powers / powers.sum()


@pytest.mark.parametrize(
  'step, epoch', [(0, 0), (STEPS - 1, 0), (STEPS, 1), (2 * STEPS, 2)]
)
def test_a_search_draws_at_the_temperature_of_its_epoch(searched, step, epoch):
  draw = jax.jit(searched.draw)(jnp.uint32(7), jnp.int32(step), _arch())
  # 5 exp(-0.045 epoch) of section 4.1: an epoch less or more is 4.6 % beside.
  temperature = 5 * np.exp(-0.045 * epoch)
  expected = _gumbel_softmax(LOGITS, temperature)
  np.testing.assert_allclose(draw.channels[0], expected, rtol=1e-5)
  for row, sign in zip(draw.tutors, (1, -1), strict=True):
    expected = _gumbel_softmax(sign * np.array(LOGITS), temperature)
    np.testing.assert_allclose(row, expected, rtol=1e-5)


def test_the_logged_temperature_is_that_of_the_draws(searched, tmp_path):
  state = types.SimpleNamespace(
    arch=parallel.replicate(_arch(), parallel.devices(1))
  )
  with searches._History(tmp_path / 'arch.jsonl', searched, 2) as history:
    for done in (1, 2, 3):
      logged = history.annotate(state, done)['temperature']
      for step in ((done - 1) * STEPS, done * STEPS - 1):
        draw = searched.draw(jnp.uint32(7), jnp.int32(step), _arch())
        expected = _gumbel_softmax(LOGITS, logged)
        np.testing.assert_allclose(draw.channels[0], expected, rtol=1e-5)


def test_entropy_goes_from_one_for_uniform_to_zero_for_decided_logits():
  logits = jnp.array([[7.0, 7.0], [200.0, 0.0], [np.log(3.0), 0.0]])

  found = gumbel.entropy(logits)

  # H(3/4, 1/4) = 0.562335 nats.
  expected = [1, 0, 0.562335 / np.log(2)]
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_entropy_of_a_single_choice_is_zero():
  np.testing.assert_array_equal(gumbel.entropy(jnp.ones((3, 1))), np.zeros(3))


def test_gradient_of_the_entropy_agrees_with_finite_differences():
  with jax.enable_x64(True):
    logits = jnp.array(LOGITS, jnp.float64)
    test_util.check_grads(
      jax.jit(gumbel.entropy), (logits,), 1, ['rev'], 1e-7, 1e-7, 1e-6
    )

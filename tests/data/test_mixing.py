"""Mixup and CutMix: what becomes of pixels and of labels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax.data import mixing

_SIDES = (32, 48)


@functools.cache
def _drawn(way: str, alpha: float):
  """2000 mixtures of a black and a white image, and the shares of black."""
  keys = jax.random.split(jax.random.key(0), 2000)
  black = jnp.zeros((*_SIDES, 1))
  mix = functools.partial(getattr(mixing, way), alpha=alpha)
  drawn = jax.jit(jax.vmap(mix, (0, None, None)))(keys, black, black + 1)
  images, shares = map(np.asarray, drawn)
  return images[..., 0].astype(np.float64), shares.astype(np.float64)


@pytest.mark.parametrize('alpha', [0.2, 1.0])
def test_mixup_is_a_weighted_mean_with_a_weight_from_the_beta_distribution(
  alpha,
):
  images, shares = _drawn('mixup', alpha)
  np.testing.assert_allclose(images.max((1, 2)), 1 - shares, rtol=1e-6)
  np.testing.assert_allclose(images.min((1, 2)), 1 - shares, rtol=1e-6)
  assert shares.mean() == pytest.approx(0.5, abs=0.03)
  assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.06)


def _published_areas(alpha: float) -> np.ndarray:
  """Areas of 20000 rectangles as the code of Yun et al. draws them."""
  random = np.random.default_rng(0)
  root = np.sqrt(1 - random.beta(alpha, alpha, 20000))
  lengths = []
  for side in _SIDES:
    half = (side * root).astype(int) // 2
    centre = random.integers(side, size=20000)
    lengths.append(
      np.clip(centre + half, 0, side) - np.clip(centre - half, 0, side)
    )
  return np.prod(lengths, axis=0) / np.prod(_SIDES)


def test_cutmix_puts_in_a_rectangle_of_the_published_sizes_and_counts_it():
  images, shares = _drawn('cutmix', 1.0)
  np.testing.assert_allclose(images.mean((1, 2)), 1 - shares, atol=1e-7)
  inside = images == 1
  rows, columns = inside.any(2), inside.any(1)
  np.testing.assert_array_equal(inside, rows[:, :, None] & columns[:, None, :])
  for side in (rows, columns):  # In one piece.
    starts = np.diff(side.astype(int), axis=1, prepend=0) == 1
    assert (starts.sum(1) <= 1).all()
  expected = _published_areas(1.0)
  shown = np.linspace(0.1, 0.9, 9)
  quantiles = np.quantile(1 - shares, shown), np.quantile(expected, shown)
  np.testing.assert_allclose(*quantiles, atol=0.03)


@functools.cache
def _mixed(**options):
  """1000 images, each of its own brightness, and their labels' shares."""
  values = np.random.default_rng(0).uniform(size=1000).astype(np.float32)
  labels = np.arange(1000) % 3
  images = np.broadcast_to(values[:, None, None, None], (1000, 8, 8, 1))
  how = mixing.Mixing(3, **options)
  keys = jax.random.split(jax.random.key(1), 1000)
  mix = jax.jit(functools.partial(mixing.mix, how))
  mixed, shares = mix(keys, jnp.array(images), jnp.array(labels))
  return values, labels, np.asarray(mixed)[..., 0], np.asarray(shares)


def test_labels_are_mixed_as_the_pixels_of_two_neighbours_are():
  values, labels, images, shares = _mixed(mixup=1.0, cutmix=1.0)
  partners = np.arange(1000) ^ 1
  # What the mean says of the share, in float64.
  own, other = values.astype(np.float64), values[partners].astype(np.float64)
  share = (images.mean((1, 2), dtype=np.float64) - other) / (own - other)
  expected = share[:, None] * np.eye(3)[labels]
  expected += (1 - share)[:, None] * np.eye(3)[labels[partners]]
  clear = np.abs(own - other) > 0.01
  np.testing.assert_allclose(shares[clear], expected[clear], atol=1e-4)
  # Every image takes one way or the other: one brightness, or two.
  alike = np.ptp(images, axis=(1, 2)) == 0
  assert 0.4 < alike.mean() < 0.6
  assert len(np.unique(np.round(share[clear], 5))) > 300


def test_as_many_images_are_mixed_as_asked_for():
  values, labels, images, shares = _mixed(mixup=1.0, probability=0.25)
  same = (images == values[:, None, None]).all((1, 2))
  assert abs(same.mean() - 0.75) < 0.05
  np.testing.assert_array_equal(shares[same], np.eye(3)[labels[same]])


def test_an_image_without_a_partner_is_refused():
  keys = jax.random.split(jax.random.key(0), 3)
  images = jnp.zeros((3, 4, 4, 1))
  with pytest.raises(ValueError, match='3 images cannot be mixed two by two'):
    mixing.mix(mixing.Mixing(3, mixup=1.0), keys, images, jnp.zeros(3, int))

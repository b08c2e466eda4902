"""The L1 ball: its projection, and directions with few entries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax.attacks import l1, norms, prediction

OPTIMIZED = True

COUNT, SHAPE, SIZE = 60, (4, 4, 3), 48
both_types = pytest.mark.parametrize('dtype', [np.float32, np.float64])


def _cases():
  """Images, points and radii: inside and far outside of ball and [0, 1]."""
  rng = np.random.default_rng(0)
  images = rng.uniform(size=(COUNT, SIZE))
  at_ends = rng.uniform(size=images.shape) < np.arange(COUNT)[:, None] % 3 / 4
  images = np.where(at_ends, images.round(), images)
  scales = 10.0 ** rng.uniform(-2, 0, size=(COUNT, 1))
  moves = rng.normal(size=images.shape) * scales
  moves[::2] *= rng.uniform(size=(COUNT // 2, SIZE)) < 0.1
  return images, images + moves, rng.choice([0.0, 0.1, 1.0, 5.0], size=COUNT)


@functools.cache
def _projected(dtype):
  images, points, radii = (x.astype(dtype) for x in _cases())
  with jax.enable_x64(dtype == np.float64):
    result = jax.jit(jax.vmap(norms.L1.project))(
      images.reshape(-1, *SHAPE), points.reshape(-1, *SHAPE), radii
    )
  assert result.dtype == dtype
  return np.asarray(result).reshape(-1, SIZE)


def test_projections_are_the_official_ones(monkeypatch):
  torch = pytest.importorskip('torch')
  official = pytest.importorskip('pyautoattack.autopgd_base')
  # It casts to float32 whatever it is given.
  monkeypatch.setattr(torch.Tensor, 'float', torch.Tensor.double)
  images, points, radii = (torch.tensor(x) for x in _cases())
  moves = points - images
  expected = images + moves
  for i in range(COUNT):
    row = slice(i, i + 1)
    expected[row] += official.L1_projection(
      images[row], moves[row], float(radii[i])
    )

  np.testing.assert_allclose(
    _projected(np.float64), expected.numpy(), rtol=0, atol=1e-7
  )


def test_projections_are_the_nearest_points_by_bisection():
  """The nearest point has one multiplier, a root of a falling function."""
  optimize = pytest.importorskip('scipy.optimize')
  result = _projected(np.float64)
  shortened = 0
  for image, point, radius, got in zip(*_cases(), result, strict=True):
    size = np.abs(point - image)
    reach = np.where(point > image, 1 - image, image)

    def excess(shift, size=size, reach=reach, radius=radius):
      return np.clip(size - shift, 0, reach).sum() - radius

    shift = 0.0
    if excess(0.0) > 0:
      shortened += 1
      shift = optimize.brentq(excess, 0, size.max(), xtol=1e-15, rtol=1e-15)
    move = np.sign(point - image) * np.clip(size - shift, 0, reach)
    np.testing.assert_allclose(got, image + move, rtol=0, atol=1e-12)
  assert 20 < shortened < COUNT


def test_no_point_of_the_ball_is_nearer():
  """By a general solver, which knows nothing of multipliers."""
  optimize = pytest.importorskip('scipy.optimize')
  images, points, radii = _cases()
  for i in np.flatnonzero(radii == 1.0)[:3]:
    image, point = images[i], points[i]
    # Variables are the parts of the move up and down.
    move = point - image

    def distance(parts, move=move):
      rest = parts[:SIZE] - parts[SIZE:] - move
      return rest @ rest, 2 * np.concatenate([rest, -rest])

    best = optimize.minimize(
      distance,
      np.zeros(2 * SIZE),
      jac=True,
      method='SLSQP',
      options={'ftol': 1e-12},
      bounds=[(0, x) for x in np.concatenate([1 - image, image])],
      constraints={
        'type': 'ineq',
        'fun': lambda parts: 1 - parts.sum(),
        'jac': lambda parts: -np.ones(2 * SIZE),
      },
    )
    ours = ((_projected(np.float64)[i] - point) ** 2).sum()
    assert best.success
    assert ours == pytest.approx(best.fun, rel=1e-5)
    assert ours <= best.fun + 1e-9


@both_types
def test_projections_are_in_the_ball_and_in_the_unit_cube(dtype):
  images, points, radii = (x.astype(dtype) for x in _cases())
  result = _projected(dtype)

  assert result.min() >= 0
  assert result.max() <= 1
  lengths = np.abs(result.astype(float) - images).sum(axis=1)
  tolerance = 1e-12
  if dtype == np.float32:
    tolerance = prediction.tolerance(norms.L1, SIZE)
  assert (lengths <= radii + tolerance).all()
  inside = (np.abs(points - images).sum(1) <= radii) & (
    (points >= 0) & (points <= 1)
  ).all(1)
  assert inside.any()
  np.testing.assert_array_equal(
    result[inside], (images + (points - images))[inside]
  )


def test_what_float32_rounds_is_within_the_tolerance_and_no_more():
  """An image of 3 x 64 x 64 on the ball's surface, and one beyond it."""
  rng = np.random.default_rng(0)
  image = rng.uniform(size=(64, 64, 3)).astype(np.float32)
  far = image + rng.normal(size=image.shape).astype(np.float32)
  near = np.asarray(jax.jit(norms.L1.project)(image, far, 600.0))
  length = np.abs(near.astype(float) - image).sum()

  def in_ball(radius):
    return prediction.in_ball(
      near[None], image[None], epsilon=radius, norm=norms.L1
    )[0]

  assert in_ball(600.0)
  assert length == pytest.approx(600, abs=1e-3)
  assert not in_ball(600 - 2e-3)
  assert prediction.tolerance(norms.L2, image.size) == prediction.TOLERANCE


@both_types
def test_thresholds_are_those_of_sorting(dtype):
  rng = np.random.default_rng(1)
  values = np.abs(rng.normal(size=SIZE)).astype(dtype)
  values[:9], values[10:20], values[20] = 0, 0.5, np.finfo(dtype).tiny
  with jax.enable_x64(dtype == np.float64):

    def reached_by(count):
      return l1.threshold(jnp.asarray(values), lambda mask: mask.sum() >= count)

    result = np.asarray(jax.vmap(reached_by)(jnp.arange(SIZE + 2)))

  assert np.isnan(result[0])
  np.testing.assert_array_equal(result[1:-1], np.sort(values)[::-1])
  assert result[-1] == 0


@pytest.mark.parametrize('share', [0.0, 0.01, 0.2, 1.0])
def test_a_share_of_the_largest_entries_moves(share):
  gradient = np.random.default_rng(2).normal(size=SHAPE).astype(np.float32)
  direction = np.asarray(l1.sparse_direction(gradient, share)).ravel()
  count = max(int(np.ceil(share * SIZE)), 1)
  largest = np.argsort(-np.abs(gradient.ravel()))[:count]

  expected = np.zeros(SIZE)
  expected[largest] = np.sign(gradient.ravel()[largest]) / count
  np.testing.assert_allclose(direction, expected, rtol=1e-6)


def test_nan_and_zero_gradients_move_nothing():
  gradient = jnp.full((2, 2, 1), jnp.nan)

  assert (norms.L1.direction(gradient) == 0).all()
  assert (norms.L1.direction(jnp.zeros((2, 2, 1))) == 0).all()
  mixed = norms.L1.direction(gradient.at[0].set(-2.0))
  np.testing.assert_array_equal(mixed.ravel(), [-0.5, -0.5, 0, 0])


def test_the_direction_is_of_steepest_ascent_in_l1():
  """No direction of length 1 gains more than the largest entry."""
  gradient = np.random.default_rng(3).normal(size=SHAPE)
  direction = norms.L1.direction(jnp.asarray(gradient, jnp.float32))

  assert float(norms.L1.length(direction)) == 1
  gain = float((direction * gradient).sum())
  assert gain == pytest.approx(np.abs(gradient).max())

"""Moves onto a hyperplane: the official projections, and what defines them."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax.attacks import hyperplane, norms

OPTIMIZED = True

COUNT, SHAPE = 40, (4, 4, 3)
SIZE = 48
GEOMETRIES = {
  'linf': hyperplane.LINF,
  'l2': hyperplane.L2,
  'l1': hyperplane.L1,
}

all_norms = pytest.mark.parametrize('name', GEOMETRIES)
both_types = pytest.mark.parametrize('dtype', [np.float32, np.float64])


@functools.cache
def _move(name):
  """Compiled, for points, normals and values of a batch."""
  return jax.jit(
    jax.vmap(functools.partial(hyperplane.move, geometry=GEOMETRIES[name]))
  )


def _moves(name, points, normals, values, dtype=np.float32):
  """[B, SIZE] -> [B, SIZE]."""
  with jax.enable_x64(dtype == np.float64):
    moves = _move(name)(
      np.asarray(points, dtype).reshape(-1, *SHAPE),
      np.asarray(normals, dtype).reshape(-1, *SHAPE),
      np.asarray(values, dtype),
    )
  assert moves.dtype == dtype
  return np.asarray(moves).reshape(-1, SIZE)


def _cases(kind):
  """Points, normals and offsets b of planes, in float64."""
  rng = np.random.default_rng(0)
  points = rng.uniform(size=(COUNT, SIZE))
  normals = rng.normal(size=(COUNT, SIZE))
  if kind == 'zero weights':
    normals[rng.uniform(size=normals.shape) < 0.5] = 0
  if kind == 'corners':
    points = np.where(
      rng.uniform(size=points.shape) < 0.7, points.round(), points
    )
  if kind == 'scales':
    normals *= 10 ** rng.uniform(-3, 3, size=normals.shape)
  # From planes through the point to planes that only a corner touches.
  ends = np.where(normals > 0, 0, 1) - points
  down = np.sum(normals * ends, axis=1)  # Most negative change.
  up = np.sum(normals * (-points + np.where(normals > 0, 1, 0)), axis=1)
  share = np.linspace(0, 0.98, COUNT) * (-1) ** np.arange(COUNT)
  if kind == 'infeasible':
    share = np.sign(share + 1e-9) * rng.uniform(1.1, 3, size=COUNT)
  change = np.where(share > 0, share * down, -share * up)
  return points, normals, np.sum(normals * points, axis=1) + change


kinds = pytest.mark.parametrize(
  'kind', ['random', 'zero weights', 'corners', 'scales', 'infeasible']
)


@kinds
@all_norms
@both_types
def test_moves_are_the_official_projections(kind, name, dtype):
  torch = pytest.importorskip('torch')
  projections = pytest.importorskip('pyautoattack.fab_projections')
  points, normals, offsets = _cases(kind)
  expected = getattr(projections, f'projection_{name}')(
    *(torch.tensor(x) for x in (points, normals, offsets))
  ).numpy()
  values = np.sum(normals * points, axis=1) - offsets
  ours = _moves(name, points, normals, values, dtype)
  # Also ours in float32, against theirs in float64: in float32 theirs is off
  # by more than 1e-5 where scales differ, in L2. In L1 one pixel has all of the
  # error in the plane.
  tolerance = {np.float64: 1e-10, np.float32: 1e-5}[dtype]
  if name == 'l1' and dtype == np.float32:
    tolerance = 1e-4
  np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance)
  assert np.abs(ours).max() > 0.05


@kinds
@all_norms
def test_moves_stay_in_the_box_and_reach_the_plane_if_they_can(kind, name):
  points, normals, offsets = _cases(kind)
  values = np.sum(normals * points, axis=1) - offsets
  moved = points + _moves(name, points, normals, values, np.float64)
  assert moved.min() >= 0
  assert moved.max() <= 1
  missed = np.sum(normals * moved, axis=1) - offsets
  if kind == 'infeasible':
    sides = normals * np.sign(values)[:, None]
    np.testing.assert_allclose(moved, sides < 0, atol=1e-12)
    assert np.all(missed * values > 0)
  else:
    assert np.abs(missed / np.abs(normals).sum(axis=1)).max() < 1e-12


@all_norms
def test_no_other_move_onto_the_plane_is_shorter(name):
  optimize = pytest.importorskip('scipy.optimize')
  points, normals, offsets = _cases('corners')
  values = np.sum(normals * points, axis=1) - offsets
  moves = _moves(name, points, normals, values, np.float64)
  for i in range(0, COUNT, 8):
    if name == 'linf':
      # Variables d and the length t: minimise t with -t <= d <= t.
      eye, ones = np.eye(SIZE), np.ones((SIZE, 1))
      result = optimize.linprog(
        np.append(np.zeros(SIZE), 1),
        A_ub=np.block([[eye, -ones], [-eye, -ones]]),
        b_ub=np.zeros(2 * SIZE),
        A_eq=np.append(normals[i], 0)[None],
        b_eq=[-values[i]],
        bounds=[*zip(-points[i], 1 - points[i], strict=True), (0, None)],
      )
      shortest, length = result.fun, np.abs(moves[i]).max()
    elif name == 'l1':
      # Variables are the parts of d up and down.
      result = optimize.linprog(
        np.ones(2 * SIZE),
        A_eq=np.append(normals[i], -normals[i])[None],
        b_eq=[-values[i]],
        bounds=[(0, x) for x in np.append(1 - points[i], points[i])],
      )
      shortest, length = result.fun, np.abs(moves[i]).sum()
    else:
      result = optimize.minimize(
        lambda d: d @ d,
        np.zeros(SIZE),
        jac=lambda d: 2 * d,
        bounds=list(zip(-points[i], 1 - points[i], strict=True)),
        constraints={
          'type': 'eq',
          'fun': lambda d, i=i: normals[i] @ d + values[i],
          'jac': lambda d, i=i: normals[i],
        },
        method='SLSQP',
        options={'ftol': 1e-14, 'maxiter': 500},
      )
      shortest, length = result.fun, moves[i] @ moves[i]
    assert result.success
    assert length == pytest.approx(shortest, rel=1e-7, abs=1e-9)


@all_norms
def test_pixels_that_stop_one_by_one_do_not_end_the_search_early(name):
  # Each of Newton's steps brings only the next of 20 pixels to its end.
  order = np.arange(20)
  reach, weight = np.zeros((2, SIZE))
  reach[:20], weight[:20] = 2.0 ** (order - 20), 3.5**-order
  value = np.sum(weight * reach) - 0.1 * weight[19] * reach[19]
  moves = _moves(name, reach[None], weight[None], value[None], np.float64)[0]
  np.testing.assert_allclose(moves[:19], -reach[:19], rtol=1e-12)
  assert moves[19] == pytest.approx(-0.9 * reach[19], rel=1e-9)


@all_norms
def test_zero_and_infinite_and_nan_inputs_never_give_nan(name):
  points, normals, _ = _cases('random')
  for value in (0.0, 1.0, -1.0, np.inf, -np.inf, np.nan):
    for filling in (0.0, np.nan, np.inf):
      same = np.full_like(normals, filling)
      moves = _moves(name, points, same, np.full(COUNT, value))
      np.testing.assert_array_equal(moves, 0)
      normals[:, ::3] = filling
      moves = _moves(name, points, normals, np.full(COUNT, value))
      assert np.all(np.isfinite(moves))
      np.testing.assert_array_equal(moves[:, ::3], 0)
      assert moves.any() == (value not in (0.0, np.nan) and value == value)


@all_norms
@pytest.mark.parametrize('scale', [1e-30, 1e30])
def test_moves_do_not_depend_on_the_scale_of_the_plane(name, scale):
  points, normals, offsets = _cases('corners')
  values = np.sum(normals * points, axis=1) - offsets
  np.testing.assert_allclose(
    _moves(name, points, normals * scale, values * scale),
    _moves(name, points, normals, values),
    atol=1e-4 if name == 'l1' else 1e-5,
  )


@all_norms
def test_many_moves_at_once_are_those_of_each_alone(name):
  points, normals, offsets = _cases('corners')
  values = np.sum(normals * points, axis=1) - offsets
  together = _moves(name, points, normals, values)
  for i in range(0, COUNT, 5):
    alone = _moves(name, points[[i]], normals[[i]], values[[i]])
    np.testing.assert_allclose(alone[0], together[i], atol=1e-6)


def test_pixels_of_equal_weight_share_the_way_in_l1():
  points = np.full((1, SIZE), 0.5)
  normals = np.zeros((1, SIZE))
  normals[0, :5] = 2, 1, -1, 1, 0.5
  moves = _moves('l1', points, normals, np.array([1.6]))[0]
  np.testing.assert_allclose(moves[:5], [-0.5, -0.2, 0.2, -0.2, 0], atol=1e-6)


@pytest.mark.parametrize('count', [1, 15, 16, 17, 50])
def test_nearest_plane_is_the_first_of_the_smallest_distance(count):
  distances = np.random.default_rng(count).integers(5, 9, size=count)
  distances = jnp.asarray(distances, jnp.float32)

  def plane_of(index):
    distance = distances[index]
    return hyperplane.Plane(jnp.full(SHAPE, index), -distance, distance)

  plane = jax.jit(
    lambda: hyperplane.nearest(plane_of, jnp.arange(count)[::-1])
  )()
  expected = count - 1 - np.argmin(distances[::-1])
  assert np.all(plane.normal == expected)
  assert plane.distance == -plane.value == distances.min()


def test_geometry_belongs_to_the_length_and_not_to_the_noise():
  noisy = norms.L2._replace(noise=lambda key, image: image)
  assert hyperplane.geometry_of(noisy) is hyperplane.L2
  assert hyperplane.geometry_of(norms.LINF) is hyperplane.LINF
  other = types.SimpleNamespace(name='L1', length=jnp.sum)
  with pytest.raises(ValueError, match='not in L1'):
    hyperplane.geometry_of(other)

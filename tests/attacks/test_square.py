"""The Square attack: its search, and pyautoattack's with the same draws.

With the same random numbers, images and counts of queries must be those of the
official code: exactly in L-infinity, to 1e-10 in L2 (float32: 1e-6), and to
1e-5 in L1. Exactly
is possible only where x +- epsilon is: elsewhere a square whose pixels are
there already moves some of them by a rounding error, and whether this lowers
the margin is decided by the rounding of the convolutions. So the images have 8
bits, and epsilon is a multiple of 1 / 256 (in one test it is not).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import attacks, losses
from rnascl_jax.attacks import (
  ensembles,
  norms,
  square,
  square_l1,
  square_l2,
  stepwise,
)

COUNT, SIDE, CLASSES, STEPS = 12, 16, 10, 500
LINF, L2, L1 = norms.LINF, norms.L2, norms.L1
EPSILONS = {LINF: 4 / 256, L2: 0.25, L1: 1.5}

both_norms = pytest.mark.parametrize('norm', [LINF, L2], ids=lambda n: n.name)


def _attack(norm, **options):
  return ensembles.square(norm, **options).attack


@functools.cache
def _weights():
  """Two convolutions and a linear head."""
  rng = np.random.default_rng(0)
  kernels = [
    rng.normal(size=(3, 3, inputs, features)) * (2 / inputs / 9) ** 0.5
    for inputs, features in ((3, 8), (8, 12))
  ]
  return kernels, rng.normal(size=(12, CLASSES))


def _model(images):
  """Images [B, H, W, C] -> logits [B, K], in the images' type."""
  kernels, head = jax.tree.map(
    lambda x: jnp.asarray(x, images.dtype), _weights()
  )
  x = images
  for kernel in kernels:
    x = jax.lax.conv_general_dilated(
      x, kernel, (2, 2), 'VALID', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )
    x = jax.nn.relu(x)
  return x.mean(axis=(1, 2)) @ head


@functools.cache
def _images(count=COUNT, side=SIDE):
  """Smooth random images; the first is black."""
  rng = np.random.default_rng(1)
  coarse = rng.uniform(size=(count, side // 4, side // 4, 3))
  images = coarse.repeat(4, axis=1).repeat(4, axis=2)
  images = 0.8 * images + 0.2 * rng.uniform(size=images.shape)
  images[0] = 0
  return np.floor(255 * images) / 256


def _labels(images):
  """What the model says."""
  with jax.enable_x64(True):
    return np.asarray(_model(jnp.asarray(images, float)).argmax(axis=-1))


def _search(attack, logits_fn, keys, images, labels, epsilon):
  """All steps on all images.

  Returns:
    The last points, and the losses [B, num_steps + 1] after every query.
  """
  epsilon = np.asarray(epsilon, images.dtype)
  points, trace = _compiled_search(
    attack, logits_fn, keys, images, np.asarray(labels), epsilon
  )
  return jax.tree.map(np.asarray, points), np.asarray(trace)


@functools.partial(jax.jit, static_argnums=(0, 1))
@functools.partial(jax.vmap, in_axes=(None, None, 0, 0, 0, None))
def _compiled_search(attack, logits_fn, key, image, label, epsilon):
  inputs = stepwise.AttackInput(key, image, label, epsilon)

  def step(state, index):
    state = attack.step(logits_fn, inputs, state, index)
    return state, state.loss

  first = attack.init(logits_fn, inputs, 0)
  state, rest = jax.lax.scan(step, first, jnp.arange(attack.num_steps))
  return attack.candidate(inputs, state), jnp.append(first.loss, rest)


def _num_queries(trace):
  """[B]: the first query, and one for each step of a margin above 0."""
  return 1 + (trace[:, :-1] < 0).sum(axis=-1)


def _image_keys(count):
  return attacks.image_keys(jax.random.key(0), jnp.arange(count))


def _trial_keys(keys, trial):
  """What a call draws from."""
  return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, trial)


# The official code.


@pytest.fixture
def reference():
  """Its class; its random numbers and buffers have the default type."""
  torch = pytest.importorskip('torch')
  module = pytest.importorskip('pyautoattack.square')
  dtype, num_threads = torch.get_default_dtype(), torch.get_num_threads()
  torch.set_num_threads(1)  # More only wait for each other: images are tiny.
  yield module.SquareAttack
  torch.set_default_dtype(dtype)
  torch.set_num_threads(num_threads)


def _to_torch(images):
  import torch

  # Its L2 norm takes contiguous images only.
  return torch.tensor(np.ascontiguousarray(np.moveaxis(images, -1, 1)))


def _torch_model(images):
  """Images [B, C, H, W] -> logits [B, K], in the images' type."""
  import torch

  kernels, head = _weights()
  x = images
  for kernel in kernels:
    kernel = torch.tensor(kernel.transpose(3, 2, 0, 1), dtype=images.dtype)
    x = torch.relu(torch.nn.functional.conv2d(x, kernel, stride=2))
  return x.mean(dim=(2, 3)) @ torch.tensor(head, dtype=images.dtype)


def _reference_attack(reference, norm, epsilon, images, labels):
  """Its object, ready to attack, and what it attacks."""
  import torch

  attack = reference(
    _torch_model,
    norm={LINF: 'Linf', L2: 'L2', L1: 'L1'}[norm],
    n_queries=STEPS,
    eps=epsilon,
    resc_schedule=False,
  )
  x = _to_torch(images)
  attack.init_hyperparam(x)
  return attack, (x, torch.tensor(labels).long())


class Recorded(NamedTuple):
  """Random numbers of all steps, the same for all images, and of the start."""

  places: np.ndarray  # [N, 2], or [N, rows or columns, windows]
  turned: np.ndarray | None  # [N]
  signs: np.ndarray  # [N, C]
  first_turned: np.ndarray | None  # [5, 5]
  first_signs: np.ndarray  # [B, 1, W, C], or [B, 5, 5, C]

  @classmethod
  def of(cls, norm):
    # With this seed, margins that are compared differ by more than 2e-6 (or are
    # of the same image), so that float32 decides as float64.
    rng = np.random.default_rng(8)
    places, turned, first_turned = rng.uniform(size=(STEPS, 2)), None, None
    shape = (COUNT, 1, SIDE, 3)
    if norm is not LINF:
      places = rng.uniform(size=(STEPS, 2, 2))
      turned = rng.uniform(size=STEPS) > 0.5
      first_turned = rng.uniform(size=(5, 5)) > 0.5
      shape = (COUNT, 5, 5, 3)
    signs, first_signs = (
      rng.choice([-1, 1], size=size) for size in ((STEPS, 3), shape)
    )
    return cls(places, turned, signs, first_turned, first_signs)


@functools.cache
def _injected(norm):
  """Our attack with these random numbers; an image's key is its index."""
  recorded = Recorded.of(norm)

  def draw(key, index, channels):
    del key, channels
    first, second = jnp.asarray(recorded.places)[index]
    signs = jnp.asarray(recorded.signs)[index]
    if norm is LINF:
      return square.SquareDraw(first, second, signs)
    turned = jnp.asarray(recorded.turned)[index]
    return square_l2.SquareL2Draw(first, second, turned, signs)

  def start(key, shape):
    signs = jnp.asarray(recorded.first_signs)[key]
    assert signs.shape == shape
    if norm is LINF:
      return signs
    return square_l2.Tiles(jnp.asarray(recorded.first_turned), signs)

  name = 'stripes' if norm is LINF else 'tiles'
  return _attack(norm, num_steps=STEPS, draw=draw, **{name: start})


def _inject(attack, monkeypatch, norm, recorded, dtype):
  """Gives its object these random numbers, in the order of its calls."""
  import torch

  if norm is LINF:
    flips = []
    first = [recorded.first_signs.transpose(0, 3, 1, 2)]
    places = recorded.places
  else:
    flips = np.append(recorded.first_turned.ravel(), recorded.turned)
    first = recorded.first_signs.reshape(-1, 25, 3, 1, 1).swapaxes(0, 1)
    places = recorded.places.swapaxes(1, 2)
  numbers, flips = iter(places.ravel()), iter(flips)
  choices = iter([*first, *recorded.signs.reshape(-1, 3, 1, 1)])

  def random_int(low, high):
    return low + int((high - low) * next(numbers))

  def random_choice(shape):
    return torch.tensor(np.broadcast_to(next(choices), shape).astype(dtype))

  def rand(shape):
    return torch.full(shape, float(next(flips)))

  monkeypatch.setattr(attack, 'random_int', random_int)
  monkeypatch.setattr(attack, 'random_choice', random_choice)
  monkeypatch.setattr(torch, 'rand', rand)


def _both(reference, monkeypatch, norm, dtype, epsilon):
  """Our images and counts of queries, and the official ones."""
  import torch

  torch.set_default_dtype(getattr(torch, np.dtype(dtype).name))
  if dtype == np.float64:  # It casts to float32 whatever it is given.
    monkeypatch.setattr(torch.Tensor, 'float', torch.Tensor.double)
  images = _images().astype(dtype)
  labels = _labels(images)
  recorded = Recorded.of(norm)
  attack, data = _reference_attack(reference, norm, epsilon, images, labels)
  _inject(attack, monkeypatch, norm, recorded, dtype)
  counts, expected = attack.attack_single_run(*data)
  with jax.enable_x64(dtype == np.float64):
    attack, keys = _injected(norm), np.arange(COUNT)
    points, trace = _search(attack, _model, keys, images, labels, epsilon)
  expected = np.moveaxis(expected.numpy(), 1, -1)
  assert points.image.dtype == expected.dtype == dtype
  return points.image, _num_queries(trace), expected, counts.numpy()


@pytest.mark.parametrize(
  ('norm', 'dtype', 'epsilon'),
  [
    (LINF, np.float32, 4 / 256),
    (LINF, np.float64, 4 / 256),
    (LINF, np.float64, 8 / 255),
    (L2, np.float32, 0.25),
    (L2, np.float64, 0.25),
    pytest.param(L1, np.float32, 1.5, marks=pytest.mark.slow),
    (L1, np.float64, 1.5),
  ],
)
def test_images_and_queries_are_those_of_the_official_code(
  reference, monkeypatch, norm, dtype, epsilon
):
  ours, counts, expected, expected_counts = _both(
    reference, monkeypatch, norm, dtype, epsilon
  )

  np.testing.assert_array_equal(counts, expected_counts)
  if epsilon == EPSILONS[norm]:
    # Some images break at once, some after many queries, some never.
    assert (counts == 1).any() and (counts > STEPS).any()
    assert ((counts > 30) & (counts < STEPS)).sum() >= 3
  if norm is LINF and epsilon == EPSILONS[norm]:
    np.testing.assert_array_equal(ours, expected)
  else:
    # In L1 a proposal may be the best image itself, but for what the radius
    # lacks (1e-6 of epsilon): rounding decides whether it is taken.
    exact = {LINF: 1e-12, L2: 1e-10, L1: 1e-5}[norm]
    tolerance = max(exact, 0 if dtype == np.float64 else 1e-6)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance)


def test_own_random_numbers_in_l2_break_as_many_images_as_the_official_ones(
  reference,
):
  """In L-infinity `test_autoattack` compares them."""
  import torch

  images = _images(250, 8).astype(np.float32)
  labels = _labels(images)
  keys = attacks.image_keys(jax.random.key(0), jnp.arange(500))
  points, trace = _search(
    _attack(L2, num_steps=STEPS),
    _model,
    keys,
    np.tile(images, (2, 1, 1, 1)),
    np.tile(labels, 2),
    0.15,
  )
  counts = np.where(points.fooled, _num_queries(trace), np.inf)

  expected = []
  for seed in range(2):
    torch.manual_seed(seed)
    attack, data = _reference_attack(reference, L2, 0.15, images, labels)
    official, image_adv = attack.attack_single_run(*data)
    margins, _ = attack.margin_and_loss(image_adv, data[1])
    expected.append(np.where(margins <= 0, official, np.inf))

  for num_queries in (100, STEPS + 1):
    success = np.mean(counts <= num_queries)
    assert 0.3 < success < 0.7
    assert abs(success - np.mean(np.stack(expected) <= num_queries)) <= 0.03


# The schedule.


def test_squares_have_the_published_sides():
  shares = square.shares(5000, 0.8)
  after = [0, 11, 51, 201, 501, 1001, 2001, 4001]

  assert shares[after].tolist() == [0.8 / 2**k for k in range(8)]
  for shape, expected in (
    ((32, 32, 3), [29, 20, 14, 10, 7, 5, 4, 3]),
    ((224, 224, 3), [200, 142, 100, 71, 50, 35, 25, 18]),
  ):
    sides = square.sides(shares, shape)
    assert sides[after].tolist() == expected
    assert np.flatnonzero(np.diff(sides)).tolist() == [i - 1 for i in after[1:]]


@pytest.mark.parametrize('rescale', [False, True])
@pytest.mark.parametrize('num_steps', [77, 5000, 12000])
def test_shares_are_those_of_the_official_code(reference, num_steps, rescale):
  attack = reference(
    None, n_queries=num_steps, p_init=0.3, resc_schedule=rescale
  )

  expected = [attack.p_selection(i) for i in range(num_steps)]

  ours = square.shares(num_steps, 0.3, rescale)
  assert ours.tolist() == expected


def test_windows_of_l2_have_odd_sides_of_at_least_3():
  def distinct(shape):
    return np.unique(square_l2.SquareL2().sides(shape)).tolist()

  assert distinct((32, 32, 3)) == [3, 5, 7, 11, 15, 21, 29]
  assert distinct((224, 224, 3)) == [19, 25, 35, 51, 71, 101, 143, 201]
  assert distinct((2, 2, 1)) == [2]


@pytest.mark.parametrize('name', ['L2', 'L1'])
@pytest.mark.parametrize('side', [1, 2, 3, 4, 5, 8, 21])
def test_pyramids_are_those_of_the_official_code(
  reference, monkeypatch, side, name
):
  import torch

  torch.set_default_dtype(torch.float64)
  attack = reference(None, norm=name, device='cpu')
  monkeypatch.setattr(torch, 'rand', torch.zeros)

  expected = attack.eta(side).numpy()

  ours = {'L2': square_l2.SquareL2(), 'L1': square_l1.SquareL1()}[name]
  np.testing.assert_allclose(ours.pyramid(side), expected, atol=1e-15)


@pytest.mark.parametrize('side', [7, 9, 32])
def test_tiles_start_where_those_of_the_official_code_do(
  reference, monkeypatch, side
):
  import torch

  torch.set_default_dtype(torch.float64)
  rng = np.random.default_rng(3)
  image = rng.uniform(size=(side, side, 3))
  grid = (side // (side // 5),) * 2
  signs = rng.choice([-1.0, 1.0], size=(*grid, 3))
  attack = reference(
    lambda x: x[:, 0, 0, :2].clone(), norm='L2', n_queries=0, eps=0.5
  )
  attack.init_hyperparam(torch.zeros(1, 3, side, side))
  choices = iter(torch.tensor(signs).reshape(-1, 1, 3, 1, 1))
  monkeypatch.setattr(attack, 'random_choice', lambda shape: next(choices))
  monkeypatch.setattr(torch, 'rand', torch.zeros)

  _, expected = attack.attack_single_run(
    _to_torch(image[None]), torch.tensor([0])
  )

  def tiles(key, shape):
    assert shape == signs.shape
    return square_l2.Tiles(jnp.zeros(grid, bool), jnp.asarray(signs))

  with jax.enable_x64(True):
    inputs = stepwise.AttackInput(None, jnp.asarray(image), 0, 0.5)
    ours = square_l2.SquareL2(tiles=tiles).start(inputs)
  expected = np.moveaxis(expected[0].numpy(), 0, -1)
  np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


# What is proposed.


def _proposals(attack, image, indices, epsilon=0.125):
  """What is proposed from the image itself, [N, H, W, C], on N keys."""

  def propose(key, index):
    inputs = stepwise.AttackInput(key, image, jnp.asarray(0), epsilon)
    return attack.propose(inputs, image, index)

  keys = _image_keys(len(indices))
  return np.asarray(jax.jit(jax.vmap(propose))(keys, jnp.asarray(indices)))


def test_images_at_different_steps_have_squares_of_different_sides():
  image = jnp.full((32, 32, 3), 0.5)
  indices = [0, 20, 60, 300, 700, 1500, 3000, 4500]
  moved = _proposals(square.SquareLinf(), image, indices) - 0.5

  for delta, side in zip(moved, [29, 20, 14, 10, 7, 5, 4, 3], strict=True):
    inside = np.abs(delta).min(axis=-1) > 0
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    assert inside.sum() == side**2
    assert np.ptp(rows) == np.ptp(columns) == side - 1
    # All of a channel moves by epsilon in one direction.
    for channel in range(3):
      values = np.unique(delta[..., channel])
      assert len(values) == 2 and np.abs(values).max() == 0.125


def test_squares_reach_every_row_but_the_last():
  image = jnp.full((8, 8, 1), 0.5)
  attack = square.SquareLinf(initial_share=0.05)
  moved = _proposals(attack, image, [0] * 500) != 0.5

  touched = moved.any(axis=(0, 3))
  assert touched[:7, :7].all()
  assert not touched[7].any() and not touched[:, 7].any()


@both_norms
def test_every_key_and_every_step_has_squares_of_its_own(norm):
  attack, image = _attack(norm), jnp.full((32, 32, 3), 0.5)
  key = jax.random.key(0)

  @jax.jit
  @jax.vmap
  def draw(image_key, index):
    inputs = stepwise.AttackInput(image_key, image, 0, 0.125)
    start = attack.start(inputs)
    places = jnp.stack(attack.draw(key, index, 3)[:2])
    return start, attack.propose(inputs, image, jnp.asarray(60)), places

  for drawn in draw(_image_keys(10), jnp.arange(10)):
    assert len(np.unique(drawn, axis=0)) == 10


@both_norms
def test_draws_are_the_same_in_both_precisions_and_in_any_batch(norm):
  attack = _attack(norm)

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(0, None, None))
  def draw(key, start_key, index):
    problem_key = jax.random.fold_in(start_key, key)
    return attack.draw(problem_key, index, 3)

  def numbers(images):
    return jax.tree.leaves(draw(jnp.asarray(images), jax.random.key(0), 7))

  batch = numbers([3, 1, 4])
  with jax.enable_x64(True):
    double = numbers([3, 1, 4])
  for one, two, three in zip(batch, numbers([1]), double, strict=True):
    np.testing.assert_array_equal(one[1], two[0])
    np.testing.assert_array_equal(one, three)


def test_random_numbers_are_uniform_and_signs_fair():
  @jax.jit
  @jax.vmap
  def draw(index):
    return square_l2.random_draw(jax.random.key(1), index, 3)

  draws = draw(jnp.arange(4000))
  places = np.concatenate([draws.rows, draws.columns], axis=1)

  assert places.min() >= 0 and places.max() < 1
  np.testing.assert_allclose(np.corrcoef(places.T), np.eye(4), atol=0.06)
  for column in places.T:
    shares = np.histogram(column, bins=4, range=(0, 1))[0] / 4000
    np.testing.assert_allclose(shares, 0.25, atol=0.03)
  np.testing.assert_allclose(draws.signs.mean(axis=0), 0, atol=0.06)
  assert set(np.unique(draws.signs)) == {-1, 1}
  assert abs(draws.transposed.mean() - 0.5) < 0.03


# The search.


def _searched(norm, keys=None):
  """An attack on the model: points, losses, and what was attacked."""
  images = _images().astype(np.float32)
  labels = _labels(images)
  attack = _attack(norm, num_steps=100)
  keys = _image_keys(COUNT) if keys is None else keys
  points, trace = _search(attack, _model, keys, images, labels, EPSILONS[norm])
  return points, trace, images, labels


@both_norms
def test_results_are_in_the_ball_and_as_reported(norm):
  points, _, images, labels = _searched(norm)

  lengths = jax.vmap(norm.length)(points.image - images)
  assert points.image.min() >= 0 and points.image.max() <= 1
  assert lengths.max() <= EPSILONS[norm] * (1 + 1e-6)
  # Half the length is left where half of the pixels cannot move (black).
  assert lengths.min() > EPSILONS[norm] / 3
  logits = _model(jnp.asarray(points.image))
  assert (points.fooled == (logits.argmax(axis=-1) != labels)).all()
  assert 0 < points.fooled.sum() < COUNT
  loss = losses.cw_loss(logits, jnp.asarray(labels))
  np.testing.assert_allclose(points.loss, loss, atol=1e-6)


@both_norms
def test_the_loss_never_falls_and_stays_once_the_image_is_broken(norm):
  points, trace, _, _ = _searched(norm)

  changes = np.diff(trace)
  assert (changes >= 0).all()
  assert (changes[trace[:, :-1] >= 0] == 0).all()
  assert (points.fooled == (trace[:, -1] > 0)).all()
  assert (changes > 0).sum(axis=-1).max() > 5


def test_an_image_needs_one_forward_pass_a_step_and_one_before():
  calls = []

  def counting(images):
    calls.append(images.shape)
    return _model(images)

  for norm in (LINF, L2, L1):
    attack = _attack(norm, num_steps=5)
    inputs = stepwise.AttackInput(
      jax.random.key(0), jnp.asarray(_images()[2], jnp.float32), 0, 0.1
    )
    inputs = jax.tree.map(jnp.asarray, inputs)
    state = jax.eval_shape(lambda p, a=attack: a.init(counting, p, 0), inputs)
    assert len(calls) == attack.passes(10)[0].forward == 1
    jax.eval_shape(
      lambda p, s, a=attack: a.step(counting, p, s, 0), inputs, state
    )
    assert len(calls) == 1 + attack.passes(10)[1].forward == 2
    attack.candidate(inputs, state)
    assert calls == [(1, SIDE, SIDE, 3)] * 2
    assert attack.passes(10)[0].backward == attack.passes(10)[1].backward == 0
    calls.clear()


# Ties, NaN, extreme images, few classes.


def _with_logits(first, rest):
  """What is found with these logits first, and after a step with others."""

  def run(label):
    rows = np.asarray([first, rest], np.float32)
    return jax.tree.map(np.asarray, _two_queries(rows, label))

  return run


@jax.jit
def _two_queries(rows, label):
  attack = square.SquareLinf(num_steps=3)
  inputs = stepwise.AttackInput(
    jax.random.key(0), jnp.full((8, 8, 1), 0.5), label, jnp.asarray(0.125)
  )
  begin = attack.init(lambda images: rows[:1], inputs, 0)
  return begin, attack.step(lambda images: rows[1:], inputs, begin, 0)


@pytest.mark.parametrize('label', [0, 1])
def test_a_tie_ends_the_search_and_counts_if_the_label_comes_second(label):
  begin, end = _with_logits([1, 1, 0], [0, 0, 5])(label)
  assert begin.loss == end.loss == 0
  assert (begin.image == end.image).all()
  assert begin.fooled == end.fooled == (label == 1)

  # A tie is accepted, too.
  begin, end = _with_logits([5, 5, 0], [1, 1, 0])(label)
  assert end.loss == 0


def test_a_step_that_gains_nothing_is_not_taken():
  for rest in ([3, 1, 1], [4, 1, 1]):
    begin, end = _with_logits([3, 1, 1], rest)(0)
    assert end.loss == begin.loss == -2
    assert (begin.image == end.image).all() and not end.fooled
  _, end = _with_logits([3, 1, 1], [2, 1, 1])(0)
  assert end.loss == -1
  assert (begin.image != end.image).any() and not end.fooled


def test_a_nan_is_a_success_where_it_counts_as_wrong_and_else_no_progress():
  nan, inf = np.nan, np.inf
  for rest in ([nan, 1, 1], [3, nan, 1], [nan] * 3, [-inf, 1, nan]):
    _, end = _with_logits([3, 1, 1], rest)(0)
    assert end.fooled and end.loss == inf
  # Margins without a value: the first of equal logits counts as the largest.
  for row, label in (([inf, inf, 1], 0), ([-inf] * 3, 0)):
    begin, end = _with_logits([3, 1, 1], row)(label)
    assert end.loss == begin.loss and not end.fooled
    assert (begin.image == end.image).all()
    begin, end = _with_logits(row, [3, 1, 1])(label)
    assert begin.loss == -inf and end.loss == -2
  _, end = _with_logits([1, 3, 1], [inf, inf, 1])(1)
  assert end.fooled and end.loss == inf


def _thresholds(num_classes):
  """A classifier by brightness, which 0.125 less or more changes."""

  def logits_fn(images):
    brightness = images.mean(axis=(1, 2, 3))[:, None]
    bounds = jnp.linspace(0.0, 1.0, num_classes, dtype=images.dtype)
    return -((brightness - bounds[None]) ** 2)

  return logits_fn


@pytest.mark.parametrize(
  ('norm', 'num_classes'), [(LINF, 2), (LINF, 4), (L2, 2)]
)
def test_few_classes_are_enough(norm, num_classes):
  logits_fn = _thresholds(num_classes)
  images = jnp.full((2, 8, 8, 1), 0.5 / (num_classes - 1) - 0.002)
  labels = logits_fn(images).argmax(axis=-1)
  attack = functools.partial(
    _attack(norm, num_steps=200),
    logits_fn,
    epsilon=0.125 if norm is LINF else 1.0,
  )

  result = jax.jit(jax.vmap(attack))(_image_keys(2), images, labels)

  assert (logits_fn(result).argmax(axis=-1) != labels).all()


@pytest.mark.parametrize('norm', EPSILONS, ids=lambda n: n.name)
@pytest.mark.parametrize('shape', [(1, 1, 1), (3, 20, 2), (9, 4, 3)])
def test_images_of_any_shape_are_attacked(norm, shape):
  image = np.full((1, *shape), 0.7, np.float32)
  attack = _attack(norm, num_steps=30, initial_share=1.0)
  # Far from a threshold.
  points, trace = _search(
    attack, _thresholds(2), _image_keys(1), image, np.array([1]), 0.1
  )

  assert np.isfinite(points.image).all() and np.isfinite(trace).all()
  assert 0 < norm.length(points.image[0] - image[0]) <= 0.1 * (1 + 1e-6)


def test_restarts_give_the_worst_of_their_trials():
  images = _images().astype(np.float32)
  labels = _labels(images)
  attack = functools.partial(
    _attack(LINF, num_steps=100, restarts=3), _model, epsilon=EPSILONS[LINF]
  )
  result = jax.jit(jax.vmap(attack))(_image_keys(COUNT), images, labels)
  margins = losses.margin(_model(result), jnp.asarray(labels))

  trials = [
    _searched(LINF, keys=_trial_keys(_image_keys(COUNT), t))[0]
    for t in range(3)
  ]
  broken = np.any([trial.fooled for trial in trials], axis=0)
  smallest = -np.max([trial.loss for trial in trials], axis=0)
  np.testing.assert_array_equal(margins < 0, broken)
  np.testing.assert_allclose(margins[~broken], smallest[~broken], atol=1e-6)
  assert (broken != trials[0].fooled).any()


def test_trials_and_budget_are_the_published_ones():
  for norm in (LINF, L2, L1):
    assert _attack(norm).norm == norm
    assert _attack(norm, restarts=2).num_trials(2) == 2
    assert _attack(norm).num_trials(1) == 0
    assert (_attack(norm).num_steps, _attack(norm).segment) == (5000, 50)


def test_what_makes_no_sense_is_refused():
  for share in (0.0, 1.1):
    with pytest.raises(ValueError, match='initial_share'):
      square_l2.SquareL2(initial_share=share)
  image = jnp.zeros((4, 4, 1))
  other = LINF._replace(name='L7')
  with pytest.raises(ValueError, match='L7'):
    ensembles.square(other)
  with pytest.raises(ValueError, match='1 classes'):
    _attack(LINF)(
      lambda images: images[:, 0, 0, :],
      jax.random.key(0),
      image,
      0,
      epsilon=0.1,
    )

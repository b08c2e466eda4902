"""FAB: pixel by pixel that of the official code, and what it promises.

In float64 the nearest adversarial images must agree to 1e-8. (In L2 images that
are 1e-9 apart can be equally near, but for rounding.) The official code casts
to float32 whatever it is given; here its casts are taken away.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rnascl_jax.attacks import fab, norms, stepwise
from tests import attack_networks

OPTIMIZED = True

COUNT = 16
SHORT, LONG = 5, 100
NORMS = norms.NORMS
ORDERS = {'Linf': np.inf, 'L2': 2, 'L1': 1}
# About half of the images have an adversarial one so near.
EPSILON = {'Linf': 0.05, 'L2': 0.4, 'L1': 0.9}

all_norms = pytest.mark.parametrize('name', NORMS)


class Network(NamedTuple):
  """A classifier in JAX and in PyTorch, with images and labels."""

  logits_fn: Any
  torch: Any
  data: Any


@functools.cache
def _plain(num_classes):
  return Network(
    functools.partial(attack_networks.plain, num_classes=num_classes),
    functools.partial(attack_networks.torch_plain, num_classes=num_classes),
    lambda: attack_networks.data(COUNT, num_classes),
  )


PLAIN = _plain(10)
CELL = Network(
  attack_networks.cell,
  attack_networks.torch_cell,
  lambda: attack_networks.data(COUNT, network=attack_networks.cell),
)


@functools.cache
def _noise():
  """Noise in [-1, 1], the same in all tests, [B, H, W, C]."""
  shape = (COUNT, attack_networks.SIDE, attack_networks.SIDE, 3)
  return np.random.default_rng(2).uniform(-1, 1, size=shape)


@functools.cache
def _trial(attack, network):
  """States of all images after SHORT and LONG steps, compiled."""

  def one(image, label, noise, trial, epsilon):
    norm = attack.norm._replace(noise=lambda key, image: noise)
    injected = fab.FAB(norm, restarts=attack.restarts, targets=attack.targets)
    inputs = stepwise.AttackInput(jax.random.key(0), image, label, epsilon)

    def step(state, index):
      return injected.step(network.logits_fn, inputs, state, index), None

    first = injected.init(network.logits_fn, inputs, trial)
    short, _ = lax.scan(step, first, jnp.arange(SHORT))
    long, _ = lax.scan(step, short, jnp.arange(SHORT, LONG))
    return short, long, injected.candidate(inputs, long)

  return jax.jit(jax.vmap(one, in_axes=(0, 0, 0, None, None)))


def _ours(attack, trial=0, *, epsilon=0.05, dtype=np.float64, network=PLAIN):
  images, labels = network.data()
  with jax.enable_x64(dtype == np.float64):
    run = _trial(attack, network)
    noise = _noise().astype(dtype)
    result = run(images.astype(dtype), labels, noise, trial, dtype(epsilon))
    return jax.tree.map(np.asarray, result)


def _official(name, network=PLAIN, **options):
  """The official attack on a network."""
  fab_pt = pytest.importorskip('pyautoattack.fab_pt')
  options = {'norm': name, 'eps': EPSILON[name], 'device': 'cpu'} | options
  return fab_pt.FABAttack_PT(network.torch, **options)


@pytest.fixture
def single_thread():
  # Tensors are small: further threads only wait for each other.
  torch = pytest.importorskip('torch')
  before = torch.get_num_threads()
  torch.set_num_threads(1)
  yield torch
  torch.set_num_threads(before)


@pytest.fixture
def exact(monkeypatch, single_thread):
  """Lets PyTorch, and the official code, compute in float64, with our noise."""
  torch = single_thread
  monkeypatch.setattr(torch.Tensor, 'float', torch.Tensor.double)
  noise = attack_networks.to_torch(_noise())
  monkeypatch.setattr(torch, 'rand', lambda shape: (noise[: shape[0]] + 1) / 2)
  monkeypatch.setattr(torch, 'randn', lambda shape: noise[: shape[0]])
  before = torch.get_default_dtype()
  torch.set_default_dtype(torch.float64)
  yield torch
  torch.set_default_dtype(before)


def _expected(
  attack,
  *,
  target=None,
  random=False,
  network=PLAIN,
  dtype=np.float64,
):
  """One run of the official attack, on images that it thinks are right."""
  import torch

  images, labels = network.data()
  attack.target_class = target
  result = attack.attack_single_run(
    attack_networks.to_torch(images, dtype),
    torch.tensor(labels).long(),
    use_rand_start=random,
    is_targeted=target is not None,
  )
  return attack_networks.from_torch(result)


def _check_same(name, nearest, expected):
  """Compares images with the official ones.

  Where one pixel is moved to a plane in L1, twice, a step ends on the plane
  itself, but for rounding, which decides whether it has crossed it.
  """
  apart = np.abs(nearest - expected).max(axis=(1, 2, 3))
  assert np.sum(apart > 1e-8) <= (name == 'L1')


# Parity with the official code.


def _slow_in_l1(name, *values):
  """A case that is left to slow runs in L1, where another one is not."""
  marks = pytest.mark.slow if name == 'L1' else ()
  return pytest.param(name, *values, marks=marks)


@pytest.mark.parametrize(
  ('name', 'network', 'rank'),
  [
    ('L1', PLAIN, 1),
    *(
      _slow_in_l1(name, network, rank)
      for name in NORMS
      for network, rank in ((PLAIN, 0), (PLAIN, 1), (PLAIN, 4), (CELL, 0))
      if (name, rank) != ('L1', 1)
    ),
  ],
)
def test_targeted_trials_are_the_official_ones(name, network, rank, exact):
  images, _ = network.data()
  short, long, _ = _ours(fab.FAB(NORMS[name]), rank, network=network)
  for num_steps, state in ((SHORT, short), (LONG, long)):
    expected = _expected(
      _official(name, network, n_iter=num_steps),
      target=rank + 2,
      network=network,
    )
    _check_same(name, state.nearest, expected)
    moved = np.abs(expected - images).max(axis=(1, 2, 3))[:-2]
    np.testing.assert_array_equal(moved > 0, np.isfinite(state.distance)[:-2])
    assert np.sum(moved > 0.001) > 4


@pytest.mark.parametrize(
  ('name', 'num_classes'),
  [
    *((name, 3) for name in NORMS),
    *(_slow_in_l1(name, 10) for name in NORMS),
  ],
)
def test_trials_without_targets_are_the_official_ones(name, num_classes, exact):
  network = _plain(num_classes)
  attack = fab.FAB(NORMS[name], targets=0)
  short, long, _ = _ours(attack, network=network)
  for num_steps, state in ((SHORT, short), (LONG, long)):
    expected = _expected(
      _official(name, network, n_iter=num_steps), network=network
    )
    _check_same(name, state.nearest, expected)


@all_norms
def test_random_restarts_are_the_official_ones(name, exact):
  # Trial 3 of 2 restarts for each target: the second target, from noise.
  attack = fab.FAB(NORMS[name], restarts=2)
  _, long, _ = _ours(attack, 3, epsilon=EPSILON[name])
  expected = _expected(_official(name), target=3, random=True)
  _check_same(name, long.nearest, expected)
  _, calm, _ = _ours(attack, 2, epsilon=EPSILON[name])
  assert np.abs(long.nearest - calm.nearest).max() > 1e-6


@all_norms
def test_whole_attack_is_the_official_one(name, exact, monkeypatch):
  torch = exact
  images, labels = PLAIN.data()
  same = attack_networks.to_torch(_noise()[:1])
  monkeypatch.setattr(torch, 'rand', lambda s: (same.expand(*s) + 1) / 2)
  monkeypatch.setattr(torch, 'randn', lambda s: same.expand(*s))
  attack = _official(
    name, n_iter=10, n_restarts=2, n_target_classes=3, targeted=True
  )
  expected = attack.perturb(
    attack_networks.to_torch(images), torch.tensor(labels).long()
  )
  expected = attack_networks.from_torch(expected)
  noise = _noise()[0]
  norm = NORMS[name]._replace(noise=lambda key, image: jnp.asarray(noise))

  def one(image, label):
    ours = fab.FAB(norm, num_steps=10, restarts=2, targets=3)
    key = jax.random.key(0)
    return ours(PLAIN.logits_fn, key, image, label, epsilon=EPSILON[name])

  with jax.enable_x64(True):
    ours = np.asarray(jax.jit(jax.vmap(one))(images, labels))
  _check_same(name, ours, expected)
  changed = np.any(expected != images, axis=(1, 2, 3))
  assert 4 <= changed.sum() <= COUNT - 4


@all_norms
@pytest.mark.usefixtures('single_thread')
def test_success_in_float32_is_the_official_one(name):
  # In float32 the paths part, but not what is within reach.
  images, labels = PLAIN.data()
  attack = fab.FAB(NORMS[name])
  _, long, point = _ours(attack, epsilon=EPSILON[name], dtype=np.float32)
  assert point.image.dtype == point.loss.dtype == np.float32
  expected = _expected(_official(name), target=2, dtype=np.float32)
  assert expected.dtype == np.float32
  delta = (expected - np.float32(images)).reshape(COUNT, -1)[:-2]
  lengths = np.linalg.norm(delta, ord=ORDERS[name], axis=1)
  fooled = (lengths > 0) & (lengths <= EPSILON[name])
  np.testing.assert_array_equal(point.fooled[:-2], fooled)
  assert 4 <= fooled.sum() <= COUNT - 6
  result = lengths > 0
  ratio = long.distance[:-2][result] / lengths[result]
  assert np.median(np.abs(ratio - 1)) < 1e-4


# What is found.


@all_norms
def test_distance_is_that_of_an_image_that_fools(name):
  images, labels = PLAIN.data()
  _, long, point = _ours(fab.FAB(NORMS[name]), epsilon=EPSILON[name])
  with jax.enable_x64(True):
    logits = jax.jit(PLAIN.logits_fn)(long.nearest)
  delta = (long.nearest - images).reshape(COUNT, -1)
  lengths = np.linalg.norm(delta, ord=ORDERS[name], axis=1)
  has = np.isfinite(long.distance)
  assert np.all((np.argmax(logits, axis=-1) != labels)[has])
  np.testing.assert_allclose(lengths[has], long.distance[has], rtol=1e-12)
  np.testing.assert_array_equal(lengths[~has], 0)
  assert long.nearest.min() >= 0
  assert long.nearest.max() <= 1
  np.testing.assert_array_equal(point.fooled, long.distance <= EPSILON[name])
  np.testing.assert_array_equal(point.loss, -long.distance)
  chosen = np.where(point.fooled[:, None, None, None], long.nearest, images)
  np.testing.assert_array_equal(point.image, chosen)


def test_more_steps_never_end_farther_away():
  short, long, _ = _ours(fab.FAB())
  assert np.all(long.distance <= short.distance)
  assert np.any(long.distance < short.distance)


@pytest.mark.parametrize('targets', [9, 0])
def test_image_that_is_wrong_already_is_its_own_nearest(targets):
  images, labels = PLAIN.data()
  _, long, point = _ours(fab.FAB(targets=targets), epsilon=0.0)
  assert np.all(long.distance[-2:] == 0)
  np.testing.assert_array_equal(point.image, images)
  np.testing.assert_array_equal(point.fooled, np.arange(COUNT) >= COUNT - 2)


def test_first_trial_of_a_target_starts_at_the_image_and_others_at_random():
  images, labels = PLAIN.data()
  image = np.float32(images[3])

  @jax.jit
  def begin(trial):
    key = jax.random.fold_in(jax.random.key(0), trial)
    inputs = stepwise.AttackInput(
      key, jnp.asarray(image), labels[3], jnp.float32(0.1)
    )
    state = fab.FAB(restarts=3).init(PLAIN.logits_fn, inputs, trial)
    return state.point, state.target

  targets = []
  for trial in range(9):
    first, target = begin(trial)
    targets.append(int(target))
    if trial % 3 == 0:
      np.testing.assert_array_equal(first, image)
    else:
      assert np.abs(first - image).max() == pytest.approx(0.05, rel=1e-4)
      assert first.min() >= 0
      assert first.max() <= 1
  logits = PLAIN.logits_fn(image[None])[0]
  order = [k for k in np.argsort(-logits) if k != labels[3]]
  np.testing.assert_array_equal(targets, np.repeat(order[:3], 3))


@all_norms
@pytest.mark.parametrize('targets', [9, 0])
def test_distance_to_a_linear_classifier_is_the_closed_form(name, targets):
  # Two classes, one plane: a single step goes there, and oversteps by 5 %.
  rng = np.random.default_rng(5)
  weights = rng.normal(size=(12, 2)).astype(np.float32)
  image = jnp.asarray(rng.uniform(0.4, 0.6, size=(2, 2, 3)), jnp.float32)
  normal = weights[:, 1] - weights[:, 0]
  shift = jnp.array([normal @ np.ravel(image) + 0.1, 0.0])

  def logits_fn(images):
    return images.reshape(-1, 12) @ weights + shift[None]

  attack = fab.FAB(NORMS[name], num_steps=1, targets=targets)

  @jax.jit
  def step_once(image):
    inputs = stepwise.AttackInput(
      jax.random.key(0), image, jnp.asarray(0), jnp.float32(1)
    )
    state = attack.init(logits_fn, inputs, jnp.asarray(0))
    return attack.step(logits_fn, inputs, state, jnp.asarray(0))

  state = step_once(image)
  dual = np.linalg.norm(normal, {'Linf': 1, 'L2': 2, 'L1': np.inf}[name])
  assert state.distance == pytest.approx(1.05 * 0.1 / dual, rel=1e-4)
  back = np.asarray(state.point - image)
  np.testing.assert_allclose(back, 0.9 * (state.nearest - image), atol=1e-6)


# Edges.


def test_few_classes_have_a_trial_for_each_other_class():
  attack = fab.FAB(restarts=2)
  assert [attack.num_trials(k) for k in (1, 2, 3)] == [0, 2, 4]
  assert fab.FAB().num_trials(10) == fab.FAB().num_trials(1000) == 9
  assert fab.FAB(targets=0, restarts=5).num_trials(2) == 5


def test_two_classes_give_the_same_with_and_without_targets():
  _, targeted, _ = _ours(fab.FAB(), network=_plain(2))
  _, untargeted, _ = _ours(fab.FAB(targets=0), network=_plain(2))
  assert np.isfinite(targeted.distance).sum() > COUNT / 2
  np.testing.assert_allclose(
    targeted.nearest, untargeted.nearest, rtol=0, atol=1e-12
  )


def _flat(images):
  """Class 0 for every image, with a gradient of zero."""
  return jnp.tile(jnp.array([[1.0, 0.0, 0.0]]), (len(images), 1))


def _tied(images):
  """Logits that are equal everywhere."""
  return jnp.tile(jnp.mean(images, axis=(1, 2, 3))[:, None], (1, 3))


def _kinked(images):
  """A gradient that is NaN or infinite, and finite logits."""
  roots = jnp.sqrt(jnp.sum((images - images) ** 2, axis=(1, 2, 3)))
  return jnp.stack([roots + 1, roots * 0, roots * 0], axis=-1)


@all_norms
@pytest.mark.parametrize('targets', [9, 0])
@pytest.mark.parametrize('logits_fn', [_flat, _tied, _kinked])
def test_nothing_to_follow_leaves_the_very_image(name, targets, logits_fn):
  images = jnp.stack([jnp.zeros((2, 2, 3)), jnp.ones((2, 2, 3))])

  @jax.jit
  @jax.vmap
  def run(image):
    attack = fab.FAB(NORMS[name], targets=targets, restarts=2, num_steps=3)
    return attack(logits_fn, jax.random.key(0), image, 0, epsilon=0.1)

  np.testing.assert_array_equal(run(images), images)


@all_norms
def test_nan_logits_never_give_nan_images(name):
  def logits_fn(images):
    values = jnp.stack([images.sum((1, 2, 3)), images.prod((1, 2, 3))], axis=-1)
    return jnp.where(jnp.max(images) > 0.7, jnp.nan, values)

  image = jnp.full((2, 2, 3), 0.69)
  for targets in (9, 0):
    attack = fab.FAB(NORMS[name], targets=targets, num_steps=4)
    run = functools.partial(attack, logits_fn, epsilon=0.5)
    result = jax.jit(run)(jax.random.key(0), image, 0)
    assert jnp.all(jnp.isfinite(result))


def test_result_is_a_constant_and_epsilon_may_be_traced():
  images, labels = PLAIN.data()
  image, label = jnp.float32(images[4]), labels[4]

  def total(image, epsilon):
    attack = functools.partial(fab.FAB(num_steps=2), PLAIN.logits_fn)
    return attack(jax.random.key(0), image, label, epsilon=epsilon).sum()

  gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(image, 0.5)
  assert not jnp.any(gradients[0])
  assert gradients[1] == 0


@pytest.mark.parametrize(
  'options',
  [
    {'alpha_max': 1.5},
    {'beta': -0.1},
    {'eta': 0.9},
    {'norm': norms.LINF._replace(name='L1', length=jnp.sum)},
  ],
)
def test_options_out_of_range_are_refused(options):
  with pytest.raises(ValueError, match='eta=|L1'):
    fab.FAB(**options)

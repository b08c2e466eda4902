"""What attacks are given: refused in words, or heard of in the result."""

import functools
import gc
import pathlib
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import attacks
from rnascl_jax.attacks import (
  apgd_l1,
  batch_slots,
  ensembles,
  lifting,
  memory,
  norms,
  prediction,
  square,
)

COUNT, SHAPE, CLASSES = 6, (4, 6, 3), 4
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(COUNT, *SHAPE)).astype(np.float32)
WEIGHTS = RNG.normal(size=(72, CLASSES)).astype(np.float32)


def linear(images, weights=WEIGHTS):
  """[B, 4, 6, 3] -> [B, 4]."""
  assert images.shape[1:] == SHAPE, 'asked with other images'
  return images.reshape(-1, 72) @ weights


LABELS = np.asarray(linear(IMAGES).argmax(-1))


def perturb(logits_fn=linear, images=IMAGES, **options):
  settings = {
    'attack': attacks.fgsm,
    'key': jax.random.key(0),
    'labels': LABELS[: len(images)],
    'epsilon': 0.1,
  }
  return attacks.perturb(
    logits_fn=logits_fn, images=images, **settings | options
  )


def auto_attack(logits_fn=linear, images=IMAGES, **options):
  settings = {
    'key': jax.random.key(0),
    'labels': LABELS[: len(images)],
    'epsilon': 0.1,
    'attacks': [ensembles.apgd_ce(num_steps=1)],
    'verbose': False,
    'checks': False,
    'devices': jax.devices()[:1],
  }
  return attacks.auto_attack(logits_fn, images=images, **settings | options)


BOTH = pytest.mark.parametrize('entry', (perturb, auto_attack))
REFUSED = (
  ({'epsilon': True}, 'epsilon=True must be a number'),
  ({'epsilon': np.bool_(True)}, 'must be a number'),
  ({'epsilon': '8/255'}, "epsilon='8/255' must be a number.*write 8 / 255"),
  ({'epsilon': [0.1, 0.2]}, 'must be a number'),
  ({'epsilon': np.ones(2)}, 'must be a number'),
  ({'key': jax.random.PRNGKey(0)}, 'typed random key'),
  ({'key': jax.random.split(jax.random.key(0))}, 'one of the keys'),
  ({'indices': np.arange(COUNT) + 2**32}, 'indices lie in .*images beyond'),
  ({'indices': np.arange(COUNT) - 1}, r'indices lie in \[-1, 4\]'),
  ({'indices': np.arange(COUNT) / 2}, 'indices must be integers'),
  ({'batch_size': True}, 'batch_size=True must be an integer'),
  ({'batch_size': 2.0}, 'batch_size=2.0 must be an integer'),
  ({'channels': 'middle'}, "channels='middle' must be 'last'"),
  ({'logits_fn': {'kernel': WEIGHTS}}, 'logits_fn must be a function.*dict'),
  ({'logits_fn': lambda x: linear(x).astype(int)}, 'logits of type int32'),
  ({'logits_fn': lambda x: linear(x) > 0}, 'logits of type bool'),
  ({'images': IMAGES[0]}, r'must be \[N, H, W, C\]'),
  ({'images': IMAGES[:, :3]}, 'asked with other images'),
  ({'images': IMAGES.astype(str)}, 'divide 8-bit images'),
  ({'images': 255 * IMAGES}, r'not in \[0, 1\]'),
  ({'images': IMAGES - 1}, r'not in \[0, 1\]'),
  ({'images': IMAGES * np.nan}, 'images contain NaN'),
  ({'images': IMAGES.astype(np.float16)}, '16 bits do not resolve'),
  ({'labels': LABELS.astype(str)}, 'labels must be integers'),
  ({'labels': LABELS.astype(float)}, 'labels must be integers'),
  ({'labels': LABELS[1:]}, r'labels must have shape \(6,\)'),
  ({'labels': LABELS[:, None]}, 'must be one-hot'),
  ({'labels': np.eye(4)[LABELS] / 2}, 'must be one-hot'),
  ({'devices': 'cpu'}, "devices='cpu' are no devices"),
  ({'labels': LABELS - CLASSES}, r'must lie in \[0, 3\]'),
  ({'labels': LABELS + CLASSES}, r'must lie in \[0, 3\]'),
  ({'epsilon': 8}, r'epsilon=8 .* images are in \[0, 1\], write 8 / 255'),
  ({'epsilon': -0.1}, 'epsilon=-0.1 must lie in'),
  ({'epsilon': float('nan')}, 'epsilon=nan must lie in'),
  ({'epsilon': None}, 'epsilon is missing'),
  ({'batch_size': 0}, 'batch_size=0 must be an integer'),
  ({'indices': np.arange(3)}, 'indices must have shape'),
  ({'logits_fn': lambda x: x.mean((1, 2, 3))}, 'K >= 2'),
  ({'logits_fn': lambda x: x.mean((1, 2, 3))[:, None]}, 'K >= 2'),
  ({'logits_fn': lambda x: (x.mean((2, 3)), ())}, 'K >= 2'),
)


def traced(images):
  assert isinstance(images, jax.core.Tracer), 'computed'
  return linear(images)


@BOTH
@pytest.mark.parametrize(('options', 'message'), REFUSED)
def test_what_means_nothing_is_refused_before_any_computation(
  entry, options, message
):
  with pytest.raises((ValueError, AssertionError), match=message):
    entry(**{'logits_fn': traced} | options)


@pytest.mark.parametrize(
  ('options', 'message'),
  (
    ({'attacks': 'apgd-ce'}, "attacks='apgd-ce' must be a sequence"),
    ({'attacks': ensembles.apgd_ce()}, 'must be a sequence of names'),
    ({'attacks': [ensembles.apgd_ce().attack]}, 'attacks has APGD.*give names'),
    ({'attacks': ['apgd_ce']}, "Did you mean 'apgd-ce'"),
    ({'version': 'standrad'}, "standard, plus, rand.*Did you mean 'standard'"),
    ({'norm': 'l2'}, "norm='l2' must be one of Linf, L2"),
    ({'norm': 'L2'}, 'attacks in L2, but are in: L∞. Give norm='),
    ({'votes': 2}, 'votes=2 must be odd'),
    ({'votes': 3}, 'votes=3 are for random classifiers'),
    ({'journal': '/tmp/runs'}, r"Journal\('/tmp/runs'\)"),
    ({'journal': pathlib.Path('runs')}, r"Journal\('runs'\)"),
    ({'journal': 7}, 'not of type int'),
    ({'devices': 1}, 'devices=1 are no devices'),
    ({'devices': jax.devices()[0]}, 'are no devices: give a list'),
    ({'stop_early': 'no'}, "stop_early='no' must be True or False"),
    ({'checks': 'no'}, "checks='no' must be True or False"),
    ({'attacks': ()}, 'attacks must be one or more'),
    (
      {'attacks': [ensembles.apgd_ce(norms.L2), ensembles.apgd_ce()]},
      'attacks in L∞, but are in: L2',
    ),
    ({'attacks': ['square', ensembles.square()]}, 'square, square'),
    ({'attacks': None, 'version': 'rand'}, 'Randomized'),
  ),
)
def test_auto_attack_says_what_it_takes(options, message):
  with pytest.raises(ValueError, match=message):
    auto_attack(**options)


@pytest.mark.parametrize('attack', ('pgd20_trades', 8 / 255))
def test_an_attack_must_be_a_function(attack):
  with pytest.raises(ValueError, match='by_name|must be a function'):
    perturb(attack=attack)
  with pytest.raises(ValueError, match='by_name|must be a function'):
    attacks.batched(attack)


def one_pgd(**options):
  attack = functools.partial(attacks.pgd, step_size=0.1, epsilon=0.1)
  key, image = jax.random.key(0), jnp.asarray(IMAGES[0])
  return attack(linear, key, image, 0, **{'num_steps': 1} | options)


@pytest.mark.parametrize(
  ('make', 'names'),
  (
    (attacks.apgd.APGD, ('num_steps', 'restarts', 'draws', 'targets')),
    (apgd_l1.APGDL1, ('num_steps', 'restarts', 'draws', 'targets')),
    (attacks.fab.FAB, ('num_steps', 'restarts', 'targets')),
    (square.SquareLinf, ('num_steps', 'restarts', 'segment')),
    (one_pgd, ('num_steps', 'restarts')),
  ),
)
def test_what_counts_is_an_integer_of_at_least_1(make, names):
  for name in names:
    # No targets are an attack without a target.
    for count in ('10', 2.5, True, -1, *(() if name == 'targets' else (0,))):
      with pytest.raises(ValueError, match=f'{name}=.* integer of at least 1'):
        make(**{name: count})


SINGLE = {
  'pgd': functools.partial(attacks.pgd, step_size=0.1, num_steps=1),
  'preset': attacks.PRESETS['pgd20_madry'],
  'apgd': attacks.apgd.APGD(num_steps=1),
  'fab': attacks.fab.FAB(num_steps=1),
  'square': square.SquareLinf(num_steps=1),
}


@pytest.mark.parametrize('name', SINGLE)
def test_attacks_on_one_image_refuse_raw_keys_and_what_is_no_radius(name):
  image = jnp.asarray(IMAGES[0])

  with pytest.raises(ValueError, match='typed random key'):
    SINGLE[name](linear, jax.random.PRNGKey(0), image, 0, epsilon=0.1)
  for epsilon in (True, '8/255', 8):
    with pytest.raises(ValueError, match='epsilon='):
      SINGLE[name](linear, jax.random.key(0), image, 0, epsilon=epsilon)


def test_keys_of_images_come_from_typed_keys_and_32_bits():
  with pytest.raises(ValueError, match='typed random key'):
    attacks.image_keys(jax.random.PRNGKey(0), np.arange(2))
  with pytest.raises(ValueError, match='indices lie in'):
    attacks.image_keys(jax.random.key(0), np.array([2**32]))
  with pytest.raises(ValueError, match='typed random key'):
    attacks.batched(attacks.fgsm)(
      linear, jax.random.split(jax.random.PRNGKey(0)), IMAGES[:2], LABELS[:2]
    )


def test_indices_beyond_31_bits_have_draws_of_their_own():
  options = {'attack': SINGLE['pgd'], 'checks': False}
  there = np.arange(COUNT) + 2**32 - COUNT

  near, far = perturb(**options), perturb(indices=there, **options)
  last = perturb(images=IMAGES[-1:], indices=there[-1:], **options)

  assert (near != far).any(axis=(1, 2, 3)).all()
  np.testing.assert_allclose(last, far[-1:], atol=1e-6)


# What a classifier gives.


def with_nan_for_the_last(images):
  """NaN for the brightest image."""
  brightness = images.mean((1, 2, 3), keepdims=True)[:, 0, 0]
  return jnp.where(brightness > 0.99, jnp.nan, linear(images))


@BOTH
@pytest.mark.parametrize('value', (jnp.nan, -jnp.inf))
def test_logits_that_are_not_finite_are_refused(entry, value):
  with pytest.raises(ValueError, match='NaN or infinite logits for 6 of 6'):
    entry(lambda images: linear(images).at[:, 0].set(value))


def test_a_single_image_without_finite_logits_is_found_among_many():
  images = np.concatenate([np.repeat(IMAGES, 7, axis=0), np.ones((1, *SHAPE))])

  with pytest.raises(ValueError, match='NaN or infinite logits for 1 of 43'):
    auto_attack(
      with_nan_for_the_last,
      images.astype(np.float32),
      labels=np.zeros(43, int),
      batch_size=8,
    )


def test_images_broken_by_infinite_logits_are_said_to_be():
  """They are not finite anywhere but near the clean images."""

  def overflows(images):
    away = jnp.abs(images - 0.5).max((1, 2, 3))
    return jnp.where(away > 0.01, jnp.nan, 1.0)[:, None] * linear(images)

  images = np.full_like(IMAGES, 0.5)
  labels = np.asarray(linear(images).argmax(-1))
  found = auto_attack(overflows, images, labels=labels)

  assert found.members[0].broken == COUNT
  assert [s.kind for s in found.warnings] == ['infinite logits']
  assert '6 of 6 adversarial images' in str(found)


def test_a_gradient_that_is_zero_everywhere_is_said_and_not_one_that_is_not():
  def hidden(images):
    return linear(jax.lax.stop_gradient(images))

  with pytest.warns(UserWarning, match='zero for 6 of 6 images'):
    perturb(hidden)
  perturb(hidden, checks=False)
  perturb(hidden, epsilon=0.0)
  perturb(linear)


# Programs.


def closure(seed):
  """A new classifier each time, of the same code, that holds its weights."""
  weights = np.random.default_rng(seed).normal(size=(72, CLASSES))
  weights = weights.astype(np.float32)
  return lambda images: linear(images, weights)


def executables():
  gc.collect()
  return len(jax.devices()[0].client.live_executables())


@pytest.fixture
def few_kept(monkeypatch):
  """Two classifiers' programs are kept instead of dozens."""
  for module, name in (
    (batch_slots, '_programs'),
    (prediction, '_classifier'),
    (lifting, '_program'),
    (memory, '_bytes_kept'),
  ):
    function = getattr(module, name).__wrapped__
    monkeypatch.setattr(module, name, functools.lru_cache(maxsize=2)(function))


@BOTH
def test_new_closures_of_a_function_do_not_leak_programs(entry, few_kept):
  del few_kept
  alive, counts = [], []
  for seed in range(4):
    logits_fn = closure(seed)
    labels = np.asarray(logits_fn(IMAGES).argmax(-1))
    entry(logits_fn, labels=labels, checks=False)
    alive.append(weakref.ref(logits_fn))
    del logits_fn
    counts.append(executables())

  assert counts[-1] == counts[-2]
  assert alive[0]() is None


@BOTH
def test_the_same_closure_compiles_nothing_again(entry, caplog):
  logits_fn = closure(0)
  entry(logits_fn)

  with jax.log_compiles(), caplog.at_level('WARNING'):
    entry(logits_fn)

  assert not [r for r in caplog.records if 'Compiling' in r.message]


# Channels.


def first(images):
  """[B, 3, 4, 6] -> [B, 4]."""
  assert images.shape[1:] == (3, 4, 6)
  return linear(jnp.moveaxis(images, 1, -1))


def to_first(images):
  return np.moveaxis(images, -1, 1)


def test_channels_first_gives_the_verdict_of_the_transposed_classifier():
  """Square's squares and stripes included."""
  members = [ensembles.square(num_steps=20)]
  options = {'attacks': members, 'epsilon': 0.03, 'checks': True}

  moved = jax.tree_util.Partial(first)
  found = auto_attack(moved, to_first(IMAGES), channels='first', **options)
  expected = auto_attack(linear, IMAGES, **options)

  np.testing.assert_array_equal(found.images, to_first(expected.images))
  np.testing.assert_array_equal(found.broken_by, expected.broken_by)
  assert 0 < found.members[0].broken < COUNT
  assert found.warnings == expected.warnings


def test_perturb_returns_channels_where_they_were():
  square_at = square.SquareLinf(num_steps=20)

  found = perturb(
    first, to_first(IMAGES), attack=square_at, channels='first', epsilon=0.03
  )
  expected = perturb(attack=square_at, epsilon=0.03)

  np.testing.assert_array_equal(found, to_first(expected))


def test_a_random_classifier_may_have_channels_first():
  def noisy(images, key):
    return first(images) + jax.random.normal(key, (1, CLASSES))

  found = auto_attack(
    attacks.Randomized(noisy), to_first(IMAGES), channels='first'
  )

  assert found.images.shape == (COUNT, 3, 4, 6)


def test_axes_that_look_like_channels_first_are_warned_of():
  found = auto_attack(first, to_first(IMAGES))

  assert 'channels' in [s.kind for s in found.warnings]
  assert "give channels='first'" in str(found)
  with pytest.warns(UserWarning, match="give channels='first'"):
    perturb(first, to_first(IMAGES))


@pytest.mark.parametrize(
  ('shape', 'suspicious'),
  (
    ((2, 3, 32, 32), True),
    ((2, 1, 28, 28), True),
    ((2, 32, 3, 32), True),  # Channels last, said to be first.
    ((2, 32, 32, 3), False),
    ((2, 28, 28, 1), False),
    ((2, 8, 8, 16), False),
    ((2, 3, 3, 3), False),
    ((2, 1, 72, 1), False),
  ),
)
def test_only_such_axes_are_suspicious(shape, suspicious):
  assert bool(attacks.arguments.misplaced_channels(shape)) == suspicious


@pytest.mark.parametrize(
  ('logits_fn', 'image', 'message'),
  (
    (linear, (255 * IMAGES[0]).astype(np.uint8), 'not uint8 .*divide 8-bit'),
    (linear, IMAGES, r'image must be \[H, W, C\].*attacks.batched'),
    ('linear', IMAGES[0], 'logits_fn must be a function.*not of type str'),
  ),
)
@pytest.mark.parametrize('name', ('pgd', 'square'))
def test_an_attack_on_one_image_refuses_what_is_none(
  name, logits_fn, image, message
):
  with pytest.raises(ValueError, match=message):
    SINGLE[name](logits_fn, jax.random.key(0), image, 0, epsilon=0.1)

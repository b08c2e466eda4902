"""Planted defences are detected, and honest networks pass silently."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rnascl_jax.attacks.checks import (
  gradient_checks,
  post_attack,
  pre_attack,
)
from rnascl_jax.attacks.result import AutoAttackResult, MemberResult
from rnascl_jax.attacks.stepwise import NetworkPasses
from rnascl_jax.models import fixed, networks
from tests import attack_networks

COUNT, CLASSES = 12, 10
RNG = np.random.default_rng(5)
WEIGHTS = np.random.default_rng(7).normal(size=(2, 192, 16)) * 0.1


@functools.cache
def images():
  """Some of them black, white or of black and white pixels."""
  pixels = np.random.default_rng(0).uniform(size=(COUNT, 8, 8, 3))
  pixels[0], pixels[1], pixels[2:6] = 0, 1, pixels[2:6].round()
  return pixels.astype(np.float32)


def honest(x):
  """A small network, [B, 8, 8, 3] -> [B, 10]."""
  first, second = jnp.asarray(WEIGHTS, x.dtype)
  hidden = nn.relu(x.reshape(len(x), -1) @ first + first[:1])
  return 20 * hidden @ second[:16, :CLASSES]


def examine(function, **options):
  """What is suspicious about a classifier, all images being right."""
  labels = np.asarray(jax.jit(honest)(images()).argmax(axis=-1))
  return pre_attack.check(function, images(), labels, **options)


def kinds(warnings):
  return [warning.kind for warning in warnings]


class Attending(nn.Module):
  """Max-pooling of equal pixels, attention, and log-probabilities."""

  @nn.compact
  def __call__(self, x):
    x = nn.max_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], 16, -1)
    x = nn.relu(nn.Dense(16)(x))
    keys = nn.hard_swish(nn.Dense(16)(x))
    x = nn.softmax(x @ keys.swapaxes(1, 2)) @ x
    return nn.log_softmax(nn.Dense(CLASSES)(x.max(axis=1)))


def initialized(net, **options):
  """Random variables, biases and statistics included."""
  shapes = jax.eval_shape(
    functools.partial(net.init, **options), jax.random.key(0), images()[:1]
  )
  rng = np.random.default_rng(1)

  def draw(leaf):
    if leaf.ndim == 1:
      return rng.uniform(0.1, 0.6, leaf.shape).astype(leaf.dtype)
    scale = (leaf.shape[-1] / leaf.size) ** 0.5
    return (scale * rng.normal(size=leaf.shape)).astype(leaf.dtype)

  return jax.tree.map(draw, shapes)


def attending():
  net = Attending()
  return functools.partial(net.apply, initialized(net))


def teacher():
  net = fixed.NETWORKS['small_resnet'](num_classes=CLASSES)
  return networks.logits_fn(net, initialized(net, train=False))


HONEST = {
  'no convolutions': lambda: honest,
  'convolutions': lambda: attack_networks.plain,
  'student': lambda: attack_networks.cell,
  'teacher': teacher,
  'attention and log-probabilities': attending,
  'half precision': lambda: lambda x: honest(x.astype(jnp.bfloat16)),
}


@pytest.mark.parametrize('name', HONEST)
def test_honest_networks_pass_silently(name):
  assert examine(HONEST[name]()) == ()


def test_honest_networks_pass_silently_in_double_precision():
  with jax.enable_x64(True):
    wide = images().astype(np.float64)
    assert pre_attack.check(honest, wide, np.zeros(COUNT, int)) == ()


@jax.custom_vjp
def with_wrong_gradient(x):
  return x**2


with_wrong_gradient.defvjp(lambda x: (x**2, x), lambda x, slope: (slope,))


@jax.custom_vjp
def as_grid(x):
  return jnp.round(x * 8) / 8


as_grid.defvjp(lambda x: (as_grid(x), None), lambda _, slope: (slope,))


def half_hidden(x):
  return honest(x) + honest(lax.stop_gradient(x)[:, ::-1])


def noisy(x):
  return honest(x + 0.1 * jax.random.normal(jax.random.key(0), x.shape))


def drawn_by_numpy(x):
  return honest(x + RNG.normal(size=x.shape).astype(np.float32))


def in_training_mode(x):
  mean = x.mean((0, 1, 2), keepdims=True)
  variance = x.var((0, 1, 2), keepdims=True)
  return honest((x - mean) * lax.rsqrt(variance + 1e-5))


def called_back(x):
  return honest(jax.pure_callback(np.asarray, x, x, vmap_method='expand_dims'))


def looped(x):
  z = honest(x)
  return lax.while_loop(lambda c: jnp.abs(c).max() < 99, lambda c: 2 * c, z)


PLANTED = {
  'quantisation, straight through': (
    lambda x: honest(as_grid(x)),
    {'rounding', 'wrong gradient'},
  ),
  'noise under a fixed key': (noisy, {'random numbers'}),
  'noise and a hidden gradient': (
    lambda x: noisy(x) + 2 * honest(lax.stop_gradient(x)),
    {'random numbers', 'wrong gradient'},
  ),
  'noise drawn by NumPy': (drawn_by_numpy, {'not deterministic'}),
  'stop_gradient in one of two branches': (half_hidden, {'wrong gradient'}),
  'stop_gradient in the middle': (
    lambda x: honest(lax.stop_gradient(x)),
    {'zero gradient', 'wrong gradient'},
  ),
  'wrong custom gradient': (
    lambda x: honest(with_wrong_gradient(x)),
    {'wrong gradient'},
  ),
  'logits times 1000': (lambda x: 1000 * honest(x), {'saturated softmax'}),
  'argmax': (
    lambda x: 9 * jax.nn.one_hot(honest(x).argmax(axis=-1), CLASSES),
    {'rounding', 'zero gradient'},
  ),
  'batch statistics': (in_training_mode, {'depends on the batch'}),
  'infinite grads': (lambda x: honest(jnp.sqrt(x)), {'exploding gradient'}),
  'callback': (called_back, {'python callback', 'no gradient'}),
  'loop': (looped, {'no gradient'}),
}


SAYS = {
  'rounding': 'rounds or compares',
  'wrong gradient': 'led astray',
  'random numbers': 'draws random numbers',
  'not deterministic': 'evaluated twice',
  'zero gradient': f'exactly zero for {COUNT} of {COUNT} images',
  'saturated softmax': 'softmax is 0 and 1',
  'depends on the batch': 'depend on which others are in the batch',
  'exploding gradient': 'NaN, infinite or above 1e+06',
  'python callback': 'calls Python from within',
  'no gradient': 'attacks by gradients cannot run',
}


@pytest.mark.parametrize('name', PLANTED)
def test_planted_defences_are_detected(name):
  function, expected = PLANTED[name]

  warnings = examine(function)

  assert set(kinds(warnings)) == expected
  for warning in warnings:
    assert SAYS[warning.kind] in warning.message
    assert warning.message.endswith('.')


def test_a_wrong_gradient_names_what_may_be_to_blame():
  (warning,) = examine(half_hidden)

  assert 'stop_gradient at test_checks.py:' in warning.message
  assert f'of {4 * COUNT} random directions' in warning.message


def test_saturation_says_how_many_and_what_does_not_suffer():
  (warning,) = examine(lambda x: 1e4 * honest(x))

  assert f'of {COUNT} images' in warning.message
  assert 'margins (CW' in warning.message


def softmax(x):
  return jax.nn.softmax(honest(x))


@pytest.mark.parametrize('dtype', (jnp.float32, jnp.bfloat16))
def test_probabilities_are_refused_before_any_gradient(dtype):
  with pytest.raises(ValueError, match='12 images.*allow_probabilities=True'):
    examine(lambda x: softmax(x).astype(dtype))


def test_probabilities_pass_when_they_are_allowed():
  assert examine(softmax, allow_probabilities=True) == ()


def test_logits_that_are_not_finite_are_refused():
  with pytest.raises(ValueError, match='NaN or infinite.* 1 of 12 images'):
    examine(lambda x: honest(x / x.sum((1, 2, 3), keepdims=True)))


@pytest.mark.parametrize('value', (np.nan, np.inf, 2e6))
def test_gradients_that_cannot_be_followed_are_counted(value):
  grads = np.ones([2, 3, 2, 2, 1])
  grads[0, 1, 0, 1] = value

  (warning,) = gradient_checks.degenerate(
    gradient_checks.Gradients(np.eye(3), *grads), np.arange(3)
  )

  assert warning.kind == 'exploding gradient'
  assert '1 of 3 images' in warning.message


def test_inputs_that_mean_nothing_are_refused():
  with pytest.raises(ValueError, match='divide'):
    pre_attack.check(honest, images() * 255, np.zeros(COUNT, int))


def test_checks_take_channels_first_and_one_hot_labels():
  def masked(x):  # [B, C, H, W]
    assert x.shape[1] == images().shape[-1]
    return honest(lax.stop_gradient(jnp.moveaxis(x, 1, -1)))

  labels = np.eye(CLASSES)[np.asarray(honest(images()).argmax(axis=-1))]
  options = {'labels': labels, 'channels': 'first'}
  moved = np.moveaxis(images(), -1, 1)

  assert 'zero gradient' in kinds(pre_attack.check(masked, moved, **options))
  (warning,) = post_attack.large_epsilon(masked, moved, **options)
  assert warning.kind == 'survives any perturbation'


def test_no_images_are_no_reason_for_a_warning():
  assert pre_attack.check(honest, images()[:0], np.zeros(0, int)) == ()


def test_one_image_is_enough():
  warnings = pre_attack.check(half_hidden, images()[-1:], np.zeros(1, int))

  assert kinds(warnings) == ['wrong gradient']


def test_few_programs_are_compiled_for_few_images():
  batches = []

  def counted(x):
    batches.append(x.shape[0])
    return honest(x)

  many = np.concatenate([images()] * 4)
  pre_attack.check(counted, many, np.zeros(len(many), int))

  # For shapes, the logits, the code and the gradients.
  assert sorted(batches) == [1, 1, 1, 32]


def test_errors_measure_the_share_of_a_gradient_that_is_hidden():
  def errors(share):
    def function(x):
      z = (
        0.1 * x.reshape(len(x), -1) @ np.cos(np.arange(1920.0)).reshape(192, 10)
      )
      return (1 - share) * z + share * lax.stop_gradient(z)

    def gradient_fn(x, w):
      return jax.grad(lambda x: (function(x) * w).sum())(x)

    with jax.enable_x64(True):
      wide = images().astype(np.float64)
      return gradient_checks.errors(function, gradient_fn, wide)

  assert errors(0.0).shape == (4 * COUNT,)
  assert errors(0.0).max() < 1e-6
  # In root mean square over the directions of an image.
  squares = (errors(0.3).reshape(4, COUNT) ** 2).mean(axis=0)
  np.testing.assert_allclose(squares, 0.09, rtol=1e-3)


MEMBERS = (('APGD-CE', 100), ('FAB-T', 100), ('Square', 5000))


def outcome(count, broken, members=MEMBERS):
  """A result in which a member breaks an image after each number of steps."""
  broken_by, steps = np.full(count, -1), np.zeros(count, int)
  begin = 0
  for place, taken in broken.items():
    broken_by[begin : begin + len(taken)] = place
    steps[begin : begin + len(taken)] = taken
    begin += len(taken)
  return AutoAttackResult(
    images=np.zeros((count, 1, 1, 1)),
    correct=np.ones(count, bool),
    robust=broken_by < 0,
    broken_by=broken_by,
    steps=steps,
    num_classes=CLASSES,
    epsilon=0.1,
    norm='L∞',
    members=tuple(
      MemberResult(
        name=name.lower(),
        label=name,
        black_box=name == 'Square',
        num_steps=num_steps,
        num_trials=1,
        attacked=count,
        broken=len(broken.get(place, ())),
        rejected=0,
        robust=0,
        seconds=0.0,
        passes=NetworkPasses(0, 0),
      )
      for place, (name, num_steps) in enumerate(members)
    ),
    warnings=(),
  )


@pytest.mark.parametrize(
  ('count', 'broken', 'members', 'stop_early'),
  (
    # Of 1,000 images Square may break two.
    (1000, {0: [3] * 300, 1: [50] * 9, 2: [40] * 2}, MEMBERS, True),
    # A black-box attack that goes first is not compared.
    (100, {0: [40] * 30}, MEMBERS[::-1], True),
    (200, {0: [5] * 58 + [99] * 2}, MEMBERS, True),  # Two are few.
    (200, {0: [5] * 57 + [99] * 3}, MEMBERS, True),  # 5 % are few.
    (200, {0: [5] * 57 + [90] * 3}, MEMBERS, True),  # Not the last tenth.
    # Steps are not judged where attacks go on to the end.
    (100, {0: [100] * 50}, MEMBERS, False),
  ),
)
def test_ordinary_results_are_no_reason_for_a_warning(
  count, broken, members, stop_early
):
  result = outcome(count, broken, members)

  assert post_attack.after(result, stop_early) == ()


def test_black_box_attacks_may_break_a_fifth_of_a_percent_and_no_more():
  result = outcome(1000, {0: [3] * 300, 2: [40] * 3})

  (warning,) = post_attack.after(result, stop_early=True)

  assert warning.kind == 'black-box attack is stronger'
  assert 'Square' in warning.message
  assert '3 of 1000 images (0.3 points' in warning.message
  assert 'APGD-CE, FAB-T had left' in warning.message


def test_images_that_fall_in_the_last_tenth_of_the_steps_are_reported():
  result = outcome(100, {0: [5] * 56 + [91, 95, 100]})

  (warning,) = post_attack.after(result, stop_early=True)

  assert warning.kind == 'more steps still help'
  assert '3 of the 59 images that APGD-CE broke' in warning.message


def large_epsilon(function):
  labels = np.array(jax.jit(honest)(images()).argmax(axis=-1))
  labels[-2:] = (labels[-2:] + 1) % CLASSES
  return post_attack.large_epsilon(function, images(), labels)


@pytest.mark.parametrize('function', (honest, looped))
def test_what_falls_or_has_no_gradient_is_not_said_to_survive(function):
  assert large_epsilon(function) == ()


def test_what_survives_an_attack_without_a_bound_is_reported():
  (warning,) = large_epsilon(lambda x: honest(lax.stop_gradient(x)))

  assert warning.kind == 'survives any perturbation'
  assert '10 of 10 images' in warning.message

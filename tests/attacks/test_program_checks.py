"""What is found in a classifier's code, and what is left in peace."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rnascl_jax.attacks.checks import dataflow, program_checks
from rnascl_jax.models import fixed, networks
from tests import attack_networks

SHAPE = (4, 4, 2)
SIZE, CLASSES = 32, 3
HEAD = np.cos(np.arange(SIZE * CLASSES, dtype=np.float32)).reshape(SIZE, -1)


def flat(images):
  return images.reshape(images.shape[0], -1)


def logits(features):
  """A linear layer of features [B, 32]."""
  return features @ HEAD.astype(features.dtype)


def warnings(function, shape=SHAPE):
  steps = program_checks.steps(function, shape, jnp.float32)
  return [
    warning
    for measurable in (False, True)
    for warning in program_checks.warnings(steps, measurable=measurable)
  ]


def kinds(function, shape=SHAPE):
  return [warning.kind for warning in warnings(function, shape)]


@jax.custom_vjp
def doubled(x):
  return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, slope: (2 * slope,))


@jax.jit
def to_grid(x):
  return jnp.round(x * 16) / 16


def carried(x):
  """Rounds what has come from the image only in the second iteration."""

  def body(carry, _):
    older, newer = carry
    return (newer, newer + jnp.round(older)), None

  begin = (jnp.zeros_like(x), x)
  return lax.scan(body, begin, length=3)[0][1]


def looped(x, body):
  return lax.while_loop(lambda c: jnp.sum(c) < 99, body, x)


ROUNDING = {
  'round': lambda x: logits(flat(to_grid(x))),
  'floor': lambda x: logits(jnp.floor(flat(x) * 9)),
  'sign': lambda x: logits(jnp.sign(flat(x) - 0.5)),
  'straight-through': lambda x: logits(
    flat(x + lax.stop_gradient(jnp.round(x) - x))
  ),
  'cast to integers': lambda x: logits(
    flat((x * 255).astype(jnp.uint8) / 255.0)
  ),
  'cast to 8 bits': lambda x: logits(
    flat(x).astype(jnp.float8_e4m3fn).astype(x.dtype)
  ),
  'lookup in a table': lambda x: logits(
    jnp.sin(jnp.arange(256.0))[(flat(x) * 255).astype(int)]
  ),
  'thermometer': lambda x: logits(
    flat(x[:, :2, :2, :, None] > jnp.arange(4).reshape(1, 1, 1, 1, 4) / 4) + 0.0
  ),
  'two values': lambda x: logits(jnp.where(flat(x) > 0.5, 1.0, -1.0)),
  'ranks': lambda x: logits(jnp.argsort(flat(x)) + 0.0),
  'one-hot argmax': lambda x: jax.nn.one_hot(
    logits(flat(x)).argmax(axis=-1), CLASSES
  ),
  'in a scan': lambda x: logits(carried(flat(x))),
  'in a while loop': lambda x: logits(
    looped(flat(x), lambda c: jnp.floor(c) + 1)
  ),
  'in a branch': lambda x: logits(
    lax.cond(x.sum() > 3, jnp.round, jnp.sin, flat(x))
  ),
  'in a checkpoint': lambda x: logits(jax.checkpoint(jnp.round)(flat(x))),
  'in a custom gradient': lambda x: logits(doubled(jnp.round(flat(x)))),
}


@pytest.mark.parametrize('name', ROUNDING)
def test_rounding_of_the_image_is_found(name):
  assert 'rounding' in kinds(ROUNDING[name])


SELECTING = {
  'relu': lambda x: logits(jnp.where(flat(x) > 0.5, flat(x), 0.0)),
  'factor of zeros and ones': lambda x: logits(flat(x) * (flat(x) > 0.5)),
  'value at the argmax': lambda x: (
    jnp.take_along_axis(
      flat(x), flat(x).argmax(axis=-1, keepdims=True), axis=-1
    )
    * HEAD[:1]
  ),
  'max-pooling': lambda x: logits(
    nn.max_pool(jnp.concatenate([x, x], 1), (2, 1), (2, 1)).reshape(-1, SIZE)
  ),
  'sort': lambda x: logits(jnp.sort(flat(x))),
  'order of others': lambda x: logits(
    lax.sort((jnp.round(flat(x)), flat(x)), num_keys=1)[1]
  ),
  'place to write': lambda x: logits(
    flat(x).at[0, flat(x)[0].argmax()].multiply(2.0)
  ),
  'largest values': lambda x: lax.top_k(flat(x), CLASSES)[0],
  'median': lambda x: jnp.median(flat(x), axis=-1, keepdims=True) * HEAD[:1],
  'branch': lambda x: logits(lax.cond(x.sum() > 3, jnp.cos, jnp.sin, flat(x))),
  'resizing': lambda x: logits(
    flat(jax.image.resize(x, (x.shape[0], 8, 8, 2), 'cubic'))[:, ::4]
  ),
  'counted loop': lambda x: logits(
    lax.fori_loop(0, 3, lambda i, c: c * (i + 1.0), flat(x))
  ),
  'bfloat16': lambda x: logits(flat(x).astype(jnp.bfloat16)),
  'spectrum': lambda x: logits(jnp.abs(jnp.fft.fft(flat(x)))),
  'printing': lambda x: (
    jax.debug.print('{}', jnp.round(x).sum()),
    logits(flat(x)),
  )[1],
}


@pytest.mark.parametrize('name', SELECTING)
def test_what_only_selects_is_left_in_peace(name):
  assert kinds(SELECTING[name]) == []


def test_operations_off_the_path_are_left_in_peace():
  def function(images):
    jnp.round(images).sum()  # Does not reach the logits.
    grid = to_grid(jnp.linspace(0, 1, SIZE))  # Does not come from the image.
    noise = jax.random.normal(jax.random.key(0), (SIZE,))
    del noise
    return logits(flat(images) + grid.reshape(1, SIZE))

  assert kinds(function) == []


def test_a_function_called_on_a_constant_and_on_the_image_is_two():
  identity = jax.jit(lambda x: jnp.sin(x))

  def function(images):
    constant = identity(jnp.arange(float(SIZE)).reshape(1, SIZE))
    return logits(identity(flat(images)) + jnp.round(constant))

  assert kinds(function) == []


@pytest.mark.parametrize('make', (jax.random.key, jax.random.PRNGKey))
def test_noise_under_a_fixed_key_is_found(make):
  def noisy(images):
    return logits(flat(images + jax.random.normal(make(0), images.shape)))

  def dropping(images):
    kept = jax.random.bernoulli(make(0), 0.5, (1, SIZE))
    return logits(jnp.where(kept, flat(images), 0.0))

  assert kinds(noisy) == ['random numbers']
  assert kinds(dropping) == ['random numbers']


def test_hidden_and_custom_gradients_loops_and_callbacks_are_found():
  def called(images):
    return logits(flat(jax.pure_callback(lambda x: x, images, images)))

  assert kinds(lambda x: logits(flat(lax.stop_gradient(x)))) == [
    'stop_gradient'
  ]
  assert kinds(lambda x: logits(flat(doubled(x)))) == ['custom gradient']
  assert kinds(lambda x: logits(looped(flat(x), jnp.exp))) == ['loop']
  assert kinds(called) == ['python callback']


def test_a_message_names_operation_and_line():
  (warning,) = warnings(ROUNDING['round'])

  assert 'round at test_program_checks.py:' in warning.message
  assert '/' not in warning.message.split('BPDA')[0]


def test_many_places_are_counted():
  def function(images):
    x = flat(images)
    x = jnp.round(x + 1)
    x = jnp.round(x * 2)
    x = jnp.round(x * 3)
    x = jnp.round(x * 4)
    return logits(jnp.round(x * 5))

  (warning,) = warnings(function)

  assert warning.message.count('round at') == 3
  assert '2 more)' in warning.message


ACTIVATIONS = """
  celu elu gelu glu hard_sigmoid hard_silu hard_swish hard_tanh
  leaky_relu log_sigmoid log_softmax logsumexp mish relu relu6 selu
  sigmoid silu soft_sign softmax softplus sparse_plus sparse_sigmoid
  squareplus standardize tanh
""".split()


@pytest.mark.parametrize('name', ACTIVATIONS)
def test_activations_of_jax_raise_no_warning(name):
  # The gradient that a softmax hides is zero, which only a measurement shows.
  masking = kinds(lambda x: getattr(jax.nn, name)(flat(x)))

  assert set(masking) <= {'stop_gradient'}
  assert not masking or 'soft' in name or 'sum' in name


def test_networks_have_at_most_gradients_of_their_own():
  net = fixed.NETWORKS['small_resnet'](num_classes=10)
  images = jnp.zeros((1, 8, 8, 3))
  shapes = jax.eval_shape(
    lambda key: net.init(key, images, train=False), jax.random.key(0)
  )
  # Code is read, not run.
  variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
  teacher = networks.logits_fn(net, variables)

  for network in (teacher, attack_networks.cell, attack_networks.plain):
    assert set(kinds(network, (8, 8, 3))) <= {'custom gradient'}


def test_resolution_is_that_of_the_coarsest_type_on_the_way():
  def function(images, dtype):
    unused = images.astype(jnp.float16)
    del unused
    return logits(flat(images).astype(dtype)).astype(images.dtype)

  def resolution(dtype):
    steps = program_checks.steps(
      functools.partial(function, dtype=dtype), SHAPE, jnp.float32
    )
    return program_checks.resolution(steps)

  assert resolution(jnp.float32) == 2**-23
  assert resolution(jnp.bfloat16) == 2**-7


def test_a_condition_of_a_loop_selects_and_its_body_computes():
  def function(x):
    return lax.while_loop(lambda c: c < 3.0, lambda c: c + jnp.sin(x), x)

  steps = {step.name: step for step in dataflow.steps(function, 1.0)}

  assert steps['lt'].reaches and not any(steps['lt'].as_value)
  assert steps['sin'].as_value == (True,)

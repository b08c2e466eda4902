"""Classifiers of any framework: the examples of docs/attacks.md, run."""

import functools
import re

import equinox
import flax.linen
import haiku
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rnascl_jax import attacks
from rnascl_jax.attacks import ensembles, gradient
from tests import attack_networks, attack_tables, official_autoattack
from tests.attack_networks import plain

PAGE = attack_tables.PAGE.read_text(encoding='utf-8')
EXAMPLES = dict(
  re.findall(r'^```python\n# (.+?)\.\n(.*?)^```', PAGE, re.M | re.S)
)
EPSILON = 8 / 255
FEATURES = (8, 12)


def run(logits_fn, images, labels, **options):
  settings = {
    'epsilon': EPSILON,
    'attacks': [
      ensembles.apgd_ce(num_steps=3),
      ensembles.square(num_steps=20),
    ],
    'verbose': False,
    'checks': False,
    'devices': jax.devices()[:1],
    'batch_size': 16,
  }
  return attacks.auto_attack(logits_fn, images, labels, **settings | options)


@functools.cache
def data():
  images, labels = official_autoattack.data(plain, 16)
  return images.astype(np.float64), labels


@functools.cache
def expected():
  with jax.enable_x64(True):
    return run(plain, *data())


def weights(index):
  """Kernel [h, w, C, C'], mean, variance, scale and bias of a layer."""
  kernel, *statistics = attack_networks.plain_weights()[0][index]
  return kernel.transpose(2, 3, 1, 0), *statistics


class Linen(flax.linen.Module):
  """`plain` in Flax Linen."""

  @flax.linen.compact
  def __call__(self, x, *, train):
    for features in FEATURES:
      x = flax.linen.Conv(
        features,
        (3, 3),
        (2, 2),
        'VALID',
        use_bias=False,
        param_dtype=x.dtype,
      )(x)
      x = flax.linen.BatchNorm(not train, epsilon=1e-5, param_dtype=x.dtype)(x)
      x = flax.linen.relu(x)
    x = flax.linen.Dropout(0.5, deterministic=not train)(x.mean((1, 2)))
    return flax.linen.Dense(10, use_bias=False, param_dtype=x.dtype)(x)


def linen():
  params, stats = {}, {}
  for index in range(2):
    kernel, mean, variance, scale, bias = weights(index)
    params[f'Conv_{index}'] = {'kernel': kernel}
    params[f'BatchNorm_{index}'] = {'scale': scale, 'bias': bias}
    stats[f'BatchNorm_{index}'] = {'mean': mean, 'var': variance}
  params['Dense_0'] = {'kernel': attack_networks.plain_weights()[1]}
  return {
    'model': Linen(),
    'variables': {'params': params, 'batch_stats': stats},
  }


class NNX(nnx.Module):
  """`plain` in Flax NNX."""

  def __init__(self):
    rngs, sizes = nnx.Rngs(0), (3, *FEATURES)
    for index in range(2):
      kernel, *statistics = weights(index)
      conv = nnx.Conv(
        *sizes[index : index + 2],
        (3, 3),
        (2, 2),
        padding='VALID',
        use_bias=False,
        rngs=rngs,
      )
      conv.kernel.set_value(jnp.asarray(kernel))
      norm = nnx.BatchNorm(sizes[index + 1], epsilon=1e-5, rngs=rngs)
      variables = (norm.mean, norm.var, norm.scale, norm.bias)
      for variable, value in zip(variables, statistics, strict=True):
        variable.set_value(jnp.asarray(value))
      setattr(self, f'conv{index}', conv)
      setattr(self, f'norm{index}', norm)
    self.dropout = nnx.Dropout(0.5, rngs=rngs)
    self.dense = nnx.Linear(FEATURES[-1], 10, use_bias=False, rngs=rngs)
    self.dense.kernel.set_value(jnp.asarray(attack_networks.plain_weights()[1]))

  def __call__(self, x):
    x = nnx.relu(self.norm0(self.conv0(x)))
    x = nnx.relu(self.norm1(self.conv1(x)))
    return self.dense(self.dropout(x.mean((1, 2))))


class Equinox(equinox.Module):
  """`plain` in Equinox, of one image [C, H, W]."""

  layers: list
  dropout: equinox.nn.Dropout
  dense: jax.Array

  def __init__(self):
    self.layers = []
    for index, (inputs, features) in enumerate(
      zip((3, 8), FEATURES, strict=True)
    ):
      conv = equinox.nn.Conv2d(
        inputs, features, 3, 2, use_bias=False, key=jax.random.key(0)
      )
      kernel = attack_networks.plain_weights()[0][index][0]
      conv = equinox.tree_at(lambda m: m.weight, conv, jnp.asarray(kernel))
      norm = equinox.nn.BatchNorm(features, 'batch', mode='batch')
      self.layers += [conv, norm]
    self.dropout = equinox.nn.Dropout(0.5)
    self.dense = jnp.asarray(attack_networks.plain_weights()[1])

  def __call__(self, x, state):
    for conv, norm in zip(self.layers[::2], self.layers[1::2], strict=True):
      x, state = norm(conv(x), state)
      x = jax.nn.relu(x)
    return self.dropout(x.mean((1, 2))) @ self.dense, state


def in_equinox():
  model, state = equinox.nn.make_with_state(Equinox)()
  for index, norm in enumerate(model.layers[1::2]):
    _, mean, variance, scale, bias = weights(index)
    state = state.set(
      norm.batch_state_index, (jnp.asarray(mean), jnp.asarray(variance))
    )
    model = equinox.tree_at(
      lambda m, i=index: (
        m.layers[2 * i + 1].weight,
        m.layers[2 * i + 1].bias,
      ),
      model,
      (jnp.asarray(scale), jnp.asarray(bias)),
    )
  return {'model': model, 'state': state, 'equinox': equinox}


def _haiku(x, is_training):
  for index, features in enumerate(FEATURES):
    x = haiku.Conv2D(
      features, 3, 2, padding='VALID', with_bias=False, name=f'conv{index}'
    )(x)
    norm = haiku.BatchNorm(True, True, 0.9, 1e-5, name=f'norm{index}')
    x = jax.nn.relu(norm(x, is_training))
  x = x.mean((1, 2))
  if is_training:
    x = haiku.dropout(haiku.next_rng_key(), 0.5, x)
  return haiku.Linear(10, with_bias=False, name='dense')(x)


def in_haiku():
  params = {'dense': {'w': attack_networks.plain_weights()[1]}}
  state = {}
  for index in range(2):
    kernel, mean, variance, scale, bias = weights(index)
    params[f'conv{index}'] = {'w': kernel}
    params[f'norm{index}'] = {'scale': scale, 'offset': bias}
    for name, value in (('mean', mean), ('var', variance)):
      state[f'norm{index}/~/{name}_ema'] = {'average': value}
  for tree in (params, state):
    for name, values in tree.items():
      tree[name] = {
        key: value if name == 'dense' or name[:4] == 'conv' else value[None]
        for key, value in values.items()
      }
      if tree is state or name[:4] == 'norm':
        tree[name] = {k: v[:, None, None] for k, v in tree[name].items()}
  model = haiku.transform_with_state(_haiku)
  return {'model': model, 'params': params, 'state': state}


MODELS = {
  'Flax Linen': linen,
  'Flax NNX': lambda: {'model': NNX()},
  'Equinox': in_equinox,
  'Haiku': in_haiku,
}


def example(name, **names):
  """The `logits_fn` that the example of the page makes."""
  namespace = {'jax': jax, **names}
  exec(EXAMPLES[name], namespace)
  return namespace['logits_fn']


def test_the_page_has_the_tables_of_the_attacks():
  assert attack_tables.filled(PAGE) == PAGE


@pytest.mark.parametrize('name', MODELS)
def test_the_same_weights_break_alike_in_every_framework(name):
  images, labels = data()
  with jax.enable_x64(True):
    logits_fn = example(name, **MODELS[name]())
    np.testing.assert_allclose(logits_fn(images), plain(images), atol=1e-10)
    result = run(logits_fn, images, labels)

  assert 0 < expected().robust_accuracy < expected().clean_accuracy
  np.testing.assert_array_equal(result.broken_by, expected().broken_by)
  np.testing.assert_allclose(result.images, expected().images, atol=1e-9)


@pytest.mark.parametrize('name', ('Flax NNX', 'Equinox'))
def test_a_module_in_training_mode_is_refused_in_words(name):
  images, labels = data()
  with jax.enable_x64(True):
    names = MODELS[name]()
    logits_fn = jax.tree_util.Partial(lambda model, x: x, names['model'])

    for attack in (run, functools.partial(attacks.perturb, gradient.fgsm)):
      with pytest.raises(ValueError, match=r'training mode .*BatchNorm\.'):
        attack(logits_fn, images, labels, epsilon=EPSILON)


def test_square_breaks_a_pytorch_model_as_its_copy_in_jax():
  torch = pytest.importorskip('torch')
  images, labels = official_autoattack.data(plain, 16)

  class Model(torch.nn.Module):
    def forward(self, x):
      return attack_networks.torch_plain(x)

  from rnascl_jax.interop import torch_classifier

  names = {'model': Model(), 'torch_classifier': torch_classifier}
  with pytest.raises(ValueError, match=r'call model\.eval\(\)'):
    example('PyTorch', **names)
  names['model'].eval()
  logits_fn = example('PyTorch', **names)
  options = {'attacks': [ensembles.square(num_steps=60)], 'epsilon': 0.1}
  result = run(logits_fn, images, labels, **options)
  copied = run(plain, images, labels, **options)

  assert 0 < result.robust_accuracy < result.clean_accuracy
  np.testing.assert_array_equal(result.broken_by, copied.broken_by)
  with pytest.raises(ValueError, match=r"APGD-CE cannot.*\('square',\)"):
    run(logits_fn, images, labels, checks=True)

"""Fingerprints: equal for equal attacks and classifiers, and for no others."""

import dataclasses
import functools
import json
import logging
import os
import pathlib
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import attacks
from rnascl_jax.attacks.randomized import Randomized
from rnascl_jax.runtime import fingerprints

_SHAPE = (2, 2, 1)
_WEIGHTS = np.linspace(0.5, 2, 12, dtype=np.float32).reshape(4, 3)


def _same(one, two) -> bool:
  texts = [
    json.dumps(fingerprints.describe(v), sort_keys=True) for v in (one, two)
  ]
  return texts[0] == texts[1]


def _climb(logits, labels, weights=None):
  return logits, labels, weights


def _dense(weights, images):
  return jnp.tanh(images.reshape(len(images), -1) @ weights)


def _scaled(by):
  return lambda logits: logits * by


def _nested(by):
  def outer():
    def inner(x):
      return x + 1 if by else x - 1

    return inner

  return outer


@dataclasses.dataclass
class _Attack:
  weights: Any


@dataclasses.dataclass
class _OtherAttack:
  weights: Any


class _Loss:
  def __init__(self, weights):
    self.weights = weights


_ONES, _ZEROS = np.ones(3), np.zeros(3)
_DIFFERENT = [
  (jnp.tanh, jnp.sin),
  (_dense, _climb),
  (lambda x, by=1: x * by, lambda x, by=2: x * by),
  (lambda x, *, by=1: x * by, lambda x, *, by=2: x * by),
  (_scaled(1.0), _scaled(2.0)),
  (_scaled(_ONES), _scaled(_ZEROS)),
  (_scaled(_scaled(_ONES)), _scaled(_scaled(_ZEROS))),
  (jax.jit(_scaled(1.0)), jax.jit(_scaled(2.0))),
  (
    functools.partial(_climb, weights=_ONES),
    functools.partial(_climb, weights=_ZEROS),
  ),
  (functools.partial(_climb, _ONES), functools.partial(_climb, _ZEROS)),
  (_Attack(_ONES), _Attack(_ZEROS)),
  (_Attack(_ONES), _OtherAttack(_ONES)),
  (_Loss(_ONES), _Loss(jnp.zeros(3))),
  (_Loss(_ONES).__init__, _Loss(_ZEROS).__init__),
  (np.float32(0.1), np.float32(0.2)),
  (np.zeros((1, 2)), np.zeros((2, 1))),
  (np.zeros(2), np.zeros(2, np.float32)),
  (jax.random.key(0), jax.random.key(1)),
  ({'a': 1}, {'a': 2}),
]


@pytest.mark.parametrize(('one', 'two'), _DIFFERENT)
def test_what_computes_something_else_is_described_otherwise(one, two):
  assert _same(one, one) and _same(two, two)
  assert not _same(one, two)


def test_equal_functions_made_twice_are_described_equally():
  for make in (_scaled, _nested, _Attack, _Loss):
    assert _same(make(_ONES), make(_ONES.copy()))
  preset = attacks.PRESETS['pgd20_trades']
  assert _same(preset, dataclasses.replace(preset))
  assert not _same(preset, dataclasses.replace(preset, num_steps=21))


def test_what_refers_to_itself_is_described():
  def even(n):
    return not n or odd(n - 1)

  def odd(n):
    return n and even(n - 1)

  values: list[Any] = [even, logging.getLogger(__name__)]
  values.append(values)
  assert 'again 0' in json.dumps(fingerprints.describe(values))


def _vjp_of(derivative):
  @jax.custom_vjp
  def rounded(x):
    return jnp.round(x)

  rounded.defvjp(lambda x: (jnp.round(x), x), derivative)
  return rounded


def _of(logits_fn):
  return fingerprints.of_classifier(logits_fn, _SHAPE, np.float32)


def _kinds(weights):
  """The same classifier as every kind of function."""
  partial = jax.tree_util.Partial(_dense, jnp.asarray(weights))
  noisy = jax.tree_util.Partial(
    lambda weights, images, key: (
      _dense(weights, images) + jax.random.normal(key, (3,))[None]
    ),
    jnp.asarray(weights),
  )
  return {
    'closure': lambda images: _dense(weights, images),
    'jitted': jax.jit(lambda images: _dense(jnp.asarray(weights), images)),
    'inner': lambda images: jax.jit(lambda x: _dense(weights, x))(images),
    'Partial': partial,
    'Randomized': Randomized(noisy),
  }


def test_another_version_of_jax_makes_another_classifier(monkeypatch):
  before = _of(_kinds(_WEIGHTS)['closure'])
  monkeypatch.setattr(jax, '__version__', '0.0.1')
  after = _of(_kinds(_WEIGHTS)['closure'])
  assert before | {'jax': '0.0.1'} == after != before


@pytest.mark.parametrize('kind', _kinds(_WEIGHTS))
def test_a_weight_that_changes_by_rounding_makes_another_classifier(kind):
  changed = _WEIGHTS.copy()
  changed[1, 2] = np.nextafter(changed[1, 2], np.float32(9))
  assert changed[1, 2] / _WEIGHTS[1, 2] - 1 < 2e-7
  one, again, other = (
    _of(_kinds(w)[kind]) for w in (_WEIGHTS, _WEIGHTS.copy(), changed)
  )
  assert one == again != other
  assert json.loads(json.dumps(one)) == one
  if kind in ('Partial', 'Randomized'):
    assert one['program'] == other['program']
    assert one['weights'] != other['weights']


def test_classifiers_that_differ_in_the_gradient_alone_differ():
  def through(function):
    return lambda images: function(images.reshape(1, -1))

  classifiers = [
    _of(through(function))
    for function in (
      lambda x: x + (jnp.round(x) - x),
      lambda x: x + jax.lax.stop_gradient(jnp.round(x) - x),
      _vjp_of(lambda x, slope: (slope,)),
      _vjp_of(lambda x, slope: (2 * slope,)),
      _vjp_of(lambda x, slope: (3 * slope,)),
      _vjp_of(lambda x, slope: (slope * jnp.cos(x),)),
    )
  ]
  assert len({json.dumps(one) for one in classifiers}) == len(classifiers)
  again = _of(through(_vjp_of(lambda x, slope: (3 * slope,))))
  assert again == classifiers[4]


def test_a_classifier_without_a_derivative_has_a_fingerprint():
  def search(scale):
    def classify(images):
      scaled = scale * images.reshape(1, -1)
      return jax.lax.while_loop(
        lambda x: x.max() < 9, lambda x: 2 * x + 1, scaled
      )

    return classify

  assert (
    _of(search(1.5)) == _of(search(1.5)) != _of(search(np.float32(1.5 + 2e-7)))
  )


def test_nothing_is_compiled_for_a_fingerprint():
  compiled = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, *_, **__: compiled.append(event)
  )
  for logits_fn in _kinds(_WEIGHTS).values():
    compiled.clear()
    _of(logits_fn)
    assert not [e for e in compiled if 'backend_compile' in e]
  jax.jit(lambda x: x - 3.25)(np.ones(5))
  assert [e for e in compiled if 'backend_compile' in e]


_SCRIPT = """
import functools, json, sys
import jax, numpy as np
from rnascl_jax import attacks
from rnascl_jax.attacks import ensembles
from rnascl_jax.models import fixed, networks
from rnascl_jax.runtime import fingerprints
from tests.runtime import test_fingerprints as t

net = fixed.NETWORKS['small_resnet'](
  num_classes=10, features=(4, 8), stage_sizes=(1, 1), strides=(1, 2))
shapes = jax.eval_shape(
  lambda: net.init(jax.random.key(0), np.zeros((1, 8, 8, 1)), train=False))
variables = jax.tree.map(lambda x: np.full(x.shape, .1, x.dtype), shapes)
classify = networks.logits_fn(net, variables)
if len(sys.argv) > 1:
  jax.jit(classify)(np.zeros((1, 8, 8, 1), np.float32))
print(json.dumps([
  fingerprints.of_classifier(classify, (8, 8, 1), np.float32),
  *map(t._of, t._kinds(t._WEIGHTS).values()),
  fingerprints.describe([m.attack for m in ensembles.plus()]),
  fingerprints.describe(list(attacks.PRESETS.values())),
  fingerprints.describe([net, t._DIFFERENT, {1, 'a', 'b', None}]),
], sort_keys=True))
"""


def test_fingerprints_are_equal_in_every_process():
  outputs = set()
  for seed, arguments in (('1', []), ('2', ['after another program'])):
    done = subprocess.run(
      [sys.executable, '-c', _SCRIPT, *arguments],
      cwd=pathlib.Path(__file__).parents[2],
      env=os.environ | {'PYTHONHASHSEED': seed, 'JAX_PLATFORMS': 'cpu'},
      capture_output=True,
      text=True,
      check=True,
    )
    outputs.add(done.stdout)
  assert len(outputs) == 1 and len(outputs.pop()) > 1000


def test_a_digest_tells_types_shapes_and_names_apart():
  trees = [
    np.float32(1),
    np.ones(1, np.float32),
    np.ones((1, 1), np.float32),
    jnp.ones(1, jnp.bfloat16),
    np.ones(0, np.float32),
    {'a': np.ones(1, np.float32)},
    {'b': np.ones(1, np.float32)},
    jax.random.key(1),
    jax.random.key(2),
    True,
  ]
  assert len({fingerprints.digest(tree) for tree in trees}) == len(trees)
  array = np.arange(6.0).reshape(2, 3)
  assert fingerprints.digest(array.T) == fingerprints.digest(array.T.copy())

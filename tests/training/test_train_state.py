"""The state before the first step, and what it costs to make it."""

import functools

import jax
import numpy as np
import optax
import pytest

from rnascl_jax.data import batches
from rnascl_jax.distillation import compare
from rnascl_jax.training import adversarial, train_state
from tests import small_network

_SHAPE = (4, 4, 1)


@pytest.fixture
def compiled():
  """Names of events of compilation since the test began."""
  events: list[str] = []

  def listen(name, seconds, **_):
    del seconds
    if 'backend_compile' in name:
      events.append(name)

  jax.monitoring.register_event_duration_secs_listener(listen)
  yield events
  jax.monitoring.unregister_event_duration_listener(listen)


def _recipe(learning_rate: float) -> train_state.Recipe:
  return train_state.Recipe(
    net=small_network.Network(),
    optimizer=optax.sgd(learning_rate, momentum=0.9),
    adversarial=adversarial.standard(),
    distillation=compare.Distillation(),
    augment=functools.partial(batches.augment, padding=1, flip=True),
  )


def test_the_weights_of_a_network_are_initialised_by_one_program(compiled):
  key = jax.random.key(0)
  first = train_state.init_state(_recipe(0.1), key, _SHAPE, 8)
  after_first = len(compiled)
  second = train_state.init_state(_recipe(0.2), key, _SHAPE, 8)
  # The other program is that of the optimizer's state, which is another one.
  assert len(compiled) - after_first == 1 < after_first
  for one, other in zip(
    jax.tree.leaves(first.variables),
    jax.tree.leaves(second.variables),
    strict=True,
  ):
    np.testing.assert_array_equal(one, other)


def test_the_weights_are_those_that_the_network_initialises():
  key, net = jax.random.key(3), small_network.Network()
  state = train_state.init_state(_recipe(0.1), key, _SHAPE, 8)
  expected = net.init(key, np.zeros((1, *_SHAPE), np.float32), train=False)
  assert jax.tree.structure(state.variables) == jax.tree.structure(expected)
  for one, other in zip(
    jax.tree.leaves(state.variables), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)

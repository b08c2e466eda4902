"""Averages of weights with equal shares, and statistics computed for them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnascl_jax.distillation import compare
from rnascl_jax.runtime import parallel
from rnascl_jax.training import (
  adversarial,
  averaging,
  loop,
  statistics,
  train_state,
)
from rnascl_jax.training.loader import DeviceData
from tests import small_network

_SHAPE, _BATCH = (4, 4, 1), 4


def test_the_equal_average_is_the_mean_of_weights_at_the_ends_of_periods():
  """After steps 4, 7 and 10 of ten; before the first it is the weights."""
  weights = np.random.default_rng(0).normal(size=(10, 3))
  update = jax.jit(functools.partial(averaging.equal, first=4, every=3))
  with jax.enable_x64(True):
    average = np.zeros(3)
    for step, own in enumerate(weights):
      average = update(average, own, step=step)
      done = step + 1
      expected = own if done < 4 else weights[3:done:3].mean(0)
      np.testing.assert_allclose(average, expected, rtol=1e-14)


def _passed(devices: int, images: np.ndarray):
  """An average network after a pass over three batches, in float64."""
  recipe = train_state.Recipe(
    net=small_network.Network(3, parallel.AXIS),
    optimizer=optax.sgd(0.1),
    adversarial=adversarial.standard(),
    distillation=compare.Distillation(None, attends=False),
    augment=lambda key, image: image,
  )
  devices = tuple(parallel.devices(devices))
  step = statistics.make_statistics_step(recipe, 3)
  context = train_state.Context(jnp.uint32(3), (), (), *jnp.zeros((2, 1)))
  data = DeviceData(images, np.zeros(len(images), np.int32))
  with jax.enable_x64(True):
    dispatch = loop.make_dispatch(step, devices)
    average = small_network.variables(_SHAPE)
    # The second epoch of three steps.
    state = statistics.StatisticsState(jnp.int32(3), average)
    state, context, data = (
      parallel.replicate(tree, devices) for tree in (state, context, data)
    )
    for rows in np.arange(len(images), dtype=np.int32).reshape(3, 1, _BATCH):
      part = parallel.share(rows, devices, axis=1)
      state, sums = dispatch(state, context, data, (part,))
      assert sums == {}
    return parallel.unreplicate(state)


@pytest.mark.parametrize('devices', [1, 2])
def test_a_pass_gives_an_average_the_statistics_that_pytorch_gives_it(devices):
  """Those of `torch.optim.swa_utils.update_bn`, with n below the variance."""
  import torch

  random = np.random.default_rng(1)
  images = random.integers(0, 256, (3 * _BATCH, *_SHAPE)).astype(np.uint8)
  state = _passed(devices, images)
  start = small_network.variables(_SHAPE)
  network = small_network.torch_network(start)
  parts = images.reshape(3, _BATCH, *_SHAPE).transpose(0, 1, 4, 2, 3) / 255
  loader = [torch.tensor(part) for part in parts]
  torch.optim.swa_utils.update_bn(loader, network)
  size = _BATCH * _SHAPE[0] * _SHAPE[1]
  expected = {
    'mean': network.norm.running_mean.numpy(),
    'var': network.norm.running_var.numpy() * (size - 1) / size,
  }
  for name, value in state.average['batch_stats']['norm'].items():
    # Pixels are float32.
    np.testing.assert_allclose(value, expected[name], rtol=1e-6)
  assert state.step == 6
  jax.tree.map(
    np.testing.assert_array_equal, state.average['params'], start['params']
  )

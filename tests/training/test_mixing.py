"""A step on mixed images, against PyTorch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnascl_jax.data import mixing
from rnascl_jax.distillation import compare
from rnascl_jax.runtime import parallel
from rnascl_jax.training import adversarial, loop, train_state, train_step
from rnascl_jax.training.loader import DeviceData
from tests import small_network

_SHAPE, _BATCH, _RATE = (4, 4, 1), 8, 0.1
_ATTACK = {'epsilon': 0.1, 'step_size': 0.05, 'num_steps': 1, 'start': None}


def _case():
  recipe = train_state.Recipe(
    net=small_network.Network(3, parallel.AXIS),
    optimizer=optax.sgd(_RATE),
    adversarial=adversarial.pgd_training(**_ATTACK, in_training_mode=False),
    distillation=compare.Distillation(small_network.Network(3), attends=False),
    augment=lambda key, image: image,
    mixing=mixing.Mixing(3, mixup=1.0, cutmix=1.0, probability=0.9),
  )
  variables = small_network.variables(_SHAPE)
  taught = jax.tree.map(lambda x: np.flip(x).copy(), variables['params'])
  teacher = variables | {'params': taught}
  context = train_state.Context(
    jnp.uint32(3), teacher, (), jnp.ones(()), jnp.zeros(())
  )
  state = train_state.start_from(recipe, variables, _SHAPE, _BATCH)
  random = np.random.default_rng(2)
  images = random.integers(0, 256, (_BATCH, *_SHAPE)).astype(np.uint8)
  labels = random.integers(0, 3, _BATCH).astype(np.int32)
  return recipe, state, context, images, labels


@functools.cache
def _expected():
  """Parameters and metrics after a step in PyTorch, in float64.

  L = CE(s(x'), y) + KL(s(x'), t(x)) of mixed images x and labels y, where x' is
  a step along the sign of the gradient of CE(s(x), y).
  """
  import torch

  recipe, state, context, images, labels = _case()
  batch = train_state.Batch(images, labels, np.arange(_BATCH))
  with jax.enable_x64(True):  # Draws differ with it.
    _, mixed, shares = train_step.augment(recipe, context, jnp.int32(0), batch)
  mixed, shares = np.array(mixed, np.float64), np.array(shares, np.float64)
  assert np.ptp(shares, axis=1).min() < 0.9
  student = small_network.torch_network(state.own_variables)
  teacher = small_network.torch_network(context.teacher)
  x = torch.tensor(mixed.transpose(0, 3, 1, 2), requires_grad=True)
  y = torch.tensor(shares)
  cross_entropy = torch.nn.functional.cross_entropy
  cross_entropy(student.eval()(x)[0], y).backward()
  moved = x + _ATTACK['step_size'] * x.grad.sign()
  attacked = moved.clamp(0, 1).detach()
  student.zero_grad()
  logits = student.train()(attacked)[0]
  own = torch.log_softmax(logits, 1)
  with torch.no_grad():
    taught = torch.log_softmax(teacher.eval()(x)[0], 1)
  kl = (own.exp() * (own - taught)).sum()
  total = cross_entropy(logits, y, reduction='sum') + kl
  (total / _BATCH).backward()
  right = shares[np.arange(_BATCH), logits.argmax(1).numpy()].sum()
  params = {
    name: (value - _RATE * value.grad).detach().numpy()
    for name, value in student.named_parameters()
  }
  return params, {'loss': total.item(), 'kl': kl.item(), 'accuracy': right}


@pytest.mark.parametrize('devices', [1, 2])
def test_a_step_on_mixed_images_is_that_of_pytorch(devices):
  """So two devices do what one does: partners lie on one of them."""
  recipe, state, context, images, labels = _case()
  devices = tuple(parallel.devices(devices))
  with jax.enable_x64(True):
    dispatch = loop.make_dispatch(train_step.make_train_step(recipe), devices)
    state, context, data = (
      parallel.replicate(tree, devices)
      for tree in (state, context, DeviceData(images, labels))
    )
    rows = np.arange(_BATCH, dtype=np.int32)[None]
    part = parallel.share(rows, devices, axis=1)
    state, sums = dispatch(state, context, data, (part,))
    state, sums = parallel.unreplicate(state), parallel.unreplicate(sums)
  params, values = _expected()
  for name, value in small_network.parameters(state.params).items():
    # Pixels and shares are float32, and so is the step's size.
    np.testing.assert_allclose(value, params[name], rtol=1e-6, atol=1e-7)
  for name, value in values.items():
    np.testing.assert_allclose(sums[name][0], value, rtol=1e-6)

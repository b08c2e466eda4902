"""APGD in L1: every pixel against the official AutoAttack, and its stages."""

import contextlib
import functools
import math
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import losses
from rnascl_jax.attacks import apgd_l1, norms
from rnascl_jax.attacks.stepwise import AttackInput
from tests import attack_networks as nets
from tests import golden

OPTIMIZED = True

EPSILON = 2.0
LOSSES = {
  'ce': (losses.cross_entropy, 0),
  'dlr': (losses.dlr, 0),
  'dlr-targeted': (losses.targeted_dlr, 9),
}
MODELS = {nets.plain: nets.torch_plain, nets.cell: nets.torch_cell}


@functools.cache
def data(network):
  """Images, noise and labels; numbers whose differences are exact."""
  images, labels = nets.data(network=network)
  noise = np.random.default_rng(5).normal(size=images.shape)
  return np.floor(images * 255) / 256, np.round(noise * 256) / 256, labels


@functools.cache
def compiled(network, loss, num_steps, large_radii):
  """All steps on every image, with a target of this rank."""
  function, targets = LOSSES[loss]
  attack = apgd_l1.APGDL1(
    loss=function, targets=targets, num_steps=num_steps, large_radii=large_radii
  )

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(0, 0, 0, None))
  def run(image, label, noise, rank):
    epsilon = jnp.asarray(EPSILON, image.dtype)
    inputs = AttackInput(jax.random.key(0), image, label, epsilon)

    def step(index, state):
      return attack.step(network, inputs, state, index)

    noisy = norms.L1._replace(noise=lambda key, image: noise)
    with mock.patch.object(norms, 'L1', noisy):
      first = attack.init(network, inputs, rank)
    return jax.lax.fori_loop(0, num_steps, step, first)

  return run


def ours(network, loss, dtype, num_steps, large_radii, rank=0):
  """What the attack has after all steps, for every image."""
  images, noise, labels = data(network)
  with jax.enable_x64(dtype == np.float64):
    run = compiled(network, loss, num_steps, large_radii)
    state = run(images.astype(dtype), labels, noise.astype(dtype), rank)
  result = {
    'best': state.best.image,
    'best_loss': state.best.loss,
    'adversarial': state.adversarial,
    'fooled': state.fooled,
  }
  return jax.tree.map(np.asarray, result)


@functools.cache
def official(network, loss, num_steps, large_radii, rank=0, exact=True):
  """The same of the official code in float64, or in its own float32."""
  torch = pytest.importorskip('torch')
  autopgd_base = pytest.importorskip('pyautoattack.autopgd_base')
  images, noise, labels = data(network)
  dtype = np.float64 if exact else np.float32
  model = MODELS[network]
  drawn = nets.to_torch(noise, dtype)
  with contextlib.ExitStack() as stack:
    stack.enter_context(golden.ignored_warnings())
    if exact:
      stack.enter_context(golden.torch_float64())
      # It casts to float32 whatever it is given.
      double = torch.Tensor.double
      stack.enter_context(mock.patch.object(torch.Tensor, 'float', double))
    for name in ('randn', 'randn_like'):
      stack.enter_context(mock.patch.object(torch, name, lambda _: drawn))
    x, y = nets.to_torch(images, dtype), torch.tensor(labels).long()
    attack = autopgd_base.APGDAttack_targeted(
      model, n_iter=num_steps, norm='L1', eps=EPSILON, device='cpu'
    )
    attack.loss = loss
    attack.init_hyperparam(x)
    attack.y_target = model(x).sort(dim=1)[1][:, -(rank + 2)]
    if large_radii:
      radii = [3 * EPSILON, 2 * EPSILON, EPSILON]
      counts = [math.ceil(0.3 * num_steps)] * 2
      counts.append(num_steps - sum(counts))
      result = attack.decr_eps_pgd(x, y, radii, counts)
    else:
      result = attack.attack_single_run(x, y)
  best, right, best_loss, adversarial = result
  return {
    'best': nets.from_torch(best),
    'best_loss': best_loss.numpy(),
    'adversarial': nets.from_torch(adversarial),
    'fooled': right.numpy() == 0,
  }


if __name__ == '__main__':
  for network in (nets.plain, nets.cell):
    for loss in LOSSES:
      for large in (False, True) if network is nets.plain else (True,):
        for n in (10, 100):
          e = official(network, loss, n, large)
          o = ours(network, loss, np.float64, n + 2 * large, large)
          d = np.abs(o['best'] - e['best']).max((1, 2, 3))
          print(
            network.__name__,
            loss,
            large,
            n,
            d.max(),
            (d > 1e-10).nonzero()[0],
            (o['fooled'] != e['fooled']).sum(),
            e['fooled'].mean(),
            np.abs(o['best_loss'] - e['best_loss']).max(),
          )

"""APGD in L1: every pixel against the official AutoAttack, and its stages."""

import contextlib
import functools
import math
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import losses
from rnascl_jax.attacks import apgd, apgd_l1, norms
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
def official(network, loss, num_steps, large_radii, rank=0):
  """The same of the official code in float64."""
  torch = pytest.importorskip('torch')
  autopgd_base = pytest.importorskip('pyautoattack.autopgd_base')
  images, noise, labels = data(network)
  model, drawn = MODELS[network], nets.to_torch(noise)
  with contextlib.ExitStack() as stack:
    stack.enter_context(golden.ignored_warnings())
    stack.enter_context(golden.torch_float64())
    # It casts to float32 whatever it is given.
    double = torch.Tensor.double
    stack.enter_context(mock.patch.object(torch.Tensor, 'float', double))
    for name in ('randn', 'randn_like'):
      stack.enter_context(mock.patch.object(torch, name, lambda _: drawn))
    x, y = nets.to_torch(images), torch.tensor(labels).long()
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


def differences(network, loss, num_steps, large_radii, rank=0):
  """Of images that are right: the largest of a pixel in each, and of flags."""
  expected = official(network, loss, num_steps, large_radii, rank)
  # Two of our steps begin a stage.
  steps = num_steps + 2 * large_radii
  result = ours(network, loss, np.float64, steps, large_radii, rank)
  kept = slice(0, -2)  # The official attack is given no other images.

  def largest(name):
    return np.abs(result[name] - expected[name]).max((1, 2, 3))[kept]

  fooled = expected['fooled'][kept]
  apart = np.where(fooled, largest('adversarial'), largest('best'))
  return apart, result['fooled'][kept] != fooled


# Against the official code.


@pytest.mark.parametrize(
  ('network', 'loss', 'num_steps', 'large_radii', 'rank'),
  (
    (nets.plain, 'ce', 100, True, 0),
    (nets.plain, 'dlr-targeted', 10, True, 8),
    (nets.plain, 'dlr', 10, False, 0),
    (nets.cell, 'dlr-targeted', 10, True, 0),
    pytest.param(nets.cell, 'ce', 10, False, 0, marks=pytest.mark.slow),
    pytest.param(nets.plain, 'dlr', 10, True, 0, marks=pytest.mark.slow),
  ),
)
def test_steps_in_float64_give_the_official_pixels(
  network, loss, num_steps, large_radii, rank
):
  apart, different = differences(network, loss, num_steps, large_radii, rank)

  assert apart.max() < 1e-10
  assert not different.any()


@pytest.mark.slow
@pytest.mark.parametrize('large_radii', (False, True))
@pytest.mark.parametrize('loss', LOSSES)
@pytest.mark.parametrize('network', MODELS)
def test_100_steps_give_the_official_pixels_but_where_rounding_is_counted(
  network, loss, large_radii
):
  """A value that returns to the image may miss it, and counts as changed."""
  apart, different = differences(network, loss, 100, large_radii)

  assert (apart > 1e-10).sum() <= 3
  assert not different.any()


def test_in_float32_the_same_images_are_broken_with_large_radii():
  expected = official(nets.plain, 'ce', 100, True)
  result = ours(nets.plain, 'ce', np.float32, 102, True)

  different = (result['fooled'] != expected['fooled'])[:-2]
  assert different.sum() <= 1
  assert 4 < result['fooled'].sum() < len(different)


def test_a_planted_mutation_is_found(monkeypatch):
  """Values become fewer below 95 %, not 90 %."""
  monkeypatch.setattr(apgd_l1, '_FEWER', 0.9)
  monkeypatch.setattr(sys.modules[__name__], 'compiled', compiled.__wrapped__)

  apart, _ = differences(nets.plain, 'dlr', 10, False)

  assert apart.max() > 1e-4


# Stages.


def test_stages_get_30_30_and_40_percent_of_the_steps():
  table = apgd_l1.stages(102, True)

  assert table.factor.tolist() == [3.0] * 30 + [2.0] * 31 + [1.0] * 41
  assert np.flatnonzero(table.begins).tolist() == [30, 61]
  # Every step is a checkpoint, since 4 % of 40 are one.
  np.testing.assert_array_equal(table.is_checkpoint, ~table.begins)


def test_one_radius_has_a_checkpoint_every_4_percent():
  table = apgd_l1.stages(100, False)

  assert set(table.factor) == {1.0}
  assert not table.begins.any()
  expected = np.arange(3, 100, 4)
  np.testing.assert_array_equal(np.flatnonzero(table.is_checkpoint), expected)


@pytest.mark.parametrize('num_steps', (7, 8, 12, 39))
def test_all_stages_have_a_step_of_their_own(num_steps):
  table = apgd_l1.stages(num_steps, True)

  assert {len(column) for column in table} == {num_steps}
  moving = table.factor[~table.begins]
  assert {*moving} == {3.0, 2.0, 1.0}


def test_only_the_last_stage_breaks_an_image():
  """Its ball is the smallest; this classifier is fooled everywhere else."""
  center = jnp.full((4, 4, 1), 0.5)
  attack = apgd_l1.APGDL1(num_steps=12, large_radii=True)
  inputs = AttackInput(
    jax.random.key(0), center, jnp.asarray(0), jnp.asarray(0.5)
  )

  def logits_fn(images):
    far = jnp.abs(images - center[None]).sum((1, 2, 3))
    return jnp.stack([0 * far, far - 0.1], -1)

  def step(state, index):
    state = attack.step(logits_fn, inputs, state, index)
    candidate = attack.candidate(inputs, state)
    return state, (candidate.fooled, norms.L1.length(state.image - center))

  first = attack.init(logits_fn, inputs, jnp.asarray(0))
  _, (fooled, lengths) = jax.lax.scan(step, first, jnp.arange(12))

  factors = apgd_l1.stages(12, True).factor
  assert not first.fooled
  np.testing.assert_array_equal(fooled, factors == 1)
  assert (lengths <= 0.5 * factors + 1e-6).all()
  assert lengths[0] > 1.4


# The schedule.


@pytest.mark.parametrize(
  ('changed', 'step_size', 'after', 'is_sparser'),
  (
    (94, 0.2, 1.0, True),  # From 100.
    (96, 0.9, 0.6, False),
    (130, 0.9, 0.6, False),
    (100, 0.12, 0.1, False),
    (0, 0.3, 1.0, True),
  ),
)
def test_the_step_is_whole_where_fewer_values_change_and_else_shorter(
  changed, step_size, after, is_sparser
):
  before = apgd_l1.Sparsity(*map(jnp.asarray, (0.5, 100.0, step_size)))

  sparsity, sparser = apgd_l1.next_sparsity(
    before, jnp.asarray(float(changed)), 192, jnp.asarray(1.0)
  )

  assert sparser == is_sparser
  assert sparsity.step_size == pytest.approx(after)
  assert sparsity.changed == changed
  assert sparsity.share == pytest.approx(changed / 192 * 2 / 3)


def test_a_random_start_is_on_the_sphere_and_in_the_unit_cube():
  image = jnp.full((8, 8, 3), 0.9)
  for large_radii, radius in ((False, 2.0), (True, 6.0)):
    attack = apgd_l1.APGDL1(large_radii=large_radii)
    inputs = AttackInput(
      jax.random.key(0), image, jnp.asarray(0), jnp.asarray(2.0)
    )
    start = jax.jit(lambda i, a=attack: a.init(nets.plain, i, 0).image)(inputs)
    assert norms.L1.length(start - image) == pytest.approx(radius, rel=1e-4)
    assert start.min() >= 0
    assert start.max() <= 1


# What is refused.


def test_too_few_steps_for_three_stages_are_refused():
  assert apgd_l1.APGDL1(num_steps=7, large_radii=True)
  with pytest.raises(ValueError, match='num_steps=6'):
    apgd_l1.APGDL1(num_steps=6, large_radii=True)
  with pytest.raises(ValueError, match='large_radii'):
    apgd_l1.APGDL1(large_radii=3)


def test_the_attack_of_other_norms_is_refused_in_l1():
  with pytest.raises(ValueError, match='APGDL1'):
    apgd.APGD(norm=norms.L1)

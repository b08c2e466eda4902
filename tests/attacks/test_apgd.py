"""APGD: its schedule, and every pixel against the official AutoAttack."""

import contextlib
import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import losses
from rnascl_jax.attacks import (
  apgd,
  norms,
  prediction,
  randomized,
  stepwise,
)
from rnascl_jax.attacks.stepwise import AttackInput
from tests import attack_networks as nets
from tests import golden

OPTIMIZED = True

EPSILON = {'L∞': 8 / 255, 'L2': 0.5}
OFFICIAL_NORMS = {'L∞': 'Linf', 'L2': 'L2'}
LOSSES = {
  'ce': (losses.cross_entropy, 0),
  'dlr': (losses.dlr, 0),
  'dlr-targeted': (losses.targeted_dlr, 9),
}


@functools.cache
def starts(norm, network):
  """Where the attack begins on every image."""
  images, _ = nets.data(network=network)
  noise = np.random.default_rng(5).uniform(-1, 1, size=images.shape)
  length = {
    'L∞': np.abs(noise).max((1, 2, 3), keepdims=True),
    'L2': np.sqrt((noise**2).sum((1, 2, 3), keepdims=True)),
  }
  return np.clip(images + EPSILON[norm] * noise / length[norm], 0, 1)


@functools.cache
def compiled(network, loss, norm, num_steps):
  """All steps on every image, from its start, with a target of this rank."""
  function, targets = LOSSES[loss]
  configured = functools.partial(
    apgd.APGD, loss=function, targets=targets, norm=norm, num_steps=num_steps
  )

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(0, 0, 0, None))
  def run(image, label, first, rank):
    attack = configured(start=lambda *_: first)
    epsilon = jnp.asarray(EPSILON[norm.name], image.dtype)
    inputs = AttackInput(jax.random.key(0), image, label, epsilon)

    def step(index, state):
      return attack.step(network, inputs, state, index)

    return jax.lax.fori_loop(
      0, num_steps, step, attack.init(network, inputs, rank)
    )

  return run


def ours(network, loss, norm, dtype, num_steps, rank=0):
  """What the attack has after all steps, for every image."""
  images, labels = nets.data(network=network)
  run = compiled(network, loss, norm, num_steps)
  first = starts(norm.name, network).astype(dtype)
  state = run(images.astype(dtype), labels, first, rank)
  result = {
    'best': state.best.image,
    'best_loss': state.best.loss,
    'adversarial': state.adversarial,
    'fooled': state.fooled,
  }
  return jax.tree.map(np.asarray, result)


def case_name(network, loss, norm, num_steps, rank):
  """Of a saved result."""
  return f'apgd_{network.__name__}_{loss}_{norm.name}_{num_steps}_{rank}'


def official_cases():
  """Arguments of `official` in all tests."""
  for loss in LOSSES:
    for network in (nets.plain, nets.cell):
      yield network, loss, norms.LINF, 100, 0
    yield nets.plain, loss, norms.L2, 10, 0
  yield nets.plain, 'dlr-targeted', norms.LINF, 100, 8
  yield nets.plain, 'ce', norms.L2, 100, 0


@functools.cache
def official(network, loss, norm, num_steps, rank=0):
  """The same of the official code in float64, or as it was saved from it."""
  return golden.saved_or(
    case_name(network, loss, norm, num_steps, rank),
    lambda: _official(network, loss, norm, num_steps, rank),
  )


def _official(network, loss, norm, num_steps, rank):
  import torch
  from pyautoattack import autopgd_base

  images, labels = nets.data(network=network)
  model = {nets.plain: nets.torch_plain, nets.cell: nets.torch_cell}[network]
  with golden.torch_float64():
    x, y = nets.to_torch(images), torch.tensor(labels).long()
    attack = autopgd_base.APGDAttack_targeted(
      model,
      n_iter=num_steps,
      norm=OFFICIAL_NORMS[norm.name],
      eps=EPSILON[norm.name],
      device='cpu',
    )
    attack.loss = loss
    attack.init_hyperparam(x)
    attack.y_target = model(x).sort(dim=1)[1][:, -(rank + 2)]
    with contextlib.ExitStack() as stack:
      stack.enter_context(golden.ignored_warnings())
      best, right, best_loss, adversarial = attack.attack_single_run(
        x, y, x_init=nets.to_torch(starts(norm.name, network))
      )
  return {
    'best': nets.from_torch(best),
    'best_loss': best_loss.numpy(),
    'adversarial': nets.from_torch(adversarial),
    'fooled': right.numpy() == 0,
  }


def right_before(network):
  """[N] bool: the official attack is given no other images."""
  count = len(nets.data(network=network)[1])
  return np.arange(count) < count - 2


def differences(network, loss, norm, num_steps, rank=0):
  """The largest difference of a pixel, and of flags, in float64."""
  with jax.enable_x64(True):
    result = ours(network, loss, norm, np.float64, num_steps, rank)
  expected = official(network, loss, norm, num_steps, rank)
  kept = right_before(network)
  broken = kept & expected['fooled']
  robust = kept & ~expected['fooled']

  def largest(name, chosen):
    saved = expected[name]  # Of the first images only, where it is a file.
    apart = np.abs(result[name][: len(saved)] - saved)
    return apart[chosen[: len(saved)]].max()

  return {
    'best': largest('best', kept),
    'robust': largest('best', robust),
    'adversarial': largest('adversarial', broken),
    'fooled': (result['fooled'] != expected['fooled'])[kept].mean(),
  }


# Against the official code.


@pytest.mark.parametrize(
  ('network', 'loss'),
  (
    *((nets.plain, loss) for loss in LOSSES),
    (nets.cell, 'ce'),
    (nets.cell, 'dlr-targeted'),
    pytest.param(nets.cell, 'dlr', marks=pytest.mark.slow),
  ),
)
def test_100_steps_in_float64_give_the_official_pixels(network, loss):
  result = differences(network, loss, norms.LINF, 100)

  assert result['best'] < 1e-10
  assert result['adversarial'] < 1e-10
  assert result['fooled'] == 0


def test_the_last_target_gives_the_official_pixels():
  result = differences(nets.plain, 'dlr-targeted', norms.LINF, 100, rank=8)

  assert result['best'] < 1e-10
  assert result['fooled'] == 0


@pytest.mark.parametrize('loss', LOSSES)
def test_10_steps_in_l2_give_the_official_pixels(loss):
  """Of robust images: where the label is third, the gradient of DLR is zero but
  for rounding, which L2 scales to a length that no two programs agree on."""
  result = differences(nets.plain, loss, norms.L2, 10)

  assert result['robust'] < 1e-10
  assert result['fooled'] == 0


def test_100_steps_in_l2_give_the_official_pixels():
  result = differences(nets.plain, 'ce', norms.L2, 100)

  assert result['best'] < 1e-10
  assert result['fooled'] == 0


@pytest.mark.parametrize('loss', LOSSES)
def test_in_float32_the_same_images_are_broken(loss):
  result = ours(nets.plain, loss, norms.LINF, np.float32, 100)
  expected = official(nets.plain, loss, norms.LINF, 100)

  kept = right_before(nets.plain)
  same = (result['fooled'] == expected['fooled'])[kept]
  robust = kept & ~expected['fooled']

  assert same.mean() >= 0.99
  np.testing.assert_allclose(
    result['best_loss'][robust], expected['best_loss'][robust], atol=1e-3
  )


# Three planted mutations: what the comparison above would make of them. Each
# leaves the accuracy as it is.


def _forgets_momentum(monkeypatch):
  monkeypatch.setattr(apgd, '_NEW', 1.0)


def _counts_less_than(monkeypatch):
  """`<` in place of `<=` in the count of rising steps."""
  rule = apgd.next_schedule

  def mutated(schedule, loss, best, window, rho):
    return rule(schedule, loss, best, window, rho - 1e-9)

  monkeypatch.setattr(apgd, 'next_schedule', mutated)


def _resets_momentum(monkeypatch):
  """Resets the image before together with the image."""
  step = apgd.APGD.step

  def mutated(self, logits_fn, inputs, state, index):
    following = step(self, logits_fn, inputs, state, index)
    halved = following.schedule.step_size < state.schedule.step_size
    before = jnp.where(halved, following.image, following.before)
    return following._replace(before=before)

  monkeypatch.setattr(apgd.APGD, 'step', mutated)


@pytest.mark.parametrize(
  ('mutate', 'loss'),
  (
    (_forgets_momentum, 'ce'),
    (_counts_less_than, 'dlr-targeted'),
    (_resets_momentum, 'ce'),
  ),
)
def test_a_planted_mutation_is_found(monkeypatch, mutate, loss):
  mutate(monkeypatch)
  monkeypatch.setattr(sys.modules[__name__], 'compiled', compiled.__wrapped__)

  result = differences(nets.plain, loss, norms.LINF, 100)

  assert result['best'] > 1e-4
  assert result['fooled'] == 0  # No accuracy would have shown it.


# The schedule.


def test_checkpoints_are_where_the_paper_has_them():
  ends = np.flatnonzero(apgd.windows(100)) + 1

  assert ends.tolist() == [22, 41, 57, 70, 80, 87, 93, 99]
  assert apgd.windows(100)[ends - 1].tolist() == [
    22,
    19,
    16,
    13,
    10,
    7,
    6,
    6,
  ]


@pytest.mark.parametrize('num_steps', (1, 2, 3, 10, 37))
def test_windows_of_few_steps_are_the_published_ones(num_steps):
  length = max(int(0.22 * num_steps), 1)
  expected, count = [], 0
  for _ in range(num_steps):
    count += 1
    expected.append(length if count == length else 0)
    if count == length:
      count = 0
      length = max(
        length - max(int(0.03 * num_steps), 1), max(int(0.06 * num_steps), 1)
      )

  assert apgd.windows(num_steps).tolist() == expected


def schedule_after(trace, halved=True, best=0.0):
  """The schedule at the end of a window over a trace of losses."""
  state = apgd.StepSchedule(
    step_size=jnp.asarray(1.0),
    loss=jnp.asarray(0.0),
    rises=jnp.asarray(0),
    halved=jnp.asarray(halved),
    best=jnp.asarray(best),
  )
  largest = best
  for place, loss in enumerate(trace):
    largest = max(largest, loss)
    window = len(trace) if place == len(trace) - 1 else 0
    state, _ = apgd.next_schedule(
      state, jnp.asarray(loss), jnp.asarray(largest), jnp.asarray(window), 0.75
    )
  return state


def rising(count, length, first=1.0):
  """A trace of losses from `first` on, of which `count` rise."""
  steps = [1.0] * (count - (first > 0)) + [-0.01] * (length - count)
  return np.cumsum([first, *steps])[:length].tolist()


@pytest.mark.parametrize(
  ('rises', 'step_size'), ((16, 0.5), (17, 1.0), (22, 1.0), (0, 0.5))
)
def test_the_step_is_halved_up_to_75_percent_of_rises(rises, step_size):
  trace = rising(rises, 22) if rises else [-0.1 * i for i in range(1, 23)]

  assert schedule_after(trace).step_size == step_size


def test_the_first_loss_counts_as_a_rise_where_it_is_positive():
  # 16 rises of 22 besides the first step, whose loss is compared with 0.
  up = np.cumsum([1.0] * 16 + [-0.01] * 5).tolist()

  positive = schedule_after([0.5, *(0.5 + x for x in up)])
  negative = schedule_after([-0.5, *(-0.5 + x for x in up)])

  assert positive.step_size == 1.0
  assert negative.step_size == 0.5


def test_no_new_best_halves_the_step_unless_it_was_just_halved():
  trace = rising(22, 22)  # It rises, but stays below the best so far.

  assert schedule_after(trace, halved=False, best=1e3).step_size == 0.5
  assert schedule_after(trace, halved=True, best=1e3).step_size == 1.0
  assert schedule_after(trace, halved=False, best=1.0).step_size == 1.0


def test_a_checkpoint_begins_the_count_anew():
  after = schedule_after(rising(22, 22))

  assert after.rises == 0
  assert not after.halved


# Behaviour.


def test_a_random_start_reaches_the_boundary():
  image = jnp.full((4, 4, 3), 0.5)

  for norm in (norms.LINF, norms.L2):
    start = norm.random_start(jax.random.key(0), image, 0.1)
    assert norm.length(start - image) == pytest.approx(0.1, abs=1e-6)


def test_an_image_that_was_wrong_stays_wrong():
  images, labels = nets.data()
  image, label = jnp.asarray(images[-1], jnp.float32), labels[-1]

  attack = functools.partial(apgd.APGD(num_steps=5), nets.plain, epsilon=0.03)
  result = jax.jit(attack)(jax.random.key(0), image, label)

  assert prediction.fooled(nets.plain(result[None])[0], label)


def test_nan_gradients_in_l2_leave_an_image():
  def logits_fn(images):
    x = images.mean((1, 2, 3))
    return jnp.stack([x, jnp.sqrt(x - x)], -1)  # The gradient is 0 / 0.

  attack = functools.partial(apgd.APGD(num_steps=3, norm=norms.L2), logits_fn)
  run = jax.jit(functools.partial(attack, epsilon=0.1))
  result = run(jax.random.key(0), jnp.full((2, 2, 1), 0.5), 0)

  assert jnp.isfinite(result).all()


def test_a_target_is_never_the_label():
  logits = jnp.asarray([0.1, 3.0, 2.0, -1.0])

  result = [
    int(stepwise.ranked_target(logits, jnp.asarray(2), jnp.asarray(rank)))
    for rank in range(3)
  ]

  assert result == [1, 0, 3]


@pytest.mark.parametrize(
  ('attack', 'trials'),
  (
    (apgd.APGD(), [1, 1, 1, 1]),
    (apgd.APGD(restarts=5), [5, 5, 5, 5]),
    (apgd.APGD(loss=losses.dlr, least_classes=3), [0, 1, 1, 1]),
    (
      apgd.APGD(loss=losses.targeted_dlr, least_classes=4, targets=9),
      [0, 0, 3, 9],
    ),
  ),
)
def test_trials_follow_from_the_number_of_classes(attack, trials):
  assert [attack.num_trials(k) for k in (2, 3, 4, 10)] == trials


def test_more_draws_average_the_gradient_of_a_random_classifier():
  """A step along one draw's gradient is random, along the mean's it is not."""

  def function(images, key):
    weights = jnp.ones(16) + 3 * jax.random.normal(key, (16,))
    score = images.reshape(-1, 16) @ weights
    return jnp.stack([score, -score], -1)

  noisy = randomized.Randomized(function)
  image = jnp.full((4, 4, 1), 0.9)

  def first_gradient(draws, seed):
    inputs = AttackInput(
      jax.random.key(seed), image, jnp.asarray(0), jnp.asarray(0.1)
    )
    attack = apgd.APGD(
      loss=losses.cw_loss, draws=draws, num_steps=1, start=lambda k, x, e: x
    )
    return attack.init(noisy, inputs, jnp.asarray(0)).gradient

  def spread(draws):
    drawn = jax.jit(jax.vmap(functools.partial(first_gradient, draws)))(
      jnp.arange(32)
    )
    signs = jnp.sign(drawn)
    return (signs != jnp.sign(signs.sum(0))[None]).mean()

  assert spread(1) > 0.25
  assert spread(50) < 0.05

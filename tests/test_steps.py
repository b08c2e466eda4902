"""Steps: what one does, and that devices and dispatches change nothing."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnascl_jax import (
  adversarial,
  arch_params,
  batches,
  driver,
  flops,
  losses,
  parallel,
  search_space,
  search_steps,
  steps,
  student,
)
from rnascl_jax.loops.run import DeviceData
from rnascl_jax.teachers import resnet
from tests import random_variables, small_network

_SPACE = search_space.from_stages(
  (1, 1), ((4, 2), (6, 4)), (1, 2), stem_features=4, stem_stride=2, expansion=2
)
_SHAPE = (8, 8, 1)
_BATCH = 16


def _recipe(regime=None) -> steps.Recipe:
  teacher = resnet.small_resnet(
    num_classes=10, features=(4,), stage_sizes=(1,), strides=(2,)
  )
  return steps.Recipe(
    net=student.Student(
      _SPACE, 10, mean=(0.3,), std=(0.4,), axis_name=parallel.AXIS
    ),
    optimizer=optax.sgd(0.1, momentum=0.9),
    regime=regime
    or adversarial.pgd_training(epsilon=0.1, step_size=0.05, num_steps=1),
    distillation=steps.Distillation(teacher, map_size=(2, 2)),
    augment=functools.partial(batches.augment, padding=1, flip=True),
  )


def _search() -> search_steps.Search:
  tables = flops.costs(_SPACE, _SHAPE, 10)
  return search_steps.Search(
    space=_SPACE,
    tables=tables,
    optimizer=optax.adam(0.1),
    steps_per_epoch=2,
    reference=search_steps.uniform_macs(_SPACE, tables),
  )


def _start(recipe: steps.Recipe):
  """A state and a context with random weights and statistics."""
  net = recipe.distillation.teacher
  taught = len(recipe.net.tap_names), len(net.tap_names)
  own, variables = (
    random_variables.draw(one, _SHAPE, seed)
    for seed, one in enumerate((recipe.net, net))
  )
  state = steps.start_from(recipe, own, _SHAPE, _BATCH)
  context = steps.Context(
    seed=jnp.uint32(5),
    teacher=variables,
    tutors=jnp.eye(*taught),
    kl_weight=jnp.float32(1.0),
    gamma=jnp.float32(5.0),
  )
  return state, context


def _data() -> DeviceData:
  random = np.random.default_rng(0)
  images = random.integers(0, 256, (64, *_SHAPE)).astype(np.uint8)
  return DeviceData(images, random.integers(0, 10, 64).astype(np.int32))


def _as_float64(tree):
  def widen(x):
    x = np.asarray(x)
    return x.astype(np.float64) if x.dtype == np.float32 else x

  return jax.tree.map(widen, tree)


def _run(step, state, context, devices, parts, count, per_dispatch=1):
  """States after each dispatch, on the host."""
  over = tuple(parallel.devices(devices))
  mapped = driver.make_dispatch(step, over)
  state, context, data = (
    parallel.replicate(tree, over) for tree in (state, context, _data())
  )
  orders = np.concatenate([batches.batch_order(0, e, 64, 16) for e in range(4)])
  history = []
  for first in range(0, count, per_dispatch):
    rows = orders[first : first + per_dispatch]
    shares = tuple(
      parallel.shard(part, devices, axis=1)
      for part in np.split(rows, np.cumsum(parts)[:-1], axis=1)
    )
    state, sums = mapped(state, context, data, shares)
    history.append((parallel.unreplicate(state), parallel.unreplicate(sums)))
  return history


def _assert_close(one, two, tolerance):
  one, two = jax.tree.leaves(one), jax.tree.leaves(two)
  for a, b in zip(one, two, strict=True):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def _search_case(regime=None, **changes):
  """A step of search with a regime; `changes` are those of `_search`."""
  recipe, search = _recipe(regime), _replace(_search(), **changes)
  state, context = _start(recipe)
  arch = arch_params.init_arch_params(
    _SPACE,
    len(recipe.net.tap_names),
    len(recipe.distillation.teacher.tap_names),
  )
  state = search_steps.init_search_state(state, arch, search.optimizer)
  return search_steps.make_search_step(recipe, search), state, context


# All of an image's terms, and those that compare it with its view.
_TWO_VIEWS = adversarial.trades(
  epsilon=0.1,
  step_size=0.1,
  num_steps=1,
  robustness=functools.partial(losses.robustness, cac_weight=5.0),
)


@functools.cache
def _search_run(devices: int, count: int, per_dispatch: int = 1, weigh=True):
  """Steps of a search on two views in float64, which tests share."""
  with jax.enable_x64(True):
    step, state, context = _search_case(_TWO_VIEWS, weigh_cost=weigh)
    state, context = _as_float64((state, context))
    return _run(step, state, context, devices, (12, 4), count, per_dispatch)


def _assert_same_histories(one, two, tolerance):
  for (a, a_sums), (b, b_sums) in zip(one, two, strict=True):
    _assert_close(a, b, tolerance)
    _assert_close(a_sums, b_sums, tolerance * _BATCH)


def test_two_devices_train_as_one_over_three_steps():
  recipe = _recipe()
  step, (state, context) = steps.make_train_step(recipe), _start(recipe)
  one, two = (
    _run(step, state, context, devices, (16,), 3) for devices in (1, 2)
  )
  _assert_same_histories(one, two, 1e-5)


def test_two_devices_search_as_one_over_ten_steps():
  one, two = _search_run(1, 10), _search_run(2, 10)
  assert one[-1][0].weights.params['stem']['kernel'].dtype == np.float64
  _assert_same_histories(one, two, 1e-10)


_ON_CONFIDENT = functools.partial(
  losses.robustness,
  beta=6.0,
  cac_weight=3.0,
  # Of untrained predictions of ten classes; some are above, and some are not.
  threshold=0.4,
  only_confident=True,
  axis_name=parallel.AXIS,
)
_ATTACK = {'epsilon': 0.1, 'step_size': 0.05, 'num_steps': 2}
_REGIMES = {
  'standard': adversarial.standard(),
  'pgd': adversarial.pgd_training(**_ATTACK),
  'pgd in evaluation mode': adversarial.pgd_training(
    **_ATTACK, in_training_mode=False
  ),
  'fast': adversarial.fast(epsilon=0.1),
  'free': adversarial.free(epsilon=0.1, replays=2),
  'trades, cac': adversarial.trades(**_ATTACK, robustness=_ON_CONFIDENT),
}


@functools.cache
def _small_run(name: str, devices: int, per_dispatch: int = 1):
  """Three steps of a regime on a small network without a teacher, in float64.

  The optimiser counts its updates.
  """
  recipe = steps.Recipe(
    net=small_network.Network(10, parallel.AXIS),
    optimizer=optax.sgd(optax.exponential_decay(0.2, 1, 0.9), momentum=0.9),
    regime=_REGIMES[name],
    distillation=steps.Distillation(),
    augment=lambda key, image: image,
  )
  context = steps.Context(jnp.uint32(3), (), (), jnp.zeros(()), jnp.zeros(()))
  with jax.enable_x64(True):
    variables = small_network.variables(_SHAPE, 10)
    state = steps.start_from(recipe, variables, _SHAPE, _BATCH)
    step = steps.make_train_step(recipe)
    return _run(step, state, context, devices, (_BATCH,), 3, per_dispatch)


@pytest.mark.parametrize('name', _REGIMES)
def test_every_regime_does_on_two_devices_what_it_does_on_one(name):
  one, two = _small_run(name, 1), _small_run(name, 2)
  for (a, a_sums), (b, b_sums) in zip(one, two, strict=True):
    _assert_close(a, b, 1e-10)
    _assert_close(a_sums, b_sums, 1e-9)
    assert a_sums['count'] == _BATCH
  assert a.params['conv']['kernel'].dtype == np.float64
  moved = a.params['conv']['kernel'] - one[0][0].params['conv']['kernel']
  assert np.abs(moved).min() > 0


def test_free_training_updates_the_weights_in_every_replay_of_a_batch():
  for index, (state, _) in enumerate(_small_run('free', 1)):
    _, schedule = state.opt_state
    assert state.step == index + 1
    assert schedule.count == 2 * (index + 1)


def test_free_training_keeps_a_perturbation_for_each_image_of_the_batch():
  before, after = (s.regime_state.arrays for s, _ in _small_run('free', 2)[1:])
  assert after.shape == (_BATCH, *_SHAPE)
  assert np.abs(after).max() == 0.1
  assert (np.abs(after).max((1, 2, 3)) > 0).all()
  # It is not reset: most pixels are where they were, at the ball's border.
  assert 0.4 < (before == after).mean() < 1


def test_free_training_keeps_it_within_a_dispatch_too():
  apart, together = _small_run('free', 1), _small_run('free', 1, 3)
  _assert_close(apart[-1][0], together[-1][0], 1e-10)


def test_regimes_without_memory_keep_nothing():
  for name in _REGIMES:
    if name != 'free':
      state, _ = _small_run(name, 1)[-1]
      assert not jax.tree.leaves(state.regime_state)


def test_two_steps_in_a_dispatch_equal_two_dispatches():
  apart, together = _search_run(1, 10)[:4], _search_run(1, 4, per_dispatch=2)
  _assert_close(apart[-1][0], together[-1][0], 1e-10)
  found = np.concatenate([sums['loss'] for _, sums in together])
  expected = np.concatenate([sums['loss'] for _, sums in apart])
  np.testing.assert_allclose(found, expected, rtol=1e-10)


@functools.cache
def _warmed_up():
  """The case, and three steps of it; the first two are the warm-up."""
  case = _search_case(adversarial.standard(), warmup_epochs=1)
  return case, _run(*case, 1, (12, 4), 3)


def test_search_step_moves_weights_and_architecture_but_not_the_averages():
  """The architecture's half leaves BatchNorm's running averages alone."""
  recipe, search = _recipe(adversarial.standard()), _search()
  (_, _, context), (_, (before, _), (after, _)) = _warmed_up()
  # The weights' half alone, as a step of training under the same draw.
  draw = search.draw(context.seed, jnp.int32(2), before.arch)
  masks = arch_params.masks(_SPACE, draw.channels)
  rows = batches.batch_order(0, 0, 64, 16)[2, :12]
  data = _data()
  keys = jax.vmap(jax.random.fold_in, (None, 0))(
    jax.random.fold_in(jax.random.key(context.seed), 2), jnp.arange(12)
  )
  pairs = jax.vmap(jax.random.split)(keys)
  images = jax.vmap(recipe.augment)(
    pairs[:, 0], batches.to_float(data.images[rows])
  )
  net = recipe.net.clone(axis_name=None)
  variables = before.weights.variables

  @jax.jit
  def apply(variables, images, masks):
    return net.apply(
      variables, images, masks, train=True, mutable=['batch_stats']
    )

  _, new = apply(variables, images, masks)
  _assert_close(after.weights.batch_stats, new['batch_stats'], 1e-5)
  moved = jax.tree.map(
    lambda a, b: float(np.abs(a - b).max()), after.arch, before.arch
  )
  assert all(m > 0 for m in jax.tree.leaves(moved))
  assert int(after.step) == 3


def test_the_cost_is_a_factor_of_the_weights_loss_unless_switched_off():
  """Of all its terms, with those that compare an image with its view."""
  (_, with_cost), (_, without) = (
    _search_run(1, 10)[0],
    _search_run(1, 1, weigh=False)[0],
  )
  search = _search()
  with jax.enable_x64(True):
    _, state, context = _search_case(_TWO_VIEWS)
    arch = _as_float64(state.arch)
    draw = search.draw(context.seed, jnp.int32(0), arch)
    macs = flops.expected_macs(search.tables, draw.channels)
  factor = float(macs) / float(search.reference)
  assert abs(factor - 1) > 0.01
  assert without['robustness'] > 0.01 * without['loss']
  np.testing.assert_allclose(
    with_cost['loss'], without['loss'] * factor, rtol=1e-5
  )
  np.testing.assert_allclose(
    with_cost['robustness'], without['robustness'], rtol=1e-5
  )


def test_architecture_stays_during_warmup_and_weights_move():
  (_, state, _), history = _warmed_up()
  for after, _ in history[:2]:
    _assert_close(after.arch, state.arch, 0.0)
    assert np.abs(after.weights.params['stem']['kernel']).max() > 0
  moved = history[2][0].arch.tutor_logits - state.arch.tutor_logits
  assert np.abs(moved).max() > 0


def _replace(search: search_steps.Search, **changes) -> search_steps.Search:
  return dataclasses.replace(search, **changes)

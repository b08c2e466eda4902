"""Steps: what one does, and that devices and dispatches change nothing."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnascl_jax import losses
from rnascl_jax.data import batches
from rnascl_jax.distillation import compare
from rnascl_jax.models import networks, student
from rnascl_jax.models.fixed import resnet
from rnascl_jax.runtime import parallel
from rnascl_jax.search import arch_params, cost_tables, flops, spaces
from rnascl_jax.training import (
  accumulation,
  adversarial,
  averaging,
  loop,
  search_step,
  train_state,
  train_step,
)
from rnascl_jax.training.loader import DeviceData
from tests import random_variables, small_network

_SPACE = spaces.from_stages(
  (1,), ((8, 2),), (2,), stem_features=4, stem_stride=2, expansion=1
)
_SHAPE = (8, 8, 1)
_BATCH = 16


def _recipe(method=None) -> train_state.Recipe:
  teacher = resnet.small_resnet(
    num_classes=10, features=(4,), stage_sizes=(1,), strides=(2,)
  )
  return train_state.Recipe(
    net=student.Student(
      _SPACE, 10, mean=(0.3,), std=(0.4,), axis_name=parallel.AXIS
    ),
    optimizer=optax.sgd(0.1, momentum=0.9),
    adversarial=method
    or adversarial.pgd_training(epsilon=0.1, step_size=0.05, num_steps=1),
    distillation=compare.Distillation(teacher, map_size=(2, 2)),
    augment=functools.partial(batches.augment, padding=1, flip=True),
  )


def _search() -> search_step.Search:
  tables = flops.costs(_SPACE, _SHAPE, 10)
  return search_step.Search(
    space=_SPACE,
    tables=tables,
    optimizer=optax.adam(0.1),
    steps_per_epoch=2,
    reference=cost_tables.uniform(tables),
  )


def _start(recipe: train_state.Recipe):
  """A state and a context with random weights and statistics."""
  net = recipe.distillation.teacher
  taught = len(recipe.net.tap_names), len(net.tap_names)
  own, variables = (
    random_variables.draw(one, _SHAPE, seed)
    for seed, one in enumerate((recipe.net, net))
  )
  state = train_state.start_from(recipe, own, _SHAPE, _BATCH)
  context = train_state.Context(
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


def _run(
  step, state, context, devices, parts, count, per_dispatch=1, orders=None
):
  """States after each dispatch, on the host; `orders` [steps, 16] of images."""
  devices = tuple(parallel.devices(devices))
  mapped = loop.make_dispatch(step, devices)
  state, context, data = (
    parallel.replicate(tree, devices) for tree in (state, context, _data())
  )
  if orders is None:
    orders = [batches.batch_order(0, epoch, 64, 16) for epoch in range(4)]
    orders = np.concatenate(orders)
  history = []
  for first in range(0, count, per_dispatch):
    rows = orders[first : first + per_dispatch]
    shares = tuple(
      parallel.share(part, devices, axis=1)
      for part in np.split(rows, np.cumsum(parts)[:-1], axis=1)
    )
    state, sums = mapped(state, context, data, shares)
    history.append((parallel.unreplicate(state), parallel.unreplicate(sums)))
  return history


def _assert_close(one, two, tolerance):
  one, two = jax.tree.leaves(one), jax.tree.leaves(two)
  for a, b in zip(one, two, strict=True):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def _search_case(method=None, **changes):
  """A step of search with a method; `changes` are those of `_search`."""
  return _make_search_case(_recipe(method), _replace(_search(), **changes))


def _make_search_case(recipe, search):
  state, context = _start(recipe)
  arch = arch_params.init_arch_params(
    search.space,
    len(recipe.net.tap_names),
    len(recipe.distillation.teacher.tap_names),
  )
  state = search_step.init_search_state(state, arch, search.optimizer)
  context = context.replace(tutors=())  # They are searched.
  return search_step.make_search_step(recipe, search), state, context


# All of an image's terms, and those that compare it with its view.
_TWO_VIEWS = adversarial.trades(
  epsilon=0.1,
  step_size=0.1,
  num_steps=1,
  robust_term=functools.partial(losses.robust_term, cac_weight=5.0),
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


# The search and every method are compared by other tests.
@pytest.mark.slow
def test_two_devices_train_as_one_over_three_steps():
  recipe = _recipe()
  step, (state, context) = train_step.make_train_step(recipe), _start(recipe)
  one, two = (
    _run(step, state, context, devices, (16,), 3) for devices in (1, 2)
  )
  _assert_same_histories(one, two, 1e-5)


def test_the_sum_at_gamma_1_trains_as_the_literal_loss_at_all_pairs():
  """Parameters after ten steps, in float64."""
  recipe = _recipe(adversarial.standard())
  state, context = _start(recipe)
  pairs = float(context.tutors.size)
  parameters = []
  for reduction, gamma in (('sum', 1.0), ('literal', pairs)):
    compares = functools.partial(losses.attention_loss, reduction=reduction)
    layer_loss = compare.ATTENTION._replace(compare=compares)
    step = train_step.make_train_step(
      dataclasses.replace(
        recipe,
        distillation=dataclasses.replace(
          recipe.distillation, layer_loss=layer_loss
        ),
      )
    )
    weighted = context.replace(gamma=jnp.float32(gamma))
    with jax.enable_x64(True):
      start = _as_float64((state, weighted))
      (*_, (end, _)) = _run(step, *start, 1, (16,), 10)
    parameters.append(end.params)
  _assert_close(*parameters, 1e-6)
  moved = parameters[0]['stem']['kernel'] - state.params['stem']['kernel']
  assert np.abs(moved).max() > 1e-2


def test_two_devices_search_as_one_over_ten_steps():
  one, two = _search_run(1, 10), _search_run(2, 10)
  assert one[-1][0].weights.params['stem']['kernel'].dtype == np.float64
  _assert_same_histories(one, two, 1e-10)


_ON_CONFIDENT = functools.partial(
  losses.robust_term,
  beta=6.0,
  cac_weight=3.0,
  # Of untrained predictions of ten classes; some are above, and some are not.
  threshold=0.4,
  only_confident=True,
  axis_name=parallel.AXIS,
)
_ATTACK = {'epsilon': 0.1, 'step_size': 0.05, 'num_steps': 2}
_METHODS = {
  'standard': adversarial.standard(),
  'pgd': adversarial.pgd_training(**_ATTACK),
  'pgd in evaluation mode': adversarial.pgd_training(
    **_ATTACK, in_training_mode=False
  ),
  'fast': adversarial.fast(epsilon=0.1),
  'free': adversarial.free(epsilon=0.1, replays=2),
  'trades, cac': adversarial.trades(**_ATTACK, robust_term=_ON_CONFIDENT),
  'mart, awp': adversarial.awp(adversarial.mart(**_ATTACK), gamma=0.05),
  'rslad': adversarial.rslad(**_ATTACK),
  'ard': adversarial.ard(**_ATTACK, alpha=0.9),
  'iad, awp': adversarial.awp(
    adversarial.iad(**_ATTACK, warmup_steps=1), gamma=0.05, warmup_steps=2
  ),
  'adaad': adversarial.adaad(**_ATTACK, in_training_mode=True),
}


@functools.cache
def _epoch_split_run(devices: int):
  """Two epochs whose last of four steps moves the architecture alone."""
  with jax.enable_x64(True):
    step, state, context = _search_case(
      adversarial.standard(),
      steps_per_epoch=4,
      weight_steps=3,
      adversarial=_TWO_VIEWS,
    )
    state, context = _as_float64((state, context))
    return _run(step, state, context, devices, (16,), 8)


def test_an_epoch_split_by_steps_moves_weights_first_and_then_architecture():
  history = _epoch_split_run(1)
  states = [state for state, _ in history]
  for step, (before, after) in enumerate(itertools.pairwise(states), 1):
    same = [
      all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True)
      )
      for one, two in (
        (before.weights.params, after.weights.params),
        (before.weights.batch_stats, after.weights.batch_stats),
        (before.arch, after.arch),
      )
    ]
    assert same == ([True, True, False] if step % 4 == 3 else [0, 0, 1])
    assert after.step == step + 1
  # Over an epoch, the means of weights' and architecture's steps.
  sums = [sums for _, sums in history[:4]]
  totals = {name: sum(float(s[name][0]) for s in sums) for name in sums[0]}
  assert totals['count'] == 48
  assert 0 < totals['arch_loss'] / 48 < 100
  macs = totals['macs'] / 48
  assert macs == pytest.approx(_search().reference, rel=0.2)


def test_two_devices_search_epochs_split_by_steps_as_one():
  one, two = _epoch_split_run(1), _epoch_split_run(2)
  _assert_same_histories(one[:4], two[:4], 1e-9)


@pytest.mark.slow
def test_two_devices_search_by_robust_distillation_as_one():
  """Both halves learn from the teacher, on images of its attack."""
  method = _METHODS['iad, awp']
  histories = []
  for devices in (1, 2):
    with jax.enable_x64(True):
      step, state, context = _search_case(method, adversarial=method)
      start = _as_float64((state, context))
      histories.append(_run(step, *start, devices, (12, 4), 3))
  _assert_same_histories(*histories, 1e-9)
  end, sums = histories[0][-1]
  assert sums['own_loss'] > 0
  assert np.abs(end.arch.tutor_logits).max() > 0


def test_the_architecture_can_see_adversarial_images():
  clean, seen = (
    _warmed_up(attacked)[1][2][0].arch_opt_state for attacked in (False, True)
  )
  assert not np.allclose(clean[0].mu.tutor_logits, seen[0].mu.tutor_logits)


def _identity(key, image):
  del key
  return image


@functools.cache
def _small_run(
  name: str,
  devices: int,
  per_dispatch: int = 1,
  accumulate: int = 1,
  average_decay: float = 0.0,
):
  """Three steps of a method on a small network, in float64.

  It has a teacher if the method needs one. The optimiser counts its updates.
  """
  method = _METHODS[name]
  teacher = small_network.Network(10) if method.teacher_sees else None
  recipe = train_state.Recipe(
    net=small_network.Network(10, parallel.AXIS),
    optimizer=optax.sgd(optax.exponential_decay(0.2, 1, 0.9), momentum=0.9),
    adversarial=method,
    distillation=compare.Distillation(teacher, attends=False),
    augment=_identity,
    accumulate=accumulate,
    average=functools.partial(averaging.exponential, decay=average_decay)
    if average_decay
    else None,
  )
  with jax.enable_x64(True):
    variables = small_network.variables(_SHAPE, 10)
    taught = jax.tree.map(lambda x: np.flip(x).copy(), variables['params'])
    context = train_state.Context(
      jnp.uint32(3),
      variables | {'params': taught} if teacher else (),
      (),
      jnp.zeros(()),
      jnp.zeros(()),
    )
    state = train_state.start_from(recipe, variables, _SHAPE, _BATCH)
    step = train_step.make_train_step(recipe)
    return _run(step, state, context, devices, (_BATCH,), 3, per_dispatch)


@pytest.mark.parametrize(
  'name',
  [
    # A part of others, each.
    pytest.param(name, marks=pytest.mark.slow)
    if name in ('ard', 'rslad')
    else name
    for name in _METHODS
  ],
)
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
  before, after = (
    s.adversarial_state.arrays for s, _ in _small_run('free', 2)[1:]
  )
  assert after.shape == (_BATCH, *_SHAPE)
  assert np.abs(after).max() == 0.1
  assert (np.abs(after).max((1, 2, 3)) > 0).all()
  # It is not reset: most pixels are where they were, at the ball's border.
  assert 0.4 < (before == after).mean() < 1


def test_free_training_keeps_it_within_a_dispatch_too():
  apart, together = _small_run('free', 1), _small_run('free', 1, 3)
  _assert_close(apart[-1][0], together[-1][0], 1e-10)


def test_an_average_follows_the_weights_and_moves_nothing():
  """One of decay 0.15, which is reached from 1/10 and 2/11 on."""
  plain, averaged = _small_run('free', 1), _small_run('free', 1, 1, 1, 0.15)
  two = _small_run('free', 2, 1, 1, 0.15)
  mean = small_network.variables(_SHAPE, 10)
  for decay, (before, _), (after, _), (both, _) in zip(
    (0.1, 0.15, 0.15), plain, averaged, two, strict=True
  ):
    assert before.average == () and before.variables == before.own_variables
    _assert_close(after.own_variables, before.own_variables, 1e-12)
    mean = jax.tree.map(
      lambda a, b, d=decay: d * a + (1 - d) * b, mean, after.own_variables
    )
    # Decays are float32.
    _assert_close(after.variables, mean, 1e-6)
    _assert_close(both.average, after.average, 1e-10)
  gaps = _gaps(after.variables, after.own_variables)
  assert min(jax.tree.leaves(gaps)) > 1e-3


def test_methods_without_memory_keep_nothing():
  for name in ('standard', 'pgd', 'fast', 'trades, cac', 'mart, awp'):
    state, _ = _small_run(name, 1)[-1]
    assert not jax.tree.leaves(state.adversarial_state)


# So are whole trainings, in test_driver.
@pytest.mark.slow
def test_two_steps_in_a_dispatch_equal_two_dispatches():
  apart, together = _search_run(1, 10)[:4], _search_run(1, 4, per_dispatch=2)
  _assert_close(apart[-1][0], together[-1][0], 1e-10)
  found = np.concatenate([sums['loss'] for _, sums in together])
  expected = np.concatenate([sums['loss'] for _, sums in apart])
  np.testing.assert_allclose(found, expected, rtol=1e-10)


@functools.cache
def _warmed_up(attacked: bool):
  """The case, and three steps of it; the first two are the warm-up.

  The weights see clean images; those of the architecture may be attacked.
  """
  clean = adversarial.standard()
  pgd = adversarial.pgd_training(epsilon=0.3, step_size=0.3, num_steps=1)
  case = _search_case(
    clean, warmup_epochs=1, adversarial=pgd if attacked else clean
  )
  return case, _run(*case, 1, (12, 4), 3)


def test_search_step_moves_weights_and_architecture_but_not_the_averages():
  """The architecture's half leaves BatchNorm's running averages alone."""
  recipe, search = _recipe(adversarial.standard()), _search()
  (_, _, context), (_, (before, _), (after, _)) = _warmed_up(False)
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


def _redrawn(recipe):
  return dataclasses.replace(
    recipe,
    distillation=dataclasses.replace(recipe.distillation, redraws=True),
  )


def test_resampled_tutors_are_a_draw_of_the_step_that_devices_share():
  recipe = _redrawn(_recipe(adversarial.standard()))
  state, context = _start(recipe)
  uniform = jnp.full(context.tutors.shape, 1 / context.tutors.shape[1])
  context = context.replace(tutors=uniform)
  draws = [train_step.tutors_at(recipe, context, step) for step in range(9)]
  assert len({draw.tobytes() for draw in map(np.asarray, draws)}) > 4
  step = train_step.make_train_step(recipe)
  one, two = (_run(step, state, context, n, (16,), 2) for n in (1, 2))
  _assert_same_histories(one, two, 1e-5)
  fixed = train_step.make_train_step(_recipe(adversarial.standard()))
  drawn = context.replace(tutors=draws[0])
  ((expected, _),) = _run(fixed, state, drawn, 1, (16,), 1)
  _assert_close(one[0][0].params, expected.params, 1e-6)


@pytest.mark.parametrize('redraws', (False, True))
def test_under_a_control_of_tutors_only_filters_are_searched(redraws):
  recipe = _recipe(adversarial.standard())
  recipe = _redrawn(recipe) if redraws else recipe
  step, state, context = _make_search_case(recipe, _search())
  layers = state.arch.tutor_logits.shape
  control = context.replace(tutors=jnp.full(layers, 1 / layers[1]))
  ((after, sums),) = _run(step, state, control, 1, (12, 4), 1)
  other, other_sums = _warmed_up(False)[1][2]
  assert not np.any(after.arch.tutor_logits)
  assert np.abs(other.arch.tutor_logits).max() > 0
  moved = [np.abs(logits).max() for logits in after.arch.channel_logits]
  assert min(moved) > 0
  results = (after, sums), (other, other_sums)
  shapes, expected = (jax.tree.map(np.shape, both) for both in results)
  assert shapes == expected


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
    macs = cost_tables.expected(search.tables, draw.channels)
  factor = float(macs) / float(search.reference)
  assert abs(factor - 1) > 0.01
  assert without['robust_term'] > 0.01 * without['loss']
  np.testing.assert_allclose(
    with_cost['loss'], without['loss'] * factor, rtol=1e-5
  )
  np.testing.assert_allclose(
    with_cost['robust_term'], without['robust_term'], rtol=1e-5
  )


def test_architecture_stays_during_warmup_and_weights_move():
  (_, state, _), history = _warmed_up(False)
  for after, _ in history[:2]:
    _assert_close(after.arch, state.arch, 0.0)
    assert np.abs(after.weights.params['stem']['kernel']).max() > 0
  moved = history[2][0].arch.tutor_logits - state.arch.tutor_logits
  assert np.abs(moved).max() > 0


def test_parts_of_all_devices_are_those_of_one():
  """Part j is what stands at j modulo the number of parts."""
  batch = np.arange(24)
  whole = accumulation.divide(batch, 3)
  shares = [accumulation.divide(half, 3) for half in np.split(batch, 2)]
  np.testing.assert_array_equal(np.concatenate(shares, axis=1), whole)
  np.testing.assert_array_equal(whole % 3, [[j] * 8 for j in range(3)])
  np.testing.assert_array_equal(accumulation.join(whole), batch)


def test_accumulation_takes_the_mean_of_the_gradients_of_the_parts():
  """Statistics go from part to part, and delta of each image to its place."""
  (start, _), (after, sums) = _small_run('free', 1, accumulate=2)[:2]
  # The second batch: the first one has no perturbation yet.
  images, labels = (x[batches.batch_order(0, 0, 64, 16)[1]] for x in _data())
  with jax.enable_x64(True):
    images = batches.to_float(images).astype(np.float64)
    params, stats = start.params, start.batch_stats
    delta = np.array(start.adversarial_state.arrays)
    momentum, rate = start.opt_state[0].trace[0], 0.2 * 0.9**2
    losses_of = np.zeros((2, _BATCH))
    for replay in range(2):
      slopes = []
      for part in (np.arange(0, 16, 2), np.arange(1, 16, 2)):
        slope, stats, delta[part], losses_of[replay, part] = _free_update(
          params, stats, delta[part], images[part], labels[part]
        )
        slopes.append(slope)
      momentum = jax.tree.map(
        lambda m, a, b: 0.9 * m + (a + b) / 2, momentum, *slopes
      )
      params = jax.tree.map(lambda p, m, r=rate: p - r * m, params, momentum)
      rate *= 0.9
  # Rates of the schedule are float32.
  _assert_close(after.params, params, 1e-6)
  _assert_close(after.batch_stats, stats, 1e-6)
  _assert_close(after.adversarial_state.arrays, delta, 1e-6)
  np.testing.assert_allclose(sums['loss'], losses_of.mean(0).sum(), rtol=1e-6)


def test_a_warm_up_ends_at_its_step():
  """Of introspection after one step, of the perturbed weights after two."""
  whole = _small_run('iad, awp', 1)
  assert [float(sums['own_loss'][0]) for _, sums in whole] == [
    float(sums['loss'][0]) for _, sums in whole
  ]
  others = {
    'ard': adversarial.iad(**_ATTACK, warmup_steps=3),
    'iad': adversarial.iad(**_ATTACK, warmup_steps=1),
  }
  same = {}
  for name, method in others.items():
    with pytest.MonkeyPatch.context() as patch:
      patch.setitem(_METHODS, f'iad, {name}', method)
      history = _small_run(f'iad, {name}', 1)
    same[name] = [
      np.allclose(
        a.params['conv']['kernel'], b.params['conv']['kernel'], rtol=1e-9
      )
      for (a, _), (b, _) in zip(whole, history, strict=True)
    ]
  assert same == {'ard': [True, False, False], 'iad': [True, True, False]}


def _free_update(params, stats, delta, images, labels):
  """A gradient of Shafahi et al., and what it leaves."""

  def mean_loss(params, delta):
    outputs, new = networks.functional(small_network.Network(10))(
      params, stats, jnp.clip(images + delta, 0, 1), train=True
    )
    values = losses.cross_entropy(outputs.logits, labels)
    return values.mean(), (new, values)

  (slope, by_delta), (stats, values) = jax.grad(
    mean_loss, (0, 1), has_aux=True
  )(params, delta)
  moved = np.clip(delta + 0.1 * np.sign(by_delta), -0.1, 0.1)
  return slope, stats, moved, values


@pytest.mark.parametrize(
  'name', ['free', 'fast', pytest.param('iad, awp', marks=pytest.mark.slow)]
)
def test_two_devices_accumulate_as_one(name):
  one, two = (_small_run(name, devices, accumulate=2) for devices in (1, 2))
  _assert_same_histories(one, two, 1e-10)


def _search_in_parts(accumulate: int):
  """A step on eight images that are there twice, side by side, in float64."""
  recipe = _recipe(adversarial.standard())
  recipe = dataclasses.replace(recipe, augment=_identity, accumulate=accumulate)
  search = _replace(_search(), accumulate=accumulate)
  orders = np.repeat(np.arange(8), 2)[None]
  with jax.enable_x64(True):
    step, state, context = _make_search_case(recipe, search)
    state, context = _as_float64((state, context))
    history = _run(step, state, context, 1, (12, 4), 1, orders=orders)
  return state.arch, *history[0]


@pytest.mark.slow
def test_parts_with_the_same_images_search_as_the_whole_batch():
  """With the teacher's lesson, in both halves; averages move twice."""
  start, whole, sums = _search_in_parts(1)
  _, parts, sums_of_parts = _search_in_parts(2)
  _assert_close(whole.weights.params, parts.weights.params, 1e-9)
  _assert_close(whole.arch, parts.arch, 1e-9)
  _assert_close(sums, sums_of_parts, 1e-8)
  assert min(jax.tree.leaves(_gaps(whole.arch, start))) > 0.01
  averages = whole.weights.batch_stats, parts.weights.batch_stats
  assert min(jax.tree.leaves(_gaps(*averages))) > 1e-4


def _gaps(one, two):
  return jax.tree.map(lambda a, b: float(np.abs(a - b).max()), one, two)


@pytest.mark.parametrize(
  ('accumulate', 'share', 'expected'),
  [(1, 0.2, 1), (2, 0.2, 1), (5, 0.2, 1), (8, 0.2, 2), (4, 0.5, 4), (2, 1, 2)],
)
def test_parts_of_the_architecture_are_about_as_large_as_those_of_weights(
  accumulate, share, expected
):
  assert search_step.arch_parts(accumulate, share) == expected


def _replace(search: search_step.Search, **changes) -> search_step.Search:
  return dataclasses.replace(search, **changes)

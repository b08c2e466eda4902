"""Distillation in a step: methods with projections and memory, on devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnascl_jax import losses
from rnascl_jax.config import resolve, settings
from rnascl_jax.data import batches
from rnascl_jax.distillation import compare, methods
from rnascl_jax.models import networks, student
from rnascl_jax.models.fixed import resnet
from rnascl_jax.runtime import parallel
from rnascl_jax.search import arch_params, cost_tables, flops, spaces
from rnascl_jax.training import (
  adversarial,
  loop,
  search_step,
  train_state,
  train_step,
)
from rnascl_jax.training.loader import DeviceData
from rnascl_jax.training.loss import loss_fn
from tests import random_variables

_SPACE = spaces.from_stages(
  (1,), ((4, 2),), (2,), stem_features=4, stem_stride=2, expansion=1
)
_SHAPE = (8, 8, 1)
_IMAGES, _BATCH = 32, 16
_FEATURES = 3


def _net() -> student.Student:
  return student.Student(
    _SPACE, 4, mean=(0.3,), std=(0.4,), axis_name=parallel.AXIS
  )


def _teacher() -> resnet.ResNet:
  return resnet.small_resnet(
    num_classes=4, features=(4,), stage_sizes=(1,), strides=(2,)
  )


def _recipe(method, adversarial_method=None, **how) -> train_state.Recipe:
  return train_state.Recipe(
    net=_net(),
    optimizer=optax.sgd(0.1, momentum=0.9),
    adversarial=adversarial_method or adversarial.standard(),
    distillation=compare.Distillation(
      _teacher(), map_size=(2, 2), method=method, **how
    ),
    augment=functools.partial(batches.augment, padding=1, flip=True),
  )


@functools.cache
def _data() -> DeviceData:
  random = np.random.default_rng(0)
  images = random.integers(0, 256, (_IMAGES, *_SHAPE)).astype(np.uint8)
  return DeviceData(images, random.integers(0, 4, _IMAGES).astype(np.int32))


@functools.cache
def _orders() -> np.ndarray:
  """Indices of images, [4 steps, 16]."""
  orders = [batches.batch_order(0, epoch, _IMAGES, _BATCH) for epoch in (0, 1)]
  return np.concatenate(orders)


def _start(recipe: train_state.Recipe, size: int = _BATCH):
  variables, taught = (
    random_variables.draw(net, _SHAPE, seed)
    for seed, net in enumerate((recipe.net, recipe.distillation.teacher))
  )
  state = train_state.start_from(
    recipe, variables, _SHAPE, size, jax.random.key(0), _data().labels
  )
  layers = len(recipe.net.tap_names), len(_teacher().tap_names)
  context = train_state.Context(
    seed=jnp.uint32(5),
    teacher=taught,
    tutors=jnp.eye(*layers),
    kl_weight=jnp.float32(0.5),
    gamma=jnp.float32(5.0),
  )
  return state, context


def _run(step, state, context, devices: int, parts=(_BATCH,), count: int = 2):
  """The state after each step and its sums, on the host."""
  devices = tuple(parallel.devices(devices))
  mapped = loop.make_dispatch(step, devices)
  state, context, data = (
    parallel.replicate(tree, devices) for tree in (state, context, _data())
  )
  history = []
  for rows in _orders()[:count]:
    shares = tuple(
      parallel.share(part[None], devices, axis=1)
      for part in np.split(rows, np.cumsum(parts)[:-1])
    )
    state, sums = mapped(state, context, data, shares)
    history.append((parallel.unreplicate(state), parallel.unreplicate(sums)))
  return history


def _assert_close(one, two, tolerance: float):
  one, two = jax.tree.leaves(one), jax.tree.leaves(two)
  for a, b in zip(one, two, strict=True):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def _as_float64(tree):
  def widen(x):
    return x.astype(np.float64) if x.dtype == np.float32 else x

  return jax.tree.map(lambda x: widen(np.asarray(x)), tree)


def _crd(axis_name: str | None = parallel.AXIS) -> methods.Method:
  return methods.crd(features=_FEATURES, num_negatives=6, axis_name=axis_name)


@functools.cache
def _crd_run(devices: int):
  """Two steps with CRD and attention, in float64."""
  recipe = _recipe(_crd())
  with jax.enable_x64(True):
    state, context = _as_float64(_start(recipe))
    return [(state, {})] + _run(
      train_step.make_train_step(recipe), state, context, devices
    )


def test_a_method_with_a_memory_trains_on_two_devices_as_on_one():
  one, two = _crd_run(1), _crd_run(2)
  for (a, a_sums), (b, b_sums) in zip(one, two, strict=True):
    _assert_close((a, a_sums), (b, b_sums), 1e-9)


def test_a_step_remembers_the_images_of_its_batch_alone():
  (start, _), (first, _), (second, _) = _crd_run(2)
  for before, after, rows in zip(
    (start, first), (first, second), _orders()[:2], strict=True
  ):
    for name in ('student', 'teacher'):
      old, new = getattr(before.memory, name), getattr(after.memory, name)
      moved = np.flatnonzero(np.any(old != new, axis=1))
      np.testing.assert_array_equal(moved, np.sort(rows))
  assert (np.asarray(start.memory.normalisers) == 0).all()
  np.testing.assert_array_equal(
    first.memory.normalisers, second.memory.normalisers
  )


def test_projections_are_trained_beside_the_student():
  start, end = _crd_run(1)[0][0], _crd_run(1)[-1][0]
  for name in ('student', 'teacher'):
    before, after = (s.projections[name]['kernel'] for s in (start, end))
    assert np.abs(after - before).max() > 1e-4, name
  trace = jax.tree.leaves(end.opt_state)
  trained = jax.tree.leaves((end.params, end.projections))
  assert [x.shape for x in trace] == [x.shape for x in trained]


def test_variables_of_a_student_have_no_projections():
  state = _crd_run(1)[-1][0]
  assert state.variables.keys() == {'params', 'batch_stats'}
  images = jax.ShapeDtypeStruct((2, *_SHAPE), jnp.float32)
  apply = functools.partial(_net().apply, train=False)
  assert jax.eval_shape(apply, state.variables, images)[0].shape == (2, 4)


@functools.cache
def _search_run(devices: int):
  """A step of search by CRD and layer-wise KL, in float64."""
  recipe, search, context = _search_parts()
  with jax.enable_x64(True):
    state, _ = _start(recipe, 12)
    arch = arch_params.init_arch_params(
      _SPACE, len(_net().tap_names), len(_teacher().tap_names)
    )
    state, context = _as_float64(
      (search_step.init_search_state(state, arch, search.optimizer), context)
    )
    step = search_step.make_search_step(recipe, search)
    return [(state, {})] + _run(step, state, context, devices, (12, 4), 1)


@functools.cache
def _search_parts():
  """What is searched, how, and with what."""
  tables = flops.costs(_SPACE, _SHAPE, 4)
  search = search_step.Search(
    space=_SPACE,
    tables=tables,
    optimizer=optax.adam(0.1),
    steps_per_epoch=2,
    reference=cost_tables.uniform(tables),
  )
  recipe = _recipe(_crd(), layer_loss=compare.LAYERWISE_KL)
  return recipe, search, _start(recipe, 12)[1].replace(tutors=())


def test_a_search_with_a_method_is_the_same_on_two_devices():
  for one, two in zip(_search_run(1), _search_run(2), strict=True):
    _assert_close(one, two, 1e-9)


def test_the_half_for_the_architecture_leaves_no_trace_in_the_memory():
  (start, _), (after, _) = _search_run(1)
  old, new = (s.weights.memory.student for s in (start, after))
  moved = np.flatnonzero(np.any(old != new, axis=1))
  np.testing.assert_array_equal(moved, np.sort(_orders()[0][:12]))
  tutors = after.arch.tutor_logits - start.arch.tutor_logits
  assert np.abs(tutors).max() > 0


def test_the_half_for_the_architecture_sees_what_the_other_half_has_left():
  """Its loss is that of the new weights, projections and memory."""
  recipe, search, context = _search_parts()
  (before, _), (after, sums) = _search_run(1)
  rows = _orders()[0][12:]
  plain = dataclasses.replace(
    recipe,
    net=recipe.net.clone(axis_name=None),
    distillation=dataclasses.replace(recipe.distillation, method=_crd(None)),
  )

  @jax.jit
  def loss(weights, arch, context):
    batch = train_state.Batch(
      jnp.asarray(_data().images[rows]),
      jnp.asarray(_data().labels[rows]),
      jnp.arange(12, 16),
      jnp.asarray(rows),
    )
    zero = jnp.zeros((), jnp.int32)
    examples = train_step.prepare(recipe, context, zero, batch, 1)
    draw = search.draw(context.seed, zero, arch)
    mean, _ = loss_fn(
      (weights.params, weights.projections),
      examples.images,
      weights.batch_stats,
      examples,
      recipe=plain,
      context=context,
      memory=weights.memory,
      tutors=draw.tutors,
      masks=(arch_params.masks(_SPACE, draw.channels),),
      objective=search.objective_at(draw.channels),
    )
    return mean

  with jax.enable_x64(True):
    expected = loss(after.weights, before.arch, _as_float64(context))
  np.testing.assert_allclose(
    sums['arch_loss'] / sums['count'], expected, rtol=1e-9
  )


def _memory_after(method, *, rate=0.0, accumulate=1):
  """A step with CRD on one device: the start, the memory, and the rows."""
  recipe = dataclasses.replace(
    _recipe(_crd(), method, attends=False),
    optimizer=optax.sgd(rate),
    accumulate=accumulate,
    augment=lambda key, image: image,
  )
  state, context = _start(recipe)
  step = train_step.make_train_step(recipe)
  ((after, _),) = _run(step, state, context, 1, count=1)
  return (recipe, state, context), after.memory, _orders()[0]


@pytest.mark.parametrize(
  'method, accumulate, times',
  [
    (adversarial.standard(), 1, 1),
    (adversarial.free(epsilon=0.1, replays=2), 2, 2),
  ],
  ids=['whole', 'replayed in parts'],
)
def test_each_image_is_remembered_in_its_row_at_every_update(
  method, accumulate, times
):
  """Of the teacher, which sees the same pixels whatever the method."""
  (recipe, state, context), memory, rows = _memory_after(
    method, accumulate=accumulate
  )
  teacher = compare.ask_teacher(
    recipe.distillation, context.teacher, batches.to_float(_data().images[rows])
  )
  embed = jax.tree.map(np.asarray, state.projections['teacher'])
  found = np.asarray(teacher.selected) @ embed['kernel'] + embed['bias']
  found /= np.linalg.norm(found, axis=1, keepdims=True)
  expected = np.asarray(state.memory.teacher)[rows]
  for _ in range(times):
    expected = 0.5 * expected + 0.5 * found
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
  np.testing.assert_allclose(memory.teacher[rows], expected, atol=1e-5)


def test_the_view_that_is_taught_is_the_one_that_is_remembered():
  attack = {'epsilon': 0.3, 'step_size': 0.3, 'num_steps': 1}
  clean, taught_clean, taught_adversarial = (
    _memory_after(method)[1]
    for method in (
      adversarial.standard(),
      adversarial.pgd_training(**attack, distill_on='clean'),
      adversarial.pgd_training(**attack, distill_on='adversarial'),
    )
  )
  _assert_close(taught_clean.student, clean.student, 1e-5)
  assert np.abs(taught_adversarial.student - clean.student).max() > 1e-3


@pytest.mark.parametrize('name', ['sp', 'rkd', 'pkt', 'crd'])
def test_a_config_makes_methods_that_see_the_global_batch(name):
  """And CRD with the numbers of the config."""
  spec = settings.DistillationSettings(crd_features=_FEATURES, crd_negatives=5)
  plain = {
    'sp': methods.similarity(),
    'rkd': methods.rkd(),
    'pkt': methods.pkt(),
    'crd': methods.crd(features=_FEATURES, num_negatives=5),
  }[name]
  random = np.random.default_rng(0)
  student, teacher = random.normal(size=(2, 6, 4)).astype(np.float32)
  labels = np.arange(6, dtype=np.int32) % 3
  projections, memory = plain.init(
    jax.random.key(0), student[:1], teacher[:1], labels
  )
  keys = jax.random.split(jax.random.key(1), 6)
  images = methods.Images(keys, labels, np.arange(6, dtype=np.int32))
  whole, _ = plain.loss(projections, memory, student, teacher, images)
  devices = parallel.devices(2)
  made = resolve.METHODS[name](spec, resolve.DistillationSpec())

  def loss(*given):
    return made.loss(projections, memory, *given)[0]

  halves = jax.tree.map(
    lambda x: x.reshape(2, 3, *x.shape[1:]), (student, teacher, images)
  )
  found = np.asarray(parallel.pmap(loss, devices)(*halves)).reshape(-1)
  np.testing.assert_allclose(found, whole, rtol=1e-5)


def _terms(method, **options) -> compare.TeacherTerms:
  """The terms of five images."""
  recipe = _recipe(method, **options)
  how, net = recipe.distillation, recipe.net
  state, context = _start(recipe)
  images = batches.to_float(_data().images[:5])
  keys = jax.random.split(jax.random.key(1), 5)
  labels, indices = _data().labels[:5], np.arange(5)
  return compare.terms(
    how,
    networks.represent(net, state.variables, images),
    compare.ask_teacher(how, context.teacher, images),
    methods.Images(keys, labels, indices),
    tutors=context.tutors,
    projections=state.projections,
    memory=state.memory,
  )


@pytest.mark.parametrize('name', resolve.METHODS)
def test_every_method_has_a_term(name, monkeypatch):
  """Without devices to reduce over; all else is the same."""
  monkeypatch.setattr(parallel, 'AXIS', None)
  spec = settings.DistillationSettings(crd_features=_FEATURES, crd_negatives=6)
  method = resolve.METHODS[name](spec, resolve.DistillationSpec())
  terms = _terms(method, attends=False)
  assert terms.kl.shape == (5,)
  assert np.isfinite(terms.kl).all() and np.abs(terms.kl).max() > 0
  assert (terms.attention == 0).all()
  assert bool(jax.tree.leaves(terms.memory_update)) == (name == 'crd')


def test_maps_normalised_over_the_batch_are_those_of_all_devices():
  """Two steps of training on two devices as on one, in float64."""
  spec = settings.DistillationSettings(map_norm='batch')
  recipe = _recipe(
    methods.kl(losses.kl_student_teacher),
    layer_loss=resolve.LAYER_LOSSES['attention'](
      spec, resolve.DistillationSpec()
    ),
  )
  step = train_step.make_train_step(recipe)
  with jax.enable_x64(True):
    state, context = _as_float64(_start(recipe))
    one, two = (_run(step, state, context, devices) for devices in (1, 2))
    (per_image, _), _ = _run(
      train_step.make_train_step(
        _recipe(methods.kl(losses.kl_student_teacher))
      ),
      state,
      context,
      1,
    )
  _assert_close(one, two, 1e-9)
  kernels = [s.params['stem']['kernel'] for s in (one[0][0], per_image)]
  assert np.abs(kernels[0] - kernels[1]).max() > 1e-4


def test_layer_wise_kl_takes_the_place_of_attention_alone():
  """The term of the method and the labels' stay."""
  method = methods.kl(lambda s, t: jnp.sum(jnp.square(s - t), axis=-1))
  one = _terms(method)
  two = _terms(method, layer_loss=compare.LAYERWISE_KL)
  np.testing.assert_array_equal(one.kl, two.kl)
  assert np.abs(one.attention - two.attention).min() > 1e-4


def test_layer_wise_kl_compares_probabilities_of_positions():
  """Where eq. (1) has vectors of length 1."""
  recipe = _recipe(
    methods.kl(losses.kl_student_teacher), layer_loss=compare.LAYERWISE_KL
  )
  teacher = compare.ask_teacher(
    recipe.distillation,
    _start(recipe)[1].teacher,
    batches.to_float(_data().images[:5]),
  )
  np.testing.assert_allclose(np.exp(teacher.maps).sum(-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
  'fields, expected',
  [
    ({}, {'attends': True}),
    (
      {
        'kl_weight': 0.0,
        'method': 'crd',
        'kl_temperature': 4.0,
        'reduction': 'mean',
      },
      {'attends': True, 'reduction': 'mean'},
    ),
    (
      {
        'gamma': 0.0,
        'layer_loss': 'layerwise_kl',
        'method': 'crd',
        'reduction': 'literal',
        'tutors': 'resampled',
      },
      {'method': 'crd'},
    ),
    ({'tutors': 'depth'}, {'attends': True}),
    ({'tutors': 'resampled'}, {'attends': True, 'redraws': True}),
    (
      {'kl_direction': 'teacher_student', 'kl_temperature': 4.0, 'gamma': 0.0},
      {'divergence': ('teacher_student', 4.0)},
    ),
  ],
)
def test_what_has_no_weight_is_not_computed(fields, expected):
  student = settings.StudentSettings(**fields)
  spec = resolve.distillation_spec(student, 'students.x')
  assert spec == resolve.DistillationSpec(**expected)


@pytest.mark.parametrize('temperature', (1.0, 4.0))
@pytest.mark.parametrize('direction', resolve.DIVERGENCES)
def test_a_stage_has_the_direction_and_the_temperature_of_its_kl(
  direction, temperature
):
  """And the factor T^2."""
  student, teacher = np.random.default_rng(0).normal(size=(2, 5, 4))
  used = resolve.DistillationSpec(divergence=(direction, temperature))
  method = resolve.METHODS['kl'](settings.DistillationSettings(), used)
  loss, _ = method.loss((), (), student, teacher, None)
  s, t = (np.exp(x / temperature) for x in (student, teacher))
  s, t = (x / x.sum(-1, keepdims=True) for x in (s, t))
  p, q = (s, t) if direction == 'student_teacher' else (t, s)
  expected = temperature**2 * (p * np.log(p / q)).sum(-1)
  np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('field', ['method', 'layer_loss'])
def test_an_unknown_name_is_refused_and_the_known_ones_are_listed(field):
  wrong = settings.StudentSettings(**{field: 'rdk'})
  with pytest.raises(ValueError, match=rf'students\.x\.{field}.*rdk.*Choose'):
    resolve.distillation_spec(wrong, 'students.x')

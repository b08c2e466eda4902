"""What stands in the place of KL: weights, projections, memories."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import losses
from rnascl_jax.distillation import methods, projections
from rnascl_jax.models import networks
from rnascl_jax.runtime import checkpoints, parallel

IMAGES = 4
LABELS = np.arange(24) % 3
INDICES = np.array([5, 0, 17, 10], np.int32)
MAKERS = {
  'kl': lambda axis_name: methods.kl(losses.kl_student_teacher),
  'at': lambda axis_name: methods.attention_transfer(),
  'sp': lambda axis_name: methods.similarity(axis_name=axis_name),
  'vid': lambda axis_name: methods.vid(),
  'rkd': lambda axis_name: methods.rkd(axis_name=axis_name),
  'pkt': lambda axis_name: methods.pkt(axis_name=axis_name),
  'crd': lambda axis_name: methods.crd(
    features=5, num_negatives=7, axis_name=axis_name
  ),
}


def _outputs(seed, channels, images=IMAGES):
  rng = np.random.default_rng(seed)

  def normal(*shape):
    return np.float32(rng.normal(size=(images, *shape)))

  *first, last = channels
  return networks.Outputs(
    logits=normal(3),
    taps=(normal(8, 8, 2),),
    stages=(
      *(normal(4, 4, c) for c in first),
      normal(2, 2, last),
    ),
    features=normal(last),
  )


STUDENT = _outputs(0, (4, 2, 3))
TEACHER = _outputs(1, (5, 6))


def _images(indices=INDICES):
  keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), indices)
  return methods.Images(keys, jnp.asarray(LABELS)[indices], indices)


@functools.cache
def _first(name):
  """Projections and memory for selections of one image."""
  method = MAKERS[name](None)
  selections = [
    jax.tree.map(lambda x: np.zeros((1, *x.shape[1:])), method.select(outputs))
    for outputs in (STUDENT, TEACHER)
  ]
  return method.init(jax.random.key(0), *selections, LABELS)


def _run(student, teacher, indices, given, axis_name=None):
  """Of every method values, memory update, and gradients by what is trained."""
  found = {}
  for name, make in MAKERS.items():
    method = make(axis_name)
    params, memory = given[name]

    def mean(student, params, method=method, memory=memory):
      values, memory_update = method.loss(
        params,
        memory,
        method.select(student),
        method.select(teacher),
        _images(indices),
      )
      return values.mean(), (values, memory_update)

    grads, of_images = jax.grad(mean, (0, 1), has_aux=True)(student, params)
    found[name] = (*of_images, *grads)
  return found


@pytest.fixture(scope='module')
def found():
  given = {name: _first(name) for name in MAKERS}
  return jax.jit(_run)(STUDENT, TEACHER, INDICES, given)


def _embeddings():
  net = projections.Embeddings(5)
  params = {'params': _first('crd')[0]}
  return net.apply(params, STUDENT.features, TEACHER.features)


def _regressions():
  params = {'params': _first('vid')[0]}
  return projections.Regressors().apply(params, STUDENT.stages, TEACHER.stages)


def _crd():
  memory = _first('crd')[1]
  images = _images()
  others = losses.draw_negatives(
    images.keys, images.labels, memory.table, count=7
  )
  return losses.crd(memory, *_embeddings(), INDICES, others)


# With RepDistiller's weights.
EXPECTED = {
  'kl': lambda: losses.kl_student_teacher(STUDENT.logits, TEACHER.logits),
  'at': lambda: (
    1000 * losses.attention_transfer(STUDENT.stages, TEACHER.stages)
  ),
  'sp': lambda: (
    3000 * losses.similarity(STUDENT.stages[-1], TEACHER.stages[-1])
  ),
  'vid': lambda: sum(
    losses.vid(mean, target, rho)
    for (mean, rho), target in zip(_regressions(), TEACHER.stages, strict=True)
  ),
  'rkd': lambda: losses.rkd(STUDENT.features, TEACHER.features),
  'pkt': lambda: 30000 * losses.pkt(STUDENT.features, TEACHER.features),
  'crd': lambda: 0.8 * _crd()[0],
}


def test_a_method_is_its_loss_with_the_published_weight(found):
  expected = jax.jit(lambda: {name: EXPECTED[name]() for name in MAKERS})()

  for name in MAKERS:
    values, _, _, _ = found[name]
    assert values.shape == (IMAGES,)
    np.testing.assert_allclose(values, expected[name], 2e-5, err_msg=name)


@pytest.mark.parametrize('name', MAKERS)
def test_a_gradient_reaches_what_is_compared_and_every_projection(found, name):
  _, _, of_student, of_params = found[name]
  method = MAKERS[name](None)
  compared = method.select(of_student)
  if name in ('at', 'vid'):
    unpaired, *compared = compared
    np.testing.assert_array_equal(unpaired, 0)

  for leaf in jax.tree.leaves((compared, of_params)):
    assert np.isfinite(leaf).all()
    assert np.abs(leaf).max() > 0
  total = sum(np.count_nonzero(x) for x in jax.tree.leaves(of_student))
  assert total == sum(np.count_nonzero(x) for x in jax.tree.leaves(compared))


def test_two_devices_do_what_one_does(found):
  devices = parallel.devices(2)
  mapped = parallel.pmap(
    functools.partial(_run, axis_name=parallel.AXIS), devices
  )
  halves = jax.tree.map(
    lambda x: x.reshape(2, -1, *x.shape[1:]), (STUDENT, TEACHER, INDICES)
  )
  given = {name: _first(name) for name in MAKERS}

  two = mapped(*halves, parallel.replicate(given, devices))

  def close(part, whole, places):
    part = np.asarray(part)
    part = {
      'images': lambda: part.reshape(whole.shape),
      # A device's mean is over half of the images.
      'student': lambda: part.reshape(whole.shape) / 2,
      'params': lambda: part.mean(0),
    }[places]()
    allowed = 1e-5 * np.abs(whole).max(initial=0)
    np.testing.assert_allclose(part, whole, rtol=0, atol=allowed)

  for name in MAKERS:
    for place, part, whole in zip(
      ('images', 'images', 'student', 'params'),
      two[name],
      found[name],
      strict=True,
    ):
      jax.tree.map(functools.partial(close, places=place), part, whole)


@pytest.mark.parametrize('name', MAKERS)
def test_only_a_contrastive_method_takes_notes(found, name):
  _, memory_update, _, _ = found[name]
  method = MAKERS[name](None)
  params, memory = _first(name)

  new = jax.jit(method.remember)(memory, memory_update, INDICES)

  assert (params == ()) == (name not in ('vid', 'crd'))
  if name != 'crd':
    assert memory_update == memory == new == ()
    return
  expected = jax.jit(lambda: losses.remember(memory, _crd()[1], INDICES))()
  for one, two in zip(
    jax.tree.leaves(new), jax.tree.leaves(expected), strict=True
  ):
    np.testing.assert_allclose(one, two, rtol=1e-5)
  assert np.abs(new.student - memory.student).max() > 0.1


def test_regressors_learn_the_last_stages_of_a_longer_teacher(found):
  method = MAKERS['vid'](None)
  longer = (np.ones((IMAGES, 8, 8, 7), np.float32), *TEACHER.stages)

  values, _ = jax.jit(method.loss)(
    *_first('vid'), STUDENT.stages[1:], longer, _images()
  )

  np.testing.assert_allclose(values, found['vid'][0], rtol=1e-5)


def test_a_contrastive_loss_depends_on_the_memory_and_the_images_keys():
  method = MAKERS['crd'](None)
  params, memory = _first('crd')

  @jax.jit
  def loss(memory, images):
    features = (STUDENT.features, TEACHER.features)
    return method.loss(params, memory, *features, images)[0]

  plain = loss(memory, _images())
  keys = jax.random.split(jax.random.key(7), IMAGES)

  assert (loss(memory, _images()._replace(keys=keys)) != plain).all()
  turned = memory._replace(teacher=-memory.teacher)
  assert (loss(turned, _images()) != plain).all()


def test_projections_and_memory_round_trip_through_a_checkpoint(
  found, tmp_path
):
  method = MAKERS['crd'](None)
  params, memory = _first('crd')
  memory = method.remember(memory, found['crd'][1], INDICES)
  state = {'params': params, 'memory': memory}
  template = jax.tree.map(jnp.zeros_like, state)
  with checkpoints.Checkpoints(tmp_path) as saved:
    saved.save(1, state, metric=0.0, extra={})
    restored = saved.restore_best(template).state

  assert jax.tree.structure(restored) == jax.tree.structure(state)
  for one, two in zip(
    jax.tree.leaves(restored), jax.tree.leaves(state), strict=True
  ):
    assert one.dtype == two.dtype
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
  'change, message',
  (
    ({'features': 0}, 'crd_features=0 must be at least 1'),
    ({'num_negatives': -1}, 'crd_negatives=-1 must be at least 1'),
  ),
)
def test_sizes_of_a_contrastive_method_are_positive(change, message):
  with pytest.raises(ValueError, match=message):
    methods.crd(**change)


# Projections.


def _relu(x):
  return np.maximum(x, 0)


def test_regressors_are_three_linear_maps_of_channels_with_relus_between():
  params = _first('vid')[0]

  for number, found in zip((2, 1), _regressions(), strict=True):
    student, teacher = STUDENT.stages[-number], TEACHER.stages[-number]
    kernels = [params[f'pair_{number}_conv{i}']['kernel'] for i in range(3)]
    expected = np.einsum('bhwc,cd->bhwd', student, kernels[0])
    for kernel in kernels[1:]:
      expected = np.einsum('bhwc,cd->bhwd', _relu(expected), kernel)
    np.testing.assert_allclose(found.mean, expected, rtol=1e-4, atol=1e-6)
    assert found.mean.shape == teacher.shape
    variance = np.log1p(np.exp(found.rho)) + 1e-5
    np.testing.assert_allclose(variance, np.full(teacher.shape[-1], 5), 1e-6)
  assert set(params['pair_1_conv0']) == {'kernel'}


def test_a_students_larger_stage_is_pooled_before_its_regressor():
  student, teacher = (np.float32(x) for x in (np.ones((1, 3, 3, 2)), 0))
  student[:, 2] = 4
  teacher = np.zeros((1, 2, 2, 1), np.float32)
  net = projections.Regressors()
  variables = net.init(jax.random.key(0), [student], [teacher])

  (found,) = net.apply(variables, [student], [teacher])

  pooled = np.ones((1, 2, 2, 2), np.float32)
  pooled[:, 1] = 2.5
  (expected,) = net.apply(variables, [pooled], [teacher])
  np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-6)


def test_embeddings_are_of_length_one_and_safe_at_zero():
  net = projections.Embeddings(5)
  params = {'params': _first('crd')[0]}

  def total(features):
    return sum(x.sum() for x in net.apply(params, features, TEACHER.features))

  for found in _embeddings():
    assert found.shape == (IMAGES, 5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=1e-5)
  slope = jax.grad(total)(jnp.zeros_like(STUDENT.features))
  np.testing.assert_array_equal(slope, 0)

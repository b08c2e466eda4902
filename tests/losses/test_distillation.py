"""Losses of distillation against their papers, in float64; invariances.

Predictions' divergences are tested with the other losses of predictions.
"""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import losses
from rnascl_jax.losses import stages
from rnascl_jax.runtime import parallel
from tests import torch_distillation

IMAGES = 6
# Student's and teacher's stages: sides that are equal, that the other's does
# not divide, that it divides; a stage of the teacher has no partner.
STUDENT_STAGES = ((5, 5, 2), (3, 3, 3), (2, 2, 2))
TEACHER_STAGES = ((7, 7, 1), (5, 5, 3), (2, 2, 2), (4, 4, 1))


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def _normal(seed, *shapes):
  rng = np.random.default_rng(seed)
  return [rng.normal(size=shape) for shape in shapes]


def _features(seed=0, images=IMAGES):
  return tuple(_normal(seed, (images, 3), (images, 4)))


def _maps(seed=0, images=IMAGES):
  found = _normal(
    seed, *((images, *shape) for shape in STUDENT_STAGES + TEACHER_STAGES)
  )
  return tuple(found[:3]), tuple(found[3:])


def _regressions(seed=0, images=IMAGES):
  return tuple(_normal(seed, (images, 2, 2, 3), (images, 5, 5, 3), (3,)))


def _layers(seed=0, images=IMAGES):
  weights = np.random.default_rng(seed).dirichlet(np.ones(2), 2)
  student, teacher = _normal(seed, (images, 2, 2, 3), (images, 8, 8, 2))
  student = (student, student[:, ::-1] ** 2)
  return student, (teacher, teacher[:, :4, :4] ** 2), weights


def _layerwise_kl(student, teacher, weights):
  maps = [
    losses.map_log_probabilities(taps, (4, 4)) for taps in (student, teacher)
  ]
  return losses.layerwise_kl(*maps, weights)


class Case(types.SimpleNamespace):
  """A loss, that of its paper, and a maker of arguments."""

  def __init__(self, loss, paper, make):
    super().__init__(loss=loss, paper=paper, make=make)

    def total(weights, *arguments):
      values = loss(*arguments)
      return (weights * values).sum(), values

    def run(weights, arguments):
      places = tuple(range(1, 1 + len(arguments)))
      slopes, values = jax.grad(total, places, has_aux=True)(
        weights, *arguments
      )
      return values, slopes

    self.run = jax.jit(run)


PAPER = torch_distillation
CASES = {
  'at': Case(losses.attention_transfer, PAPER.attention_transfer, _maps),
  'sp': Case(losses.similarity, PAPER.similarity, _features),
  'vid': Case(losses.vid, PAPER.vid, _regressions),
  'rkd_distance': Case(losses.rkd_distance, PAPER.rkd_distance, _features),
  'rkd_angle': Case(losses.rkd_angle, PAPER.rkd_angle, _features),
  'rkd': Case(losses.rkd, PAPER.rkd, _features),
  'pkt': Case(losses.pkt, PAPER.pkt, _features),
  'layerwise_kl': Case(
    _layerwise_kl, functools.partial(PAPER.layerwise_kl, size=(4, 4)), _layers
  ),
}


def _random(student, teacher, *others):
  return (student, teacher, *others)


def _change(change, which):
  def changed(*arguments):
    student, teacher, *others = arguments
    both = [
      jax.tree.map(change, x) if here else x
      for x, here in zip((student, teacher), which, strict=True)
    ]
    return (*both, *others)

  return changed


def _rows_coincide(x):
  return np.concatenate([x[:1], x[:1], x[2:]])


def _a_row_is_zero(x):
  return np.concatenate([0 * x[:1], x[1:]])


def _rows_are_opposite(x):
  return np.concatenate([x[:1], -x[:1], x[2:]])


# Of float64, so none underflows.
VARIANTS = {
  'random': _random,
  'large': _change(lambda x: 20 * x, (True, True)),
  'small': _change(lambda x: 1e-5 * x, (True, True)),
  'two rows of the student coincide': _change(_rows_coincide, (True, False)),
  'two rows of both coincide': _change(_rows_coincide, (True, True)),
  'two rows of the student are opposite': _change(
    _rows_are_opposite, (True, False)
  ),
  'all rows coincide': _change(
    lambda x: np.repeat(x[:1], len(x), 0), (True, True)
  ),
  'a row of the student is zero': _change(_a_row_is_zero, (True, False)),
  'a row of both is zero': _change(_a_row_is_zero, (True, True)),
  'the student is zero': _change(lambda x: 0 * x, (True, False)),
  'both are zero': _change(lambda x: 0 * x, (True, True)),
}


def _assert_close(found, expected, tolerance=1e-8):
  """To `tolerance` of the largest number of each array."""

  def close(one, two):
    # What is zero but for rounding has no digits.
    allowed = tolerance * np.abs(two).max(initial=0) + 1e-14
    np.testing.assert_allclose(one, two, rtol=0, atol=allowed)

  jax.tree.map(close, found, expected)


def _check_against_paper(case, arguments, images):
  weights = 1 + np.random.default_rng(1).random(images)
  found = case.run(weights, arguments)
  values, slopes = torch_distillation.run(case.paper, arguments, weights)
  np.testing.assert_allclose(found[0], values, rtol=1e-8, atol=1e-12)
  for leaf in jax.tree.leaves(found):
    assert np.isfinite(leaf).all()
  _assert_close(found[1], slopes)


@pytest.mark.parametrize('name', CASES)
def test_values_and_gradients_are_those_of_the_paper(name):
  case = CASES[name]
  for variant, change in VARIANTS.items():
    try:
      _check_against_paper(case, change(*case.make()), IMAGES)
    except AssertionError as error:
      error.add_note(variant)
      raise


@pytest.mark.parametrize('name', CASES)
def test_one_example_is_a_batch(name):
  case = CASES[name]

  _check_against_paper(case, case.make(images=1), 1)


@pytest.mark.parametrize('name', ('sp', 'vid', 'rkd_angle', 'pkt'))
def test_compiled_losses_are_the_eager_ones(name):
  case = CASES[name]
  arguments = jax.tree.map(jnp.asarray, case.make())

  found, _ = case.run(np.ones(IMAGES), arguments)

  np.testing.assert_allclose(found, case.loss(*arguments), rtol=1e-12)


# Invariances and bounds.


def _rotation(size, seed=3):
  return np.linalg.qr(_normal(seed, (size, size))[0])[0]


def _value(name, *arguments):
  return CASES[name].run(np.ones(IMAGES), arguments)[0]


@pytest.mark.parametrize('name', ('rkd_distance', 'rkd_angle', 'rkd'))
def test_relations_do_not_change_under_scaling_rotation_and_translation(name):
  student, teacher = _features()

  moved = 7 * student @ _rotation(3) + 5
  moved_teacher = teacher @ _rotation(4) / 3 - 2

  np.testing.assert_allclose(
    _value(name, moved, moved_teacher),
    _value(name, student, teacher),
    rtol=1e-10,
  )


@pytest.mark.parametrize('name', ('sp', 'pkt'))
def test_similarities_do_not_change_under_scaling_and_rotation(name):
  student, teacher = _features()
  expected = _value(name, student, teacher)

  moved = 7 * student @ _rotation(3)

  np.testing.assert_allclose(_value(name, moved, teacher), expected, rtol=1e-9)
  translated = _value(name, student + 5, teacher)
  assert np.abs(translated - expected).max() > 1e-2 * expected.max()


@pytest.mark.parametrize('name', ('sp', 'rkd_distance', 'rkd_angle', 'pkt'))
def test_values_follow_their_images_through_a_permutation(name):
  student, teacher = _features()
  order = np.array([3, 5, 0, 1, 4, 2])

  found = _value(name, student[order], teacher[order])

  expected = _value(name, student, teacher)
  np.testing.assert_allclose(found, expected[order], rtol=1e-10)
  assert len(set(np.round(expected, 6).tolist())) == IMAGES


@pytest.mark.parametrize('name', ('sp', 'rkd', 'pkt'))
def test_a_student_like_its_teacher_has_loss_zero_and_others_more(name):
  student, teacher = _features()
  # One more feature of zeros changes no product of rows.
  alike = np.pad(student, ((0, 0), (0, 1)))

  np.testing.assert_allclose(_value(name, student, alike), 0, atol=1e-12)
  assert _value(name, student, teacher).mean() > 1e-3


def test_a_stage_of_larger_values_changes_no_map():
  student, teacher = _maps()
  larger = tuple(10.0**i * stage for i, stage in enumerate(student))

  np.testing.assert_allclose(
    _value('at', larger, teacher), _value('at', student, teacher), rtol=1e-10
  )
  student, teacher, weights = _layers()
  np.testing.assert_allclose(
    _value('layerwise_kl', (5 * student[0], student[1]), teacher, weights),
    _value('layerwise_kl', student, teacher, weights),
    rtol=1e-10,
  )


@pytest.mark.parametrize('reduction, factor', (('mean', 2), ('sum', 4)))
def test_layer_wise_kl_is_reduced_as_equation_1_is(reduction, factor):
  student, teacher, weights = _layers()
  maps = [
    losses.map_log_probabilities(taps, (4, 4)) for taps in (student, teacher)
  ]
  np.testing.assert_allclose(
    losses.layerwise_kl(*maps, weights, reduction=reduction),
    factor * losses.layerwise_kl(*maps, weights),
    rtol=1e-12,
  )


def test_a_map_of_zeros_is_the_uniform_distribution():
  found = losses.map_log_probabilities([np.zeros((2, 8, 8, 3))], (4, 4))

  np.testing.assert_allclose(np.exp(found), np.full((2, 1, 16), 1 / 16))


def test_the_first_variance_is_the_one_asked_for():
  rho = jnp.full(3, losses.initial_rho(5.0))
  mean, teacher = np.zeros((1, 2, 2, 3)), np.full((1, 2, 2, 3), 2.0)

  found = losses.vid(mean, teacher, rho)

  np.testing.assert_allclose(found, 0.5 * (4 / 5 + np.log(5)), rtol=1e-12)
  with pytest.raises(ValueError, match='variance=1e-06 must be greater'):
    losses.initial_rho(1e-6)


def test_extreme_variances_are_finite():
  mean, teacher = np.zeros((1, 2, 2, 2)), np.ones((1, 2, 2, 2))
  rho = np.array([-1e3, 1e3])

  found, slope = jax.jit(
    jax.value_and_grad(lambda rho: losses.vid(mean, teacher, rho).sum())
  )(rho)

  expected = (1 / 1e-5 + np.log(1e-5) + 1 / 1e3 + np.log(1e3)) / 4
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert np.isfinite(slope).all()


# Numbers of few digits.


def test_distances_of_close_rows_keep_their_digits_in_float32():
  """Products of rows of size 100 would leave no digit of steps of 1e-3."""
  student, teacher = _features()
  student = np.float32(100 + 1e-3 * student)

  found = CASES['rkd'].run(
    np.ones(IMAGES, np.float32), (student, np.float32(teacher))
  )

  assert found[0].dtype == np.float32
  expected = CASES['rkd'].run(
    np.ones(IMAGES), (np.float64(student), np.float64(np.float32(teacher)))
  )
  _assert_close(found, expected, 1e-4)


@pytest.mark.parametrize('name', ('at', 'sp', 'vid', 'rkd', 'pkt'))
def test_losses_of_bfloat16_are_computed_in_float32(name):
  arguments = jax.tree.map(
    lambda x: jnp.asarray(x, jnp.bfloat16), CASES[name].make()
  )
  wide = jax.tree.map(lambda x: np.asarray(x, np.float32), arguments)

  found = jax.eval_shape(CASES[name].loss, *arguments)

  assert found.dtype == jnp.float32
  if name in ('sp', 'pkt'):
    np.testing.assert_array_equal(
      CASES[name].loss(*arguments), CASES[name].loss(*wide)
    )


# Stages.


def test_stages_are_paired_from_the_end():
  assert stages.pair('abc', 'xy') == [('b', 'x'), ('c', 'y')]
  assert stages.pair('c', 'xyz') == [('c', 'z')]
  with pytest.raises(ValueError, match='0 stages of the student and 1 of the'):
    stages.pair((), 'x')


def test_maps_cannot_grow():
  with pytest.raises(ValueError, match='side of 2 cannot be pooled to 3'):
    stages.pool(jnp.zeros((1, 2, 2, 1)), (2, 3))


@pytest.mark.parametrize('name', ('sp', 'rkd', 'pkt', 'vid', 'at'))
def test_batches_of_different_sizes_are_refused(name):
  student, teacher, *others = CASES[name].make()
  longer = jax.tree.map(lambda x: np.concatenate([x, x[:1]]), teacher)

  with pytest.raises(AssertionError):
    CASES[name].loss(student, longer, *others)


# Several devices.


@pytest.mark.parametrize('name', ('similarity', 'rkd', 'pkt'))
def test_two_devices_have_the_pairs_of_the_global_batch(name):
  """With the mean over devices of gradients by what all of them share."""
  loss = getattr(losses, name)
  kernel, images, teacher = _normal(0, (5, 3), (IMAGES, 5), (IMAGES, 4))

  def run(kernel, images, teacher, axis_name=None):
    def mean(kernel):
      values = loss(images @ kernel, teacher, axis_name=axis_name)
      return values.mean(), values

    (_, values), slope = jax.value_and_grad(mean, has_aux=True)(kernel)
    return values, slope

  devices = parallel.devices(2)
  mapped = parallel.pmap(
    functools.partial(run, axis_name=parallel.AXIS), devices
  )
  values, slopes = mapped(
    np.stack([kernel] * 2), *(x.reshape(2, 3, -1) for x in (images, teacher))
  )

  expected, slope = jax.jit(run)(kernel, images, teacher)
  np.testing.assert_allclose(values.reshape(IMAGES), expected, rtol=1e-10)
  _assert_close(slopes.mean(0), slope, 1e-10)

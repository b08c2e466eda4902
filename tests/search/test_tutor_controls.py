"""Tutors without a search: by depth, at random, all alike, drawn anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax.config import resolve
from rnascl_jax.search import tutor_controls

_STUDENT = ('stem', 'block0/expand', 'block0/depthwise', 'block0/project')
_TEACHER = ('conv1', 'layer1_0/conv1', 'layer1_0/conv2')


def _weights(control, seed=0):
  return resolve.tutor_weights(
    control, _STUDENT, _TEACHER, where='students.x', seed=seed
  )


@pytest.mark.parametrize('layers', ((4, 7), (28, 31), (10, 7), (5, 5), (1, 3)))
def test_tutors_by_depth_go_from_the_first_layer_to_the_last(layers):
  tutors = tutor_controls.by_depth(*layers).argmax(-1)
  assert tutors[0] == 0
  assert len(tutors) == 1 or tutors[-1] == layers[1] - 1
  exact = np.arange(layers[0]) * (layers[1] - 1) / max(layers[0] - 1, 1)
  assert np.abs(tutors - exact).max() <= 0.5


@pytest.mark.parametrize('control', resolve.TUTORS)
def test_weights_of_a_control_are_those_of_a_search_in_shape_and_sum(control):
  weights = _weights(control)
  assert weights.shape == (4, 3) and weights.dtype == np.float32
  np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)


def test_random_tutors_are_a_draw_of_the_seed():
  many = 100, 31
  one, again, other = (tutor_controls.at_random(*many, s) for s in (0, 0, 1))
  np.testing.assert_array_equal(one, again)
  assert (one != other).any()
  # Some layer is the tutor of several, and most teach one at least.
  assert one.sum(0).max() > 1 and (one.sum(0) > 0).mean() > 0.8
  np.testing.assert_array_equal(_weights('random', 3), _weights('random', 3))


def test_a_draw_has_one_tutor_for_each_layer_by_its_probability():
  weights = jnp.array([[0.0, 0.25, 0.75], [1.0, 0.0, 0.0]])
  keys = jax.random.split(jax.random.key(0), 4000)
  draws = jax.vmap(tutor_controls.draw, (0, None))(keys, weights)
  np.testing.assert_array_equal(draws.sum(-1), np.ones((4000, 2)))
  np.testing.assert_allclose(draws.mean(0), weights, atol=0.03)


def test_layers_are_named_one_for_each_or_one_for_all():
  one, each = (
    _weights(names)
    for names in ('layer1_0/conv2', 'conv1, conv1,layer1_0/conv1,conv1')
  )
  np.testing.assert_array_equal(one.argmax(-1), [2, 2, 2, 2])
  np.testing.assert_array_equal(each.argmax(-1), [0, 0, 1, 0])


@pytest.mark.parametrize(
  ('control', 'message'),
  (
    ('unifrom', "has 'unifrom', which .*Did you mean 'uniform'.*resampled"),
    ('conv1,conv2', "has 'conv2', which is neither .*of the teacher: conv1, l"),
    ('conv1,conv1', 'names 2 teacher layers for 4 student layers: name one'),
    ('conv1,', "has '', which is neither"),
  ),
)
def test_what_is_no_control_is_refused_with_those_that_there_are(
  control, message
):
  with pytest.raises(
    ValueError, match=rf'config\.students\.x\.tutors.*{message}'
  ):
    _weights(control)

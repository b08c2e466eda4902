"""Flax variables as PyTorch's state dicts and back, exactly."""

import jax
import numpy as np
import pytest

from rnascl_jax.interop import state_dicts
from rnascl_jax.models import fixed, student
from rnascl_jax.search.space import Block, SearchSpace, Shortcut
from tests import random_variables

SHAPE = (8, 8, 3)
SPACE = SearchSpace(
  (
    Block((6,), 1, True),
    Block((5,), 2, False),
  ),
  stem_features=4,
  stem_stride=1,
  expansion=2,
  shortcut=Shortcut.PROJECT,
)
NETWORKS = {
  'student': student.Student(SPACE, num_classes=5),
  'resnet': fixed.NETWORKS['small_resnet'](
    num_classes=5, features=(4, 6), stage_sizes=(1, 2), strides=(1, 2)
  ),
  'wide_resnet': fixed.NETWORKS['wide_resnet'](
    depth=10, width=2, num_classes=5
  ),
}
# One name of every kind, with PyTorch's shape.
NAMES = {
  'student': {
    'stem.weight': (4, 3, 3, 3),
    'stem_norm.running_var': (4,),
    'block0.expand.weight': (8, 4, 1, 1),
    'block0.expand_norm.weight': (8,),
    'block0.depthwise.weight': (8, 1, 3, 3),
    'block0.project.weight': (6, 8, 1, 1),
    'block0.shortcut.weight': (6, 4, 1, 1),
    'block0.shortcut_norm.running_mean': (6,),
    'block1.project_norm.bias': (5,),
    'classifier.weight': (5, 5),
    'classifier.bias': (5,),
  },
  'resnet': {
    'conv1.weight': (4, 3, 3, 3),
    'bn1.running_mean': (4,),
    'layer2.0.conv1.weight': (6, 4, 3, 3),
    'layer2.0.shortcut.0.weight': (6, 4, 1, 1),
    'layer2.0.shortcut.1.running_var': (6,),
    'layer2.1.bn2.weight': (6,),
    'linear.weight': (5, 6),
  },
  'wide_resnet': {
    'conv1.weight': (16, 3, 3, 3),
    'block1.layer.0.bn1.bias': (16,),
    'block1.layer.0.convShortcut.weight': (32, 16, 1, 1),
    'block3.layer.0.conv2.weight': (128, 128, 3, 3),
    'bn1.running_var': (128,),
    'fc.weight': (5, 128),
  },
}


@pytest.fixture(params=NETWORKS)
def name(request):
  return request.param


@pytest.fixture
def variables(name):
  return random_variables.draw(NETWORKS[name], SHAPE)


def _assert_same_bits(found, expected):
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  for a, b in zip(
    jax.tree.leaves(found), jax.tree.leaves(expected), strict=True
  ):
    assert a.dtype == b.dtype == np.float32
    np.testing.assert_array_equal(a, b)


def test_flax_to_pytorch_to_flax_changes_no_bit(variables):
  torch = pytest.importorskip('torch')
  arrays = state_dicts.from_variables(variables)
  state = {key: torch.tensor(array) for key, array in arrays.items()}

  found = state_dicts.into_variables(
    variables, {key: tensor.numpy() for key, tensor in state.items()}
  )

  _assert_same_bits(found, variables)


def test_names_and_shapes_are_those_of_pytorch(name, variables):
  found = {
    key: array.shape
    for key, array in state_dicts.from_variables(variables).items()
  }

  assert NAMES[name].items() <= found.items()


def test_every_batch_norm_has_a_counter_of_its_own_shape(variables):
  found = state_dicts.from_variables(variables)

  norms = [key for key in found if key.endswith('.running_var')]
  counters = [key for key in found if key.endswith(state_dicts.COUNTER)]
  assert len(norms) == len(counters) > 0
  for key in norms:
    counter = found[key.replace('running_var', state_dicts.COUNTER)]
    assert counter.shape == ()
    assert counter.dtype == np.int64
    assert counter == 0


def test_shapes_are_those_of_the_arrays_without_counters(variables):
  arrays = state_dicts.from_variables(variables)

  assert state_dicts.shapes(variables) == {
    key: array.shape
    for key, array in arrays.items()
    if not key.endswith(state_dicts.COUNTER)
  }


def test_axes_go_where_pytorch_has_them():
  """Output before input filters, each before height before width."""
  kernel = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
  matrix = np.arange(6).reshape(2, 3)
  variables = {
    'params': {'conv': {'kernel': kernel}, 'expand': {'kernel': matrix}}
  }

  found = state_dicts.from_variables(variables)

  weight = found['conv.weight']
  assert weight.shape == (5, 4, 2, 3)
  assert weight[4, 2, 1, 0] == kernel[1, 0, 2, 4]
  assert weight.flags.c_contiguous
  np.testing.assert_array_equal(found['expand.weight'][:, :, 0, 0], matrix.T)


@pytest.mark.parametrize('shape', [(6, 3, 1, 1), (4, 3, 5, 5), (3, 4, 3, 3)])
def test_an_array_of_another_shape_is_refused_by_its_name(shape):
  template = {'params': {'conv1': {'kernel': np.zeros((3, 3, 3, 4))}}}
  arrays = {'conv1.weight': np.zeros(shape)}

  with pytest.raises(ValueError, match=r'conv1\.weight has the shape') as error:
    state_dicts.into_variables(template, arrays)

  assert str(shape) in str(error.value)
  assert '(4, 3, 3, 3)' in str(error.value)


def test_a_pointwise_convolution_that_is_none_is_refused():
  template = {'params': {'expand': {'kernel': np.zeros((2, 4))}}}
  arrays = {'expand.weight': np.ones((4, 2, 3, 3))}

  with pytest.raises(ValueError, match=r'expand\.weight has the shape'):
    state_dicts.into_variables(template, arrays)


def test_a_missing_name_is_named():
  template = {'params': {'fc': {'bias': np.zeros(2)}}}

  with pytest.raises(KeyError, match=r'fc\.bias'):
    state_dicts.into_variables(template, {})


def test_what_stands_before_a_name_is_found_wherever_it_ends_a_key():
  keys = ['module.model.conv1.weight', 'conv1.weight', 'xconv1.weight']

  found = state_dicts.matching(keys, 'conv1.weight')

  assert found == ['module.model.', '']

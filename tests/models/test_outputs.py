"""What networks return for distillation, beside logits and taps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax.models import networks, student
from rnascl_jax.models.fixed import (
  blocks,
  preact_resnet,
  resnet,
  vit,
  wide_resnet,
)
from rnascl_jax.models.teachers.class_subset import ClassSubset
from rnascl_jax.search import spaces
from tests import random_variables

_SHAPE = (16, 16, 3)
_K = 5
_STAGES = {'stage_sizes': (2, 1), 'features': (4, 8), 'strides': (1, 2)}
_SPACE = functools.partial(
  spaces.from_stages,
  (2, 1, 1),
  ((4,), (6,), (8,)),
  (1, 2, 1),
  stem_features=4,
  expansion=1,
)
# The network, its last layer, and shapes of its stages.
NETWORKS = {
  'wide_resnet': (
    wide_resnet.WideResNet(10, 1, _K),
    'fc',
    [(16, 16, 16), (8, 8, 32), (4, 4, 64)],
  ),
  'resnet': (
    resnet.ResNet(block=blocks.BOTTLENECK, num_classes=_K, **_STAGES),
    'linear',
    [(16, 16, 16), (8, 8, 32)],
  ),
  'preact_resnet': (
    preact_resnet.PreActResNet(num_classes=_K, final_norm=True, **_STAGES),
    'linear',
    [(16, 16, 4), (8, 8, 8)],
  ),
  'vit': (vit.ViT(_K, 4, width=12, depth=2, heads=3), 'head', [(4, 4, 12)]),
  # The third stage has no stride: it ends with the second.
  'student': (
    student.Student(_SPACE(), _K),
    'classifier',
    [(8, 8, 4), (4, 4, 8)],
  ),
  'student with a head': (
    student.Student(_SPACE(head_features=7, squeeze_excite=0.5), _K),
    'classifier',
    [(8, 8, 4), (4, 4, 8)],
  ),
}


@functools.cache
def _run(name: str):
  """Variables, the outputs for two images, and the same by a plain call."""
  net = NETWORKS[name][0]
  variables = random_variables.draw(net, _SHAPE)
  images = np.random.default_rng(1).uniform(size=(2, *_SHAPE))
  images = images.astype(np.float32)
  found, plain = jax.jit(
    lambda v, x: (networks.represent(net, v, x), networks.apply(net, v, x))
  )(variables, images)
  return variables, found, plain


@pytest.mark.parametrize('name', NETWORKS)
def test_the_last_layer_classifies_the_features(name):
  variables, found, _ = _run(name)
  last = variables['params'][NETWORKS[name][1]]
  expected = np.asarray(found.features) @ last['kernel'] + last['bias']
  np.testing.assert_allclose(found.logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', NETWORKS)
def test_a_call_returns_the_logits_and_taps_of_all_outputs(name):
  _, found, plain = _run(name)
  for one, two in zip(
    jax.tree.leaves(plain), jax.tree.leaves(found[:2]), strict=True
  ):
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize('name', NETWORKS)
def test_stages_end_where_maps_shrink_next(name):
  _, found, _ = _run(name)
  assert [stage.shape[1:] for stage in found.stages] == NETWORKS[name][2]


@pytest.mark.parametrize('name', ['resnet', 'student'])
def test_features_are_the_means_of_the_last_stage(name):
  """So stages have what blocks add, which the last tap has not."""
  _, found, _ = _run(name)
  means = found.stages[-1].mean((1, 2))
  np.testing.assert_allclose(found.features, means, rtol=1e-5, atol=1e-6)
  if name == 'resnet':
    taps = found.taps[-1].mean((1, 2))
    assert np.abs(found.features - taps).max() > 0.01


def test_a_subset_of_classes_has_the_features_of_all():
  net, _, _ = NETWORKS['resnet']
  variables, found, _ = _run('resnet')
  images = np.random.default_rng(1).uniform(size=(2, *_SHAPE))
  some = ClassSubset(net, _K, (3, 1))
  subset = networks.represent(some, variables, jnp.asarray(images, jnp.float32))
  np.testing.assert_allclose(
    subset.logits, found.logits[:, [3, 1]], rtol=1e-4, atol=1e-5
  )
  np.testing.assert_allclose(
    subset.features, found.features, rtol=1e-4, atol=1e-5
  )

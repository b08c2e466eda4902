"""Kernel sizes, expansions and depth: one-hot is the derived network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax.interop import state_dicts
from rnascl_jax.interop import student as torch_student
from rnascl_jax.models import convolutions, student
from rnascl_jax.search import arch_params, architecture, space_layers, spaces
from rnascl_jax.search.architecture import Architecture
from rnascl_jax.search.space import Operator

# The second and the last block may be skipped; the third strides.
_SPACE = spaces.with_operators(
  spaces.from_stages(
    (2, 2), ((6, 4), (7, 5)), (1, 2), stem_features=8, stem_stride=1
  ),
  kernel_sizes=(3, 5),
  expansions=(3, 6),
  depth=True,
)
_SKIPPED = Operator(skipped=True)
# Kernels shrink and grow, and insides; blocks in the middle and at the end are
# skipped behind the narrow and the wide choice.
_CHOICES = {
  'small': ((4, 6, 7, 5), (Operator(3, 3),) * 4),
  'mixed': (
    (4, 6, 5, 7),
    (Operator(3, 6), Operator(5, 3), Operator(5, 6), Operator(3, 3)),
  ),
  'skipped': (
    (4, 4, 7, 7),
    (Operator(5, 3), _SKIPPED, Operator(3, 6), _SKIPPED),
  ),
}
_IMAGES = jax.random.uniform(jax.random.key(0), (3, 8, 8, 1))


def _sliced(array, shape, inputs, inside, skip):
  """A derived network's array out of the supernet's.

  An inside has 6 channels for each of its input, of which the first are kept.
  """
  for axis, (have, want) in enumerate(zip(array.shape, shape, strict=True)):
    if axis < 2 and len(shape) == 4 and have != want:  # A kernel's ring.
      array = jnp.take(array, jnp.arange(1, want + 1), axis)
    elif have == 6 * skip and inside[axis]:
      kept = np.arange(have).reshape(skip, 6)[:inputs, : want // inputs]
      array = jnp.take(array, jnp.asarray(kept.ravel()), axis)
    else:
      array = jnp.take(array, jnp.arange(want), axis)
  return array


def _of_block(name, tree, like, inputs, widest):
  """A block's arrays; `inputs` of `widest` channels enter it."""
  insides = {
    'expand': (False, True),
    'expand_norm': (True,),
    'depthwise': (False, False, False, True),
    'depthwise_norm': (True,),
    'project': (True, False),
    'project_norm': (False,),
  }
  return {
    part: {
      leaf: _sliced(tree[part][leaf], a.shape, inputs, insides[part], widest)
      for leaf, a in leaves.items()
    }
    for part, leaves in like.items()
  }


def _derived_of(tree, like, features, operators):
  """A derived network's variables (or statistics) out of the supernet's."""
  made = {
    name: jax.tree.map(
      lambda a, b: a[tuple(map(slice, b.shape))], tree[name], like[name]
    )
    for name in like
    if not name.startswith('block')
  }
  kept = [i for i, operator in enumerate(operators) if not operator.skipped]
  for new, old in enumerate(kept):
    inputs = (8, *features)[old]
    widest = (8, *(block.widest for block in _SPACE.blocks))[old]
    name = f'block{new}'
    made[name] = _of_block(
      name, tree[f'block{old}'], like[name], inputs, widest
    )
  return made


def _student(space):
  # XLA's own convolution compiles in less time than a sum over 5x5 windows.
  conv = convolutions.native_depthwise_conv
  return student.Student(space, 5, (0.0,), (1.0,), conv=conv)


def _run(net, variables, masks=None):
  logits, new = net.apply(
    variables, _IMAGES, masks, train=True, mutable=['batch_stats']
  )
  return {
    'train': logits,
    'eval': net.apply(variables, _IMAGES, masks, train=False),
    **new,
  }


@pytest.fixture(scope='module')
def supernet():
  """A function of masks that runs the supernet, and its random variables."""
  net = _student(_SPACE)
  variables = net.init(jax.random.key(1), _IMAGES, train=False)
  leaves, structure = jax.tree.flatten(variables)
  keys = jax.random.split(jax.random.key(2), len(leaves))
  # BatchNorms are no identities. Kernels stay, so that activations do not grow
  # from block to block where BatchNorm takes its running statistics.
  leaves = [
    leaf + 0.3 * jax.random.uniform(key, leaf.shape) if leaf.ndim == 1 else leaf
    for leaf, key in zip(leaves, keys, strict=True)
  ]
  variables = jax.tree.unflatten(structure, leaves)
  return jax.jit(lambda masks: _run(net, variables, masks)), variables


@pytest.fixture(scope='module', params=_CHOICES)
def both(request, supernet):
  """What the supernet at one-hot and the derived network compute."""
  features, operators = _CHOICES[request.param]
  run, variables = supernet
  one_hot = arch_params.one_hot(_SPACE, features, operators)
  space = spaces.with_features(_SPACE, features, operators)
  net = _student(space)
  like = jax.eval_shape(
    lambda: net.init(jax.random.key(0), _IMAGES, train=False)
  )
  own = {
    kind: _derived_of(variables[kind], like[kind], features, operators)
    for kind in like
  }
  found = run(arch_params.masks(_SPACE, one_hot))
  return found, jax.jit(lambda v: _run(net, v))(own), own, features, operators


@pytest.mark.parametrize('mode', ('train', 'eval'))
def test_one_hot_choices_compute_the_derived_network(both, mode):
  found, expected, _, _, operators = both
  np.testing.assert_allclose(found[mode][0], expected[mode][0], atol=1e-5)
  skipped = {f'block{i}' for i, o in enumerate(operators) if o.skipped}
  taps = [
    tap
    for name, tap in zip(
      space_layers.layer_names(_SPACE), found[mode][1], strict=True
    )
    if name.partition('/')[0] not in skipped
  ]
  for wide, narrow in zip(taps, expected[mode][1], strict=True):
    # In the order of the channels; those beyond are zero.
    some = np.abs(np.asarray(wide)).max((0, 1, 2)) > 0
    assert some.sum() <= narrow.shape[-1]
    alive = np.abs(np.asarray(narrow)).max((0, 1, 2)) > 0
    np.testing.assert_allclose(
      wide[..., some], narrow[..., alive], rtol=1e-5, atol=1e-5
    )


def test_one_hot_choices_update_the_derived_network_s_statistics(both):
  found, expected, _, features, operators = both
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
    _derived_of(
      found['batch_stats'], expected['batch_stats'], features, operators
    ),
    expected['batch_stats'],
  )


def test_the_written_architecture_builds_the_same_network_in_pytorch(both):
  torch = pytest.importorskip('torch')
  _, expected, own, features, operators = both
  names = space_layers.layer_names(
    spaces.with_features(_SPACE, features, operators)
  )
  arch = Architecture(
    _SPACE, features, (0,) * len(names), names, ('conv',), operators
  )
  fields = architecture.to_dict(arch)
  assert architecture.from_dict(fields) == arch
  net = torch_student.Student(fields, num_classes=5, mean=(0.0,), std=(1.0,))
  arrays = state_dicts.from_variables(own)
  net.load_state_dict(
    {name: torch.tensor(np.array(a)) for name, a in arrays.items()},
    strict=False,
  )
  images = torch.tensor(np.array(_IMAGES).transpose(0, 3, 1, 2))
  with torch.no_grad():
    logits = net.eval()(images).numpy()
  np.testing.assert_allclose(logits, expected['eval'][0], atol=1e-5)


def test_soft_kernel_weights_are_the_weighted_sum_of_both_kernels():
  space = spaces.with_operators(
    spaces.from_stages((1,), ((4,),), (1,)), kernel_sizes=(3, 5)
  )
  channels = ({'width': jnp.ones(1), 'kernel': jnp.array([0.25, 0.75])},)
  mask = arch_params.masks(space, channels).operators[0]['kernel']
  assert mask.shape == (5, 5)
  np.testing.assert_array_equal(mask[1:4, 1:4], 1.0)
  np.testing.assert_array_equal(mask[0], 0.75)

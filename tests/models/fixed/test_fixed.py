"""Fixed networks against PyTorch, and the contract they share."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, traverse_util

from rnascl_jax.models import batch_norm, fixed, networks
from rnascl_jax.models.fixed import (
  blocks,
  darts,
  densenet,
  genotypes,
  mobilenet_v2,
  preact_resnet,
  resnet,
  robnet,
  vgg,
  vit,
  wide_resnet,
)
from rnascl_jax.search import flops
from tests import torch_fixed

CHANNELS = 3
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
# Compiling takes longer than running, and half as long without optimisation.
_jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


class Small(NamedTuple):
  """A small network in Flax, and in PyTorch with the same fields.

  In the latter, a part of the fields is in the network's name.
  """

  make: Any
  fields: dict[str, Any]
  torch_name: str
  not_torch: dict[str, Any]
  size: tuple[int, int]

  def flax(self, **fields):
    return self.make(**self.fields, **self.not_torch, num_classes=10, **fields)

  def torch(self):
    net = torch_fixed.make(self.torch_name, 10, **self.fields)
    return torch_fixed.randomise(net, seed=0)

  def images(self, batch):
    return _images(batch, *self.size)


def _small(make, torch_name, *, not_torch=None, size=(12, 8), **fields):
  return Small(make, fields, torch_name, not_torch or {}, size)


_wide = functools.partial(_small, wide_resnet.WideResNet, 'wide_resnet')
_stages = functools.partial(
  _small, stage_sizes=(1, 2), features=(8, 12), strides=(1, 2)
)
_preact = functools.partial(
  _stages, preact_resnet.PreActResNet, 'preact_resnet18'
)
_vit = functools.partial(
  _small, vit.ViT, 'vit', size=(32, 32), patch_size=8, depth=2, heads=3
)


def _resnet(torch_name, block, **fields):
  imagenet = torch_name.startswith('imagenet')
  return _stages(
    resnet.ResNet,
    torch_name,
    not_torch={'block': block, 'torchvision': imagenet},
    size=(60, 36) if imagenet else (12, 8),
    **fields,
  )


# Every kind of operation; in reduction cells those of nodes 0 and 1 stride.
ALL_KINDS = genotypes.Genotype(
  normal=(
    *(('sep_conv_3x3', 0), ('max_pool_3x3', 1)),
    *(('dil_conv_3x3', 2), ('skip_connect', 0)),
    *(('avg_pool_3x3', 1), ('none', 3)),
  ),
  normal_concat=(2, 3, 4),
  reduce=(
    *(('conv_7x1_1x7', 0), ('skip_connect', 1)),
    *(('dil_conv_3x3', 1), ('avg_pool_3x3', 0)),
  ),
  reduce_concat=(3, 2),
)
SMALL = {
  'wrn-10-1': _wide(depth=10, width=1),
  'wrn-16-2': _wide(depth=16, width=2),
  # A block with a stride projects its shortcut, even without a wider output.
  'basic': _resnet('resnet18', blocks.BASIC, features=(8, 8)),
  'bottleneck': _resnet('resnet50', blocks.BOTTLENECK),
  'preact': _preact(),
  'preact-activated': _preact(
    shortcut_activated=True, final_norm=True, features=(8, 8)
  ),
  'imagenet-basic': _resnet('imagenet_resnet18', blocks.BASIC),
  'imagenet-bottleneck': _resnet('imagenet_resnet50', blocks.BOTTLENECK),
  'imagenet-wide': _resnet('imagenet_wide_resnet50_2', blocks.WIDE_BOTTLENECK),
  'vit': _vit(width=12),
  'vit-early': _vit(
    width=24,
    mlp_ratio=3.0,
    qkv_bias=False,
    attention_scale=0.1,
    norm_epsilon=0.01,
  ),
  # Blocks with a shortcut, with a projected one, and with none.
  'mobilenet': _small(
    mobilenet_v2.MobileNetV2,
    'mobilenet_v2',
    features=(3, 4),
    stage_sizes=(1, 3),
    strides=(1, 2),
  ),
  'vgg': _small(vgg.VGG, 'vgg11', features=(4, 6), stage_sizes=(1, 2)),
  'densenet': _small(
    densenet.DenseNet,
    'densenet121',
    features=(4, 6),
    stage_sizes=(2, 1),
    width=3,
  ),
  'darts': _small(
    darts.DartsNetwork,
    'darts',
    genotype=str(ALL_KINDS),
    depth=3,
    features=(2, 4, 4),
  ),
  'robnet': _small(
    robnet.RobNet,
    'robnet_large',
    codes=('0111 1000 1000 1000 1000 0010 1000',),
    depth=3,
    features=(2, 4, 4),
  ),
  'msrobnet': _small(
    robnet.MSRobNet,
    'msrobnet_1000',
    codes=('0111 1000 1000 1000 1000 0010 1000',),
    depth=3,
    features=(3, 4, 4),
  ),
}
TRAINED = (
  *('wrn-10-1', 'basic', 'bottleneck', 'preact', 'mobilenet', 'vgg'),
  *('densenet', 'darts', 'robnet', 'msrobnet'),
)
IMAGENET = {'num_classes': 1000, 'side': 224}
TOKENS = IMAGENET | {'patch_size': 16}
# Taps, and parameters: as published where the data set is ImageNet, with ten
# classes elsewhere. A test counts the latter in PyTorch, too.
FULL_SIZE = {
  'wide_resnet34_10': (31, 46_160_474, {}),
  'resnet18': (17, 11_173_962, {}),
  'resnet34': (33, 21_282_122, {}),
  'resnet50': (49, 23_520_842, {}),
  'wide_resnet': (25, 36_479_194, {'depth': 28, 'width': 10}),
  'small_resnet': (7, 78_042, {}),
  'preact_resnet18': (17, 11_171_146, {}),
  'preact_resnet18 with bn': (17, 11_172_170, {'final_norm': True}),
  'imagenet_resnet18': (17, 11_689_512, IMAGENET),
  'imagenet_resnet50': (49, 25_557_032, IMAGENET),
  'imagenet_wide_resnet50_2': (49, 68_883_240, IMAGENET),
  'vit': (3, 24_730, {'patch_size': 4, 'width': 24, 'depth': 3, 'heads': 2}),
  'vit_small': (12, 22_050_664, TOKENS),
  'vit_small_8': (8, 48_754_408, TOKENS),
  'vit_base': (12, 86_567_656, TOKENS),
  'deit_tiny': (12, 5_717_416, TOKENS),
  'mobilenet_v2': (53, 2_296_922, {}),
  'vgg11': (8, 9_231_114, {}),
  'vgg11_r': (8, 5_830_475, {}),
  'densenet121': (120, 6_956_298, {}),
  'densenet121_r': (120, 5_999_686, {}),
  'darts': (21, 3_349_342, {}),
  'darts nasnet_a': (21, 3_830_950, {'genotype': 'nasnet_a'}),
  'darts amoebanet_a': (21, 3_145_078, {'genotype': 'amoebanet_a'}),
  'darts pc_darts': (21, 3_634_678, {'genotype': 'pc_darts'}),
  'darts racl': (21, 3_571_174, {'genotype': 'racl'}),
  'darts advrush': (21, 4_158_046, {'genotype': 'advrush'}),
  'robnet_large': (21, 6_842_710, {}),
  'robnet_free': (21, 5_439_790, {}),
  'msrobnet_1000': (9, 3_160_276, {}),
}
# Of these only shapes are known after seconds.
LARGE = (
  *('densenet121', 'densenet121_r'),
  *('darts', 'robnet_large', 'robnet_free', 'msrobnet_1000'),
)
SIZES = [
  pytest.param(name, marks=[pytest.mark.slow] * (name.split()[0] in LARGE))
  for name in FULL_SIZE
]
# Published parameters, and MACs where they are no rounded ones, in millions:
# Table 1 of RNAS-CL; Guo et al. for RobNet-free. AmoebaNet-A's printed 3.2 are
# of its authors' network, not of DARTS's code. The MACs count BatchNorm's two
# operations for an element.
PRINTED = {
  'vgg11_r': (5.83, None),
  'densenet121_r': (6.0, None),
  'darts': (3.3, None),
  'darts nasnet_a': (3.8, None),
  'darts pc_darts': (3.6, None),
  'darts racl': (3.6, None),
  'darts advrush': (4.2, 659),
  'robnet_large': (6.89, None),
  'robnet_free': (5.49, None),
  'msrobnet_1000': (3.16, None),
}


def _images(batch, height=12, width=8, channels=CHANNELS):
  shape = (batch, height, width, channels)
  return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def _shapes(net, height=32, width=32, channels=CHANNELS):
  """Shapes of (variables, (logits, taps)); computes nothing."""
  images = jax.ShapeDtypeStruct((2, height, width, channels), jnp.float32)
  return jax.eval_shape(
    lambda key, x: net.init_with_output(key, x, train=False)[::-1],
    jax.random.key(0),
    images,
  )


@functools.cache
def _variable_shapes(name):
  """Shapes of the variables of a network of `SMALL`."""
  return _shapes(SMALL[name].flax(), *SMALL[name].size)[0]


@functools.cache
def _full_size(name):
  """A network of `FULL_SIZE`, computing in bfloat16, and its shapes."""
  fields = {'num_classes': 10, 'side': 32} | FULL_SIZE[name][2]
  side = fields.pop('side')
  make = fixed.NETWORKS[name.split()[0]]
  net = make(dtype=jnp.bfloat16, **fields)
  return net, *_shapes(net, side, side)


def _variables(name):
  """Random variables, faster than `init`, with BatchNorms that matter."""
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    if path[-1] in ('scale', 'var'):
      return rng.uniform(0.5, 1.5, leaf.shape)
    scale = 0.3 if leaf.ndim == 1 else (2 / np.prod(leaf.shape[:-1])) ** 0.5
    return scale * rng.normal(size=leaf.shape)

  return traverse_util.path_aware_map(
    lambda path, leaf: draw(path, leaf).astype(leaf.dtype),
    _variable_shapes(name),
  )


def _num_params(variables):
  return sum(x.size for x in jax.tree.leaves(variables['params']))


def _close(value, torch_value):
  atol = 1e-4 * min(1.0, np.abs(torch_value).max())
  np.testing.assert_allclose(value, torch_value, rtol=1e-4, atol=atol)


@pytest.mark.parametrize(
  ('name', 'mode'),
  [(name, 'eval') for name in SMALL if name != 'wrn-10-1']
  # Each kind of block once.
  + [(name, 'train') for name in TRAINED],
)
def test_logits_taps_gradients_and_statistics_equal_pytorchs(name, mode):
  small, train = SMALL[name], mode == 'train'
  net = small.flax(mean=MEAN, std=STD)
  torch_net = torch_fixed.average_biased_variances(small.torch())
  torch_net.train(train)
  variables = torch_fixed.flax_variables(torch_net)
  images, stats = small.images(4), variables.get('batch_stats', {})

  def run(images, params):
    (logits, taps), updated = net.apply(
      {**variables, 'params': params},
      images,
      train=train,
      mutable=['batch_stats'],
    )
    return jax.nn.logsumexp(logits, axis=-1).sum(), (logits, taps, updated)

  derivatives = jax.grad(run, (0, 1) if train else (0,), has_aux=True)
  (gradient, *by_params), (logits, taps, updated) = _jit(derivatives)(
    images, variables['params']
  )
  torch_logits, torch_gradient, torch_taps = torch_fixed.run(
    torch_net, images, MEAN, STD, net.tap_names
  )

  _close(logits, torch_logits)
  _close(gradient, torch_gradient)
  for gradients in by_params:
    expected = torch_fixed.parameter_gradients(torch_net, images, MEAN, STD)
    # A bias before a BatchNorm has a gradient of rounding alone.
    largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
    close = functools.partial(
      np.testing.assert_allclose, rtol=1e-4, atol=1e-5 * largest
    )
    jax.tree.map(close, gradients, expected)
  assert len(taps) == len(torch_taps)
  jax.tree.map(_close, list(taps), torch_taps)
  new_stats = updated.get('batch_stats', {})
  torch_stats = torch_fixed.flax_variables(torch_net).get('batch_stats', {})
  jax.tree.map(_close, new_stats, torch_stats)
  changed = jax.tree.map(
    lambda old, new: not np.array_equal(old, new), stats, new_stats
  )
  assert set(jax.tree.leaves(changed)) == ({train} if stats else set())


@pytest.mark.parametrize('name', SMALL)
def test_a_pytorch_state_dict_fits_the_variables_by_its_names(name):
  shapes = jax.tree.map(jnp.shape, _variable_shapes(name))
  imported = torch_fixed.flax_variables(SMALL[name].torch())
  assert jax.tree.map(jnp.shape, imported) == shapes


@pytest.mark.parametrize('name', SMALL)
def test_the_names_of_variables_lead_back_to_pytorchs(name):
  flat = traverse_util.flatten_dict(_variable_shapes(name), sep='/')
  leaves = {'kernel': 'weight', 'scale': 'weight'}
  leaves |= {'mean': 'running_mean', 'var': 'running_var'}
  back = set()
  for path in flat:
    *module, leaf = path.split('/')[1:]
    torch_module = torch_fixed.module_name('/'.join(module))
    back.add('.'.join(filter(None, [torch_module, leaves.get(leaf, leaf)])))
  expected = SMALL[name].torch().state_dict()
  assert back == {k for k in expected if not k.endswith('num_batches_tracked')}


def test_the_table_of_full_size_networks_is_complete():
  assert {name.split()[0] for name in FULL_SIZE} == set(fixed.NETWORKS)


@pytest.mark.parametrize('name', SIZES)
def test_full_size_networks_have_the_published_sizes_and_keep_the_contract(
  name,
):
  net, variables, (logits, taps) = _full_size(name)
  num_taps, num_parameters, fields = FULL_SIZE[name]
  assert (len(taps), _num_params(variables)) == (num_taps, num_parameters)
  assert isinstance(taps, tuple) and isinstance(net.tap_names, tuple)
  assert len(net.tap_names) == len(set(net.tap_names)) == num_taps
  classes = fields.get('num_classes', 10)
  assert (logits.shape, logits.dtype) == ((2, classes), jnp.float32)
  assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {
    jnp.dtype(jnp.float32)
  }
  assert {tap.dtype for tap in taps} == {jnp.dtype(jnp.bfloat16)}
  is_vit = isinstance(net, vit.ViT)
  collections = {'params'} if is_vit else {'params', 'batch_stats'}
  assert set(variables) == collections
  kernels = traverse_util.flatten_dict(variables['params'], sep='/')
  last = '/mlp/fc2/kernel' if is_vit else '/kernel'
  for tap, tap_name in zip(taps, net.tap_names, strict=True):
    # The taps of cells are not those of one layer.
    kernel = kernels.get(tap_name + last, tap)
    assert tap.shape[-1] == kernel.shape[-1]


@pytest.mark.parametrize('name', SIZES)
def test_full_size_networks_have_the_parameters_and_shapes_of_pytorchs(name):
  net, variables, (_, taps) = _full_size(name)
  fields = {'num_classes': 10, 'side': 32} | FULL_SIZE[name][2]
  if isinstance(net, vit.ViT):
    fields['image_size'] = fields['side']
  num_parameters, torch_shapes = torch_fixed.shapes(
    name.split()[0], tap_names=net.tap_names, **fields
  )
  assert num_parameters == _num_params(variables)
  assert [(1, *tap.shape[1:]) for tap in taps] == torch_shapes


@pytest.mark.slow
@pytest.mark.parametrize('name', PRINTED)
def test_networks_of_the_paper_have_the_printed_sizes(name):
  millions, macs = PRINTED[name]
  net, variables, _ = _full_size(name)
  digits = len(str(millions).split('.')[1])
  found = _num_params(variables) / 1e6
  assert round(found, digits) == pytest.approx(millions, rel=0.01)
  if macs is None:
    return
  norms = []

  def count(norm, arguments, keywords, context):
    outputs = norm(*arguments, **keywords)
    if isinstance(context.module, batch_norm.BatchNorm):
      norms.append(outputs.size)
    return outputs

  native = networks.with_native_convolutions(net.clone(dtype=None))
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
  with linen.intercept_methods(count):
    counted = flops.trace_macs(
      lambda v, x: networks.apply(native, v, x)[0], variables, images
    )
  assert (counted + 2 * sum(norms)) / 1e6 == pytest.approx(macs, rel=0.01)


def test_small_resnet_has_78_thousand_parameters():
  variables, (_, taps) = _shapes(
    resnet.small_resnet(num_classes=10), 8, 8, channels=1
  )
  assert _num_params(variables) == 77_754
  assert [tap.shape[1:] for tap in taps] == (
    3 * [(8, 8, 16)] + 2 * [(4, 4, 32)] + 2 * [(2, 2, 64)]
  )


@pytest.mark.parametrize(
  'net',
  [
    resnet.ResNet((12,), 2, features=(4,), strides=(1,)),
    resnet.ResNet((11,), 2, blocks.BOTTLENECK, features=(2,), strides=(1,)),
    wide_resnet.WideResNet(70, 1, 2),
    preact_resnet.PreActResNet((12,), 2, features=(2,), strides=(1,)),
    vit.ViT(2, patch_size=2, width=4, depth=12, heads=1),
  ],
  ids=['basic', 'bottleneck', 'wide', 'preact', 'vit'],
)
def test_a_broken_layer_spoils_its_tap_and_all_later_ones(net):
  # Names are right, and in forward order, if a NaN put into the kernel that
  # name i points at shows in the taps i, i + 1, ... and in no earlier one.
  images = _images(1, 4, 4)
  shapes, _ = _shapes(net, 4, 4)
  flat = traverse_util.flatten_dict(
    jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
  )

  @_jit
  def broken_taps(flat):
    variables = traverse_util.unflatten_dict(flat)
    _, taps = net.apply(variables, images, train=False)
    return jnp.stack([jnp.isnan(tap).any() for tap in taps])

  names, is_vit = net.tap_names, isinstance(net, vit.ViT)
  assert len(set(names)) == len(names) > (10 if is_vit else 20)
  for index, name in enumerate(names):
    last = ('mlp', 'fc2', 'kernel') if is_vit else ('kernel',)
    path = ('params', *name.split('/'), *last)
    broken = broken_taps({**flat, path: flat[path] * np.nan})
    expected = np.arange(len(names)) >= index
    np.testing.assert_array_equal(broken, expected)


@pytest.mark.parametrize('name', ['wrn-10-1', 'basic', 'preact', 'vit'])
def test_bfloat16_keeps_float32_variables_and_logits(name):
  small = SMALL[name]
  images, variables = small.images(4), _variables(name)
  run = {}
  for dtype in (None, jnp.bfloat16):
    net = small.flax(dtype=dtype)
    (logits, taps), updated = _jit(
      functools.partial(net.apply, train=True, mutable=['batch_stats'])
    )(variables, images)
    for leaf in jax.tree.leaves((updated, logits)):
      assert leaf.dtype == jnp.float32
    assert {tap.dtype for tap in taps} == {jnp.dtype(dtype or jnp.float32)}
    run[dtype] = np.asarray(logits)
  # bfloat16 has 8 bits; a dozen layers of it stay within a few per cent.
  scale = np.abs(run[None]).max()
  error = np.abs(run[None] - run[jnp.bfloat16]).max()
  assert 0 < error < 0.05 * scale


def test_pooling_is_float32_whatever_the_maps_are():
  class Head(linen.Module):
    @linen.compact
    def __call__(self, maps):
      return blocks.linear(1, name='linear')(blocks.pooled(maps))

  # 1 and the next bfloat16 number, whose mean no bfloat16 number holds.
  maps = jnp.array([1.0, 1.0 + 2**-7], jnp.bfloat16).reshape(1, 1, 2, 1)
  linear = {'kernel': jnp.ones((1, 1)), 'bias': jnp.zeros(1)}
  assert Head().apply({'params': {'linear': linear}}, maps) == 1.0 + 2**-8


@pytest.mark.parametrize('name', ['wrn-10-1', 'basic', 'preact-activated'])
def test_synchronised_shards_equal_the_whole_batch(name):
  small = SMALL[name]
  images, variables = small.images(8), _variables(name)

  def run(axis_name, num_shards):
    step = functools.partial(
      small.flax(axis_name=axis_name).apply, train=True, mutable=['batch_stats']
    )
    mapped = jax.vmap(step, in_axes=(None, 0), axis_name='shards')
    shards = images.reshape(num_shards, -1, *images.shape[1:])
    found = _jit(mapped)(variables, shards)
    outputs, stats = jax.tree.map(np.asarray, found)
    return jax.tree.map(lambda x: x.reshape(8, *x.shape[2:]), outputs), stats

  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  whole, whole_stats = run(None, 1)
  sharded, sharded_stats = run('shards', 2)
  jax.tree.map(close, sharded, whole)
  both = jax.tree.map(lambda x: np.concatenate([x, x]), whole_stats)
  jax.tree.map(close, sharded_stats, both)
  unsynchronised, _ = run(None, 2)
  assert np.abs(unsynchronised[0] - whole[0]).max() > 1e-3


@pytest.mark.parametrize('name', ['wrn-10-1', 'basic', 'preact', 'vit'])
def test_only_a_training_step_with_batch_norm_needs_the_axis(name):
  small = SMALL[name]
  net = small.flax(axis_name='shards')
  key, images = jax.random.key(0), small.images(2)
  variables = jax.eval_shape(
    functools.partial(net.init, train=True), key, images
  )
  jax.eval_shape(functools.partial(net.apply, train=False), variables, images)
  step = functools.partial(net.apply, train=True, mutable=['batch_stats'])
  if name == 'vit':
    _, updated = jax.eval_shape(step, variables, images)
    assert not updated
    return
  with pytest.raises(NameError, match='shards'):
    jax.eval_shape(step, variables, images)


@pytest.mark.parametrize('name', SMALL)
def test_the_training_mode_has_no_default(name):
  small = SMALL[name]
  with pytest.raises(TypeError, match='train'):
    small.flax().init(jax.random.key(0), small.images(1))


def test_normalisation_takes_a_number_for_each_channel_or_for_all():
  images = _images(2)
  expected = (images - 0.5) / 0.25
  for repeat in (1, CHANNELS):
    normal = blocks.normalized_input(images, (0.5,) * repeat, (0.25,) * repeat)
    np.testing.assert_allclose(normal, expected, rtol=1e-6, atol=1e-6)


def test_convolutions_start_with_he_fan_out_variance():
  conv = blocks.convolution(64, 3, dtype=None, name='conv')
  variables = conv.init(jax.random.key(0), jnp.zeros((1, 1, 1, 32)))
  deviation = np.asarray(variables['params']['kernel']).std()
  # 18432 draws: the standard deviation is known to 0.5 %.
  np.testing.assert_allclose(deviation, (2 / (9 * 64)) ** 0.5, rtol=0.03)


@pytest.mark.parametrize(
  ('name', 'fields', 'message'),
  [
    ('wide_resnet', {'depth': 29, 'width': 1}, 'depth=29.* 28 or 34'),
    ('wide_resnet', {'depth': 4, 'width': 1}, r'depth=4 .* 10\.'),
    ('wide_resnet', {'depth': -3, 'width': 1}, r'depth=-3 .* 10\.'),
    ('wide_resnet', {'depth': 10, 'width': 0}, 'width=0 must be'),
    ('small_resnet', {'strides': (1, 2)}, r'strides=\(1, 2\)'),
    ('small_resnet', {'stage_sizes': (1, 0, 1)}, r'=\(1, 0, 1\).*least 1'),
    ('small_resnet', {'stage_sizes': ()}, r'stage_sizes=\(\)'),
    ('preact_resnet18', {'strides': (1, 2)}, r'strides=\(1, 2\)'),
    ('deit_tiny', {'patch_size': 0}, 'patch_size=0 must be at least 1'),
    ('deit_tiny', {'patch_size': 4, 'mlp_ratio': 0.001}, 'mlp_ratio=0.001'),
    (
      'vit',
      {'patch_size': 4, 'width': 10, 'depth': 1, 'heads': 3},
      'width=10 must be a multiple of heads=3',
    ),
  ],
)
def test_impossible_fields_are_refused(name, fields, message):
  with pytest.raises(ValueError, match=message):
    fixed.NETWORKS[name](num_classes=10, **fields)


@pytest.mark.parametrize('name', ['vit', 'vit_small', 'vit_base', 'deit_tiny'])
def test_a_vit_without_a_patch_size_is_refused(name):
  with pytest.raises(TypeError, match='patch_size'):
    fixed.NETWORKS[name](num_classes=10)


@pytest.mark.parametrize(
  'name',
  ['resnet18', 'wide_resnet34_10', 'preact_resnet18', 'imagenet_resnet18'],
)
@pytest.mark.parametrize(
  ('shape', 'dtype', 'message'),
  [
    ((32, 32, 3), 'float32', r'\(32, 32, 3\).*images\[None\]'),
    ((2, 32, 32, 3), 'uint8', 'uint8.*divide 8-bit images by 255'),
    ((2, 32, 3, 3), 'float32', 'too small.*height and width of at least'),
    ((2, 32, 32, 4), 'float32', 'one number for each of the 4 channels'),
  ],
)
def test_unfit_images_are_refused(name, shape, dtype, message):
  net = fixed.NETWORKS[name](num_classes=10, mean=MEAN)
  with pytest.raises(ValueError, match=message):
    net.init(jax.random.key(0), jnp.zeros(shape, dtype), train=False)


def test_images_of_imagenets_networks_have_at_least_32_pixels_a_side():
  net = fixed.NETWORKS['imagenet_resnet18'](num_classes=10)
  _, (_, taps) = _shapes(net, 32, 32)
  assert taps[-1].shape[1:3] == (1, 1)
  with pytest.raises(ValueError, match='at least 32'):
    _shapes(net, 32, 31)

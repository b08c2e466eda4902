"""The teachers against PyTorch, and the contract they share."""

import functools
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, traverse_util

from rnascl_jax import teachers
from rnascl_jax.teachers import resnet, wide_resnet

CHANNELS = 3
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
# Small networks, and how the PyTorch definitions below are called for the same.
NETWORKS = {
  'wrn-10-1': (
    functools.partial(wide_resnet.WideResNet, 10, 1),
    lambda torch_nets: torch_nets.wide_resnet(10, 1),
  ),
  'wrn-16-2': (
    functools.partial(wide_resnet.WideResNet, 16, 2),
    lambda torch_nets: torch_nets.wide_resnet(16, 2),
  ),
  'basic': (
    functools.partial(resnet.small_resnet, stage_sizes=(2, 1, 1)),
    lambda torch_nets: torch_nets.resnet('basic', (2, 1, 1), (16, 32, 64)),
  ),
  'bottleneck': (
    functools.partial(
      resnet.ResNet,
      (1, 2, 1),
      block=resnet.BOTTLENECK,
      features=(8, 12, 16),
      strides=(1, 2, 2),
    ),
    lambda torch_nets: torch_nets.resnet('bottleneck', (1, 2, 1), (8, 12, 16)),
  ),
}
WIDTHS = (64, 128, 256, 512)
# Taps, and parameters with 10 classes (a test counts them in PyTorch, too).
FULL_SIZE = {
  'wide_resnet34_10': (31, 46_160_474),
  'resnet18': (17, 11_173_962),
  'resnet50': (49, 23_520_842),
}


@pytest.fixture(scope='module')
def torch_nets():
  """PyTorch definitions of both families, written from their descriptions."""
  torch = pytest.importorskip('torch')
  nn, relu = torch.nn, torch.relu

  def conv(c_in, c_out, size, stride=1):
    return nn.Conv2d(c_in, c_out, size, stride, size // 2, bias=False)

  class WideBlock(nn.Module):
    def __init__(self, c_in, c_out, stride):
      super().__init__()
      self.bn1, self.conv1 = nn.BatchNorm2d(c_in), conv(c_in, c_out, 3, stride)
      self.bn2, self.conv2 = nn.BatchNorm2d(c_out), conv(c_out, c_out, 3)
      if c_in != c_out:
        self.convShortcut = conv(c_in, c_out, 1, stride)

    def forward(self, x):
      active = relu(self.bn1(x))
      skip = self.convShortcut(active) if hasattr(self, 'convShortcut') else x
      return skip + self.conv2(relu(self.bn2(self.conv1(active))))

  class WideResNet(nn.Module):
    def __init__(self, depth, width):
      super().__init__()
      self.conv1, c_in = conv(CHANNELS, 16, 3), 16
      for stage, stride in enumerate((1, 2, 2)):
        blocks, c_out = [], width * 16 * 2**stage
        for index in range((depth - 4) // 6):
          blocks.append(WideBlock(c_in, c_out, stride if index == 0 else 1))
          c_in = c_out
        layer = {'layer': nn.Sequential(*blocks)}
        setattr(self, f'block{stage + 1}', nn.ModuleDict(layer))
      self.bn1, self.fc = nn.BatchNorm2d(c_in), nn.Linear(c_in, 10)

    def forward(self, x):
      x = self.conv1(x)
      for stage in (self.block1, self.block2, self.block3):
        x = stage['layer'](x)
      return self.fc(relu(self.bn1(x)).mean((2, 3)))

  class Block(nn.Module):
    def __init__(self, kind, c_in, c, stride):
      super().__init__()
      sizes = {
        'basic': [(c_in, c, 3, stride), (c, c, 3)],
        'bottleneck': [(c_in, c, 1), (c, c, 3, stride), (c, 4 * c, 1)],
      }[kind]
      self.depth, self.c_out = len(sizes), sizes[-1][1]
      for i, size in enumerate(sizes, start=1):
        setattr(self, f'conv{i}', conv(*size))
        setattr(self, f'bn{i}', nn.BatchNorm2d(size[1]))
      self.shortcut = nn.Sequential()
      if stride != 1 or c_in != self.c_out:
        self.shortcut = nn.Sequential(
          conv(c_in, self.c_out, 1, stride), nn.BatchNorm2d(self.c_out)
        )

    def forward(self, x):
      y = x
      for i in range(1, self.depth + 1):
        y = getattr(self, f'bn{i}')(getattr(self, f'conv{i}')(y))
        y = relu(y) if i < self.depth else y
      return relu(y + self.shortcut(x))

  class ResNet(nn.Module):
    def __init__(self, kind, sizes, widths):
      super().__init__()
      c_in, self.stages = widths[0], len(sizes)
      self.conv1, self.bn1 = conv(CHANNELS, c_in, 3), nn.BatchNorm2d(c_in)
      for stage, (size, c) in enumerate(zip(sizes, widths, strict=True)):
        blocks = []
        for index in range(size):
          stride = 2 if stage > 0 and index == 0 else 1
          blocks.append(Block(kind, c_in, c, stride))
          c_in = blocks[-1].c_out
        setattr(self, f'layer{stage + 1}', nn.Sequential(*blocks))
      self.linear = nn.Linear(c_in, 10)

    def forward(self, x):
      x = relu(self.bn1(self.conv1(x)))
      for stage in range(self.stages):
        x = getattr(self, f'layer{stage + 1}')(x)
      return self.linear(x.mean((2, 3)))

  return types.SimpleNamespace(wide_resnet=WideResNet, resnet=ResNet)


def _prepared(torch_net):
  """Random BatchNorms, and running variances like Flax's.

  PyTorch's running variance averages the batches' unbiased variances, Flax's
  the biased ones; the hook takes the difference off.
  """
  import torch

  def bias_running_variance(module, args, out):
    if module.training:
      x = args[0].detach()
      unbiased, biased = (x.var((0, 2, 3), correction=c) for c in (1, 0))
      module.running_var = module.running_var - 0.1 * (unbiased - biased)

  torch.manual_seed(0)
  for module in torch_net.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      torch.nn.init.uniform_(module.weight, 0.5, 1.5)
      torch.nn.init.normal_(module.bias, std=0.3)
      torch.nn.init.normal_(module.running_mean, std=0.3)
      torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
      module.register_forward_hook(bias_running_variance)
  return torch_net


def _flax_variables(torch_net):
  """A state dict as Flax variables: the renaming that the names promise."""
  leaves = {
    'running_mean': ('batch_stats', 'mean'),
    'running_var': ('batch_stats', 'var'),
    'bias': ('params', 'bias'),
  }
  flat = {}
  for key, value in torch_net.state_dict().items():
    path, leaf = key.rsplit('.', 1)
    if leaf == 'num_batches_tracked':
      continue
    value = value.numpy().copy()
    weight = {1: 'scale', 2: 'kernel', 4: 'kernel'}[value.ndim]
    collection, name = leaves.get(leaf, ('params', weight))
    value = value.transpose({1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[value.ndim])
    # An index joins the name before it; a block's layers are one level below.
    path = re.sub(r'\.(layer|\d+)(?=\.|$)', r'_\1', path).split('.')
    flat[(collection, *path, name)] = value
  return traverse_util.unflatten_dict(flat)


def _torch_run(torch_net, images, names, *, post_activation):
  """Logits, gradient of the images and taps, all channels last."""
  import torch

  taps = {}

  def record(name, module, args, out):
    taps[name] = out

  for name in names:
    module = name.replace('/', '.').replace('_', '.')
    if post_activation:
      module = re.sub(r'conv(\d)$', r'bn\1', module)
    hook = functools.partial(record, name)
    torch_net.get_submodule(module).register_forward_hook(hook)
  pixels = torch.tensor(images.transpose(0, 3, 1, 2), requires_grad=True)
  mean, std = (torch.tensor(n)[None, :, None, None] for n in (MEAN, STD))
  logits = torch_net((pixels - mean) / std)
  torch.logsumexp(logits, -1).sum().backward()
  assert tuple(taps) == names, 'PyTorch runs the layers in another order'
  maps = [t.detach().permute(0, 2, 3, 1) for t in (pixels.grad, *taps.values())]
  return [logits.detach().numpy(), *(m.numpy() for m in maps)]


def _images(batch, height=12, width=8, channels=CHANNELS):
  shape = (batch, height, width, channels)
  return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def _shapes(teacher, side=32, channels=CHANNELS):
  """Shapes of (variables, (logits, taps)); computes nothing."""
  images = jax.ShapeDtypeStruct((2, side, side, channels), jnp.float32)
  return jax.eval_shape(
    lambda key, x: teacher.init_with_output(key, x, train=False)[::-1],
    jax.random.key(0),
    images,
  )


def _variables(teacher, channels=CHANNELS):
  """Random variables, faster than `init`, with BatchNorms that matter."""
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    if path[-1] in ('scale', 'var'):
      return rng.uniform(0.5, 1.5, leaf.shape)
    scale = 0.3 if leaf.ndim == 1 else (2 / np.prod(leaf.shape[:-1])) ** 0.5
    return scale * rng.normal(size=leaf.shape)

  shapes, _ = _shapes(teacher, channels=channels)
  return traverse_util.path_aware_map(
    lambda path, leaf: draw(path, leaf).astype(leaf.dtype), shapes
  )


def _num_params(variables):
  return sum(x.size for x in jax.tree.leaves(variables['params']))


@pytest.mark.parametrize('train', [False, True], ids=['eval', 'train'])
@pytest.mark.parametrize('name', NETWORKS)
def test_logits_taps_gradients_and_statistics_equal_pytorchs(
  name, train, torch_nets
):
  make, make_torch = NETWORKS[name]
  teacher = make(num_classes=10, mean=MEAN, std=STD)
  torch_net = _prepared(make_torch(torch_nets)).train(train)
  variables, images = _flax_variables(torch_net), _images(4)

  def run(images):
    (logits, taps), updated = teacher.apply(
      variables, images, train=train, mutable=['batch_stats']
    )
    return jax.nn.logsumexp(logits, axis=-1).sum(), (logits, taps, updated)

  gradient, (logits, taps, updated) = jax.jit(jax.grad(run, has_aux=True))(
    images
  )
  is_resnet = isinstance(teacher, resnet.ResNet)
  expected = _torch_run(
    torch_net, images, teacher.tap_names, post_activation=is_resnet
  )

  def close(value, torch_value):
    atol = 1e-4 * min(1.0, np.abs(torch_value).max())
    np.testing.assert_allclose(value, torch_value, rtol=1e-4, atol=atol)

  for value, torch_value in zip(
    (logits, gradient, *taps), expected, strict=True
  ):
    close(value, torch_value)
  torch_stats = _flax_variables(torch_net)['batch_stats']
  jax.tree.map(close, updated['batch_stats'], torch_stats)
  changed = jax.tree.map(
    lambda old, new: not np.array_equal(old, new),
    variables['batch_stats'],
    updated['batch_stats'],
  )
  assert set(jax.tree.leaves(changed)) == {train}


@pytest.mark.parametrize('name', NETWORKS)
def test_a_pytorch_state_dict_fits_the_variables_by_its_names(name, torch_nets):
  make, make_torch = NETWORKS[name]
  variables, _ = _shapes(make(num_classes=10))
  imported = _flax_variables(make_torch(torch_nets))
  assert jax.tree.map(jnp.shape, imported) == jax.tree.map(jnp.shape, variables)


@pytest.mark.parametrize('name', FULL_SIZE)
def test_full_size_networks_have_the_taps_of_the_paper_and_known_sizes(name):
  teacher = teachers.TEACHERS[name](num_classes=10)
  variables, (logits, taps) = _shapes(teacher)
  assert (len(taps), _num_params(variables)) == FULL_SIZE[name]
  assert len(teacher.tap_names) == len(taps)
  assert logits.shape == (2, 10)


def test_full_size_networks_have_as_many_parameters_as_pytorchs(torch_nets):
  import torch

  with torch.device('meta'):
    torch_full = {
      'wide_resnet34_10': torch_nets.wide_resnet(34, 10),
      'resnet18': torch_nets.resnet('basic', (2, 2, 2, 2), WIDTHS),
      'resnet50': torch_nets.resnet('bottleneck', (3, 4, 6, 3), WIDTHS),
    }
  for name, torch_net in torch_full.items():
    variables, _ = _shapes(teachers.TEACHERS[name](num_classes=10))
    num_torch = sum(p.numel() for p in torch_net.parameters())
    assert _num_params(variables) == num_torch == FULL_SIZE[name][1]


def test_small_resnet_has_78_thousand_parameters():
  variables, (_, taps) = _shapes(
    resnet.small_resnet(num_classes=10), side=8, channels=1
  )
  assert _num_params(variables) == 77_754
  assert [tap.shape[1:] for tap in taps] == (
    3 * [(8, 8, 16)] + 2 * [(4, 4, 32)] + 2 * [(2, 2, 64)]
  )


@pytest.mark.parametrize(
  'teacher',
  [
    resnet.ResNet((12,), 2, features=(4,), strides=(1,)),
    resnet.ResNet((11,), 2, resnet.BOTTLENECK, features=(2,), strides=(1,)),
    wide_resnet.WideResNet(70, 1, 2),
  ],
  ids=['basic', 'bottleneck', 'wide'],
)
def test_a_broken_convolution_spoils_its_tap_and_all_later_ones(teacher):
  # Names are right, and in forward order, if a NaN put into the kernel that
  # name i points at shows in the taps i, i + 1, ... and in no earlier one.
  images = _images(1, 4, 4)
  shapes, _ = _shapes(teacher, side=4)
  flat = traverse_util.flatten_dict(
    jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
  )

  @jax.jit
  def broken_taps(flat):
    variables = traverse_util.unflatten_dict(flat)
    _, taps = teacher.apply(variables, images, train=False)
    return jnp.stack([jnp.isnan(tap).any() for tap in taps])

  assert len(set(teacher.tap_names)) == len(teacher.tap_names) > 20
  for index, name in enumerate(teacher.tap_names):
    path = ('params', *name.split('/'), 'kernel')
    broken = broken_taps({**flat, path: flat[path] * np.nan})
    expected = np.arange(len(teacher.tap_names)) >= index
    np.testing.assert_array_equal(broken, expected)


@pytest.mark.parametrize('name', ['wrn-10-1', 'basic', 'bottleneck'])
def test_bfloat16_keeps_float32_variables_and_logits(name):
  images = _images(4)
  variables = _variables(NETWORKS[name][0](num_classes=10))
  run = {}
  for dtype in (None, jnp.bfloat16):
    teacher = NETWORKS[name][0](num_classes=10, dtype=dtype)
    (logits, taps), updated = jax.jit(
      functools.partial(teacher.apply, train=True, mutable=['batch_stats'])
    )(variables, images)
    for leaf in jax.tree.leaves((_shapes(teacher)[0], updated, logits)):
      assert leaf.dtype == jnp.float32
    assert {tap.dtype for tap in taps} == {jnp.dtype(dtype or jnp.float32)}
    run[dtype] = logits
  # bfloat16 has 8 bits; a dozen layers of it stay within a few per cent.
  scale = jnp.abs(run[None]).max()
  error = jnp.abs(run[None] - run[jnp.bfloat16]).max()
  assert 0 < error < 0.05 * scale


def test_pooling_is_float32_whatever_the_maps_are():
  class Head(linen.Module):
    @linen.compact
    def __call__(self, maps):
      return resnet.pooled_linear(maps, 1, name='linear')

  # 1 and the next bfloat16 number, whose mean no bfloat16 number holds.
  maps = jnp.array([1.0, 1.0 + 2**-7], jnp.bfloat16).reshape(1, 1, 2, 1)
  linear = {'kernel': jnp.ones((1, 1)), 'bias': jnp.zeros(1)}
  assert Head().apply({'params': {'linear': linear}}, maps) == 1.0 + 2**-8


@pytest.mark.parametrize('name', ['wrn-10-1', 'basic'])
def test_synchronised_shards_equal_the_whole_batch(name):
  images = _images(8)
  make = functools.partial(NETWORKS[name][0], num_classes=10)
  apply = make(axis_name='shards').apply
  variables = _variables(make())

  def run(apply, num_shards):
    step = functools.partial(apply, train=True, mutable=['batch_stats'])
    mapped = jax.vmap(step, in_axes=(None, 0), axis_name='shards')
    shards = images.reshape(num_shards, -1, *images.shape[1:])
    outputs, stats = jax.jit(mapped)(variables, shards)
    return jax.tree.map(lambda x: x.reshape(8, *x.shape[2:]), outputs), stats

  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  whole, whole_stats = run(make().apply, 1)
  sharded, sharded_stats = run(apply, 2)
  jax.tree.map(close, sharded, whole)
  both = jax.tree.map(lambda x: jnp.concatenate([x, x]), whole_stats)
  jax.tree.map(close, sharded_stats, both)
  unsynchronised, _ = run(make().apply, 2)
  assert jnp.abs(unsynchronised[0] - whole[0]).max() > 1e-3


@pytest.mark.parametrize('name', NETWORKS)
def test_only_a_training_step_needs_the_axis(name):
  teacher = NETWORKS[name][0](num_classes=10, axis_name='shards')
  key, images = jax.random.key(0), _images(2)
  variables = jax.eval_shape(
    functools.partial(teacher.init, train=True), key, images
  )
  jax.eval_shape(
    functools.partial(teacher.apply, train=False), variables, images
  )
  with pytest.raises(NameError, match='shards'):
    jax.eval_shape(
      functools.partial(teacher.apply, train=True, mutable=['batch_stats']),
      variables,
      images,
    )


@pytest.mark.parametrize('name', teachers.TEACHERS)
def test_every_teacher_keeps_the_contract(name):
  fields = {'depth': 10, 'width': 1} if name == 'wide_resnet' else {}
  teacher = teachers.TEACHERS[name](num_classes=7, dtype=jnp.bfloat16, **fields)
  variables, (logits, taps) = _shapes(teacher, side=40, channels=1)
  assert set(variables) == {'params', 'batch_stats'}
  assert isinstance(taps, tuple) and isinstance(teacher.tap_names, tuple)
  assert len(taps) == len(teacher.tap_names)
  assert (logits.shape, logits.dtype) == ((2, 7), jnp.float32)
  kernels = traverse_util.flatten_dict(variables['params'], sep='/')
  for tap, tap_name in zip(taps, teacher.tap_names, strict=True):
    assert tap.shape[-1] == kernels[f'{tap_name}/kernel'].shape[-1]
  with pytest.raises(TypeError, match='train'):
    teacher.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))


def test_normalisation_is_the_first_layer():
  images = _images(2)
  raw = resnet.small_resnet(num_classes=10)
  variables = _variables(raw)
  expected, _ = raw.apply(variables, (images - 0.5) / 0.25, train=False)
  for repeat in (1, CHANNELS):
    teacher = raw.clone(mean=(0.5,) * repeat, std=(0.25,) * repeat)
    logits, _ = teacher.apply(variables, images, train=False)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_convolutions_start_with_he_fan_out_variance():
  conv = resnet.convolution(64, 3, dtype=None, name='conv')
  variables = conv.init(jax.random.key(0), jnp.zeros((1, 1, 1, 32)))
  deviation = variables['params']['kernel'].std()
  # 18432 draws: the standard deviation is known to 0.5 %.
  np.testing.assert_allclose(deviation, (2 / (9 * 64)) ** 0.5, rtol=0.03)


@pytest.mark.parametrize(
  ('make', 'fields', 'message'),
  [
    (wide_resnet.WideResNet, {'depth': 29, 'width': 1}, 'depth=29.* 28 or 34'),
    (wide_resnet.WideResNet, {'depth': 4, 'width': 1}, r'depth=4 .* 10\.'),
    (wide_resnet.WideResNet, {'depth': -3, 'width': 1}, r'depth=-3 .* 10\.'),
    (wide_resnet.WideResNet, {'depth': 10, 'width': 0}, 'width=0 must be'),
    (resnet.small_resnet, {'strides': (1, 2)}, r'strides=\(1, 2\)'),
    (resnet.small_resnet, {'stage_sizes': (1, 0, 1)}, r'=\(1, 0, 1\).*least 1'),
    (resnet.ResNet, {'stage_sizes': ()}, r'stage_sizes=\(\)'),
  ],
)
def test_impossible_fields_are_refused(make, fields, message):
  with pytest.raises(ValueError, match=message):
    make(num_classes=10, **fields)


@pytest.mark.parametrize('name', ['resnet18', 'wide_resnet34_10'])
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
  teacher = teachers.TEACHERS[name](num_classes=10, mean=MEAN)
  with pytest.raises(ValueError, match=message):
    teacher.init(jax.random.key(0), jnp.zeros(shape, dtype), train=False)

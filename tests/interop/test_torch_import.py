"""Published teachers from every public layout: same numbers, or a clear no."""

import functools
import json

import jax
import numpy as np
import pytest

import rnascl_jax
from rnascl_jax.interop import fitting, state_dicts, torch_import
from rnascl_jax.interop.normalization import NORMALIZATIONS, Normalization
from rnascl_jax.models import networks
from rnascl_jax.models.fixed import build, preact_resnet, resnet
from rnascl_jax.models.teachers.published import PUBLISHED
from rnascl_jax.runtime import saved_variables
from tests import torch_fixed, torch_layouts
from tests.torch_layouts import LAYOUTS

torch = pytest.importorskip('torch')

WIDE = {'name': 'wide_resnet', 'depth': 10, 'width': 1}
SMALL = {'stage_sizes': (1, 1), 'features': (4, 6), 'strides': (1, 2)}
# A small network of every family: the specification, PyTorch's name and fields.
FAMILIES = {
  'wide': (WIDE, 'wide_resnet', {'depth': 10, 'width': 1}),
  'cifar': ({'name': 'small_resnet', **SMALL}, 'resnet18', SMALL),
  'preact': (
    {'name': 'preact', **SMALL, 'final_norm': True},
    'preact_resnet18',
    {**SMALL, 'final_norm': True},
  ),
  'imagenet': ({'name': 'imagenet', **SMALL}, 'imagenet_resnet18', SMALL),
  'vit': (
    {'name': 'vit', 'depth': 1, 'width': 6, 'heads': 2, 'patch_size': 16},
    'vit',
    {'depth': 1, 'width': 6, 'heads': 2, 'patch_size': 16},
  ),
}
GENERAL = {
  'preact': preact_resnet.PreActResNet,
  'imagenet': functools.partial(resnet.ResNet, torchvision=True),
}
MEAN, STD = NORMALIZATIONS['cifar10']


@pytest.fixture(autouse=True)
def general_networks(monkeypatch):
  """Small networks of families of which a config has full-size ones only."""
  monkeypatch.setattr(build, 'NETWORKS', {**build.NETWORKS, **GENERAL})


@functools.cache
def _module(family='wide', num_classes=10):
  _, name, fields = FAMILIES[family]
  net = torch_fixed.make(name, num_classes, **fields)
  return torch_fixed.randomise(net, seed=0)


def _saved(folder, layout):
  path = folder / 'model.pt'
  torch.save(layout.saved, path, **layout.options)
  return path


def _file(folder, family='wide', layout='plain', **changes):
  state = {**_module(family).state_dict(), **changes}
  return _saved(folder, LAYOUTS[layout]({k: v for k, v in state.items()}))


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('family', FAMILIES)
def test_every_layout_of_every_family_gives_the_same_variables_and_state(
  family, layout, tmp_path
):
  pytest.importorskip('dill')
  spec, module = FAMILIES[family][0], _module(family)
  made = LAYOUTS[layout](dict(module.state_dict()))
  found = torch_import.read(_saved(tmp_path, made), spec, fallback='none')
  expected = torch_fixed.flax_variables(module)
  assert jax.tree.structure(found.variables) == jax.tree.structure(expected)
  jax.tree.map(np.testing.assert_array_equal, found.variables, expected)
  back, state = state_dicts.from_variables(found.variables), module.state_dict()
  assert back.keys() == state.keys()
  for key, value in state.items():
    np.testing.assert_array_equal(back[key], value.numpy(), err_msg=key)
  source = found.metadata['source']
  assert (source['prefix'], source['entry']) == (made.prefix, made.entry)
  said = made.normalization or NORMALIZATIONS['none']
  for name in ('mean', 'std'):
    np.testing.assert_allclose(found.metadata[name], getattr(said, name))
  assert (source['normalization'] == 'the file') == bool(made.normalization)


@pytest.mark.parametrize(
  ('family', 'layout'),
  [*((family, 'madry') for family in FAMILIES), ('imagenet', 'madry_imagenet')],
)
def test_an_imported_teacher_computes_what_pytorch_does(
  family, layout, tmp_path
):
  """Logits, taps and input gradients, normalisation of the file included."""
  module = _module(family)
  made = LAYOUTS[layout](dict(module.state_dict()))
  found = torch_import.read(_saved(tmp_path, made), FAMILIES[family][0])
  _assert_same_function(found, module, made.normalization, size=32)


def _assert_same_function(found, module, normalization, size, gradients=True):
  images = np.random.default_rng(0).uniform(size=(2, size, size, 3))
  images = images.astype(np.float32)

  def run(images):
    logits, taps = networks.apply(found.net, found.variables, images)
    return jax.nn.logsumexp(logits, axis=-1).sum(), (logits, taps)

  wanted_logits, wanted_gradient, wanted_taps = torch_fixed.run(
    module, images, *normalization, found.net.tap_names
  )
  if gradients:
    gradient, (logits, taps) = jax.jit(jax.grad(run, has_aux=True))(images)
    _assert_close(gradient, wanted_gradient)
  else:
    _, (logits, taps) = jax.jit(run)(images)
  _assert_close(logits, wanted_logits)
  for tap, wanted in zip(taps, wanted_taps, strict=True):
    _assert_close(tap, wanted)


def _assert_close(value, wanted):
  """To 1e-4 of the largest."""
  scale = np.abs(wanted).max()
  np.testing.assert_allclose(value / scale, wanted / scale, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize('name', PUBLISHED)
def test_a_teacher_of_the_paper_computes_what_pytorch_does(name, tmp_path):
  """Logits, taps and input gradients at full size, in float32."""
  known = PUBLISHED[name]
  fields = {k: v for k, v in known.network.items() if k != 'name'}
  module = torch_fixed.make(known.network['name'], known.num_classes, **fields)
  torch_fixed.randomise(module, seed=0)
  given, state = NORMALIZATIONS[known.normalization], dict(module.state_dict())
  inert = known.pickles == 'inert'  # The file says how its inputs are.
  layout = (
    torch_layouts.madry(state, given)
    if inert
    else (torch_layouts.locuslab(state))
  )
  found = torch_import.read(
    _saved(tmp_path, layout),
    known.network,
    fallback=known.normalization,
    num_classes=known.num_classes,
    image_size=known.image_size,
  )
  # Convolutions do not know the size of ImageNet's images.
  patches = 'patch_size' in fields
  size = known.image_size if patches else min(known.image_size, 64)
  _assert_same_function(found, module, given, size, gradients=False)
  _assert_same_gradient(found, module, given, size)
  _assert_same_gradient_in_float64(found, module, given, size)


def _assert_same_gradient(found, module, normalization, size):
  """Where rounding decides none of the millions of ReLUs otherwise.

  One that it does changes the gradient around a pixel, by up to 2 % of the
  largest; a wrong network differs on all images.
  """

  @jax.jit
  @jax.grad
  def gradient(images):
    logits, _ = networks.apply(found.net, found.variables, images)
    return jax.nn.logsumexp(logits, axis=-1).sum()

  agree = []
  for seed in range(6):
    images = np.random.default_rng(seed).uniform(size=(1, size, size, 3))
    images = images.astype(np.float32)
    wanted = torch_fixed.run(module, images, *normalization, ())[1]
    error = np.abs(gradient(images) - wanted).max() / np.abs(wanted).max()
    agree.append(error < 1e-4)
  assert sum(agree) >= 2, agree


def _assert_same_gradient_in_float64(found, module, normalization, size):
  images = np.random.default_rng(0).uniform(size=(1, size, size, 3))

  def run(variables, images):
    logits, _ = networks.apply(found.net, variables, images)
    return jax.nn.logsumexp(logits, axis=-1).sum()

  with jax.enable_x64(True):
    wide = jax.tree.map(lambda x: np.asarray(x, np.float64), found.variables)
    gradient = np.asarray(jax.jit(jax.grad(run, argnums=1))(wide, images))
  wanted = torch_fixed.run(module.double(), images, *normalization, ())[1]
  assert wanted.dtype == gradient.dtype == np.float64
  scale = np.abs(wanted).max()
  np.testing.assert_allclose(gradient / scale, wanted / scale, atol=1e-7)


@pytest.mark.parametrize('name', PUBLISHED)
def test_a_teacher_of_the_paper_has_its_parameters_here_and_in_pytorch(name):
  known = PUBLISHED[name]
  fields = {k: v for k, v in known.network.items() if k != 'name'}
  with torch.device('meta'):  # Takes no memory.
    module = torch_fixed.make(
      known.network['name'], known.num_classes, **fields
    )
  counted = sum(p.numel() for p in module.parameters())
  shapes = fitting.shapes(known.network, known.num_classes, known.image_size)
  here = sum(leaf.size for leaf in jax.tree.leaves(shapes['params']))
  assert here == counted == known.parameters


def test_the_users_normalisation_overrides_that_of_the_file(tmp_path):
  path = _file(tmp_path, layout='madry')
  found = torch_import.read(path, WIDE, normalization='cifar10')
  assert found.metadata['mean'] == list(MEAN)
  assert found.metadata['std'] == list(STD)
  assert found.metadata['source']['normalization'] == 'given'
  assert found.net.mean == MEAN


def test_a_normalisation_that_nobody_says_is_not_guessed(tmp_path):
  with pytest.raises(ValueError, match='does not say how its inputs are norma'):
    torch_import.read(_file(tmp_path), WIDE)


@pytest.mark.parametrize(
  ('normalization', 'message'),
  [
    ('cifar', "unknown normalisation 'cifar'; known are none, cifar10"),
    (Normalization((0.5,), (0.0,)), 'the deviations positive'),
    (Normalization((0.5, 0.5), (1.0,)), 'equally many finite'),
  ],
)
def test_an_impossible_normalisation_is_refused(
  normalization, message, tmp_path
):
  with pytest.raises(ValueError, match=message):
    torch_import.read(_file(tmp_path), WIDE, normalization=normalization)


def test_a_file_that_says_two_normalisations_is_refused(tmp_path):
  made = torch_layouts.madry(dict(_module().state_dict()))
  made.saved['model']['module.normalizer.new_mean'] += 0.1
  path = _saved(tmp_path, made)
  with pytest.raises(ValueError, match='two things about the normalisation'):
    torch_import.read(path, WIDE)
  found = torch_import.read(path, WIDE, normalization='cifar10')
  assert found.net.mean == MEAN


@pytest.mark.parametrize('beside', [{'mean': 0.5, 'std': 0.2}, {'mean': 'x'}])
def test_metadata_of_others_is_no_normalisation(beside, tmp_path):
  path = tmp_path / 'model.pt'
  state = _module().state_dict()
  torch.save({'state_dict': state, 'metadata': beside}, path)
  found = torch_import.read(path, WIDE, fallback='none')
  assert found.metadata['mean'] == [0.0]


def test_a_second_network_of_other_weights_is_refused(tmp_path):
  made = torch_layouts.madry(dict(_module().state_dict()))
  key = 'module.attacker.model.conv1.weight'
  made.saved['model'][key] = torch.zeros_like(made.saved['model'][key])
  path = _saved(tmp_path, made)
  with pytest.raises(ValueError, match=r"'module.model.', 'module.attacker.mo"):
    torch_import.read(path, WIDE)
  found = torch_import.read(path, WIDE, prefix='module.attacker.model.')
  assert not found.variables['params']['conv1']['kernel'].any()
  assert found.metadata['source']['ignored']['not chosen'] > 30
  with pytest.raises(ValueError, match='39 keys missing'):
    torch_import.read(path, WIDE, prefix='module.net.')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    # A single equal array is no copy of a network.
    (
      lambda state: {'extra.bn1.weight': state['bn1.weight']},
      '1 keys unexpected .*extra.bn1.weight',
    ),
    (
      lambda state: {'block1.layer.0.conv3.weight': torch.zeros(3)},
      '1 keys unexpected .*layer.0.conv3',
    ),
    (lambda state: {'fc.bias': None}, r'1 keys missing \(fc.bias\)'),
    (lambda state: {'fc.weight': None}, r'1 keys missing \(fc.weight\)'),
    (
      lambda state: {'bn1.running_var': None, 'bn1.bias': None},
      '2 keys missing .*bn1.running_var',
    ),
    (
      lambda state: {'fc.bias': torch.zeros(10, dtype=torch.int8)},
      'fc.bias in .* is of int8, not of floa',
    ),
    (
      lambda state: {'conv1.weight': state['conv1.weight'] + float('nan')},
      'conv1.weight .* is not finite everywhere',
    ),
    (
      lambda state: {'bn1.running_var': state['bn1.running_var'] - 9},
      'bn1.running_var .* is negative somewhere',
    ),
    (
      lambda state: {'sigma': torch.ones(3)},
      'not both: give both with --normalization',
    ),
    (
      lambda state: {
        'mean': torch.tensor([125.3]),
        'std': torch.tensor([63.0]),
      },
      r'not for images in \[0, 1\]: divide both by 255',
    ),
  ],
)
def test_arrays_of_no_such_network_are_refused(change, message, tmp_path):
  state = dict(_module().state_dict())
  state |= change(state)
  state = {key: value for key, value in state.items() if value is not None}
  path = _saved(tmp_path, torch_layouts.locuslab(state))
  with pytest.raises(ValueError, match=message):
    torch_import.read(path, WIDE, fallback='none', num_classes=10)


def test_another_number_of_classes_is_refused(tmp_path):
  with pytest.raises(ValueError, match='tells 10 classes apart, not 1000'):
    torch_import.read(_file(tmp_path), WIDE, num_classes=1000, fallback='none')


@pytest.mark.parametrize('name', ['classifier', 'linear', 'head.1'])
def test_a_layer_of_another_name_is_named_with_the_one_it_may_be(
  name, tmp_path
):
  state = {
    key.replace('fc.', f'{name}.'): value
    for key, value in _module().state_dict().items()
  }
  path = _saved(tmp_path, torch_layouts.locuslab(state))
  with pytest.raises(ValueError) as raised:
    torch_import.read(path, WIDE, fallback='none')
  message = str(raised.value)
  assert 'wide_resnet,depth=10,width=1 with 10 classes and' in message
  assert 'missing (fc.bias, fc.weight); 2 keys unexpected' in message
  assert f'same layers, by their shapes: {name} for fc. If so, save' in message


def test_layers_of_other_shapes_are_not_said_to_be_the_same(tmp_path):
  state = dict(_module().state_dict())
  state['classifier.weight'] = state.pop('fc.weight')[:, :3]
  path = _saved(tmp_path, torch_layouts.plain(state))
  with pytest.raises(ValueError, match='keys unexpected') as raised:
    torch_import.read(path, WIDE, fallback='none')
  assert 'same layers' not in str(raised.value)


def test_another_architecture_is_named_with_what_differs(tmp_path):
  path = _file(tmp_path)
  with pytest.raises(ValueError) as raised:
    torch_import.read(path, {**WIDE, 'width': 2}, fallback='none')
  message = str(raised.value)
  assert 'bn1.running_var [16] in place of [32]' in message
  assert 'It fits --network=wide_resnet,depth=10,width=1' in message


@pytest.mark.parametrize(
  ('name', 'size'),
  [
    ('resnet18', 32),
    ('imagenet_resnet50', 64),
    ('preact_resnet18', 32),
    ('deit_tiny', 48),
  ],
)
def test_a_file_of_another_teacher_says_which(name, size):
  spec = {'name': name}
  if name == 'deit_tiny':
    spec['patch_size'] = 16
  expected = state_dicts.shapes(fitting.shapes(spec, 7, size))
  arrays = {f'module.{k}': np.zeros(shape) for k, shape in expected.items()}
  wanted = f' It fits --network={build.text(spec)} with --image_size={size}.'
  # A transformer says its own size.
  asked = 224 if name == 'deit_tiny' else size
  said = fitting.hint(arrays, 7, asked)
  assert said.startswith(wanted)
  assert ('tells whether shortcut_activated' in said) == ('preact' in name)
  assert fitting.hint({'conv1.weight': np.zeros((16, 3, 3, 3))}, 7, size) == ''


def test_a_transformer_of_another_image_size_is_refused(tmp_path):
  spec = FAMILIES['vit'][0]
  with pytest.raises(ValueError, match=r'pos_embed \[1, 5, 6\] in place of \['):
    torch_import.read(
      _file(tmp_path, 'vit'), spec, fallback='none', image_size=64
    )


def test_an_unknown_network_is_refused_before_the_file_is_opened():
  with pytest.raises(
    ValueError, match="unknown network 'wrn'.* Known are resn"
  ):
    torch_import.read('no such file', {'name': 'wrn'})
  with pytest.raises(
    ValueError, match='no network resnet18,depth=3: it has no'
  ):
    torch_import.read('no such file', {'name': 'resnet18', 'depth': 3})


def test_a_saved_teacher_loads_by_its_folder_and_knows_its_file(tmp_path):
  path = _file(tmp_path, layout='madry')
  found = torch_import.read(path, WIDE, dataset='CIFAR-10')
  torch_import.save(found, tmp_path / 'teachers' / 'wide')
  model = rnascl_jax.load(tmp_path / 'teachers', 'wide')
  jax.tree.map(np.testing.assert_array_equal, model.variables, found.variables)
  assert model.net == found.net
  assert model.metadata['source'] == found.metadata['source']
  assert model.metadata['dataset'] == 'CIFAR-10'
  # Metadata are read without the arrays.
  folder = tmp_path / 'teachers' / 'wide'
  assert saved_variables.load_metadata(folder / 'model') == found.metadata
  with pytest.raises(FileNotFoundError):
    saved_variables.load_metadata(tmp_path / 'nothing')
  stage = json.loads((folder / 'stage.json').read_text())
  assert len(stage['source']['sha256']) == 64
  with pytest.raises(FileExistsError, match='is there already'):
    torch_import.save(found, tmp_path / 'teachers' / 'wide')


def test_what_a_file_says_of_its_data_is_kept_and_compared(tmp_path):
  path = tmp_path / 'model.pt'
  state, shape = _module().state_dict(), [32, 32, 3]
  said = {'dataset': 'cifar10', 'image_shape': shape}
  torch.save({'state_dict': state, 'metadata': said}, path)
  for dataset in ('', 'CIFAR-10'):
    found = torch_import.read(path, WIDE, dataset=dataset, fallback='none')
    assert found.metadata['dataset'] == 'cifar10'
  with pytest.raises(
    ValueError, match="trained on 'cifar10', not 'svhn': give"
  ):
    torch_import.read(path, WIDE, dataset='svhn', fallback='none')
  with pytest.raises(ValueError, match='shape .32, 32, 3., .* --image_size=32'):
    torch_import.read(path, WIDE, image_size=64, fallback='none')


def test_a_failed_save_leaves_nothing(tmp_path, monkeypatch):
  found = torch_import.read(_file(tmp_path), WIDE, fallback='none')

  def fail(*args):
    raise OSError('the disk is full')

  monkeypatch.setattr(torch_import.files, 'write_json', fail)
  before = sorted(tmp_path.iterdir())
  with pytest.raises(OSError, match='disk is full'):
    torch_import.save(found, tmp_path / 'teacher')
  assert sorted(tmp_path.iterdir()) == before


def test_a_network_of_darts_is_imported_without_its_auxiliary_head(tmp_path):
  edges = "normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2]"
  cells = f'Genotype({edges}, {edges.replace("normal", "reduce")})'
  fields = {'genotype': cells, 'depth': 3, 'features': (2, 2, 4)}
  spec = {'name': 'darts', **fields}
  module = torch_fixed.make('darts', 10, **fields)
  torch_fixed.randomise(module, seed=0)
  head = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Conv2d(4, 8, 1))
  module.auxiliary_head = torch.nn.ModuleDict(
    {'features': head, 'classifier': torch.nn.Linear(8, 10)}
  )
  path = _saved(tmp_path, LAYOUTS['locuslab'](dict(module.state_dict())))
  found = torch_import.read(path, spec, normalization='cifar10')
  ignored = found.metadata['source']['ignored']
  assert ignored['unused by the network'] == 4
  del module.auxiliary_head
  expected = torch_fixed.flax_variables(module)
  jax.tree.map(np.testing.assert_array_equal, found.variables, expected)
  _assert_same_function(
    found, module, NORMALIZATIONS['cifar10'], 8, gradients=False
  )
  other = {**spec, 'genotype': cells.replace('sep', 'dil')}
  with pytest.raises(ValueError, match=r'is not darts,.*keys unexpected'):
    torch_import.read(path, other, normalization='cifar10')


def test_scores_of_hydra_prune_the_weights_that_are_imported(tmp_path):
  state, kept, scored = dict(_module('cifar').state_dict()), 0.3, {}
  expected = torch_fixed.flax_variables(_module('cifar'))['params']
  generator = torch.Generator().manual_seed(1)
  for key in [k for k in state if state[k].ndim > 1]:
    drawn = torch.randn(state[key].shape, generator=generator)
    scored[key.replace('weight', 'popup_scores')] = drawn
  path = _saved(tmp_path, LAYOUTS['locuslab']({**state, **scored}))
  spec = FAMILIES['cifar'][0]
  found = torch_import.read(path, spec, normalization='none', kept=kept)
  assert found.metadata['source']['kept'] == kept
  params = found.variables['params']
  for module in ('conv1', 'linear'):
    drawn = scored[f'{module}.popup_scores'].abs().numpy()
    drawn = drawn.transpose((2, 3, 1, 0) if drawn.ndim == 4 else (1, 0))
    kernel = params[module]['kernel']
    count = kernel.size - int((1 - kept) * kernel.size)
    least = np.sort(drawn, axis=None)[-count]
    wanted = np.where(drawn >= least, expected[module]['kernel'], 0)
    np.testing.assert_array_equal(kernel, wanted)
  for arguments, message in (
    ({}, 'layers have scores .*--kept'),
    ({'kept': 1.5}, r'kept=1\.5 must lie in \(0, 1\]'),
  ):
    with pytest.raises(ValueError, match=message):
      torch_import.read(path, spec, normalization='none', **arguments)
  with pytest.raises(ValueError, match='there are 0 layers with'):
    torch_import.read(_file(tmp_path), WIDE, normalization='none', kept=0.5)


def test_specifications_survive_the_command_line():
  cells = {'name': 'darts', 'genotype': 'advrush', 'depth': 8}
  for spec in ({'name': 'resnet18'}, WIDE, FAMILIES['vit'][0], cells):
    assert build.from_text(build.text(spec)) == spec
  scaled = build.from_text('vit_small_8,patch_size=4,attention_scale=0.102')
  assert build.network(scaled, num_classes=2).attention_scale == 0.102
  for wrong in ('width=x', 'width', 'width=[1]', 'width=null'):
    with pytest.raises(ValueError, match='must be a field and a number'):
      build.from_text(f'wide_resnet,{wrong}')
  with pytest.raises(ValueError, match='says mean, which is no part of a netw'):
    build.network(build.from_text('resnet18,mean=3'), num_classes=2)
  with pytest.raises(ValueError, match="vit_small: it needs 'patch_size'"):
    build.network({'name': 'vit_small'}, num_classes=2)


def test_a_field_that_is_false_is_not_taken_for_one_that_is_not_given():
  spec = {**FAMILIES['vit'][0], 'qkv_bias': False}
  assert not build.network(spec, num_classes=2).qkv_bias
  assert build.from_text(build.text(spec)) == spec
  nothing = {
    'name': 'resnet18',
    'depth': 0,
    'features': [],
    'bfloat16': 'always',
  }
  assert build.fields(nothing) == {}

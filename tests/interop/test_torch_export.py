"""Models written for PyTorch: the same function there, attackable by others."""

import ast
import dataclasses
import json
import pathlib
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors

import rnascl_jax
from rnascl_jax import attacks, losses
from rnascl_jax.interop import export, state_dicts, torch_import, usage
from rnascl_jax.interop import files as torch_files
from rnascl_jax.models import fixed, networks, pretrained, student
from rnascl_jax.runtime import saved_variables
from rnascl_jax.search import architecture, space_layers
from rnascl_jax.search.space import Block, SearchSpace, Shortcut
from rnascl_jax.stages import workdir
from tests import commands, random_variables

torch = pytest.importorskip('torch')
torch_student = pytest.importorskip('rnascl_jax.interop.student')

_ROOT = pathlib.Path(__file__).parents[2]
SHAPE, CLASSES = (8, 8, 2), 5
MEAN, STD = (0.3, 0.6), (0.25, 0.5)
EPSILON = 8 / 255
# Equal, wider and narrower than what enters; the last one strides.
BLOCKS = (
  Block((4, 6), 1, True),
  Block((4, 6), 1, True),
  Block((3, 6), 1, True),
  Block((5, 7), 2, False),
)
FEATURES = (4, 6, 3, 5)
# Shortcut, size of the kernel, stride of the stem, what is tapped, the rest.
GATES = {'squeeze_excite': 0.3, 'head_features': 7}
OPTIONS = {
  'pad': (Shortcut.PAD, 3, 1, 'conv', {}),
  'drop': (Shortcut.DROP, 5, 2, 'block', {}),
  'project': (Shortcut.PROJECT, 3, 1, 'conv', {}),
  'gated': (Shortcut.PAD, 3, 1, 'conv', GATES),
}


def _model(name: str) -> pretrained.Pretrained:
  """A student with random weights and statistics."""
  shortcut, size, stride, layers, options = OPTIONS[name]
  blocks = BLOCKS
  if name == 'gated':
    blocks = (dataclasses.replace(blocks[0], expansion=1), *blocks[1:])
  space = SearchSpace(
    blocks,
    stem_features=4,
    stem_stride=stride,
    expansion=2,
    kernel_size=size,
    shortcut=shortcut,
    **options,
  )
  names = space_layers.layer_names(space, blocks_only=layers == 'block')
  tutors = (0,) * len(names)
  found = architecture.Architecture(space, FEATURES, tutors, names, ('conv1',))
  net = student.Student(
    found.derived_space, CLASSES, MEAN, STD, blocks_only=layers == 'block'
  )
  metadata = {
    'kind': 'student',
    'architecture': architecture.to_dict(found),
    'layers': layers,
    'dataset': 'digits',
    'num_classes': CLASSES,
    'image_shape': list(SHAPE),
    'mean': list(MEAN),
    'std': list(STD),
  }
  variables = random_variables.draw(net, SHAPE)
  logits_fn = networks.logits_fn(net, variables)
  return pretrained.Pretrained(logits_fn, net, variables, found, metadata)


@pytest.fixture(scope='module')
def teacher() -> pretrained.Pretrained:
  fields = {'features': (4, 6), 'stage_sizes': (1, 1), 'strides': (1, 2)}
  net = fixed.NETWORKS['small_resnet'](num_classes=CLASSES, **fields)
  metadata = {
    'kind': 'teacher',
    'network': {'name': 'small_resnet', **fields},
    'layers': list(net.tap_names),
    'num_classes': CLASSES,
    'image_shape': list(SHAPE),
    'mean': [0.0, 0.0],
    'std': [1.0, 1.0],
  }
  variables = random_variables.draw(net, SHAPE)
  logits_fn = networks.logits_fn(net, variables)
  return pretrained.Pretrained(logits_fn, net, variables, None, metadata)


@pytest.fixture(scope='module')
def model() -> pretrained.Pretrained:
  return _model('project')


@pytest.fixture(scope='module')
def images() -> np.ndarray:
  """So far inside of [0, 1] that no attack is clamped."""
  rng = np.random.default_rng(0)
  return rng.uniform(0.1, 0.9, (6, *SHAPE)).astype(np.float32)


@pytest.fixture(scope='module')
def labels() -> np.ndarray:
  return np.arange(6) % CLASSES


@pytest.fixture(scope='module')
def computed(model, images, labels):
  """Logits, taps and input gradients of the model in JAX."""
  return _computed(model, images, labels)


def _computed(model, images, labels):
  @jax.jit
  def compute(pixels):
    def loss(x):
      logits, taps = model.net.apply(model.variables, x, train=False)
      value = losses.cross_entropy(logits, jnp.asarray(labels)).sum()
      return value, (logits, taps)

    return jax.grad(loss, has_aux=True)(pixels)

  gradient, (logits, taps) = compute(images)
  return np.asarray(logits), tuple(map(np.asarray, taps)), np.asarray(gradient)


def _to_torch(images):
  return torch.tensor(np.moveaxis(np.asarray(images), -1, 1))


def _to_jax(tensor):
  return np.moveaxis(tensor.detach().numpy(), 1, -1)


def _close(found, expected):
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('name', OPTIONS)
def test_logits_taps_and_input_gradients_are_those_of_jax(
  name, images, labels, request
):
  if name == 'project':
    model = request.getfixturevalue('model')
    expected = request.getfixturevalue('computed')
  else:
    model = _model(name)
    expected = _computed(model, images, labels)
  net = torch_student.from_metadata(json.loads(json.dumps(model.metadata)))
  arrays = state_dicts.from_variables(model.variables)
  state = {key: torch.tensor(array) for key, array in arrays.items()}
  net.load_state_dict(state, strict=True)
  pixels = _to_torch(images).requires_grad_()

  logits, taps = net.eval()(pixels, taps=True)

  loss = torch.nn.functional.cross_entropy(
    logits, torch.tensor(labels), reduction='sum'
  )
  # By the images alone, see `torch_fixed.run`.
  (gradient,) = torch.autograd.grad(loss, pixels)
  _close(logits.detach().numpy(), expected[0])
  assert net.tap_names == model.net.tap_names
  for tap, name, array in zip(taps, net.tap_names, expected[1], strict=True):
    np.testing.assert_allclose(
      _to_jax(tap), array, rtol=1e-4, atol=1e-4, err_msg=name
    )
  assert np.abs(expected[2]).max() > 1e-2
  _close(_to_jax(gradient), expected[2])


@pytest.mark.parametrize('suffix', ['safetensors', 'pt', 'pth'])
def test_an_exported_file_is_the_same_classifier(
  suffix, model, images, computed, tmp_path
):
  path = tmp_path / 'new' / f'student.{suffix}'

  export.write(model, path)
  net = torch_student.load(path)

  assert not net.training
  assert torch_student.read(path)[1] == model.metadata
  with torch.no_grad():
    _close(net(_to_torch(images)).numpy(), computed[0])
  assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize('suffix', ['safetensors', 'pt'])
def test_a_flipped_bit_in_an_exported_file_is_noticed(suffix, model, tmp_path):
  path = tmp_path / f'student.{suffix}'
  export.write(model, path)
  whole = path.read_bytes()
  arrays = state_dicts.from_variables(model.variables).values()
  weights = np.ascontiguousarray(max(arrays, key=lambda array: array.size))
  begin = whole.index(weights.tobytes())

  for place in range(begin, begin + weights.nbytes, weights.nbytes // 5):
    damaged = bytearray(whole)
    damaged[place] ^= 16
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match='is damaged'):
      torch_student.read(path)
    with pytest.raises(ValueError, match='is damaged'):
      torch_files.read(path)


def test_metadata_of_safetensors_are_strings_of_json(model, tmp_path):
  export.write(model, tmp_path / 'student.safetensors')

  with safetensors.safe_open(tmp_path / 'student.safetensors', 'np') as file:
    found = file.metadata()

  assert json.loads(found['mean']) == list(MEAN)
  assert json.loads(found['kind']) == 'student'
  assert len(json.loads(found.pop('sha256'))) == 64
  assert {name: json.loads(text) for name, text in found.items()} == (
    model.metadata
  )


def test_a_teacher_is_written_with_its_network_and_is_no_student(
  teacher, tmp_path
):
  path = tmp_path / 'teacher.safetensors'

  export.write(teacher, path)

  state, metadata = torch_student.read(path)
  assert metadata['network'] == json.loads(
    json.dumps(teacher.metadata['network'])
  )
  assert state['layer2.0.shortcut.0.weight'].shape == (6, 4, 1, 1)
  with pytest.raises(ValueError, match="kind='teacher' .* was not searched"):
    torch_student.load(path)


@pytest.mark.parametrize('suffix', ['safetensors', 'pt'])
def test_a_teacher_survives_export_and_import_with_its_normalisation(
  suffix, teacher, tmp_path
):
  normalisation = {'mean': list(MEAN), 'std': list(STD)}
  path = tmp_path / f'teacher.{suffix}'
  export.write(
    teacher._replace(metadata={**teacher.metadata, **normalisation}), path
  )

  spec = teacher.metadata['network']
  found = torch_import.read(path, spec, image_size=8)

  jax.tree.map(
    np.testing.assert_array_equal, found.variables, teacher.variables
  )
  assert found.net == teacher.net.clone(mean=MEAN, std=STD)
  assert found.metadata['source']['normalization'] == 'the file'
  assert found.metadata['image_shape'] == list(SHAPE)
  with pytest.raises(ValueError, match='2 channels, but the .* has 3 means'):
    torch_import.read(path, spec, image_size=8, normalization='imagenet')


@pytest.fixture(scope='module')
def foolbox():
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # It imports from deprecated places.
    return pytest.importorskip('foolbox')


@pytest.fixture(scope='module')
def exported(foolbox, model, tmp_path_factory):
  path = tmp_path_factory.mktemp('exported') / 'student.safetensors'
  export.write(model, path)
  net = torch_student.load(path)
  return foolbox.PyTorchModel(net, bounds=(0, 1), device='cpu')


def _attacked(attack, exported, images, labels):
  result, _, broken = attack(
    exported, _to_torch(images), torch.tensor(labels), epsilons=EPSILON
  )
  return _to_jax(result), broken.numpy()


def test_fgsm_of_foolbox_moves_the_exported_student_as_ours_moves_it(
  foolbox, exported, model, images, labels, computed
):
  attack = foolbox.attacks.LinfFastGradientAttack(random_start=False)
  ours = attacks.perturb(
    attacks.fgsm,
    model.logits_fn,
    images,
    labels,
    epsilon=EPSILON,
    batch_size=len(images),
  )

  theirs, _ = _attacked(attack, exported, images, labels)

  # Where float32 cannot tell the sign of a gradient, they may differ.
  gradient = np.abs(computed[2])
  certain = gradient > 1e-4 * gradient.max()
  assert certain.mean() > 0.95
  np.testing.assert_allclose(theirs[certain], ours[certain], atol=1e-6)


def test_pgd_of_foolbox_breaks_images_for_pytorch_and_for_jax(
  foolbox, exported, model, images, computed
):
  predicted = computed[0].argmax(-1)
  attack = foolbox.attacks.LinfPGD(abs_stepsize=EPSILON / 4, steps=10)
  torch.manual_seed(0)

  adversarial, broken = _attacked(attack, exported, images, predicted)

  # Rounding may move a pixel out of the ball by an ulp.
  assert np.abs(adversarial - images).max() <= EPSILON + 1e-6
  assert broken.any()
  with torch.no_grad():
    theirs = exported(_to_torch(adversarial)).numpy()
  ours = np.asarray(jax.jit(model.logits_fn)(adversarial))
  _close(theirs, ours)
  np.testing.assert_array_equal(ours.argmax(-1) != predicted, broken)


@pytest.mark.parametrize('name', ['model.npz', 'model', 'model.pt.gz'])
def test_another_suffix_is_refused_before_anything_is_written(
  name, model, tmp_path
):
  with pytest.raises(ValueError, match=r'one of \.safetensors, \.pt, \.pth'):
    export.write(model, tmp_path / name)

  assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_leaves_the_old_one(
  model, tmp_path, monkeypatch
):
  path = tmp_path / 'student.pt'
  path.write_text('old')

  def fail(content, file):
    del content
    file.write(b'half')
    raise OSError('no space left')

  monkeypatch.setattr(torch, 'save', fail)
  with pytest.raises(OSError, match='no space left'):
    export.write(model, path)

  assert path.read_text() == 'old'
  assert len(list(tmp_path.iterdir())) == 1


_WITHOUT_TORCH = """
import pathlib, sys
sys.modules['torch'] = None
import numpy as np
from rnascl_jax.interop import export
from rnascl_jax.models import pretrained
variables = {'params': {'fc': {'kernel': np.ones((2, 3), np.float32)}}}
model = pretrained.Pretrained(None, None, variables, None, {'kind': 'teacher'})
export.write(model, sys.argv[1] + '.safetensors')
try:
  export.write(model, sys.argv[1] + '.pt')
except ImportError as error:
  print(error)
"""


def test_safetensors_are_written_without_pytorch(tmp_path):
  path = tmp_path / 'teacher'

  done = subprocess.run(
    [sys.executable, '-c', _WITHOUT_TORCH, str(path)],
    cwd=_ROOT,
    capture_output=True,
    text=True,
  )

  assert not done.returncode, done.stderr
  assert 'rnascl_jax[torch]' in done.stdout
  assert [file.name for file in tmp_path.iterdir()] == ['teacher.safetensors']
  state, metadata = torch_student.read(f'{path}.safetensors')
  assert state['fc.weight'].shape == (3, 2)
  assert metadata == {'kind': 'teacher'}


def test_the_module_may_be_copied_out():
  """It imports PyTorch and Python's own modules; safetensors where it reads."""
  tree = ast.parse(pathlib.Path(torch_student.__file__).read_text())

  def imported(nodes):
    for node in nodes:
      if isinstance(node, ast.Import):
        yield from (alias.name.split('.')[0] for alias in node.names)
      if isinstance(node, ast.ImportFrom):
        yield node.module.split('.')[0]

  def own(names):
    return set(names) - set(sys.stdlib_module_names)

  assert own(imported(tree.body)) == {'torch'}
  assert own(imported(ast.walk(tree))) == {'torch', 'safetensors'}


@pytest.mark.parametrize(
  ('shape', 'message'),
  [
    ((1, 8, 8, 2), r'must be \[B, 2, H, W\]'),
    ((2, 8, 8), r'must be \[B, 2, H, W\]'),
    ((1, 2, 7, 8), '7x8 pixels do not fit strides that multiply to 2'),
    ((1, 2, 8, 0), 'each side must be a multiple of 2'),
  ],
)
def test_images_that_do_not_fit_are_refused(shape, message, model):
  net = torch_student.from_metadata(model.metadata)

  with pytest.raises(ValueError, match=message):
    net(torch.zeros(shape))


def test_8_bit_images_are_refused(model):
  net = torch_student.from_metadata(model.metadata)

  with pytest.raises(ValueError, match='uint8.*divide 8-bit images by 255'):
    net(torch.zeros((1, 2, 8, 8), dtype=torch.uint8))


def test_an_architecture_of_another_format_is_refused(model):
  fields = {**model.metadata['architecture'], 'format': 3}

  with pytest.raises(ValueError, match='format=3 is none of the supported'):
    torch_student.Student(fields, num_classes=2)


@pytest.mark.parametrize('suffix', ['safetensors', 'pt'])
def test_the_printed_lines_load_a_student(
  suffix, model, images, computed, tmp_path
):
  path = tmp_path / f'student.{suffix}'
  export.write(model, path)

  text = usage.text(model, path)

  net = torch_student.load(path)
  count = sum(parameter.numel() for parameter in net.parameters())
  assert f'student, {count:,} parameters, 5 classes' in text
  assert '[B, 2, 8, 8] in [0, 1]; the module subtracts mean (0.3, 0.6)' in text
  names = {'images': _to_torch(images)}
  exec('\n'.join(_code(text)), names)
  _close(names['logits'].detach().numpy(), computed[0])


def _code(text):
  return [line.strip() for line in text.splitlines() if line.startswith('  ')]


def test_usage_of_a_teacher_says_who_normalises_and_whose_names_it_has(
  teacher, tmp_path
):
  given = {**teacher.metadata, 'network': {'name': 'resnet50'}}
  normalised = {**given, 'mean': list(MEAN), 'std': list(STD)}

  plain = usage.text(teacher._replace(metadata=given), tmp_path / 'a.pt')
  outside = usage.text(teacher._replace(metadata=normalised), 'b.pt')
  small = usage.text(teacher, 'c.pt')

  assert 'there is no normalisation' in plain
  assert 'robustbench.model_zoo.architectures.resnet.ResNet50' in plain
  assert 'whoever calls the module subtracts mean (0.3, 0.6)' in outside
  assert 'net = ...  # of a small_resnet, with the names of' in small
  compile('\n'.join(_code(outside)), 'usage', 'exec')


def test_every_teacher_names_its_published_definition():
  assert {*usage.DEFINITIONS, 'small_resnet'} == {*fixed.NETWORKS}


def test_the_command_writes_a_model_of_a_workdir_or_says_what_is_wrong(
  model, images, computed, tmp_path
):
  folder = tmp_path / 'run' / 'train' / 'rnas_cl'
  saved_variables.save(folder / 'model', model.variables, model.metadata)
  workdir.finish(folder, {'seconds': 1.0})
  flags = [f'--workdir={tmp_path / "run"}', f'--output={tmp_path / "out.pt"}']

  code, written = commands.run('export', *flags)
  refusal, refused = commands.run('export', *flags, '--model=nonesuch')

  assert code == 0, written
  assert f'student.load({str(tmp_path / "out.pt")!r})' in written
  with torch.no_grad():
    logits = torch_student.load(tmp_path / 'out.pt')(_to_torch(images))
  _close(logits.numpy(), computed[0])
  assert refusal != 0
  assert 'error: ' in refused and "no trained model 'nonesuch'" in refused
  assert 'Traceback' not in refused
  assert rnascl_jax.load(tmp_path / 'run').metadata == model.metadata

"""A teacher from elsewhere in a run: its own normalisation and classes."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnascl_jax
from rnascl_jax import losses, stages
from rnascl_jax.config import checks, resolve, settings
from rnascl_jax.distillation import compare
from rnascl_jax.interop import torch_import
from rnascl_jax.interop.normalization import Normalization
from rnascl_jax.losses import attention
from rnascl_jax.models import networks
from rnascl_jax.models.fixed import build, vit
from rnascl_jax.models.teachers import class_subset, published
from rnascl_jax.runtime import files
from rnascl_jax.stages import teachers
from tests import tiny

SPEC = {
  'name': 'small_resnet',
  'features': (4,),
  'stage_sizes': (1,),
  'strides': (2,),
}
OTHER = Normalization((0.1,), (0.8,))
# Ten of twelve classes, not in their order.
CLASSES = (11, 0, 1, 2, 3, 4, 5, 6, 8, 7)


def _random_teacher(num_classes=12):
  """A teacher of digits as a file of PyTorch's would give it."""
  net = build.network(SPEC, num_classes=num_classes, **OTHER._asdict())
  images = jnp.zeros((1, 8, 8, 1))
  variables = jax.jit(lambda k: net.init(k, images, train=False))(
    jax.random.key(0)
  )
  metadata = {
    'kind': 'teacher',
    'network': SPEC,
    'layers': list(net.tap_names),
    'dataset': 'twelve',
    'num_classes': num_classes,
    'image_shape': [8, 8, 1],
    'mean': list(OTHER.mean),
    'std': list(OTHER.std),
    'source': {'sha256': 'f' * 64},
  }
  return torch_import.Imported(net, jax.device_get(variables), metadata)


@pytest.fixture(scope='module')
def twelve(tmp_path_factory):
  """The folder of a teacher that tells twelve classes apart."""
  folder = tmp_path_factory.mktemp('twelve') / 'teacher'
  torch_import.save(_random_teacher(), folder)
  return folder


def _config(checkpoint, classes=()):
  config = tiny.config()
  config.teacher.checkpoint = str(checkpoint)
  config.teacher.classes = classes
  return config


def test_a_run_uses_the_checkpoints_normalisation_and_classes(
  twelve, tmp_path, digits
):
  images = jnp.asarray(digits.test.images[:8] / 255.0, jnp.float32)
  there = rnascl_jax.load(twelve.parent, 'teacher')
  stages.teacher(_config(twelve, CLASSES), str(tmp_path / 'run'))
  here = rnascl_jax.load(tmp_path / 'run', 'teacher')
  wanted = there.logits_fn(images)[:, np.array(CLASSES)]
  np.testing.assert_array_equal(here.logits_fn(images), wanted)
  # As a guide of students, too, with the taps of the network.
  run = tiny.opened(_config(twelve, CLASSES), str(tmp_path / 'run'))
  guide = teachers.guide(run, 'teacher')
  logits, taps = networks.apply(guide, here.variables, images)
  np.testing.assert_array_equal(logits, wanted)
  assert len(taps) == len(guide.tap_names) == len(there.net.tap_names)
  # The run stands by itself, and says where its teacher is from.
  stage = (tmp_path / 'run' / 'teacher' / 'stage.json').read_text()
  assert 'f' * 64 in stage
  assert here.metadata['mean'] == list(OTHER.mean)
  assert here.metadata['num_classes'] == 12


def test_a_subset_of_a_data_set_has_its_logits_of_a_teacher_of_all(
  tmp_path, digits, monkeypatch
):
  """As ImageNet-100 of a teacher of ImageNet, without naming its classes."""
  dataset = resolve.dataset

  def some_of_twelve(spec, _):
    return dataclasses.replace(dataset(spec), subset=CLASSES, full_classes=12)

  monkeypatch.setattr(resolve, 'dataset', some_of_twelve)
  every = _import_of(tmp_path / 'every' / 'teacher', 'digits', 12)
  stages.teacher(_config(every), str(tmp_path / 'run'))
  images = jnp.asarray(digits.test.images[:8] / 255.0, jnp.float32)
  there = rnascl_jax.load(every.parent, 'teacher')
  here = rnascl_jax.load(tmp_path / 'run', 'teacher')
  wanted = there.logits_fn(images)[:, np.array(CLASSES)]
  np.testing.assert_array_equal(here.logits_fn(images), wanted)
  # Others, where the config names them.
  other = _config(every, CLASSES[::-1])
  run = tiny.opened(other, str(tmp_path / 'other'))
  assert teachers.network(run, 'teacher').classes == CLASSES[::-1]


def test_a_finished_run_needs_its_checkpoint_no_more(twelve, tmp_path):
  torch_import.save(_random_teacher(), tmp_path / 'copy')
  config = _config(tmp_path / 'copy', CLASSES)
  stages.teacher(config, str(tmp_path / 'run'))
  (tmp_path / 'copy').rename(tmp_path / 'moved')
  run = tiny.opened(config, str(tmp_path / 'run'))
  assert teachers.network(run, 'teacher').net.mean == OTHER.mean


def test_a_student_learns_from_the_logits_of_its_classes(twelve, digits):
  """The lesson is the teacher's softmax given that it is one of them."""
  there = rnascl_jax.load(twelve.parent, 'teacher')
  net = class_subset.ClassSubset(there.net, 12, CLASSES)
  images = jnp.asarray(digits.test.images[:4] / 255.0, jnp.float32)
  how = compare.Distillation(net, (2, 2))
  lesson = compare.ask_teacher(how, there.variables, images)
  every = jax.nn.softmax(there.logits_fn(images))[:, np.array(CLASSES)]
  given = every / every.sum(axis=1, keepdims=True)
  np.testing.assert_allclose(
    jax.nn.softmax(lesson.selected), given, rtol=1e-5, atol=1e-7
  )


@pytest.mark.parametrize(
  ('classes', 'message'),
  [
    ((), 'trained on twelve, and the run is on digits.* config.teacher.clas'),
    (CLASSES[:9], 'names 9 classes, but digits has 10'),
    (
      (*CLASSES[:9], 12),
      r'config.teacher.classes has \[12\] in it: .* 0 to 11, each',
    ),
    ((*CLASSES[:9], 11), r'\[11\] twice'),
  ],
)
def test_impossible_classes_are_refused(classes, message, twelve, tmp_path):
  with pytest.raises(ValueError, match=message):
    stages.teacher(_config(twelve, classes), str(tmp_path / 'run'))
  # The next try may have another config.
  assert not (tmp_path / 'run').exists()


def _import_of(folder, dataset, num_classes=10):
  """The folder of an imported teacher that says what it was trained on."""
  made = _random_teacher(num_classes)
  made.metadata['dataset'] = dataset
  torch_import.save(made, folder)
  return folder


def test_a_teacher_of_other_data_is_refused_unless_its_classes_are_named(
  tmp_path, caplog
):
  other = _import_of(tmp_path / 'other', 'svhn')
  for name in ('teacher', 'vulnerable_teacher'):
    config = tiny.config()
    config.controls = True
    config[name].checkpoint = str(other)
    with pytest.raises(
      ValueError,
      match=f'on svhn, and the run is on digits.*config.{name}.classes',
    ):
      stages.teacher(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()
  with caplog.at_level('WARNING'):
    stages.teacher(_config(other, tuple(range(10))), str(tmp_path / 'run'))
  assert 'trained on svhn, and the run is on digits' in caplog.text
  # The run does not say that its teacher is of its own data.
  model = rnascl_jax.load(tmp_path / 'run', 'teacher')
  assert model.metadata['dataset'] == 'svhn'


@pytest.mark.parametrize('dataset', ['', 'Digits'])
def test_what_a_teacher_knows_of_its_data_is_kept_by_a_run(dataset, tmp_path):
  given = _import_of(tmp_path / 'given', dataset)
  stages.teacher(_config(given), str(tmp_path / 'run'))
  here = rnascl_jax.load(tmp_path / 'run', 'teacher').metadata
  assert here['dataset'] == dataset


def test_a_teacher_of_unknown_data_and_other_classes_is_refused(tmp_path):
  given = _import_of(tmp_path / 'given', '', num_classes=12)
  with pytest.raises(ValueError, match='tells 12 classes .*config.teacher.cla'):
    stages.teacher(_config(given), str(tmp_path / 'run'))


def test_a_checkpoint_that_is_not_there_is_said_before_anything_is_written(
  tmp_path,
):
  for name in ('teacher', 'vulnerable_teacher'):
    config = tiny.config()
    config.controls = True
    config[name].checkpoint = 'nowhere'
    with pytest.raises(FileNotFoundError, match=f'{name}.checkpoint=.nowhere'):
      stages.teacher(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_classes_without_a_checkpoint_are_refused():
  with pytest.raises(ValueError, match='names 10 classes of a checkpoint, but'):
    settings.parse(_config('', CLASSES))


TRANSFORMER = {
  'name': 'vit',
  'depth': 1,
  'width': 6,
  'heads': 2,
  'patch_size': 4,
}


def _with_transformer(folder, *, size=8, num_classes=10, **fields):
  """The folder of an imported transformer, and a config of its network."""
  net = build.network(TRANSFORMER, num_classes=num_classes)
  images = jnp.zeros((1, size, size, 1))
  variables = net.init(jax.random.key(7), images, train=False)
  metadata = {
    **_random_teacher(num_classes).metadata,
    'network': TRANSFORMER,
    'layers': ['blocks_0'],
    'dataset': 'digits',
    'image_shape': [size, size, 1],
  }
  torch_import.save(
    torch_import.Imported(net, jax.device_get(variables), metadata), folder
  )
  config = tiny.config()
  config.teacher.network.update(
    {'features': (), 'stage_sizes': (), 'strides': (), **TRANSFORMER, **fields}
  )
  return config, variables['params']


def test_a_variant_with_the_same_shapes_is_refused(tmp_path, digits):
  """Arrays do not tell how many heads a transformer has."""
  config, _ = _with_transformer(tmp_path / 'vit')
  config.teacher.checkpoint = str(tmp_path / 'vit')
  stages.teacher(config, str(tmp_path / 'run'))
  config.teacher.network.heads = 3
  with pytest.raises(ValueError, match='network is not that of .*heads=2'):
    stages.teacher(config, str(tmp_path / 'other'))
  parsed = settings.parse(config)
  checks.check(parsed, digits, 1)


@pytest.mark.parametrize(
  ('patch_size', 'num_classes'),
  [pytest.param(4, 10, marks=pytest.mark.slow), (2, 10), (4, 12)],
)
def test_a_transformer_of_another_size_is_trained_further(
  patch_size, num_classes, tmp_path, caplog
):
  """Made for 16 pixels, on digits of 8, with a learning rate of 0."""
  config, there = _with_transformer(
    tmp_path / 'vit', size=16, num_classes=num_classes, patch_size=patch_size
  )
  config.teacher.optimization.update(epochs=1, learning_rate=0.0)
  with caplog.at_level('WARNING'):
    config.teacher.start = str(tmp_path / 'vit')
    stages.teacher(config, str(tmp_path / 'run'))
  assert 'images of shape (16, 16, 1), and digits has (8, 8, 1)' in caplog.text
  here = rnascl_jax.load(tmp_path / 'run', 'teacher')
  params = dict(here.variables['params'])
  side = 8 // patch_size
  wanted = vit.refit(there, patch_size, (side, side))
  head, old = params.pop('head'), wanted.pop('head')
  chex.assert_trees_all_equal(params, wanted)
  # Its last layer is kept where the classes are the same ones.
  kept = num_classes == 10
  assert np.array_equal(head['kernel'], old['kernel']) == kept
  assert head['kernel'].shape == (6, 10)
  # It has the normalisation of the run's images, and says where it is from.
  assert here.metadata['mean'] != list(OTHER.mean)
  stage = files.read_json(tmp_path / 'run' / 'teacher' / 'stage.json')
  assert stage['start'] == config.teacher.start


def test_a_start_that_does_not_fit_is_refused(tmp_path):
  config, _ = _with_transformer(tmp_path / 'vit', patch_size=8)
  config.teacher.start = str(tmp_path / 'vit')
  # Patches may become smaller, not larger.
  with pytest.raises(ValueError, match='network is not that of .*patch_size=4'):
    stages.teacher(config, str(tmp_path / 'run'))
  config.teacher.checkpoint = config.teacher.start
  with pytest.raises(ValueError, match='trained further: leave one empty'):
    stages.teacher(config, str(tmp_path / 'run'))
  config.teacher.update(checkpoint='', start='nowhere')
  with pytest.raises(FileNotFoundError, match='teacher.start=.nowhere. has no'):
    stages.teacher(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_every_network_has_a_section_of_a_config():
  """What is published can be written in config.teacher.network."""
  fields = {
    field.name for field in dataclasses.fields(settings.NetworkSettings)
  }
  for known in published.PUBLISHED.values():
    assert set(known.network) <= fields
    spec = settings.NetworkSettings(**known.network)
    trained = resolve.TrainedFor(known.num_classes, (0.5,), (0.5,))
    net = resolve.fixed_network(None, spec, trained=trained)
    assert net.num_classes == known.num_classes


def test_a_teacher_in_bfloat16_gives_the_losses_of_float32(tiny_run, digits):
  """KL and attention loss to 2 %, on real images, maps in float32."""
  teacher = rnascl_jax.load(tiny_run, 'teacher')
  student = rnascl_jax.load(tiny_run, 'rnas_cl')
  images = jnp.asarray(digits.test.images[:128] / 255.0, jnp.float32)
  logits, taps = networks.apply(student.net, student.variables, images)
  maps = attention.attention_vectors(taps, (2, 2))
  tutors = jax.nn.one_hot(
    np.array(student.architecture.tutors), len(teacher.net.tap_names)
  )

  def terms(dtype):
    net = teacher.net.clone(dtype=dtype)
    how = compare.Distillation(net, (2, 2))
    lesson = compare.ask_teacher(how, teacher.variables, images)
    assert lesson.maps.dtype == lesson.selected.dtype == jnp.float32
    kl = losses.kl_student_teacher(logits, lesson.selected).mean()
    return kl, attention.attention_loss(maps, lesson.maps, tutors).mean()

  wide, narrow = terms(jnp.float32), terms(jnp.bfloat16)
  np.testing.assert_allclose(narrow, wide, rtol=0.02)
  assert wide != narrow

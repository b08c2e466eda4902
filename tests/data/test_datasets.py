"""Tests of rnascl_jax.data.datasets."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from rnascl_jax.config import settings
from rnascl_jax.data import datasets, labels, prepared
from rnascl_jax.data.datasets import StoredImages
from rnascl_jax.runtime import files
from tests import tiny, tiny_imagenet

_TFDS = os.environ.get('TFDS_DATA_DIR', '')


def _needs(name):
  return pytest.mark.skipif(
    not os.path.isdir(os.path.join(_TFDS, name)),
    reason=f'TFDS_DATA_DIR names no folder with a prepared {name}.',
  )


needs_cifar10, needs_imagenet = _needs('cifar10'), _needs('imagenet2012')


@pytest.fixture(autouse=True)
def labels_are_kept_apart(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture(scope='module')
def imagenet_dir(tmp_path_factory):
  """60 images of five classes for training, in three files, and 20 more."""
  folder = tmp_path_factory.mktemp('tfds')
  tiny_imagenet.write(folder, np.arange(60) % 5, shards=3)
  tiny_imagenet.write(folder, np.arange(20) % 5, split='validation')
  return folder


@pytest.fixture
def scans(monkeypatch):
  """How many records each scan for labels has read."""
  counts = []
  scan = labels._scan

  def counted(source, enough):
    result = scan(source, enough)
    counts.append(len(result))
    return result

  monkeypatch.setattr(labels, '_scan', counted)
  return counts


@pytest.fixture(scope='module')
def digits():
  return datasets.load('digits')


def _splits(dataset):
  return dataset.train, dataset.validation, dataset.test


def test_digits_have_the_documented_sizes_and_types(digits):
  assert [len(s.labels) for s in _splits(digits)] == [1152, 128, 517]
  for split in _splits(digits):
    assert split.images.shape == (len(split.labels), 8, 8, 1)
    assert split.images.dtype == np.uint8
    assert split.labels.dtype == np.int32
  assert digits.image_shape == (8, 8, 1)
  assert digits.num_classes == 10
  assert digits.class_names == tuple('0123456789')


def test_digits_are_scikit_learns_each_in_one_split(digits):
  from sklearn import datasets as sklearn_datasets

  def rows(images, labels):
    return sorted(
      image.tobytes() + bytes([label])
      for image, label in zip(images, labels, strict=True)
    )

  raw = sklearn_datasets.load_digits()
  source = np.array([round(v * 255 / 16) for v in range(17)], np.uint8)
  ours = [row for split in _splits(digits) for row in rows(*split)]
  assert sorted(ours) == rows(source[raw.images.astype(int)], raw.target)


def test_digits_splits_are_stratified(digits):
  fractions = [
    np.bincount(split.labels, minlength=10) / len(split.labels)
    for split in _splits(digits)
  ]
  # At most one image a class is rounded away, of 128 in the smallest split.
  np.testing.assert_allclose(fractions[1], fractions[0], atol=1.5 / 128)
  np.testing.assert_allclose(fractions[2], fractions[0], atol=1.5 / 517)


def test_digits_test_split_is_fixed(digits):
  smaller = datasets.load('digits', validation_size=0)
  assert [len(s.labels) for s in _splits(smaller)] == [1280, 0, 517]
  np.testing.assert_array_equal(smaller.test.images, digits.test.images)
  # Origin: this code; another split would not be comparable with old results.
  assert ''.join(map(str, digits.test.labels[:12])) == '691368340560'
  assert int(digits.test.images.sum(dtype=np.int64)) == 2578317


def test_digits_constants_are_those_of_the_training_images(digits):
  images = np.concatenate([digits.train.images, digits.validation.images])
  # Written with four digits.
  np.testing.assert_allclose(digits.mean, (images / 255).mean(), atol=5e-5)
  np.testing.assert_allclose(digits.std, (images / 255).std(), atol=5e-5)


def test_limit_bounds_every_split():
  limited = datasets.load('digits', limit=(64, 32))
  assert [len(s.labels) for s in _splits(limited)] == [64, 32, 32]
  generous = datasets.load('digits', limit=(5000, 5000))
  assert [len(s.labels) for s in _splits(generous)] == [1152, 128, 517]


@pytest.mark.parametrize(
  'name, options, message',
  [
    ('mnist', {}, r"'mnist'.*'digits', 'cifar10'"),
    ('digits', {'validation_size': -1}, 'validation_size=-1 must lie in'),
    ('digits', {'validation_size': 1280}, 'validation_size=1280 must lie in'),
    ('digits', {'limit': (0, 5)}, r'limit=\(0, 5\)'),
    ('digits', {'image_size': 16}, "image_size=16 is not for 'digits'"),
    ('digits', {'classes': ('1', '2')}, "classes=.* is not for 'digits'"),
  ],
)
def test_what_a_data_set_cannot_be_is_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    datasets.load(name, **options)


def _printed(code):
  """What a new process prints, in which no test has imported TensorFlow."""
  return subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  ).stdout.strip()


@pytest.mark.parametrize(
  'module, others',
  [
    ('datasets', ('tensorflow', 'tensorflow_datasets', 'sklearn')),
    ('streaming', ('tensorflow', 'torch')),
    ('images', ('jax', 'tensorflow')),
  ],
)
def test_a_module_imports_no_library_that_it_does_not_need(module, others):
  code = (
    f'import sys; from rnascl_jax.data import {module}; '
    f'print([name for name in {others} if name in sys.modules])'
  )
  assert _printed(code) == '[]'


@pytest.mark.parametrize(
  'name, words',
  [
    ('cifar10', ['cifar10']),
    ('imagenet', ['ILSVRC2012_img_train.tar', 'downloads/manual', 'net2012']),
  ],
)
def test_unprepared_data_says_which_command_prepares_it(tmp_path, name, words):
  with pytest.raises(FileNotFoundError, match='only preparing needs it') as e:
    datasets.load(name, data_dir=tmp_path)
  command = re.search(r'python -c "(.*)"\n', str(e.value)).group(1)
  compile(command, 'command', 'exec')
  assert f"'{tmp_path}'" in command
  assert "file_format='array_record'" in command
  assert all(word in str(e.value) for word in words)


@needs_cifar10
def test_cifar10_is_read_without_tensorflow():
  code = (
    'import sys; from rnascl_jax.data import datasets; '
    "data = datasets.load('cifar10', limit=(64, 32)); "
    'print([len(s.labels) for s in (data.train, data.validation, data.test)], '
    "data.image_shape, data.class_names[3], 'tensorflow' in sys.modules)"
  )
  assert _printed(code) == '[64, 32, 32] (32, 32, 3) cat False'


@needs_cifar10
def test_cifar10_images_are_those_of_tfds_in_its_order():
  import tensorflow_datasets as tfds

  data = datasets.load('cifar10', validation_size=0, limit=(600, 20))
  for split, name in [(data.train, 'train'), (data.test, 'test')]:
    source = tfds.data_source('cifar10', split=name, download=False)
    for index in {0, 7, len(split.labels) - 1}:
      np.testing.assert_array_equal(split.images[index], source[index]['image'])
      assert split.labels[index] == source[index]['label']
  # 600 JPEG copies of 50,000 images: a check of channels and scale only.
  pixels = data.train.images / 255
  np.testing.assert_allclose(pixels.mean((0, 1, 2)), data.mean, atol=0.03)
  np.testing.assert_allclose(pixels.std((0, 1, 2)), data.std, atol=0.03)


@needs_cifar10
@pytest.mark.slow
def test_cifar10_holds_out_1000_images_and_none_twice():
  data = datasets.load('cifar10')
  assert [len(s.labels) for s in _splits(data)] == [49000, 1000, 10000]
  assert np.bincount(data.validation.labels).tolist() == [100] * 10
  assert data.image_shape == (32, 32, 3)


def test_imagenet_is_split_by_class_and_stays_on_disk(imagenet_dir):
  data = datasets.load('imagenet', data_dir=imagenet_dir, validation_size=10)
  assert [len(s.labels) for s in _splits(data)] == [50, 10, 20]
  assert np.bincount(data.validation.labels).tolist() == [2] * 5
  for split in _splits(data):
    assert isinstance(split.images, StoredImages)
    assert split.labels.dtype == np.int32
    np.testing.assert_array_equal(split.labels, split.images.records % 5)
    record = int(split.images.records[3])
    (example,) = split.images.source.__getitems__([record])
    assert example['label'] == split.labels[3]
  assert data.image_shape == (224, 224, 3)
  assert data.num_classes == 1000 and data.class_names[:5] == (
    tiny_imagenet.NAMES
  )
  assert (data.subset, data.full_classes) == ((), 0)
  records = [s.images.records for s in (data.train, data.validation)]
  assert sorted(np.concatenate(records)) == list(range(60))


def test_some_classes_have_labels_in_the_order_given(imagenet_dir):
  names = [tiny_imagenet.NAMES[i] for i in (3, 0)]
  data = datasets.load(
    'imagenet',
    data_dir=imagenet_dir,
    validation_size=4,
    image_size=16,
    classes=names,
  )
  assert (data.class_names, data.num_classes) == (tuple(names), 2)
  assert (data.subset, data.full_classes) == ((3, 0), 1000)
  assert data.image_shape == (16, 16, 3)
  assert [len(s.labels) for s in _splits(data)] == [20, 4, 8]
  for split in _splits(data):
    expected = np.where(split.images.records % 5 == 3, 0, 1)
    np.testing.assert_array_equal(split.labels, expected)


def test_ten_images_of_a_class_are_held_out_of_imagenet(imagenet_dir):
  classes = tiny_imagenet.NAMES[:2]
  data = datasets.load('imagenet', data_dir=imagenet_dir, classes=classes)
  assert np.bincount(data.validation.labels).tolist() == [10, 10]


def test_a_limit_of_some_classes_counts_their_images(imagenet_dir):
  options = {
    'data_dir': imagenet_dir,
    'validation_size': 3,
    'classes': tiny_imagenet.NAMES[1:3],
  }
  few = datasets.load('imagenet', limit=(5, 2), **options)
  assert [len(s.labels) for s in _splits(few)] == [5, 2, 2]
  # The first seven images of classes 1 and 2, whichever are held out.
  first = np.concatenate(
    [few.train.images.records, few.validation.images.records]
  )
  assert sorted(first) == [1, 2, 6, 7, 11, 12, 16]
  np.testing.assert_array_equal(few.test.images.records, [1, 2])


def test_a_limited_run_reads_no_more_labels_than_it_needs(
  imagenet_dir, scans, monkeypatch
):
  monkeypatch.setattr(labels, '_CHUNK', 4)
  options = {'data_dir': imagenet_dir, 'validation_size': 10}
  datasets.load('imagenet', limit=(6, 3), **options)
  assert scans == [12, 4]
  full = datasets.load('imagenet', **options)
  assert len(full.train.labels) == 50 and scans == [12, 4, 60, 20]


def test_kept_labels_of_another_copy_are_not_used(tmp_path, scans):
  def load():
    data = datasets.load('imagenet', data_dir=tmp_path, validation_size=0)
    return data.train.labels

  tiny_imagenet.write(tmp_path, [0], split='validation')
  tiny_imagenet.write(tmp_path, [0, 1, 2, 3])
  assert load().tolist() == [0, 1, 2, 3]
  tiny_imagenet.write(tmp_path, [0, 1, 2, 3, 4])
  assert load().tolist() == [0, 1, 2, 3, 4]
  # As many records and bytes: other labels are noticed all the same.
  tiny_imagenet.write(tmp_path, [0, 1, 2, 4, 3])
  assert load().tolist() == [0, 1, 2, 4, 3]


@pytest.mark.parametrize(
  'damage',
  [
    lambda path: path.write_bytes(b''),
    lambda path: path.write_bytes(b'not an array'),
    lambda path: _rewrite(path, lambda labels: labels[:10]),
    lambda path: _rewrite(path, lambda labels: labels.astype(np.int64)),
    lambda path: _flip(path, path.stat().st_size // 2),
  ],
  ids=['empty', 'garbled', 'short', 'wide', 'flipped'],
)
def test_labels_are_read_once_unless_the_file_of_them_is_damaged(
  imagenet_dir, tmp_path, scans, damage
):
  options = {'data_dir': imagenet_dir, 'validation_size': 10}
  first = datasets.load('imagenet', **options)
  assert scans == [60, 20]
  for path in (tmp_path / 'cache' / 'rnascl_jax' / 'labels').iterdir():
    damage(path)
  again = datasets.load('imagenet', **options)
  assert scans == [60, 20, 60, 20]
  np.testing.assert_array_equal(again.train.labels, first.train.labels)
  datasets.load('imagenet', **options)
  assert len(scans) == 4


def _rewrite(path, change):
  labels = files.read_npz(path)['labels']
  np.savez(path, labels=change(labels))


def _flip(path, place):
  """Changes a byte."""
  content = bytearray(path.read_bytes())
  content[place] ^= 1
  path.write_bytes(content)


_SHARD = 'imagenet2012-train.array_record-00001-of-00003'


def _edit(place, *words):
  path = place / 'dataset_info.json'
  text = path.read_text()
  assert words[0] in text
  path.write_text(text.replace(*words))


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (
      lambda place: (place / _SHARD).unlink(),
      f'{_SHARD}, one of 3 files of imagenet2012 train, is missing',
    ),
    (
      lambda place: (place / _SHARD).write_bytes(b''),
      f'{_SHARD} is not a whole ArrayRecord file',
    ),
    (
      lambda place: os.truncate(place / _SHARD, 40_000),
      f'{_SHARD} is not a whole ArrayRecord file',
    ),
    (
      lambda place: _flip(place / _SHARD, 9_000),
      f'{_SHARD}: record [23]. of imagenet2012 train cannot be read: Corrupted',
    ),
    (
      lambda place: _edit(place, '"20", "20", "20"', '"20", "19", "20"'),
      f'{_SHARD} has 20 records, where dataset_info.json .* says 19',
    ),
    (
      lambda place: _edit(place, '"fileFormat"', '"fileFor'),
      'imagenet2012: dataset_info.json there does not describe .* split .train',
    ),
    (
      lambda place: (place / 'dataset_info.json').write_text(''),
      'imagenet2012: dataset_info.json there does not describe',
    ),
    (
      lambda place: (place / 'dataset_info.json').write_bytes(b'\xff\x00'),
      'imagenet2012: dataset_info.json there does not describe',
    ),
    (
      lambda place: (place / 'label.labels.txt').write_text('n01440764\ncat\n'),
      'label.labels.txt does not name the classes .* 2 classes of 1000',
    ),
    (
      lambda place: (place / 'label.labels.txt').mkdir(),
      'label.labels.txt does not name the classes .* 0 classes of 1000',
    ),
  ],
)
def test_what_is_damaged_of_a_prepared_data_set_is_named(
  tmp_path, damage, message
):
  tiny_imagenet.write(tmp_path, np.arange(60) % 5, shards=3)
  tiny_imagenet.write(tmp_path, [0], split='validation')
  damage(tmp_path / 'imagenet2012' / '5.1.0')
  with pytest.raises(files.DamagedFileError, match=message) as error:
    datasets.load('imagenet', data_dir=tmp_path, validation_size=10)
  said = str(error.value)
  assert said.startswith(str(tmp_path)) and '\n' not in said
  assert 'Prepare the data set again, or use another copy.' in said


def test_names_in_another_order_than_the_labels_are_refused(imagenet_dir):
  source = prepared.source('imagenet2012', 'train', imagenet_dir)
  names = list(source.dataset_info.features['label'].names)
  names[3:5] = names[4], names[3]
  path = imagenet_dir / 'imagenet2012' / '5.1.0' / 'label.labels.txt'
  path.write_text('\n'.join(names) + '\n')
  message = f"line 4 is '{names[3]}', not '{names[4]}'"
  with pytest.raises(files.DamagedFileError, match=message):
    prepared.source('imagenet2012', 'train', imagenet_dir)
  path.unlink()


def test_a_label_of_no_class_is_named_with_its_file(imagenet_dir):
  source = prepared.source('imagenet2012', 'train', imagenet_dir)
  examples = source.__getitems__([19, 20])
  assert source.labels([19, 20], examples) == [4, 0]
  for label in (1000, -1, None):
    examples[1]['label'] = label
    with pytest.raises(
      files.DamagedFileError, match=f'{_SHARD}: record 20 .* label {label}, wh'
    ):
      source.labels([19, 20], examples)


@needs_cifar10
def test_a_damaged_record_of_cifar10_is_named(tmp_path):
  place = tmp_path / 'cifar10' / '3.0.2'
  shutil.copytree(pathlib.Path(_TFDS, 'cifar10', '3.0.2'), place)
  path = place / 'cifar10-test.array_record-00000-of-00001'
  for changed in (place, *place.iterdir()):
    changed.chmod(0o755)
  _flip(path, 4_000)
  with pytest.raises(files.DamagedFileError, match=f'{path}: record [0-9] of'):
    datasets.load('cifar10', data_dir=tmp_path, limit=(10, 20))


def test_labels_that_cannot_be_kept_are_read_again(
  imagenet_dir, tmp_path, scans
):
  (tmp_path / 'cache').write_text('a file where a folder is needed')
  options = {'data_dir': imagenet_dir, 'validation_size': 10}
  for _ in range(2):
    data = datasets.load('imagenet', **options)
    assert len(data.train.labels) == 50
  assert scans == [60, 20] * 2


@pytest.mark.parametrize(
  'classes, message',
  [
    (['n01440764'], 'must name at least 2 classes'),
    (['n01440764', 'n01443573'], r"'n01443573' is none of 1000. Did you mean"),
    (['n01440764', 'tench'], "'tench' is none of 1000. They are named like"),
    (['n01440764', 'n01443537', 'n01440764'], "name 'n01440764' twice"),
  ],
)
def test_classes_that_cannot_be_told_apart_are_refused(
  imagenet_dir, classes, message
):
  with pytest.raises(ValueError, match=message):
    datasets.load('imagenet', data_dir=imagenet_dir, classes=classes)


def _parsed(**data):
  config = tiny.config()
  config.data.update(data)
  return settings.parse(config)


def test_fields_that_a_data_set_has_not_are_refused():
  imagenet = {
    'name': 'imagenet',
    'image_size': 64,
    'classes': ('n01440764', 'n01443537'),
    'min_crop': 0.25,
    'workers': 0,
  }
  assert _parsed(**imagenet).data.classes == imagenet['classes']
  for name, value in list(imagenet.items())[1:]:
    with pytest.raises(
      ValueError, match=f"data.{name}=.*no meaning .*'digits': leave it"
    ):
      _parsed(**{name: value})


def test_classes_are_read_from_a_file(tmp_path):
  path = tmp_path / 'classes.txt'
  with pytest.raises(FileNotFoundError, match='classes.txt.*is not there'):
    datasets.read_classes(path)
  path.write_text('# two\nn02 # a dog\n\n  n01\n')
  assert datasets.read_classes(path) == ('n02', 'n01')


@pytest.mark.parametrize(
  'content, message',
  [
    ('n01\nn02, n03\n', r"txt:2 is 'n02, n03': write one class a line"),
    ('n01\nn02\nn01\n', r"txt:3 names 'n01' again, after line 1"),
    ('# none\n', 'names no class'),
  ],
)
def test_a_malformed_list_of_classes_names_the_line(tmp_path, content, message):
  path = tmp_path / 'classes.txt'
  path.write_text(content)
  with pytest.raises(ValueError, match=message):
    datasets.read_classes(path)


def test_more_shards_than_open_files_are_allowed():
  resource = pytest.importorskip('resource')
  before = resource.getrlimit(resource.RLIMIT_NOFILE)
  try:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, before[1]))
    prepared.allow_open_files(1088)
    raised, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert raised >= min(1088 + 256, before[1])
    prepared.allow_open_files(1)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == raised
  finally:
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@needs_imagenet
def test_imagenet_is_read_without_tensorflow():
  code = (
    'import sys; from rnascl_jax.data import datasets; import numpy as np; '
    "data = datasets.load('imagenet', limit=(64, 32), image_size=32); "
    'print([len(s.labels) for s in (data.train, data.validation, data.test)], '
    "data.test.images[np.arange(2)].shape, 'tensorflow' in sys.modules)"
  )
  assert _printed(code) == '[64, 32, 32] (2, 32, 32, 3) False'


@needs_imagenet
def test_imagenet_100_is_the_sample_of_its_classes():
  classes = datasets.read_classes('configs/imagenet100.txt')
  assert len(classes) == 100 and classes[0] == 'n02869837'
  data = datasets.load('imagenet', classes=classes, validation_size=8)
  # The sample has one image a class, whose file is named after it.
  assert sorted(data.test.labels) == list(range(100))
  source = prepared.source('imagenet2012', 'validation', None)
  names = source.dataset_info.features['label'].names
  assert [names[i] for i in data.subset] == list(classes)
  for row in (0, 57, 99):
    record = int(data.test.images.records[row])
    (example,) = data.test.images.source.__getitems__([record])
    synset = example['file_name'].decode().partition('_')[0]
    assert classes[data.test.labels[row]] == synset

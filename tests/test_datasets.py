"""Tests of rnascl_jax.datasets."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from rnascl_jax import datasets

_TFDS = os.environ.get('TFDS_DATA_DIR', '')
needs_cifar10 = pytest.mark.skipif(
  not os.path.isdir(os.path.join(_TFDS, 'cifar10')),
  reason='TFDS_DATA_DIR names no folder with a prepared cifar10.',
)


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
  assert digits.test.labels[:12].tolist() == [
    6,
    9,
    1,
    3,
    6,
    8,
    3,
    4,
    0,
    5,
    6,
    0,
  ]
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


def test_unknown_name_lists_the_known_ones():
  with pytest.raises(ValueError, match=r"'mnist'.*'digits', 'cifar10'"):
    datasets.load('mnist')


@pytest.mark.parametrize('size', [-1, 1280])
def test_validation_size_out_of_range_is_refused(size):
  with pytest.raises(ValueError, match=f'validation_size={size} must lie in'):
    datasets.load('digits', validation_size=size)


def test_limit_of_no_image_is_refused():
  with pytest.raises(ValueError, match=r'limit=\(0, 5\)'):
    datasets.load('digits', limit=(0, 5))


def test_importing_the_module_loads_no_data_library():
  code = (
    'import sys; from rnascl_jax import datasets; '
    "print([m for m in ('tensorflow', 'tensorflow_datasets', 'sklearn') "
    'if m in sys.modules])'
  )
  other = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert other.stdout.strip() == '[]'


def test_unprepared_cifar10_says_which_command_prepares_it(tmp_path):
  with pytest.raises(FileNotFoundError, match='only preparing needs it') as e:
    datasets.load('cifar10', data_dir=tmp_path)
  command = re.search(r'python -c "(.*)"\n', str(e.value)).group(1)
  compile(command, 'command', 'exec')
  assert f"'{tmp_path}'" in command
  assert "file_format='array_record'" in command


@needs_cifar10
def test_cifar10_is_read_without_tensorflow():
  # In a process of its own: another test may have imported TensorFlow.
  code = (
    'import sys; from rnascl_jax import datasets; '
    "data = datasets.load('cifar10', limit=(64, 32)); "
    'print([len(s.labels) for s in (data.train, data.validation, data.test)], '
    "data.image_shape, data.class_names[3], 'tensorflow' in sys.modules)"
  )
  other = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert other.stdout.strip() == '[64, 32, 32] (32, 32, 3) cat False'


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
def test_cifar10_holds_out_1000_images_and_none_twice():
  data = datasets.load('cifar10')
  assert [len(s.labels) for s in _splits(data)] == [49000, 1000, 10000]
  assert np.bincount(data.validation.labels).tolist() == [100] * 10
  assert data.image_shape == (32, 32, 3)

"""CIFAR-10-C and ImageNet-C, from small files of their layouts."""

import dataclasses
import shutil

import numpy as np
import pytest

from rnascl_jax.data import corruptions, splits
from rnascl_jax.data.corruptions import sets
from rnascl_jax.runtime import files
from tests import tiny_imagenet, tiny_sources

# Images of each severity.
_COUNT = 12


def _dataset(shape, names, **fields):
  """A data set with a test image of each class."""
  images = np.arange(len(names), dtype=np.uint8)[:, None, None, None]
  split = splits.Split(
    np.broadcast_to(images, (len(names), *shape)).copy(),
    np.arange(len(names), dtype=np.int32),
  )
  channels = shape[2]
  return splits.Dataset(
    **{
      'name': 'tiny',
      'class_names': tuple(names),
      **dict.fromkeys(('train', 'validation', 'test'), split),
      **dict.fromkeys(('mean', 'std'), (0.5,) * channels),
      **fields,
    }
  )


_CIFAR = _dataset((8, 8, 3), 'abc')
_IMAGENET = _dataset((12, 16, 3), tiny_imagenet.NAMES[:3])


def _labels():
  return np.tile(np.arange(_COUNT) % 3, 5)


@pytest.fixture
def cifar_c(tmp_path):
  """Pixels say the severity, the corruption and the image."""
  root = tmp_path / 'CIFAR-3-C'
  root.mkdir()
  for number, name in enumerate(('fog', 'snow')):
    images = np.zeros((5 * _COUNT, 8, 8, 3), np.uint8)
    images[..., 0] = np.repeat([1, 2, 3, 4, 5], _COUNT)[:, None, None]
    images[..., 1] = number
    images[..., 2] = np.tile(np.arange(_COUNT), 5)[:, None, None]
    np.save(root / f'{name}.npy', images)
  np.save(root / 'labels.npy', _labels())
  return root


def _pixels(split):
  return np.asarray(split.images)[:, 0, 0].tolist()


def test_a_file_of_cifar_c_has_the_severities_one_after_another(cifar_c):
  corrupted = sets.open_set(str(cifar_c), _CIFAR)
  assert corrupted.available == ('snow', 'fog')
  assert (corrupted.name, corrupted.images) == ('CIFAR-3-C', _COUNT)
  for number, name in enumerate(('fog', 'snow')):
    for severity in corruptions.SEVERITIES:
      split = corrupted.load(name, severity)
      assert isinstance(split.images, np.memmap)  # Not read yet.
      assert _pixels(split) == [[severity, number, i] for i in range(_COUNT)]
      np.testing.assert_array_equal(split.labels, np.arange(_COUNT) % 3)


def test_some_classes_of_cifar_c_are_labelled_as_the_model_has_them(cifar_c):
  data = dataclasses.replace(
    _CIFAR, class_names=('c', 'a'), subset=(2, 0), full_classes=3
  )
  split = sets.open_set(str(cifar_c), data).load('fog', 2)
  of_c_or_a = [i for i in range(_COUNT) if i % 3 != 1]
  assert [image for _, _, image in _pixels(split)] == of_c_or_a
  assert split.labels.tolist() == [0 if i % 3 == 2 else 1 for i in of_c_or_a]


def test_some_images_are_a_share_of_each_class_and_always_the_same(cifar_c):
  first, second = (sets.open_set(str(cifar_c), _CIFAR, 6) for _ in range(2))
  assert (first.name, first.images) == ('CIFAR-3-C_6', 6)
  split = first.load('fog', 4)
  assert np.bincount(split.labels).tolist() == [2, 2, 2]
  assert _pixels(split) == _pixels(second.load('fog', 4))
  assert [image % 3 for _, _, image in _pixels(split)] == split.labels.tolist()
  assert first.identity != sets.open_set(str(cifar_c), _CIFAR).identity


def test_a_misspelt_file_is_named_and_left_out(cifar_c, caplog):
  (cifar_c / 'fog.npy').rename(cifar_c / 'fogg.npy')
  assert sets.open_set(str(cifar_c), _CIFAR).available == ('snow',)
  assert 'fogg.npy is left out' in caplog.text
  assert "Did you mean 'fog'?" in caplog.text


def _spoil(name, array):
  return lambda root: np.save(root / f'{name}.npy', array)


def _cut(root):
  content = (root / 'fog.npy').read_bytes()
  (root / 'fog.npy').write_bytes(content[:-1])


@pytest.mark.parametrize(
  ('spoil', 'error', 'message'),
  [
    (
      lambda root: (root / 'labels.npy').unlink(),
      FileNotFoundError,
      'labels.npy is missing, which says the classes',
    ),
    (
      _spoil('labels', _labels()[1:]),
      ValueError,
      'has 59 labels, and must have the same labels five times',
    ),
    (
      _spoil('labels', np.roll(_labels(), 1)[:-5]),
      ValueError,
      'the same labels five times, once for each severity',
    ),
    (
      _spoil('labels', _labels() / 2),
      ValueError,
      r'type float64 and shape \[60\], and must have one integer',
    ),
    (
      _spoil('labels', _labels() * 2),
      ValueError,
      'labels from 0 to 4, and the classes of tiny are 0 to 2',
    ),
    (
      _spoil('labels', _labels() // 2),
      ValueError,
      'labels from 0 to 1, and the classes of tiny are 0 to 2',
    ),
    (
      _spoil('fog', np.zeros((50, 8, 8, 3), np.uint8)),
      ValueError,
      r'is uint8 \[50, 8, 8, 3\], and must be uint8 \[60, 8, 8, 3\]',
    ),
    (
      _spoil('fog', np.zeros((60, 8, 8, 3))),
      ValueError,
      'is float64',
    ),
    (
      _spoil('fog', np.zeros((60, 32, 32, 3), np.uint8)),
      ValueError,
      r'must be uint8 \[60, 8, 8, 3\]: images of the size of tiny',
    ),
    (_cut, files.DamagedFileError, 'fog.npy is damaged: '),
    (
      _spoil('fog', np.array([{}, []], object)),
      files.DamagedFileError,
      'fog.npy is damaged: ',
    ),
    (
      lambda root: [(root / f'{n}.npy').unlink() for n in ('fog', 'snow')],
      ValueError,
      'has no corrupted images: it must have files such as fog.npy',
    ),
  ],
)
def test_a_folder_that_is_not_cifar_c_is_refused(
  spoil, error, message, cifar_c
):
  spoil(cifar_c)
  with pytest.raises(error, match=message):
    corrupted = sets.open_set(str(cifar_c), _CIFAR)
    corrupted.check('fog', 1)


@pytest.fixture(scope='module')
def imagenet_c_original(tmp_path_factory):
  """Two corruptions, one in a folder of its kind, of five classes."""
  root = tmp_path_factory.mktemp('sets') / 'ImageNet-C'
  for place, severities in (('fog', (1, 2)), ('noise/shot_noise', (1, 3))):
    for severity in severities:
      images, labels = tiny_sources.pictures(
        2, (12, 16, 3), classes=5, seed=severity
      )
      tiny_sources.write_folder(
        root / place / str(severity), images, labels, tiny_imagenet.NAMES
      )
  (root / 'fog' / '1' / tiny_imagenet.NAMES[0] / '.DS_Store').touch()
  return root


@pytest.fixture
def imagenet_c(imagenet_c_original, tmp_path):
  return shutil.copytree(imagenet_c_original, tmp_path / 'ImageNet-C')


def test_imagenet_c_is_read_by_corruption_severity_and_class(imagenet_c):
  corrupted = sets.open_set(str(imagenet_c), _IMAGENET)
  assert corrupted.available == ('shot_noise', 'fog')
  for name, severity in (('fog', 1), ('fog', 2), ('shot_noise', 3)):
    images, labels = tiny_sources.pictures(
      2, (12, 16, 3), classes=5, seed=severity
    )
    split = corrupted.load(name, severity)
    np.testing.assert_array_equal(split.labels, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(split.images, images[labels < 3])


def test_the_classes_of_a_model_are_taken_in_its_order(imagenet_c):
  names = [tiny_imagenet.NAMES[i] for i in (4, 1)]
  data = dataclasses.replace(_IMAGENET, class_names=tuple(names))
  images, labels = tiny_sources.pictures(2, (12, 16, 3), classes=5, seed=1)
  split = sets.open_set(str(imagenet_c), data).load('fog', 1)
  expected = np.concatenate([images[labels == 4], images[labels == 1]])
  np.testing.assert_array_equal(split.images, expected)
  some = sets.open_set(str(imagenet_c), data, 2).load('fog', 1)
  assert some.labels.tolist() == [0, 1]
  for image, label in zip(some.images[:], (4, 1), strict=True):
    assert (image == images[labels == label]).all((1, 2, 3)).any()


def test_images_of_another_size_are_resized_as_a_whole(imagenet_c):
  data = _dataset((6, 8, 3), tiny_imagenet.NAMES[:3])
  whole = np.asarray(
    sets.open_set(str(imagenet_c), _IMAGENET).load('fog', 1).images
  )
  halved = np.asarray(
    sets.open_set(str(imagenet_c), data).load('fog', 1).images
  )
  assert halved.shape == (6, 6, 8, 3)
  np.testing.assert_allclose(halved.mean((1, 2)), whole.mean((1, 2)), atol=4)


@pytest.mark.parametrize(
  ('spoil', 'error', 'message'),
  [
    (
      lambda root: shutil.rmtree(root / 'fog' / '2'),
      FileNotFoundError,
      'fog/2 is missing, the images of severity 2',
    ),
    (
      lambda root: (root / 'fog' / '2' / 'n01440764').rename(
        root / 'fog' / '2' / 'n01440765'
      ),
      ValueError,
      "no folder 'n01440764', a class of tiny. Did you mean 'n01440765'",
    ),
    (
      lambda root: shutil.copytree(root / 'fog', root / 'weather' / 'fog'),
      ValueError,
      'are of the same corruption: move one',
    ),
    (
      lambda root: (root / 'fog/2/n01440764/0000.png').unlink(),
      ValueError,
      'fog/2 has 5 images of the classes of tiny, and .*shot_noise/1 has 6',
    ),
    (
      lambda root: [
        path.unlink() for path in (root / 'fog/2/n01440764').iterdir()
      ],
      ValueError,
      'fog/2/n01440764 has no images',
    ),
    (
      lambda root: (root / 'fog/2/n01440764/0001.png').write_bytes(b'?'),
      files.DamagedFileError,
      '0001.png is not an image that can be read',
    ),
  ],
)
def test_a_folder_that_is_not_imagenet_c_is_refused(
  spoil, error, message, imagenet_c
):
  spoil(imagenet_c)
  with pytest.raises(error, match=message):
    corrupted = sets.open_set(str(imagenet_c), _IMAGENET)
    corrupted.check('fog', 2)
    np.asarray(corrupted.load('fog', 2).images)


def test_test_images_are_corrupted_where_there_is_no_folder():
  corrupted = sets.open_set('made', _CIFAR, 2)
  assert (corrupted.name, corrupted.images) == ('made_2', 2)
  assert len(corrupted.available) == 17
  split = corrupted.load('gaussian_noise', 3)
  np.testing.assert_array_equal(
    split.images[:],
    corruptions.corrupt(_CIFAR.test.images[:2], 'gaussian_noise', 3),
  )
  assert split.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
  ('place', 'count', 'error', 'message'),
  [
    ('nowhere', 0, FileNotFoundError, "is no folder; write 'made'"),
    ('.', -1, ValueError, 'images=-1 must be at least 0'),
    ('.', 0, ValueError, 'has no corrupted images: it must have files'),
  ],
)
def test_a_place_without_images_is_refused(
  place, count, error, message, tmp_path
):
  with pytest.raises(error, match=message):
    sets.open_set(str(tmp_path / place), _CIFAR, count)

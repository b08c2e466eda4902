"""Images of one's own: what is read, how it is split, and what is refused."""

import io
import multiprocessing
import os
import pickle
import shutil
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from rnascl_jax.data import assembly, datasets, images, sources, streaming
from rnascl_jax.data.datasets import StoredImages
from rnascl_jax.runtime import files
from tests import tiny_imagenet, tiny_sources
from tests.tiny_sources import NAMES

PER_CLASS = 20


@pytest.fixture(autouse=True)
def labels_are_kept_apart(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def folder(tmp_path):
  """60 images of three classes in one tree, and hidden and other files."""
  root = tmp_path / 'images'
  tiny_sources.write_folder(root, *tiny_sources.pictures(PER_CLASS, (8, 12, 3)))
  (root / 'cat' / '.hidden.png').write_text('no image')
  (root / 'cat' / 'notes.txt').write_text('no image')
  (root / '.cache').mkdir()
  (root / 'readme.txt').write_text('no image')
  return root


def _splits(data):
  return data.train, data.validation, data.test


def _pixels(data):
  return [np.asarray(split.images) for split in _splits(data)]


def assert_same(first, second):
  """The same images, labels and constants, to the bit."""
  for one, other in zip(_pixels(first), _pixels(second), strict=True):
    np.testing.assert_array_equal(one, other)
  for one, other in zip(_splits(first), _splits(second), strict=True):
    np.testing.assert_array_equal(one.labels, other.labels)
  assert first.class_names == second.class_names
  assert (first.mean, first.std) == (second.mean, second.std)


def test_a_folder_is_split_by_class_the_same_always(folder):
  data = datasets.load(f'folder:{folder}')
  assert [len(s.labels) for s in _splits(data)] == [44, 4, 12]
  assert data.class_names == NAMES and data.image_shape == (8, 12, 3)
  assert np.bincount(data.test.labels).tolist() == [4, 4, 4]
  every, labels = tiny_sources.pictures(PER_CLASS, (8, 12, 3))
  known = {
    image.tobytes(): label for image, label in zip(every, labels, strict=True)
  }
  for split in _splits(data):
    for image, label in zip(*split, strict=True):
      assert known.pop(image.tobytes()) == label
  assert not known
  assert_same(datasets.load(f'folder:{folder}'), data)


def _fingerprint(root):
  return datasets.load(f'folder:{root}').fingerprint


def test_the_fingerprint_of_a_folder_is_that_of_its_content(folder, tmp_path):
  moved = tmp_path / 'moved'
  shutil.copytree(folder, moved)
  before = _fingerprint(folder)
  assert _fingerprint(moved) == before
  path = moved / 'cat' / '0021.png'
  (moved / 'cat' / '0022.png').replace(path)
  other = path.read_bytes()
  path.with_name('0022.png').write_bytes(other)
  assert _fingerprint(moved) != before


def _png_of_16_bits(colour_type, channels):
  """A PNG file of 4 x 3 pixels, which Pillow does not write."""
  header = struct.pack('>IIBBBBB', 4, 3, 16, colour_type, 0, 0, 0)
  pixels = zlib.compress(3 * (b'\0' + bytes(2 * 4 * channels)))
  file = b'\x89PNG\r\n\x1a\n'
  for kind, data in ((b'IHDR', header), (b'IDAT', pixels), (b'IEND', b'')):
    check = struct.pack('>I', zlib.crc32(kind + data))
    file += struct.pack('>I', len(data)) + kind + data + check
  return file


@pytest.mark.parametrize(
  'content',
  [
    _png_of_16_bits(2, 3),
    _png_of_16_bits(6, 4),
    _png_of_16_bits(4, 2),
    b'P6 4 3 65535\n' + bytes(72),
    b'P3 4 3 1023\n' + b'0 ' * 36,
  ],
  ids=['RGB', 'RGBA', 'LA', 'PPM', 'plain PPM'],
)
def test_colours_of_16_bits_are_refused(folder, content):
  (folder / 'cat' / 'wide.png').write_bytes(content)
  with pytest.raises(files.DamagedFileError, match='of 16 bits, not of 8'):
    datasets.load(f'folder:{folder}')


@pytest.mark.parametrize('place', [100, 70_000])
def test_images_of_the_same_length_have_another_fingerprint(tmp_path, place):
  for name in ('a', 'b'):
    (tmp_path / name).mkdir()
    for number in range(5):
      image = Image.new('L', (300, 240), 40 * number)
      image.save(tmp_path / name / f'{number}.bmp')
  before = _fingerprint(tmp_path)
  changed = tmp_path / 'a' / '3.bmp'
  content = bytearray(changed.read_bytes())
  content[1078 + place] ^= 1  # A pixel.
  changed.write_bytes(content)
  assert _fingerprint(tmp_path) != before


def test_test_images_are_not_sorted_by_class(folder):
  labels = datasets.load(f'folder:{folder}', test_share=0.5).test.labels
  # Evaluations look at the first images.
  assert set(labels[:10]) == {0, 1, 2}


def test_constants_are_those_of_the_training_images(folder):
  data = datasets.load(f'folder:{folder}')
  pixels = data.train.images / 255
  np.testing.assert_allclose(data.mean, pixels.mean((0, 1, 2)), rtol=1e-12)
  np.testing.assert_allclose(data.std, pixels.std((0, 1, 2)), rtol=1e-12)
  flat = np.full((4, 2, 2, 1), 51, np.uint8)
  assert assembly.measure(flat) == ((0.2,), (1.0,))


def test_a_limit_keeps_all_classes(folder):
  data = datasets.load(f'folder:{folder}', limit=(9, 3))
  assert [len(s.labels) for s in _splits(data)] == [9, 3, 3]
  assert np.bincount(data.train.labels).tolist() == [3, 3, 3]
  assert sorted(data.test.labels) == [0, 1, 2]


@pytest.mark.parametrize(
  ('others', 'sizes'),
  [
    (('test',), [54, 6, 30]),
    (('val',), [54, 6, 30]),
    (('Validation', 'test'), [60, 30, 30]),
    ((), [44, 4, 12]),
  ],
)
def test_folders_of_splits_are_used_as_they_are_named(tmp_path, others, sizes):
  tiny_sources.write_folder(
    tmp_path / 'train', *tiny_sources.pictures(PER_CLASS, (8, 8, 1))
  )
  for seed, other in enumerate(others, start=1):
    tiny_sources.write_folder(
      tmp_path / other, *tiny_sources.pictures(10, (8, 8, 1), seed=seed)
    )
  data = datasets.load(f'folder:{tmp_path}')
  assert [len(s.labels) for s in _splits(data)] == sizes
  assert data.image_shape == (8, 8, 1)


def test_fewer_validation_images_can_be_used(tmp_path):
  for seed, split in enumerate(('train', 'val', 'test')):
    tiny_sources.write_folder(
      tmp_path / split, *tiny_sources.pictures(10, (8, 8, 1), seed=seed)
    )
  data = datasets.load(f'folder:{tmp_path}', validation_size=6)
  assert [len(s.labels) for s in _splits(data)] == [30, 6, 30]
  assert np.bincount(data.validation.labels).tolist() == [2, 2, 2]


def test_a_class_may_be_called_as_a_split_is(tmp_path):
  tiny_sources.write_folder(
    tmp_path, *tiny_sources.pictures(10, (8, 8, 1)), ('bus', 'car', 'train')
  )
  data = datasets.load(f'folder:{tmp_path}')
  assert data.class_names == ('bus', 'car', 'train')


@pytest.mark.parametrize('changes', [{}, {'image_size': 10}])
def test_a_folder_and_the_npz_of_its_images_are_the_same(
  tmp_path, folder, changes
):
  every, labels = tiny_sources.pictures(PER_CLASS, (8, 12, 3))
  np.savez(
    tmp_path / 'a.npz', images=every, labels=labels, class_names=list(NAMES)
  )
  first = datasets.load(f'folder:{folder}', **changes)
  assert_same(datasets.load(f'npz:{tmp_path}/a.npz', **changes), first)
  assert first.resized == bool(changes)


@pytest.mark.parametrize('kind', ['folder', 'npz', 'tfds', 'cifar'])
def test_what_does_not_fit_in_memory_is_the_same_streamed(
  tmp_path, folder, kind
):
  name, options = _written(tmp_path, folder, kind)
  held = datasets.load(name, **options)
  stored = datasets.load(name, memory_limit=100, **options)
  for split in (held.train, held.test):
    assert isinstance(split.images, np.ndarray)
  for split in (stored.train, stored.test):
    assert isinstance(split.images, StoredImages) and not split.images.resized
  assert_same(stored, held)


def _written(tmp_path, folder, kind):
  """The name of a data set of a kind, and options of `load`."""
  if kind == 'folder':
    return f'folder:{folder}', {}
  train = tiny_sources.pictures(10, (32, 32, 3), classes=10)
  test = tiny_sources.pictures(3, (32, 32, 3), classes=10, seed=1)
  if kind == 'npz':
    parts = zip('xyxy', ('train', 'train', 'test', 'test'), strict=True)
    arrays = zip((f'{a}_{b}' for a, b in parts), (*train, *test), strict=True)
    np.savez_compressed(tmp_path / 'a.npz', **dict(arrays))
    return f'npz:{tmp_path}/a.npz', {}
  if kind == 'tfds':
    tiny_sources.write_svhn(tmp_path, {'train': train, 'test': test})
    return 'tfds:svhn_cropped', {'data_dir': tmp_path}
  path = tmp_path / 'cifar-10-python.tar.gz'
  tiny_sources.write_cifar(
    path, train, test, [f'c{i}' for i in range(10)], kind='10-python'
  )
  return f'cifar:{path}', {}


def _batches(split, **options):
  """The images of three batches of four, by threads or by workers."""
  with streaming.training_batches(
    split,
    lambda epoch: np.arange(12).reshape(3, 4)[:, ::-1],
    steps_per_epoch=3,
    epochs=1,
    first_step=0,
    positions=np.arange(4),
    seed=0,
    **options,
  ) as stream:
    return np.concatenate([batch.images for batch in stream])


def test_streamed_images_are_those_in_memory(tmp_path, folder):
  rows = np.arange(12).reshape(3, 4)[:, ::-1].reshape(-1)
  held = datasets.load(f'folder:{folder}').train.images[rows]
  stored = datasets.load(f'folder:{folder}', memory_limit=0).train
  for workers in (0, 1):
    np.testing.assert_array_equal(
      _batches(stored, min_crop=0.0, workers=workers), held
    )
  with pytest.raises(ValueError, match='min_crop=0.5 is for images that are'):
    _batches(stored, min_crop=0.5, workers=0)


def test_random_crops_of_a_folder_and_of_an_npz_are_the_same(tmp_path, folder):
  every, labels = tiny_sources.pictures(PER_CLASS, (8, 12, 3))
  np.savez(tmp_path / 'a.npz', images=every, labels=labels)
  first, second = (
    _batches(
      datasets.load(name, image_size=6, min_crop=0.3).train,
      min_crop=0.3,
      workers=-1,
    )
    for name in (f'folder:{folder}', f'npz:{tmp_path}/a.npz')
  )
  np.testing.assert_array_equal(first, second)
  # What is in memory stays in this process.
  assert first.shape == (12, 6, 6, 3) and not multiprocessing.active_children()


def test_images_of_differing_sizes_are_resized_as_those_of_imagenet(tmp_path):
  for label in ('a', 'b'):
    (tmp_path / label).mkdir()
    for seed in range(10):
      path = tmp_path / label / (f'{seed}.png' if seed % 2 else f'{seed}.JPG')
      kind = 'PNG' if seed % 2 else 'JPEG'
      path.write_bytes(
        tiny_imagenet.photograph(20 + 9 * seed, 70, seed=seed, kind=kind)
      )
  name = f'folder:{tmp_path}'
  data = datasets.load(name, image_size=24)
  assert data.image_shape == (24, 24, 3) and data.resized
  expected = {
    images.evaluation_image(path.read_bytes(), 24).tobytes()
    for path in tmp_path.glob('*/*')
  }
  assert {image.tobytes() for image in data.train.images} <= expected
  assert datasets.load(name).image_shape == (32, 32, 3)
  # Random crops are made of the files, which stay where they are.
  cropped = datasets.load(name, image_size=24, min_crop=0.5)
  assert isinstance(cropped.train.images, StoredImages)
  assert isinstance(cropped.test.images, np.ndarray)
  assert_same(cropped, data)


@pytest.mark.parametrize(
  ('modes', 'channels'),
  [(('L', '1', 'LA'), 1), (('L', 'RGB', 'P', 'RGBA', 'CMYK', 'PA'), 3)],
)
def test_channels_are_those_of_all_images_together(tmp_path, modes, channels):
  for label in ('a', 'b'):
    (tmp_path / label).mkdir()
    for number, mode in enumerate(modes * 4):
      kind = 'TIFF' if mode in ('CMYK', 'PA') else 'PNG'
      image = Image.new('RGB', (9, 9), (40 * number % 256, 80, 120))
      place = tmp_path / label / f'{number}.{kind.lower()}'
      if mode == 'PA':
        image.convert('P').save(
          place.with_suffix('.png'), transparency=bytes(range(256))
        )
      else:
        image.convert(mode).save(place, kind)
  data = datasets.load(f'folder:{tmp_path}')
  assert data.image_shape == (9, 9, channels)


def _prepared(tmp_path, **splits):
  tiny_sources.write_svhn(
    tmp_path,
    {
      name: tiny_sources.pictures(count, (32, 32, 3), 10, seed=len(name))
      for name, count in splits.items()
    },
  )


def test_the_splits_of_prepared_data_can_be_chosen(tmp_path):
  _prepared(tmp_path, train=10, extra=5, test=3)
  options = {'data_dir': tmp_path, 'validation_size': 0}
  data = datasets.load('tfds:svhn_cropped', **options)
  assert [len(s.labels) for s in _splits(data)] == [100, 0, 30]
  assert data.class_names == tuple('0123456789')
  expected, labels = tiny_sources.pictures(10, (32, 32, 3), 10, seed=5)
  np.testing.assert_array_equal(data.train.images, expected)
  np.testing.assert_array_equal(data.train.labels, labels)
  more = datasets.load(
    'tfds:svhn_cropped', train_split='train+extra', **options
  )
  assert [len(s.labels) for s in _splits(more)] == [150, 0, 30]
  for changes, message in (
    ({'train_split': 'trian'}, "no split 'trian'. Did you mean 'train'"),
    ({'test_split': 'extra+nope[:5%]'}, "no split 'nope'"),
    ({'test_split': 'train[50%:]'}, 'have images in common'),
    (
      {'train_split': 'extra+train[:50%]+train[40%:]'},
      'train_split=.* has some images twice',
    ),
    ({'test_split': 'test+test[:20%]'}, 'test_split=.* has some images twice'),
  ):
    with pytest.raises(ValueError, match=message):
      datasets.load('tfds:svhn_cropped', **options, **changes)


def test_a_part_of_a_split_is_read_without_the_rest(tmp_path):
  images_, labels = tiny_sources.pictures(6, (8, 8, 3), 2)
  order = np.arange(12).reshape(2, 6).T.reshape(-1)  # Both classes by turns.
  tiny_imagenet.write_prepared(
    tmp_path,
    [tiny_sources.encoded(image) for image in images_[order]],
    labels[order],
    classes=2,
    name='own_shapes',
    version='1.0.0',
    shape=(8, 8, 3),
  )
  # TFDS has no code of it: what lies in its folder describes it.
  data = datasets.load(
    'tfds:own_shapes',
    data_dir=tmp_path,
    train_split='train[:50%]',
    test_split='train[50%:]',
    validation_size=0,
  )
  np.testing.assert_array_equal(data.train.images, images_[order[:6]])
  assert len(data.test.labels) == 6


def test_validation_images_of_prepared_data_are_for_testing_or_choosing(
  tmp_path,
):
  _prepared(tmp_path, train=10, validation=4)
  options = {'data_dir': tmp_path}
  data = datasets.load('tfds:svhn_cropped', **options)
  assert [len(s.labels) for s in _splits(data)] == [90, 10, 40]
  _prepared(tmp_path, test=3)
  data = datasets.load('tfds:svhn_cropped', **options)
  assert [len(s.labels) for s in _splits(data)] == [100, 40, 30]


def test_prepared_data_without_test_images_hold_some_out(tmp_path):
  _prepared(tmp_path, train=10)
  data = datasets.load('tfds:svhn_cropped', data_dir=tmp_path)
  assert [len(s.labels) for s in _splits(data)] == [72, 8, 20]


@pytest.mark.parametrize(
  'kind', ['10-python', '10-binary', '100-python', '100-binary']
)
def test_archives_of_cifar_are_read_as_they_were_published(tmp_path, kind):
  train = tiny_sources.pictures(10, (32, 32, 3))
  test = tiny_sources.pictures(4, (32, 32, 3), seed=1)
  path = tmp_path / 'archive.tar.gz'
  tiny_sources.write_cifar(path, train, test, NAMES, kind=kind)
  data = datasets.load(f'cifar:{path}', validation_size=0)
  np.testing.assert_array_equal(data.train.images, train[0])
  np.testing.assert_array_equal(data.train.labels, train[1])
  assert data.class_names == NAMES
  assert sorted(map(bytes, data.test.images)) == sorted(map(bytes, test[0]))


class _Harmful:
  def __reduce__(self):
    return eval, ("__import__('os').environ.update(HARMED='yes')",)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ({'data': _Harmful(), 'labels': [0]}, 'calls .* eval'),
    ({'data': np.zeros((1, 3072)), 'labels': [0]}, 'not of bytes'),
    ({'data': np.zeros((2, 3072), np.uint8), 'labels': [0]}, '1 labels'),
    ({'labels': [0]}, 'data'),
    ([1], 'list'),
    (_Harmful(), 'damaged'),
  ],
)
def test_of_a_pickle_of_cifar_nothing_is_run(tmp_path, content, message):
  batches = (*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch')
  written = {f'x/{name}': pickle.dumps(content, 2) for name in batches}
  written['x/batches.meta'] = pickle.dumps({'label_names': ['a', 'b']}, 2)
  path = tmp_path / 'cifar.tar.gz'
  tiny_sources.write_tar(path, written)
  with pytest.raises(files.DamagedFileError, match=message) as error:
    datasets.load(f'cifar:{path}')
  assert str(error.value).startswith(str(path))
  assert 'HARMED' not in os.environ


def test_other_and_damaged_archives_are_named(tmp_path):
  path = tmp_path / 'cifar.tar.gz'
  tiny_sources.write_tar(path, {'a/readme': b'text'})
  with pytest.raises(files.DamagedFileError, match='no archive of CIFAR'):
    datasets.load(f'cifar:{path}')
  pair = tiny_sources.pictures(10, (32, 32, 3))
  tiny_sources.write_cifar(path, pair, pair, NAMES, kind='10-binary')
  path.write_bytes(path.read_bytes()[:-400])
  with pytest.raises(files.DamagedFileError, match=f'{path} is damaged'):
    datasets.load(f'cifar:{path}')
  for content in (b'no archive', b'\xfd7zXZ\0no archive', b''):
    path.write_bytes(content)
    with pytest.raises(files.DamagedFileError, match=f'{path} is damaged'):
      datasets.load(f'cifar:{path}')


def test_an_archive_whose_check_fails_is_damaged(tmp_path):
  path = tmp_path / 'cifar.tar.gz'
  pair = tiny_sources.pictures(40, (32, 32, 3))
  tiny_sources.write_cifar(path, pair, pair, NAMES, kind='10-binary')
  content = bytearray(path.read_bytes())
  content[-8] ^= 1  # Of the CRC-32 of all that is packed.
  path.write_bytes(content)
  with pytest.raises(files.DamagedFileError, match='CRC check failed'):
    datasets.load(f'cifar:{path}')


def test_of_an_archive_no_more_is_read_than_there_can_be(tmp_path):
  path = tmp_path / 'cifar.tar.gz'
  useless = {'a/film.bin': bytes(2**25)}
  tiny_sources.write_tar(path, useless)
  tracemalloc.start()
  try:
    with pytest.raises(files.DamagedFileError, match='no archive of CIFAR'):
      datasets.load(f'cifar:{path}')
    assert tracemalloc.get_traced_memory()[1] < 2**24
  finally:
    tracemalloc.stop()
  tiny_sources.write_tar(path, {'a/batches.meta': bytes(70_000)})
  with pytest.raises(files.DamagedFileError, match='70,000 bytes, more than'):
    datasets.load(f'cifar:{path}')


def _remove(place):
  shutil.rmtree(place) if place.is_dir() else place.unlink()


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (
      lambda root: (root / 'cat' / 'x.png').write_bytes(b'no image'),
      r'images/cat/x.png is not an image.*delete it',
    ),
    (
      lambda root: (root / 'dog' / '0040.png').write_bytes(
        (root / 'dog' / '0041.png').read_bytes()[:-50]
      ),
      r'images/dog/0040.png is not an image.*delete it',
    ),
    (
      lambda root: Image.fromarray(np.zeros((8, 12), np.uint16)).save(
        root / 'cat' / 'wide.png'
      ),
      r'cat/wide.png is not an image.*the kind I;16 of 16 bits, not of 8',
    ),
    (
      lambda root: (root / 'empty').mkdir(),
      'images/empty has no images: add some',
    ),
    (
      lambda root: [_remove(root / name) for name in ('cat', 'dog')],
      "1 class, .'bird',.: two are needed",
    ),
    (
      lambda root: [_remove(root / name) for name in NAMES],
      'images has no folder of images: it must have one folder for each class',
    ),
    (
      lambda root: [
        _remove(path)
        for path in (root / 'cat').iterdir()
        if path.name > '0021.png'
      ],
      "class 'cat' has 2 images, of which none is left for testing",
    ),
    (
      lambda root: [(root / n).rename(root / m) for n, m in _RENAMED],
      "beside those of splits there is 'dog'",
    ),
    (
      lambda root: (root / 'training' / 'cat').mkdir(parents=True),
      "beside those of splits there is 'bird'",
    ),
    (
      lambda root: [
        _remove(root / 'dog'),
        *((root / n).rename(root / m) for n, m in (('bird', 'test'), _CAT)),
      ],
      'none of training images',
    ),
  ],
)
def test_what_is_wrong_with_a_folder_is_named(folder, damage, message):
  damage(folder)
  with pytest.raises(ValueError, match=message) as error:
    datasets.load(f'folder:{folder}')
  assert '\n' not in str(error.value)
  # The same where images would be streamed.
  with pytest.raises(ValueError, match=message):
    datasets.load(f'folder:{folder}', memory_limit=0)


_CAT = ('cat', 'val')
_RENAMED = (('bird', 'train'), _CAT)


@pytest.mark.parametrize(
  ('damage', 'message'),
  [
    (lambda root: _remove(root / 'test' / 'cat'), "test has no folder 'cat'"),
    (lambda root: (root / 'test' / 'cow').mkdir(), 'cow is of no class'),
  ],
)
def test_splits_of_different_classes_are_refused(tmp_path, damage, message):
  for seed, split in enumerate(('train', 'test')):
    tiny_sources.write_folder(
      tmp_path / split, *tiny_sources.pictures(5, (8, 8, 1), seed=seed)
    )
  damage(tmp_path)
  with pytest.raises(ValueError, match=message):
    datasets.load(f'folder:{tmp_path}')


_X, _Y = tiny_sources.pictures(10, (8, 8, 1))


@pytest.mark.parametrize(
  ('arrays', 'message'),
  [
    ({'x': _X, 'y': _Y}, 'has the arrays x, y, and must have those of one'),
    ({'x_train': _X, 'y_train': _Y, 'x_test': _X}, "lacks the array 'y_test'"),
    (
      {'images': _X / 255, 'labels': _Y},
      r'float64, and must be uint8 .* round\(255 \* images\)',
    ),
    ({'images': _X[:-1], 'labels': _Y}, 'are 29, and their labels 30'),
    ({'images': _X, 'labels': _Y / 2}, 'labels of type float64'),
    ({'images': _X, 'labels': _Y - 1}, 'labels from -1 to 1, and must'),
    ({'images': _X, 'labels': _Y + 1}, "class '0'.*subtract 1"),
    ({'images': _X, 'labels': 2 * _Y}, "none of class '1' .2 of 5"),
    (
      {'images': _X, 'labels': _Y, 'class_names': ['a', 'b']},
      'labels from 0 to 2, and must have labels from 0 to 1 for 2 classes',
    ),
    (
      {'images': _X, 'labels': _Y, 'class_names': ['a', 'b', 'a']},
      "two classes are called 'a'",
    ),
    (
      {'images': _X.transpose(0, 3, 1, 2), 'labels': _Y},
      r'\[N, C, H, W\]: transpose',
    ),
    ({'images': np.repeat(_X, 4, 3), 'labels': _Y}, r'images\[..., :3\]'),
    ({'images': _X[:0], 'labels': _Y[:0]}, 'must be|none at all'),
    (
      {'x_train': _X, 'y_train': _Y, 'x_test': _X[:9], 'y_test': _Y[:9]},
      "test images have none of class '1'",
    ),
    (
      {'x_train': _X, 'y_train': _Y, 'x_test': _X[:, :7], 'y_test': _Y},
      'set config.data.image_size to resize them all',
    ),
    (
      {'images': _X, 'labels': np.array([{}] * 30, object)},
      "the array 'labels' holds objects of Python, which are never read",
    ),
  ],
)
def test_what_is_wrong_with_arrays_is_said(tmp_path, arrays, message):
  np.savez(tmp_path / 'a.npz', **arrays)
  with pytest.raises(ValueError, match=message) as error:
    datasets.load(f'npz:{tmp_path}/a.npz')
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  'class_names', [np.array('abc'), np.array([['a', 'b', 'c']]), [1, 2, 3]]
)
def test_names_of_classes_must_be_one_text_a_class(tmp_path, class_names):
  np.savez(tmp_path / 'a.npz', images=_X, labels=_Y, class_names=class_names)
  with pytest.raises(ValueError, match="'class_names' .*one text a class"):
    datasets.load(f'npz:{tmp_path}/a.npz')


def test_names_of_classes_may_be_bytes(tmp_path):
  names = np.array([name.encode() for name in ('a', 'b', 'ü')])
  np.savez(tmp_path / 'a.npz', images=_X, labels=_Y, class_names=names)
  data = datasets.load(f'npz:{tmp_path}/a.npz')
  assert data.class_names == ('a', 'b', 'ü')


def test_a_shape_that_is_not_there_is_refused_before_it_is_allocated(tmp_path):
  file = io.BytesIO()
  np.lib.format.write_array_header_1_0(
    file, {'descr': '|u1', 'fortran_order': False, 'shape': (2**50, 8, 8)}
  )
  np.savez(tmp_path / 'a.npz', labels=_Y)
  with zipfile.ZipFile(tmp_path / 'a.npz', 'a') as archive:
    archive.writestr('images.npy', file.getvalue())
  with pytest.raises(files.DamagedFileError, match="'images' has 0 bytes, wh"):
    datasets.load(f'npz:{tmp_path}/a.npz')


def test_an_array_whose_check_fails_is_damaged_if_it_is_used(tmp_path):
  path = tmp_path / 'a.npz'
  mark = np.full((1, 8, 8, 1), 201, np.uint8)
  other = np.array([{}], object)
  np.savez(path, images=np.r_[_X, mark], labels=[*_Y, 0], other=other)
  datasets.load(f'npz:{path}')
  content = path.read_bytes()
  assert content.count(mark.tobytes()) == 1
  path.write_bytes(content.replace(mark.tobytes(), (mark + 1).tobytes()))
  with pytest.raises(files.DamagedFileError, match='Bad CRC-32'):
    datasets.load(f'npz:{path}')


@pytest.mark.parametrize('size', [0, 10, 400])
def test_a_damaged_npz_is_named(tmp_path, size):
  path = tmp_path / 'a.npz'
  np.savez(path, images=_X, labels=_Y)
  path.write_bytes(path.read_bytes()[:size])
  with pytest.raises(files.DamagedFileError, match=f'{path} is damaged'):
    datasets.load(f'npz:{path}')


def test_arrays_as_medmnist_names_them_are_read(tmp_path):
  np.savez(
    tmp_path / 'a.npz',
    **{
      f'{split}_{what}': array
      for split in ('train', 'val', 'test')
      for what, array in (('images', _X[..., 0]), ('labels', _Y[:, None]))
    },
  )
  data = datasets.load(f'npz:{tmp_path}/a.npz')
  assert [len(s.labels) for s in _splits(data)] == [30, 30, 30]
  assert data.image_shape == (8, 8, 1) and data.class_names == ('0', '1', '2')


def test_classes_can_be_chosen_from_any_source(folder):
  data = datasets.load(f'folder:{folder}', classes=('dog', 'bird'))
  assert (data.subset, data.full_classes) == ((2, 0), 3)
  assert [len(s.labels) for s in _splits(data)] == [29, 3, 8]
  whole, labels = tiny_sources.pictures(PER_CLASS, (8, 12, 3))
  dogs = {image.tobytes() for image in whole[labels == 2]}
  for image, label in zip(*data.test, strict=True):
    assert (image.tobytes() in dogs) == (label == 0)


def test_images_too_large_to_be_taken_as_they_are_need_a_size(tmp_path):
  np.savez(
    tmp_path / 'a.npz',
    images=np.zeros((4, 4, 600, 1), np.uint8),
    labels=[0, 1, 0, 1],
  )
  options = {'test_share': 0.5, 'validation_size': 0}
  with pytest.raises(ValueError, match='600 x 4 pixels.*image_size'):
    datasets.load(f'npz:{tmp_path}/a.npz', **options)
  data = datasets.load(f'npz:{tmp_path}/a.npz', image_size=16, **options)
  assert data.image_shape == (16, 16, 1)


def test_large_images_are_taken_as_they_are_where_their_size_is_asked_for():
  size = sources.size_of((600, 600), 600, 'images')
  assert size == (600, 600)


def test_a_loader_of_ones_own_is_called_by_its_name():
  told = []

  def loader(text):
    told.append(text)
    return datasets.Source((_X, _Y), test=(_X, _Y), class_names=NAMES)

  datasets.register('mine', loader)
  data = datasets.load('mine:some text', validation_size=3)
  assert told == ['some text'] and data.name == 'mine:some text'
  assert [len(s.labels) for s in _splits(data)] == [27, 3, 30]
  datasets.register('mine', lambda text: None)
  with pytest.raises(ValueError, match='must give a datasets.Source'):
    datasets.load('mine')
  for name in ('digits', 'npz', 'two words', 'a:b'):
    with pytest.raises(ValueError, match='cannot be registered'):
      datasets.register(name, loader)


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('floder:/x', "'floder:/x'. Did you mean 'folder:'"),
    ('folder:/nonesuch', '/nonesuch does not exist; name a folder'),
    ('npz:/nonesuch', '/nonesuch does not exist; name a file that np.savez'),
    ('cifar:/nonesuch', '/nonesuch does not exist. Download'),
    ('folder:', 'names nothing'),
    ('tfds:', "write 'tfds:svhn_cropped'"),
  ],
)
def test_a_name_of_nothing_is_refused(name, message):
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    datasets.load(name)


def test_a_file_that_may_not_be_read_is_named(folder, monkeypatch):
  def refuse(path, *_):
    raise PermissionError(13, 'Permission denied', str(path))

  monkeypatch.setattr('os.scandir', refuse)
  with pytest.raises(ValueError, match='images cannot be read .Permission'):
    datasets.load(f'folder:{folder}')


def test_a_misspelt_prepared_data_set_has_a_suggestion(tmp_path):
  _prepared(tmp_path, train=2)
  with pytest.raises(FileNotFoundError, match="Did you mean 'svhn_cropped'"):
    datasets.load('tfds:svhn_croped', data_dir=tmp_path)


def test_prepared_data_without_classes_are_refused(tmp_path):
  _prepared(tmp_path, train=2)
  shutil.move(tmp_path / 'svhn_cropped', tmp_path / 'boxes')
  place = tmp_path / 'boxes' / '3.1.0'
  for path in (*place.iterdir(),):
    path.rename(path.with_name(path.name.replace('svhn_cropped', 'boxes')))
  info = place / 'dataset_info.json'
  info.write_text(info.read_text().replace('svhn_cropped', 'boxes'))
  features = place / 'features.json'
  features.write_text(features.read_text().replace('"label"', '"box"'))
  with pytest.raises(
    ValueError, match="have box, file_name, image, and must have 'image' and"
  ):
    datasets.load('tfds:boxes', data_dir=tmp_path)

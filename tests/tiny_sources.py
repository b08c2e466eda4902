"""The same few images in every form that a user may have them in."""

import io
import pickle
import struct
import tarfile

import numpy as np
from PIL import Image

from tests import tiny_imagenet

NAMES = ('bird', 'cat', 'dog')


def pictures(per_class, shape, classes=3, seed=0):
  """Images and labels, sorted by class; a class is a brighter stripe."""
  labels = np.repeat(np.arange(classes), per_class).astype(np.int32)
  rng = np.random.default_rng(seed)
  images = rng.integers(0, 120, (len(labels), *shape), np.uint8)
  for image, label in zip(images, labels, strict=True):
    image[label % shape[0]] += 130
  return images, labels


def encoded(image, kind='PNG'):
  file = io.BytesIO()
  Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
    file, kind
  )
  return file.getvalue()


def write_folder(root, images, labels, names=NAMES):
  """One PNG file an image, named so that they stay in their order."""
  for number, (image, label) in enumerate(zip(images, labels, strict=True)):
    place = root / names[label]
    place.mkdir(parents=True, exist_ok=True)
    (place / f'{number:04}.png').write_bytes(encoded(image))


def write_svhn(root, splits):
  """A prepared copy of `svhn_cropped`, of (images, labels) by split."""
  for split, (images, labels) in splits.items():
    tiny_imagenet.write_prepared(
      root,
      [encoded(image) for image in images],
      labels,
      classes=10,
      name='svhn_cropped',
      version='3.1.0',
      shape=(32, 32, 3),
      split=split,
    )


def write_cifar(path, train, test, names, *, kind):
  """An archive as that of CIFAR's authors; kind is 10 or 100, and its form.

  Args:
    path: of the archive.
    train: images [N, 32, 32, 3] and labels.
    test: the same.
    names: of classes.
    kind: such as '100-python'.
  """
  hundred, python = kind.startswith('100'), kind.endswith('python')
  folder = f'cifar-{kind.replace("binary", "bin")}'
  batches = {'test' if hundred else 'test_batch': test}
  if hundred:
    batches['train'] = train
  else:
    parts = zip(*(np.array_split(array, 5) for array in train), strict=True)
    batches |= {f'data_batch_{i}': part for i, part in enumerate(parts, 1)}
  files = {}
  for name, (images, labels) in batches.items():
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    if python:
      key = 'fine_labels' if hundred else 'labels'
      files[name] = python_2_pickle(
        {'data': planes, key: labels.tolist(), 'filenames': ['a.png']}
      )
    else:
      beside = [np.zeros_like(labels), labels] if hundred else [labels]
      columns = np.stack(beside, axis=1).astype(np.uint8)
      files[f'{name}.bin'] = np.concatenate([columns, planes], 1).tobytes()
  if python:
    key = 'fine_label_names' if hundred else 'label_names'
    files['meta' if hundred else 'batches.meta'] = python_2_pickle(
      {key: list(names), 'num_vis': 3072}
    )
  else:
    text = ''.join(f'{name}\n' for name in names).encode()
    files['fine_label_names.txt' if hundred else 'batches.meta.txt'] = text
  write_tar(path, {f'{folder}/{name}': files[name] for name in files})


def write_tar(path, files):
  with tarfile.open(path, 'w:gz') as archive:
    for name, content in files.items():
      member = tarfile.TarInfo(name)
      member.size = len(content)
      archive.addfile(member, io.BytesIO(content))


class _Python2(pickle._Pickler):
  """Writes texts and bytes as the `cPickle` of Python 2 did."""

  dispatch = dict(pickle._Pickler.dispatch)

  def _save_string(self, text):
    content = text.encode() if isinstance(text, str) else text
    if len(content) < 256:
      self.write(pickle.SHORT_BINSTRING + bytes([len(content)]) + content)
    else:
      self.write(pickle.BINSTRING + struct.pack('<i', len(content)) + content)
    self.memoize(text)

  dispatch[str] = dispatch[bytes] = _save_string


def python_2_pickle(value):
  """A pickle of protocol 2 as those of CIFAR are."""
  file = io.BytesIO()
  _Python2(file, 2).dump(value)
  return file.getvalue().replace(b'numpy._core.', b'numpy.core.')

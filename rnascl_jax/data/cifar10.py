"""CIFAR-10 as prepared by TensorFlow Datasets, in memory."""

import os

import numpy as np
import tqdm

from rnascl_jax.data import prepared, splits

CLASS_NAMES = tuple(
  'airplane automobile bird cat deer dog frog horse ship truck'.split()
)
# TFDS decodes this many images at a call: few enough for a lively bar.
_READ_CHUNK = 500


def load(
  data_dir: str | os.PathLike[str] | None = None,
  validation_size: int | None = None,
  limit: splits.Limit | None = None,
) -> splits.Dataset:
  """CIFAR-10, see `datasets.load`.

  Reading takes seconds and imports no TensorFlow.

  Reference:
    Krizhevsky, Learning multiple layers of features from tiny images, 2009.
  """
  size = 1000 if validation_size is None else validation_size
  train = prepared.source('cifar10', 'train', data_dir)
  test = prepared.source('cifar10', 'test', data_dir)
  num_train, num_test = len(train), len(test)
  if limit is not None:
    num_train = min(num_train, limit.train + min(size, limit.test))
    num_test = min(num_test, limit.test)
  return splits.assemble(
    _read(train, num_train, 'cifar10 train'),
    _read(test, num_test, 'cifar10 test'),
    validation_size=size,
    limit=limit,
    name='cifar10',
    class_names=tuple(train.dataset_info.features['label'].names),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2471, 0.2435, 0.2616),
  )


def _read(
  source: prepared.PreparedSplit, count: int, description: str
) -> splits.Split:
  """Decodes the first `count` examples; about 8,000 CIFAR images a second."""
  shape = source.dataset_info.features['image'].shape
  images = np.empty((count, *shape), np.uint8)
  labels = np.empty(count, np.int32)
  # Shown on a terminal only, and only where it takes longer than 2 s.
  with tqdm.tqdm(total=count, desc=description, delay=2, disable=None) as bar:
    for start in range(0, count, _READ_CHUNK):
      indices = range(start, min(start + _READ_CHUNK, count))
      examples = source.__getitems__(list(indices))
      images[indices] = [example['image'] for example in examples]
      labels[indices] = source.labels(indices, examples)
      bar.update(len(indices))
  return splits.Split(images, labels)

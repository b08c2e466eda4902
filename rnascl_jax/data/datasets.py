"""Images with labels: the digits and CIFAR-10 in memory, ImageNet on disk.

The splits are fixed: they depend on no seed, and are stratified by class.

Example:
  >>> from rnascl_jax.data import datasets
  >>> digits = datasets.load('digits')
  >>> digits.image_shape, len(digits.train.labels), len(digits.test.labels)
  ((8, 8, 1), 1152, 517)
"""

import os
from collections.abc import Sequence
from typing import Any

from rnascl_jax.data import cifar10, digits, imagenet
from rnascl_jax.data.classes import read_classes
from rnascl_jax.data.splits import Dataset, Limit, Split
from rnascl_jax.data.stored_images import StoredImages
from rnascl_jax.runtime import spelling

__all__ = [
  'DATASETS',
  'RESIZED',
  'Dataset',
  'Limit',
  'Split',
  'StoredImages',
  'load',
  'read_classes',
]

DATASETS = {
  'digits': digits.load,
  'cifar10': cifar10.load,
  'imagenet': imagenet.load,
}
# Those whose images are resized, and which may be of some classes only.
RESIZED = ('imagenet',)


def load(
  name: str,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  validation_size: int | None = None,
  limit: Sequence[int] | None = None,
  image_size: int = 0,
  classes: Sequence[str] = (),
) -> Dataset:
  """Loads a data set by its name.

  Args:
    name: a key of `DATASETS`.
    data_dir: where TFDS keeps its data; by default the environment variable
      TFDS_DATA_DIR, else ~/tensorflow_datasets. `digits` needs none.
    validation_size: how many training images are held out, 0 for none; by
      default 128 of `digits`, 1000 of `cifar10` as Rice et al. held out, and 10
      of each class of `imagenet`.
    limit: the most images of (train, test), see `Limit`; by default all.
    image_size: side in pixels of `imagenet`'s images; 0 means 224.
    classes: names of some classes of `imagenet` (synsets), in the order of
      their labels; by default all.

  Raises:
    ValueError: the name is unknown, or a number is out of its range.
    FileNotFoundError: TFDS has not prepared the data; the message says how to.
  """
  if name not in DATASETS:
    raise ValueError(
      f'unknown data set {name!r}.{spelling.did_you_mean(name, DATASETS)} '
      f'Known are {list(DATASETS)}.'
    )
  bounds = None if limit is None else Limit(*limit)
  if bounds is not None and min(bounds) < 1:
    raise ValueError(f'limit={tuple(bounds)} must be positive numbers.')
  options: dict[str, Any] = {
    'image_size': image_size,
    'classes': tuple(classes),
  }
  if name in RESIZED:
    return DATASETS[name](data_dir, validation_size, bounds, **options)
  for option, value in options.items():
    if value:
      raise ValueError(
        f'{option}={value} is for {RESIZED} only: leave it out for {name!r}.'
      )
  return DATASETS[name](data_dir, validation_size, bounds)

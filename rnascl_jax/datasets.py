"""Images with labels, as uint8 in memory: the digits and CIFAR-10.

The splits are fixed, whatever the seed of a run. `batches` says in which order
a run visits the images, and how they are augmented on the device.

Example:
  >>> from rnascl_jax import datasets
  >>> digits = datasets.load('digits')
  >>> digits.image_shape, len(digits.train.labels), len(digits.test.labels)
  ((8, 8, 1), 1152, 517)
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tqdm

from rnascl_jax import batches

# TFDS decodes this many images at a call: few enough for a lively bar.
_READ_CHUNK = 500


class Split(NamedTuple):
  """Images and their labels, on the host.

  Attributes:
    images: [N, H, W, C], uint8.
    labels: [N], int32 in [0, K).
  """

  images: np.ndarray
  labels: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """A data set with its three splits.

  Attributes:
    name: its key in `DATASETS`.
    class_names: one name a class.
    train: what weights are trained on.
    validation: what chooses the best step; held out from the training images.
    test: what is reported.
    mean: per channel, of the training images in [0, 1].
    std: per channel, of the training images in [0, 1].
  """

  name: str
  class_names: tuple[str, ...]
  train: Split
  validation: Split
  test: Split
  mean: tuple[float, ...]
  std: tuple[float, ...]

  @property
  def num_classes(self) -> int:
    return len(self.class_names)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width and channels."""
    return self.train.images.shape[1:]


class Limit(NamedTuple):
  """At most this many images, for a run that only shows that it runs.

  Attributes:
    train: at least 1.
    test: at least 1; it bounds the validation split as well.
  """

  train: int
  test: int


def load(
  name: str,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  validation_size: int | None = None,
  limit: Sequence[int] | None = None,
) -> Dataset:
  """Loads a data set by its name.

  The splits are fixed: they depend on no seed, and are stratified by class.

  Args:
    name: a key of `DATASETS`.
    data_dir: where TFDS keeps its data; by default the environment variable
      TFDS_DATA_DIR, else ~/tensorflow_datasets. `digits` needs none.
    validation_size: how many training images are held out, 0 for none; by
      default 128 of `digits`, and 1000 of `cifar10` as Rice et al. held out.
    limit: the most images of (train, test), see `Limit`; by default all.

  Raises:
    ValueError: the name is unknown, or a number is out of its range.
    FileNotFoundError: TFDS has not prepared the data; the message says how to.
  """
  if name not in DATASETS:
    raise ValueError(f'unknown data set {name!r}; known are {list(DATASETS)}.')
  bounds = None if limit is None else Limit(*limit)
  if bounds is not None and min(bounds) < 1:
    raise ValueError(f'limit={tuple(bounds)} must be positive numbers.')
  return DATASETS[name](data_dir, validation_size, bounds)


def load_digits(
  data_dir: str | os.PathLike[str] | None = None,
  validation_size: int | None = None,
  limit: Limit | None = None,
) -> Dataset:
  """The 1797 handwritten 8x8 digits that come with scikit-learn, see `load`.

  517 images are for testing, 1280 for training and validation.

  Reference:
    Alpaydin and Kaynak, Optical recognition of handwritten digits, UCI Machine
    Learning Repository, 1998.
  """
  del data_dir  # The images are part of scikit-learn.
  from sklearn import datasets as sklearn_datasets

  digits = sklearn_datasets.load_digits()
  images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
  labels = digits.target.astype(np.int32)
  in_test = batches.stratified_holdout(labels, 517)
  return _assemble(
    Split(images[~in_test], labels[~in_test]),
    Split(images[in_test], labels[in_test]),
    validation_size=128 if validation_size is None else validation_size,
    limit=limit,
    name='digits',
    class_names=tuple(str(name) for name in digits.target_names),
    mean=(0.3052,),
    std=(0.3756,),
  )


def load_cifar10(
  data_dir: str | os.PathLike[str] | None = None,
  validation_size: int | None = None,
  limit: Limit | None = None,
) -> Dataset:
  """CIFAR-10 as prepared by TensorFlow Datasets, see `load`.

  Reading takes seconds and imports no TensorFlow.

  Reference:
    Krizhevsky, Learning multiple layers of features from tiny images, 2009.
  """
  size = 1000 if validation_size is None else validation_size
  train = _tfds_source('cifar10', 'train', data_dir)
  test = _tfds_source('cifar10', 'test', data_dir)
  num_train, num_test = len(train), len(test)
  if limit is not None:
    num_train = min(num_train, limit.train + min(size, limit.test))
    num_test = min(num_test, limit.test)
  return _assemble(
    _read(train, num_train, 'cifar10 train'),
    _read(test, num_test, 'cifar10 test'),
    validation_size=size,
    limit=limit,
    name='cifar10',
    class_names=tuple(train.dataset_info.features['label'].names),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2471, 0.2435, 0.2616),
  )


DATASETS = {'digits': load_digits, 'cifar10': load_cifar10}


def _assemble(
  pool: Split,
  test: Split,
  *,
  validation_size: int,
  limit: Limit | None,
  **fields: Any,
) -> Dataset:
  """Holds the validation split out of `pool`, after applying the limit."""
  if limit is not None:
    validation_size = min(validation_size, limit.test)
    pool = Split(*(x[: limit.train + validation_size] for x in pool))
    test = Split(*(x[: limit.test] for x in test))
  if not 0 <= validation_size < len(pool.labels):
    raise ValueError(
      f'validation_size={validation_size} must lie in '
      f'[0, {len(pool.labels) - 1}]: it is held out from the training images.'
    )
  held_out = batches.stratified_holdout(pool.labels, validation_size)
  return Dataset(
    train=Split(*(x[~held_out] for x in pool)),
    validation=Split(*(x[held_out] for x in pool)),
    test=test,
    **fields,
  )


def _tfds_source(
  name: str, split: str, data_dir: str | os.PathLike[str] | None
) -> Any:
  """A random-access source of a data set that TFDS has prepared."""
  import tensorflow_datasets as tfds

  directory = None if data_dir is None else os.fspath(data_dir)
  try:
    return tfds.data_source(
      name, split=split, data_dir=directory, download=False
    )
  except (
    NotImplementedError,
    tfds.core.DatasetNotFoundError,
    KeyError,  # A builder without splits: nothing was prepared.
  ) as error:
    place = '' if directory is None else f", data_dir='{directory}'"
    raise FileNotFoundError(
      f'{name} is not prepared as ArrayRecord in '
      f'{directory or tfds.core.constants.DATA_DIR}. Prepare it once by\n'
      f'  python -c "import tensorflow_datasets as tfds; tfds.builder('
      f"'{name}'{place}, file_format='array_record')"
      '.download_and_prepare()"\n'
      'in an environment that has TensorFlow (only preparing needs it), or '
      'name the place of a prepared copy: data_dir or TFDS_DATA_DIR.'
    ) from error


def _read(source: Any, count: int, description: str) -> Split:
  """Decodes the first `count` examples; about 8,000 CIFAR images a second."""
  shape = source.dataset_info.features['image'].shape
  images = np.empty((count, *shape), np.uint8)
  labels = np.empty(count, np.int32)
  # Shown on a terminal only, and only where it takes longer than 2 s.
  with tqdm.tqdm(total=count, desc=description, delay=2, disable=None) as bar:
    for start in range(0, count, _READ_CHUNK):
      indices = range(start, min(start + _READ_CHUNK, count))
      for index, example in zip(
        indices, source.__getitems__(list(indices)), strict=True
      ):
        images[index], labels[index] = example['image'], example['label']
      bar.update(len(indices))
  return Split(images, labels)

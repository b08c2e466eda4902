"""Images with labels: names of data sets, and what loads them.

`digits`, `cifar10` and `imagenet` are data sets of the paper and of the demo.
Others are named by a prefix and a place: `tfds:svhn_cropped`, `folder:/images`,
`npz:/images.npz`, `cifar:/cifar-100-python.tar.gz`. A loader of one's own has a
name too, see `register`.

The splits are fixed: they depend on no seed, and are stratified by class.

Example:
  >>> from rnascl_jax.data import datasets
  >>> digits = datasets.load('digits')
  >>> digits.image_shape, len(digits.train.labels), len(digits.test.labels)
  ((8, 8, 1), 1152, 517)
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

from rnascl_jax.data import (
  assembly,
  cifar10,
  cifar_archives,
  digits,
  folders,
  imagenet,
  npz_files,
  prepared_images,
)
from rnascl_jax.data.assembly import PixelStatistics
from rnascl_jax.data.classes import read_classes
from rnascl_jax.data.sources import Source
from rnascl_jax.data.splits import Dataset, Limit, Split
from rnascl_jax.data.stored_images import StoredImages
from rnascl_jax.runtime import spelling

__all__ = [
  'DATASETS',
  'OPTIONS',
  'READERS',
  'Dataset',
  'Limit',
  'PixelStatistics',
  'Source',
  'Split',
  'StoredImages',
  'is_known',
  'load',
  'names',
  'options',
  'read_classes',
  'register',
]

DATASETS = {
  'digits': digits.load,
  'cifar10': cifar10.load,
  'imagenet': imagenet.load,
}
# What reads a place, by the prefix of its name.
READERS: dict[str, Callable[..., Source]] = {
  'tfds': prepared_images.read,
  'folder': folders.read,
  'npz': npz_files.read,
  'cifar': cifar_archives.read,
}
_LOADERS: dict[str, Callable[[str], Source]] = {}
# What a reader is told beside the place and the name.
_READ = {
  'tfds': ('data_dir', 'image_size', 'train_split', 'test_split'),
  'folder': ('image_size',),
}
# Fields of `config.data` that only some data sets have.
_OF_IMAGENET = ('image_size', 'classes', 'min_crop', 'workers')
_OF_SOURCES = (*_OF_IMAGENET, 'test_share', 'memory_limit')
OPTIONS = (*_OF_SOURCES, 'train_split', 'test_split')


def register(name: str, loader: Callable[[str], Source]) -> None:
  """Gives a loader a name, which `config.data.name` may then have.

  A config file can call this, for every command executes it. The same name
  may be registered again.

  Args:
    name: a word; what follows it after a colon is given to the loader.
    loader: text after the colon, '' without one -> `Source`.

  Raises:
    ValueError: the name is no word, or is that of another data set.

  Example:
    >>> import numpy as np
    >>> from rnascl_jax.data import datasets
    >>> def stripes(side):
    ...   images = np.zeros((60, int(side), int(side)), np.uint8)
    ...   images[::2, ::2, :] = images[1::2, :, ::2] = 255
    ...   return datasets.Source(
    ...     (images, np.arange(60) % 2), class_names=('rows', 'columns')
    ...   )
    >>> datasets.register('stripes', stripes)
    >>> data = datasets.load('stripes:16')
    >>> data.image_shape, len(data.train.labels), len(data.test.labels)
    ((16, 16, 1), 44, 12)
  """
  if not name.isidentifier() or name in DATASETS or name in READERS:
    raise ValueError(
      f'a loader cannot be registered as {name!r}: choose a word other than '
      f'{", ".join((*DATASETS, *READERS))}.'
    )
  _LOADERS[name] = loader


def names() -> tuple[str, ...]:
  """Names of data sets, and prefixes of names with their colon."""
  return (*DATASETS, *(f'{prefix}:' for prefix in READERS), *_LOADERS)


def is_known(name: str) -> bool:
  """Whether a name is of a data set; what it names may still not be there."""
  prefix, _, _ = name.partition(':')
  return name in DATASETS or prefix in READERS or prefix in _LOADERS


def options(name: str) -> tuple[str, ...]:
  """Fields of `config.data` that only some data sets have, and this one has."""
  prefix, _, _ = name.partition(':')
  if prefix in DATASETS:
    return _OF_IMAGENET if prefix == 'imagenet' else ()
  if prefix == 'tfds':
    return OPTIONS
  return _OF_SOURCES


def load(
  name: str,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  validation_size: int | None = None,
  limit: Sequence[int] | None = None,
  image_size: int = 0,
  classes: Sequence[str] = (),
  train_split: str = '',
  test_split: str = '',
  test_share: float = 0.2,
  min_crop: float = 0.0,
  memory_limit: int = 2**31,
  statistics: PixelStatistics | None = None,
) -> Dataset:
  """Loads a data set by its name.

  Args:
    name: a key of `DATASETS`; a key of `READERS`, a colon and a place; or a
      name that was registered.
    data_dir: where TFDS keeps its data; by default the environment variable
      TFDS_DATA_DIR, else ~/tensorflow_datasets. `digits` needs none.
    validation_size: how many training images are held out, 0 for none; by
      default 128 of `digits`, 1000 of `cifar10` as Rice et al. held out, 10 of
      each class of `imagenet`, and of others a tenth, 1000 at most. Where there
      are validation images, the most that are used.
    limit: the most images of (train, test), see `Limit`; by default all.
    image_size: side in pixels to which images are resized, of all but `digits`
      and `cifar10`; 0 means 224 of `imagenet`, and of others their own where
      they have one, else 32.
    classes: names of some classes (synsets of `imagenet`), in the order of
      their labels; by default all.
    train_split: of `tfds:`, splits to train on, such as 'train+extra'; empty
      for 'train'.
    test_split: of `tfds:`, splits to test on; empty for 'test', else
      'validation', else images that are held out.
    test_share: share of the images that is held out for testing where there
      are no test images, in (0, 1).
    min_crop: least area of random-resized crops, 0 for none: images they are
      made of are not kept decoded.
    memory_limit: bytes up to which the decoded images of a split are kept in
      memory; not of `digits`, `cifar10` and `imagenet`.
    statistics: mean and deviation of the training images, if they are known;
      else all images are read for them.

  Raises:
    ValueError: the name is unknown, a number is out of its range, or the data
      are not what they must be; the message says what to do.
    FileNotFoundError: the data are not there; the message says how to get them.
    DamagedFileError: a file is damaged; the message has its path.
  """
  _check_name(name)
  bounds = None if limit is None else Limit(*limit)
  if bounds is not None and min(bounds) < 1:
    raise ValueError(f'limit={tuple(bounds)} must be positive numbers.')
  resized: dict[str, Any] = {
    'image_size': image_size,
    'classes': tuple(classes),
  }
  if name == 'imagenet':
    return imagenet.load(data_dir, validation_size, bounds, **resized)
  if name in DATASETS:
    for option, value in resized.items():
      if value:
        raise ValueError(
          f'{option}={value} is not for {name!r}, whose images have one size '
          'and all its classes: leave it out.'
        )
    return DATASETS[name](data_dir, validation_size, bounds)
  source = read(
    name,
    data_dir=data_dir,
    image_size=image_size,
    train_split=train_split,
    test_split=test_split,
  )
  return assembly.assemble(
    source,
    name=name,
    validation_size=validation_size,
    test_share=test_share,
    limit=bounds,
    min_crop=min_crop,
    memory_limit=memory_limit,
    statistics=statistics,
    **resized,
  )


def read(
  name: str,
  *,
  field: str = 'name',
  data_dir: str | os.PathLike[str] | None = None,
  image_size: int = 0,
  train_split: str = '',
  test_split: str = '',
) -> Source:
  """Reads the images of a place, as they are there; raises as `load` does.

  Args:
    name: a key of `READERS`, a colon and a place; or one that was registered.
    field: of `config.data` that has the name, for messages.
    data_dir: as of `load`, as are the others.
    image_size: see there.
    train_split: see there.
    test_split: see there.
  """
  _check_name(name)
  prefix, _, place = name.partition(':')
  if prefix in _LOADERS:
    source = _LOADERS[prefix](place)
    if not isinstance(source, Source):
      raise ValueError(
        f'the loader of {prefix!r} gave a {type(source).__name__}, and must '
        'give a datasets.Source.'
      )
    return source
  told: dict[str, Any] = {
    'data_dir': data_dir,
    'image_size': image_size,
    'train_split': train_split,
    'test_split': test_split,
  }
  asked = {key: told[key] for key in _READ.get(prefix, ())}
  try:
    return READERS[prefix](place, name=name, **asked)
  except PermissionError as error:
    raise ValueError(
      f'config.data.{field}={name!r}: {error.filename} cannot be read '
      f'({error.strerror}): give yourself the right to.'
    ) from error
  except FileNotFoundError as error:
    # A reader knows the name only.
    text = str(error).replace('config.data.name', f'config.data.{field}')
    raise FileNotFoundError(text) from error


def _check_name(name: str) -> None:
  if not is_known(name):
    prefix, colon, _ = name.partition(':')
    hint = spelling.did_you_mean(prefix + colon, names())
    raise ValueError(
      f'unknown data set {name!r}.{hint} Known are {list(names())}.'
    )

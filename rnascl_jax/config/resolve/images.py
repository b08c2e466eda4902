"""The images of a config."""

import functools
from collections.abc import Callable

import numpy as np

from rnascl_jax.config import settings
from rnascl_jax.config.resolve.names import pick
from rnascl_jax.data import batches, datasets, extra_images, mixing
from rnascl_jax.data.datasets import Dataset
from rnascl_jax.training import (
  train_state,
)


def dataset(
  spec: settings.Data, statistics: datasets.PixelStatistics | None = None
) -> Dataset:
  """The data set; one whose images never change is read once in a process.

  Args:
    spec: its settings.
    statistics: that of the training images, if it is known.
  """
  if spec.name in datasets.DATASETS and not spec.extra:
    return _fixed_dataset(spec)
  return _read_dataset(spec, statistics)


@functools.lru_cache(maxsize=2)
def _fixed_dataset(spec: settings.Data) -> Dataset:
  return _read_dataset(spec)


def _read_dataset(
  spec: settings.Data, statistics: datasets.PixelStatistics | None = None
) -> Dataset:
  if not datasets.is_known(spec.name):
    prefix, colon, _ = spec.name.partition(':')
    pick(dict.fromkeys(datasets.names()), prefix + colon, 'data.name')
  limit = None
  if spec.max_train or spec.max_test:
    most = 10**9  # More images than any data set has.
    limit = datasets.Limit(spec.max_train or most, spec.max_test or most)
  data = datasets.load(
    spec.name,
    data_dir=spec.data_dir or None,
    validation_size=None if spec.validation_size < 0 else spec.validation_size,
    limit=limit,
    image_size=spec.image_size,
    classes=spec.classes,
    train_split=spec.train_split,
    test_split=spec.test_split,
    test_share=spec.test_share,
    min_crop=spec.min_crop,
    memory_limit=2**20 * spec.memory_limit,
    statistics=statistics,
  )
  if not spec.extra:
    return data
  return extra_images.add(
    data,
    spec.extra,
    data_dir=spec.data_dir or None,
    memory_limit=2**20 * spec.memory_limit,
  )


def batch_order(
  spec: settings.Data, data: Dataset, seed: int, batch_size: int
) -> Callable[[int], np.ndarray]:
  """Epoch -> indices [steps, batch_size] of `data.training`."""
  size = len(data.train.labels)
  if data.extra is None:
    return lambda epoch: batches.batch_order(seed, epoch, size, batch_size)
  return functools.partial(
    batches.order_with_extra,
    seed,
    num_examples=size,
    batch_size=batch_size,
    num_extra=len(data.extra.labels),
    of_extra=round(spec.extra_share * batch_size),
  )


def mixture(
  spec: settings.Optimization, num_classes: int
) -> mixing.Mixing | None:
  """How images are mixed on a device, if they are."""
  if not spec.mixes:
    return None
  return mixing.Mixing(
    num_classes, spec.mixup, spec.cutmix, spec.mix_probability
  )


def augmentation(spec: settings.Data) -> train_state.Augment:
  """Random crop, flip and erasing of one image, on a device.

  Random-resized crops were made before images came there: padding is 0 then.
  """
  return functools.partial(
    batches.augment,
    padding=spec.padding,
    flip=spec.flip,
    erasing=spec.erasing,
  )

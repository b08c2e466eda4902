"""ImageNet, or some classes of it, as prepared by TensorFlow Datasets.

Images stay on disk as JPEG files, see `stored_images`. The test split is
ImageNet's validation split, whose labels are public; the validation split is
held out from the training images.
"""

import os
from collections.abc import Sequence

import numpy as np

from rnascl_jax.data import classes as class_subset
from rnascl_jax.data import labels, prepared, splits
from rnascl_jax.data.stored_images import StoredImages
from rnascl_jax.runtime import extras

_IMAGE_SIZE = 224
# Held out of each class where the number of images is not given.
_HELD_OUT = 10
_BY_HAND = (
  'Its images are behind a login: put ILSVRC2012_img_train.tar and '
  'ILSVRC2012_img_val.tar of https://image-net.org/download-images into '
  'downloads/manual there first. '
)


def load(
  data_dir: str | os.PathLike[str] | None = None,
  validation_size: int | None = None,
  limit: splits.Limit | None = None,
  *,
  image_size: int = 0,
  classes: Sequence[str] = (),
) -> splits.Dataset:
  """ImageNet (ILSVRC 2012), see `datasets.load`.

  1,281,167 images of 1000 classes for training and validation, 50,000 for
  testing. The first time, labels are read from all files, see `labels`.

  Reference:
    Russakovsky et al., ImageNet large scale visual recognition challenge, 2015.
  """
  size = image_size or _IMAGE_SIZE
  train, test = (_source(split, data_dir) for split in ('train', 'validation'))
  all_names = tuple(train.dataset_info.features['label'].names)
  subset = class_subset.indices(classes, all_names) if classes else ()
  names = tuple(classes) or all_names
  if validation_size is None:
    validation_size = _HELD_OUT * len(names)
  pool_size = test_size = None
  if limit is not None:
    pool_size = limit.train + min(validation_size, limit.test)
    test_size = limit.test
  return splits.assemble(
    _split(train, size, subset, len(all_names), pool_size),
    _split(test, size, subset, len(all_names), test_size),
    validation_size=validation_size,
    limit=limit,
    name='imagenet',
    class_names=names,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    subset=subset,
    full_classes=len(all_names) if subset else 0,
    resized=True,
  )


def _source(
  split: str, data_dir: str | os.PathLike[str] | None
) -> prepared.PreparedSplit:
  """Examples with encoded images."""
  extras.require('tensorflow_datasets', 'reading ImageNet')
  import tensorflow_datasets as tfds

  return prepared.source(
    'imagenet2012',
    split,
    data_dir,
    first=_BY_HAND,
    decoders={'image': tfds.decode.SkipDecoding()},
  )


def _split(
  source: prepared.PreparedSplit,
  size: int,
  subset: Sequence[int],
  full_classes: int,
  most: int | None,
) -> splits.Split:
  """The images of some classes, at least the first `most` of them."""

  def relabelled(read: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return class_subset.relabelled(read, subset, full_classes)

  def enough(read: np.ndarray) -> bool:
    return most is not None and len(relabelled(read)[0]) >= most

  records, new = relabelled(labels.read(source, enough))
  images = StoredImages(
    source,
    records,
    size,
    name=f'{source.dataset_info.full_name} {source.split}',
    version=prepared.fingerprint(source),
  )
  return splits.Split(images, new)

"""A data set with its three splits, and how images are held out.

Example:
  >>> import numpy as np
  >>> from rnascl_jax.data import splits
  >>> def images(count):
  ...   labels = np.arange(count, dtype=np.int32) % 2
  ...   return splits.Split(np.zeros((count, 8, 8, 1), np.uint8), labels)
  >>> data = splits.assemble(
  ...   images(20), images(5), validation_size=4, limit=None, name='even',
  ...   class_names=('even', 'odd'), mean=(0.5,), std=(0.5,),
  ... )
  >>> len(data.train.labels), len(data.validation.labels), data.num_classes
  (16, 4, 2)
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from rnascl_jax.data import batches
from rnascl_jax.data.stored_images import StoredImages


class Split(NamedTuple):
  """Images and their labels, on the host.

  Attributes:
    images: [N, H, W, C], uint8: an array in memory, or `StoredImages`, which
      are decoded when they are indexed.
    labels: [N], int32 in [0, K).
  """

  images: Any
  labels: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """A data set with its three splits.

  Attributes:
    name: as `datasets.load` knows it.
    class_names: one name a class.
    train: what weights are trained on.
    validation: what chooses the best step; held out from the training images.
    test: what is reported.
    mean: per channel, of the training images in [0, 1].
    std: per channel, of the training images in [0, 1].
    subset: of a data set of some classes only, the index of each of them among
      all classes; empty for all.
    full_classes: of a data set of some classes only, how many there are in all;
      0 if it has all.
    resized: whether images of other sizes were cut and resized to this one, of
      which random crops can be made.
    fingerprint: tells the images and labels of a source from others, where the
      mean and the deviation were computed from them; else empty. With extra
      images it is theirs too.
    extra: further training images, see `extra_images`; None for none.
  """

  name: str
  class_names: tuple[str, ...]
  train: Split
  validation: Split
  test: Split
  mean: tuple[float, ...]
  std: tuple[float, ...]
  subset: tuple[int, ...] = ()
  full_classes: int = 0
  resized: bool = False
  fingerprint: str = ''
  extra: Split | None = None

  @functools.cached_property
  def training(self) -> Split:
    """What batches are made of: the training images, then the extra ones."""
    if self.extra is None:
      return self.train
    images, labels = zip(self.train, self.extra, strict=True)
    return Split(np.concatenate(images), np.concatenate(labels))

  @property
  def num_classes(self) -> int:
    return len(self.class_names)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width and channels."""
    _, height, width, channels = self.train.images.shape
    return height, width, channels


class Limit(NamedTuple):
  """At most this many images, for a run that only shows that it runs.

  Attributes:
    train: at least 1.
    test: at least 1; it bounds the validation split as well.
  """

  train: int
  test: int


def assemble(
  pool: Split,
  test: Split,
  *,
  validation_size: int,
  limit: Limit | None,
  **fields: Any,
) -> Dataset:
  """Holds the validation split out of `pool`, after applying the limit.

  Args:
    pool: images for training and validation.
    test: images for testing.
    validation_size: how many are held out, stratified by class.
    limit: the most images of a split, or None.
    **fields: the other fields of the data set.

  Raises:
    ValueError: no image would be left to train on.
  """
  if limit is not None:
    if validation_size > limit.test:
      logging.warning(
        'validation_size=%d is cut to %d images, the most for testing '
        '(max_test).',
        validation_size,
        limit.test,
      )
    validation_size = min(validation_size, limit.test)
    pool = rows_of(pool, slice(limit.train + validation_size))
    test = rows_of(test, slice(limit.test))
  if not 0 <= validation_size < len(pool.labels):
    raise ValueError(
      f'validation_size={validation_size} must lie in '
      f'[0, {len(pool.labels) - 1}]: it is held out from the training images.'
    )
  held_out = batches.stratified_holdout(pool.labels, validation_size)
  return Dataset(
    train=rows_of(pool, np.flatnonzero(~held_out)),
    validation=rows_of(pool, np.flatnonzero(held_out)),
    test=test,
    **fields,
  )


def rows_of(split: Split, rows: slice | np.ndarray) -> Split:
  """Some images of a split; those on disk stay there."""
  if isinstance(split.images, StoredImages):
    return Split(split.images.select(rows), split.labels[rows])
  return Split(split.images[rows], split.labels[rows])

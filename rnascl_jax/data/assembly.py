"""From the images of any source to a data set: checked, split and normalised.

Nothing of a split depends on the seed of a run: what is held out is chosen by
class and is the same always, and so is the order of validation and test images,
which is not that of the classes.

Example:
  >>> import numpy as np
  >>> from rnascl_jax.data import assembly, sources
  >>> images = np.zeros((40, 6, 8), np.uint8)
  >>> source = sources.Source(
  ...   (images, np.arange(40) % 2), class_names=('even', 'odd')
  ... )
  >>> data = assembly.assemble(source, name='numbers')
  >>> [len(s.labels) for s in (data.train, data.validation, data.test)]
  [29, 3, 8]
  >>> data.image_shape, data.mean, data.std
  ((6, 8, 1), (0.0,), (1.0,))
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tqdm
from absl import logging

from rnascl_jax.data import batches, sources, splits
from rnascl_jax.data import classes as class_subset
from rnascl_jax.data.sources import Source
from rnascl_jax.data.splits import Dataset, Limit, Split
from rnascl_jax.data.stored_images import Pixels, StoredImages
from rnascl_jax.runtime import fingerprints

# Validation images that are held out where no number is given, at most.
_HELD_OUT = 1000
# Images that are decoded at a call.
_CHUNK = 500


class PixelStatistics(NamedTuple):
  """Mean and standard deviation of each channel, of pixels in [0, 1]."""

  mean: tuple[float, ...]
  std: tuple[float, ...]


def assemble(
  source: Source,
  *,
  name: str,
  validation_size: int | None = None,
  test_share: float = 0.2,
  limit: Limit | None = None,
  image_size: int = 0,
  classes: Sequence[str] = (),
  min_crop: float = 0.0,
  memory_limit: int = 2**31,
  statistics: PixelStatistics | None = None,
) -> Dataset:
  """Makes a data set of a source; arguments as of `datasets.load`.

  Args:
    source: what a loader gave.
    name: of the data set.
    validation_size: the most validation images, held out of the training images
      where the source has none of its own; None for a tenth of the training
      images, 1000 at most.
    test_share: share of the training images that is held out for testing where
      the source has no test images, in (0, 1).
    limit: the most images of (train, test), chosen by class.
    image_size: side to which images are resized; 0 leaves images as they are.
    classes: names of some classes, in the order of their labels.
    min_crop: least area of random crops; images that these are made of are not
      kept decoded.
    memory_limit: bytes up to which a split is kept in memory, decoded.
    statistics: that of the training images, where it is known.

  Raises:
    ValueError: something does not fit; the message says what, and what to do.
    DamagedFileError: an image cannot be read.
  """
  names, parts = sources.checked_parts(source, name)
  fingerprint = source.fingerprint or _fingerprint(names, parts)
  subset = class_subset.indices(classes, names) if classes else ()
  parts = {which: _of(part, subset, names) for which, part in parts.items()}
  train, validation, test = _split(
    parts, tuple(classes) or names, name, validation_size, test_share
  )
  if limit is not None:
    train, test = _some(train, limit.train), _some(test, limit.test)
    validation = _some(validation, limit.test)
  resized = [_resized(p, image_size, name) for p in (train, validation, test)]
  for part in resized[1:]:
    _check_shape(part.images, resized[0].images, name)
  return _finished(
    resized,
    min_crop,
    memory_limit,
    statistics,
    name=name,
    class_names=tuple(classes) or names,
    subset=subset,
    full_classes=len(names) if subset else 0,
    fingerprint=fingerprint,
  )


def _of(part: Split, subset: Sequence[int], names: Sequence[str]) -> Split:
  """The images of some classes, or of all if none is named."""
  if not subset:
    return part
  rows, labels = class_subset.relabelled(part.labels, subset, len(names))
  return Split(splits.rows_of(part, rows).images, labels)


def _split(
  parts: Mapping[str, Split],
  names: Sequence[str],
  name: str,
  validation_size: int | None,
  test_share: float,
) -> tuple[Split, Split, Split]:
  """Training, validation and test images, the latter two in mixed order."""
  train = parts['training']
  if 'test' in parts:
    test = parts['test']
  else:
    train, test = _held_out(train, round(test_share * len(train.labels)))
    _check_held_out(train, test, names, name, test_share)
  if 'validation' in parts:
    validation = parts['validation']
    if validation_size is not None:
      validation = _some(validation, validation_size)
  else:
    most = len(train.labels) - 1
    size = min(_HELD_OUT, len(train.labels) // 10)
    size = size if validation_size is None else validation_size
    if not 0 <= size <= most:
      raise ValueError(
        f'config.data.validation_size={size} must lie in [0, {most}]: it is '
        f'held out from the training images of {name}. -1 holds a tenth of '
        'them out.'
      )
    train, validation = _held_out(train, size)
    sources.check_classes(train.labels, names, f'{name}: the training images')
  return train, _mixed(validation), _mixed(test)


def _mixed(split: Split) -> Split:
  return splits.rows_of(split, batches.fixed_order(len(split.labels)))


def _finished(
  parts: Sequence[Split],
  min_crop: float,
  memory_limit: int,
  known: PixelStatistics | None,
  **fields: Any,
) -> Dataset:
  """Puts into memory what fits there, and measures the training images."""
  name = fields['name']
  train, validation, test = parts
  resized = isinstance(train.images, StoredImages) and train.images.resized
  train = placed(train, 0 if resized and min_crop else memory_limit)
  validation, test = (placed(p, memory_limit) for p in (validation, test))
  measured = known or measure(train.images, name)
  for part in (validation, test):
    # What cannot be decoded is found now, and not after hours of training.
    if known is None and isinstance(part.images, StoredImages):
      for _ in _chunks(part.images, f'{name}: checking images'):
        pass
  data = Dataset(
    train=train,
    validation=validation,
    test=test,
    resized=resized,
    **measured._asdict(),
    **fields,
  )
  height, width, channels = data.image_shape
  logging.info(
    '%s: %d training, %d validation and %d test images of %d x %d pixels and '
    '%d channel(s), %d classes; training images are %s.',
    *(name, *(len(part.labels) for part in (train, validation, test))),
    *(width, height, channels, data.num_classes),
    'streamed' if isinstance(train.images, StoredImages) else 'in memory',
  )
  return data


def measure(images: Any, name: str = 'images') -> PixelStatistics:
  """Mean and standard deviation of each channel, the nearest floats to them.

  Sums are of integers, so that no order and no machine changes them. A channel
  that is the same everywhere has a deviation of 1.

  Args:
    images: [N, H, W, C], uint8, in memory or stored.
    name: for the progress bar.
  """
  channels = images.shape[-1]
  totals = np.zeros((channels, 256), np.int64)
  for chunk in _chunks(images, f'{name}: mean'):
    for channel, counts in enumerate(totals):
      counts += np.bincount(chunk[..., channel].reshape(-1), minlength=256)
  values = np.arange(256)
  count = math.prod(images.shape[:-1])
  mean, std = [], []
  for counts in totals:
    total, square = int(counts @ values), int(counts @ values**2)
    mean.append(total / (255 * count))
    variance = (count * square - total**2) / (255 * count) ** 2
    std.append(math.sqrt(variance) or 1.0)
  return PixelStatistics(tuple(mean), tuple(std))


def _check_shape(images: Any, train: Any, name: str) -> None:
  if images.shape[1:] != train.shape[1:]:
    raise ValueError(
      f'{name}: validation or test images have the shape {images.shape[1:]}, '
      f'and training images {train.shape[1:]}: set config.data.image_size to '
      'resize them all, and let all have as many channels.'
    )


def _check_held_out(
  train: Split, test: Split, names: Sequence[str], name: str, share: float
) -> None:
  """Raises unless every class has images for training and for testing."""
  kept, held = (
    np.bincount(part.labels, minlength=len(names)) for part in (train, test)
  )
  few = np.flatnonzero(np.minimum(kept, held) == 0)
  if few.size:
    label = int(few[0])
    where = 'testing' if not held[label] else 'training'
    raise ValueError(
      f'{name}: class {names[label]!r} has {kept[label] + held[label]} images, '
      f'of which none is left for {where} with config.data.test_share={share}: '
      'add images, leave the class out, or change the share.'
    )


def _held_out(split: Split, size: int) -> tuple[Split, Split]:
  """What is left, and what is held out of it by class."""
  held = batches.stratified_holdout(split.labels, size)
  left, out = (np.flatnonzero(mask) for mask in (~held, held))
  return splits.rows_of(split, left), splits.rows_of(split, out)


def _some(split: Split, size: int) -> Split:
  """So many images at most, by class, in their order."""
  return _held_out(split, min(size, len(split.labels)))[1]


def _resized(split: Split, image_size: int, name: str) -> Split:
  """Resizes images in memory when they are used; those on disk know it."""
  images = split.images
  if isinstance(images, StoredImages):
    return split
  side = sources.size_of(images.shape[1:3], image_size, name)
  if not isinstance(side, int):
    return split
  return Split(_stored(images, side, name), split.labels)


def _stored(
  images: np.ndarray, side: int | tuple[int, int], name: str
) -> StoredImages:
  return StoredImages(
    Pixels(images),
    np.arange(len(images)),
    side,
    name=name,
    version=fingerprints.digest(images),
    channels=images.shape[-1],
  )


def placed(split: Split, memory_limit: int) -> Split:
  """The split in memory if it fits there, else stored."""
  images = split.images
  fits = images.nbytes <= memory_limit
  if isinstance(images, StoredImages) and fits:
    decoded = np.empty(images.shape, np.uint8)
    done = 0
    for chunk in _chunks(images, f'{images.name}: images'):
      decoded[done : done + len(chunk)] = chunk
      done += len(chunk)
    images = decoded
  elif not isinstance(images, StoredImages) and not fits:
    images = _stored(images, images.shape[1:3], 'images in memory')
  return Split(images, split.labels)


def _chunks(images: Any, description: str) -> Iterator[np.ndarray]:
  """All images in order, decoded, with progress on a terminal if it is slow."""
  stored = isinstance(images, StoredImages)
  with tqdm.tqdm(
    total=len(images), desc=description, delay=2, disable=None
  ) as bar:
    for start in range(0, len(images), _CHUNK):
      rows = np.arange(start, min(start + _CHUNK, len(images)))
      yield images[rows] if stored else images[rows[0] : rows[-1] + 1]
      bar.update(len(rows))


def _fingerprint(names: Sequence[str], parts: Mapping[str, Split]) -> str:
  """A hash of the names and of all arrays."""
  content = [
    part.images.fingerprint()
    if isinstance(part.images, StoredImages)
    else fingerprints.digest(part.images)
    for part in parts.values()
  ]
  labels = [fingerprints.digest(part.labels) for part in parts.values()]
  return fingerprints.short([*names, *content, *labels])

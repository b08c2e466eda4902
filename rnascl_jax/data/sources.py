"""What a loader gives: images and labels of a source, and checks of them."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from rnascl_jax.data.splits import Split
from rnascl_jax.data.stored_images import StoredImages
from rnascl_jax.runtime import paths

# Side in pixels of images that differ in size, where none is asked for.
_SIDE = 32
# The longest side of images that are taken as they are.
_LARGEST = 512


class Source(NamedTuple):
  """Images and labels as a loader gives them.

  Attributes:
    train: images and labels: a `Split`, or a pair of arrays, uint8 [N, H, W, C]
      or [N, H, W] with 1 or 3 channels, and integers [N] in [0, K).
    test: the same for testing; None to hold them out of the training images.
    validation: the same to choose checkpoints by; None to hold them out.
    class_names: one name a class; empty for '0', '1', ....
    fingerprint: tells these images from others; empty to compute it from the
      arrays.
  """

  train: Any
  test: Any = None
  validation: Any = None
  class_names: tuple[str, ...] = ()
  fingerprint: str = ''


def locate(
  place: str, name: str, remedy: str, *, is_folder: bool = False
) -> pathlib.Path:
  """The path of a file or folder that the name of a data set has.

  Args:
    place: the path, as the name has it.
    name: of the data set.
    remedy: what the user is to do where there is none; the message ends so.
    is_folder: whether it is to be a folder.

  Raises:
    FileNotFoundError: there is no such file or folder.
  """
  path = paths.local(place, 'the path in config.data.name')
  if path.is_dir() != is_folder or not path.exists():
    kind = 'is a file' if is_folder else 'is a folder'
    kind = kind if path.exists() else 'does not exist'
    raise FileNotFoundError(f'config.data.name={name!r}: {path} {kind}{remedy}')
  return path


def size_of(
  own: tuple[int, int] | None, image_size: int, name: str
) -> int | tuple[int, int]:
  """The size of decoded images, as `StoredImages` takes it.

  Args:
    own: height and width of all images; None if they differ.
    image_size: the side that is asked for; 0 for none.
    name: of the data set.

  Returns:
    The side to which images are resized, or height and width of all of them.
  """
  if own is not None and own == (image_size, image_size):
    return own
  if image_size:
    return image_size
  if own is None:
    logging.warning(
      '%s: the images differ in size, and are resized to %d x %d pixels; '
      'config.data.image_size says another side.',
      *(name, _SIDE, _SIDE),
    )
    return _SIDE
  if max(own) > _LARGEST:
    raise ValueError(
      f'{name}: the images have {own[1]} x {own[0]} pixels, more than '
      f'{_LARGEST}: set config.data.image_size to the side to which they are '
      f'to be resized, such as {_SIDE}.'
    )
  return own


def checked_parts(
  source: Source, name: str
) -> tuple[tuple[str, ...], dict[str, Split]]:
  """Names of classes, and images and labels by what they are for."""
  parts = {
    which: checked(pair, f'{name}: the {which} images')
    for which, pair in (
      ('training', source.train),
      ('test', source.test),
      ('validation', source.validation),
    )
    if pair is not None or which == 'training'
  }
  most = int(parts['training'].labels.max()) + 1
  names = tuple(source.class_names) or tuple(map(str, range(most)))
  if len(names) < 2:
    raise ValueError(f'{name} has {len(names)} class, {names}: two are needed.')
  twice = [word for word in names if names.count(word) > 1]
  if twice:
    raise ValueError(
      f'{name}: two classes are called {twice[0]!r}: name each once.'
    )
  for which, part in parts.items():
    _check_labels(part.labels, names, f'{name}: the {which} images')
  return names, parts


def checked(pair: Any, what: str) -> Split:
  """Images [N, H, W, C] and labels [N] int32; raises for other arrays."""
  try:
    images, labels = pair
  except (TypeError, ValueError):
    raise ValueError(f'{what} must be a pair (images, labels).') from None
  labels = np.asarray(labels)
  if not isinstance(images, StoredImages):
    images = _channels_last(np.asarray(images), what)
  if labels.ndim == 2 and labels.shape[1] == 1:
    labels = labels[:, 0]
  if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(
      f'{what} have labels of type {labels.dtype} and shape {labels.shape}; '
      'they must be one integer an image, the number of its class from 0 on.'
    )
  if len(images) != len(labels):
    raise ValueError(
      f'{what} are {len(images)}, and their labels {len(labels)}: there must '
      'be one label for each image.'
    )
  if not len(labels):
    raise ValueError(f'{what} are none at all: at least one is needed.')
  # A label that does not fit in 32 bits is out of range, whatever it becomes.
  return Split(images, np.clip(labels, -1, 2**31 - 1).astype(np.int32))


def _channels_last(images: np.ndarray, what: str) -> np.ndarray:
  if images.dtype != np.uint8:
    remedy = 'round(255 * images)' if images.dtype.kind == 'f' else 'images'
    raise ValueError(
      f'{what} are {images.dtype}, and must be uint8 in 0..255: save '
      f'{remedy} as uint8.'
    )
  if images.ndim == 3:
    images = images[..., None]
  if images.ndim != 4 or not images.size or images.shape[3] not in (1, 3):
    hint = 'leave other channels out'
    if images.ndim == 4 and images.shape[1] in (1, 3):
      hint = 'these look like [N, C, H, W]: transpose them by (0, 2, 3, 1)'
    elif images.ndim == 4 and images.shape[3] == 4:
      hint = 'leave the alpha channel out: images[..., :3]'
    raise ValueError(
      f'{what} have the shape {images.shape}, and must be [N, H, W], or '
      f'[N, H, W, C] with 1 or 3 channels: {hint}.'
    )
  return images


def _check_labels(labels: np.ndarray, names: Sequence[str], what: str) -> None:
  low, high = int(labels.min()), int(labels.max())
  if low < 0 or high >= len(names):
    raise ValueError(
      f'{what} have labels from {low} to {high}, and must have labels from 0 '
      f'to {len(names) - 1} for {len(names)} classes.'
    )
  check_classes(labels, names, what)


def check_classes(labels: np.ndarray, names: Sequence[str], what: str) -> None:
  """Raises unless every class has an image."""
  counts = np.bincount(labels, minlength=len(names))
  missing = [names[int(label)] for label in np.flatnonzero(counts == 0)]
  if missing:
    hint = ''
    if names[0] == missing[0] == '0' and len(missing) == 1:
      hint = ', or subtract 1 from labels that begin with 1'
    raise ValueError(
      f'{what} have none of class {missing[0]!r} ({len(missing)} of '
      f'{len(names)} classes are missing): add some, or leave the class '
      f'out{hint}.'
    )

"""Images on disk that look like an array in memory.

Encoded images of any size are decoded when they are indexed, as those of a
test are; `decode` makes other images of them, such as random crops.

Example:
  >>> import io
  >>> import numpy as np
  >>> from PIL import Image
  >>> from rnascl_jax.data.datasets import StoredImages
  >>> file = io.BytesIO()
  >>> Image.new('RGB', (40, 30), 'red').save(file, 'JPEG')
  >>> class Red:
  ...   def __getitems__(self, records):
  ...     return [{'image': file.getvalue()} for _ in records]
  >>> images = StoredImages(Red(), np.arange(5), 16, name='red')
  >>> images.shape, images[1:3].shape, images[np.array([4, 0])].shape
  ((5, 16, 16, 3), (2, 16, 16, 3), (2, 16, 16, 3))
"""

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from rnascl_jax.data import images as pixels
from rnascl_jax.runtime import files

# Encoded images that are read at a call; about 115 kB each.
_READ = 256


class Pixels:
  """A source of images that are in the memory of the host.

  It stays in the process that has it.
  """

  def __init__(self, images: np.ndarray):
    """Takes images uint8 [N, H, W, C]."""
    self._images = images

  def __getitems__(self, records: Sequence[int]) -> list[dict[str, Any]]:
    return [{'image': self._images[record]} for record in records]


class StoredImages:
  """Encoded images that look like an array [N, H, W, C] of uint8.

  A slice is of this class; integers, an array of them, and a boolean mask give
  decoded images in memory, as `images.evaluation_image` makes them, or, of
  images that are not resized, as they are.

  Attributes:
    shape: (N, H, W, C).
    dtype: uint8.
    name: of the data set and its split, for messages.
    resized: whether images of any size are cut and resized to this shape.
  """

  dtype = np.dtype(np.uint8)
  ndim = 4

  def __init__(
    self,
    source: Any,
    records: np.ndarray,
    side: int | tuple[int, int],
    *,
    name: str,
    version: str = '',
    channels: int = 3,
  ):
    """Reads nothing yet.

    Args:
      source: `source.__getitems__(list of ints)` are dictionaries with 'image',
        the encoded image or its pixels, and maybe 'file_name', or 'path' where
        each image is a file. It can be pickled, if it is not `Pixels`, and used
        by many threads.
      records: [N], integers: the images' places in the source.
      side: of the decoded images in pixels, at least 1; or height and width of
        all images, which are then not resized.
      name: of the data set and its split.
      version: tells a copy of the data from others, for `fingerprint`.
      channels: 1 or 3, of the decoded images.
    """
    self.resized = isinstance(side, int)
    height, width = (side, side) if isinstance(side, int) else side
    if min(height, width) < 1:
      raise ValueError(f'image_size={side} must be at least 1, such as 224.')
    self.source = source
    self.records = np.asarray(records)
    self.name = name
    self.version = version
    self.shape = (len(self.records), height, width, channels)

  @property
  def nbytes(self) -> int:
    """Of all images, decoded."""
    return int(np.prod(self.shape, dtype=np.int64))

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: Any) -> Any:
    if isinstance(index, slice):
      return self.select(index)
    rows = np.asarray(index)
    if not rows.size:
      rows = rows.astype(np.int64)  # NumPy makes floats of an empty list.
    whole = rows.dtype == bool or np.issubdtype(rows.dtype, np.integer)
    if not whole or isinstance(index, tuple):
      raise TypeError(
        f'images of {self.name} are indexed by {index!r}; use a slice, '
        'integers or a boolean mask of the first axis.'
      )
    places = np.arange(len(self))[rows]
    decoded = self.decode(places.reshape(-1))
    return decoded.reshape(*places.shape, *self.shape[1:])

  def __array__(
    self, dtype: Any = None, copy: bool | None = None
  ) -> np.ndarray:
    if copy is False:
      raise ValueError('images on disk cannot become an array without a copy.')
    decoded = self[np.arange(len(self))]
    return decoded if dtype is None else decoded.astype(dtype, copy=False)

  def select(self, rows: slice | np.ndarray) -> 'StoredImages':
    """Some of the images, still on disk."""
    height, width, channels = self.shape[1:]
    return StoredImages(
      self.source,
      self.records[rows],
      height if self.resized else (height, width),
      name=self.name,
      version=self.version,
      channels=channels,
    )

  def _as_for_testing(self, encoded: pixels.Encoded, place: int) -> np.ndarray:
    del place
    if self.resized:
      return pixels.evaluation_image(encoded, self.shape[1], self.shape[3])
    return pixels.whole_image(encoded, self.shape[1:])

  def decode(
    self,
    rows: np.ndarray,
    transform: Callable[[pixels.Encoded, int], np.ndarray] | None = None,
    *,
    threads: bool = True,
  ) -> np.ndarray:
    """Reads images and makes arrays of them.

    Args:
      rows: [n], which images.
      transform: (encoded image, its place in rows) -> [H, W, C] uint8; None for
        what indexing gives.
      threads: whether all cores take part.

    Returns:
      [n, H, W, C], uint8.

    Raises:
      DamagedFileError: a record is no image; the message names it. One that
        cannot be read is for the source to name, see `prepared.PreparedSplit`.
    """
    transform = transform or self._as_for_testing
    decoded = np.empty((len(rows), *self.shape[1:]), np.uint8)
    records = self.records[rows].tolist()

    def store(place: int, example: dict[str, Any]) -> None:
      try:
        decoded[place] = transform(example['image'], place)
      except pixels.NotAnImageError as error:
        if 'path' in example:
          raise not_an_image(example['path'], error) from error
        file = example.get('file_name', b'').decode()
        raise files.DamagedFileError(
          f'record {records[place]} of {self.name}{file and f" ({file})"} is '
          f'not an image: {error}. Prepare the data set again, or use another '
          'copy.'
        ) from error

    apply = pool().map if threads else map
    for start in range(0, len(rows), _READ):
      part = records[start : start + _READ]
      places = range(start, start + len(part))
      for _ in apply(store, places, self.source.__getitems__(part)):
        pass
    return decoded

  def fingerprint(self) -> str:
    """64 hexadecimal digits of name, version, shape and records."""
    text = f'{self.name} {self.version} {self.shape}'
    records = np.asarray(self.records, np.int64).tobytes()
    return hashlib.sha256(text.encode() + records).hexdigest()


def not_an_image(path: str, error: Exception) -> files.DamagedFileError:
  """The error for a file that is damaged, no image, or not to be read."""
  if isinstance(error, OSError) and error.errno:
    return files.DamagedFileError(f'{path} cannot be read: {error.strerror}.')
  return files.DamagedFileError(
    f'{path} is not an image that can be read: {error}. Put a whole one in its '
    'place, or delete it.'
  )


@functools.cache
def pool() -> futures.ThreadPoolExecutor:
  """Threads that decode; Pillow lets them run beside each other."""
  return futures.ThreadPoolExecutor(cores(), thread_name_prefix='decode')


def cores() -> int:
  """How many cores this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1

"""Corrupts images by the published formulas, the same whenever it is done."""

from collections.abc import Callable
from typing import Any

import numpy as np

from rnascl_jax.data import stored_images
from rnascl_jax.data.corruptions import blur, digital, names, noise, weather
from rnascl_jax.data.stored_images import StoredImages

# Image, constants of a severity and random draws -> image.
FORMULAS: dict[str, Callable[..., np.ndarray]] = {
  'gaussian_noise': noise.gaussian_noise,
  'shot_noise': noise.shot_noise,
  'impulse_noise': noise.impulse_noise,
  'defocus_blur': blur.defocus_blur,
  'glass_blur': blur.glass_blur,
  'motion_blur': blur.motion_blur,
  'zoom_blur': blur.zoom_blur,
  'snow': weather.snow,
  'fog': weather.fog,
  'brightness': weather.brightness,
  'contrast': digital.contrast,
  'elastic_transform': digital.elastic_transform,
  'pixelate': digital.pixelate,
  'jpeg_compression': digital.jpeg_compression,
  'speckle_noise': noise.speckle_noise,
  'gaussian_blur': blur.gaussian_blur,
  'saturate': digital.saturate,
}
# Sides in pixels below which some corruption has no room.
_SMALLEST = 8
# Part of the key of the draws, apart from those of crops, orders and splits.
_KEY = 0xC0222


def available(channels: int) -> tuple[str, ...]:
  """The corruptions that can be made of images with 1 or 3 channels.

  Grey images have no saturation.
  """
  return tuple(n for n in FORMULAS if channels == 3 or n != 'saturate')


class CorruptedImages:
  """Images that are corrupted when they are indexed, by all cores.

  The draws of an image come from the seed, the corruption, the severity and its
  place in the images alone. An index is a slice, or an array of integers.

  Attributes:
    shape: (N, H, W, C).
    dtype: uint8.
  """

  dtype = np.dtype(np.uint8)

  def __init__(
    self,
    images: np.ndarray | StoredImages,
    name: str,
    severity: int,
    *,
    seed: int = 0,
  ):
    """Corrupts nothing yet.

    Args:
      images: [N, H, W, C], uint8, with 1 or 3 channels; H, W >= 8.
      name: of the corruption, one of `available(C)`.
      severity: 1 to 5.
      seed: of the draws, in [0, 2^64).

    Raises:
      ValueError: an argument is out of its range.
    """
    shape = tuple(images.shape)
    if images.dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3):
      raise ValueError(
        f'images are {images.dtype} {list(shape)}, and must be uint8 '
        '[N, H, W, C] with 1 or 3 channels.'
      )
    if min(shape[1:3]) < _SMALLEST:
      raise ValueError(
        f'images have {shape[2]} x {shape[1]} pixels, too few for corruptions: '
        f'use images of at least {_SMALLEST} x {_SMALLEST}.'
      )
    if not 0 <= seed < 2**64:
      raise ValueError(f'seed={seed} must lie in [0, 2^64).')
    names.check_severities([severity])
    (self._name,) = names.expand([name], available(shape[3]))
    size = names.size_of_constants(*shape[1:3])
    self._constants = names.CONSTANTS[name][size][severity - 1]
    if name == 'elastic_transform':
      factor = min(shape[1:3]) / size
      self._constants = tuple(factor * pixels for pixels in self._constants)
    self._images, self._severity, self._seed = images, severity, seed
    self.shape = shape

  def __len__(self) -> int:
    return self.shape[0]

  def __getitem__(self, index: Any) -> np.ndarray:
    rows = np.arange(len(self))[index]
    # Batches are filled up with copies of an image.
    once, places = np.unique(rows, return_inverse=True)
    clean = np.asarray(self._images[once])
    corrupted = np.empty_like(clean)

    def corrupt_one(place: int) -> None:
      corrupted[place] = FORMULAS[self._name](
        clean[place], self._constants, self._random(int(once[place]))
      )

    for _ in stored_images.pool().map(corrupt_one, range(len(once))):
      pass
    return corrupted[places]

  def _random(self, row: int) -> np.random.RandomState:
    """Draws of one image; no version of NumPy changes those of this class."""
    number = names.NAMES.index(self._name)
    bits = np.random.Philox(
      key=np.array([self._seed, _KEY], np.uint64),
      counter=np.array([0, row, self._severity, number], np.uint64),
    )
    return np.random.RandomState(bits)


def corrupt(
  images: np.ndarray, name: str, severity: int, *, seed: int = 0
) -> np.ndarray:
  """Corrupts images, see `CorruptedImages`.

  Returns:
    [N, H, W, C], uint8.
  """
  return CorruptedImages(images, name, severity, seed=seed)[:]

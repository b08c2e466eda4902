"""Digital corruptions: contrast, saturation, elastic, pixels and JPEG.

Arguments and results as in `noise`.
"""

import io

import numpy as np
import scipy
from PIL import Image

from rnascl_jax.data.corruptions import pixels

# OpenCV's warpAffine rounds what x and y add to a position to 1/1024 of a
# pixel, and the position to 1/32.
_FINE, _COARSE = 1024, 32


def contrast(
  image: np.ndarray, factor: float, random: np.random.RandomState
) -> np.ndarray:
  """Brings every channel nearer to its mean over the image."""
  del random
  x = pixels.as_shares(image)
  means = x.mean(axis=(0, 1), keepdims=True)
  return pixels.as_bytes((x - means) * factor + means)


def saturate(
  image: np.ndarray,
  constants: tuple[float, float],
  random: np.random.RandomState,
) -> np.ndarray:
  """Makes S of hue, saturation and value (HSV) a S + b.

  The constants are a and b. Value V and hue stay, so that a channel x becomes
  V (1 - S' (V - x) / (V - min)). Grey has the hue of red.
  """
  del random
  factor, shift = constants
  x = pixels.as_shares(image)
  value = x.max(axis=-1, keepdims=True)
  spread = value - x.min(axis=-1, keepdims=True)
  saturation = spread / np.where(value > 0, value, 1)
  wanted = np.clip(saturation * factor + shift, 0, 1)
  below = (value - x) / np.where(spread > 0, spread, 1)
  below = np.where(spread > 0, below, (0, 1, 1))
  return pixels.as_bytes(value * (1 - wanted * below))


def jpeg_compression(
  image: np.ndarray, quality: int, random: np.random.RandomState
) -> np.ndarray:
  """Writes a JPEG of this quality with Pillow, and reads it."""
  del random
  file = io.BytesIO()
  _picture(image).save(file, 'JPEG', quality=quality)
  with Image.open(file) as read:
    return np.asarray(read).reshape(image.shape)


def pixelate(
  image: np.ndarray, factor: float, random: np.random.RandomState
) -> np.ndarray:
  """Shrinks by a factor, and enlarges again, both by means of pixels."""
  del random
  height, width, _ = image.shape
  shrunk = _picture(image).resize(
    (int(width * factor), int(height * factor)), Image.Resampling.BOX
  )
  enlarged = shrunk.resize((width, height), Image.Resampling.BOX)
  return np.asarray(enlarged).reshape(image.shape)


def _picture(image: np.ndarray) -> Image.Image:
  return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def elastic_transform(
  image: np.ndarray,
  constants: tuple[float, float, float],
  random: np.random.RandomState,
) -> np.ndarray:
  """Moves three points and the image with them, then every pixel.

  The constants, in pixels: how far pixels move, sigma of the Gaussian that
  makes near ones move alike, and how far the three points move.
  """
  distance, sigma, most = constants
  x = pixels.as_shares(image).astype(np.float32)
  shape = x.shape[:2]
  height, width = shape
  reach = min(shape) // 3
  points = np.array([width // 2, height // 2], np.float32) + np.array(
    [(reach, reach), (reach, -reach), (-reach, -reach)], np.float32
  )
  moved = points + random.uniform(-most, most, (3, 2)).astype(np.float32)
  x = _warped(x, _affine(moved.astype(float), points.astype(float)))
  across, down = (
    scipy.ndimage.gaussian_filter(
      random.uniform(-1, 1, shape), sigma, mode='reflect', truncate=3
    )
    * distance
    for _ in range(2)
  )
  rows, columns = np.indices(shape)
  places = np.stack([rows + down, columns + across]).astype(np.float32)
  return pixels.as_bytes(_sampled(x, places, 'reflect'))


def _affine(origins: np.ndarray, targets: np.ndarray) -> np.ndarray:
  """[2, 3]: takes (x, y, 1) of three points [3, 2] to three others."""
  homogeneous = np.concatenate([origins, np.ones((3, 1))], axis=1)
  return np.linalg.solve(homogeneous, targets).T


def _warped(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
  """The image whose pixel at (x, y) is that at `matrix` (x, y, 1)."""
  rows, columns = (np.arange(side)[:, None] for side in image.shape[:2])
  of_x = np.rint(_FINE * columns * matrix[:, 0])  # [W, 2]
  of_y = np.rint(_FINE * (rows * matrix[:, 1] + matrix[:, 2]))  # [H, 2]
  fine = of_y[:, None] + of_x  # [H, W, 2]
  places = np.floor(fine * (_COARSE / _FINE) + 0.5) / _COARSE
  return _sampled(image, places.transpose(2, 0, 1)[::-1], 'mirror')


def _sampled(image: np.ndarray, places: np.ndarray, mode: str) -> np.ndarray:
  """[H, W, C] between pixels at places [2, H, W], bilinearly."""
  channels = [
    scipy.ndimage.map_coordinates(
      image[..., channel], places, order=1, mode=mode
    )
    for channel in range(image.shape[-1])
  ]
  return np.stack(channels, axis=-1)

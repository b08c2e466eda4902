"""Decodes, crops and resizes images, the same on every machine.

Training images are random-resized crops (Inception's), test images the centre
of the whole image; both as torchvision's reference code makes them of Pillow
images, so that checkpoints trained there reach their accuracy here. Nothing
here imports JAX.

Example:
  >>> from rnascl_jax.data import images
  >>> images.random_crop(500, 375, images.uniforms(0, 7, 3), min_area=0.08)
  Crop(left=67, top=0, width=271, height=339)
  >>> images.evaluation_size(500, 375, 224)
  (341, 256)

Reference:
  Szegedy et al., Going deeper with convolutions, 2015, section 6.
"""

import io
import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

# The bytes of a file, or pixels [H, W, C], uint8.
Encoded = bytes | np.ndarray

_MODES = {1: 'L', 3: 'RGB'}
# Part of the key of random crops, apart from that of orders and splits.
_CROP_KEY = 0xC402
_TRIES = 10
# Of a crop, width over height.
_RATIOS = (3 / 4, 4 / 3)
# Test images of 224 pixels are cut out of images with a shorter side of 256.
_RESIZED, _CUT = 256, 224

# Of damaged notes of cameras, which some images of ImageNet have; unused here.
warnings.filterwarnings(
  'ignore', message='Corrupt EXIF data', module=r'PIL\.TiffImagePlugin'
)


class NotAnImageError(ValueError):
  """Bytes that cannot be decoded."""


class Crop(NamedTuple):
  """A part of an image, in pixels."""

  left: int
  top: int
  width: int
  height: int


def decode(encoded: Encoded, channels: int = 3) -> Image.Image:
  """Decodes an image in any format of Pillow's.

  Args:
    encoded: the bytes of a file, or pixels uint8 [H, W, 1] or [H, W, 3].
    channels: 3 makes RGB of grey images, palettes, CMYK and others, 1 makes
      grey images. What is transparent shows its colour.

  Raises:
    NotAnImageError: the bytes are no image, or not all of one.
  """
  mode = _MODES[channels]
  if isinstance(encoded, np.ndarray):
    grey = encoded.shape[-1] == 1
    return Image.fromarray(encoded[..., 0] if grey else encoded).convert(mode)
  try:
    with Image.open(io.BytesIO(encoded)) as image:
      if isinstance(image.info.get('transparency'), bytes):
        # Pillow warns of such a palette otherwise.
        return image.convert('RGBA').convert(mode)
      return image.convert(mode)
  except MemoryError:
    raise
  # Pillow raises OSError, SyntaxError, struct.error and more, by the format.
  except Exception as error:
    raise NotAnImageError(
      f'{len(encoded)} bytes, {type(error).__name__}: {error}'
    ) from error


def training_image(
  encoded: Encoded,
  side: int,
  draws: Sequence[float],
  *,
  min_area: float,
  channels: int = 3,
) -> np.ndarray:
  """A crop by `random_crop` of an image, [side, side, channels] uint8.

  Raises:
    NotAnImageError: see `decode`.
  """
  image = decode(encoded, channels)
  crop = random_crop(*image.size, draws, min_area=min_area)
  resized = _cut(image, crop).resize((side, side), _BILINEAR)
  return np.asarray(resized).reshape(side, side, channels)


def whole_image(encoded: Encoded, shape: tuple[int, int, int]) -> np.ndarray:
  """An image as it is, [H, W, channels] uint8, which must have this shape.

  Raises:
    NotAnImageError: it has another size, or see `decode`.
  """
  height, width, channels = shape
  image = decode(encoded, channels)
  if image.size != (width, height):
    raise NotAnImageError(
      f'it has {image.size[0]} x {image.size[1]} pixels, where others have '
      f'{width} x {height}'
    )
  return np.asarray(image).reshape(shape)


def resized_image(encoded: Encoded, shape: tuple[int, int, int]) -> np.ndarray:
  """A whole image in another size, [H, W, channels] uint8.

  Raises:
    NotAnImageError: see `decode`.
  """
  height, width, channels = shape
  image = decode(encoded, channels).resize((width, height), _BILINEAR)
  return np.asarray(image).reshape(shape)


def evaluation_image(
  encoded: Encoded, side: int, channels: int = 3
) -> np.ndarray:
  """The centre of an image, [side, side, channels] uint8.

  It is cut out when the shorter side is resized to 256/224 of `side`.

  Raises:
    NotAnImageError: see `decode`.
  """
  image = decode(encoded, channels)
  image = image.resize(evaluation_size(*image.size, side), _BILINEAR)
  # Half pixels are rounded to even numbers, as torchvision does.
  left, top = (round((length - side) / 2) for length in image.size)
  cut = _cut(image, Crop(left, top, side, side))
  return np.asarray(cut).reshape(side, side, channels)


def evaluation_size(width: int, height: int, side: int) -> tuple[int, int]:
  """Width and height to which a test image is resized before it is cut."""
  shorter = round(side * _RESIZED / _CUT)
  if width <= height:
    return shorter, int(shorter * height / width)
  return int(shorter * width / height), shorter


def random_crop(
  width: int, height: int, draws: Sequence[float], *, min_area: float
) -> Crop:
  """Where to crop: area and shape at random, then a place where it fits.

  The area is uniform in [min_area, 1] of the image's, the logarithm of width
  over height uniform between those of 3/4 and 4/3. If ten such crops do not fit
  into the image, it is the largest one in the centre with such a ratio.

  Args:
    width: of the image in pixels.
    height: of the image in pixels.
    draws: [40], in [0, 1): area, ratio, left and top of each try.
    min_area: least share of the image's area, in (0, 1].
  """
  low, high = (math.log(ratio) for ratio in _RATIOS)
  for start in range(0, 4 * _TRIES, 4):
    area, ratio, left, top = draws[start : start + 4]
    area = width * height * (min_area + (1 - min_area) * area)
    ratio = math.exp(low + (high - low) * ratio)
    w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    if 0 < w <= width and 0 < h <= height:
      left, top = int((width - w + 1) * left), int((height - h + 1) * top)
      return Crop(left, top, w, h)
  return _centre(width, height)


def uniforms(seed: int, step: int, position: int) -> list[float]:
  """The draws of one crop, from where in a training it is and nothing else.

  They are raw words of Philox, a stream that no version of NumPy changes.

  Args:
    seed: in [0, 2^64).
    step: of the training, in [0, 2^64).
    position: in the global batch, in [0, 2^64).

  Returns:
    [40], in [0, 1), multiples of 2^-53.
  """
  bits = np.random.Philox(
    key=np.array([seed, _CROP_KEY], np.uint64),
    counter=np.array([0, position, step, 0], np.uint64),
  )
  words = bits.random_raw(4 * _TRIES)
  return ((words >> np.uint64(11)) * 2.0**-53).tolist()


_BILINEAR = Image.Resampling.BILINEAR


def _cut(image: Image.Image, crop: Crop) -> Image.Image:
  left, top, width, height = crop
  return image.crop((left, top, left + width, top + height))


def _centre(width: int, height: int) -> Crop:
  """The largest crop in the centre with an allowed ratio."""
  low, high = _RATIOS
  w, h = width, height
  if width < low * height:
    h = round(width / low)
  elif width > high * height:
    w = round(height * high)
  return Crop((width - w) // 2, (height - h) // 2, w, h)

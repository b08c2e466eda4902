"""What the corruptions share: bytes and shares, zooms, blurs along a line."""

import math

import numpy as np
import scipy


def as_shares(image: np.ndarray) -> np.ndarray:
  """Bytes 0..255 as float64 in [0, 1]."""
  return image / 255.0


def as_bytes(shares: np.ndarray) -> np.ndarray:
  """Numbers as bytes; as in the scripts, cut to [0, 1] and rounded down."""
  return (np.clip(shares, 0, 1) * 255).astype(np.uint8)


def gaussian(image: np.ndarray, sigma: float) -> np.ndarray:
  """Blurs [H, W, C] in H and W; at the border its pixels are repeated.

  It is `skimage.filters.gaussian`, whose kernel ends at 4 sigma.
  """
  return scipy.ndimage.gaussian_filter(image, (sigma, sigma, 0), mode='nearest')


def clipped_zoom(image: np.ndarray, factor: float) -> np.ndarray:
  """The centre of [H, W, C], enlarged `factor` times to [H, W, C]."""
  height, width, _ = image.shape
  inner = [math.ceil(side / factor) for side in (height, width)]
  centre = _centre(image, *inner)
  zoomed = scipy.ndimage.zoom(centre, (factor, factor, 1), order=1)
  return _centre(zoomed, height, width)


def _centre(image: np.ndarray, height: int, width: int) -> np.ndarray:
  top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
  return image[top : top + height, left : left + width]


def blurred_along(
  image: np.ndarray, radius: int, sigma: float, angle: float
) -> np.ndarray:
  """Bytes [H, W, C], blurred along a line from every pixel.

  The scripts call ImageMagick's MotionBlurImage: weights are a half of a
  Gaussian, exp(-i^2 / (2 sigma^2)) for i = 0 .. 2 radius, over their sum; the
  i-th pixel lies i steps away in the direction of `angle`, in degrees. Where
  the line leaves the image, the pixels of its border are repeated.
  """
  steps = np.arange(2 * radius + 1)
  weights = np.exp(-(steps**2) / (2.0 * sigma**2))
  weights /= weights.sum()
  turned = math.radians(angle)
  down, right = (
    np.ceil(steps * part - 0.5).astype(int)
    for part in (math.sin(turned), math.cos(turned))
  )
  height, width, _ = image.shape
  blurred = np.zeros(image.shape)
  for weight, dy, dx in zip(weights, down, right, strict=True):
    rows = np.clip(np.arange(height) + dy, 0, height - 1)
    columns = np.clip(np.arange(width) + dx, 0, width - 1)
    blurred += weight * image[rows][:, columns]
  return blurred.astype(np.uint8)

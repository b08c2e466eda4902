"""Blurs: Gaussian, glass, defocus, motion and zoom blur of one image.

Arguments and results as in `noise`. OpenCV's and scikit-image's filters are
SciPy's here, with their borders and widths.
"""

import numpy as np
import scipy

from rnascl_jax.data.corruptions import pixels

# Radius of the grid on which the disk of a defocus blur lies, at least.
_GRID = 8


def gaussian_blur(
  image: np.ndarray, sigma: float, random: np.random.RandomState
) -> np.ndarray:
  """Blurs by a Gaussian of `sigma` pixels."""
  del random
  return pixels.as_bytes(pixels.gaussian(pixels.as_shares(image), sigma))


def glass_blur(
  image: np.ndarray,
  constants: tuple[float, int, int],
  random: np.random.RandomState,
) -> np.ndarray:
  """Blurs, moves pixels at random, and blurs again.

  The constants are sigma of the blurs, the farthest move, and how often all
  pixels move. From the lower right corner on, every pixel takes the value of a
  near one. (The script means to exchange the two; NumPy's views make it a copy,
  and so are the published images.)
  """
  sigma, farthest, repetitions = constants
  blurred = pixels.gaussian(pixels.as_shares(image), sigma)
  shuffled = (blurred * 255).astype(np.uint8)
  height, width, channels = image.shape
  rows = np.arange(height - farthest, farthest, -1)
  columns = np.arange(width - farthest, farthest, -1)
  places = (rows[:, None] * width + columns).ravel().tolist()
  # sources[p] is where the pixel at p comes from; both count along the rows.
  sources = list(range(height * width))
  for _ in range(repetitions):
    moves = random.randint(-farthest, farthest, size=(len(places), 2))
    for place, move in zip(places, moves @ (1, width), strict=True):
      sources[place] = sources[place + move]
  shuffled = shuffled.reshape(-1, channels)[sources].reshape(image.shape)
  return pixels.as_bytes(pixels.gaussian(pixels.as_shares(shuffled), sigma))


def defocus_blur(
  image: np.ndarray,
  constants: tuple[float, float],
  random: np.random.RandomState,
) -> np.ndarray:
  """Blurs by a disk; the constants are its radius and sigma of its edge."""
  del random
  kernel = disk(*constants)
  x = pixels.as_shares(image)
  channels = [
    scipy.ndimage.correlate(x[..., channel], kernel, mode='mirror')
    for channel in range(x.shape[-1])
  ]
  return pixels.as_bytes(np.stack(channels, axis=-1))


def disk(radius: float, sigma: float) -> np.ndarray:
  """A disk on a square grid with a blurred edge, [n, n], of sum 1."""
  side, reach = (radius, 2) if radius > _GRID else (_GRID, 1)
  grid, taps = np.arange(-side, side + 1), np.arange(-reach, reach + 1)
  inside = (grid[:, None] ** 2 + grid**2 <= radius**2).astype(float)
  weights = np.exp(-(taps**2) / (2.0 * sigma**2))
  weights /= weights.sum()
  kernel = inside / inside.sum()
  for axis in range(2):
    kernel = scipy.ndimage.correlate1d(kernel, weights, axis, mode='mirror')
  used = np.flatnonzero(kernel.any(axis=0))
  return kernel[used[0] : used[-1] + 1, used[0] : used[-1] + 1]


def motion_blur(
  image: np.ndarray,
  constants: tuple[int, float],
  random: np.random.RandomState,
) -> np.ndarray:
  """Blurs along a line at an angle of -45 to 45 degrees.

  The constants are radius and sigma, see `pixels.blurred_along`.
  """
  return pixels.blurred_along(image, *constants, random.uniform(-45, 45))


def zoom_blur(
  image: np.ndarray,
  constants: tuple[float, float],
  random: np.random.RandomState,
) -> np.ndarray:
  """The mean of the image and of enlarged ones.

  They are enlarged by factors from 1 up to the first constant, in steps of the
  second.
  """
  del random
  x = pixels.as_shares(image).astype(np.float32)
  factors = np.arange(1, *constants)
  total = np.zeros_like(x)
  for factor in factors:
    total += pixels.clipped_zoom(x, factor)
  return pixels.as_bytes((x + total) / (len(factors) + 1))

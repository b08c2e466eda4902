"""Weather: snow, fog and brightness of one image.

Arguments and results as in `noise`. Frost is not made: it needs photographs.
"""

import numpy as np

from rnascl_jax.data.corruptions import pixels

# Shares of red, green and blue in the brightness of a colour.
_LUMA = (0.299, 0.587, 0.114)


def snow(
  image: np.ndarray,
  constants: tuple[float, float, float, float, int, float, float],
  random: np.random.RandomState,
) -> np.ndarray:
  """Whitens the image, and adds flakes and the same turned by 180 degrees.

  The constants are mean and deviation of a Gaussian layer, how much it is
  enlarged, the value from which on it is a flake, radius and sigma of the
  flakes' blur along a line, and what stays of the image.
  """
  mean, deviation, factor, threshold, radius, sigma, kept = constants
  x = pixels.as_shares(image).astype(np.float32)
  layer = random.normal(size=(*x.shape[:2], 1), loc=mean, scale=deviation)
  layer = pixels.clipped_zoom(layer, factor)
  layer[layer < threshold] = 0
  angle = random.uniform(-135, -45)
  flakes = pixels.as_shares(
    pixels.blurred_along(pixels.as_bytes(layer), radius, sigma, angle)
  )
  grey = x @ np.array(_LUMA, np.float32) if x.shape[-1] == 3 else x[..., 0]
  whitened = np.maximum(x, 1.5 * grey[..., None] + 0.5)
  x = kept * x + (1 - kept) * whitened
  return pixels.as_bytes(x + flakes + np.rot90(flakes, k=2))


def fog(
  image: np.ndarray,
  constants: tuple[float, float],
  random: np.random.RandomState,
) -> np.ndarray:
  """Adds a plasma fractal, then darkens until the maximum is what it was.

  The constants are the amount of fog and the decay of the fractal.
  """
  amount, decay = constants
  x = pixels.as_shares(image)
  height, width, _ = x.shape
  side = 1 << (max(height, width) - 1).bit_length()
  highest = x.max()
  x = x + amount * plasma(side, decay, random)[:height, :width, None]
  return pixels.as_bytes(x * highest / (highest + amount))


def plasma(
  side: int, decay: float, random: np.random.RandomState
) -> np.ndarray:
  """A fractal of the diamond-square algorithm, periodic, from 0 to 1.

  Args:
    side: of the square, a power of 2.
    decay: what divides the size of the random part when the grid is halved.
    random: source of the draws.

  Returns:
    [side, side].
  """
  heights = np.zeros((side, side))
  step, wibble = side, 100.0

  def mean(total: np.ndarray) -> np.ndarray:
    return total / 4 + wibble * random.uniform(-wibble, wibble, total.shape)

  while step >= 2:
    half = step // 2
    corners = heights[::step, ::step]
    pairs = corners + np.roll(corners, -1, axis=0)
    heights[half::step, half::step] = mean(pairs + np.roll(pairs, -1, axis=1))
    middles = heights[half::step, half::step]
    for axis, edges in enumerate(
      (np.s_[::step, half::step], np.s_[half::step, ::step])
    ):
      around = middles + np.roll(middles, 1, axis=axis)
      around = around + (corners + np.roll(corners, -1, axis=1 - axis))
      heights[edges] = mean(around)
    step, wibble = half, wibble / decay
  heights -= heights.min()
  return heights / heights.max()


def brightness(
  image: np.ndarray, amount: float, random: np.random.RandomState
) -> np.ndarray:
  """Adds to V of hue, saturation and value (HSV), whose V is the maximum.

  Hue and saturation stay, so that all channels are multiplied by V' / V; black
  becomes grey.
  """
  del random
  x = pixels.as_shares(image)
  value = x.max(axis=-1, keepdims=True)
  below = (value - x) / np.where(value > 0, value, 1)
  return pixels.as_bytes(np.clip(value + amount, 0, 1) * (1 - below))

"""Noise: Gaussian, shot, impulse and speckle noise of one image.

Each function is the one of this name in make_cifar_c.py and its siblings, see
`names`. It takes an image uint8 [H, W, C], the constant of a severity, and a
source of random draws, and returns an image of the same type and shape.
"""

import numpy as np

from rnascl_jax.data.corruptions import pixels


def gaussian_noise(
  image: np.ndarray, scale: float, random: np.random.RandomState
) -> np.ndarray:
  """Gives x + n with n ~ N(0, scale^2) in every channel of every pixel."""
  x = pixels.as_shares(image)
  return pixels.as_bytes(x + random.normal(size=x.shape, scale=scale))


def shot_noise(
  image: np.ndarray, rate: float, random: np.random.RandomState
) -> np.ndarray:
  """Gives Poisson(rate x) / rate, as if so many photons made a white pixel."""
  x = pixels.as_shares(image)
  return pixels.as_bytes(random.poisson(x * rate) / rate)


def impulse_noise(
  image: np.ndarray, amount: float, random: np.random.RandomState
) -> np.ndarray:
  """Salt and pepper: a share `amount` of all values becomes 0 or 1, evenly."""
  x = pixels.as_shares(image)
  flipped = random.random_sample(x.shape) <= amount
  salted = random.random_sample(x.shape) <= 0.5
  return pixels.as_bytes(np.where(flipped, salted, x))


def speckle_noise(
  image: np.ndarray, scale: float, random: np.random.RandomState
) -> np.ndarray:
  """Gives x + x n with n ~ N(0, scale^2)."""
  x = pixels.as_shares(image)
  return pixels.as_bytes(x + x * random.normal(size=x.shape, scale=scale))

"""What a classifier predicts, and what counts as an adversarial image.

Accelerators multiply float32 in fewer bits unless they are asked not to, and an
attack's own verdict comes from a batch of other images. Both may flip a close
classification, so `logits` classifies every image by itself in full float32.

Example:
  >>> import numpy as np
  >>> from rnascl_jax.attacks import norms, prediction
  >>> logits = np.array([[2., 1.], [1., 2.], [np.nan, 1.]])
  >>> print(prediction.fooled(logits, np.array([0, 0, 0])))
  [False  True  True]
  >>> images = np.array([.5, .6], np.float32).reshape(2, 1, 1, 1)
  >>> print(prediction.in_ball(
  ...   images, np.full_like(images, .45), epsilon=.1, norm=norms.LINF))
  [ True False]
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from rnascl_jax.attacks import arguments, compiled, norms, randomized
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.base import Array, Key, LogitsFn
from rnascl_jax.runtime import parallel

# Rounding may move an image this much farther away than epsilon, and in L1 by
# the spacing of float32 below 1 for each value: half of it where the value is
# rounded, and the other half where the values are added up.
TOLERANCE = 1e-6
_SPACING = 2.0**-24
# Distances of so many images are computed at once, by one compiled program.
_BATCH_SIZE = 64


def fooled(logits: Array | np.ndarray, labels: int | Array | np.ndarray) -> Any:
  """Whether logits are wrong: another class is largest, or one is NaN.

  Args:
    logits: [..., K], may be traced. Of equal logits the first is the largest.
    labels: [...], integers.

  Returns:
    [...] bool.
  """
  # Only NaN differs from itself, in NumPy and in JAX.
  is_nan = (logits != logits).any(-1)
  return (logits.argmax(-1) != labels) | is_nan


def in_ball(
  images: Array | np.ndarray,
  originals: Array | np.ndarray,
  *,
  epsilon: float | Array,
  norm: Norm,
) -> Any:
  """Which images are in [0, 1] and no farther than epsilon, to `tolerance`.

  Args:
    images: [n, H, W, C]. NumPy arrays of any n share one compiled program; JAX
      arrays may be traced.
    originals: [n, H, W, C].
    epsilon: the ball's radius.
    norm: the ball's norm.

  Returns:
    [n] bool.
  """
  bound = epsilon + tolerance(norm, int(np.prod(images.shape[1:])))
  if not isinstance(images, np.ndarray):
    return _in_ball(images, originals, bound, norm=norm)
  inside = np.zeros(len(images), bool)
  for rows, mask in padded_batches(len(images), _BATCH_SIZE):
    near = _in_ball(images[rows], originals[rows], bound, norm=norm)
    inside[rows[mask]] = np.asarray(near)[mask]
  return inside


def tolerance(norm: Norm, size: int) -> float:
  """How much farther than epsilon an image of so many values may be.

  In L1, where the errors of all values add up, 2e-4 for 32 x 32 and 0.009 for
  224 x 224 pixels in colour; 1e-6 in other norms.
  """
  adds_up = norm.length is norms.L1.length
  return TOLERANCE + _SPACING * size * adds_up


@functools.partial(jax.jit, static_argnames='norm')
def _in_ball(
  images: Array, originals: Array, bound: Array, norm: Norm
) -> Array:
  lengths = jax.vmap(norm.length)(images - originals)  # [n]
  valid = ((images >= 0) & (images <= 1)).all((1, 2, 3))
  return valid & (lengths <= bound)


def distances(
  images: np.ndarray, originals: np.ndarray, norm: Norm
) -> np.ndarray:
  """How long the perturbations [n, H, W, C] of images are, [n]."""
  lengths = np.zeros(len(images), images.dtype)
  for rows, mask in padded_batches(len(images), _BATCH_SIZE):
    batch = _lengths(images[rows], originals[rows], norm=norm)
    lengths[rows[mask]] = np.asarray(batch)[mask]
  return lengths


@functools.partial(jax.jit, static_argnames='norm')
def _lengths(images: Array, originals: Array, norm: Norm) -> Array:
  return jax.vmap(norm.length)(images - originals)


def padded_batches(
  count: int, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Splits rows 0 to count - 1 into batches that all have one size.

  Yields:
    rows: [size], integers; row 0 fills up the last batch.
    mask: [size] bool, which of them count.
  """
  for begin in range(0, count, size):
    rows = np.arange(begin, begin + size)
    yield np.where(rows < count, rows, 0), rows < count


def logits(
  logits_fn: LogitsFn,
  key: Key,
  images: np.ndarray,
  indices: np.ndarray,
  *,
  batch_size: int,
  devices: Sequence[jax.Device],
) -> np.ndarray:
  """Logits of images in full float32 (float64 if they are).

  Args:
    logits_fn: [B, H, W, C] -> [B, K], a pytree.
    key: typed random key of a random classifier.
    images: [n, H, W, C].
    indices: [n], from which the draws for each image follow.
    batch_size: images at once, a multiple of the number of devices.
    devices: the devices.

  Returns:
    [n, K].
  """
  devices = tuple(devices)
  leaves, structure = jax.tree.flatten((logits_fn, key))
  classify = _classifier(structure, devices)
  shared, parts = parallel.put(leaves, devices), []
  for rows, mask in padded_batches(len(images), batch_size):
    batch = parallel.put((images[rows], indices[rows]), devices, split=True)
    parts.append(parallel.fetch(classify(shared, batch), devices)[mask])
  if not parts:
    return np.zeros((0, arguments.count_classes(logits_fn, images)))
  return np.concatenate(parts)


@functools.lru_cache(maxsize=16)
def _classifier(structure: Any, devices: tuple[jax.Device, ...]) -> Any:
  """Maps a classifier over images, each by itself, and devices.

  Args:
    structure: of the pair of a classifier and a key.
    devices: the devices.
  """

  def classify(
    shared: tuple[LogitsFn, Key], batch: tuple[Array, Array]
  ) -> Array:
    logits_fn, key = shared

    def one(image: Array, index: Array) -> Array:
      image_key = jax.random.fold_in(key, index)
      return randomized.call(logits_fn, image_key, image[None])[0]

    with jax.default_matmul_precision('highest'):
      return jax.vmap(one)(*batch)

  return parallel.split(compiled.of_leaves(classify, structure), devices)

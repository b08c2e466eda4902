"""Which image is in which split and batch, and what becomes of it on a device.

The order depends on nothing but the seed and the epoch, so a resumed run, and
every host of several, sees the images of an uninterrupted one.

Example:
  >>> from rnascl_jax.data import batches
  >>> batches.batch_order(0, epoch=3, num_examples=1152, batch_size=128).shape
  (9, 128)
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.base import Array, Key

# Part of the key of the fixed splits: never the seed of a run.
_SPLIT_KEY = 0xD1CE
# Its second part where there is no class; more than there are classes.
_ORDER = 2**32
# Added to a number of an order that is not of an epoch's examples.
_EXTRA, _PLACES = 2**40, 2**41


def random_order(seed: int, epoch: int, size: int) -> np.ndarray:
  """A permutation that no version of NumPy, platform or process changes.

  It sorts the raw words of Philox, a stream that NumPy keeps for good, which it
  does not promise of `Generator.permutation`.

  Args:
    seed: in [0, 2^64).
    epoch: in [0, 2^64).
    size: at least 0.

  Returns:
    [size], int32.
  """
  key = (seed, epoch)
  if not all(0 <= word < 2**64 for word in key):
    raise ValueError(f'a seed or epoch of {key} is outside [0, 2^64).')
  words = np.random.Philox(key=np.array(key, np.uint64)).random_raw(size)
  return np.argsort(words, kind='stable').astype(np.int32)


def fixed_order(size: int) -> np.ndarray:
  """A permutation of [size], int32, that is the same always."""
  return random_order(_SPLIT_KEY, _ORDER, size)


def stratified_holdout(labels: np.ndarray, size: int) -> np.ndarray:
  """Chooses examples so that every class has its share, the same ones always.

  Args:
    labels: [N], integers >= 0.
    size: how many to choose, in [0, N].

  Returns:
    [N], bool, `size` of them True. A class's count is its exact share rounded
    down or up.
  """
  if not 0 <= size <= len(labels):
    raise ValueError(f'size={size} must lie in [0, {len(labels)}].')
  counts = np.bincount(labels)
  shares, remainders = np.divmod(counts * size, len(labels))
  # What rounding down left over goes to the largest remainders.
  left_over = size - shares.sum()
  shares[np.argsort(-remainders, kind='stable')[:left_over]] += 1
  held_out = np.zeros(len(labels), bool)
  for label, share in enumerate(shares):
    members = np.flatnonzero(labels == label)
    order = random_order(_SPLIT_KEY, label, len(members))
    held_out[members[order[:share]]] = True
  return held_out


def batch_order(
  seed: int, epoch: int, num_examples: int, batch_size: int
) -> np.ndarray:
  """The training batches of an epoch.

  The examples that do not fill a batch are dropped; they are others in every
  epoch, so no example is left out for good.

  Args:
    seed: in [0, 2^64).
    epoch: in [0, 2^64).
    num_examples: how many there are.
    batch_size: the global one, in [1, num_examples].

  Returns:
    [steps, batch_size], int32 indices, every one at most once.
  """
  if not 1 <= batch_size <= num_examples:
    raise ValueError(
      f'batch_size={batch_size} must lie in [1, {num_examples}], the number of '
      'training examples.'
    )
  steps = num_examples // batch_size
  order = random_order(seed, epoch, num_examples)
  return order[: steps * batch_size].reshape(steps, batch_size)


def order_with_extra(
  seed: int,
  epoch: int,
  num_examples: int,
  batch_size: int,
  *,
  num_extra: int,
  of_extra: int,
) -> np.ndarray:
  """The training batches of an epoch, a part of each of extra images.

  An epoch has as many batches as one without extra images. Its examples are
  drawn anew, as many as there is place for; its extra images are those that
  come next, until all were seen, and then all in another order.

  Args:
    seed: in [0, 2^64).
    epoch: in [0, 2^40).
    num_examples: how many there are.
    batch_size: the global one, in [1, num_examples].
    num_extra: extra images, at least 1.
    of_extra: how many of a batch are extra, in [0, batch_size].

  Returns:
    [steps, batch_size], int32 indices: of examples, and from num_examples on of
    extra images, in places that are the epoch's own.
  """
  steps = num_examples // batch_size
  own = batch_size - of_extra
  order = batch_order(seed, epoch, num_examples, batch_size).reshape(-1)
  rows = order[: steps * own].reshape(steps, own)
  # Where the epoch's extra images stand in their endless order.
  places = np.arange(steps * of_extra) + epoch * steps * of_extra
  passes, places = np.divmod(places, num_extra)
  extra = np.empty(len(places), np.int32)
  for number in np.unique(passes):
    again = random_order(seed, _EXTRA + int(number), num_extra)
    extra[passes == number] = again[places[passes == number]]
  rows = np.hstack([rows, num_examples + extra.reshape(steps, of_extra)])
  return rows[:, random_order(seed, _PLACES + epoch, batch_size)].astype(
    np.int32
  )


def to_float(images: Array | np.ndarray) -> Any:
  """Pixels of 0..255 as float32 in [0, 1], each the number nearest to v / 255.

  XLA replaces a division by a constant by a product with its reciprocal, which
  misses half of the 256 values by a unit in the last place. Here 1 / 255 is the
  sum of 257 / 2^16, whose product with a pixel is exact, and 1 / (255 * 2^16),
  so only the final addition rounds, with or without fused multiply-add.

  Args:
    images: [...], uint8. NumPy arrays stay on the host, where nothing compiles
      for their shape.

  Returns:
    [...], float32, a NumPy array if the images are one.
  """
  if images.dtype != np.uint8:
    raise ValueError(f'images are {images.dtype}, must be uint8 in 0..255.')
  pixels = images.astype(np.float32)
  high, low = np.float32(257 / 2**16), np.float32(1 / (255 * 2**16))
  return pixels * high + pixels * low


def augment(
  key: Key, image: Array, *, padding: int, flip: bool, erasing: float = 0.0
) -> Array:
  """Random crop of the zero-padded image, a flip half of the time, erasing.

  Args:
    key: a typed random key.
    image: [H, W, C], one image; lift it by `jax.vmap` over keys and images.
    padding: pixels added on every side, at least 0; 0 does not crop.
    flip: whether to mirror left and right with probability 1/2.
    erasing: probability in [0, 1] of `erase`.

  Returns:
    [H, W, C].
  """
  if image.ndim != 3:
    raise ValueError(f'one image [H, W, C] expected, got shape {image.shape}.')
  if padding < 0:
    raise ValueError(f'padding={padding} must be at least 0.')
  crop_key, flip_key = jax.random.split(key)
  if padding > 0:
    rows, columns = jax.random.randint(crop_key, (2,), 0, 2 * padding + 1)
    around = ((padding, padding), (padding, padding), (0, 0))
    padded = jnp.pad(image, around)  # [H + 2 padding, W + 2 padding, C]
    image = jax.lax.dynamic_slice(padded, (rows, columns, 0), image.shape)
  if flip:
    mirrored = jax.random.bernoulli(flip_key)
    image = jnp.where(mirrored, image[:, ::-1], image)
  if erasing:
    choice_key, erase_key = jax.random.split(jax.random.fold_in(key, 2))
    erased = jax.random.bernoulli(choice_key, erasing)
    image = jnp.where(erased, erase(erase_key, image), image)
  return image


def erase(key: Key, image: Array) -> Array:
  """Fills a random rectangle of an image with uniform noise in [0, 1).

  Its area is uniform in 2 to 40 % of the image's, its height over its width
  log-uniform in 0.3 to 3.3; sides that are longer than the image's are cut to
  these, where the paper draws again. It is anywhere in the image.

  Args:
    key: a typed random key.
    image: [H, W, C], one image.

  Returns:
    [H, W, C].

  Reference:
    Zhong et al., Random erasing data augmentation, AAAI 2020.
  """
  area_key, ratio_key, place_key, noise_key = jax.random.split(key, 4)
  sides = jnp.array(image.shape[:2])
  share = jax.random.uniform(area_key, minval=0.02, maxval=0.4)
  half = 0.5 * jax.random.uniform(
    ratio_key, minval=math.log(0.3), maxval=math.log(3.3)
  )
  lengths = jnp.sqrt(share * sides.prod()) * jnp.exp(jnp.stack([half, -half]))
  lengths = jnp.clip(jnp.round(lengths).astype(jnp.int32), 1, sides)
  first = jax.random.randint(place_key, (2,), 0, sides - lengths + 1)
  rows, columns = (
    (jnp.arange(side) >= low) & (jnp.arange(side) < low + length)
    for side, low, length in zip(image.shape, first, lengths, strict=False)
  )
  inside = rows[:, None, None] & columns[None, :, None]
  noise = jax.random.uniform(noise_key, image.shape, image.dtype)
  return jnp.where(inside, noise, image)

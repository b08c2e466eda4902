"""How many images an attack takes at once.

A gradient needs what the forward pass keeps for the backward pass. JAX tells
its size without compiling or computing anything, so that a batch can be chosen
that fits into the memory of the devices. The result of an attack does not
depend on the batch.

Example:
  >>> import jax
  >>> import numpy as np
  >>> from rnascl_jax.attacks import memory
  >>> def logits_fn(images):
  ...   return images.reshape(-1, 4)[:, :3] ** 2
  >>> images = np.zeros([1000, 2, 2, 1], np.float32)
  >>> memory.batch_size(logits_fn, images, jax.devices()[:1]) <= 1000
  True
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from rnascl_jax.attacks import compiled
from rnascl_jax.attacks.checks import gradient_checks
from rnascl_jax.base import Array, LogitsFn
from rnascl_jax.runtime import parallel

# Images of a device at once. More than these gain a CPU nothing.
_MOST = {'cpu': 256}
_MOST_ELSEWHERE = 1024
# The share of the free memory that is used: as much as is kept for the backward
# pass may be needed once more in it, and other programs run too.
_SHARE = 0.25
# Copies of an image that the state of an attack holds.
_COPIES = 16


def batch_size(
  logits_fn: LogitsFn, images: np.ndarray, devices: Sequence[jax.Device]
) -> int:
  """Chooses how many images are attacked at once, over all devices.

  Args:
    logits_fn: [B, H, W, C] -> [B, K].
    images: [N, H, W, C].
    devices: the devices.

  Returns:
    A power of two times the number of devices: at most 256 a device on a CPU
    and 1,024 elsewhere, and as many as fit into a quarter of the free memory.
    Of devices of several processes, which must agree, the memory is not asked.
  """
  platform = devices[0].platform
  count = _MOST.get(platform, _MOST_ELSEWHERE)
  own = parallel.here(devices)
  free = min(map(parallel.free_memory, own)) if own == list(devices) else 0
  if platform == 'cpu':
    free //= len(devices)  # They share it.
  if free:
    leaves, structure = jax.tree.flatten(compiled.as_argument(logits_fn))
    shapes = jax.eval_shape(lambda *arrays: arrays, *leaves)
    image = jax.ShapeDtypeStruct(images.shape[1:], images.dtype)
    of_an_image = _bytes_kept(structure, shapes, image)
    while count > 1 and count * of_an_image > _SHARE * free:
      count //= 2
  return count * len(devices)


@functools.lru_cache(maxsize=16)
def _bytes_kept(
  structure: Any,
  shapes: tuple[jax.ShapeDtypeStruct, ...],
  image: jax.ShapeDtypeStruct,
) -> int:
  """Bytes that an attack keeps of an image.

  Args:
    structure: of the classifier, a pytree.
    shapes: of its leaves.
    image: the shape [H, W, C] and the type of an image.
  """

  def forward(leaves: Sequence[Array], images: Array) -> list[Array]:
    logits_fn = jax.tree.unflatten(structure, leaves)
    return jax.tree.leaves(jax.vjp(logits_fn, images))

  def of_batch(size: int) -> int:
    images = jax.ShapeDtypeStruct((size, *image.shape), image.dtype)
    kept = jax.eval_shape(forward, shapes, images)
    return sum(array.size * array.dtype.itemsize for array in kept)

  own = _COPIES * image.size * image.dtype.itemsize
  try:
    return own + of_batch(2) - of_batch(1)
  except gradient_checks.MISSING:  # Black-box attacks keep nothing.
    return own

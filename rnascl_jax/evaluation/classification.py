"""What a network makes of images: logits in full float32.

Accelerators multiply float32 in fewer bits unless they are asked not to; what
counts as right or wrong is decided here, and always in full float32.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np

from rnascl_jax.attacks import prediction
from rnascl_jax.base import Array, LogitsFn, PyTree
from rnascl_jax.data import batches
from rnascl_jax.data.datasets import Split
from rnascl_jax.models import networks
from rnascl_jax.runtime import parallel


class Clean(NamedTuple):
  """What a network makes of images without an attack.

  Attributes:
    logits: [N, K].
    correct: [N] bool, images classified correctly; logits that are not numbers
      are wrong.
    seconds: wall clock.
  """

  logits: np.ndarray
  correct: np.ndarray
  seconds: float

  @property
  def accuracy(self) -> float:
    return float(self.correct.mean())

  def first(self, count: int) -> 'Clean':
    """Of the first images alone."""
    return Clean(self.logits[:count], self.correct[:count], self.seconds)


def classifier(net: nn.Module, variables: PyTree) -> LogitsFn:
  """The network as an argument of compiled programs.

  Args:
    net: the network.
    variables: its parameters and BatchNorm statistics.

  Returns:
    Images [B, H, W, C] -> logits [B, K], a pytree: for other variables of an
    equal network nothing compiles again.
  """
  return jax.tree_util.Partial(_apply(net), variables)


@functools.lru_cache(maxsize=16)
def _apply(net: nn.Module) -> Callable[[PyTree, Array], Array]:
  def evaluate(variables: PyTree, images: Array) -> Array:
    return networks.apply(net, variables, images)[0]

  return evaluate


def exactly(net: nn.Module, variables: PyTree, images: Array) -> Array:
  """Logits [B, K] in full float32, to be called in a compiled program."""
  with jax.default_matmul_precision('highest'):
    return networks.apply(net, variables, images)[0]


@functools.lru_cache(maxsize=16)
def _mapped(net: nn.Module, devices: tuple[jax.Device, ...]) -> Callable:
  return parallel.pmap(functools.partial(exactly, net), devices)


def logits(
  net: nn.Module,
  variables: PyTree,
  images: np.ndarray,
  devices: Sequence[jax.Device],
  *,
  batch_size: int,
) -> np.ndarray:
  """Logits of any number of images, compiled for one size of batches.

  Args:
    net: the network.
    variables: replicated over the devices.
    images: [N, H, W, C], uint8, or float32 in [0, 1].
    devices: devices.
    batch_size: images at once, rounded up to a multiple of the devices.

  Returns:
    [N, K], in full float32.
  """
  function, found = _mapped(net, tuple(devices)), []
  for rows, mask in rounds(len(images), batch_size, len(devices)):
    given = parallel.fetch(
      function(variables, floats(images, rows, devices)), devices
    )
    found.append(given.reshape(-1, given.shape[-1])[mask])
  return np.concatenate(found)


def floats(
  images: np.ndarray, rows: np.ndarray, devices: Sequence[jax.Device]
) -> np.ndarray:
  """Some images in [0, 1], [devices here, B, H, W, C].

  Args:
    images: [N, H, W, C], uint8, or float32 in [0, 1].
    rows: of a batch over all devices.
    devices: devices.
  """
  own = parallel.share(rows, devices)  # [devices here, B]
  part = images[own.reshape(-1)]
  if part.dtype == np.uint8:
    part = np.asarray(batches.to_float(part))
  return part.reshape(*own.shape, *part.shape[1:])


def clean(
  net: nn.Module,
  variables: PyTree,
  split: Split,
  devices: Sequence[jax.Device],
  *,
  batch_size: int,
) -> Clean:
  """Which images of a split are classified correctly; arguments as `logits`."""
  started = time.monotonic()
  found = logits(net, variables, split.images, devices, batch_size=batch_size)
  wrong = prediction.fooled(found, split.labels)
  return Clean(found, ~wrong, time.monotonic() - started)


def rounds(
  images: int, batch_size: int, devices: int
) -> list[tuple[np.ndarray, np.ndarray]]:
  """Rows and mask of each batch, of one size that the devices divide."""
  size = -(-batch_size // devices) * devices
  return list(zip(*batches.evaluation_batches(images, size), strict=True))

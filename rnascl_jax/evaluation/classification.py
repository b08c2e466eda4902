"""How a network classifies images: logits in full float32.

Accelerators multiply float32 in fewer bits unless they are asked not to. What
counts as right or wrong is decided here, and always in full float32.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from rnascl_jax.attacks import prediction
from rnascl_jax.base import Array, LogitsFn, PyTree
from rnascl_jax.data import batches
from rnascl_jax.data.datasets import Split, StoredImages
from rnascl_jax.models import networks
from rnascl_jax.runtime import metrics, parallel
from rnascl_jax.training import eval_step

# Images that become float32 at once, on a device.
_CONVERTED = 256


class Clean(NamedTuple):
  """How a network classifies images without an attack.

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
    """Keeps the first images alone."""
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


@functools.lru_cache(maxsize=4)
def _mapped_eval_step(
  net: nn.Module, devices: tuple[jax.Device, ...]
) -> Callable:
  return parallel.pmap(eval_step.make_eval_step(net), devices)


def logits(
  net: nn.Module,
  variables: PyTree,
  images: np.ndarray | StoredImages,
  devices: Sequence[jax.Device],
  *,
  batch_size: int,
) -> np.ndarray:
  """Logits of any number of images, compiled for one size of batches.

  Args:
    net: the network.
    variables: its variables, replicated over the devices.
    images: [N, H, W, C], uint8, or float32 in [0, 1].
    devices: the devices.
    batch_size: images at once, rounded up to a multiple of the devices.

  Returns:
    [N, K], in full float32.
  """
  function, parts = _mapped(net, tuple(devices)), []
  for rows, mask in padded_batches(len(images), batch_size, devices):
    part = function(variables, share_floats(images, rows, devices))
    part = parallel.fetch(part, devices)
    parts.append(part.reshape(-1, part.shape[-1])[mask])
  return np.concatenate(parts)


def clean(
  net: nn.Module,
  variables: PyTree,
  split: Split,
  devices: Sequence[jax.Device],
  *,
  batch_size: int,
) -> Clean:
  """Classifies the images of a split; arguments as `logits`."""
  started = time.monotonic()
  values = logits(net, variables, split.images, devices, batch_size=batch_size)
  correct = ~prediction.fooled(values, split.labels)
  return Clean(values, correct, time.monotonic() - started)


def mean_metrics(
  net: nn.Module,
  variables: PyTree,
  split: Split,
  devices: Sequence[jax.Device],
  *,
  batch_size: int,
) -> dict[str, float]:
  """Mean `loss` and `accuracy` over a split; arguments as `logits`."""
  step = _mapped_eval_step(net, tuple(devices))
  totals: dict[str, Any] = {}
  for rows, mask in padded_batches(len(split.labels), batch_size, devices):
    shares = (
      share_images(split.images, rows, devices),
      split.labels[parallel.share(rows, devices)],
      parallel.share(mask, devices),
    )
    sums = parallel.unreplicate(step(variables, *shares))
    totals = metrics.add(totals, sums) if totals else sums
  return metrics.means(totals)


def padded_batches(
  count: int, batch_size: int, devices: Sequence[jax.Device]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Rows and mask of each batch, of one size that the devices divide."""
  size = -(-batch_size // len(devices)) * len(devices)
  return prediction.padded_batches(count, size)


def share_images(
  images: np.ndarray | StoredImages,
  rows: np.ndarray,
  devices: Sequence[jax.Device],
) -> np.ndarray:
  """The images of a batch for this process, [devices here, B, H, W, C].

  Args:
    images: [N, H, W, C].
    rows: the batch's rows, over all devices.
    devices: the devices.
  """
  own = parallel.share(rows, devices)  # [devices here, B]
  part = images[own.reshape(-1)]
  return np.asarray(part).reshape(*own.shape, *part.shape[1:])


def share_floats(
  images: np.ndarray | StoredImages,
  rows: np.ndarray,
  devices: Sequence[jax.Device],
) -> np.ndarray:
  """The same in [0, 1], of images that are uint8, or float32 in [0, 1]."""
  part = share_images(images, rows, devices)
  return np.asarray(batches.to_float(part)) if part.dtype == np.uint8 else part


def as_floats(images: np.ndarray | StoredImages) -> np.ndarray:
  """Images on the host in [0, 1].

  Args:
    images: [n, H, W, C], uint8.

  Returns:
    [n, H, W, C], float32.
  """
  floats = np.empty(images.shape, np.float32)
  for start in range(0, len(images), _CONVERTED):
    part = np.asarray(images[start : start + _CONVERTED])
    floats[start : start + _CONVERTED] = batches.to_float(part)
  return floats

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

# Images that are decoded and become float32 at once.
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


class NetworkOnDevices(NamedTuple):
  """A network that classifies any number of images in batches of one size.

  Attributes:
    net: the network.
    variables: its variables, replicated over the devices.
    devices: the devices.
    batch_size: images at once, rounded up to a multiple of the devices.
  """

  net: nn.Module
  variables: PyTree
  devices: tuple[jax.Device, ...]
  batch_size: int

  def batches(self, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows and mask of each batch, see `prediction.padded_batches`."""
    number = len(self.devices)
    size = -(-self.batch_size // number) * number
    return prediction.padded_batches(count, size)

  def gather(
    self, count: int, compute: Callable[[np.ndarray], Array]
  ) -> np.ndarray:
    """Concatenates what is computed of batches of rows.

    Args:
      count: N, the number of rows.
      compute: rows of a batch -> [devices here, B, K].

    Returns:
      [N, K].
    """
    parts = []
    for rows, mask in self.batches(count):
      part = parallel.fetch(compute(rows), self.devices)
      parts.append(part.reshape(-1, part.shape[-1])[mask])
    return np.concatenate(parts)

  def share(
    self, images: np.ndarray | StoredImages, rows: np.ndarray
  ) -> np.ndarray:
    """The images of a batch for this process, [devices here, B, H, W, C]."""
    own = parallel.share(rows, self.devices)  # [devices here, B]
    part = images[own.reshape(-1)]
    return np.asarray(part).reshape(*own.shape, *part.shape[1:])

  def share_floats(
    self, images: np.ndarray | StoredImages, rows: np.ndarray
  ) -> np.ndarray:
    """The same in [0, 1], of images that are uint8, or float32 in [0, 1]."""
    part = self.share(images, rows)
    is_bytes = part.dtype == np.uint8
    return batches.to_float(part) if is_bytes else part

  def logits(self, images: np.ndarray | StoredImages) -> np.ndarray:
    """Logits [N, K] in full float32, compiled for one size of batches.

    The images are [N, H, W, C], uint8, or float32 in [0, 1].
    """
    parts = [logits for _, (logits,) in batch_logits([self], images)]
    return np.concatenate(parts)

  def clean(self, split: Split) -> Clean:
    """Classifies the images of a split."""
    started = time.monotonic()
    logits = self.logits(split.images)
    correct = ~prediction.fooled(logits, split.labels)
    return Clean(logits, correct, time.monotonic() - started)

  def mean_metrics(self, split: Split) -> dict[str, float]:
    """Mean `loss` and `accuracy` over a split."""
    step = _mapped_eval_step(self.net, self.devices)
    totals: dict[str, Any] = {}
    for rows, mask in self.batches(len(split.labels)):
      shares = (
        self.share(split.images, rows),
        split.labels[parallel.share(rows, self.devices)],
        parallel.share(mask, self.devices),
      )
      sums = parallel.unreplicate(step(self.variables, *shares))
      totals = metrics.add(totals, sums) if totals else sums
    return metrics.means(totals)


def on_devices(
  net: nn.Module,
  variables: PyTree,
  devices: Sequence[jax.Device],
  batch_size: int,
) -> NetworkOnDevices:
  """Replicates the variables of a network over the devices."""
  replicas = parallel.replicate(variables, devices)
  return NetworkOnDevices(net, replicas, tuple(devices), batch_size)


def batch_logits(
  networks: Sequence[NetworkOnDevices], images: Any
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
  """Classifies images by several networks, which share batches and devices.

  Each batch is read, decoded or made once for all networks.

  Args:
    networks: at least one.
    images: [N, H, W, C], uint8, or float32 in [0, 1], or what gives them when
      it is indexed by integers.

  Yields:
    Rows [n] of a batch, and each network's logits [n, K] in full float32.
  """
  first = networks[0]
  for rows, mask in first.batches(len(images)):
    floats = first.share_floats(images, rows)
    logits = []
    for network in networks:
      function = _mapped(network.net, network.devices)
      part = parallel.fetch(function(network.variables, floats), first.devices)
      logits.append(part.reshape(-1, part.shape[-1])[mask])
    yield rows[mask], logits


def classifier(net: nn.Module, variables: PyTree) -> LogitsFn:
  """The network as an argument of compiled programs.

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
  return parallel.pmap(functools.partial(exactly, net), devices, brief=True)


@functools.lru_cache(maxsize=4)
def _mapped_eval_step(
  net: nn.Module, devices: tuple[jax.Device, ...]
) -> Callable:
  return parallel.pmap(eval_step.make_eval_step(net), devices, brief=True)


def as_floats(images: np.ndarray | StoredImages) -> np.ndarray:
  """Images on the host, [n, H, W, C], uint8, as float32 in [0, 1]."""
  floats = np.empty(images.shape, np.float32)
  for start in range(0, len(images), _CONVERTED):
    part = np.asarray(images[start : start + _CONVERTED])
    floats[start : start + _CONVERTED] = batches.to_float(part)
  return floats

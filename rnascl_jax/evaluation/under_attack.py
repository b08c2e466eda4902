"""Exact accuracy of a network under attack, on every image of a split.

Images are attacked in batches of one size over all devices; the last batch is
filled up and the filling ignored. The random draws of an image come from its
index in the data set, so batch size, devices, processes and interruptions do
not change them. Epsilon is an argument of the compiled program, so a curve over
epsilon compiles once. An image counts as broken if the adversarial one is in
the ball and in [0, 1] and misclassified in full float32.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from rnascl_jax import attacks
from rnascl_jax.attacks import Preset, norms, prediction
from rnascl_jax.attacks.batch_slots import Finished
from rnascl_jax.base import Array, PyTree
from rnascl_jax.data import batches
from rnascl_jax.data.datasets import Split, StoredImages
from rnascl_jax.evaluation import classification
from rnascl_jax.evaluation.attempt import Attempt, Outcome
from rnascl_jax.evaluation.classification import Clean
from rnascl_jax.evaluation.journal import Entry, Journal
from rnascl_jax.models import networks
from rnascl_jax.runtime import fingerprints, metrics, parallel
from rnascl_jax.training import eval_step


@functools.lru_cache(maxsize=4)
def _evaluator(net: nn.Module, devices: tuple[jax.Device, ...]) -> Callable:
  return parallel.pmap(eval_step.make_eval_step(net), devices)


@functools.lru_cache(maxsize=32)
def _attacker(
  net: nn.Module,
  attack: Callable[..., Array],
  devices: tuple[jax.Device, ...],
) -> Callable:
  """Maps an attack over devices: which images fool the network, and images."""
  return parallel.pmap(_perturbation(net, attack), devices)


@functools.lru_cache(maxsize=8)
def _judge(
  net: nn.Module,
  attack: Callable[..., Array],
  devices: tuple[jax.Device, ...],
) -> Callable:
  """Maps an attack over devices: which images it breaks."""
  perturb = _perturbation(net, attack)

  def judge(
    variables: PyTree,
    images: Array,
    labels: Array,
    indices: Array,
    seed: Array,
    epsilon: Array,
  ) -> Array:
    fooled, perturbed = perturb(
      variables, images, labels, indices, seed, epsilon
    )
    deltas = perturbed - batches.to_float(images)
    lengths = jax.vmap(norms.LINF.length)(deltas)
    inside = ((perturbed >= 0) & (perturbed <= 1)).all((1, 2, 3))
    return fooled & inside & (lengths <= epsilon + prediction.TOLERANCE)

  return parallel.pmap(judge, devices)


def _perturbation(
  net: nn.Module, attack: Callable[..., Array]
) -> Callable[..., tuple[Array, Array]]:
  """Attacks images on one device: which [B] fool the network, and images."""

  def perturb(
    variables: PyTree,
    images: Array,
    labels: Array,
    indices: Array,
    seed: Array,
    epsilon: Array,
  ) -> tuple[Array, Array]:
    logits_fn = networks.logits_fn(net, variables)
    keys = attacks.image_keys(jax.random.key(seed), indices)
    perturbed = attacks.batched(attack)(
      logits_fn, keys, batches.to_float(images), labels, epsilon=epsilon
    )
    logits = classification.exactly(net, variables, perturbed)
    return metrics.accuracy(logits, labels) == 0, perturbed

  return perturb


def mean_metrics(
  net: nn.Module,
  variables: PyTree,
  split: Split,
  devices: Sequence[jax.Device],
  *,
  batch_size: int,
) -> dict[str, float]:
  """Loss and accuracy on every image of a split.

  Args:
    net: the network.
    variables: replicated over the devices.
    split: uint8 images and labels.
    devices: devices.
    batch_size: images at once, rounded up to a multiple of the devices.

  Returns:
    `loss` and `accuracy`.
  """
  step = _evaluator(net, tuple(devices))
  totals: dict[str, Any] = {}
  for rows, mask in classification.rounds(
    len(split.labels), batch_size, len(devices)
  ):
    shares = _shares(split, rows, devices)
    shares.append(parallel.share(mask, devices))
    sums = parallel.unreplicate(step(variables, *shares))
    totals = metrics.add(totals, sums) if totals else sums
  return metrics.means(totals)


def attacked(
  net: nn.Module,
  variables: PyTree,
  split: Split,
  attack: Preset | Callable[..., Array],
  devices: Sequence[jax.Device],
  *,
  epsilon: float,
  seed: int,
  batch_size: int,
  clean: Clean | None = None,
  journal: Journal | None = None,
  description: str = '',
) -> Outcome:
  """Which images an attack leaves classified correctly.

  An image that is wrong without an attack is not attacked and stays wrong.

  Args:
    net: the network.
    variables: replicated over the devices.
    split: uint8 images and labels.
    attack: for one image, taking `epsilon`; a preset scales its step with it.
    devices: devices.
    epsilon: radius in [0, 1].
    seed: of the random draws.
    batch_size: images at once, rounded up to a multiple of the devices.
    clean: what `classification.clean` found, if it is known.
    journal: where finished batches are kept; a run that was killed goes on
      there.
    description: what the progress, with the accuracy so far, is called; empty
      shows none.

  Returns:
    The outcome of every image.

  Raises:
    ValueError: if it is the journal of another evaluation.
  """
  if clean is None:
    clean = classification.clean(
      net, variables, split, devices, batch_size=batch_size
    )
  attempt = Attempt(clean, split, epsilon)
  if journal is not None:
    name = {
      'network': fingerprints.describe(net),
      'weights': fingerprints.digest(parallel.unreplicate(variables)),
      **_identity(split, attack, epsilon, seed),
    }
    for entry in journal.start(name, clean.logits):
      attempt.add(entry)
  function = _attacker(net, attack, tuple(devices))
  constants = parallel.replicate(
    (np.uint32(seed), np.float32(epsilon)), list(devices)
  )

  def perturb(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    indices = parallel.share(rows.astype(np.int32), devices)
    shares = (*_shares(split, rows, devices), indices)
    fooled, images = function(variables, *shares, *constants)
    images = parallel.fetch(images, devices).reshape(
      -1, *split.images.shape[1:]
    )
    return parallel.fetch(fooled, devices).reshape(-1), images

  rows = np.flatnonzero(~attempt.over)
  rounds = classification.rounds(len(rows), batch_size, len(devices))
  with attempt.progress(description) as bar:
    for entry in _attack(perturb, rows, rounds):
      attempt.add(entry)
      if journal is not None:
        journal.append(*entry)
      bar.update(int(attempt.over.sum()), {'accuracy': attempt.accuracy})
  return attempt.outcome()


def accuracy_under_attack(
  net: nn.Module,
  variables: PyTree,
  split: Split,
  attack: Callable[..., Array],
  devices: Sequence[jax.Device],
  *,
  epsilon: float,
  seed: int,
  batch_size: int,
) -> float:
  """The accuracy of `attacked`, without bringing its images to the host.

  Arguments as there.

  Returns:
    The share of the images that are classified correctly, whatever the attack
    makes of them; an image that is not in the ball breaks nothing.
  """
  clean = classification.clean(
    net, variables, split, devices, batch_size=batch_size
  )
  function = _judge(net, attack, tuple(devices))
  constants = parallel.replicate(
    (np.uint32(seed), np.float32(epsilon)), list(devices)
  )
  rows = np.flatnonzero(clean.correct)
  left = len(rows)
  for part, mask in classification.rounds(len(rows), batch_size, len(devices)):
    indices = parallel.share(rows[part].astype(np.int32), devices)
    shares = (*_shares(split, rows[part], devices), indices)
    broken = parallel.fetch(function(variables, *shares, *constants), devices)
    left -= int((broken.reshape(-1) & mask).sum())
  return left / len(split.labels)


def _shares(
  split: Split, rows: np.ndarray, devices: Sequence[jax.Device]
) -> list[np.ndarray]:
  """Images and labels of some rows, for the devices of this process."""
  own = parallel.share(rows, devices)  # [devices here, B]
  images = split.images[own.reshape(-1)]
  return [images.reshape(*own.shape, *images.shape[1:]), split.labels[own]]


def _identity(
  split: Split, attack: Callable[..., Array], epsilon: float, seed: int
) -> dict[str, Any]:
  """What the outcome depends on, but for the network."""
  return {
    'images': _name(split.images),
    'labels': fingerprints.digest(split.labels),
    'attack': fingerprints.describe(attack),
    'epsilon': epsilon,
    'seed': seed,
  }


def _name(images: np.ndarray | StoredImages) -> str:
  """Tells images from others; those on disk without decoding them."""
  if isinstance(images, StoredImages):
    return images.fingerprint()
  return fingerprints.digest(images)


def _attack(
  perturb: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
  rows: np.ndarray,
  rounds: Sequence[tuple[np.ndarray, np.ndarray]],
) -> Iterator[Entry]:
  """Attacks images batch by batch, each in one trial."""
  before = time.monotonic()
  for part, mask in rounds:
    fooled, images = perturb(rows[part])
    attacked_rows = rows[part][mask]
    nothing = np.zeros_like(attacked_rows)
    now = time.monotonic()
    yield (
      'attack',
      Finished(
        rows=attacked_rows,
        trials=nothing,
        steps=nothing,
        fooled=fooled[mask],
        images=images[fooled & mask],
      ),
      now - before,
    )
    before = now

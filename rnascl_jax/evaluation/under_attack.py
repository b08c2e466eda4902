"""Exact accuracy of a network under attack, on every image of a split.

Images are attacked in batches of one size over all devices; the last batch is
filled up and the filling ignored. The random draws of an image come from its
index in the data set, so batch size, devices, processes and interruptions do
not change them. Epsilon is an argument of the compiled program, so a curve over
epsilon compiles once. An image counts as broken if the adversarial one is in
the ball and in [0, 1] and misclassified in full float32.
"""

import functools
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from rnascl_jax import attacks
from rnascl_jax.attacks import Preset, norms, prediction
from rnascl_jax.attacks.attack_log import Finished
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.base import Array, PyTree
from rnascl_jax.data import batches
from rnascl_jax.data.datasets import Split, StoredImages
from rnascl_jax.evaluation import adversarial_images, classification
from rnascl_jax.evaluation.attack_journal import AttackJournal, Entry
from rnascl_jax.evaluation.classification import Clean, NetworkOnDevices
from rnascl_jax.models import networks
from rnascl_jax.runtime import fingerprints, parallel, processes, progress


class AttackResult(NamedTuple):
  """What an attack left of a classifier.

  Attributes:
    correct: [N] bool, images still classified correctly.
    rows: [n] integers, images that the attack broke.
    images: [n, H, W, C], float32, the adversarial images.
    rejected: how many images the attack claims that are not confirmed.
    seconds: wall clock, with that of earlier runs.
  """

  correct: np.ndarray
  rows: np.ndarray
  images: np.ndarray
  rejected: int
  seconds: float

  @property
  def accuracy(self) -> float:
    return float(self.correct.mean())


class AttackProgress:
  """What an attack has claimed so far.

  Attributes:
    done: [N] bool, images that are not to be attacked any more: they are wrong
      without an attack, or were attacked.
    seconds: wall clock, with that of earlier runs.
  """

  def __init__(self, clean: Clean, image_shape: tuple[int, ...]):
    self._clean, self._image_shape = clean, image_shape
    self.done = ~clean.correct
    self.seconds = 0.0
    self._images: dict[int, np.ndarray] = {}  # Adversarial ones, by row.

  def add(self, entry: Entry) -> None:
    _, finished, seconds = entry
    self.done[finished.rows] = True
    self.seconds += seconds
    rows = finished.rows[finished.fooled].tolist()
    self._images.update(zip(rows, finished.images, strict=True))

  @property
  def accuracy(self) -> float:
    """The accuracy that the images attacked so far let expect."""
    attacked = int((self.done & self._clean.correct).sum())
    return self._clean.accuracy * (1 - len(self._images) / max(attacked, 1))

  def claimed(self) -> tuple[np.ndarray, np.ndarray]:
    """Rows [n] of images that fooled the network, and adversarial images."""
    rows = np.array(sorted(self._images), np.int64)
    images = np.zeros((len(rows), *self._image_shape), np.float32)
    for place, row in enumerate(rows.tolist()):
      images[place] = self._images[row]
    return rows, images

  def bar(self, description: str) -> progress.Progress:
    """A progress bar of the images; without a description it shows nothing."""
    return progress.Progress(
      len(self.done),
      initial=int(self.done.sum()),
      description=description,
      unit='images',
      is_main_process=processes.is_main() and bool(description),
    )


def attacked(
  network: NetworkOnDevices,
  split: Split,
  attack: Preset | Callable[..., Array],
  *,
  epsilon: float,
  seed: int,
  clean: Clean | None = None,
  journal: AttackJournal | None = None,
  file: pathlib.Path | None = None,
  description: str = '',
) -> AttackResult:
  """Attacks the images of a split that are classified correctly.

  An image that is wrong without an attack is not attacked and stays wrong.

  Args:
    network: the network.
    split: uint8 images and labels.
    attack: for one image, taking `epsilon`; a preset scales its step with it.
      Its attribute `norm` is the ball's; without one it is L-infinity.
    epsilon: radius of the ball, in the attack's norm.
    seed: seed of the random draws.
    clean: how the network classifies the split, if it is known.
    journal: where finished batches are kept; a run that was killed goes on
      there.
    file: where adversarial images are saved, and read from to be confirmed.
    description: name of the progress bar, which shows the accuracy so far;
      empty shows none.

  Returns:
    The result of every image.

  Raises:
    ValueError: if it is the journal of another evaluation.
  """
  clean = network.clean(split) if clean is None else clean
  done = AttackProgress(clean, split.images.shape[1:])
  if journal is not None:
    identity = {
      'network': fingerprints.describe(network.net),
      'weights': fingerprints.digest(parallel.unreplicate(network.variables)),
      'images': _fingerprint(split.images),
      'labels': fingerprints.digest(split.labels),
      'attack': fingerprints.describe(attack),
      'epsilon': epsilon,
      'seed': seed,
    }
    for entry in journal.start(identity, clean.logits):
      done.add(entry)
  rows = np.flatnonzero(~done.done)
  with done.bar(description) as bar:
    before = time.monotonic()
    for batch, mask, outputs in _attack(
      network, split, attack, rows, epsilon, seed
    ):
      finished = _finished(batch, mask, outputs, network.devices)
      now = time.monotonic()
      entry = 'attack', finished, now - before
      before = now
      done.add(entry)
      if journal is not None:
        journal.append(*entry)
      bar.update(int(done.done.sum()), {'accuracy': done.accuracy})
  rows, images = done.claimed()
  adversarial = adversarial_images.confirm(
    rows,
    images,
    split,
    network.logits,
    norm=_norm(attack),
    epsilon=epsilon,
    file=file,
  )
  correct = clean.correct.copy()
  correct[adversarial.rows] = False
  rejected = len(rows) - len(adversarial.rows)
  return AttackResult(
    correct, adversarial.rows, adversarial.images, rejected, done.seconds
  )


def accuracy_under_attack(
  network: NetworkOnDevices,
  split: Split,
  attack: Callable[..., Array],
  *,
  epsilon: float,
  seed: int,
) -> float:
  """The accuracy of `attacked`, without bringing its images to the host.

  Arguments as there. It is the share of the images that are classified
  correctly, whatever the attack makes of them; an image that is not in the ball
  breaks nothing.
  """
  clean = network.clean(split)
  rows = np.flatnonzero(clean.correct)
  robust = len(rows)
  for _, mask, outputs in _attack(network, split, attack, rows, epsilon, seed):
    fooled, inside = (parallel.fetch(x, network.devices) for x in outputs[:2])
    robust -= int(((fooled & inside).reshape(-1) & mask).sum())
  return robust / len(split.labels)


# Which images [devices here, B] fool the network, which are in the ball and in
# [0, 1], and the images, all on the devices.
_Attacked = tuple[Array, Array, Array]


def _attack(
  network: NetworkOnDevices,
  split: Split,
  attack: Callable[..., Array],
  rows: np.ndarray,
  epsilon: float,
  seed: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, _Attacked]]:
  """Attacks images batch by batch; yields a batch's rows, mask and outputs."""
  net, variables, devices, _ = network
  function = _attacker(net, attack, devices)
  constants = parallel.replicate(
    (np.uint32(seed), np.float32(epsilon)), devices
  )
  for places, mask in network.batches(len(rows)):
    batch = rows[places]
    indices = parallel.share(batch.astype(np.int32), devices)
    images, labels = network.share(split.images, batch), split.labels[indices]
    yield batch, mask, function(variables, images, labels, indices, *constants)


@functools.lru_cache(maxsize=32)
def _attacker(
  net: nn.Module, attack: Callable[..., Array], devices: tuple[jax.Device, ...]
) -> Callable[..., _Attacked]:
  """Maps an attack on images over devices."""

  def perturb(
    variables: PyTree,
    images: Array,
    labels: Array,
    indices: Array,
    seed: Array,
    epsilon: Array,
  ) -> _Attacked:
    originals = batches.to_float(images)
    logits_fn = networks.logits_fn(net, variables)
    keys = attacks.image_keys(jax.random.key(seed), indices)
    perturbed = attacks.batched(attack)(
      logits_fn, keys, originals, labels, epsilon=epsilon
    )
    logits = classification.exactly(net, variables, perturbed)
    inside = prediction.in_ball(
      perturbed, originals, epsilon=epsilon, norm=_norm(attack)
    )
    return prediction.fooled(logits, labels), inside, perturbed

  return parallel.pmap(perturb, devices, brief=True)


def _norm(attack: Callable[..., Array]) -> Norm:
  return getattr(attack, 'norm', norms.LINF)


def _finished(
  rows: np.ndarray,
  mask: np.ndarray,
  outputs: _Attacked,
  devices: tuple[jax.Device, ...],
) -> Finished:
  """A batch on the host, as trials of one attack."""
  fooled = parallel.fetch(outputs[0], devices).reshape(-1)
  images = parallel.fetch(outputs[2], devices)
  images = images.reshape(-1, *images.shape[2:])[fooled & mask]
  zeros = np.zeros_like(rows[mask])
  return Finished(rows[mask], zeros, zeros, fooled[mask], images)


def _fingerprint(images: np.ndarray | StoredImages) -> Any:
  """Tells images from others; those on disk without decoding them."""
  if isinstance(images, StoredImages):
    return images.fingerprint()
  return fingerprints.digest(images)

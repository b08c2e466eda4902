"""A trained model under attack, in a run that may be stopped at any time.

What is finished goes into journals in `evaluation/journal/<model>/`, one for
each attack, named after what its result depends on, so that other settings have
other journals. They are deleted when the model is evaluated. Adversarial images
lie there too until all attacks are done.
"""

import dataclasses
import functools
import pathlib
import signal
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

from rnascl_jax import attacks
from rnascl_jax.attacks import masking, norms
from rnascl_jax.attacks.batch_slots import Finished
from rnascl_jax.attacks.masking.suspicion import Suspicion
from rnascl_jax.attacks.result import AutoAttackResult
from rnascl_jax.base import Array, LogitsFn, Variables
from rnascl_jax.config import resolve
from rnascl_jax.data import batches
from rnascl_jax.data.datasets import Split, StoredImages
from rnascl_jax.evaluation import (
  adversarial_images,
  classification,
  under_attack,
)
from rnascl_jax.evaluation.adversarial_images import Adversarial
from rnascl_jax.evaluation.attempt import Outcome
from rnascl_jax.evaluation.classification import Clean
from rnascl_jax.evaluation.journal import Entry, Journal
from rnascl_jax.runtime import fingerprints, parallel, processes
from rnascl_jax.runtime.signals import Interrupted, Stop
from rnascl_jax.stages import workdir
from rnascl_jax.stages.models import Model
from rnascl_jax.stages.run import Run
from rnascl_jax.stages.trials import Ensemble, Trial

# Images that become float32 at once, on a device.
_CONVERTED = 256


class _StoppableJournal(Journal):
  """A journal after whose entries a run may be stopped.

  All processes have the same entries, and the main one writes them.
  """

  def __init__(
    self, folder: pathlib.Path, identity: dict[str, Any], stop: Stop
  ):
    super().__init__(folder, identity)
    self._stop = stop

  def start(
    self, identity: Mapping[str, Any], logits: np.ndarray
  ) -> list[Entry]:
    found: list[Entry] = []
    begin = super().start

    def on_main() -> None:
      found.extend(begin(identity, logits))

    def elsewhere() -> None:
      if not processes.is_main():
        workdir.wait_for(self._folder / 'identity.json')
        found.extend(begin(identity, logits))

    # What the main process begins, the others find.
    processes.on_main(on_main)
    processes.together(elsewhere)
    processes.check_agreement('journal', f'entries={_digest(found)}')
    return found

  def append(self, member: str, finished: Finished, seconds: float) -> None:
    processes.on_main(super().append, member, finished, seconds)
    if processes.any_true(self._stop.signum is not None):
      self.flush()
      raise stopped(self._stop)


def stopped(stop: Stop) -> Interrupted:
  """What is raised when everything that is finished is saved."""
  logging.warning(
    'The evaluation was stopped; what it finished is saved and the same '
    'command goes on.'
  )
  # Another process may be the one that was asked.
  return Interrupted(128 + (stop.signum or signal.SIGTERM))


@dataclasses.dataclass(frozen=True)
class Subject:
  """A model, the images it is attacked on, and where results are kept.

  Attributes:
    run: the run.
    model: one of its trained models.
    folder: `evaluation/` in the workdir.
    split: the images.
    batch_size: images at once, over all devices.
    stop: whether the run is to stop.
  """

  run: Run
  model: Model
  folder: pathlib.Path
  split: Split
  batch_size: int
  stop: Stop

  @functools.cached_property
  def variables(self) -> Variables:
    """Replicated over the devices."""
    return parallel.replicate(self.model.variables, self.run.devices)

  @property
  def images(self) -> '_Floats':
    """[N, H, W, C], float32 in [0, 1], made where they are indexed."""
    return _Floats(self.split.images)

  @functools.cached_property
  def clean(self) -> Clean:
    """What the model makes of the images."""
    return classification.clean(
      self.model.net,
      self.variables,
      self.split,
      self.run.devices,
      batch_size=self.batch_size,
    )

  @functools.cached_property
  def weights(self) -> str:
    """A hash of the model's variables."""
    return fingerprints.digest(self.model.variables)

  @property
  def logits_fn(self) -> LogitsFn:
    return classification.classifier(self.model.net, self.model.variables)

  @property
  def adversarial(self) -> pathlib.Path:
    """The folder of adversarial images of this model."""
    return self.folder / 'adversarial' / self.model.name

  @property
  def unfinished(self) -> pathlib.Path:
    """Where they are while the model is under attack."""
    return self.journals / 'adversarial'

  @property
  def journals(self) -> pathlib.Path:
    return self.folder / 'journal' / self.model.name

  @functools.cached_property
  def suspicions(self) -> tuple[Suspicion, ...]:
    """Reasons to doubt any attack on this model."""
    images = self.images[: masking.MAX_IMAGES]
    return masking.before(self.logits_fn, images, self.split.labels)

  def attack(
    self, trial: Trial, epsilon: float | Array, count: int = 0
  ) -> Outcome:
    """Attacks the first images, or all of them, with progress."""
    # Not the trial's preset: programs are shared between values of epsilon.
    preset, epsilon = resolve.attack(trial.name), float(epsilon)
    part = first(self.split, count)
    with self._journal(trial.key, preset, epsilon, len(part.labels)) as journal:
      return under_attack.attacked(
        self.model.net,
        self.variables,
        part,
        preset,
        self.run.devices,
        epsilon=epsilon,
        seed=self.run.settings.seed,
        batch_size=self.batch_size,
        clean=self.clean.first(len(part.labels)),
        journal=journal,
        description=f'{self.model.name}: {trial.label} at ε = {epsilon:.4f}',
      )

  def auto_attack(self, ensemble: Ensemble, count: int = 0) -> AutoAttackResult:
    """The same for AutoAttack."""
    count = count or len(self.split.labels)
    name, members, epsilon = ensemble.key, ensemble.members, ensemble.epsilon
    with self._journal(name, members, epsilon, count) as journal:
      return attacks.auto_attack(
        self.logits_fn,
        jax.random.key(self.run.settings.seed),
        self.images[:count],
        self.split.labels[:count],
        epsilon=epsilon,
        members=members,
        batch_size=self.batch_size,
        devices=self.run.devices,
        journal=journal,
        description=self.model.name,
      )

  def keep(
    self, key: str, rows: np.ndarray, images: np.ndarray, epsilon: float
  ) -> tuple[np.ndarray, str | None]:
    """Saves adversarial images and checks what is then in the file.

    Args:
      key: of the attack.
      rows: [n] of the images that it broke.
      images: [n, H, W, C], what it made of them.
      epsilon: radius in the L-infinity norm.

    Returns:
      The rows that are confirmed, [n'], and the path in the workdir that the
      file with their images will have; None if it is not to be kept.
    """
    path = self.unfinished / f'{key}.npz'
    labels = self.split.labels[rows]
    claimed = Adversarial(rows, images, labels, epsilon, norms.LINF.name)
    processes.on_main(adversarial_images.save, path, claimed)
    found = processes.together(adversarial_images.load, path)
    sure = adversarial_images.confirmed(
      found, self.images, self.split.labels, self._classify, norms.LINF
    )
    if not self.run.settings.evaluation.save_images:
      processes.on_main(path.unlink)
      return found.rows[sure], None
    if not sure.all():
      processes.on_main(adversarial_images.save, path, found.only(sure))
    place = self.adversarial / path.name
    return found.rows[sure], place.relative_to(self.run.folder).as_posix()

  def _classify(self, images: np.ndarray) -> np.ndarray:
    return classification.logits(
      self.model.net,
      self.variables,
      images,
      self.run.devices,
      batch_size=self.batch_size,
    )

  def _journal(
    self, name: str, attack: Any, epsilon: float, images: int
  ) -> Journal:
    """The journal of an attack, named after what its result depends on."""
    about = {
      'weights': self.weights,
      'attack': fingerprints.describe(attack),
      'epsilon': epsilon,
      'seed': self.run.settings.seed,
      'images': images,
    }
    folder = self.journals / f'{name}-{fingerprints.short(about)}'
    return _StoppableJournal(folder, {'weights': self.weights}, self.stop)


def _digest(entries: list[Entry]) -> str:
  """A hash of what was finished."""
  if processes.count() == 1:
    return ''
  return fingerprints.digest([finished for _, finished, _ in entries])


class _Floats:
  """Images of a split as float32; all at once may be too many."""

  def __init__(self, images: np.ndarray | StoredImages):
    self._images = images

  def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
    part = self._images[rows]
    found = np.empty(part.shape, np.float32)
    for start in range(0, len(part), _CONVERTED):
      some = np.asarray(part[start : start + _CONVERTED])
      found[start : start + _CONVERTED] = batches.to_float(some)
    return found


def first(split: Split, count: int) -> Split:
  """The first images of a split; all of them if the count is 0."""
  return Split(split.images[: count or None], split.labels[: count or None])

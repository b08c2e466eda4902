"""A trained model under attack, in a run that may be stopped at any time.

What is finished goes into journals in `evaluation/journal/<model>/`, one for
each attack, named after what its result depends on, so that other settings have
other journals. They are deleted when the model is evaluated. Adversarial images
lie there too until all attacks are done.
"""

import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from rnascl_jax import attacks
from rnascl_jax.attacks.checks import pre_attack
from rnascl_jax.attacks.checks.warning import AttackWarning
from rnascl_jax.attacks.result import AutoAttackResult
from rnascl_jax.base import LogitsFn, Variables
from rnascl_jax.config import resolve
from rnascl_jax.config.settings import Settings
from rnascl_jax.data.datasets import Dataset, Split
from rnascl_jax.evaluation import (
  adversarial_images,
  classification,
  under_attack,
)
from rnascl_jax.evaluation.attack_journal import AttackJournal
from rnascl_jax.evaluation.attack_specs import AttackSpec, AutoAttackSpec
from rnascl_jax.evaluation.classification import Clean, NetworkOnDevices
from rnascl_jax.evaluation.under_attack import AttackResult
from rnascl_jax.runtime import fingerprints, processes
from rnascl_jax.runtime.signals import Stop


class Model(NamedTuple):
  """A trained model of a run.

  Attributes:
    name: name of the files about it.
    label: name in tables.
    kind: 'teacher' or 'student'.
    summary: contents of its stage.json: how it was trained, as JSON.
    net: its network.
    variables: its trained variables.
    order: row in tables, the same whichever other models are trained; of a
      model with a base, among all that have one, as it stands behind its base.
    base: the student that it was before its training on attacks; '' for all
      models that were trained from scratch.
  """

  name: str
  label: str
  kind: str
  summary: dict[str, Any]
  net: nn.Module
  variables: Variables
  order: int
  base: str = ''


@dataclasses.dataclass(frozen=True)
class EvaluationTarget:
  """A model, the run it is evaluated in, and where results are kept.

  Attributes:
    model: the trained model.
    settings: settings of the run.
    data: the run's images.
    devices: the run's devices.
    workdir: folder of the run.
    stop: whether the run is to stop.
  """

  model: Model
  settings: Settings
  data: Dataset
  devices: list[jax.Device]
  workdir: pathlib.Path
  stop: Stop

  @property
  def folder(self) -> pathlib.Path:
    """The folder of results, of all models."""
    return self.workdir / 'evaluation'

  @property
  def journals(self) -> pathlib.Path:
    """The folder of this model's journals."""
    return self.folder / 'journal' / self.model.name

  @property
  def adversarial(self) -> pathlib.Path:
    """The folder of this model's adversarial images."""
    return self.folder / 'adversarial' / self.model.name

  @property
  def examples(self) -> pathlib.Path:
    """The file of a few images under attack, see `examples`."""
    return self.folder / 'examples' / f'{self.model.name}.npz'

  @property
  def unfinished(self) -> pathlib.Path:
    """The folder of these images while the model is under attack."""
    return self.journals / 'adversarial'

  @functools.cached_property
  def split(self) -> Split:
    """The images that are attacked."""
    return first(self.data.test, self.settings.evaluation.max_images)

  @functools.cached_property
  def network(self) -> NetworkOnDevices:
    """The model on the devices, with as many images at once as there may be."""
    return classification.on_devices(
      self.model.net,
      self.model.variables,
      self.devices,
      min(self.settings.evaluation.batch_size, len(self.split.labels)),
    )

  @functools.cached_property
  def weights(self) -> str:
    """A hash of the model's variables."""
    return fingerprints.digest(self.model.variables)

  @property
  def logits_fn(self) -> LogitsFn:
    return classification.classifier(self.model.net, self.model.variables)

  @functools.cached_property
  def clean(self) -> Clean:
    """How the model classifies the images without an attack."""
    return self.network.clean(self.split)

  @functools.cached_property
  def warnings(self) -> tuple[AttackWarning, ...]:
    """Reasons to doubt any attack on this model."""
    images = classification.as_floats(
      self.split.images[: pre_attack.MAX_IMAGES]
    )
    return pre_attack.check(self.logits_fn, images, self.split.labels)

  def attack(
    self,
    spec: AttackSpec,
    epsilon: float,
    *,
    count: int = 0,
    file: pathlib.Path | None = None,
  ) -> AttackResult:
    """Attacks the first images, or all of them, with progress.

    Args:
      spec: the attack.
      epsilon: radius, which replaces that of the attack.
      count: how many images are attacked; 0 means all.
      file: where adversarial images are saved, see `under_attack.attacked`.
    """
    # Not the spec's preset: programs are shared between values of epsilon.
    norm = self.settings.evaluation.norm
    preset, part = resolve.attack(spec.name, norm), first(self.split, count)
    images = len(part.labels)
    with self._journal(spec.key, preset, epsilon, images) as journal:
      return under_attack.attacked(
        self.network,
        part,
        preset,
        epsilon=epsilon,
        seed=self.settings.seed,
        clean=self.clean.first(images),
        journal=journal,
        file=file,
        description=f'{self.model.name}: {spec.label} at ε = {epsilon:.4f}',
      )

  def auto_attack(
    self, spec: AutoAttackSpec, file: pathlib.Path
  ) -> tuple[AutoAttackResult, np.ndarray]:
    """Runs AutoAttack; its adversarial images are saved and confirmed.

    Returns:
      Its result, and [N] integers, the member that broke each image whose
      adversarial image is confirmed, else -1.
    """
    part = first(self.split, self.settings.evaluation.auto_attack_images)
    images = len(part.labels)
    with self._journal(spec.key, spec.members, spec.epsilon, images) as journal:
      result = attacks.auto_attack(
        self.logits_fn,
        classification.as_floats(part.images),
        part.labels,
        epsilon=spec.epsilon,
        norm=spec.norm,
        attacks=spec.members,
        key=jax.random.key(self.settings.seed),
        batch_size=self.network.batch_size,
        devices=self.devices,
        journal=journal,
        description=self.model.name,
      )
    rows = np.flatnonzero(result.broken_by >= 0)
    adversarial = adversarial_images.confirm(
      rows,
      result.images[rows],
      part,
      self.network.logits,
      norm=spec.norm,
      epsilon=spec.epsilon,
      file=file,
    )
    broken_by = np.full_like(result.broken_by, -1)
    broken_by[adversarial.rows] = result.broken_by[adversarial.rows]
    return result, broken_by

  def keep(self, file: pathlib.Path) -> str | None:
    """Keeps a file of adversarial images if the config wants it.

    Returns:
      The path that it will have in the workdir; None if it is not wanted.
    """
    if not self.settings.evaluation.save_images:
      processes.on_main(file.unlink)
      return None
    return (self.adversarial / file.name).relative_to(self.workdir).as_posix()

  def _journal(
    self, name: str, attack: Any, epsilon: float, images: int
  ) -> AttackJournal:
    """The journal of an attack, named after what its result depends on."""
    identity = {
      'weights': self.weights,
      'attack': fingerprints.describe(attack),
      'epsilon': epsilon,
      'seed': self.settings.seed,
      'images': images,
    }
    folder = self.journals / f'{name}-{fingerprints.short(identity)}'
    return AttackJournal(folder, {'weights': self.weights}, stop=self.stop)


def first(split: Split, count: int) -> Split:
  """The first images of a split; all of them if the count is 0."""
  return Split(split.images[: count or None], split.labels[: count or None])

"""Test images of a run, and what PGD makes of them, to compare files by."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from rnascl_jax import attacks
from rnascl_jax.config import resolve, settings
from rnascl_jax.config.settings import Settings
from rnascl_jax.data.datasets import Dataset
from rnascl_jax.evaluation import attack_specs, classification, target
from rnascl_jax.evaluation.attack_specs import AttackSpec
from rnascl_jax.models.pretrained import Pretrained
from rnascl_jax.reporting import tables
from rnascl_jax.reporting.results import SavedRun
from rnascl_jax.stages import data_record, workdir

# Test images at most, and how many of them a file gets at once.
_MOST, _AT_ONCE = 1000, 250


class AttackedImages(NamedTuple):
  """The first test images of a run.

  Attributes:
    images: [N, H, W, C], float32 in [0, 1].
    adversarial: the same, attacked with the gradients of a model in JAX.
    labels: [N].
    attack: what made them.
    dataset: where the images are from.
  """

  images: np.ndarray
  adversarial: np.ndarray
  labels: np.ndarray
  attack: AttackSpec
  dataset: str

  def accuracies(
    self, run: Callable[[np.ndarray], np.ndarray]
  ) -> tuple[float, float]:
    """Shares in [0, 1] that are classified correctly.

    Args:
      run: images [n, H, W, C] -> logits [n, K].

    Returns:
      Of the images, and of those that are classified correctly both before and
      after the attack.
    """
    clean, attacked = (
      np.concatenate(
        [
          run(images[start : start + _AT_ONCE]).argmax(-1)
          for start in range(0, len(images), _AT_ONCE)
        ]
      )
      for images in (self.images, self.adversarial)
    )
    correct = clean == self.labels
    robust = correct & (attacked == self.labels)
    return float(correct.mean()), float(robust.mean())

  @property
  def attack_text(self) -> str:
    """The attack and its radius, 'PGD-20 at 0.1'."""
    facts = self.attack.epsilon, self.dataset, self.attack.norm.name
    return f'{self.attack.label} at {tables.epsilon_text(*facts)}'


def saved_data(run: SavedRun) -> tuple[Settings, Dataset]:
  """The settings and the images that a run was made with.

  Args:
    run: of a workdir.

  Raises:
    MissingStageError: the folder has no config.
    ValueError: the images are others now, or the config is of another version.
    FileNotFoundError: the images are not on this machine.
  """
  workdir.check_run(run.workdir)
  try:
    config = settings.parse(run.config)
  except ValueError as error:
    raise ValueError(
      f'{run.workdir}/config.json is not of this version: {error} Export '
      'without --int8, or with the version that made the run.'
    ) from error
  data = resolve.dataset(config.data, data_record.statistics(run.workdir))
  data_record.check(run.workdir, data)
  return config, data


def make(config: Settings, data: Dataset, model: Pretrained) -> AttackedImages:
  """Attacks a model by the first PGD of its run's evaluation.

  Args:
    config: of the run; its seed decides the random starts.
    data: of the run. At most 1000 test images are taken.
    model: of the run.

  Raises:
    ValueError: the evaluation of the run has no attack.
  """
  spec = config.evaluation
  specs = attack_specs.attack_specs(spec.attacks, spec.norm, spec.radius)
  if not specs:
    raise ValueError(
      'evaluation.attacks=() of the run names no attack to compare files by.'
    )
  attack = attack_specs.first_pgd(specs)
  split = target.first(data.test, min(spec.max_images or _MOST, _MOST))
  images = classification.as_floats(split.images)
  adversarial = attacks.perturb(
    attack.preset,
    model.logits_fn,
    images,
    split.labels,
    key=jax.random.key(config.seed),
    checks=False,
  )
  return AttackedImages(images, adversarial, split.labels, attack, data.name)

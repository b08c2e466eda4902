"""The settings of a run: what a config may hold, with types and bounds.

A config is an `ml_collections.ConfigDict` of numbers, strings, booleans and
tuples. `parse` turns it into the frozen dataclasses below and complains, before
anything is computed, of unknown and missing fields and of values out of bounds.
`template` is a config with every field at the paper's value for CIFAR-10, for
config files to change. Names are turned into functions in `resolve` alone.

Example:
  >>> from rnascl_jax.config import settings
  >>> config = settings.template()
  >>> config.search.gamma = -1.0
  >>> settings.parse(config)
  Traceback (most recent call last):
    ...
  ValueError: config.search.gamma=-1.0 must be at least 0.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from rnascl_jax.config import fields
from rnascl_jax.config.settings import contradictions
from rnascl_jax.config.settings.evaluation import Evaluation
from rnascl_jax.config.settings.inputs import Data, Network, Space
from rnascl_jax.config.settings.run import Settings
from rnascl_jax.config.settings.stages import (
  Adversarial,
  FineTuning,
  Search,
  Student,
  Teacher,
  Train,
)
from rnascl_jax.config.settings.training import (
  AdversarialTraining,
  Distillation,
  Optimization,
)

__all__ = [
  'Adversarial',
  'Data',
  'Distillation',
  'Evaluation',
  'FineTuning',
  'Network',
  'Optimization',
  'AdversarialTraining',
  'Search',
  'Settings',
  'Space',
  'Student',
  'Teacher',
  'Train',
  'fine_tuning_template',
  'parse',
  'student_template',
  'template',
]


def template() -> ml_collections.ConfigDict:
  """A config with every field, at the paper's values for CIFAR-10."""
  return ml_collections.ConfigDict(dataclasses.asdict(Settings()))


def student_template(**changes: Any) -> ml_collections.ConfigDict:
  """A student's fields, for `config.students.<name>`."""
  return ml_collections.ConfigDict(dataclasses.asdict(Student(**changes)))


def fine_tuning_template(**changes: Any) -> ml_collections.ConfigDict:
  """The same for `config.adversarial.students.<name>`.

  Args:
    **changes: `label`, `student`, and fields of `adversarial_training`.
  """
  named = {k: changes.pop(k) for k in ('label', 'student') if k in changes}
  student = FineTuning(**named)
  training = dataclasses.replace(student.adversarial_training, **changes)
  student = dataclasses.replace(student, adversarial_training=training)
  return ml_collections.ConfigDict(dataclasses.asdict(student))


def parse(config: Mapping[str, Any] | ml_collections.ConfigDict) -> Settings:
  """Reads and checks a config.

  Args:
    config: nested fields, named as the dataclasses of this module.

  Returns:
    The settings.

  Raises:
    ValueError: for an unknown or missing field, a value of the wrong type or
      out of bounds, or settings that contradict each other.
  """
  if isinstance(config, ml_collections.ConfigDict):
    config = config.to_dict()
  settings = fields.read(Settings, config, 'config')
  contradictions.check(settings)
  return settings

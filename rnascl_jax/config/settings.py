"""The settings of a run: what a config may hold, with types and bounds.

A config is an `ml_collections.ConfigDict` of numbers, strings, booleans and
tuples. `parse` turns it into the frozen dataclasses of `schema` and raises,
before anything is computed, for unknown and missing fields and for values out
of bounds. `template` is a config with every field, for config files to change.
Names are turned into functions in `resolve` alone.

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

from rnascl_jax.config import contradictions, fields
from rnascl_jax.config.schema import AdversarialSettings as AdversarialSettings
from rnascl_jax.config.schema import AdversarialTraining as AdversarialTraining
from rnascl_jax.config.schema import Data as Data
from rnascl_jax.config.schema import (
  DistillationSettings as DistillationSettings,
)
from rnascl_jax.config.schema import EvaluationSettings as EvaluationSettings
from rnascl_jax.config.schema import FineTuning as FineTuning
from rnascl_jax.config.schema import NetworkSettings as NetworkSettings
from rnascl_jax.config.schema import NetworkShape as NetworkShape
from rnascl_jax.config.schema import Optimization as Optimization
from rnascl_jax.config.schema import Pruning as Pruning
from rnascl_jax.config.schema import SearchSettings as SearchSettings
from rnascl_jax.config.schema import Settings as Settings
from rnascl_jax.config.schema import Space as Space
from rnascl_jax.config.schema import StudentSettings as StudentSettings
from rnascl_jax.config.schema import Teacher as Teacher
from rnascl_jax.config.schema import TeacherWeights as TeacherWeights
from rnascl_jax.config.schema import Train as Train


def template() -> ml_collections.ConfigDict:
  """A config with every field, at the paper's values for CIFAR-10."""
  return ml_collections.ConfigDict(dataclasses.asdict(Settings()))


def student_template(**changes: Any) -> ml_collections.ConfigDict:
  """A student's fields, for `config.students.<name>`."""
  return ml_collections.ConfigDict(
    dataclasses.asdict(StudentSettings(**changes))
  )


def fine_tuning_template(**changes: Any) -> ml_collections.ConfigDict:
  """The same for `config.adversarial.students.<name>`.

  Args:
    **changes: fields of the entry, and of its `adversarial_training`.
  """
  own = {field.name for field in dataclasses.fields(FineTuning)}
  named = {k: changes.pop(k) for k in own & changes.keys()}
  student = FineTuning(**named)
  training = dataclasses.replace(student.adversarial_training, **changes)
  student = dataclasses.replace(student, adversarial_training=training)
  return ml_collections.ConfigDict(dataclasses.asdict(student))


def parse(config: Mapping[str, Any] | ml_collections.ConfigDict) -> Settings:
  """Reads and checks a config.

  Args:
    config: nested fields, named as the dataclasses of `schema`.

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

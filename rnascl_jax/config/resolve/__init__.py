"""Turns the names in settings into functions: the border of the library.

Every name a config may hold stands in one of the dicts of this package (or in
those of `datasets`, `teachers`, `attacks` and `search_space`); beyond it there
are functions and no names.
"""

from rnascl_jax.config.resolve.adversarial import (
  ADVERSARIAL_METHODS,
  adversarial_method,
  max_drop,
  replays,
  validation_attack,
)
from rnascl_jax.config.resolve.attacks import (
  ENSEMBLES,
  MEMBERS,
  attack,
  ensemble,
)
from rnascl_jax.config.resolve.distillation import (
  LAYER_LOSSES,
  METHODS,
  DistillationSpec,
  distill,
  distillation_spec,
)
from rnascl_jax.config.resolve.inputs import (
  TrainedFor,
  augmentation,
  dataset,
  space,
  student_network,
  teacher_network,
  teacher_spec,
)
from rnascl_jax.config.resolve.names import pick
from rnascl_jax.config.resolve.optimization import optimizer, schedule, search

__all__ = [
  'LAYER_LOSSES',
  'ENSEMBLES',
  'DistillationSpec',
  'MEMBERS',
  'METHODS',
  'ADVERSARIAL_METHODS',
  'attack',
  'augmentation',
  'dataset',
  'distill',
  'ensemble',
  'distillation_spec',
  'max_drop',
  'optimizer',
  'pick',
  'adversarial_method',
  'replays',
  'schedule',
  'search',
  'space',
  'student_network',
  'TrainedFor',
  'teacher_network',
  'teacher_spec',
  'validation_attack',
]

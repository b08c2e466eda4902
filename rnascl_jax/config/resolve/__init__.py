"""Turns the names in settings into functions: the border of the library.

Every name a config may hold stands in one of the dicts of this package (or in
those of `datasets`, `teachers`, `attacks` and `search_space`); beyond it there
are functions and no names.
"""

from rnascl_jax.config.resolve.attacks import (
  ENSEMBLES,
  MEMBERS,
  attack,
  ensemble,
)
from rnascl_jax.config.resolve.distillation import (
  CROSS_LAYERS,
  METHODS,
  Kind,
  distill,
  kind,
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
from rnascl_jax.config.resolve.regimes import (
  REGIMES,
  max_drop,
  regime,
  replays,
  validation_attack,
)

__all__ = [
  'CROSS_LAYERS',
  'ENSEMBLES',
  'Kind',
  'MEMBERS',
  'METHODS',
  'REGIMES',
  'attack',
  'augmentation',
  'dataset',
  'distill',
  'ensemble',
  'kind',
  'max_drop',
  'optimizer',
  'pick',
  'regime',
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

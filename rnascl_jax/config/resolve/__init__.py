"""Turns the names in settings into functions: the border of the library.

Every name that a config may hold stands in one of the dicts of this package (or
in those of `datasets`, `fixed`, `attacks` and `spaces`); the rest of the
library takes functions and knows no names.
"""

from rnascl_jax.config.resolve.adversarial_training import (
  ADVERSARIAL_METHODS,
  adversarial_method,
  max_drop,
  replays,
  validation_attack,
)
from rnascl_jax.config.resolve.costs import (
  COSTS,
  SearchCost,
  latency_table,
  search_cost,
)
from rnascl_jax.config.resolve.distillation import (
  DIVERGENCES,
  LAYER_LOSSES,
  METHODS,
  TUTORS,
  DistillationSpec,
  distill,
  distillation_spec,
  tutor_weights,
)
from rnascl_jax.config.resolve.evaluation import attack, ensemble
from rnascl_jax.config.resolve.images import (
  augmentation,
  batch_order,
  dataset,
  mixture,
)
from rnascl_jax.config.resolve.names import pick
from rnascl_jax.config.resolve.networks import (
  SHORTCUTS,
  TrainedFor,
  fixed_network,
  network_spec,
  space,
  student_network,
)
from rnascl_jax.config.resolve.optimization import (
  NOISES,
  OPTIMIZERS,
  PENALTIES,
  SCHEDULES,
  arch_optimizer,
  average,
  optimizer,
  schedule,
  search,
  search_weight_steps,
)

__all__ = [
  'ADVERSARIAL_METHODS',
  'COSTS',
  'DIVERGENCES',
  'DistillationSpec',
  'LAYER_LOSSES',
  'METHODS',
  'NOISES',
  'OPTIMIZERS',
  'PENALTIES',
  'SCHEDULES',
  'SHORTCUTS',
  'SearchCost',
  'TUTORS',
  'TrainedFor',
  'adversarial_method',
  'arch_optimizer',
  'attack',
  'augmentation',
  'average',
  'batch_order',
  'dataset',
  'distill',
  'distillation_spec',
  'ensemble',
  'latency_table',
  'max_drop',
  'mixture',
  'optimizer',
  'pick',
  'replays',
  'schedule',
  'search',
  'search_cost',
  'search_weight_steps',
  'space',
  'student_network',
  'fixed_network',
  'network_spec',
  'tutor_weights',
  'validation_attack',
]

"""What a student learns from a teacher, as losses of arrays.

| function             | compares                    | published weight        |
| -------------------- | --------------------------- | ----------------------- |
| `kl_teacher_student` | logits (KD)                 | 0.9 beside 0.1 CE       |
| `attention_transfer` | maps of paired stages       | 1000                    |
| `similarity`         | the last stage              | 3000                    |
| `vid`                | paired stages               | 1                       |
| `rkd`                | features                    | 1, of 25 and 50 inside  |
| `pkt`                | features                    | 30000                   |
| `crd`                | embeddings of features      | 0.8                     |
| `layerwise_kl`       | maps of layers and tutors   | RNAS-CL's gamma         |

The weights are those of RepDistiller (Tian et al., Contrastive representation
distillation, ICLR 2020). Every function returns one value per example, `[B]`;
the caller takes the mean over the global batch. Losses over pairs of examples
give image i the share of its row and take `axis_name`: with it the pairs are
those of the global batch, whose rows are gathered. Gradients
flow into both arguments: a teacher is made constant by the caller.

The networks and trained parts are put together in `rnascl_jax.methods`.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import distillation
  >>> student, teacher = jnp.array([[1., 0.]]), jnp.array([[0., 0.]])
  >>> print(distillation.kl_student_teacher(student, teacher).round(4))
  [0.1109]
"""

from rnascl_jax.distillation.contrastive import (
  Memory,
  Notes,
  crd,
  init_memory,
  remember,
)
from rnascl_jax.distillation.kl import (
  kl_divergence,
  kl_student_teacher,
  kl_teacher_student,
)
from rnascl_jax.distillation.layerwise import (
  layerwise_kl,
  map_log_probabilities,
)
from rnascl_jax.distillation.maps import attention_transfer
from rnascl_jax.distillation.negatives import ByClass
from rnascl_jax.distillation.negatives import draw as draw_negatives
from rnascl_jax.distillation.probabilistic import pkt
from rnascl_jax.distillation.relational import rkd, rkd_angle, rkd_distance
from rnascl_jax.distillation.similarities import similarity
from rnascl_jax.distillation.variational import initial_rho, vid

__all__ = [
  'ByClass',
  'Memory',
  'Notes',
  'attention_transfer',
  'crd',
  'draw_negatives',
  'init_memory',
  'initial_rho',
  'kl_divergence',
  'kl_student_teacher',
  'kl_teacher_student',
  'layerwise_kl',
  'map_log_probabilities',
  'pkt',
  'remember',
  'rkd',
  'rkd_angle',
  'rkd_distance',
  'similarity',
  'vid',
]

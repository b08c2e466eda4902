"""Losses: pure functions of arrays that return one value per example, `[B]`.

The caller takes the mean over the global batch. Nothing here knows of networks,
configs or devices. The losses of a classifier and of adversarial training:

| function                           | what it is                             |
| ---------------------------------- | -------------------------------------- |
| `cross_entropy`                    | of logits and labels                   |
| `margin`, `cw_loss`                | the margin of Carlini and Wagner       |
| `dlr`, `targeted_dlr`              | the logits' ratio of Croce and Hein    |
| `trades`                           | TRADES (Zhang et al., 2019)            |
| `cac`                              | confidence-aware consistency, eq. (5)  |
| `mart`, `boosted_cross_entropy`    | MART (Wang et al., 2020)               |
| `search_objective`                 | eq. (2), and its logarithm             |
| `training_objective`               | eqs. (4) and (6)                       |

The losses by which a student is compared with a teacher:

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

Those of robust distillation, on images and on their adversarial views:

| function | published in          | weights                      |
| -------- | --------------------- | ---------------------------- |
| `ard`    | Goldblum et al., 2020 | alpha = 1, T = 30            |
| `rslad`  | Zi et al., 2021       | alpha = 5 / 6                |
| `iad`    | Zhu et al., 2022      | alpha = 1, T = 1, beta = 0.1 |
| `adaad`  | Huang et al., 2023    | alpha = 1                    |

The weights of the second table are those of RepDistiller (Tian et al.,
Contrastive representation distillation, ICLR 2020). Every function returns one
value per example, `[B]`; the caller takes the mean over the global batch.
Losses over pairs of examples give image i the share of its row and take
`axis_name`: with it the pairs are those of the global batch, whose rows are
gathered. Gradients flow into both arguments: a teacher is made constant by the
caller.

Equations are those of Nath et al., RNAS-CL, IJCV 2024, sections 3.4 and 3.5.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> logits, labels = jnp.array([[2., 0., 0.]]), jnp.array([0])
  >>> print(losses.cross_entropy(logits, labels).round(4))
  [0.2395]
  >>> print(losses.margin(logits, labels))
  [2.]
  >>> student, teacher = jnp.array([[1., 0.]]), jnp.array([[0., 0.]])
  >>> print(losses.kl_student_teacher(student, teacher).round(4))
  [0.1109]
"""

from rnascl_jax.losses.attention import attention_loss, attention_vectors
from rnascl_jax.losses.classification import cross_entropy
from rnascl_jax.losses.contrastive import (
  Memory,
  MemoryUpdate,
  crd,
  init_memory,
  remember,
)
from rnascl_jax.losses.kl import (
  kl_divergence,
  kl_student_teacher,
  kl_teacher_student,
)
from rnascl_jax.losses.layerwise import layerwise_kl, map_log_probabilities
from rnascl_jax.losses.maps import attention_transfer
from rnascl_jax.losses.margins import cw_loss, dlr, margin, targeted_dlr
from rnascl_jax.losses.mart import boosted_cross_entropy, mart
from rnascl_jax.losses.negatives import ByClass
from rnascl_jax.losses.negatives import draw as draw_negatives
from rnascl_jax.losses.objectives import (
  Terms,
  log_search_objective,
  search_objective,
  training_objective,
)
from rnascl_jax.losses.probabilistic import pkt
from rnascl_jax.losses.relational import rkd, rkd_angle, rkd_distance
from rnascl_jax.losses.robust import cac, confident, robust_term, trades
from rnascl_jax.losses.robust_distillation import adaad, ard, iad, rslad
from rnascl_jax.losses.similarities import similarity
from rnascl_jax.losses.variational import initial_rho, vid

__all__ = [
  'ByClass',
  'Memory',
  'MemoryUpdate',
  'Terms',
  'adaad',
  'ard',
  'attention_loss',
  'attention_transfer',
  'attention_vectors',
  'boosted_cross_entropy',
  'cac',
  'confident',
  'crd',
  'cross_entropy',
  'cw_loss',
  'dlr',
  'draw_negatives',
  'iad',
  'init_memory',
  'initial_rho',
  'kl_divergence',
  'kl_student_teacher',
  'kl_teacher_student',
  'layerwise_kl',
  'log_search_objective',
  'map_log_probabilities',
  'margin',
  'mart',
  'pkt',
  'remember',
  'rkd',
  'rkd_angle',
  'rkd_distance',
  'robust_term',
  'rslad',
  'search_objective',
  'similarity',
  'targeted_dlr',
  'trades',
  'training_objective',
  'vid',
]

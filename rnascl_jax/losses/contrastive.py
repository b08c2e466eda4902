"""Contrastive distillation (CRD): the student's embedding finds the teacher's.

Two memories hold an embedding of every training image, one by the student and
one by the teacher. An image is told from K images of other classes by noise-
contrastive estimation: with z_s its embedding by the student, M_t the teacher's
memory, n images and i = 0 the image itself,

  P_i = exp(<M_t[i], z_s> / T) / Z,    c = K / n
  L_s = -log P_0 / (P_0 + c + e) - sum_{i > 0} log c / (P_i + c + e)

with e = 1e-7, likewise L_t of z_t and M_s, and CRD = L_s + L_t. Z is set once,
to n times the mean of the exponentials in the first batch. After an update the
images' rows become the normalised (1 - m) z + m M.

A step reads the memory that the step before it wrote: call `remember` after
`crd`, on the update of the global batch, which must hold no image twice. The
embeddings are trained with the student: `projections.Embeddings`.

Example:
  >>> import jax, jax.numpy as jnp, numpy as np
  >>> from rnascl_jax import losses
  >>> labels = np.array([0, 1, 1, 0])
  >>> memory = losses.init_memory(jax.random.key(0), labels, features=2)
  >>> student, teacher, batch = jnp.eye(2), jnp.eye(2), jnp.array([0, 2])
  >>> keys = jax.random.split(jax.random.key(1), 2)
  >>> others = losses.draw_negatives(
  ...   keys, jnp.asarray(labels)[batch], memory.table, count=3
  ... )
  >>> values, update = losses.crd(memory, student, teacher, batch, others)
  >>> values.shape
  (2,)
  >>> memory = losses.remember(memory, update, batch)
  >>> print(jnp.linalg.norm(memory.student[batch], axis=-1).round(4))
  [1. 1.]

Reference:
  Tian et al., Contrastive representation distillation, ICLR 2020, and their
  RepDistiller, whose weight is 0.8 with 16384 negatives, T = 0.07 and m = 0.5.
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnascl_jax.base import Array, Key
from rnascl_jax.losses import negatives, rows

_EPSILON = 1e-7


class Memory(NamedTuple):
  """What CRD carries from step to step.

  With E = 128 the embeddings take 51 MB for CIFAR-10 and 1.3 GB for ImageNet.

  Attributes:
    student: [N, E], embeddings of all training images by the student.
    teacher: [N, E], by the teacher.
    normalisers: [2], Z of L_s and of L_t; 0 until they are set.
    table: the training images by class.
  """

  student: Array
  teacher: Array
  normalisers: Array
  table: negatives.ByClass


class MemoryUpdate(NamedTuple):
  """What is to be remembered of each image.

  Attributes:
    student: [B, E], its embedding by the student.
    teacher: [B, E], by the teacher.
    means: [B, 2], of its exponentials in L_s and L_t.
  """

  student: Array
  teacher: Array
  means: Array


def init_memory(key: Key, labels: np.ndarray, *, features: int) -> Memory:
  """Random embeddings of length 1 on average.

  Args:
    key: of the draw.
    labels: [N], of all training images.
    features: E, 128 in the paper.

  Raises:
    ValueError: there are less than two classes.
  """
  width = math.sqrt(3 / features)
  student, teacher = jax.random.uniform(
    key, (2, len(labels), features), jnp.float32, -width, width
  )
  table = negatives.by_class(labels)
  return Memory(student, teacher, jnp.zeros(2, jnp.float32), table)


def crd(
  memory: Memory,
  student: Array,
  teacher: Array,
  indices: Array,
  others: Array,
  *,
  temperature: float = 0.07,
  axis_name: str | None = None,
) -> tuple[Array, MemoryUpdate]:
  """CRD, see above, and what to remember.

  Args:
    memory: before the step, constant.
    student: [B, E], embeddings of length 1; the gradient flows into both.
    teacher: [B, E], likewise.
    indices: [B], of the images in the training split.
    others: [B, K], those of their negatives, see `draw_negatives`.
    temperature: T, positive.
    axis_name: mapped axis over which the batch is split, if any: the first Z
      is that of the global batch.

  Returns:
    Values [B] and memory_update, which are constant.
  """
  chex.assert_rank([student, teacher, others], 2)
  chex.assert_equal_shape([student, teacher])
  chex.assert_equal_shape_prefix([student, indices, others], 1)
  student, teacher = rows.widen(student), rows.widen(teacher)
  # A step does not learn through what earlier ones left behind.
  memory = lax.stop_gradient(memory)
  asked = jnp.concatenate([indices[:, None], others], axis=1)  # [B, 1 + K]
  # Each embedding is sought in the other network's memory.
  scores = (
    _scores(memory.teacher, student, asked) / temperature,
    _scores(memory.student, teacher, asked) / temperature,
  )
  means = lax.stop_gradient(
    jnp.stack([jnp.mean(jnp.exp(s), axis=-1) for s in scores], axis=-1)
  )
  normalisers = _normalisers(memory, means, axis_name)
  values = [
    _nce(s - jnp.log(z), len(memory.student))
    for s, z in zip(scores, normalisers, strict=True)
  ]
  return sum(values[1:], values[0]), lax.stop_gradient(
    MemoryUpdate(student, teacher, means)
  )


def remember(
  memory: Memory,
  memory_update: MemoryUpdate,
  indices: Array,
  *,
  momentum: float = 0.5,
) -> Memory:
  """The memory after a step.

  Args:
    memory: before it.
    memory_update: of the global batch.
    indices: [B], of its images; which of two equal ones counts is undefined.
    momentum: m, in [0, 1).

  Returns:
    It differs in the rows of `indices`, and in the normalisers if they were
    not set.
  """
  new = memory._replace(
    student=_move(memory.student, memory_update.student, indices, momentum),
    teacher=_move(memory.teacher, memory_update.teacher, indices, momentum),
    normalisers=_normalisers(memory, memory_update.means, None),
  )
  # Whatever the precision of a step, a state keeps its types.
  return jax.tree.map(lambda x, old: x.astype(old.dtype), new, memory)


def _move(
  embeddings: Array, new: Array, indices: Array, momentum: float
) -> Array:
  moved = momentum * embeddings[indices] + (1 - momentum) * new
  unit = rows.normalize(moved).astype(embeddings.dtype)
  return embeddings.at[indices].set(unit, unique_indices=True)


def _normalisers(memory: Memory, means: Array, axis_name: str | None) -> Array:
  """Those of the memory, or of the batch if they are not set, [2]."""
  mean = jnp.mean(means, axis=0)
  if axis_name is not None:
    mean = lax.pmean(mean, axis_name)
  fresh = mean * len(memory.student)
  return jnp.where(memory.normalisers > 0, memory.normalisers, fresh)


def _scores(embeddings: Array, own: Array, asked: Array) -> Array:
  """Inner products of rows [B, E] with the embeddings asked for, [B, 1 + K].

  Either with all N embeddings, of which some are taken, or with copies of those
  asked for, whichever needs less memory for an image.
  """
  if asked.shape[1] * own.shape[1] > len(embeddings):
    scores = rows.products(own, embeddings)  # [B, N]
    return jnp.take_along_axis(scores, asked, axis=1)
  return jnp.einsum(
    'bke,be->bk', embeddings[asked], own, precision=lax.Precision.HIGHEST
  )


def _nce(log_p: Array, images: int) -> Array:
  """The loss of one side, in log space.

  Args:
    log_p: [B, 1 + K], log P_i, that of the image first.
    images: n.

  Returns:
    [B].
  """
  noise = (log_p.shape[1] - 1) / images
  log_noise = math.log(noise + _EPSILON)
  positive = jax.nn.softplus(log_noise - log_p[:, 0])
  # log c / (P + c + e) = log c - log(c + e) - log(1 + P / (c + e)).
  offset = log_noise - math.log(noise)
  negative = jax.nn.softplus(log_p[:, 1:] - log_noise) + offset
  return positive + jnp.sum(negative, axis=1)

"""What can stand in the place of the KL term of eqs. (2) and (4).

A method says what of a student and a teacher is compared, has a loss with the
weight of RepDistiller inside, and, where it needs them, trained projections and
a memory of the training images. With `axis_name`, losses over pairs of images
are those of the global batch.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> from rnascl_jax.distillation import methods
  >>> method = methods.kl(losses.kl_student_teacher)
  >>> images = methods.Images(
  ...   jax.random.split(jax.random.key(0), 1), jnp.array([0]), jnp.array([0])
  ... )
  >>> student, teacher = jnp.array([[1., 0.]]), jnp.array([[0., 0.]])
  >>> print(method.loss((), (), student, teacher, images)[0].round(4))
  [0.1109]

Reference:
  Tian et al., Contrastive representation distillation, ICLR 2020, for the
  weights; the losses have references of their own.
"""

import functools
import operator
from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import numpy as np

from rnascl_jax import losses
from rnascl_jax.base import Array, Key, PyTree, Taps
from rnascl_jax.distillation import projections
from rnascl_jax.models import networks

_Select = Callable[[networks.Outputs], PyTree]


class Images(NamedTuple):
  """What a method may know of each image.

  Attributes:
    keys: [B] random keys.
    labels: [B] int32, or [B, K] of mixed images.
    indices: [B] int32, where the images stand in the training split.
  """

  keys: Key
  labels: Array
  indices: Array


class Method(NamedTuple):
  """A way to learn from a teacher.

  Attributes:
    select: outputs of a student or a teacher -> what is compared, a pytree of
      leaves [B, ...]. The teacher's is constant.
    init: (key, student, teacher, labels) -> (projections, memory). Student and
      teacher are selections for one image, labels [N] those of all training
      images. Projections are parameters, trained with the student's; a memory
      is a pytree of arrays. `()` where there is none.
    loss: (projections, memory, student, teacher, images) -> ([B], memory
      update). The memory is a constant; so is its update, with leaves [B, ...].
    remember: (memory, memory update, indices) -> memory, after an update of the
      weights; the memory update and the indices [B] are those of the global
      batch.
  """

  select: _Select
  init: Callable[[Key, PyTree, PyTree, np.ndarray], tuple[PyTree, PyTree]]
  loss: Callable[[PyTree, PyTree, PyTree, PyTree, Images], tuple[Array, PyTree]]
  remember: Callable[[PyTree, PyTree, Array], PyTree]


def kl(divergence: Callable[[Array, Array], Array]) -> Method:
  """Distillation by logits, the term of eqs. (2) and (4) itself.

  Args:
    divergence: (student logits [B, K], teacher logits [B, K]) -> [B].
  """
  return _plain(operator.attrgetter('logits'), divergence, weight=1.0)


def attention_transfer() -> Method:
  """AT of all paired stages."""
  return _plain(
    operator.attrgetter('stages'),
    losses.attention_transfer,
    weight=1000.0,
  )


def similarity(*, axis_name: str | None = None) -> Method:
  """SP of the last stage.

  Args:
    axis_name: mapped axis over which the batch is split, if any.
  """
  return _plain(
    lambda outputs: outputs.stages[-1],
    functools.partial(losses.similarity, axis_name=axis_name),
    weight=3000.0,
  )


def rkd(*, axis_name: str | None = None) -> Method:
  """RKD of the features; `axis_name` as of `similarity`."""
  return _plain(
    operator.attrgetter('features'),
    functools.partial(losses.rkd, axis_name=axis_name),
    weight=1.0,
  )


def pkt(*, axis_name: str | None = None) -> Method:
  """PKT of the features; `axis_name` as of `similarity`."""
  return _plain(
    operator.attrgetter('features'),
    functools.partial(losses.pkt, axis_name=axis_name),
    weight=30000.0,
  )


def vid() -> Method:
  """VID of all paired stages, with a regressor for each."""
  net = projections.Regressors()

  def init(key: Key, student: Taps, teacher: Taps, labels: np.ndarray):
    del labels
    return net.init(key, student, teacher)['params'], ()

  def loss(
    params: PyTree, memory: PyTree, student: Taps, teacher: Taps, images: Images
  ):
    del memory, images
    predictions = cast(
      tuple[projections.Regression, ...],
      net.apply({'params': params}, student, teacher),
    )
    last = teacher[-len(predictions) :]
    values = [
      losses.vid(regression.mean, target, regression.rho)
      for regression, target in zip(predictions, last, strict=True)
    ]
    return functools.reduce(operator.add, values), ()

  return Method(operator.attrgetter('stages'), init, loss, _forget)


def crd(
  *,
  features: int = 128,
  num_negatives: int = 4096,
  axis_name: str | None = None,
) -> Method:
  """CRD of the features, with two embeddings and two memories.

  Args:
    features: of an embedding.
    num_negatives: images of other classes for each image. RepDistiller has
      16384; the loss grows with them, its normalisers do not.
    axis_name: as of `similarity`.

  Raises:
    ValueError: a number is not positive.
  """
  for name, value in (
    ('crd_features', features),
    ('crd_negatives', num_negatives),
  ):
    if value < 1:
      raise ValueError(f'{name}={value} must be at least 1.')
  net = projections.Embeddings(features)

  def init(key: Key, student: Array, teacher: Array, labels: np.ndarray):
    weights_key, memory_key = jax.random.split(key)
    params = net.init(weights_key, student, teacher)['params']
    memory = losses.init_memory(memory_key, labels, features=features)
    return params, memory

  def loss(
    params: PyTree,
    memory: losses.Memory,
    student: Array,
    teacher: Array,
    images: Images,
  ):
    predictions = net.apply({'params': params}, student, teacher)
    own, wanted = cast(tuple[Array, Array], predictions)
    others = losses.draw_negatives(
      images.keys, images.labels, memory.table, count=num_negatives
    )
    values, memory_update = losses.crd(
      memory, own, wanted, images.indices, others, axis_name=axis_name
    )
    return 0.8 * values, memory_update

  return Method(operator.attrgetter('features'), init, loss, losses.remember)


def _plain(
  select: _Select,
  compare: Callable[[PyTree, PyTree], Array],
  *,
  weight: float,
) -> Method:
  """A method that trains and remembers nothing."""

  def init(key, student, teacher, labels):
    del key, student, teacher, labels
    return (), ()

  def loss(params, memory, student, teacher, images):
    del params, memory, images
    return weight * compare(student, teacher), ()

  return Method(select, init, loss, _forget)


def _forget(memory: PyTree, memory_update: PyTree, indices: Array) -> PyTree:
  del memory_update, indices
  return memory

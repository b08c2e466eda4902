"""What students learn from teachers, from its names."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn

from rnascl_jax import losses
from rnascl_jax.config import settings
from rnascl_jax.config.resolve.names import pick
from rnascl_jax.distillation import methods
from rnascl_jax.distillation.methods import Method
from rnascl_jax.runtime import parallel
from rnascl_jax.training import lessons
from rnascl_jax.training.lessons import CrossLayer

DIVERGENCES = {
  'student_teacher': losses.kl_student_teacher,
  'teacher_student': losses.kl_teacher_student,
}


def _kl(spec: settings.Distillation) -> Method:
  divergence = pick(DIVERGENCES, spec.direction, 'distillation.direction')
  return methods.kl(functools.partial(divergence, temperature=spec.temperature))


def _crd(spec: settings.Distillation) -> Method:
  return methods.crd(
    features=spec.crd_features,
    num_negatives=spec.crd_negatives,
    axis_name=parallel.AXIS,
  )


METHODS: Mapping[str, Callable[[settings.Distillation], Method]] = {
  'kl': _kl,
  'at': lambda _: methods.attention_transfer(),
  'sp': lambda _: methods.similarity(axis_name=parallel.AXIS),
  'vid': lambda _: methods.vid(),
  'rkd': lambda _: methods.rkd(axis_name=parallel.AXIS),
  'pkt': lambda _: methods.pkt(axis_name=parallel.AXIS),
  'crd': _crd,
}
CROSS_LAYERS: Mapping[str, CrossLayer] = {
  'attention': lessons.ATTENTION,
  'layerwise_kl': lessons.LAYERWISE_KL,
}


class Kind(NamedTuple):
  """What of a teacher is used; equal kinds are one program.

  Attributes:
    method: in `METHODS`.
    cross_layer: in `CROSS_LAYERS`.
    attends: whether layers are compared.
  """

  method: str
  cross_layer: str
  attends: bool


def kind(chosen: settings.Student | settings.Search, where: str) -> Kind:
  """What of a teacher a stage uses.

  Args:
    chosen: its methods and their weights; what has no weight is not used.
    where: the config's section, for messages.

  Returns:
    The kind.

  Raises:
    ValueError: for an unknown name.
  """
  pick(METHODS, chosen.method, f'{where}.method')
  pick(CROSS_LAYERS, chosen.cross_layer, f'{where}.cross_layer')
  attends = chosen.gamma > 0
  return Kind(
    chosen.method if chosen.kl_weight else 'kl',
    chosen.cross_layer if attends else 'attention',
    attends,
  )


def distill(
  spec: settings.Distillation, teacher: nn.Module | None, used: Kind
) -> lessons.Distillation:
  """How a student learns from a teacher.

  Args:
    spec: what all stages of a run have in common.
    teacher: the network, or None.
    used: what of it.

  Raises:
    ValueError: for an unknown name.
  """
  return lessons.Distillation(
    teacher=teacher,
    map_size=(spec.map_size, spec.map_size),
    method=METHODS[used.method](spec),
    cross_layer=CROSS_LAYERS[used.cross_layer],
    attends=used.attends,
  )

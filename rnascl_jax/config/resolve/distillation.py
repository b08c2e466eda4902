"""What students learn from teachers, from its names."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn

from rnascl_jax import losses
from rnascl_jax.config import settings
from rnascl_jax.config.resolve.names import pick
from rnascl_jax.distillation import compare, methods
from rnascl_jax.distillation.compare import LayerLoss
from rnascl_jax.distillation.methods import Method
from rnascl_jax.runtime import parallel

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
LAYER_LOSSES: Mapping[str, LayerLoss] = {
  'attention': compare.ATTENTION,
  'layerwise_kl': compare.LAYERWISE_KL,
}


class DistillationSpec(NamedTuple):
  """What of a teacher is used; equal ones are one program.

  Attributes:
    method: in `METHODS`.
    layer_loss: in `LAYER_LOSSES`.
    attends: whether layers are compared.
  """

  method: str
  layer_loss: str
  attends: bool


def distillation_spec(
  stage: settings.Student | settings.Search, where: str
) -> DistillationSpec:
  """What of a teacher a stage uses.

  Args:
    stage: its methods and their weights; what has no weight is not used.
    where: the config's section, for messages.

  Returns:
    The specification.

  Raises:
    ValueError: for an unknown name.
  """
  pick(METHODS, stage.method, f'{where}.method')
  pick(LAYER_LOSSES, stage.layer_loss, f'{where}.layer_loss')
  attends = stage.gamma > 0
  return DistillationSpec(
    stage.method if stage.kl_weight else 'kl',
    stage.layer_loss if attends else 'attention',
    attends,
  )


def distill(
  spec: settings.Distillation, teacher: nn.Module | None, used: DistillationSpec
) -> compare.Distillation:
  """How a student learns from a teacher.

  Args:
    spec: what all stages of a run have in common.
    teacher: the network, or None.
    used: what of it.

  Raises:
    ValueError: for an unknown name.
  """
  return compare.Distillation(
    teacher=teacher,
    map_size=(spec.map_size, spec.map_size),
    method=METHODS[used.method](spec),
    layer_loss=LAYER_LOSSES[used.layer_loss],
    attends=used.attends,
  )

"""What a student of a config learns from its teacher, and from which layers."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import numpy as np

from rnascl_jax import losses
from rnascl_jax.base import PyTree
from rnascl_jax.config import settings
from rnascl_jax.config.resolve.names import pick
from rnascl_jax.distillation import compare, methods
from rnascl_jax.distillation.compare import LayerLoss
from rnascl_jax.distillation.methods import Method
from rnascl_jax.runtime import parallel, spelling
from rnascl_jax.search import tutor_controls

# Divergences from a teacher by `kl_direction`.
DIVERGENCES = {
  'student_teacher': losses.kl_student_teacher,
  'teacher_student': losses.kl_teacher_student,
}


class DistillationSpec(NamedTuple):
  """What a stage takes from a teacher; equal ones are one program.

  Attributes:
    method: in `METHODS`.
    divergence: direction and temperature of the method 'kl'.
    layer_loss: in `LAYER_LOSSES`.
    reduction: of the layer loss.
    attends: whether layers are compared.
    redraws: whether their tutors are drawn anew at each step.
  """

  method: str = 'kl'
  divergence: tuple[str, float] = ('student_teacher', 1.0)
  layer_loss: str = 'attention'
  reduction: str = 'sum'
  attends: bool = False
  redraws: bool = False


def _kl(spec: settings.DistillationSettings, used: DistillationSpec) -> Method:
  del spec
  direction, temperature = used.divergence
  divergence = DIVERGENCES[direction]
  return methods.kl(functools.partial(divergence, temperature=temperature))


def _crd(spec: settings.DistillationSettings, _: DistillationSpec) -> Method:
  return methods.crd(
    features=spec.crd_features,
    num_negatives=spec.crd_negatives,
    axis_name=parallel.AXIS,
  )


# Methods of distillation by `method` of a student.
METHODS: Mapping[
  str, Callable[[settings.DistillationSettings, DistillationSpec], Method]
] = {
  'kl': _kl,
  'at': lambda *_: methods.attention_transfer(),
  'sp': lambda *_: methods.similarity(axis_name=parallel.AXIS),
  'vid': lambda *_: methods.vid(),
  'rkd': lambda *_: methods.rkd(axis_name=parallel.AXIS),
  'pkt': lambda *_: methods.pkt(axis_name=parallel.AXIS),
  'crd': _crd,
}


def _attention(
  spec: settings.DistillationSettings, used: DistillationSpec
) -> LayerLoss:
  vectors = functools.partial(
    losses.attention_vectors,
    bilinear=spec.map_resize == 'bilinear',
    norm_over_batch=spec.map_norm == 'batch',
    axis_name=parallel.AXIS,
  )
  return LayerLoss(
    vectors,
    functools.partial(losses.attention_loss, reduction=used.reduction),
  )


def _layerwise_kl(
  spec: settings.DistillationSettings, used: DistillationSpec
) -> LayerLoss:
  log_probabilities = functools.partial(
    losses.map_log_probabilities, bilinear=spec.map_resize == 'bilinear'
  )
  return LayerLoss(
    log_probabilities,
    functools.partial(losses.layerwise_kl, reduction=used.reduction),
  )


# Losses between a layer and its tutor by `layer_loss`.
LAYER_LOSSES: Mapping[
  str, Callable[[settings.DistillationSettings, DistillationSpec], LayerLoss]
] = {'attention': _attention, 'layerwise_kl': _layerwise_kl}


# Controls of searched tutors: (S, T, seed) -> weights [S, T]. Those of
# 'resampled' are the probabilities of each step's draw.
TUTORS: Mapping[str, Callable[[int, int, int], np.ndarray]] = {
  'uniform': tutor_controls.uniform,
  'random': tutor_controls.at_random,
  'resampled': tutor_controls.uniform,
  'depth': tutor_controls.by_depth,
}


def tutor_weights(
  control: str,
  student_layers: Sequence[str],
  teacher_layers: Sequence[str],
  *,
  where: str,
  seed: int = 0,
  searched: PyTree = (),
) -> PyTree:
  """The tutor weights of a control, or those that are searched.

  Args:
    control: 'searched', a key of `TUTORS`, or names of teacher layers, one for
      each student layer or one for all, with commas between them.
    student_layers: names of the S student layers.
    teacher_layers: names of the T teacher layers.
    where: the config's section, for messages.
    seed: decides the draw of 'random'.
    searched: what 'searched' stands for.

  Returns:
    [S, T], or `searched`.

  Raises:
    ValueError: for an unknown control or layer, or another number of layers.
  """
  if control == 'searched':
    return searched
  count, choices = len(student_layers), len(teacher_layers)
  if control in TUTORS:
    return TUTORS[control](count, choices, seed)
  names = [name.strip() for name in control.split(',')]
  for name in names:
    if name not in teacher_layers:
      known = ('searched', *TUTORS, *teacher_layers)
      raise ValueError(
        f'config.{where}.tutors={control!r} has {name!r}, which is neither a '
        f'control nor a layer of the teacher.'
        f'{spelling.did_you_mean(name, known)} Choose one of '
        f'{", ".join(("searched", *TUTORS))}, or layers of the teacher: '
        f'{", ".join(teacher_layers)}.'
      )
  if len(names) not in (1, count):
    raise ValueError(
      f'config.{where}.tutors names {len(names)} teacher layers for {count} '
      f'student layers: name one for each, or one for all. The student layers '
      f'are {", ".join(student_layers)}.'
    )
  indices = [teacher_layers.index(name) for name in names]
  return tutor_controls.one_hot(indices * (count // len(names)), choices)


def distillation_spec(
  stage: settings.TeacherWeights, where: str
) -> DistillationSpec:
  """What a stage takes from a teacher.

  Args:
    stage: its methods and their weights; a term of weight 0 is not used.
    where: the config's section, for messages.

  Raises:
    ValueError: for an unknown name.
  """
  pick(METHODS, stage.method, f'{where}.method')
  pick(LAYER_LOSSES, stage.layer_loss, f'{where}.layer_loss')
  used = DistillationSpec()
  if stage.kl_weight:
    divergence = stage.kl_direction, stage.kl_temperature
    used = used._replace(method=stage.method, divergence=divergence)
  if stage.gamma:
    used = used._replace(
      layer_loss=stage.layer_loss,
      reduction=stage.reduction,
      attends=True,
      redraws=stage.tutors == 'resampled',
    )
  return used


def distill(
  spec: settings.DistillationSettings,
  teacher: nn.Module | None,
  used: DistillationSpec,
) -> compare.Distillation:
  """How a student learns from a teacher.

  Args:
    spec: what all stages of a run have in common.
    teacher: the network, or None.
    used: what is taken from it.
  """
  return compare.Distillation(
    teacher=teacher,
    map_size=(spec.map_size, spec.map_size),
    method=METHODS[used.method](spec, used),
    layer_loss=LAYER_LOSSES[used.layer_loss](spec, used),
    attends=used.attends,
    redraws=used.redraws,
  )

"""What `evaluation/<model>.json` says of each attack."""

import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from rnascl_jax.attacks.checks.warning import AttackWarning
from rnascl_jax.attacks.result import AutoAttackResult, MemberResult
from rnascl_jax.evaluation.attack_specs import AttackSpec, AutoAttackSpec
from rnascl_jax.evaluation.classification import Clean
from rnascl_jax.evaluation.under_attack import AttackResult
from rnascl_jax.runtime import files, processes

Json = dict[str, Any]


def is_saved(path: pathlib.Path, key: Any) -> bool:
  """Whether a file of results is there and was made under a key.

  Raises:
    DamagedFileError: if the file is damaged.
  """

  def has_key() -> bool:
    return path.exists() and files.read_json(path).get('key') == key

  return processes.from_main(processes.together(has_key))


def clean(result: Clean) -> Json:
  """Describes how the model classifies images without an attack."""
  settings = {'epsilon': 0.0, 'steps': 0, 'step_size': 0.0}
  numbers = _numbers(result.correct, result.seconds)
  numbers |= {'rejected': 0, 'adversarial': None}
  return {'attack': 'clean', 'label': 'Clean', **settings, **numbers}


def attack(spec: AttackSpec, result: AttackResult, file: str | None) -> Json:
  """Describes an attack; `file` is that of its images, if they are kept."""
  return {
    'attack': spec.key,
    'label': spec.label,
    'preset': spec.name,
    'origin': spec.preset.origin,
    'norm': spec.norm.name,
    'epsilon': spec.epsilon,
    'steps': spec.preset.num_steps,
    'step_size': float(spec.preset.step_size),
    **_numbers(result.correct, result.seconds),
    'rejected': result.rejected,
    'adversarial': file,
  }


def auto_attack(
  spec: AutoAttackSpec,
  result: AutoAttackResult,
  broken_by: np.ndarray,
  file: str | None,
  known: Iterable[AttackWarning],
) -> Json:
  """Describes AutoAttack; `rejected` counts all claims that were not confirmed.

  Args:
    spec: its members and epsilon.
    result: what it claims.
    broken_by: [N] integers, the member that broke each image whose adversarial
      image is confirmed, else -1.
    file: path of its images in the workdir, if they are kept.
    known: reasons to doubt any attack on this model, which are not repeated.
  """
  lost = result.broken_by[result.broken_by != broken_by]
  members = [
    _member(member, int((lost == place).sum()), int((lost <= place).sum()))
    for place, member in enumerate(result.members)
  ]
  known = tuple(known)
  return {
    'attack': spec.key,
    'label': spec.label,
    'preset': list(spec.names),
    'origin': spec.origin,
    'epsilon': spec.epsilon,
    'steps': None,
    'step_size': None,
    **_numbers(
      result.correct & (broken_by < 0),
      sum(member.seconds for member in result.members),
    ),
    'rejected': sum(member['rejected'] for member in members),
    'adversarial': file,
    'norm': result.norm,
    'num_classes': result.num_classes,
    'members': members,
    'warnings': warnings(s for s in result.warnings if s not in known),
  }


def warnings(attack_warnings: Iterable[AttackWarning]) -> list[Json]:
  """Describes reasons to doubt attacks."""
  return [{'kind': s.kind, 'message': s.message} for s in attack_warnings]


def _member(member: MemberResult, lost: int, lost_so_far: int) -> Json:
  """Describes a member; `lost` of its claims were not confirmed."""
  return {
    'name': member.name,
    'label': member.label,
    'black_box': member.black_box,
    'num_steps': member.num_steps,
    'num_trials': member.num_trials,
    'attacked': member.attacked,
    'broken': member.broken - lost,
    'rejected': member.rejected + lost,
    'robust': member.robust + lost_so_far,
    'seconds': round(member.seconds, 2),
    'forward': member.passes.forward,
    'backward': member.passes.backward,
  }


def _numbers(correct: np.ndarray, seconds: float) -> Json:
  return {
    'images': len(correct),
    'correct': int(correct.sum()),
    'accuracy': float(correct.mean()),
    'seconds': round(seconds, 2),
  }

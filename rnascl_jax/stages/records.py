"""What `evaluation/<model>.json` says of each attack."""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from rnascl_jax.attacks.masking.suspicion import Suspicion
from rnascl_jax.attacks.result import AutoAttackResult, MemberResult
from rnascl_jax.evaluation.attempt import Outcome
from rnascl_jax.evaluation.classification import Clean
from rnascl_jax.stages.trials import Ensemble, Trial

Record = dict[str, Any]


def clean(found: Clean) -> Record:
  """The record of no attack."""
  return {
    'attack': 'clean',
    'label': 'Clean',
    'epsilon': 0.0,
    'steps': 0,
    'step_size': 0.0,
    **_numbers(found.correct, found.seconds),
    'rejected': 0,
    'adversarial': None,
  }


def attack(
  trial: Trial,
  outcome: Outcome,
  correct: np.ndarray,
  adversarial: str | None,
) -> Record:
  """The record of an attack.

  Args:
    trial: the attack.
    outcome: what it claims.
    correct: [N] bool, which images are right after what is confirmed.
    adversarial: path of its images in the workdir.

  Returns:
    JSON.
  """
  unconfirmed = int(correct.sum() - outcome.correct.sum())
  return {
    'attack': trial.key,
    'label': trial.label,
    'preset': trial.name,
    'origin': trial.preset.origin,
    'epsilon': float(trial.preset.epsilon),
    'steps': trial.preset.num_steps,
    'step_size': float(trial.preset.step_size),
    **_numbers(correct, outcome.seconds),
    'rejected': outcome.rejected + unconfirmed,
    'adversarial': adversarial,
  }


def auto_attack(
  ensemble: Ensemble,
  result: AutoAttackResult,
  broken_by: np.ndarray,
  adversarial: str | None,
  known: Collection[Suspicion],
) -> Record:
  """The record of AutoAttack.

  Args:
    ensemble: what it consists of.
    result: what it claims.
    broken_by: [N] integers, its member that broke an image, of those that are
      confirmed.
    adversarial: path of its images in the workdir.
    known: reasons to doubt any attack on this model, which are not repeated.

  Returns:
    JSON; `rejected` counts all claims that were not confirmed.
  """
  correct = result.correct & (broken_by < 0)
  members = _members(result, broken_by)
  return {
    'attack': ensemble.key,
    'label': ensemble.label,
    'preset': list(ensemble.names),
    'origin': ensemble.origin,
    'epsilon': ensemble.epsilon,
    'steps': None,
    'step_size': None,
    **_numbers(correct, sum(member.seconds for member in result.members)),
    'rejected': sum(member['rejected'] for member in members),
    'adversarial': adversarial,
    'norm': result.norm,
    'num_classes': result.num_classes,
    'members': members,
    'warnings': warnings(s for s in result.suspicions if s not in known),
  }


def warnings(suspicions: Iterable[Suspicion]) -> list[Record]:
  """Suspicions as JSON."""
  return [{'kind': s.kind, 'message': s.message} for s in suspicions]


def _members(result: AutoAttackResult, broken_by: np.ndarray) -> list[Record]:
  """Members with what is confirmed of their claims."""
  lost = (result.broken_by != broken_by).astype(int)
  found, lost_so_far = [], 0
  for place, member in enumerate(result.members):
    lost_here = int(lost[result.broken_by == place].sum())
    lost_so_far += lost_here
    found.append(_member(member, lost_here, lost_so_far))
  return found


def _member(member: MemberResult, lost: int, lost_so_far: int) -> Record:
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


def _numbers(correct: np.ndarray, seconds: float) -> Record:
  return {
    'images': len(correct),
    'correct': int(correct.sum()),
    'accuracy': float(correct.mean()),
    'seconds': round(seconds, 2),
  }

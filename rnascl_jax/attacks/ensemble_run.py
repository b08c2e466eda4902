"""The members of an ensemble attack one after the other.

Each gets the images that the ones before it left. What it breaks is classified
once more, and measured, before it counts.
"""

import dataclasses
import zlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from rnascl_jax.attacks import arguments, batch_slots, prediction
from rnascl_jax.attacks.attack_log import AttackLog, AutoAttackInput
from rnascl_jax.attacks.ensembles import EnsembleMember
from rnascl_jax.attacks.result import AutoAttackResult, MemberResult
from rnascl_jax.runtime import fingerprints, processes, progress


def run(
  inputs: AutoAttackInput, members: Sequence[EnsembleMember], num_classes: int
) -> AutoAttackResult:
  """Lets every member attack the images that the ones before it left."""
  count = len(inputs.images)
  logits = classify(inputs, inputs.images, np.arange(count))
  arguments.check_finite(logits[0])
  correct = ~_misclassified(logits, inputs.labels)
  journal, earlier = inputs.journal, []
  if journal is not None:
    earlier = list(journal.start(_identity(inputs, members), logits[0]))
  result = AutoAttackResult(
    images=inputs.images.copy(),
    correct=correct,
    robust=correct.copy(),
    broken_by=np.full(count, -1),
    steps=np.zeros(count, np.int32),
    num_classes=num_classes,
    epsilon=inputs.epsilon,
    norm=members[0].attack.norm.name,
    members=(),
    warnings=(),
  )
  for member in members:
    log = AttackLog(member.attack, count, num_classes)
    for name, finished, seconds in earlier:
      if name == member.name:
        log.add(finished, seconds)
    so_far = (*result.members, _run_member(inputs, member, log, result))
    result = dataclasses.replace(result, members=so_far)
  rows = np.flatnonzero(result.broken_by >= 0)
  distances = prediction.distances(
    result.images[rows], inputs.images[rows], members[0].attack.norm
  )
  return dataclasses.replace(result, farthest=float(distances.max(initial=0)))


def _run_member(
  inputs: AutoAttackInput,
  member: EnsembleMember,
  log: AttackLog,
  result: AutoAttackResult,
) -> MemberResult:
  """Attacks the robust images, and writes those that break into the result."""
  rows, place = np.flatnonzero(result.robust), len(result.members)
  broken = claimed = rows[:0]
  if inputs.epsilon > 0 and log.num_trials and len(rows):
    _attack(inputs, member, log, rows)
    claimed = rows[log.fooled[rows]]
    broken = _confirmed(inputs, log, claimed, place)
    unsure = np.setdiff1d(claimed, broken)
    if len(unsure) and inputs.stop_early:
      # They stopped at what only low precision takes for broken: once more.
      log.begin_again(unsure)
      with jax.default_matmul_precision('highest'):
        _attack(inputs, member, log, unsure)
      sure = _confirmed(inputs, log, unsure[log.fooled[unsure]], place)
      broken = np.union1d(broken, sure)
  if len(broken):
    result.images[broken] = log.images(broken)
  result.robust[broken], result.broken_by[broken] = False, place
  result.steps[broken] = log.steps[broken]
  return MemberResult(
    name=member.name,
    label=member.label,
    black_box=member.black_box,
    num_steps=member.attack.num_steps,
    num_trials=log.num_trials,
    attacked=len(rows),
    broken=len(broken),
    rejected=len(claimed) - len(broken),
    robust=int(result.robust.sum()),
    seconds=log.seconds,
    passes=log.passes,
  )


def _attack(
  inputs: AutoAttackInput,
  member: EnsembleMember,
  log: AttackLog,
  rows: np.ndarray,
) -> None:
  """Attacks those images of these rows whose trials are not all in the log."""
  stream = zlib.crc32(member.name.encode()) & 0x7FFFFFFF
  key = jax.random.fold_in(inputs.key, stream)
  with progress.Progress(
    len(rows),
    initial=int(log.is_over(rows).sum()),
    description=inputs.description + member.label,
    unit='images',
    is_main_process=inputs.verbose and processes.is_main(),
  ) as bar:
    for finished, seconds, under_way in batch_slots.run(inputs, key, log, rows):
      if inputs.journal is not None:
        inputs.journal.append(member.name, finished, seconds)
      done = log.is_over(rows)
      trials = log.trials[rows[~done]].sum() + under_way / log.attack.num_steps
      left = len(rows) - int(log.fooled[rows].sum())
      bar.update(
        int(done.sum() + trials / log.num_trials),
        {'robust accuracy': left / len(inputs.images)},
      )


def _confirmed(
  inputs: AutoAttackInput, log: AttackLog, rows: np.ndarray, place: int
) -> np.ndarray:
  """The rows whose images are misclassified, in [0, 1] and in the ball."""
  if not len(rows):
    return rows
  images = log.images(rows)
  logits = classify(inputs, images, rows, stage=place + 1)
  near = prediction.in_ball(
    images,
    inputs.images[rows],
    epsilon=inputs.epsilon,
    norm=log.attack.norm,
  )
  return rows[near & _misclassified(logits, inputs.labels[rows])]


def _misclassified(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """[n] bool, whether most of the draws [votes, n, K] are wrong."""
  wrong = prediction.fooled(logits, labels[None])  # [votes, n]
  return 2 * wrong.sum(axis=0) > len(wrong)


def classify(
  inputs: AutoAttackInput,
  images: np.ndarray,
  rows: np.ndarray,
  *,
  stage: int = 0,
) -> np.ndarray:
  """Logits [votes, n, K] of images [n, H, W, C] of these rows, in full float32.

  A random classifier draws by the image's index, the stage and the vote.
  """
  devices = inputs.devices
  count = max(len(inputs.images), 1)
  size = batch_slots.fitted(count, inputs.batch_size, len(devices))
  key = jax.random.fold_in(inputs.key, stage)
  return np.stack(
    [
      prediction.logits(
        inputs.logits_fn,
        jax.random.fold_in(key, vote) if vote else key,
        images,
        inputs.indices[rows],
        batch_size=size,
        devices=devices,
      )
      for vote in range(inputs.votes)
    ]
  )


def _identity(
  inputs: AutoAttackInput, members: Sequence[EnsembleMember]
) -> dict[str, Any]:
  """What the result depends on, as JSON."""
  shape, dtype = inputs.images.shape[1:], inputs.images.dtype
  return {
    'classifier': fingerprints.of_classifier(inputs.logits_fn, shape, dtype),
    'images': fingerprints.digest(inputs.images),
    'labels': fingerprints.digest(inputs.labels),
    'indices': fingerprints.digest(inputs.indices),
    'key': np.asarray(jax.random.key_data(inputs.key)).tolist(),
    'epsilon': inputs.epsilon,
    'stop_early': inputs.stop_early,
    'votes': inputs.votes,
    'members': [[m.name, fingerprints.describe(m.attack)] for m in members],
  }

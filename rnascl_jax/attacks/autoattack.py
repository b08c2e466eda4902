"""AutoAttack: an ensemble of attacks that needs no tuning, for any classifier.

Each member attacks, from their clean images, those images that are still
classified correctly; an image counts as robust if none breaks it. The members
of `standard`, in this order: APGD on cross-entropy, APGD on the targeted DLR
loss and FAB-T, both with the 9 likeliest wrong classes (fewer, if there are
fewer), and the black-box Square attack with 5,000 queries.

What is found is classified once more, in full float32, before it counts.
Against the official code, `tests/attacks/test_autoattack.py` finds the same
images broken, given the same random numbers. With our own an image's draws
follow from its index, so batch size, devices and interruptions do not change
them.

Example:
  >>> import jax
  >>> import jax.numpy as jnp
  >>> import numpy as np
  >>> from rnascl_jax import attacks
  >>> def logits_fn(images):  # light or dark?
  ...   brightness = images.mean(axis=(1, 2, 3))
  ...   return jnp.stack([brightness - .5, .5 - brightness], axis=-1)
  >>> images = np.linspace(.5, .6, 16, dtype=np.float32).reshape(4, 2, 2, 1)
  >>> result = attacks.auto_attack(
  ...   logits_fn, jax.random.key(0), images, np.zeros(4, int),
  ...   epsilon=.05, verbose=False)
  >>> result.clean_accuracy, result.robust_accuracy
  (1.0, 0.5)

Reference:
  Croce and Hein, Reliable evaluation of adversarial robustness with an ensemble
  of diverse parameter-free attacks, ICML 2020.
"""

import dataclasses
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from rnascl_jax.attacks import (
  arguments,
  compiled,
  confirmation,
  ensembles,
  lanes,
  lifting,
  tasks,
)
from rnascl_jax.attacks.checks import (
  logit_checks,
  post_attack,
  pre_attack,
)
from rnascl_jax.attacks.checks.warning import AttackWarning
from rnascl_jax.attacks.ensembles import Member
from rnascl_jax.attacks.lanes import Finished
from rnascl_jax.attacks.randomized import Randomized
from rnascl_jax.attacks.result import MemberResult, Result
from rnascl_jax.attacks.tally import Tally
from rnascl_jax.attacks.tasks import Task
from rnascl_jax.base import Array, Key, LogitsFn
from rnascl_jax.runtime import fingerprints, processes, progress


class Journal(Protocol):
  """Where finished trials are kept, so that a run can be taken up again."""

  def start(
    self, identity: Mapping[str, Any], logits: np.ndarray
  ) -> Sequence[tuple[str, Finished, float]]:
    """Opens the journal of an evaluation.

    Args:
      identity: what the result depends on, as JSON.
      logits: [N, K] of the images without an attack.

    Returns:
      What earlier runs appended.

    Raises:
      ValueError: if it is the journal of another evaluation.
    """

  def append(self, member: str, finished: Finished, seconds: float) -> None:
    """Keeps trials of a member, and the time that they took.

    Args:
      member: its name.
      finished: the trials; often there is none, then there is nothing to keep.
      seconds: that they took.
    """


def auto_attack(
  logits_fn: LogitsFn,
  key: Key,
  images: np.ndarray | Array,
  labels: np.ndarray | Array,
  *,
  epsilon: float,
  members: Sequence[Member] = ensembles.standard(),
  indices: np.ndarray | Array | None = None,
  batch_size: int = 256,
  channels: str = 'last',
  devices: Sequence[jax.Device] | None = None,
  stop_early: bool = True,
  journal: Journal | None = None,
  checks: bool = True,
  verbose: bool = True,
  description: str = '',
) -> Result:
  """Which images an ensemble of attacks leaves classified correctly.

  Args:
    logits_fn: [B, H, W, C] in [0, 1] -> logits [B, K], a pure function in
      evaluation mode that normalises its input itself. Given as
      `jax.tree_util.Partial(apply, variables)`, its weights are arguments of
      the compiled programs; in a closure they are constants, which compiles
      slowly, and again for a new closure. A random one is a
      `randomized.Randomized`.
    key: typed random key.
    images: [N, H, W, C], float32 or float64 in [0, 1]; float64 is computed in
      float32 unless JAX's x64 is switched on.
    labels: [N], integers in [0, K).
    epsilon: radius, of pixels in [0, 1].
    members: the ensemble, all of one norm; see `ensembles`. With 3 classes
      APGD-DLR takes the place of APGD-T.
    indices: [N], the images' indices in the data set, from which their random
      draws follow, in [0, 2^32); 0 to N - 1 by default.
    batch_size: images at once over all devices, and no more than there are;
      lower it if memory runs out.
    channels: 'first' if images, also those that `logits_fn` takes and those of
      the result, are [N, C, H, W]. Attacks see [H, W, C] all the same, so that
      the result is that of the transposed classifier.
    devices: all of this process by default.
    stop_early: whether an attack on an image ends when it is broken. As
      published it goes on to the end and finds another adversarial image of
      the same image; it breaks the same ones, later. With a random classifier
      it always goes on: what fools it once may not do so again.
    journal: where finished trials are kept, such as a
      `rnascl_jax.evaluation.journal.Journal(folder)`; a run that was killed
      goes on there.
    checks: whether the classifier is checked for what makes results unreliable
      and refused if it gives probabilities. Switch it off for logits that look
      like probabilities.
    verbose: whether progress is shown on standard error.
    description: what the progress is called.

  Returns:
    The result; printed, it is a table with all warnings.

  Raises:
    ValueError: as `arguments.check_inputs` and `tasks.check_members`, for
      arguments of other types, logits that are NaN or infinite, a journal of
      another evaluation, and, if `checks`, for a classifier that gives
      probabilities; before any attack.
  """
  given = tasks.as_members(members)
  arguments.check_key(key)
  arguments.check_counts(batch_size=batch_size)
  arguments.check_flags(stop_early=stop_early, checks=checks, verbose=verbose)
  tasks.check_journal(journal)
  images, labels = np.asarray(images), np.asarray(labels)
  logits_fn, images = lifting.channels_last(logits_fn, images, channels)
  # The norm's radius is checked once the classes have told the norm.
  arguments.check_inputs(logits_fn, images, labels, epsilon=0.0)
  images = tasks.as_floats(images)
  num_classes = arguments.count_classes(logits_fn, images)
  members = ensembles.for_classes(given, num_classes)
  norm = tasks.check_members(members, logits_fn, num_classes)
  longest = norm.longest(int(np.prod(images.shape[1:])))
  arguments.check_length('epsilon', epsilon, longest)
  task = Task(
    logits_fn=compiled.as_argument(logits_fn),
    key=key,
    images=images,
    labels=labels.astype(np.int32),
    indices=arguments.as_indices(indices, labels).astype(np.int32),
    epsilon=float(epsilon),
    norm=norm,
    batch_size=batch_size,
    over=tasks.as_devices(devices),
    stop_early=stop_early and not isinstance(logits_fn, Randomized),
    description=f'{description}: ' if description else '',
    verbose=verbose,
  )
  warnings = pre_attack.channels(images.shape)
  if checks:
    warnings += pre_attack.check_ensemble(members, logits_fn, images, labels)
  result = _run(task, members, num_classes, journal)
  warnings += post_attack.replaced(given, members)
  warnings += post_attack.after(result, task.stop_early)
  warnings += _of_logits(task, result)
  if checks and epsilon > 0 and result.robust.any():
    warnings += post_attack.large_epsilon(
      logits_fn, images[result.robust], labels[result.robust]
    )
  if channels == 'first':
    moved = np.moveaxis(result.images, -1, 1)
    result = dataclasses.replace(result, images=moved)
  return dataclasses.replace(result, warnings=warnings)


def _of_logits(task: Task, result: Result) -> tuple[AttackWarning, ...]:
  """What the logits of the adversarial images show."""
  rows = np.flatnonzero(result.broken_by >= 0)
  logits = confirmation.logits(task, result.images[rows], rows)
  return post_attack.infinite(logits)


def _run(
  task: Task,
  members: Sequence[Member],
  num_classes: int,
  journal: Journal | None,
) -> Result:
  """Lets every member attack what the ones before it left."""
  count = len(task.images)
  logits = confirmation.logits(task, task.images, np.arange(count))
  logit_checks.refuse_infinite(logits)
  correct = ~confirmation.fooled(logits, task.labels)
  earlier: Sequence[tuple[str, Finished, float]] = ()
  if journal is not None:
    earlier = journal.start(_about(task, members), logits)
  result = Result(
    images=task.images.copy(),
    correct=correct,
    robust=correct.copy(),
    broken_by=np.full(count, -1),
    steps=np.zeros(count, np.int32),
    num_classes=num_classes,
    epsilon=task.epsilon,
    norm=task.norm.name,
    members=(),
    warnings=(),
  )
  for member in members:
    tally = Tally(count, member.attack, num_classes)
    for name, finished, seconds in earlier:
      if name == member.name:
        tally.add(finished, seconds)
    result = _attacked(task, member, tally, result, journal)
  return result


def _attacked(
  task: Task,
  member: Member,
  tally: Tally,
  result: Result,
  journal: Journal | None,
) -> Result:
  """The result after one more member, whose arrays it changes."""
  rows, place = np.flatnonzero(result.robust), len(result.members)
  num_trials = member.attack.num_trials(result.num_classes)
  broken = claimed = rows[:0]
  if task.epsilon > 0 and num_trials and len(rows):
    _attack(task, member, num_trials, rows, tally, journal)
    claimed = rows[tally.fooled[rows]]
    broken = _confirmed(task, tally, claimed, place)
    unsure = np.setdiff1d(claimed, broken)
    if len(unsure) and task.stop_early:
      # It stopped at what only low precision takes for broken: once more.
      tally.begin_again(unsure)
      with jax.default_matmul_precision('highest'):
        _attack(task, member, num_trials, unsure, tally, journal)
      sure = _confirmed(task, tally, unsure[tally.fooled[unsure]], place)
      broken = np.union1d(broken, sure)
  if len(broken):
    result.images[broken] = tally.images(broken)
  result.robust[broken], result.broken_by[broken] = False, place
  result.steps[broken] = tally.steps[broken]
  found = MemberResult(
    name=member.name,
    label=member.label,
    black_box=member.black_box,
    num_steps=member.attack.num_steps,
    num_trials=num_trials,
    attacked=len(rows),
    broken=len(broken),
    rejected=len(claimed) - len(broken),
    robust=int(result.robust.sum()),
    seconds=tally.seconds,
    passes=tally.passes,
  )
  return dataclasses.replace(result, members=(*result.members, found))


def _confirmed(
  task: Task, tally: Tally, rows: np.ndarray, place: int
) -> np.ndarray:
  """The rows whose adversarial images do fool the classifier."""
  if not len(rows):
    return rows
  images = tally.images(rows)
  return rows[confirmation.confirmed(task, images, rows, stage=place + 1)]


def _attack(
  task: Task,
  member: Member,
  num_trials: int,
  rows: np.ndarray,
  tally: Tally,
  journal: Journal | None,
) -> None:
  """Attacks the images of these rows that were not attacked earlier."""

  def is_over(row: int | np.ndarray) -> Any:
    return tally.fooled[row] | (tally.trials[row] >= num_trials)

  stream = zlib.crc32(member.name.encode()) & 0x7FFFFFFF
  attacked = lanes.run(
    member.attack,
    task.logits_fn,
    jax.random.fold_in(task.key, stream),
    task.images,
    task.labels,
    [(row, int(tally.trials[row])) for row in rows if not is_over(row)],
    indices=task.indices,
    num_trials=num_trials,
    epsilon=task.epsilon,
    batch_size=task.batch_size,
    over=task.over,
    stop_early=task.stop_early,
  )
  all_steps = num_trials * member.attack.num_steps
  before = time.monotonic()
  with progress.Progress(
    len(rows),
    initial=int(is_over(rows).sum()),
    description=task.description + member.label,
    unit='images',
    is_main_process=task.verbose and processes.is_main(),
  ) as bar:
    for finished, under_way in attacked:
      seconds = 0.0
      if len(finished.rows):
        seconds, before = time.monotonic() - before, time.monotonic()
        tally.add(finished, seconds)
      if journal is not None:
        journal.append(member.name, finished, seconds)
      over = is_over(rows)
      trials = int(tally.trials[rows[~over]].sum())
      steps = trials * member.attack.num_steps + under_way
      left = len(rows) - int(tally.fooled[rows].sum())
      bar.update(
        int(over.sum() + steps / all_steps),
        {'robust accuracy': left / len(task.images)},
      )


def _about(task: Task, members: Sequence[Member]) -> dict[str, Any]:
  """What the outcome depends on, as JSON."""
  shape, dtype = task.images.shape[1:], task.images.dtype
  return {
    'classifier': fingerprints.of_classifier(task.logits_fn, shape, dtype),
    'images': fingerprints.digest(task.images),
    'labels': fingerprints.digest(task.labels),
    'indices': fingerprints.digest(task.indices),
    'key': np.asarray(jax.random.key_data(task.key)).tolist(),
    'epsilon': task.epsilon,
    'stop_early': task.stop_early,
    'members': [[m.name, fingerprints.describe(m.attack)] for m in members],
  }

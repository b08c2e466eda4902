"""AutoAttack: an ensemble of attacks that needs no tuning, for any classifier.

Each member attacks, from their clean images, those images that are still
classified correctly; an image counts as robust if none breaks it. The members
of `standard`, in this order: APGD on cross-entropy, APGD on the targeted DLR
loss and FAB-T, both with the 9 likeliest wrong classes (fewer, if there are
fewer), and the black-box Square attack with 5,000 queries.

What is found is classified once more, in full float32, before it counts.
Against the official code, `tests/test_auto_attack.py` finds the same images
broken, given the same random numbers. With our own an image's draws follow from
its index, so batch size, devices and interruptions do not change them.

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

from rnascl_jax import identity, parallel, progress
from rnascl_jax.attacks import (
  confirmation,
  ensembles,
  lanes,
  lifting,
  masking,
  randomized,
)
from rnascl_jax.attacks.confirmation import Evaluation
from rnascl_jax.attacks.ensembles import Member
from rnascl_jax.attacks.lanes import Finished
from rnascl_jax.attacks.masking import (
  hindsight,
  jaxpr_lint,
)
from rnascl_jax.attacks.masking.hindsight import Tried
from rnascl_jax.attacks.masking.suspicion import Suspicion
from rnascl_jax.attacks.result import Attempt, MemberResult, Result
from rnascl_jax.base import Array, Key, LogitsFn


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
    """Keeps trials of a member, and the time that they took."""


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
      slowly. A random one is a `randomized.Randomized`.
    key: typed random key.
    images: [N, H, W, C], float32 or float64 in [0, 1].
    labels: [N], integers in [0, K).
    epsilon: radius, of pixels in [0, 1].
    members: the ensemble, all of one norm; see `ensembles`.
    indices: [N], the images' indices in the data set, from which their random
      draws follow; 0 to N - 1 by default.
    batch_size: images at once over all devices; lower it if memory runs out.
    devices: all of this process by default.
    stop_early: whether an attack on an image ends when it is broken. As
      published it goes on to the end and finds another adversarial image of
      the same image; it breaks the same ones, later.
    journal: where finished trials are kept, such as a
      `rnascl_jax.journal.Journal(folder)`; a run that was killed goes on there.
    checks: whether the classifier is checked for what makes results unreliable
      and refused if it gives probabilities.
    verbose: whether progress is shown on standard error.
    description: what the progress is called.

  Returns:
    The result; printed, it is a table with all warnings.

  Raises:
    ValueError: as `lifting.check_inputs`, for members of several norms, for
      `ensembles.rand` on a classifier that is not random, and, if `checks`, for
      one that gives probabilities or NaN; before any attack.
  """
  images, labels = np.asarray(images), np.asarray(labels)
  norm = _common_norm(members)
  longest = norm.longest(int(np.prod(images.shape[1:])))
  lifting.check_inputs(
    logits_fn, images, labels, epsilon=epsilon, longest=longest
  )
  _check_draws(members, logits_fn)
  indices = np.arange(len(images)) if indices is None else np.asarray(indices)
  if indices.shape != labels.shape or batch_size < 1:
    raise ValueError(
      f'indices must have shape {labels.shape}, not {indices.shape}, and '
      f'batch_size={batch_size} must be at least 1.'
    )
  suspicions = _before(logits_fn, images, labels) if checks else ()
  evaluation = Evaluation(
    logits_fn=lifting.as_argument(logits_fn),
    key=key,
    images=images,
    labels=labels.astype(np.int32),
    indices=indices.astype(np.int32),
    epsilon=float(epsilon),
    norm=norm,
    batch_size=batch_size,
    over=tuple(devices or jax.local_devices()),
    stop_early=stop_early,
    description=f'{description}: ' if description else '',
    verbose=verbose,
  )
  result = _run(evaluation, members, journal)
  suspicions += _left_out(result) + _rejected(result)
  suspicions += _hindsight(result, stop_early)
  if checks and epsilon > 0 and result.robust.any():
    suspicions += hindsight.large_epsilon(
      logits_fn, images[result.robust], labels[result.robust]
    )
  return dataclasses.replace(result, suspicions=suspicions)


def _before(logits_fn, images, labels):
  """Checks the classifier; that a random one is random is no news."""
  found = masking.before(logits_fn, images, labels)
  if isinstance(logits_fn, randomized.Randomized):
    found = tuple(s for s in found if s.kind != jaxpr_lint.RANDOM)
  return found


def _hindsight(result: Result, stop_early: bool) -> tuple[Suspicion, ...]:
  """What the members that ran show together."""
  ran = [i for i, member in enumerate(result.members) if member.num_trials]
  places = np.full(len(result.members) + 1, -1)  # The last for those unbroken.
  places[ran] = np.arange(len(ran))
  members = [result.members[i] for i in ran]
  return hindsight.after(
    [Tried(m.label, m.black_box, m.num_steps) for m in members],
    places[result.broken_by],
    result.steps if stop_early else None,
  )


def _left_out(result: Result) -> tuple[Suspicion, ...]:
  return tuple(
    Suspicion(
      'classes',
      f'{member.label} was left out: it is not defined for '
      f'{result.num_classes} classes. Results compare only with evaluations '
      'that left it out too.',
    )
    for member in result.members
    if not member.num_trials
  )


def _rejected(result: Result) -> tuple[Suspicion, ...]:
  return tuple(
    Suspicion(
      'not confirmed',
      f'{member.rejected} of {member.rejected + member.broken} images that '
      f'{member.label} found did not fool the classifier when they were '
      'classified again in full float32: it is random, or computes in low '
      'precision. They count as robust.',
    )
    for member in result.members
    if member.rejected
  )


def _common_norm(members):
  found = {member.attack.norm for member in members}
  if len(found) != 1:
    raise ValueError(
      'members must be one or more attacks of one norm, but are of: '
      f'{", ".join(sorted(norm.name for norm in found)) or "none"}.'
    )
  return found.pop()


def _check_draws(members, logits_fn):
  draws = max(getattr(member.attack, 'draws', 1) for member in members)
  if draws > 1 and not isinstance(logits_fn, randomized.Randomized):
    raise ValueError(
      f'{draws} draws a step are for random classifiers, but logits_fn is a '
      'function of images alone: give a Randomized(function of images and '
      'key), or use ensembles.standard().'
    )


def _run(
  evaluation: Evaluation, members: Sequence[Member], journal: Journal | None
) -> Result:
  """Lets every member attack what the ones before it left."""
  images, labels = evaluation.images, evaluation.labels
  logits = confirmation.logits(evaluation, images, np.arange(len(images)))
  correct = ~confirmation.fooled(logits, labels)
  earlier: Sequence[tuple[str, Finished, float]] = ()
  if journal is not None:
    earlier = journal.start(_about(evaluation, members), logits)
  adversarial, robust = images.copy(), correct.copy()
  broken_by = np.full(len(images), -1)
  steps = np.zeros(len(images), np.int32)
  results = []
  for place, member in enumerate(members):
    num_trials = member.attack.num_trials(logits.shape[-1])
    attempt = Attempt(images, logits.shape[-1])
    for name, finished, seconds in earlier:
      if name == member.name:
        attempt.add(member.attack, finished, seconds)
    rows = np.flatnonzero(robust)
    if evaluation.epsilon > 0 and num_trials and len(rows):
      _attack(evaluation, member, num_trials, rows, attempt, journal)
    found = np.flatnonzero(attempt.fooled & robust)
    broken = found[
      confirmation.confirmed(evaluation, attempt.images[found], found)
    ]
    adversarial[broken] = attempt.images[broken]
    robust[broken], broken_by[broken] = False, place
    steps[broken] = attempt.steps[broken]
    results.append(
      MemberResult(
        name=member.name,
        label=member.label,
        black_box=member.black_box,
        num_steps=member.attack.num_steps,
        num_trials=num_trials,
        attacked=len(rows),
        broken=len(broken),
        rejected=len(found) - len(broken),
        robust=int(robust.sum()),
        seconds=attempt.seconds,
        passes=attempt.passes,
      )
    )
  return Result(
    images=adversarial,
    correct=correct,
    robust=robust,
    broken_by=broken_by,
    steps=steps,
    num_classes=logits.shape[-1],
    epsilon=evaluation.epsilon,
    norm=evaluation.norm.name,
    members=tuple(results),
    suspicions=(),
  )


def _attack(
  evaluation: Evaluation,
  member: Member,
  num_trials: int,
  rows: np.ndarray,
  attempt: Attempt,
  journal: Journal | None,
) -> None:
  """Attacks the images of these rows that were not attacked earlier."""

  def is_over(row: int | np.ndarray) -> Any:
    return attempt.fooled[row] | (attempt.trials[row] >= num_trials)

  name = zlib.crc32(member.name.encode()) & 0x7FFFFFFF
  attacked = lanes.run(
    member.attack,
    evaluation.logits_fn,
    jax.random.fold_in(evaluation.key, name),
    evaluation.images,
    evaluation.labels,
    [(row, int(attempt.trials[row])) for row in rows if not is_over(row)],
    indices=evaluation.indices,
    num_trials=num_trials,
    epsilon=evaluation.epsilon,
    batch_size=evaluation.batch_size,
    over=evaluation.over,
    stop_early=evaluation.stop_early,
  )
  total, before = len(evaluation.images), time.monotonic()
  with progress.Progress(
    len(rows),
    initial=int(is_over(rows).sum()),
    description=evaluation.description + member.label,
    unit='images',
    is_main_process=evaluation.verbose and parallel.is_main_process(),
  ) as bar:
    for finished in attacked:
      now = time.monotonic()
      attempt.add(member.attack, finished, now - before)
      if journal is not None:
        journal.append(member.name, finished, now - before)
      before = now
      left = len(rows) - int(attempt.fooled[rows].sum())
      bar.update(
        int(is_over(rows).sum()), {'robust accuracy': left / max(total, 1)}
      )


def _about(evaluation: Evaluation, members: Sequence[Member]) -> dict[str, Any]:
  """What the outcome depends on, but for the classifier, as JSON."""
  return {
    'images': identity.digest(evaluation.images),
    'labels': identity.digest(evaluation.labels),
    'indices': identity.digest(evaluation.indices),
    'key': np.asarray(jax.random.key_data(evaluation.key)).tolist(),
    'epsilon': evaluation.epsilon,
    'stop_early': evaluation.stop_early,
    'members': {m.name: identity.describe(m.attack) for m in members},
  }

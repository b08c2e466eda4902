"""What is suspicious about an ensemble of attacks as a whole."""

from collections.abc import Sequence

import numpy as np

from rnascl_jax.attacks import arguments, randomized
from rnascl_jax.attacks.ensembles import EnsembleMember
from rnascl_jax.attacks.masking import before, hindsight, jaxpr_lint
from rnascl_jax.attacks.masking.hindsight import Tried
from rnascl_jax.attacks.masking.suspicion import Suspicion
from rnascl_jax.attacks.result import AutoAttackResult
from rnascl_jax.base import LogitsFn


def beforehand(
  members: Sequence[EnsembleMember],
  logits_fn: LogitsFn,
  images: np.ndarray,
  labels: np.ndarray,
) -> tuple[Suspicion, ...]:
  """What `masking.before` finds; that a random one is random is no news.

  It is if there are members that do not draw anew.

  Raises:
    ValueError: as `masking.before`.
  """
  found = before(logits_fn, images, labels)
  averaged = all(getattr(member.attack, 'draws', 1) > 1 for member in members)
  if isinstance(logits_fn, randomized.Randomized) and averaged:
    found = tuple(s for s in found if s.kind != jaxpr_lint.RANDOM)
  return found


def of_images(shape: tuple[int, ...]) -> tuple[Suspicion, ...]:
  """Whether images [N, H, W, C] of this shape have their channels elsewhere."""
  message = arguments.misplaced_channels(shape)
  return (Suspicion('channels', message),) if message else ()


def replaced(
  given: Sequence[EnsembleMember], members: Sequence[EnsembleMember]
) -> tuple[Suspicion, ...]:
  """Which members took the place of others, see `ensembles.for_classes`."""
  return tuple(
    Suspicion(
      'classes',
      f'{new.label} took the place of {old.label}, whose loss is not defined '
      'for 3 classes. Results compare only with evaluations that did the same.',
    )
    for old, new in zip(given, members, strict=True)
    if new.name != old.name
  )


def infinite(logits: np.ndarray) -> tuple[Suspicion, ...]:
  """Whether adversarial images have logits that are NaN or infinite.

  Args:
    logits: [n, K] of all adversarial images.
  """
  bad = int((~np.isfinite(logits)).any(axis=-1).sum())
  if not bad:
    return ()
  return (
    Suspicion(
      'infinite logits',
      f'The logits of {bad} of {len(logits)} adversarial images are NaN or '
      'infinite: the classifier was driven out of the range of its numbers '
      'rather than fooled. They count as broken. Look in logits_fn for '
      'divisions by almost zero, logarithms and exponentials.',
    ),
  )


def afterwards(
  result: AutoAttackResult, stop_early: bool
) -> tuple[Suspicion, ...]:
  """What was left out, what was not confirmed, and what members show."""
  return (
    *(_left_out(m, result) for m in result.members if not m.num_trials),
    *(_rejected(m) for m in result.members if m.rejected),
    *_together(result, stop_early),
  )


def _left_out(member, result):
  untargeted = [
    f' {other.label} ran, which needs one class less.'
    for other in result.members
    if other.name == 'apgd_dlr' and other.num_trials
  ]
  return Suspicion(
    'classes',
    f'{member.label} was left out: it is not defined for {result.num_classes} '
    f'classes.{"".join(untargeted)} Results compare only with evaluations that '
    'left it out too.',
  )


def _rejected(member):
  return Suspicion(
    'not confirmed',
    f'{member.rejected} of {member.rejected + member.broken} images that '
    f'{member.label} found do not fool the classifier when they are classified '
    'once more in full float32, or are not in the ball. The classifier '
    ' is random or computes in low precision. They count as robust.',
  )


def _together(
  result: AutoAttackResult, stop_early: bool
) -> tuple[Suspicion, ...]:
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

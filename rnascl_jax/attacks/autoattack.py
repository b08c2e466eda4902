"""AutoAttack: an ensemble of attacks that needs no tuning, for any classifier.

Each member attacks, from their clean images, those images that are still
classified correctly; an image counts as robust if none breaks it. The members
of `standard`, in this order: APGD on cross-entropy, APGD on the targeted DLR
loss and FAB-T, both with the 9 likeliest wrong classes (fewer, if there are
fewer), and the black-box Square attack with 5,000 queries.

An adversarial image is classified once more, in full float32, before it counts.
With the random numbers of the official code, the same images are broken as by
that code (`tests/attacks/test_autoattack.py`). With our own an image's draws
follow from its index, so batch size, devices and interruptions do not change
them.

Example:
  >>> import jax.numpy as jnp
  >>> import numpy as np
  >>> from rnascl_jax import attacks
  >>> def logits_fn(images):  # light or dark?
  ...   brightness = images.mean(axis=(1, 2, 3))
  ...   return jnp.stack([brightness - .5, .5 - brightness], axis=-1)
  >>> images = np.linspace(.5, .6, 16, dtype=np.float32).reshape(4, 2, 2, 1)
  >>> result = attacks.auto_attack(
  ...   logits_fn, images, np.zeros(4, int), epsilon=.05, verbose=False)
  >>> result.clean_accuracy, result.robust_accuracy
  (1.0, 0.5)

Reference:
  Croce and Hein, Reliable evaluation of adversarial robustness with an ensemble
  of diverse parameter-free attacks, ICML 2020.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax import losses
from rnascl_jax.attacks import (
  arguments,
  compiled,
  ensemble_run,
  ensembles,
  lifting,
  memory,
)
from rnascl_jax.attacks.attack_log import (
  AutoAttackInput,
  JournalLike,
)
from rnascl_jax.attacks.checks import gradient_checks, post_attack, pre_attack
from rnascl_jax.attacks.ensembles import EnsembleMember
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.attacks.randomized import Randomized
from rnascl_jax.attacks.result import AutoAttackResult
from rnascl_jax.base import Array, Key, LogitsFn


def auto_attack(
  logits_fn: LogitsFn,
  images: np.ndarray | Array,
  labels: np.ndarray | Array,
  *,
  epsilon: float,
  norm: str | Norm = 'Linf',
  version: str = 'standard',
  attacks: Sequence[str | EnsembleMember] | None = None,
  channels: str = 'last',
  key: Key | None = None,
  batch_size: int | None = None,
  votes: int = 1,
  indices: np.ndarray | Array | None = None,
  devices: Sequence[jax.Device] | None = None,
  stop_early: bool = True,
  journal: JournalLike | None = None,
  checks: bool = True,
  verbose: bool = True,
  description: str = '',
) -> AutoAttackResult:
  """Attacks images with an ensemble; tells which stay classified correctly.

  Args:
    logits_fn: [B, H, W, C] in [0, 1] -> logits [B, K], a pure function in
      evaluation mode that normalises its input itself. Given as
      `jax.tree_util.Partial(apply, variables)`, its weights are arguments of
      the compiled programs; in a closure they are constants, which compiles
      slowly, and again for a new closure. A random one is a
      `randomized.Randomized`.
    images: [N, H, W, C], float32 or float64 in [0, 1]; float64 is computed in
      float32 unless JAX's x64 is switched on.
    labels: [N], integers in [0, K), or one-hot [N, K].
    epsilon: radius in the norm, of pixels in [0, 1].
    norm: 'Linf', 'L2' or 'L1'.
    version: 'standard', 'plus', or 'rand' for `Randomized` classifiers.
    attacks: what runs in place of the version's attacks, such as ('apgd-ce',
      'square') or members of other budgets, see `ensembles.resolve`. With 3
      classes APGD-DLR takes the place of APGD-T.
    channels: 'first' if images, also those that `logits_fn` takes and those of
      the result, are [N, C, H, W]. Attacks see [H, W, C] all the same, so that
      the result is that of the transposed classifier.
    key: typed random key; `jax.random.key(0)` by default.
    batch_size: images at once over all devices, and no more than there are; by
      default as many as memory allows, see `memory.batch_size`.
    votes: draws of a `Randomized` classifier that decide, by their majority,
      whether it is right about an image and about its adversarial image; odd.
      The official code has 1.
    indices: [N], the images' indices in the data set, from which their random
      draws follow, in [0, 2^32); 0 to N - 1 by default.
    devices: all of this process by default.
    stop_early: whether an attack on an image ends when it is broken. As
      published it goes on to the end and finds another adversarial image of
      the same image; it breaks the same ones, later. With a random classifier
      it always goes on: what fools it once may not do so again.
    journal: where finished trials are kept, such as an `AttackJournal(folder)`
      of `rnascl_jax.evaluation.attack_journal`; a run that was killed goes on
      there.
    checks: whether the classifier is checked for what makes results unreliable
      and refused if it gives probabilities. Switch it off for logits that look
      like probabilities.
    verbose: whether progress is shown on standard error.
    description: what the progress is called.

  Returns:
    The result; printed, it has the official code's lines and all warnings.

  Raises:
    ValueError: before any attack, as `arguments.check_inputs`,
      `ensembles.resolve` and `ensembles.for_classes`, for arguments of other
      types, logits that are NaN or infinite, a journal of another evaluation,
      and, if `checks`, for a classifier that gives probabilities.
  """
  key = arguments.as_key(key)
  if batch_size is not None:
    arguments.check_counts(batch_size=batch_size)
  _check_votes(votes, logits_fn)
  arguments.check_flags(stop_early=stop_early, checks=checks, verbose=verbose)
  arguments.check_journal(journal)
  asked_for = ensembles.resolve(attacks, norm=norm, version=version)
  images, labels = np.asarray(images), arguments.as_labels(labels)
  devices = arguments.as_devices(devices)
  logits_fn, images = lifting.channels_last(logits_fn, images, channels)
  size = int(np.prod(images.shape[1:]))
  longest = asked_for[0].attack.norm.longest(size)
  arguments.check_inputs(
    logits_fn, images, labels, epsilon=epsilon, longest=longest
  )
  # Float32, where JAX would make them float32.
  images = images.astype(jax.dtypes.canonicalize_dtype(images.dtype))
  num_classes = arguments.count_classes(logits_fn, images)
  members = ensembles.for_classes(asked_for, logits_fn, num_classes)
  inputs = AutoAttackInput(
    logits_fn=compiled.as_argument(logits_fn),
    key=key,
    images=images,
    labels=labels.astype(np.int32),
    indices=arguments.as_indices(indices, labels).astype(np.int32),
    epsilon=float(epsilon),
    batch_size=batch_size or memory.batch_size(logits_fn, images, devices),
    devices=devices,
    votes=votes,
    stop_early=stop_early and not isinstance(logits_fn, Randomized),
    journal=journal,
    description=f'{description}: ' if description else '',
    verbose=verbose,
  )
  warnings = pre_attack.misplaced_channels(images.shape)
  if checks:
    warnings += pre_attack.check_ensemble(members, logits_fn, images, labels)
  result = ensemble_run.run(inputs, members, num_classes)
  warnings += post_attack.replaced(asked_for, members)
  warnings += post_attack.after(result, inputs.stop_early)
  rows = np.flatnonzero(result.broken_by >= 0)
  warnings += post_attack.infinite(
    ensemble_run.classify(inputs, result.images[rows], rows)[0]
  )
  if checks and epsilon > 0 and result.robust.any():
    warnings += post_attack.large_epsilon(
      logits_fn, images[result.robust], labels[result.robust]
    )
    saturated = any(w.kind == gradient_checks.SATURATED for w in warnings)
    if saturated and not isinstance(logits_fn, Randomized):
      accuracy = _rescaled_accuracy(inputs, result, members[0].attack.norm)
      result = dataclasses.replace(result, rescaled_accuracy=accuracy)
  if channels == 'first':
    moved = np.moveaxis(result.images, -1, 1)
    result = dataclasses.replace(result, images=moved)
  return dataclasses.replace(result, warnings=warnings)


def _rescaled_accuracy(
  inputs: AutoAttackInput, result: AutoAttackResult, norm: Norm
) -> float:
  """Robust accuracy if APGD-CE attacks what is left, with divided logits.

  Divided by the largest margin no softmax is 0 or 1, and predictions stay.
  """
  rows = np.flatnonzero(result.robust)
  labels = inputs.labels[rows]
  logits = jnp.asarray(
    ensemble_run.classify(inputs, inputs.images[rows], rows)[0]
  )
  scale = jnp.abs(losses.margin(logits, jnp.asarray(labels))).max()
  again = dataclasses.replace(
    inputs,
    logits_fn=jax.tree_util.Partial(_divided, inputs.logits_fn, scale),
    images=inputs.images[rows],
    labels=labels,
    indices=inputs.indices[rows],
    journal=None,
    description=f'{inputs.description}rescaled ',
  )
  left = ensemble_run.run(again, (ensembles.apgd_ce(norm),), result.num_classes)
  return float(left.robust.sum()) / len(result.robust)


def _divided(logits_fn: LogitsFn, scale: Array, images: Array) -> Array:
  logits = logits_fn(images)
  return logits / jnp.asarray(scale, logits.dtype)


def _check_votes(votes: int, logits_fn: LogitsFn) -> None:
  arguments.check_counts(votes=votes)
  if votes % 2 == 0:
    raise ValueError(f'votes={votes} must be odd, so that one side has more.')
  if votes > 1 and not isinstance(logits_fn, Randomized):
    raise ValueError(
      f'votes={votes} are for random classifiers, but logits_fn is a function '
      'of images alone: give a Randomized(function of images and key).'
    )

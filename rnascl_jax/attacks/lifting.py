"""From an attack on one image to attacks on batches and data sets.

`batched` lifts an attack with one `vmap` and is what training steps use.
`perturb` is the entry for any JAX classifier and arrays in host memory: it
checks its arguments before it computes, compiles once, and pads the last batch
instead of dropping it.

Every image draws from a key of its own, `fold_in(key, index in the data set)`,
so that results depend neither on the batch size nor on the order, nor on how
images are spread over devices. (The official AutoAttack gives all batches the
same noise.)

Example:
  >>> import jax.numpy as jnp
  >>> import numpy as np
  >>> from rnascl_jax import attacks
  >>> def logits_fn(images):  # [B, 2, 2, 1] -> [B, 3]
  ...   return images.reshape(-1, 4) @ jnp.eye(4, 3)
  >>> images = np.full([5, 2, 2, 1], .5, np.float32)
  >>> adversarial = attacks.perturb(
  ...   attacks.pgd, logits_fn, images, np.arange(5) % 3,
  ...   epsilon=8 / 255, step_size=2 / 255, num_steps=10, batch_size=2)
  >>> print(adversarial.shape, logits_fn(adversarial).argmax(-1))
  (5, 2, 2, 1) [1 0 0 1 0]
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.attacks import arguments, compiled, memory, norms, prediction
from rnascl_jax.attacks.checks import gradient_checks
from rnascl_jax.attacks.randomized import Randomized
from rnascl_jax.base import Array, Key, LogitsFn
from rnascl_jax.runtime import parallel

# attack(logits_fn, key, image, target, **hyper) -> image, for one image.
Attack = Callable[..., Array]
# Images whose logits and gradients `perturb` looks at.
_LOOKED_AT = 32


def image_keys(key: Key, indices: Array) -> Key:
  """One key for each image, from its index in the data set.

  Args:
    key: typed random key.
    indices: [B], integers in [0, 2^32).

  Returns:
    [B], typed random keys.

  Raises:
    ValueError: for a raw key, and for NumPy's indices that are out of range.
  """
  arguments.check_key(key)
  if isinstance(indices, np.ndarray):
    arguments.check_indices(indices)
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices)


def batched(attack: Attack) -> Attack:
  """Lifts an attack on one image to batches.

  Args:
    attack: (logits_fn, key, image, target, **hyper) -> image.

  Returns:
    (logits_fn, keys [B], images [B, H, W, C], targets [B, ...], **hyper) ->
    [B, H, W, C], with hyper-parameters that all images share.

  Raises:
    ValueError: if the attack is no function, or the keys are raw ones.
  """
  arguments.check_attack(attack)

  def attack_batch(logits_fn, keys, images, targets, **hyper):
    arguments.check_key(keys, shape=None)
    one = functools.partial(attack, logits_fn, **hyper)
    return jax.vmap(one)(keys, images, targets)

  return attack_batch


def perturb(
  attack: Attack,
  logits_fn: LogitsFn,
  images: np.ndarray | Array,
  labels: np.ndarray | Array,
  *,
  channels: str = 'last',
  key: Key | None = None,
  batch_size: int | None = None,
  indices: np.ndarray | Array | None = None,
  devices: Sequence[jax.Device] | None = None,
  checks: bool = True,
  **hyper: Any,
) -> np.ndarray:
  """Attacks images in host memory, batch by batch.

  Compiles once for an attack, a classifier and a batch shape, whatever epsilon
  and the other floating-point hyper-parameters are. A classifier given as
  `jax.tree_util.Partial(model.apply, variables)` has its weights as arguments
  of the compiled program; weights inside of a closure become constants of it,
  which compiles slowly for large networks and is compiled again for a new
  closure. (The latest 64 programs are kept, see `compiled`.)

  Args:
    attack: (logits_fn, key, image, target, **hyper) -> image; or a preset.
    logits_fn: [B, H, W, C] -> [B, K], in evaluation mode.
    images: [N, H, W, C], float32 or float64 in [0, 1].
    labels: [N], integers in [0, K), or one-hot [N, K]: the labels, or with
      `targeted=True` the classes to reach.
    channels: 'first' if images, also those that `logits_fn` takes and that are
      returned, are [N, C, H, W]. The attack sees [H, W, C].
    key: typed random key; `jax.random.key(0)` by default.
    batch_size: images at once over all devices, and no more than there are; by
      default as many as memory allows, see `memory.batch_size`. It does not
      change the result.
    indices: [N], the images' indices in the data set, in [0, 2^32); 0 to N - 1
      by default. Give them when attacking a part of a data set.
    devices: all of this process by default.
    checks: whether the logits and gradients of the first 32 images are looked
      at. A gradient that is zero for all of them is warned of, although an
      attack that uses none, such as Square, does not suffer.
    **hyper: of the attack. `epsilon` may be left to a preset, and `norm`, a
      norm or a name such as 'L2', to an attack that has one; without it lengths
      are in L-infinity.

  Returns:
    [N, H, W, C], adversarial images in host memory.

  Raises:
    ValueError: as `arguments.check_inputs`, for a step longer than any
      perturbation of the images, a raw key, and indices out of range, before
      anything is computed; and, if `checks`, for logits that are NaN or
      infinite, before the attack.
  """
  arguments.check_attack(attack)
  key, devices = arguments.as_key(key), arguments.as_devices(devices)
  epsilon = hyper.pop('epsilon', getattr(attack, 'epsilon', None))
  images, labels = np.asarray(images), arguments.as_labels(labels)
  logits_fn, images = channels_last(logits_fn, images, channels)
  norm = norms.by_name(hyper.get('norm', getattr(attack, 'norm', norms.LINF)))
  hyper |= {'norm': norm} if 'norm' in hyper else {}
  longest = norm.longest(int(np.prod(images.shape[1:])))
  arguments.check_inputs(
    logits_fn, images, labels, epsilon=epsilon, longest=longest
  )
  arguments.check_length('step_size', hyper.get('step_size', 0), longest)
  if batch_size is None:
    batch_size = memory.batch_size(logits_fn, images, devices)
  arguments.check_counts(batch_size=batch_size)
  arguments.check_flags(checks=checks)
  indices = arguments.as_indices(indices, labels)
  misplaced = arguments.misplaced_channels(images.shape)
  if misplaced:
    warnings.warn(misplaced, stacklevel=2)
  traced = {k: v for k, v in hyper.items() if compiled.is_traced(v)}
  static = tuple(sorted((k, v) for k, v in hyper.items() if k not in traced))
  traced['epsilon'] = float(epsilon)
  logits_fn = compiled.as_argument(logits_fn)
  if checks and len(images) and epsilon > 0:
    looked_at = images[:_LOOKED_AT], labels[:_LOOKED_AT]
    for warning in gradient_checks.flat(logits_fn, *looked_at):
      warnings.warn(warning.message, stacklevel=2)
  shared = compiled.as_argument(attack), logits_fn, traced
  leaves, structure = jax.tree.flatten(shared)
  program = _program(structure, static, devices)
  leaves, parts = parallel.put(leaves, devices), []
  size = -(-max(min(batch_size, len(images)), 1) // len(devices)) * len(devices)
  for rows, mask in prediction.padded_batches(len(images), size):
    batch = image_keys(key, indices[rows]), images[rows], labels[rows]
    perturbed = program(leaves, parallel.put(batch, devices, split=True))
    parts.append(parallel.fetch(perturbed, devices)[mask])
  adversarial = np.concatenate(parts) if parts else images
  if channels == 'first':
    adversarial = np.moveaxis(adversarial, -1, 1)
  return adversarial


def channels_last(
  logits_fn: LogitsFn, images: np.ndarray, channels: str
) -> tuple[LogitsFn, np.ndarray]:
  """A classifier of channels first, and its images, with channels last.

  Args:
    logits_fn: [B, C, H, W] -> [B, K], or [B, H, W, C] -> [B, K].
    images: [N, C, H, W], or [N, H, W, C].
    channels: 'first' or 'last', where the channels are.

  Returns:
    The classifier, [B, H, W, C] -> [B, K], and images [N, H, W, C].

  Raises:
    ValueError: for other `channels`.
  """
  if channels not in ('last', 'first'):
    raise ValueError(
      f"channels={channels!r} must be 'last' for images [N, H, W, C], or "
      "'first' for [N, C, H, W]."
    )
  if channels == 'last' or images.ndim != 4:
    return logits_fn, images
  images = np.ascontiguousarray(np.moveaxis(images, 1, -1))
  if not callable(logits_fn):
    return logits_fn, images  # `check_inputs` refuses it.
  if isinstance(logits_fn, Randomized):
    moved = jax.tree_util.Partial(_of_channels_first, logits_fn.function)
    return Randomized(moved), images
  return jax.tree_util.Partial(_of_channels_first, logits_fn), images


def _of_channels_first(
  function: Callable[..., Array], images: Array, *key: Key
) -> Array:
  return function(jnp.moveaxis(images, -1, 1), *key)


@functools.lru_cache(maxsize=64)
def _program(
  structure: Any,
  static: tuple[tuple[str, Any], ...],
  devices: tuple[jax.Device, ...],
) -> Callable[..., Array]:
  """Compiles an attack on a batch that is split over devices.

  Args:
    structure: of the attack, the classifier and the traced hyper-parameters.
    static: the other hyper-parameters.
    devices: the devices.
  """

  def perturb_batch(shared: tuple[Any, ...], batch: tuple[Array, ...]) -> Array:
    attack, logits_fn, traced = shared
    return batched(attack)(logits_fn, *batch, **traced, **dict(static))

  return parallel.split(compiled.of_leaves(perturb_batch, structure), devices)

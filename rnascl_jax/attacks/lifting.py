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
  >>> import jax
  >>> import jax.numpy as jnp
  >>> import numpy as np
  >>> from rnascl_jax import attacks
  >>> def logits_fn(images):  # [B, 2, 2, 1] -> [B, 3]
  ...   return images.reshape(-1, 4) @ jnp.eye(4, 3)
  >>> images = np.full([5, 2, 2, 1], .5, np.float32)
  >>> adversarial = attacks.perturb(
  ...   attacks.pgd, logits_fn, jax.random.key(0), images, np.arange(5) % 3,
  ...   epsilon=8 / 255, step_size=2 / 255, num_steps=10, batch_size=2)
  >>> print(adversarial.shape, logits_fn(adversarial).argmax(-1))
  (5, 2, 2, 1) [1 0 0 1 0]
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.attacks.randomized import Randomized
from rnascl_jax.base import Array, Key, LogitsFn

# attack(logits_fn, key, image, target, **hyper) -> image, for one image.
Attack = Callable[..., Array]


def image_keys(key: Key, indices: Array) -> Key:
  """One key for each image, from its index in the data set.

  Args:
    key: typed random key.
    indices: [B], integers.

  Returns:
    [B], typed random keys.
  """
  return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices)


def batched(attack: Attack) -> Attack:
  """Lifts an attack on one image to batches.

  Args:
    attack: (logits_fn, key, image, target, **hyper) -> image.

  Returns:
    (logits_fn, keys [B], images [B, H, W, C], targets [B, ...], **hyper) ->
    [B, H, W, C], with hyper-parameters that all images share.
  """

  def attack_batch(logits_fn, keys, images, targets, **hyper):
    one = functools.partial(attack, logits_fn, **hyper)
    return jax.vmap(one)(keys, images, targets)

  return attack_batch


def perturb(
  attack: Attack,
  logits_fn: LogitsFn,
  key: Key,
  images: np.ndarray | Array,
  labels: np.ndarray | Array,
  *,
  indices: np.ndarray | Array | None = None,
  batch_size: int = 256,
  **hyper: Any,
) -> np.ndarray:
  """Attacks images in host memory, batch by batch.

  Compiles once for an attack, a classifier and a batch shape, whatever epsilon
  and the other floating-point hyper-parameters are. A classifier given as
  `jax.tree_util.Partial(model.apply, variables)` has its weights as arguments
  of the compiled program; weights inside of a closure become constants of it,
  which compiles slowly for large networks and is compiled again for a new
  closure.

  Args:
    attack: (logits_fn, key, image, target, **hyper) -> image; or a preset.
    logits_fn: [B, H, W, C] -> [B, K], in evaluation mode.
    key: typed random key.
    images: [N, H, W, C], float32 or float64 in [0, 1].
    labels: [N], integers in [0, K): the labels, or with `targeted=True` the
      classes to reach.
    indices: [N], the images' indices in the data set; 0 to N - 1 by default.
      Give them when attacking a part of a data set.
    batch_size: images per call of the compiled program; lower it if memory
      runs out. It does not change the result.
    **hyper: of the attack. `epsilon` may be left to a preset.

  Returns:
    [N, H, W, C], adversarial images in host memory.

  Raises:
    ValueError: as `check_inputs`, and for a step outside of [0, 1], before
      anything is computed.
  """
  epsilon = hyper.pop('epsilon', getattr(attack, 'epsilon', None))
  images, labels = np.asarray(images), np.asarray(labels)
  check_inputs(logits_fn, images, labels, epsilon=epsilon)
  _check_length('step_size', hyper.get('step_size', 0))
  indices = np.arange(len(images)) if indices is None else np.asarray(indices)
  if indices.shape != labels.shape or batch_size < 1:
    raise ValueError(
      f'indices must have shape {labels.shape}, not {indices.shape}, and '
      f'batch_size={batch_size} must be at least 1.'
    )
  traced = {k: v for k, v in hyper.items() if _is_traced(v)}
  static = tuple(sorted((k, v) for k, v in hyper.items() if k not in traced))
  traced['epsilon'] = float(epsilon)
  attack, logits_fn = as_argument(attack), as_argument(logits_fn)
  results = []
  for rows, kept in padded_batches(len(images), batch_size):
    batch = _perturb_batch(
      attack,
      logits_fn,
      image_keys(key, indices[rows]),
      images[rows],
      labels[rows],
      traced,
      static=static,
    )
    results.append(np.asarray(batch)[:kept])
  return np.concatenate(results) if results else images


def check_inputs(
  logits_fn: LogitsFn,
  images: np.ndarray | Array,
  labels: np.ndarray | Array,
  *,
  epsilon: float,
  longest: float = 1.0,
) -> None:
  """Refuses inputs for which an attack's result would mean nothing.

  Runs on the host and compiles nothing; `logits_fn` is only asked for the
  shape of its result.

  Args:
    logits_fn: [B, H, W, C] -> [B, K].
    images: [N, H, W, C].
    labels: [N].
    epsilon: the radius.
    longest: the largest radius that makes sense in the norm.

  Raises:
    ValueError: unless images are float32 or float64 in [0, 1] without NaN,
      labels integers in [0, K), one for each image, logits [B, K] with K >= 2,
      and epsilon a number in [0, longest].
  """
  images, labels = np.asarray(images), np.asarray(labels)
  if images.ndim != 4:
    raise ValueError(f'images must be [N, H, W, C], not {images.shape}.')
  if images.dtype not in (np.float32, np.float64):
    raise ValueError(
      f'images have type {images.dtype}; attacks need float32 or float64: '
      'divide 8-bit images by 255; 16 bits do not resolve 8 / 255.'
    )
  if np.isnan(images).any():
    raise ValueError('images contain NaN.')
  if images.size and not 0 <= images.min() <= images.max() <= 1:
    raise ValueError(
      f'images lie in [{images.min()}, {images.max()}], not in [0, 1]; divide '
      'by 255, and normalise inside of logits_fn.'
    )
  _check_labels(labels, len(images), count_classes(logits_fn, images))
  _check_length('epsilon', epsilon, longest)


def _check_labels(labels, num_images, num_classes):
  """Labels must be class indices: out of range, they clamp silently in JAX."""
  if labels.shape != (num_images,):
    raise ValueError(
      f'labels must have shape ({num_images},), not {labels.shape}.'
    )
  if not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(
      f'labels must be integers, not {labels.dtype}; for one-hot labels take '
      'the argmax.'
    )
  if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
    raise ValueError(
      f'labels lie in [{labels.min()}, {labels.max()}], but logits_fn has '
      f'{num_classes} classes: they must lie in [0, {num_classes - 1}].'
    )


def _check_length(name, value, longest=1.0):
  """Radius and step are distances between pixels in [0, 1]."""
  if value is None:
    raise ValueError(f'{name} is missing; images are in [0, 1], write 8 / 255.')
  if not 0 <= value <= longest:
    raise ValueError(
      f'{name}={value} must lie in [0, {longest:.4g}]; images are in [0, 1], '
      'write 8 / 255.'
    )


def count_classes(logits_fn: LogitsFn, images: np.ndarray | Array) -> int:
  """K, from the shapes alone.

  Args:
    logits_fn: [B, H, W, C] -> [B, K].
    images: [N, H, W, C].

  Returns:
    K.

  Raises:
    ValueError: unless there are at least two logits for each image.
  """
  one = jnp.asarray(np.zeros((1, *images.shape[1:]), images.dtype))
  logits = jax.eval_shape(logits_fn, one)
  shape = getattr(logits, 'shape', None)
  if shape is None or len(shape) != 2 or shape[0] != 1 or shape[1] < 2:
    raise ValueError(
      f'logits_fn must map {one.shape} to [1, K] with K >= 2, but gives '
      f'{jax.tree.map(lambda x: x.shape, logits)}; a binary classifier needs '
      'two logits, and taps or state must be dropped.'
    )
  return int(shape[1])


def padded_batches(
  num_images: int, batch_size: int
) -> Iterator[tuple[np.ndarray, int]]:
  """Rows of each batch, all of one size, and how many of them count."""
  batch_size = min(batch_size, num_images)
  for begin in range(0, num_images, max(batch_size, 1)):
    rows = np.arange(begin, begin + batch_size)
    kept = min(batch_size, num_images - begin)
    yield np.where(rows < num_images, rows, 0), kept


def _is_traced(value):
  """Whether a number is traced; integers, flags and functions are static."""
  return isinstance(value, float | np.floating | np.ndarray | jax.Array)


def as_argument(function: Callable[..., Any]) -> Callable[..., Any]:
  """A callable as `jit` takes it: its arrays traced, all else static.

  Args:
    function: a function, or a pytree that can be called, such as a
      `jax.tree_util.Partial` or a module whose leaves are weights, activation
      functions and options. Leaves that are not arrays must be hashable.

  Returns:
    A pytree that does the same; equal for equal static leaves, so that other
    weights do not compile again.
  """
  if isinstance(function, Randomized):
    return Randomized(as_argument(function.function))
  leaves, structure = jax.tree.flatten(function)
  if all(map(_is_traced, leaves)):
    return function
  static = tuple(None if _is_traced(leaf) else leaf for leaf in leaves)
  traced = [leaf if _is_traced(leaf) else None for leaf in leaves]
  return jax.tree_util.Partial(_Rebuilt(structure, static), traced)


@dataclasses.dataclass(frozen=True)
class _Rebuilt:
  """Puts a callable together from its traced leaves, and calls it."""

  structure: Any
  static: tuple[Any, ...]

  def __call__(self, traced: list[Any], *args: Any, **kwargs: Any) -> Any:
    leaves = [
      kept if given is None else given
      for given, kept in zip(traced, self.static, strict=True)
    ]
    return jax.tree.unflatten(self.structure, leaves)(*args, **kwargs)


@functools.partial(jax.jit, static_argnames='static')
def _perturb_batch(attack, logits_fn, keys, images, labels, traced, *, static):
  """The compiled program of `perturb`."""
  return batched(attack)(
    logits_fn, keys, images, labels, **traced, **dict(static)
  )

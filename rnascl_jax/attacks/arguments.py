"""Checks of what attacks are given, before anything is computed.

Each function raises a ValueError that says what was given, what would do, and
how to write it. Numbers that are traced are not looked at.

Example:
  >>> from rnascl_jax.attacks import arguments
  >>> arguments.check_length('epsilon', 8)
  Traceback (most recent call last):
  ...
  ValueError: epsilon=8 must lie in [0, 1]; images are in [0, 1], write 8 / 255.
"""

import numbers
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.base import Array, Key, LogitsFn

# Indices are folded into keys as 32 bits.
_END_OF_INDICES = 2**32
# Modules of Equinox and Flax NNX are in training mode if it is False.
_FLAGS = ('inference', 'use_running_average', 'deterministic')
# Channels that images have: grey, RGB, RGB and opacity.
_USUAL_CHANNELS = (1, 3, 4)


def check_inputs(
  logits_fn: LogitsFn,
  images: np.ndarray | Array,
  labels: np.ndarray | Array,
  *,
  epsilon: float,
  longest: float = 1.0,
) -> None:
  """Refuses inputs for which an attack's result would mean nothing.

  Compiles nothing; `logits_fn` is only asked for the shape of its result, after
  images and labels were found to be such.

  Args:
    logits_fn: [B, H, W, C] -> [B, K].
    images: [N, H, W, C].
    labels: [N].
    epsilon: the radius.
    longest: the largest radius that makes sense in the norm.

  Raises:
    ValueError: unless images are float32 or float64 in [0, 1] without NaN,
      labels integers in [0, K), one for each image, logits [B, K] with K >= 2
      of a floating-point type, and epsilon a number in [0, longest].
  """
  images, labels = np.asarray(images), np.asarray(labels)
  _check_images(images)
  if labels.shape != (len(images),):
    raise ValueError(
      f'labels must have shape ({len(images)},), not {labels.shape}.'
    )
  if not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(f'labels must be integers, not {labels.dtype}.')
  num_classes = count_classes(logits_fn, images)
  # Out of range, indices clamp silently in JAX.
  if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
    raise ValueError(
      f'labels lie in [{labels.min()}, {labels.max()}], but logits_fn has '
      f'{num_classes} classes: they must lie in [0, {num_classes - 1}].'
    )
  check_length('epsilon', epsilon, longest)


def as_labels(labels: np.ndarray | Array) -> np.ndarray:
  """Returns labels [N] as they are, and one-hot labels [N, K] as integers.

  Raises:
    ValueError: for rows that are not one-hot.
  """
  labels = np.asarray(labels)
  if labels.ndim != 2:
    return labels
  one_hot = (labels == labels.astype(bool)) & (
    labels.sum(1, keepdims=True) == 1
  )
  if not one_hot.all():
    raise ValueError(
      f'labels of shape {labels.shape} must be one-hot: a single 1 in each row '
      'and 0 elsewhere; or give integers [N].'
    )
  return labels.argmax(axis=1)


def _check_images(images: np.ndarray) -> None:
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
    remedy = 'divide by 255' if images.min() >= 0 else 'do not normalise them'
    raise ValueError(
      f'images lie in [{images.min()}, {images.max()}], not in [0, 1]; '
      f'{remedy}, and normalise inside of logits_fn.'
    )


def check_one(logits_fn: LogitsFn, image: Array) -> None:
  """Raises ValueError unless these are a classifier and one image of floats."""
  _check_classifier(logits_fn)
  if image.ndim != 3 or not jnp.issubdtype(image.dtype, jnp.floating):
    raise ValueError(
      f'image must be [H, W, C] of floats in [0, 1], not {image.dtype} '
      f'{image.shape}: divide 8-bit images by 255, and attack a batch with '
      'attacks.batched or attacks.perturb.'
    )


def _check_classifier(logits_fn: LogitsFn) -> None:
  """Refuses what is no function, and modules in training mode."""
  if not callable(logits_fn):
    raise ValueError(
      'logits_fn must be a function of images [B, H, W, C] that returns logits '
      f'[B, K], not of type {type(logits_fn).__name__}.'
    )
  training: dict[str, None] = {}

  def look(node: Any) -> bool:
    flag = next((name for name in _FLAGS if hasattr(node, name)), '')
    if getattr(node, flag, None) is False:
      training[f'{type(node).__name__}.{flag}=False'] = None
    return False

  jax.tree.leaves(logits_fn, is_leaf=look)
  if training:
    raise ValueError(
      f'logits_fn is in training mode ({", ".join(training)}), where chance or '
      'the rest of the batch decide: call model.eval() of Flax NNX, or take '
      'equinox.nn.inference_mode(model).'
    )


def count_classes(logits_fn: LogitsFn, images: np.ndarray | Array) -> int:
  """K, from the shapes alone, for images [N, H, W, C].

  Raises:
    ValueError: unless `logits_fn` gives at least two logits for each image, of
      a floating-point type.
  """
  _check_classifier(logits_fn)
  one = jnp.asarray(np.zeros((1, *images.shape[1:]), images.dtype))
  logits = jax.eval_shape(logits_fn, one)
  shape = getattr(logits, 'shape', None)
  if shape is None or len(shape) != 2 or shape[0] != 1 or shape[1] < 2:
    raise ValueError(
      f'logits_fn must map {one.shape} to [1, K] with K >= 2, but gives '
      f'{jax.tree.map(lambda x: x.shape, logits)}; a binary classifier needs '
      'two logits, and taps or state must be dropped.'
    )
  if not jnp.issubdtype(logits.dtype, jnp.floating):
    raise ValueError(
      f'logits_fn gives logits of type {logits.dtype}, which have no gradient '
      'and hide how near an image is to another class; return floating-point '
      'logits, before any rounding, argmax or one-hot code.'
    )
  return int(shape[1])


def check_finite(logits: np.ndarray) -> None:
  """Raises ValueError if logits [B, K] of clean images are NaN or infinite."""
  bad = int((~np.isfinite(logits)).any(axis=1).sum())
  if bad:
    raise ValueError(
      f'logits_fn gives NaN or infinite logits for {bad} of {len(logits)} '
      'images without an attack; every attack would count them as broken.'
    )


def check_length(name: str, value: Any, longest: float = 1.0) -> None:
  """Raises ValueError unless a radius or step is a number in [0, longest].

  A bool is no number here, and a traced value is not looked at.
  """
  if isinstance(value, jax.core.Tracer):
    return
  if value is None:
    raise ValueError(f'{name} is missing; images are in [0, 1], write 8 / 255.')
  # A scalar of NumPy or JAX is one if its type is of numbers.
  dtype = getattr(value, 'dtype', np.dtype(bool))
  is_array = getattr(value, 'shape', None) == () and (
    jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
  )
  is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
  if not is_number and not is_array:
    raise ValueError(
      f'{name}={value!r} must be a number, not of type {type(value).__name__}; '
      'images are in [0, 1], write 8 / 255.'
    )
  if not 0 <= value <= longest:
    raise ValueError(
      f'{name}={value} must lie in [0, {longest:.4g}]; images are in [0, 1], '
      'write 8 / 255.'
    )


def check_counts(**counts: Any) -> None:
  """Raises ValueError unless all are integers of at least 1, and no bools."""
  for name, count in counts.items():
    is_integer = isinstance(count, int | np.integer)
    if not is_integer or isinstance(count, bool) or count < 1:
      raise ValueError(f'{name}={count!r} must be an integer of at least 1.')


def check_flags(**flags: Any) -> None:
  """Raises ValueError unless all are bools; the text 'no' would be true."""
  for name, flag in flags.items():
    if not isinstance(flag, bool | np.bool_):
      raise ValueError(f'{name}={flag!r} must be True or False.')


def as_key(key: Key | None) -> Key:
  """Returns a typed random key; `jax.random.key(0)` by default.

  Raises:
    ValueError: for a raw key.
  """
  if key is None:
    return jax.random.key(0)
  check_key(key)
  return key


def check_key(key: Key, shape: tuple[int, ...] | None = ()) -> None:
  """Raises ValueError unless it is a typed random key.

  Args:
    key: anything.
    shape: of the keys; None for any.
  """
  dtype = getattr(key, 'dtype', None)
  if dtype is None or not jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
    raise ValueError(
      f'key must be a typed random key, such as jax.random.key(0), not {key!r}.'
    )
  if shape is not None and key.shape != shape:
    raise ValueError(
      f'key must be of shape {shape}, not {key.shape}: take one of the keys.'
    )


def check_attack(attack: Any) -> None:
  """Raises ValueError unless an attack is a function."""
  if isinstance(attack, str):
    raise ValueError(
      f'attack={attack!r} is a name; give attacks.presets.by_name({attack!r}).'
    )
  if not callable(attack):
    raise ValueError(
      'attack must be a function of (logits_fn, key, image, target), such as '
      f'attacks.pgd or a preset, not of type {type(attack).__name__}.'
    )


def check_journal(journal: Any) -> None:
  """Raises ValueError for what keeps nothing, such as the path of a folder."""
  if isinstance(journal, str | os.PathLike):
    raise ValueError(
      f'journal={str(journal)!r} is a path; give '
      f'rnascl_jax.evaluation.attack_journal.AttackJournal({str(journal)!r}).'
    )
  methods = (getattr(journal, name, None) for name in ('start', 'append'))
  if journal is not None and not all(map(callable, methods)):
    raise ValueError(
      'journal must be a rnascl_jax.evaluation.attack_journal.'
      f'AttackJournal(folder) or None, not of type {type(journal).__name__}.'
    )


def as_devices(devices: Sequence[jax.Device] | None) -> tuple[jax.Device, ...]:
  """Devices; all of this process by default.

  Raises:
    ValueError: unless they are devices.
  """
  if devices is None:
    return tuple(jax.local_devices())
  if not isinstance(devices, Sequence) or not all(
    isinstance(device, jax.Device) for device in devices
  ):
    raise ValueError(
      f'devices={devices!r} are no devices: give a list of some of '
      "jax.devices(), such as jax.devices('gpu')[:1]."
    )
  return tuple(devices or jax.local_devices())


def as_indices(
  indices: np.ndarray | Array | None, labels: np.ndarray
) -> np.ndarray:
  """The images' indices in the data set, as the 32 bits that keys take.

  Args:
    indices: [N], integers in [0, 2^32); None for 0 to N - 1.
    labels: [N].

  Returns:
    [N], uint32.

  Raises:
    ValueError: unless they are such, one for each label.
  """
  indices = np.arange(len(labels)) if indices is None else np.asarray(indices)
  if indices.shape != labels.shape:
    raise ValueError(
      f'indices must have shape {labels.shape}, not {indices.shape}.'
    )
  check_indices(indices)
  return indices.astype(np.uint32)


def check_indices(indices: np.ndarray) -> None:
  """Raises ValueError unless indices are integers in [0, 2^32)."""
  if not indices.size:
    return
  if not np.issubdtype(indices.dtype, np.integer):
    raise ValueError(f'indices must be integers, not {indices.dtype}.')
  if not 0 <= indices.min() <= indices.max() < _END_OF_INDICES:
    raise ValueError(
      f'indices lie in [{indices.min()}, {indices.max()}], but must lie in '
      f'[0, {_END_OF_INDICES}): random draws follow from their 32 bits, and '
      'images beyond would share theirs. Number the images anew.'
    )


def misplaced_channels(shape: tuple[int, ...]) -> str:
  """A warning of images [N, H, W, C] whose channels seem to be elsewhere.

  Returns:
    The message; empty if C is 1, 3 or 4, or if neither H nor W is 1 or 3.
  """
  if shape[3] in _USUAL_CHANNELS or not {1, 3} & set(shape[1:3]):
    return ''
  return (
    f'The images seem to have {shape[3]} channels, and {shape[1]} x {shape[2]} '
    'pixels. If their channels are in another place, attacks that change '
    'squares of pixels (Square) cut across channels and are weaker: give '
    "channels='first' for images [N, C, H, W], and leave it out for "
    '[N, H, W, C].'
  )

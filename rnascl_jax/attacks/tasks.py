"""What an ensemble is asked to do, checked before anything is computed."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from rnascl_jax.attacks import randomized
from rnascl_jax.attacks.ensembles import Member
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.base import Array, Key, LogitsFn


@dataclasses.dataclass(frozen=True)
class Task:
  """A classifier, images, and how they are attacked.

  Attributes:
    logits_fn: [B, H, W, C] -> [B, K], a pytree.
    key: typed random key.
    images: [N, H, W, C] in [0, 1].
    labels: [N], int32.
    indices: [N], int32, in the data set.
    epsilon: radius.
    norm: its norm.
    batch_size: images at once over all devices.
    over: the devices.
    stop_early: whether an attack on an image ends when it is broken.
    description: in front of the name of what is under way.
    verbose: whether progress is shown.
  """

  logits_fn: LogitsFn
  key: Key
  images: np.ndarray
  labels: np.ndarray
  indices: np.ndarray
  epsilon: float
  norm: Norm
  batch_size: int
  over: tuple[jax.Device, ...]
  stop_early: bool
  description: str
  verbose: bool


def check_members(
  members: Sequence[Member], logits_fn: LogitsFn, num_classes: int
) -> Norm:
  """The norm of an ensemble that can attack a classifier.

  Raises:
    ValueError: if there are no members, or of several norms, or two of one
      name, or none that is defined for so few classes, or if a member averages
      over draws of a classifier that is not random.
  """
  norms = {member.attack.norm for member in members}
  if len(norms) != 1:
    raise ValueError(
      'members must be one or more attacks of one norm, but are of: '
      f'{", ".join(sorted(norm.name for norm in norms)) or "none"}.'
    )
  names = [member.name for member in members]
  if len(set(names)) < len(names):
    raise ValueError(
      f'two members have the same name: {", ".join(names)}. Results and random '
      "draws go by the name: rename one with member._replace(name='...')."
    )
  if not any(member.attack.num_trials(num_classes) for member in members):
    raise ValueError(
      f'none of {", ".join(names)} is defined for {num_classes} classes.'
    )
  draws = max(getattr(member.attack, 'draws', 1) for member in members)
  if draws > 1 and not isinstance(logits_fn, randomized.Randomized):
    raise ValueError(
      f'{draws} draws a step are for random classifiers, but logits_fn is a '
      'function of images alone: give a Randomized(function of images and '
      'key), or use ensembles.standard().'
    )
  return norms.pop()


def check_key(key: Key) -> None:
  """Raises unless the key is a typed one."""
  dtype = getattr(key, 'dtype', None)
  if dtype is None or not jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
    raise ValueError(
      f'key must be a typed random key, such as jax.random.key(0), not {key!r}.'
    )


def as_floats(images: np.ndarray | Array) -> np.ndarray:
  """Images on the host; float32 where JAX would make them float32."""
  images = np.asarray(images)
  return images.astype(jax.dtypes.canonicalize_dtype(images.dtype), copy=False)


def as_indices(
  indices: np.ndarray | Array | None, labels: np.ndarray
) -> np.ndarray:
  """[N], int32; 0 to N - 1 by default.

  Raises:
    ValueError: unless there is one for each label.
  """
  indices = np.arange(len(labels)) if indices is None else np.asarray(indices)
  if indices.shape != labels.shape:
    raise ValueError(
      f'indices must have shape {labels.shape}, not {indices.shape}.'
    )
  return indices.astype(np.int32)

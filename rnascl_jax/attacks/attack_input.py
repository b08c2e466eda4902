"""What AutoAttack is given, checked before anything is computed."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from rnascl_jax.attacks import randomized
from rnascl_jax.attacks.ensembles import EnsembleMember
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.base import Array, Key, LogitsFn


@dataclasses.dataclass(frozen=True)
class AutoAttackInput:
  """A classifier, images, and how they are attacked.

  Attributes:
    logits_fn: [B, H, W, C] -> [B, K], a pytree.
    key: typed random key.
    images: [N, H, W, C] in [0, 1].
    labels: [N], int32.
    indices: [N], int32, in the data set; from 2^31 on they are negative.
    epsilon: radius of the ball.
    norm: the ball's norm.
    batch_size: images at once over all devices.
    devices: the devices.
    stop_early: whether an attack on an image ends when the image is broken.
    description: stands in front of the attack's name in the progress.
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
  devices: tuple[jax.Device, ...]
  stop_early: bool = True
  description: str = ''
  verbose: bool = False


def as_members(members: Sequence[EnsembleMember]) -> tuple[EnsembleMember, ...]:
  """An ensemble as a tuple.

  Raises:
    ValueError: unless it is a sequence of members.
  """
  if isinstance(members, str):
    raise ValueError(
      f'members={members!r} is a name; give the attacks themselves, such as '
      'ensembles.standard() or ensembles.plus().'
    )
  if isinstance(members, EnsembleMember):
    raise ValueError(
      f'members is one attack, {members.name}; give a sequence: [member].'
    )
  checked = tuple(members) if isinstance(members, Iterable) else (members,)
  for member in checked:
    if not isinstance(member, EnsembleMember):
      raise ValueError(
        f'members has {member!r}, which is no ensembles.EnsembleMember: make '
        'one with ensembles.apgd_ce(...) and the like.'
      )
  return checked


def check_members(
  members: Sequence[EnsembleMember], logits_fn: LogitsFn, num_classes: int
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


def as_floats(images: np.ndarray | Array) -> np.ndarray:
  """Images on the host; float32 where JAX would make them float32."""
  images = np.asarray(images)
  return images.astype(jax.dtypes.canonicalize_dtype(images.dtype), copy=False)

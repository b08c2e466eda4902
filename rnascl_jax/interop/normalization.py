"""The first layer of a published network: which one, and who says so."""

import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

# The last part of names under which a file has mean and deviation, by prefixes
# of the first layer or in the network itself.
_MEANS = ('mean', 'new_mean', 'mu')
_STDS = ('std', 'new_std', 'sigma')


class Normalization(NamedTuple):
  """The first layer of a network: (images - mean) / std, images in [0, 1].

  Attributes:
    mean: a number for each channel, or one for all.
    std: a positive number for each channel, or one for all.
  """

  mean: tuple[float, ...]
  std: tuple[float, ...]


# By the names that `rnascl import-teacher` takes. Of the two for CIFAR-10,
# the second is that of Engstrom et al., whose deviations are other ones.
NORMALIZATIONS: Mapping[str, Normalization] = types.MappingProxyType(
  {
    'none': Normalization((0.0,), (1.0,)),
    'cifar10': Normalization(
      (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
    ),
    'cifar10_madry': Normalization(
      (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    ),
    'imagenet': Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
  }
)


def named(name: str) -> Normalization:
  """The normalisation of a name in `NORMALIZATIONS`; ValueError if none has."""
  if name not in NORMALIZATIONS:
    raise ValueError(
      f'unknown normalisation {name!r}; known are {", ".join(NORMALIZATIONS)}.'
    )
  return NORMALIZATIONS[name]


def check(normalization: Normalization, channels: int | None = None) -> None:
  """Raises ValueError for numbers that normalise no images in [0, 1].

  Args:
    normalization: mean and deviation.
    channels: of the images, None if they are not known.
  """
  mean, std = normalization
  finite = np.isfinite([*mean, *std]).all()
  if not mean or len(mean) != len(std) or not finite or min(std) <= 0:
    raise ValueError(
      f'mean={mean} and std={std} must be equally many finite numbers, the '
      'deviations positive.'
    )
  if max(map(abs, mean)) > 1:
    raise ValueError(
      f'mean={mean} and std={std} are not for images in [0, 1]: divide both by '
      '255 if they are for 8-bit images, and give them with --normalization.'
    )
  if channels is not None and len(mean) not in (1, channels):
    raise ValueError(
      f'the file is for images with {channels} channels, but the normalisation '
      f'has {len(mean)} means: give --normalization with one for each channel.'
    )


def is_part(key: str, array: np.ndarray) -> bool:
  """Whether an array of a state dict is a mean or deviation of the inputs."""
  return _last(key) in (*_MEANS, *_STDS) and array.size in (1, 3)


def said(
  parts: Mapping[str, np.ndarray], metadata: Mapping[str, Any]
) -> Normalization | None:
  """What a file says of its normalisation.

  Args:
    parts: the arrays of its state dict of which `is_part` is true.
    metadata: beside the state dict, see `export`.

  Returns:
    It, or None if the file says nothing.

  Raises:
    ValueError: it says half of it, or two different things.
  """
  means, stds = (
    list(
      dict.fromkeys(
        tuple(float(number) for number in array.reshape(-1))
        for key, array in parts.items()
        if _last(key) in names
      )
    )
    for names in (_MEANS, _STDS)
  )
  if len(means) > 1 or len(stds) > 1:
    raise ValueError(
      f'the file says two things about the normalisation, mean {means} and '
      f'std {stds}: choose one with --normalization.'
    )
  if len(means) != len(stds):
    raise ValueError(
      f'the file has mean {means} and std {stds} of the normalisation, not '
      'both: give both with --normalization.'
    )
  if means:
    return Normalization(means[0], stds[0])
  mean, std = (_numbers(metadata.get(name)) for name in ('mean', 'std'))
  return Normalization(mean, std) if mean and std else None


def _last(key: str) -> str:
  return key.rpartition('.')[2]


def _numbers(value: Any) -> tuple[float, ...]:
  """A list of numbers as a tuple; empty if it is none."""
  if not isinstance(value, list | tuple) or not all(
    isinstance(number, int | float) for number in value
  ):
    return ()
  try:
    return tuple(map(float, value))
  except OverflowError:  # An integer of hundreds of digits.
    return ()

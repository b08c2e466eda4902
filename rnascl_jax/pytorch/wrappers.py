"""What training code puts around a network's names in a state dict.

`DataParallel` puts `module.` before every name, RobustBench `model.`, MadryLab
`module.model.`, and a `Sequential` with the normalisation in front `1.`. No
list of prefixes is kept: the right one is that under which the network's own
names are found. Whatever else is in the file must be known to change nothing:

  counters of batches       BatchNorm's `num_batches_tracked`
  normalisation             mean and deviation of the inputs, a first layer
  a second copy             equal weights under another prefix, such as
                            MadryLab's `attacker.model.`
  unused by the network     the `sub_block1` of TRADES' wide residual networks
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from rnascl_jax.pytorch import state_dicts

# The last part of names under which mean and deviation are kept, by prefixes of
# the first layer or in the network itself.
_MEANS = ('mean', 'new_mean', 'mu')
_STDS = ('std', 'new_std', 'sigma')
# RobustBench builds it for a few models; their forward pass does not call it.
_UNUSED = 'sub_block1'


class Unwrapped(NamedTuple):
  """A state dict without what was around it.

  Attributes:
    arrays: by the network's own names, those that were found.
    prefix: what stood before them, '' for nothing.
    mean: [C] of the inputs, None where the file does not say.
    std: [C] of the inputs, None where the file does not say.
    ignored: other keys that change nothing, by the reason.
    unexpected: all other keys.
  """

  arrays: dict[str, np.ndarray]
  prefix: str
  mean: tuple[float, ...] | None
  std: tuple[float, ...] | None
  ignored: dict[str, list[str]]
  unexpected: list[str]


def unwrap(
  arrays: Mapping[str, np.ndarray], expected: Collection[str]
) -> Unwrapped:
  """Finds a network's own names in a state dict.

  Args:
    arrays: the state dict of a file.
    expected: the network's names, see `state_dicts.shapes`.

  Returns:
    Its arrays, and what became of all others.

  Raises:
    ValueError: the file says two different things about the normalisation.
  """
  prefix = _prefix(arrays, expected)
  own = {
    name: arrays[prefix + name] for name in expected if prefix + name in arrays
  }
  ignored: dict[str, list[str]] = {}
  unexpected = []
  for key in arrays:
    if key.startswith(prefix) and key.removeprefix(prefix) in own:
      continue
    reason = _reason(key, arrays[key], prefix, own)
    if reason:
      ignored.setdefault(reason, []).append(key)
    else:
      unexpected.append(key)
  keys = ignored.get('normalisation', [])
  mean, std = _agreed(arrays, keys, _MEANS), _agreed(arrays, keys, _STDS)
  return Unwrapped(own, prefix, mean, std, ignored, unexpected)


def _prefix(arrays: Mapping[str, np.ndarray], expected: Collection[str]) -> str:
  """The shortest of the prefixes under which most names are found."""
  candidates = {''}
  for name in expected:
    candidates |= set(state_dicts.matching(arrays, name))

  def found(prefix: str) -> tuple[int, int, str]:
    return sum(prefix + n in arrays for n in expected), -len(prefix), prefix

  return max(candidates, key=found)


def _reason(
  key: str, array: np.ndarray, prefix: str, own: Mapping[str, np.ndarray]
) -> str:
  """Why a key changes nothing; '' if it may change something."""
  last = key.rpartition('.')[2]
  if last == state_dicts.COUNTER:
    return 'counters of batches'
  if last in (*_MEANS, *_STDS) and array.size in (1, 3):
    return 'normalisation'
  if key.removeprefix(prefix).split('.')[0] == _UNUSED:
    return 'unused by the network'
  parts = key.split('.')
  for start in range(1, len(parts)):
    twin = own.get('.'.join(parts[start:]))
    if twin is not None and np.array_equal(twin, array):
      return 'a second copy'
  return ''


def _agreed(
  arrays: Mapping[str, np.ndarray], keys: list[str], names: tuple[str, ...]
) -> tuple[float, ...] | None:
  """The one value that keys of such names have."""
  found = {
    tuple(float(x) for x in arrays[key].reshape(-1)): key
    for key in keys
    if key.rpartition('.')[2] in names
  }
  if len(found) > 1:
    raise ValueError(
      f'the file says two things about the normalisation: {found}. Choose one '
      'with --normalization.'
    )
  return next(iter(found), None)

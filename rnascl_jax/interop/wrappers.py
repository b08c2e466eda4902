"""What training code puts around a network's names in a state dict.

`DataParallel` puts `module.` before every name, RobustBench `model.`, MadryLab
`module.model.`, and a `Sequential` with the normalisation in front `1.`. No
list of prefixes is kept: the right one is that under which the network's own
names are found. Whatever else is in the file must be known to change nothing:

  counters of batches       BatchNorm's `num_batches_tracked`
  normalisation             mean and deviation of the inputs, a first layer
  a second copy             a whole network of equal weights under another
                            prefix, such as MadryLab's `attacker.model.`
  unused by the network     the `sub_block1` of TRADES' wide residual networks,
                            and the `auxiliary_head` of DARTS's networks, which
                            acts in training alone
  not chosen                under another prefix than the one asked for
"""

import collections
from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np

from rnascl_jax.interop import normalization, state_dicts

# The forward pass does not call them.
_UNUSED = ('sub_block1', 'auxiliary_head')


class Unwrapped(NamedTuple):
  """A state dict without what was around it.

  Attributes:
    arrays: by the network's own names, those that were found.
    prefix: what stood before them, '' for nothing.
    ignored: other keys that change nothing, by the reason.
    unexpected: all other keys.
    others: prefixes of further whole networks, of the same or other weights.
  """

  arrays: dict[str, np.ndarray]
  prefix: str
  ignored: dict[str, list[str]]
  unexpected: list[str]
  others: list[str]


def unwrap(
  arrays: Mapping[str, np.ndarray],
  expected: Collection[str],
  prefix: str | None = None,
) -> Unwrapped:
  """Finds a network's own names in a state dict.

  Args:
    arrays: the state dict of a file.
    expected: the network's names, see `state_dicts.shapes`.
    prefix: what stands before them; None for the shortest of those under which
      most of them are found.

  Returns:
    Its arrays, and what became of all others.
  """
  counted = collections.Counter({'': 0})
  for name in expected:
    counted.update(state_dicts.matching(arrays, name))
  # Most names; of equals the shortest, then the first.
  best = min(counted, key=lambda p: (-counted[p], len(p)))
  best = best if prefix is None else prefix
  own = {
    name: arrays[best + name] for name in expected if best + name in arrays
  }
  others = [p for p, n in counted.items() if n == len(expected) and p != best]
  copies = [
    p
    for p in others
    if all(np.array_equal(arrays[p + key], own[key]) for key in own)
  ]
  ignored: dict[str, list[str]] = {}
  unexpected = []
  for key in arrays:
    if key.startswith(best) and key.removeprefix(best) in own:
      continue
    reason = _reason(key, arrays[key], best)
    if not reason and any(key.removeprefix(p) in own for p in copies):
      reason = 'a second copy'
    if not reason and prefix is not None and not key.startswith(prefix):
      reason = 'not chosen'
    if reason:
      ignored.setdefault(reason, []).append(key)
    else:
      unexpected.append(key)
  return Unwrapped(own, best, ignored, unexpected, others)


def _reason(key: str, array: np.ndarray, prefix: str) -> str:
  """Why a key by itself changes nothing; '' if it may change something."""
  if key.rpartition('.')[2] == state_dicts.COUNTER:
    return 'counters of batches'
  if normalization.is_part(key, array):
    return 'normalisation'
  if key.removeprefix(prefix).split('.')[0] in _UNUSED:
    return 'unused by the network'
  return ''

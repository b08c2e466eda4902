"""Some of a data set's classes, by their names.

ImageNet-100 is 100 of ImageNet's classes, named by their WordNet identifiers
("synsets").

Example:
  >>> from rnascl_jax.data import classes
  >>> classes.indices(('n02', 'n01'), ('n01', 'n02', 'n03'))
  (1, 0)
"""

import os
from collections.abc import Sequence

import numpy as np

from rnascl_jax.runtime import paths, spelling


def read_classes(path: str | os.PathLike[str]) -> tuple[str, ...]:
  """The names in a file with one class a line, in its order.

  Args:
    path: of the file. Empty lines, and what follows a #, are left out.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: a line has more than one word, or a class is named twice.
  """
  path = paths.local(path, 'classes')
  if not path.is_file():
    raise FileNotFoundError(
      f'{path}, the list of classes, is not there: name a text file with one '
      'class a line, such as n02869837.'
    )
  places: dict[str, int] = {}
  for number, line in enumerate(path.read_text('utf-8').splitlines(), start=1):
    words = line.partition('#')[0].split()
    if not words:
      continue
    if len(words) > 1:
      raise ValueError(
        f'{path}:{number} is {line!r}: write one class a line, and what is '
        'said of it after a #.'
      )
    if words[0] in places:
      raise ValueError(
        f'{path}:{number} names {words[0]!r} again, after line '
        f'{places[words[0]]}: leave one of them out.'
      )
    places[words[0]] = number
  if not places:
    raise ValueError(f'{path} names no class: write one class a line.')
  return tuple(places)


def indices(wanted: Sequence[str], known: Sequence[str]) -> tuple[int, ...]:
  """Where classes are among all of a data set.

  Args:
    wanted: names, in the order of the new labels; at least 2, each once.
    known: names of all classes.

  Returns:
    For each wanted class its index in `known`.

  Raises:
    ValueError: for a class that there is not, one that is named twice, and for
      fewer than two.
  """
  if len(wanted) < 2:
    raise ValueError(
      f'classes={tuple(wanted)} must name at least 2 classes, or none for all.'
    )
  places = {name: place for place, name in enumerate(known)}
  for number, name in enumerate(wanted):
    if name not in places:
      hint = (
        spelling.did_you_mean(name, known)
        or f' They are named like {known[0]!r}.'
      )
      raise ValueError(f'classes: {name!r} is none of {len(known)}.{hint}')
    if name in wanted[:number]:
      raise ValueError(f'classes name {name!r} twice: leave one of them out.')
  return tuple(places[name] for name in wanted)


def relabelled(
  labels: np.ndarray, subset: Sequence[int], full_classes: int
) -> tuple[np.ndarray, np.ndarray]:
  """The examples of some classes, with labels in the order of these.

  Args:
    labels: [N], in [0, full_classes).
    subset: the classes, each once; empty for all.
    full_classes: how many there are.

  Returns:
    rows: [n], where examples of these classes are.
    new: [n], int32, `new[i] == subset.index(labels[rows[i]])`.
  """
  if not subset:
    return np.arange(len(labels)), labels
  table = np.full(full_classes, -1, np.int32)
  table[list(subset)] = np.arange(len(subset))
  new = table[labels]
  rows = np.flatnonzero(new >= 0)
  return rows, new[rows]

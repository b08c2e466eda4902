"""CIFAR-10-C, CIFAR-100-C, and what has their layout.

A folder has one file for each corruption, such as fog.npy: uint8
[5 N, H, W, C], the N images of severity 1, then those of 2, and so on;
labels.npy has their labels. Images are read when they are indexed.
"""

import pathlib

import numpy as np
from absl import logging

from rnascl_jax.data import classes as class_subset
from rnascl_jax.data.corruptions import corrupted_set, names
from rnascl_jax.data.corruptions.corrupted_set import CorruptedSet
from rnascl_jax.data.splits import Dataset, Split
from rnascl_jax.runtime import files, fingerprints, spelling


def read(root: pathlib.Path, data: Dataset, count: int) -> CorruptedSet:
  """Finds the corruptions of a folder, see `sets.open_set`."""
  labels = _labels(root / 'labels.npy')
  per_severity = len(labels)
  _check_classes(labels, data, root)
  available = _available(root)
  rows, labels = class_subset.relabelled(
    labels, data.subset, data.full_classes or data.num_classes
  )
  used = corrupted_set.of_each_class(labels, count)
  rows, labels = rows[used], labels[used]
  are_all = len(rows) == per_severity

  def load(name: str, severity: int) -> Split:
    path = root / f'{name}.npy'
    stored = _array(path)
    wanted = (5 * per_severity, *data.image_shape)
    if stored.dtype != np.uint8 or stored.shape != wanted:
      raise ValueError(
        f'{path} is {stored.dtype} {list(stored.shape)}, and must be uint8 '
        f'{list(wanted)}: images of the size of {data.name}, '
        f'{per_severity:,} for each of five severities.'
      )
    start = (severity - 1) * per_severity
    part = stored[start : start + per_severity]
    return Split(part if are_all else part[rows], labels)

  return CorruptedSet(
    name=root.name,
    images=len(labels),
    available=available,
    identity={'set': root.name, 'labels': fingerprints.digest(labels)},
    check=load,
    load=load,
  )


def _available(root: pathlib.Path) -> tuple[str, ...]:
  """The corruptions of which there is a file; other files are named."""
  there = {path.stem for path in root.glob('*.npy')}
  for name in sorted(there - {'labels', *names.NAMES}):
    logging.warning(
      '%s.npy is left out: its name is of no known corruption.%s',
      *(root / name, spelling.did_you_mean(name, names.NAMES)),
    )
  available = tuple(name for name in names.NAMES if name in there)
  if not available:
    raise ValueError(
      f'{root} has no corrupted images: {corrupted_set.LAYOUTS}.'
    )
  return available


def _labels(path: pathlib.Path) -> np.ndarray:
  """Labels [N] of the images of each severity."""
  if not path.exists():
    raise FileNotFoundError(
      f'{path} is missing, which says the classes of the images: it is in the '
      'archive of CIFAR-10-C beside the images.'
    )
  labels = _array(path)
  if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(
      f'{path} has labels of type {labels.dtype} and shape '
      f'{list(labels.shape)}, and must have one integer for each image.'
    )
  count, rest = divmod(len(labels), 5)
  by_severity = np.array(labels, np.int32)[: 5 * count].reshape(5, count)
  if rest or not count or (by_severity != by_severity[0]).any():
    raise ValueError(
      f'{path} has {len(labels):,} labels, and must have the same labels five '
      'times, once for each severity.'
    )
  return by_severity[0]


def _array(path: pathlib.Path) -> np.ndarray:
  """An array of a file, which is read where it is indexed."""
  with files.naming(path, corrupted_set.REMEDY):
    return np.load(path, mmap_mode='r', allow_pickle=False)


def _check_classes(
  labels: np.ndarray, data: Dataset, root: pathlib.Path
) -> None:
  """Raises unless labels are those of the classes of a data set."""
  classes = data.full_classes or data.num_classes
  low, high = int(labels.min()), int(labels.max())
  if low < 0 or high != classes - 1:
    raise ValueError(
      f'{root} has labels from {low} to {high}, and the classes of {data.name} '
      f'are 0 to {classes - 1}: use the corrupted images of {data.name}, or a '
      'model of these classes.'
    )

"""Labels of a prepared split, read once and then kept in a small file.

They are needed before training: for a subset of the classes, and to hold images
out by class. They lie between the images in the files of a split, so all of it
is read (ImageNet: 148 GB), without decoding an image. The copy is in
~/.cache/rnascl_jax/labels, or in the folder that XDG_CACHE_HOME names.
"""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures

import numpy as np
import tqdm
from absl import logging

from rnascl_jax.data import prepared
from rnascl_jax.runtime import files, paths

# Records read at a call, each with its image of about 115 kB.
_CHUNK = 100
_THREADS = 16
# A kept copy is compared with this many records of the split.
_PROBES = 8


def read(
  source: prepared.PreparedSplit, enough: Callable[[np.ndarray], bool]
) -> np.ndarray:
  """Labels of a split in the order of its records.

  Args:
    source: see `prepared.source`; examples have a feature 'label'.
    enough: whether the labels of the first records suffice. A scan that ends
      early is not kept.

  Returns:
    [N], int32, or [n], n <= N, those of the first records.
  """
  path = _path(source)
  labels = _kept(path, source)
  if labels is not None:
    return labels
  labels = _scan(source, enough)
  if len(labels) == len(source):
    try:
      with files.replacing(path) as file:
        np.savez(file, labels=labels)
    except OSError as error:
      logging.warning('The labels will be read again: %s', error)
  return labels


def _path(source: prepared.PreparedSplit) -> pathlib.Path:
  """Where the labels of this very copy of a split are kept."""
  info = source.dataset_info
  name = f'{info.name}-{info.version}-{source.split}'
  file = f'{name}-{prepared.fingerprint(source)}.npz'
  return paths.cache() / 'labels' / file


def _kept(
  path: pathlib.Path, source: prepared.PreparedSplit
) -> np.ndarray | None:
  """The kept labels, unless there are none or they are another split's."""
  if not path.exists():
    return None
  try:
    labels = files.read_npz(path, 'labels')['labels']
  except (OSError, files.DamagedFileError):
    labels = np.zeros(0)
  if labels.dtype == np.int32 and labels.shape == (len(source),):
    probes = np.linspace(0, len(source) - 1, _PROBES).astype(int).tolist()
    if _labels(source, probes) == labels[probes].tolist():
      return labels
  logging.warning(
    '%s is damaged or has the labels of another copy of the data: the labels '
    'are read again.',
    path,
  )
  return None


def _labels(
  source: prepared.PreparedSplit, records: Sequence[int]
) -> list[int]:
  return source.labels(records, source.__getitems__(list(records)))


def _scan(
  source: prepared.PreparedSplit, enough: Callable[[np.ndarray], bool]
) -> np.ndarray:
  """Reads labels from the first record on, until they are enough."""
  labels = np.empty(len(source), np.int32)
  done = 0
  name = f'labels of {source.dataset_info.name} {source.split}'
  with (
    tqdm.tqdm(total=len(source), desc=name, delay=2, disable=None) as bar,
    _chunks(source) as chunks,
  ):
    for chunk in chunks:
      labels[done : done + len(chunk)] = chunk
      done += len(chunk)
      bar.update(len(chunk))
      if enough(labels[:done]):
        break
  return labels[:done]


@contextlib.contextmanager
def _chunks(source: prepared.PreparedSplit) -> Iterator[Iterator[list[int]]]:
  """Labels in order, a chunk at a time; what is not wanted is not read."""
  records = range(len(source))
  chunks = [
    records[start : start + _CHUNK] for start in range(0, len(records), _CHUNK)
  ]
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    results = pool.map(functools.partial(_labels, source), chunks)
    try:
      yield results
    finally:
      pool.shutdown(wait=False, cancel_futures=True)

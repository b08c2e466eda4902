"""What a run keeps of its data set: `data.json` in the workdir.

It has the mean and the deviation that were computed from the training images,
so that a resumed run and its evaluation have the same, and what tells the
images from others. Data sets with constants of their own leave none,
unless they have extra images.
"""

import pathlib
from typing import Any

from rnascl_jax.data.datasets import Dataset, PixelStatistics
from rnascl_jax.runtime import files

_KEYS = tuple('name fingerprint classes image_shape images mean std'.split())


def statistics(folder: pathlib.Path) -> PixelStatistics | None:
  """The mean and the deviation that a workdir keeps, if it keeps any.

  Raises:
    DamagedFileError: the file is damaged.
  """
  kept = _kept(folder)
  if kept is None:
    return None
  with files.naming(_path(folder)):
    return PixelStatistics(
      tuple(map(float, kept['mean'])), tuple(map(float, kept['std']))
    )


def check(folder: pathlib.Path, data: Dataset) -> None:
  """Compares a data set with that of the run in a workdir.

  Raises:
    ValueError: the images are others than those that the run began with.
  """
  kept = _kept(folder)
  if kept is None:
    return
  now = files.to_json(facts(data))
  different = [key for key in _KEYS if kept[key] != now[key]]
  if different:
    text = '; '.join(
      f'{key}: {kept[key]!r:.200} there, {now[key]!r:.200} here'
      for key in different
    )
    raise ValueError(
      f'{folder} holds a run on other images of {data.name} ({text}). Use the '
      'images as they were, or another --workdir.'
    )


def keep(folder: pathlib.Path, data: Dataset) -> None:
  """Writes what is to be kept of a data set, unless it is there."""
  if data.fingerprint and not _path(folder).exists():
    files.write_json(_path(folder), facts(data))


def _path(folder: pathlib.Path) -> pathlib.Path:
  return folder / 'data.json'


def _kept(folder: pathlib.Path) -> dict[str, Any] | None:
  path = _path(folder)
  return files.read_json(path, *_KEYS) if path.exists() else None


def facts(data: Dataset) -> dict[str, Any]:
  """What tells a data set from others."""
  parts = {
    'train': data.train,
    'validation': data.validation,
    'test': data.test,
  }
  if data.extra is not None:
    parts['extra'] = data.extra
  return {
    'name': data.name,
    'fingerprint': data.fingerprint,
    'classes': data.class_names,
    'image_shape': data.image_shape,
    'images': {name: len(part.labels) for name, part in parts.items()},
    'mean': data.mean,
    'std': data.std,
  }

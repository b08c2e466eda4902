"""ImageNet-C, or those of its classes that a model knows.

A folder has one folder for each corruption, in it one for each severity from 1
to 5, and in these one for each class with its images; folders of corruptions
may lie in folders of their kind, as in noise/gaussian_noise/1/n01440764. Images
are decoded when they are indexed.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnascl_jax.data import folders, images, stored_images
from rnascl_jax.data.corruptions import corrupted_set, names
from rnascl_jax.data.corruptions.corrupted_set import REMEDY, CorruptedSet
from rnascl_jax.data.splits import Dataset, Split
from rnascl_jax.data.stored_images import StoredImages
from rnascl_jax.runtime import files, fingerprints, spelling


def corruption_folders(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """Folders of corruptions by their names, in the order of `names.NAMES`.

  Raises:
    ValueError: a corruption has two folders.
  """
  there: dict[str, pathlib.Path] = {}
  for folder in sorted((*root.glob('*'), *root.glob('*/*'))):
    if folder.name in names.NAMES and folder.is_dir():
      if folder.name in there:
        raise ValueError(
          f'{folder} and {there[folder.name]} are of the same corruption: move '
          'one of them elsewhere.'
        )
      there[folder.name] = folder
  return {name: there[name] for name in names.NAMES if name in there}


def read(
  root: pathlib.Path,
  corruptions: Mapping[str, pathlib.Path],
  data: Dataset,
  count: int,
) -> CorruptedSet:
  """Lists the images of a severity, see `sets.open_set`.

  Args:
    root: the folder.
    corruptions: what `corruption_folders` gave, at least one.
    data: see `sets.open_set`.
    count: likewise.
  """
  first = next(iter(corruptions.values())) / '1'
  _, labels = _listed(first, data)
  used = corrupted_set.of_each_class(labels, count)

  def load(name: str, severity: int) -> Split:
    folder = corruptions[name] / str(severity)
    image_paths, own = _listed(folder, data)
    if not np.array_equal(own, labels):
      raise ValueError(
        f'{folder} has {len(own):,} images of the classes of {data.name}, and '
        f'{first} has {len(labels):,}, or as many of other classes. {REMEDY}'
      )
    image_paths = [image_paths[row] for row in used]
    return Split(_stored(image_paths, data), labels[used])

  return CorruptedSet(
    name=root.name,
    images=len(used),
    available=tuple(corruptions),
    identity={
      'set': root.name,
      'classes': fingerprints.short(data.class_names),
      'labels': fingerprints.digest(labels[used]),
    },
    check=lambda name, severity: _check_classes(
      corruptions[name] / str(severity), data
    ),
    load=load,
  )


def _check_classes(folder: pathlib.Path, data: Dataset) -> None:
  """Raises unless a severity has a folder for each class of a data set."""
  if not folder.is_dir():
    raise FileNotFoundError(
      f'{folder} is missing, the images of severity {folder.name}. {REMEDY}'
    )
  with os.scandir(folder) as entries:
    there = {entry.name for entry in entries if entry.is_dir()}
  for name in data.class_names:
    if name not in there:
      raise ValueError(
        f'{folder} has no folder {name!r}, a class of {data.name}.'
        f'{spelling.did_you_mean(name, there)} Use a model of the classes of '
        'ImageNet, or of some of them, with names such as n01440764.'
      )


def _listed(
  folder: pathlib.Path, data: Dataset
) -> tuple[list[str], np.ndarray]:
  """Paths of the images of a severity by class, and their labels [N]."""
  _check_classes(folder, data)
  image_paths: list[str] = []
  labels: list[int] = []
  for label, name in enumerate(data.class_names):
    of_class, _ = folders.image_files(folder / name)
    if not of_class:
      raise ValueError(f'{folder / name} has no images. {REMEDY}')
    image_paths += of_class
    labels += [label] * len(of_class)
  return image_paths, np.array(labels, np.int32)


def _stored(image_paths: Sequence[str], data: Dataset) -> StoredImages:
  """Images of files in the size of a data set's images."""
  height, width, channels = data.image_shape
  source = folders.ImageFiles(image_paths)
  (example,) = source.__getitems__([0])
  with files.naming(example['path'], REMEDY):
    own = images.decode(example['image']).size
  if own != (width, height):
    source = _ResizedFiles(image_paths, data.image_shape)
  return StoredImages(
    source,
    np.arange(len(image_paths)),
    (height, width),
    name=image_paths[0],
    channels=channels,
  )


class _ResizedFiles(folders.ImageFiles):
  """Image files whose whole images are resized.

  An image of ImageNet-C is the part of a photograph that a test image is.
  """

  def __init__(self, image_paths: Sequence[str], shape: tuple[int, int, int]):
    super().__init__(image_paths)
    self._shape = shape

  def __getitems__(self, records: Sequence[int]) -> list[dict[str, Any]]:
    examples = super().__getitems__(records)
    return list(stored_images.pool().map(self._resized, examples))

  def _resized(self, example: dict[str, Any]) -> dict[str, Any]:
    try:
      pixels = images.resized_image(example['image'], self._shape)
    except images.NotAnImageError as error:
      raise stored_images.not_an_image(example['path'], error) from error
    return {**example, 'image': pixels}

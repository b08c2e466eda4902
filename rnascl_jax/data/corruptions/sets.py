"""Finds a set of corrupted test images: made, CIFAR-10-C, or ImageNet-C."""

from rnascl_jax.data import splits
from rnascl_jax.data.corruptions import (
  cifar_c,
  corrupted_set,
  imagenet_c,
  made,
  names,
)
from rnascl_jax.data.corruptions.corrupted_set import CorruptedSet
from rnascl_jax.data.splits import Dataset, Split
from rnascl_jax.runtime import fingerprints, paths

MADE = 'made'
# Changes when the formulas make other images.
_VERSION = 1


def open_set(place: str, data: Dataset, count: int = 0) -> CorruptedSet:
  """Finds the corrupted images for models that were trained on a data set.

  Args:
    place: 'made' to corrupt the data set's test images, else the path of a
      folder with the layout of CIFAR-10-C or of ImageNet-C.
    data: what the models were trained on; its classes and the size of its
      images are those of the set.
    count: how many images of each corruption and severity are used; 0 for all.
      Of images that are made they are the first; of others a share of each
      class, always the same.

  Raises:
    FileNotFoundError: there is no such folder, or a file is missing.
    ValueError: the folder has another layout, or images of other classes or
      another size; the message says what to do.
    DamagedFileError: a file is damaged.
  """
  if count < 0:
    raise ValueError(f'images={count} must be at least 0, which is for all.')
  corrupted = _made(data, count) if place == MADE else _read(place, data, count)
  if corrupted.images == count:
    corrupted = corrupted._replace(name=f'{corrupted.name}_{count}')
  return corrupted


def _read(place: str, data: Dataset, count: int) -> CorruptedSet:
  """The set in a folder."""
  root = paths.local(place, 'data')
  if not root.is_dir():
    raise FileNotFoundError(
      f'{root} is no folder; write {MADE!r} to corrupt the test images of '
      f'{data.name}, or name a folder: {corrupted_set.LAYOUTS}.'
    )
  if any(root.glob('*.npy')):
    return cifar_c.read(root, data, count)
  folders = imagenet_c.corruption_folders(root)
  if not folders:
    raise ValueError(
      f'{root} has no corrupted images: {corrupted_set.LAYOUTS}.'
    )
  return imagenet_c.read(root, folders, data, count)


def _made(data: Dataset, count: int) -> CorruptedSet:
  """The first test images of a data set, corrupted when they are used."""
  test = splits.rows_of(data.test, slice(count or None))
  height, width, channels = data.image_shape

  def load(name: str, severity: int) -> Split:
    corrupted = made.CorruptedImages(test.images, name, severity)
    return Split(corrupted, test.labels)

  return CorruptedSet(
    name=MADE,
    images=len(test.labels),
    available=made.available(channels),
    identity={
      'set': MADE,
      'version': _VERSION,
      'constants': names.size_of_constants(height, width),
      'data': data.name,
      'labels': fingerprints.digest(test.labels),
    },
    check=load,
    load=load,
  )

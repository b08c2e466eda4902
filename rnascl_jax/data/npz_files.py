"""Images and labels in an .npz file of NumPy, read without unpickling.

The names of its arrays are those of Keras (x_train, y_train, x_test, y_test,
and maybe x_val, y_val), those of MedMNIST (train_images, train_labels, ...), or
images and labels alone, of which test images are held out; the generated images
of Rebuffi et al. (2021) are called image and label. `class_names` may name the
classes.
"""

import hashlib
import math
import pathlib
import zipfile
from collections.abc import Sequence
from typing import IO

import numpy as np

from rnascl_jax.data import sources
from rnascl_jax.data.sources import Source
from rnascl_jax.runtime import files, spelling

# Of training, test and validation images, and of their labels.
_NAMES = (
  (('x_train', 'y_train'), ('x_test', 'y_test'), ('x_val', 'y_val')),
  (
    ('train_images', 'train_labels'),
    ('test_images', 'test_labels'),
    ('val_images', 'val_labels'),
  ),
  (('images', 'labels'),),
  (('image', 'label'),),
)

_REMEDY = 'Save it again with np.savez, or use another copy.'


def read(place: str, *, name: str) -> Source:
  """Reads an .npz file.

  Args:
    place: its path.
    name: of the data set, for messages.

  Raises:
    FileNotFoundError: there is no such file.
    DamagedFileError: it is damaged, or no .npz file.
    ValueError: it lacks an array.
  """
  remedy = '; name a file that np.savez has written.'
  path = sources.locate(place, name, remedy)
  with files.naming(path, _REMEDY), zipfile.ZipFile(path) as archive:
    there = [member.removesuffix('.npy') for member in archive.namelist()]
  known = [
    names for names in _NAMES if all(array in there for array in names[0])
  ]
  if len(known) != 1:
    hint = spelling.did_you_mean(
      ' '.join(sorted(there)), (' '.join(names[0]) for names in _NAMES)
    )
    ways = '; or '.join(
      ', '.join(array for pair in names for array in pair) for names in _NAMES
    )
    raise ValueError(
      f'{path} has the arrays {", ".join(there)}, and must have those of one '
      f'convention.{hint} They are {ways}. Test and validation images may be '
      'missing.'
    )
  for images, labels in known[0]:
    if (images in there) != (labels in there):
      lacking = labels if images in there else images
      raise ValueError(f'{path} lacks the array {lacking!r}: add it.')
  used = [name for pair in known[0] for name in pair if name in there]
  arrays = _arrays(path, used + ['class_names'] * ('class_names' in there))
  parts = [
    (arrays[images], arrays[labels]) if images in arrays else None
    for images, labels in known[0]
  ]
  train, test, validation = (*parts, None, None)[:3]
  if test is None:
    test, validation = validation, None
  names = _names(arrays['class_names'], path) if 'class_names' in arrays else ()
  return Source(train, test, validation, names, _digest(arrays))


def _names(array: np.ndarray, path: pathlib.Path) -> tuple[str, ...]:
  if array.ndim != 1 or array.dtype.kind not in 'US':
    raise ValueError(
      f"{path}: the array 'class_names' has the type {array.dtype} and the "
      f'shape {array.shape}, and must be one text a class: save '
      "np.array(['cat', 'dog']), for instance."
    )
  if array.dtype.kind == 'S':
    with files.naming(path, _REMEDY):
      array = np.char.decode(array, 'utf-8')
  return tuple(map(str, array))


def _arrays(path: pathlib.Path, names: Sequence[str]) -> dict[str, np.ndarray]:
  """Reads some arrays to their end, where a zip file has a check of each."""
  arrays = {}
  with files.naming(path, _REMEDY), zipfile.ZipFile(path) as archive:
    for name in names:
      member = archive.getinfo(f'{name}.npy')
      with archive.open(member) as file:
        _check_header(path, name, file, member.file_size)
        file.seek(0)
        arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
        while file.read(2**20):
          pass
  return arrays


def _check_header(
  path: pathlib.Path, name: str, file: IO[bytes], length: int
) -> None:
  """Raises for objects, and for a shape that is not that of the content."""
  version = np.lib.format.read_magic(file)
  header = (
    np.lib.format.read_array_header_1_0
    if version == (1, 0)
    else np.lib.format.read_array_header_2_0
  )
  shape, _, dtype = header(file)
  if dtype.hasobject:
    raise files.DamagedFileError(
      f'{path}: the array {name!r} holds objects of Python, which are never '
      'read: save an array of numbers (images: uint8, labels: integers, '
      'class_names: text).'
    )
  there = length - file.tell()
  if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != there:
    raise ValueError(
      f'the array {name!r} has {there:,} bytes, which are not those of the '
      f'shape {shape} and the type {dtype}'
    )


def _digest(arrays: dict[str, np.ndarray]) -> str:
  """16 hexadecimal digits of all arrays."""
  sha = hashlib.sha256()
  for name, array in sorted(arrays.items()):
    sha.update(f'{name} {array.dtype} {array.shape}'.encode())
    sha.update(np.ascontiguousarray(array).view(np.uint8).data)
  return sha.hexdigest()[:16]

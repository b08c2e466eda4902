"""Images and labels in an .npz file of NumPy, read without unpickling.

The names of its arrays are those of Keras (x_train, y_train, x_test, y_test,
and maybe x_val, y_val), those of MedMNIST (train_images, train_labels, ...), or
images and labels alone, of which test images are held out. `class_names` may
name the classes.
"""

import hashlib
import pathlib
import zipfile

import numpy as np

from rnascl_jax.data.sources import Source
from rnascl_jax.runtime import files, paths, spelling

# Of training, test and validation images, and of their labels.
_NAMES = (
  (('x_train', 'y_train'), ('x_test', 'y_test'), ('x_val', 'y_val')),
  (
    ('train_images', 'train_labels'),
    ('test_images', 'test_labels'),
    ('val_images', 'val_labels'),
  ),
  (('images', 'labels'),),
)


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
  path = paths.local(place, 'the path in config.data.name')
  if not path.is_file():
    kind = 'is a folder' if path.is_dir() else 'does not exist'
    raise FileNotFoundError(
      f'config.data.name={name!r}: {path} {kind}; name a file that np.savez '
      'has written.'
    )
  arrays = _arrays(path)
  known = [
    names for names in _NAMES if all(array in arrays for array in names[0])
  ]
  if len(known) != 1:
    hint = spelling.did_you_mean(
      ' '.join(sorted(arrays)), (' '.join(names[0]) for names in _NAMES)
    )
    ways = '; or '.join(
      ', '.join(array for pair in names for array in pair) for names in _NAMES
    )
    raise ValueError(
      f'{path} has the arrays {", ".join(arrays)}, and must have those of one '
      f'convention.{hint} They are {ways}. Test and validation images may be '
      'missing.'
    )
  parts = []
  for images, labels in known[0]:
    if (images in arrays) != (labels in arrays):
      lacking = labels if images in arrays else images
      raise ValueError(f'{path} lacks the array {lacking!r}: add it.')
    pair = (arrays[images], arrays[labels]) if images in arrays else None
    parts.append(pair)
  train, test, validation = (*parts, None, None)[:3]
  if test is None:
    test, validation = validation, None
  names = tuple(map(str, arrays.get('class_names', np.array([])).tolist()))
  return Source(train, test, validation, names, _digest(arrays))


def _arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
  remedy = 'Save it again with np.savez, or use another copy.'
  with files.naming(path, remedy), zipfile.ZipFile(path) as archive:
    for member in archive.namelist():
      with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        header = (
          np.lib.format.read_array_header_1_0
          if version == (1, 0)
          else np.lib.format.read_array_header_2_0
        )
        _, _, dtype = header(file)
      if dtype.hasobject:
        raise files.DamagedFileError(
          f'{path}: the array {member.removesuffix(".npy")!r} holds objects of '
          'Python, which are never read: save an array of numbers (images: '
          'uint8, labels: integers, class_names: text).'
        )
  return files.read_npz(path, remedy=remedy)


def _digest(arrays: dict[str, np.ndarray]) -> str:
  """16 hexadecimal digits of all arrays."""
  sha = hashlib.sha256()
  for name, array in sorted(arrays.items()):
    sha.update(f'{name} {array.dtype} {array.shape}'.encode())
    sha.update(np.ascontiguousarray(array).view(np.uint8).data)
  return sha.hexdigest()[:16]

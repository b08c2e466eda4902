"""Image folders: one folder for each class.

A folder has either the sub-folders train/ and test/ or val/ (or both), each
with one folder for each class, or these folders themselves. Hidden files are
left out, and so are files whose name is not that of an image.
"""

import hashlib
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tqdm
from absl import logging
from PIL import Image

from rnascl_jax.data import sources
from rnascl_jax.data.sources import Source
from rnascl_jax.data.splits import Split
from rnascl_jax.data.stored_images import StoredImages, not_an_image, pool

# What folders of splits may be called.
_SPLITS = {
  **dict.fromkeys(('train', 'training'), 'train'),
  **dict.fromkeys(('test', 'testing'), 'test'),
  **dict.fromkeys(('val', 'valid', 'validation'), 'validation'),
}
_FORMATS = (
  *('.png', '.jpg', '.jpeg', '.jpe', '.jfif', '.webp', '.bmp', '.gif'),
  *('.tif', '.tiff', '.ppm', '.pgm', '.pbm', '.pnm'),
)
# Modes of Pillow that are grey, and those of 8 bits that become RGB.
_GREY = ('1', 'L', 'LA', 'La')
_COLOUR = ('P', 'PA', 'RGB', 'RGBA', 'RGBa', 'RGBX', 'CMYK', 'YCbCr')
_LAYOUT = (
  'it must have one folder for each class, or train/ and test/ (or val/) with '
  'one folder for each class'
)


# Bytes at either end of a file that tell it from others of its length.
_END = 2**15


class _Image(NamedTuple):
  """What is known of an image file before it is decoded."""

  path: str
  label: int
  size: tuple[int, int] = (0, 0)  # Height and width.
  is_grey: bool = False
  digest: str = ''  # See `_digest`.


class ImageFiles:
  """A source of image files; see `StoredImages`."""

  def __init__(self, image_paths: Sequence[str]):
    self._paths = list(image_paths)

  def __getitems__(self, records: Sequence[int]) -> list[dict[str, Any]]:
    return [self._read(self._paths[record]) for record in records]

  def _read(self, path: str) -> dict[str, Any]:
    try:
      with open(path, 'rb') as file:
        return {'image': file.read(), 'path': path}
    except OSError as error:
      raise not_an_image(path, error) from error


def read(place: str, *, name: str, image_size: int) -> Source:
  """Finds the images of a folder, and reads their sizes.

  Args:
    place: path of the folder.
    name: of the data set, for messages.
    image_size: see `datasets.load`.

  Raises:
    FileNotFoundError: there is no such folder.
    ValueError: it is no image folder; the message says what it lacks.
    DamagedFileError: a file is no image.
  """
  remedy = f'; name a folder: {_LAYOUT}.'
  root = sources.locate(place, name, remedy, is_folder=True)
  split_folders = _splits(root)
  class_names = tuple(_folders(split_folders.get('train', root)))
  if not class_names:
    raise ValueError(f'{root} has no folder of images: {_LAYOUT}.')
  headers = _with_headers(
    {
      split: _images(folder, class_names)
      for split, folder in (split_folders or {'train': root}).items()
    },
    name,
  )
  all_images = [image for part in headers.values() for image in part]
  own = {image.size for image in all_images}
  side = sources.size_of(own.pop() if len(own) == 1 else None, image_size, name)
  channels = 1 if all(image.is_grey for image in all_images) else 3
  parts = {
    split: Split(
      StoredImages(
        ImageFiles([image.path for image in part]),
        np.arange(len(part)),
        side,
        name=f'{name} {split}',
        version=_fingerprint(root, part),
        channels=channels,
      ),
      np.array([image.label for image in part], np.int32),
    )
    for split, part in headers.items()
  }
  if 'test' not in parts and 'validation' in parts:
    parts['test'] = parts.pop('validation')
  return Source(
    **parts,
    class_names=class_names,
    fingerprint=_fingerprint(root, all_images),
  )


def _splits(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """The folders of splits; none where the folders are those of classes."""
  folders = _folders(root)
  splits = {
    _SPLITS[name.lower()]: root / name
    for name in folders
    if name.lower() in _SPLITS
  }
  if len(splits) < len(folders):
    # A class may be called "train"; one alone without folders in it is one.
    train = splits.get('train')
    if train and (len(splits) > 1 or _folders(train)):
      others = [f for f in folders if f.lower() not in _SPLITS] or folders
      raise ValueError(
        f'{root} has the folders {", ".join(folders)}: beside those of splits '
        f'there is {others[0]!r}. Move it elsewhere: {_LAYOUT}.'
      )
    return {}
  if splits and 'train' not in splits:
    raise ValueError(
      f'{root} has the folders {", ".join(folders)}, and none of training '
      f'images: {_LAYOUT}.'
    )
  return splits


def _folders(root: pathlib.Path) -> list[str]:
  """Names of the folders in a folder, sorted, without hidden ones."""
  with os.scandir(root) as entries:
    return sorted(e.name for e in entries if e.is_dir() and not _hidden(e.name))


def _hidden(name: str) -> bool:
  return name.startswith('.') or name == '__MACOSX'


def _images(folder: pathlib.Path, class_names: Sequence[str]) -> list[_Image]:
  """The images of a split by class, each class sorted by path."""
  for name in _folders(folder):
    if name not in class_names:
      raise ValueError(
        f'{folder / name} is of no class of the training images, which are '
        f'{", ".join(class_names[:8])}: remove it, or add training images.'
      )
  images: list[_Image] = []
  ignored: list[str] = []
  for label, name in enumerate(class_names):
    if not (folder / name).is_dir():
      raise ValueError(
        f'{folder} has no folder {name!r}, a class of the training images: '
        'add it with its images, or leave the class out everywhere.'
      )
    there, others = image_files(folder / name)
    if not there:
      raise ValueError(
        f'{folder / name} has no images: add some ({", ".join(_FORMATS[:4])}, '
        '...), or remove the folder.'
      )
    images += [_Image(path, label) for path in there]
    ignored += others
  if ignored:
    logging.warning(
      '%d files whose names are not those of images are left out, such as %s.',
      *(len(ignored), ignored[0]),
    )
  return images


def image_files(folder: pathlib.Path) -> tuple[list[str], list[str]]:
  """Paths of the images in a folder, and those of other files, each sorted."""
  images: list[str] = []
  others: list[str] = []
  for parent, inner, files in os.walk(folder, onerror=_raise):
    inner[:] = sorted(n for n in inner if not _hidden(n))
    for file in sorted(f for f in files if not _hidden(f)):
      of_kind = images if file.lower().endswith(_FORMATS) else others
      of_kind.append(os.path.join(parent, file))
  return images, others


def _raise(error: OSError) -> None:
  raise error


def _with_headers(
  splits: Mapping[str, list[_Image]], name: str
) -> dict[str, list[_Image]]:
  """Reads the headers of all files, and what tells them from others."""
  number = sum(map(len, splits.values()))
  with tqdm.tqdm(
    total=number, desc=f'{name}: sizes', delay=2, disable=None
  ) as bar:

    def headed(image: _Image) -> _Image:
      try:
        with open(image.path, 'rb') as file:
          digest = _digest(file)
          with Image.open(file) as opened:
            size, mode = opened.size[::-1], opened.mode
            if _is_wide(opened):
              mode = f'{mode} of 16 bits'
      except MemoryError:
        raise
      # Pillow raises OSError, SyntaxError, struct.error and more.
      except Exception as error:
        raise not_an_image(image.path, error) from error
      if mode not in _GREY + _COLOUR:
        raise not_an_image(
          image.path,
          ValueError(f'its pixels are of the kind {mode}, not of 8 bits'),
        )
      bar.update()
      return image._replace(size=size, is_grey=mode in _GREY, digest=digest)

    return {
      split: list(pool().map(headed, images))
      for split, images in splits.items()
    }


def _is_wide(image: Any) -> bool:
  """Whether an opened image has more than 8 bits a channel in its file.

  Pillow would drop the lower ones of colours.
  """
  for codec, _, _, arguments in image.tile:
    if codec in ('ppm', 'ppm_plain') and arguments[1] > 255:
      return True
    if re.search(';16[BLN]', str(arguments)):
      return True
  return False


def _digest(file: BinaryIO) -> str:
  """A hash of the length of a file and of its first and last `_END` bytes.

  A change of an image that is packed changes its end, nearly always. The file
  is at its beginning before and after.
  """
  length = file.seek(0, os.SEEK_END)
  file.seek(0)
  sha = hashlib.sha256(f'{length} '.encode() + file.read(_END))
  file.seek(max(length - _END, _END))
  sha.update(file.read(_END))
  file.seek(0)
  return sha.hexdigest()


def _fingerprint(root: pathlib.Path, images: Sequence[_Image]) -> str:
  """16 hexadecimal digits of names, labels and contents of the files."""
  sha = hashlib.sha256()
  for image in images:
    path = os.path.relpath(image.path, root)
    sha.update(os.fsencode(f'{path}\0{image.label}\0{image.digest}\0'))
  return sha.hexdigest()[:16]

"""Adversarial images: in files, and confirmed by what is in the file.

An attack's own verdict depends on the precision it computed in and on images
that no one has seen. So the images it claims are saved and read again from the
file. An image counts if it is in the ball and in [0, 1] and is misclassified in
full float32.

Example:
  >>> import os, tempfile
  >>> import numpy as np
  >>> from rnascl_jax.evaluation import adversarial_images
  >>> originals = np.zeros((3, 1, 1, 2), np.float32)
  >>> labels = np.zeros(3, int)
  >>> path = os.path.join(tempfile.mkdtemp(), 'pgd20.npz')
  >>> images = np.array([[.0, .1], [.0, .2]], np.float32).reshape(2, 1, 1, 2)
  >>> adversarial_images.save(path, adversarial_images.AdversarialImages(
  ...   rows=np.array([0, 2]), images=images, labels=labels[[0, 2]],
  ...   epsilon=.1, norm='L∞'))
  >>> adversarial_images.confirmed(
  ...   adversarial_images.load(path), originals[[0, 2]], labels[[0, 2]],
  ...   lambda images: images.reshape(-1, 2)).tolist()
  [True, False]
"""

import pathlib
import shutil
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rnascl_jax.attacks import norms, prediction
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.data.datasets import Split
from rnascl_jax.evaluation import classification
from rnascl_jax.runtime import files, paths, processes


class AdversarialImages(NamedTuple):
  """Adversarial images; arrays of the file have the names of the attributes.

  Attributes:
    rows: [n] integers, positions in the split.
    images: [n, H, W, C], float32.
    labels: [n] integers, the right classes.
    epsilon: radius of the ball.
    norm: name of the ball's norm, such as 'L∞'.
  """

  rows: np.ndarray
  images: np.ndarray
  labels: np.ndarray
  epsilon: float
  norm: str

  def only(self, kept: np.ndarray) -> 'AdversarialImages':
    """Keeps the images where `kept`, [n] bool, is true."""
    return self._replace(
      rows=self.rows[kept],
      images=self.images[kept],
      labels=self.labels[kept],
    )


def save(path: files.Path, adversarial: AdversarialImages) -> None:
  """Writes images as a compressed .npz file, atomically.

  Raises:
    ValueError: if the images are not float32.
  """
  if adversarial.images.dtype != np.float32:
    raise ValueError(
      f'images are {adversarial.images.dtype}, must be float32: what is '
      'checked is what is saved.'
    )
  files.write_npz(path, adversarial._asdict())


def load(path: files.Path) -> AdversarialImages:
  """Reads what `save` wrote.

  Raises:
    FileNotFoundError: there is no such file.
    DamagedFileError: the file is not what was saved; the message names it.
  """
  path = paths.local(path)
  saved = files.read_npz(path, *AdversarialImages._fields)
  with files.naming(path):
    return AdversarialImages(
      rows=saved['rows'],
      images=saved['images'],
      labels=saved['labels'],
      epsilon=float(saved['epsilon']),
      norm=str(saved['norm']),
    )


def replace(folder: files.Path, new: files.Path) -> None:
  """Puts a folder of images in the place of another one.

  Args:
    folder: the place; what is there is deleted.
    new: the folder to be moved, on the same disk. If it is missing or empty,
      nothing is at the place afterwards.
  """
  folder, new = pathlib.Path(folder), pathlib.Path(new)
  old = new.with_name(f'{new.name}.old')
  shutil.rmtree(old, ignore_errors=True)
  files.make_folder(old.parent)
  # Renamed, not deleted file by file: a kill leaves all of them or none.
  if folder.exists():
    folder.rename(old)
  if new.exists() and any(new.iterdir()):
    files.make_folder(folder.parent)
    new.rename(folder)
  shutil.rmtree(old, ignore_errors=True)


def confirmed(
  adversarial: AdversarialImages,
  originals: np.ndarray,
  labels: np.ndarray,
  classify: Callable[[np.ndarray], np.ndarray],
  *,
  norm: Norm = norms.LINF,
) -> np.ndarray:
  """Says which images are adversarial.

  Args:
    adversarial: the images, as loaded from a file.
    originals: [n, H, W, C], float32 in [0, 1], the images they were made of.
    labels: [n], the labels of the originals.
    classify: images [n, H, W, C] -> logits [n, K], in full float32.
    norm: of the ball that the images must be in.

  Returns:
    [n] bool: the image is in the ball around its original and in [0, 1], and
    misclassified.

  Raises:
    ValueError: if the images are of another split or norm.
  """
  if adversarial.norm != norm.name or (labels != adversarial.labels).any():
    raise ValueError(
      f'the images were made for the norm {adversarial.norm} and other labels '
      f'than these of {norm.name}.'
    )
  if not len(labels):
    return np.zeros(0, bool)
  images, epsilon = adversarial.images, adversarial.epsilon
  near = prediction.in_ball(images, originals, epsilon=epsilon, norm=norm)
  return near & prediction.fooled(classify(images), labels)


def confirm(
  rows: np.ndarray,
  images: np.ndarray,
  split: Split,
  classify: Callable[[np.ndarray], np.ndarray],
  *,
  norm: Norm,
  epsilon: float,
  file: pathlib.Path | None = None,
) -> AdversarialImages:
  """Keeps of the images that an attack claims the confirmed ones.

  Args:
    rows: [n], positions of the images in the split.
    images: [n, H, W, C], float32, what the attack calls adversarial.
    split: the images that were attacked.
    classify: as in `confirmed`; all processes call it.
    norm: the ball's.
    epsilon: its radius.
    file: where the images are saved and read again before they are checked; in
      the end it holds the confirmed ones. Without a file nothing is saved.
  """
  claimed = AdversarialImages(
    rows, images, split.labels[rows], epsilon, norm.name
  )
  if file is not None:
    processes.on_main(save, file, claimed)
    claimed = processes.together(load, file)
  originals = classification.as_floats(split.images[claimed.rows])
  labels = split.labels[claimed.rows]
  kept = confirmed(claimed, originals, labels, classify, norm=norm)
  if file is not None and not kept.all():
    processes.on_main(save, file, claimed.only(kept))
  return claimed.only(kept)

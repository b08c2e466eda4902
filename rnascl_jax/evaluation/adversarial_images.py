"""Adversarial images in files, and whether they are what they claim to be.

An attack's own verdict depends on the precision it computed in and on images
that no one has seen. So what it broke is saved, read again from the file, and
counts if the image there is in the ball and in [0, 1] and is misclassified in
full float32.

Example:
  >>> import os, tempfile
  >>> import numpy as np
  >>> from rnascl_jax.evaluation import adversarial_images
  >>> from rnascl_jax.attacks import norms
  >>> originals = np.zeros((3, 1, 1, 2), np.float32)
  >>> labels = np.zeros(3, int)
  >>> path = os.path.join(tempfile.mkdtemp(), 'pgd20.npz')
  >>> images = np.array([[.0, .1], [.0, .2]], np.float32).reshape(2, 1, 1, 2)
  >>> adversarial_images.save(path, adversarial_images.Adversarial(
  ...   rows=np.array([0, 2]), images=images, labels=labels[[0, 2]],
  ...   epsilon=.1, norm='L∞'))
  >>> adversarial_images.confirmed(
  ...   adversarial_images.load(path), originals, labels,
  ...   lambda images: images.reshape(-1, 2), norms.LINF).tolist()
  [True, False]
"""

import pathlib
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rnascl_jax.attacks import prediction
from rnascl_jax.attacks.norms import Norm
from rnascl_jax.runtime import files, paths


class Adversarial(NamedTuple):
  """Images that an attack broke; the names in the file are those here.

  Attributes:
    rows: [n] integers, positions in the split.
    images: [n, H, W, C], float32.
    labels: [n] integers, the right classes.
    epsilon: radius.
    norm: its name, such as 'L∞'.
  """

  rows: np.ndarray
  images: np.ndarray
  labels: np.ndarray
  epsilon: float
  norm: str

  def only(self, kept: np.ndarray) -> 'Adversarial':
    """Of these images alone; kept is [n] bool."""
    return self._replace(
      rows=self.rows[kept],
      images=self.images[kept],
      labels=self.labels[kept],
    )


def save(path: files.Path, adversarial: Adversarial) -> None:
  """Writes images as a compressed .npz file, atomically.

  Raises:
    ValueError: if they are not float32.
  """
  if adversarial.images.dtype != np.float32:
    raise ValueError(
      f'images are {adversarial.images.dtype}, must be float32: what is '
      'checked is what is saved.'
    )
  with files.replacing(path) as file:
    np.savez_compressed(file, **adversarial._asdict())


def load(path: files.Path) -> Adversarial:
  """Reads what `save` wrote.

  Raises:
    FileNotFoundError: there is no such file.
    DamagedFileError: it is not what was saved; the message names it.
  """
  path = paths.local(path)
  saved = files.read_npz(path, *Adversarial._fields)
  with files.naming(path):
    return Adversarial(
      rows=saved['rows'],
      images=saved['images'],
      labels=saved['labels'],
      epsilon=float(saved['epsilon']),
      norm=str(saved['norm']),
    )


def replace(folder: files.Path, by: files.Path) -> None:
  """Puts a folder of images in the place of another one.

  Args:
    folder: the other one, deleted; or none.
    by: the folder, on the same disk; or none, or without files: then there is
      none afterwards.
  """
  folder, by = pathlib.Path(folder), pathlib.Path(by)
  old = by.with_name(f'{by.name}.old')
  shutil.rmtree(old, ignore_errors=True)
  files.make_folder(old.parent)
  # Renamed, not deleted file by file: a kill leaves all of them or none.
  if folder.exists():
    folder.rename(old)
  if by.exists() and any(by.iterdir()):
    files.make_folder(folder.parent)
    by.rename(folder)
  shutil.rmtree(old, ignore_errors=True)


def confirmed(
  adversarial: Adversarial,
  originals: Any,
  labels: np.ndarray,
  classify: Callable[[np.ndarray], np.ndarray],
  norm: Norm,
) -> np.ndarray:
  """Which adversarial images are such.

  Args:
    adversarial: as loaded from a file.
    originals: [N, H, W, C], all images of the split, or what gives those of
      some rows when it is indexed by them.
    labels: [N], theirs.
    classify: images [n, H, W, C] -> logits [n, K], in full float32.
    norm: of the ball.

  Returns:
    [n] bool: the image is in the ball around the original of its row and in
    [0, 1], and misclassified.

  Raises:
    ValueError: if the images are of another split or norm.
  """
  rows, images = adversarial.rows, adversarial.images
  if (
    adversarial.norm != norm.name or (labels[rows] != adversarial.labels).any()
  ):
    raise ValueError(
      f'the images were made for the norm {adversarial.norm} and other labels '
      f'than these of {norm.name}.'
    )
  if not len(rows):
    return np.zeros(0, bool)
  near = prediction.in_ball(
    images, originals[rows], epsilon=adversarial.epsilon, norm=norm
  )
  return near & prediction.fooled(classify(images), labels[rows])

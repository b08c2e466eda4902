"""Further training images, such as generated ones, beside those of a data set.

They fill a share of each training batch, see `batches.order_with_extra`, and
are never validated or tested on, nor in the mean and the deviation of pixels.
Their labels, which may be predictions of a classifier, are of the data set's
classes.

References:
  Rebuffi et al., Fixing data augmentation to improve adversarial robustness,
  2021, and Gowal et al., Improving robustness using generated data, NeurIPS
  2021, for images of generative models.
  Carmon et al., Unlabeled data improves adversarial robustness, NeurIPS 2019,
  for predicted labels.
"""

import dataclasses
import os

import numpy as np

from rnascl_jax.data import assembly, datasets, sources
from rnascl_jax.data.splits import Dataset, Split
from rnascl_jax.data.stored_images import StoredImages
from rnascl_jax.runtime import fingerprints


def add(
  data: Dataset,
  name: str,
  *,
  data_dir: str | os.PathLike[str] | None = None,
  memory_limit: int = 2**31,
) -> Dataset:
  """A data set with the images of a source beside its training images.

  Args:
    data: the data set, whose training images are in memory.
    name: of the source, as of `datasets.load`, with a place. Of a source with
      splits the training images are taken. Where it names its classes, labels
      are found by these names; else they are those of the data set.
    data_dir: where TFDS keeps its data.
    memory_limit: bytes that the extra images may take, decoded.

  Raises:
    ValueError: the images do not fit to those of the data set, are too many, or
      the name is unknown.
    FileNotFoundError: the images are not there.
    DamagedFileError: a file is damaged.
  """
  where = f'config.data.extra={name!r}'
  if isinstance(data.train.images, StoredImages):
    raise ValueError(
      f'{where} needs training images in memory, and those of {data.name} are '
      'streamed: raise config.data.memory_limit and set min_crop=0, or leave '
      'the extra images out.'
    )
  height, width, _ = data.image_shape
  source = datasets.read(
    name,
    field='extra',
    data_dir=data_dir,
    image_size=height if height == width else 0,
  )
  split = sources.checked(source.train, f'{where}: the images')
  _check(split, data, memory_limit, where)
  images = assembly.placed(split, memory_limit).images
  labels = _labels(split.labels, source.class_names, data, where)
  parts = [data.fingerprint, source.fingerprint or fingerprints.digest(images)]
  return dataclasses.replace(
    data,
    extra=Split(images, labels),
    fingerprint=fingerprints.short([*parts, fingerprints.digest(labels)]),
  )


def _check(split: Split, data: Dataset, memory_limit: int, where: str) -> None:
  """Raises unless images have the data set's shape and fit into memory."""
  if split.images.shape[1:] != data.image_shape:
    raise ValueError(
      f'{where}: the images have the shape {split.images.shape[1:]}, and must '
      f'have that of {data.name}, {data.image_shape}: save them in '
      'this size, with as many channels.'
    )
  if split.images.nbytes > memory_limit:
    raise ValueError(
      f'{where}: {len(split.labels):,} images take '
      f'{split.images.nbytes / 2**20:,.0f} MiB of every device, more than '
      f'config.data.memory_limit={memory_limit // 2**20}: raise it, or take '
      'fewer images.'
    )


def _labels(
  labels: np.ndarray, names: tuple[str, ...], data: Dataset, where: str
) -> np.ndarray:
  """Labels of the data set's classes, [N] int32."""
  classes = data.class_names
  unknown = [name for name in names if name not in classes]
  if unknown:
    raise ValueError(
      f'{where}: class {unknown[0]!r} is none of the {len(classes)} classes of '
      f'{data.name}, such as {classes[0]!r}: call it as there, or leave its '
      'images out.'
    )
  count = len(names) or len(classes)
  if labels.min() < 0 or labels.max() >= count:
    raise ValueError(
      f'{where}: the labels are from {labels.min()} to {labels.max()}, and '
      f'must be from 0 to {count - 1}, for {count} classes.'
    )
  if not names:
    return labels
  found = np.array([classes.index(name) for name in names], np.int32)
  return found[labels]

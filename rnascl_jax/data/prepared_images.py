"""Classification data sets that TensorFlow Datasets has prepared.

Their examples have an image and a label. Images of one size are taken as they
are, others are cut and resized.
"""

import itertools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from rnascl_jax.data import labels, prepared, sources
from rnascl_jax.data.sources import Source
from rnascl_jax.data.splits import Split
from rnascl_jax.data.stored_images import StoredImages
from rnascl_jax.runtime import fingerprints, spelling


def read(
  place: str,
  *,
  name: str,
  data_dir: str | os.PathLike[str] | None,
  image_size: int,
  train_split: str,
  test_split: str,
) -> Source:
  """Finds the splits of a prepared data set, and reads their labels.

  Args:
    place: the data set, as TFDS knows it: name, name/config or name:version.
    name: of the data set, for messages.
    data_dir: see `datasets.load`, as are the others.
    image_size: side to which images are resized; 0 for their own.
    train_split: splits to train on; empty for 'train'.
    test_split: splits to test on; empty for 'test', else 'validation', else
      images that are held out.

  Raises:
    FileNotFoundError: the data are not prepared; the message says how to.
    DamagedFileError: a file is damaged.
    ValueError: it is no classification data set, or has no such split.
  """
  if not place:
    raise ValueError(
      f'config.data.name={name!r} names no data set: write '
      "'tfds:svhn_cropped', for instance."
    )
  info = prepared.info(place, data_dir)
  known = info.splits
  if not test_split:
    test_split = next((s for s in ('test', 'validation') if s in known), '')
  used = {'train': train_split or 'train', 'test': test_split}
  if 'validation' in known and 'validation' not in test_split:
    used['validation'] = 'validation'
  for part, split in used.items():
    _check_split(split, known, f'config.data.{part}_split={split!r}', name)
  encoded, own, channels = _image(info.features, name)
  options: dict[str, Any] = {}
  if encoded:
    import tensorflow_datasets as tfds

    options['decoders'] = {'image': tfds.decode.SkipDecoding()}
  splits = {
    part: prepared.source(place, split, data_dir, **options)
    for part, split in used.items()
    if split
  }
  for part, records in splits.items():
    if _twice(records):
      raise ValueError(
        f'config.data.{part}_split={used[part]!r} has some images twice: name '
        'parts that do not overlap.'
      )
  if 'validation' in splits and _twice(splits['train'], splits['validation']):
    del splits['validation']  # Trained on, as the config says.
  if 'test' in splits and _twice(splits['train'], splits['test']):
    raise ValueError(
      f'config.data.train_split={used["train"]!r} and config.data.test_split='
      f'{test_split!r} have images in common: choose other splits of '
      f'{", ".join(known)}, such as train[:80%] and train[80%:].'
    )
  side = sources.size_of(own, image_size, name)
  versions = {part: prepared.fingerprint(s) for part, s in splits.items()}
  parts = {
    part: Split(
      StoredImages(
        source,
        np.arange(len(source)),
        side,
        name=f'{source.dataset_info.full_name} {source.split}',
        version=versions[part],
        channels=channels,
      ),
      labels.read(source, lambda read: False),
    )
    for part, source in splits.items()
  }
  return Source(
    **parts,
    class_names=tuple(info.features['label'].names),
    fingerprint=fingerprints.short(versions),
  )


def _check_split(
  split: str, known: Mapping[str, Any], where: str, name: str
) -> None:
  """Raises for a split that there is not; 'train[:10%]+extra' is of two."""
  for part in split.split('+') if split else ():
    word = part.partition('[')[0].strip()
    if word not in known:
      raise ValueError(
        f'{where}: {name} has no split {word!r}.'
        f'{spelling.did_you_mean(word, known)} It has {", ".join(known)}.'
      )


def _image(
  features: Any, name: str
) -> tuple[bool, tuple[int, int] | None, int]:
  """Whether images are encoded, their size if it is one, and channels."""
  import tensorflow_datasets as tfds

  known = dict(features.items())
  image: Any = known.get('image')
  label = known.get('label')
  encoded = isinstance(image, tfds.features.Image)
  if (
    not isinstance(label, tfds.features.ClassLabel)
    or not (encoded or isinstance(image, tfds.features.Tensor))
    or len(image.shape) != 3
    or image.np_dtype != np.uint8
  ):
    raise ValueError(
      f'{name} is no data set of images of 8 bits with labels of classes: its '
      f'examples have {", ".join(sorted(known))}, and must have '
      "'image' and 'label'."
    )
  height, width, channels = image.shape
  own = None if height is None or width is None else (height, width)
  return encoded, own, 1 if channels == 1 else 3


def _twice(*splits: prepared.PreparedSplit) -> bool:
  """Whether splits have a record twice, one of them or two together."""
  ranges = sorted(
    (path, start, stop)
    for split in splits
    for path, start, stop in prepared.ranges(split)
    if start < stop
  )
  return any(
    path == next_path and begin < stop
    for (path, _, stop), (next_path, begin, _) in itertools.pairwise(ranges)
  )

"""What a set of corrupted test images is, and which of its images are used."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from rnascl_jax.data import batches
from rnascl_jax.data.splits import Split

LAYOUTS = (
  'it must have files such as fog.npy and labels.npy (CIFAR-10-C), or folders '
  'such as fog/1/n01440764 (ImageNet-C)'
)
REMEDY = 'Download it again, or use another copy.'


class CorruptedSet(NamedTuple):
  """Test images under corruptions.

  Attributes:
    name: 'made', or the name of the folder that was read; behind it the number
      of images, where it was asked for.
    images: how many there are of a corruption and severity.
    available: the corruptions that there are.
    identity: JSON that tells the images from those of other sets.
    check: corruption, severity -> None; raises if they cannot be loaded, as far
      as that is known without reading the images.
    load: corruption, severity -> images and labels, as the run's classes are.
  """

  name: str
  images: int
  available: tuple[str, ...]
  identity: dict[str, Any]
  check: Callable[[str, int], Any]
  load: Callable[[str, int], Split]


def of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
  """Which images are used, ascending: so many, and of each class its share."""
  if not count or count >= len(labels):
    return np.arange(len(labels))
  return np.flatnonzero(batches.stratified_holdout(labels, count))

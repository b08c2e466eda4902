"""The handwritten digits that come with scikit-learn."""

import os

import numpy as np

from rnascl_jax.data import batches, splits


def load(
  data_dir: str | os.PathLike[str] | None = None,
  validation_size: int | None = None,
  limit: splits.Limit | None = None,
) -> splits.Dataset:
  """The 1797 handwritten 8x8 digits of scikit-learn, see `datasets.load`.

  517 images are for testing, 1280 for training and validation.

  Reference:
    Alpaydin and Kaynak, Optical recognition of handwritten digits, UCI Machine
    Learning Repository, 1998.
  """
  del data_dir  # The images are part of scikit-learn.
  from sklearn import datasets as sklearn_datasets

  digits = sklearn_datasets.load_digits()
  images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
  labels = digits.target.astype(np.int32)
  in_test = batches.stratified_holdout(labels, 517)
  return splits.assemble(
    splits.Split(images[~in_test], labels[~in_test]),
    splits.Split(images[in_test], labels[in_test]),
    validation_size=128 if validation_size is None else validation_size,
    limit=limit,
    name='digits',
    class_names=tuple(str(name) for name in digits.target_names),
    mean=(0.3052,),
    std=(0.3756,),
  )

"""Images of other classes, drawn at random on the device.

Training images are sorted by class once, so that those of a class are a range
of a table and those of all others the rest of it: a draw is one random integer
that skips the range.

Example:
  >>> import jax, jax.numpy as jnp, numpy as np
  >>> from rnascl_jax.losses import negatives
  >>> table = negatives.by_class(np.array([1, 0, 1, 2]))
  >>> keys = jax.random.split(jax.random.key(0), 2)
  >>> drawn = negatives.draw(keys, jnp.array([1, 0]), table, count=50)
  >>> [sorted(set(row.tolist())) for row in drawn]
  [[1, 3], [0, 2, 3]]
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.base import Array, Key


class ByClass(NamedTuple):
  """Training images by class; all int32.

  Attributes:
    order: [N], their indices, sorted by class.
    starts: [K], where each class begins in `order`.
    counts: [K], images of each class.
  """

  order: Array
  starts: Array
  counts: Array


def by_class(labels: np.ndarray) -> ByClass:
  """The table of a training split.

  Args:
    labels: [N] integers, not negative.

  Raises:
    ValueError: they are all the same, or one is negative.
  """
  labels = np.asarray(labels)
  if labels.size and labels.min() < 0:
    raise ValueError(f'label={labels.min()} must not be negative.')
  if len(np.unique(labels)) < 2:
    raise ValueError(
      f'the labels are all of {np.unique(labels).tolist()}; negatives are '
      'images of other classes, so there must be at least 2 classes.'
    )
  counts = np.bincount(labels)
  return ByClass(
    *(
      jnp.asarray(x, jnp.int32)
      for x in (
        np.argsort(labels, kind='stable'),
        np.cumsum(counts) - counts,
        counts,
      )
    )
  )


def draw(keys: Key, labels: Array, table: ByClass, *, count: int) -> Array:
  """Images of other classes, uniform and with replacement.

  Args:
    keys: [B], of each image.
    labels: [B], its class.
    table: of the training split.
    count: images to draw for each.

  Returns:
    [B, count] int32, indices in the training split.
  """
  chex.assert_equal_shape([keys, labels])

  def of_one(key: Key, label: Array) -> Array:
    start, size = table.starts[label], table.counts[label]
    places = jax.random.randint(key, (count,), 0, len(table.order) - size)
    return table.order[places + jnp.where(places < start, 0, size)]

  return jax.vmap(of_one)(keys, labels)

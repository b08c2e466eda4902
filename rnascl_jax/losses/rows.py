"""Rows of a batch: their lengths, and those of all devices.

Losses over pairs of examples compare every row of this device with every row of
the global batch, so that N devices on a batch give what one device gives on it.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.losses import rows
  >>> print(rows.normalize(jnp.array([[3., 4.], [0., 0.]])))
  [[0.6 0.8]
   [0.  0. ]]
"""

import jax.numpy as jnp
from jax import lax

from rnascl_jax.base import Array

# A row of a smaller squared norm counts as zero. Float32 holds such squares.
_ZERO = 1e-30


def widen(x: Array) -> Array:
  """At least float32: sums over rows and squares need more than bfloat16."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def flatten(x: Array) -> Array:
  """One row for each image, [B, ...] to [B, D], at least float32."""
  return widen(x).reshape(x.shape[0], -1)


def lengths(x: Array) -> Array:
  """Euclidean norms over the last axis, with gradient 0 at rows of zeros.

  Args:
    x: [..., D].

  Returns:
    [...], exactly 0 for rows of zeros.
  """
  squares = jnp.sum(jnp.square(x), axis=-1)
  # The root's argument is replaced before the root is taken: its gradient at
  # zero is infinite, and times zero gives NaN.
  positive = squares > _ZERO
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)


def normalize(x: Array) -> Array:
  """Rows of length 1; rows of zeros stay zeros, with gradient 0.

  Args:
    x: [..., D].

  Returns:
    [..., D].
  """
  norms = lengths(x)[..., None]
  positive = norms > 0
  return jnp.where(positive, x / jnp.where(positive, norms, 1.0), 0.0)


def products(x: Array, y: Array) -> Array:
  """Inner products of all rows of x [b, D] with all of y [B, D], [b, B].

  In the highest precision: TF32 or bfloat16 would leave three digits.
  """
  return jnp.matmul(x, y.T, precision=lax.Precision.HIGHEST)


def gather(x: Array, axis_name: str | None) -> Array:
  """The rows of all devices in order; without a mapped axis, the rows given.

  The gradient of what other devices make of this device's rows comes back to
  it, so parameters get the gradient of the global mean as the mean over devices
  of their gradients.

  Args:
    x: [b, ...], this device's.
    axis_name: mapped axis, if any.

  Returns:
    [B, ...], of the global batch.
  """
  if axis_name is None:
    return x
  return lax.all_gather(x, axis_name, tiled=True)

"""Batches in parts, one after another: the memory of a part, not of a batch.

The gradient is the mean over the parts. Part j holds the images whose position
in the batch is j modulo the number of parts, so that N devices, each with a
contiguous share of the batch, have together the same parts as one device with
all of it; shares are multiples of the number of parts (`checks.check`).

What sees several images at once sees those of a part: BatchNorm normalises by
the statistics of the part, on all devices together, and moves its running
statistics once a part; a mean over confident images alone is one over those of
the part, and losses over pairs of images (SP, RKD, PKT) pair those of the part.
That is what accumulation means everywhere, and why it is not quite the step on
the whole batch; without such layers and losses it is.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.training import accumulation
  >>> print(accumulation.divide(jnp.arange(6), 2))
  [[0 2 4]
   [1 3 5]]
  >>> print(accumulation.join(accumulation.divide(jnp.arange(6), 2)))
  [0 1 2 3 4 5]
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnascl_jax.attacks import unrolling
from rnascl_jax.base import PyTree

# (carry, arrays of a part) -> (carry, results of its images).
Function = Callable[[Any, PyTree], tuple[Any, PyTree]]
# (carry, arrays of a part) -> (gradient, carry, results of its images).
Gradient = Callable[[Any, PyTree], tuple[PyTree, Any, PyTree]]


def divide(arrays: PyTree, parts: int) -> PyTree:
  """Deals the images out to parts: [B, ...] -> [parts, B / parts, ...].

  Args:
    arrays: any pytree, leaves [B, ...] with B a multiple of `parts`.
    parts: how many.
  """

  def deal(x):
    size = len(x) // parts
    return jnp.swapaxes(x.reshape(size, parts, *x.shape[1:]), 0, 1)

  return jax.tree.map(deal, arrays)


def join(arrays: PyTree) -> PyTree:
  """Puts parts together in the images' order, the inverse of `divide`."""

  def collect(x):
    parts, size = x.shape[:2]
    return jnp.swapaxes(x, 0, 1).reshape(parts * size, *x.shape[2:])

  return jax.tree.map(collect, arrays)


def run(
  function: Function, carry: Any, arrays: PyTree, parts: int
) -> tuple[Any, PyTree]:
  """Runs a function on each part of a batch, in a loop.

  Args:
    function: see `Function`; results have the leading axis of the part.
    carry: what the first part starts from.
    arrays: leaves [B, ...].
    parts: how many; with one the function is simply called.

  Returns:
    The last carry, and the results of all images [B, ...] in their order.
  """
  if parts == 1:
    return function(carry, arrays)
  divided = divide(arrays, parts)
  first = jax.tree.map(lambda x: x[0], divided)
  unroll = unrolling.choose(function, carry, first, length=parts)
  carry, results = lax.scan(function, carry, divided, unroll=unroll)
  return carry, join(results)


def mean_gradient(function: Gradient, params: PyTree, parts: int) -> Gradient:
  """Makes a gradient of a batch one of its parts; only their sum is kept.

  Args:
    function: see `Gradient`.
    params: what the gradient is by, for its shape.
    parts: how many; with one the function itself is returned.

  Returns:
    A function of the same kind, of all images [B, ...]. The carry goes from
    part to part, such as running statistics.
  """
  if parts == 1:
    return function

  def in_parts(carry: Any, arrays: PyTree) -> tuple[PyTree, Any, PyTree]:
    def add(so_far, arrays):
      total, carry = so_far
      gradient, carry, results = function(carry, arrays)
      return (jax.tree.map(jnp.add, total, gradient), carry), results

    start = jax.tree.map(jnp.zeros_like, params), carry
    (total, carry), results = run(add, start, arrays, parts)
    return jax.tree.map(lambda x: x / parts, total), carry, results

  return in_parts

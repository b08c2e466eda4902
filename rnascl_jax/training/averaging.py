"""Averages of a network's weights over the steps of its training.

  exponential   a <- d a + (1 - d) w,   d = min(decay, (1 + t) / (10 + t))
  equal         a <- a + (w - a) / (n + 1)   at the end of each period

after t steps, or n weights that were averaged before, with the weights w after
the step. d rises, so that the average is not that of the first weights. Until
the first weights that count the equal average is the weights themselves.
BatchNorm's running statistics are averaged with the weights; those of an equal
average are to be computed anew, see `statistics`.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.training import averaging
  >>> one, zero = jnp.ones(()), jnp.zeros(())
  >>> averaging.exponential(one, zero, decay=0.9, step=0).round(3)
  Array(0.1, dtype=float32)
  >>> averaging.equal(one, zero, first=4, every=2, step=5)
  Array(0.5, dtype=float32)

References:
  Gowal et al., Uncovering the limits of adversarial training against
  norm-bounded adversarial examples, 2020, and their code, for the former.
  Izmailov et al., Averaging weights leads to wider optima and better
  generalization, UAI 2018, for the latter.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rnascl_jax.base import Array, PyTree

# (average, variables, step=t) -> the average after the step.
Average = Callable[..., PyTree]


def exponential(
  average: PyTree, variables: PyTree, *, decay: float, step: Array | int
) -> PyTree:
  """Moves the average towards the variables.

  Args:
    average: before.
    variables: after the step, of the same form.
    decay: the greatest d, in (0, 1); Gowal et al. have 0.995.
    step: t, steps done before this one.

  Returns:
    The average after the step.
  """
  done = jnp.asarray(step, jnp.float32)
  share = 1.0 - jnp.minimum(decay, (1.0 + done) / (10.0 + done))

  def move(mean: Array, value: Array) -> Array:
    return mean + share.astype(mean.dtype) * (value - mean)

  return jax.tree.map(move, average, variables)


def equal(
  average: PyTree,
  variables: PyTree,
  *,
  first: int,
  every: int,
  step: Array | int,
) -> PyTree:
  """Takes the variables into the average, with the share of all before them.

  Args:
    average: before.
    variables: after the step, of the same form.
    first: steps after which variables count for the first time, at least 1.
    every: steps from there to the next that count, at least 1.
    step: t, steps done before this one.

  Returns:
    The average after the step; the variables themselves up to `first`.
  """
  since = jnp.asarray(step, jnp.int32) + 1 - first
  counts = since % every == 0
  number = since // every + 1

  def move(mean: Array, value: Array) -> Array:
    moved = mean + (value - mean) / jnp.maximum(number, 1).astype(mean.dtype)
    return jnp.where(since <= 0, value, jnp.where(counts, moved, mean))

  return jax.tree.map(move, average, variables)

"""The exponential moving average of a network's weights.

  a <- d a + (1 - d) w,   d = min(decay, (1 + t) / (10 + t))

after t steps, with the weights w after the step; d rises, so that the average
is not that of the first weights. BatchNorm's running statistics are averaged
with the weights.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.training import averaging
  >>> one, zero = jnp.ones(()), jnp.zeros(())
  >>> averaging.update(one, zero, 0.9, step=0).round(3)
  Array(0.1, dtype=float32)

Reference:
  Gowal et al., Uncovering the limits of adversarial training against
  norm-bounded adversarial examples, 2020, and their code.
"""

import jax
import jax.numpy as jnp

from rnascl_jax.base import Array, PyTree


def update(
  average: PyTree, variables: PyTree, decay: float, *, step: Array | int
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

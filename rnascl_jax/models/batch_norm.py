"""BatchNorm as one multiplication and one addition of the map.

`flax.linen.BatchNorm` subtracts the mean before it scales, and XLA keeps the
difference for the gradient: on a CPU, where maps do not fit into caches, that
is one more pass over each map forward and one backward. Here

  y = a x + (bias - a mean),  a = scale / sqrt(variance + epsilon),

as in PyTorch's kernel for CPUs. Parameters, statistics and their names are
those of Flax.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from rnascl_jax.models.batch_norm import BatchNorm
  >>> x = jnp.array([[1.], [3.]])
  >>> norm = BatchNorm(use_running_average=False)
  >>> y, _ = norm.init_with_output(jax.random.key(0), x)
  >>> print(y[:, 0].round(3))
  [-1.  1.]

Reference:
  Ioffe and Szegedy, Batch Normalization, ICML 2015.
"""

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype
from jax import lax

from rnascl_jax.base import Array

# Share of the running statistics that an update keeps, in all networks.
MOMENTUM = 0.9


class BatchNorm(nn.Module):
  """Normalises each channel by the statistics of a batch, or running ones.

  Attributes:
    use_running_average: whether the running statistics are used. Otherwise the
      batch's are, and update the running ones.
    momentum: share of the running statistics that an update keeps.
    epsilon: added to the variance, > 0.
    dtype: of the result; None takes that of input and parameters together.
      Statistics and what follows from them are float32 at least.
    axis_name: mapped axis over which the batch's statistics are taken too.
    affine: whether there are parameters, a scale and a bias; without them the
      scale is 1 and the bias 0.
  """

  use_running_average: bool
  momentum: float = MOMENTUM
  epsilon: float = 1e-5
  dtype: Dtype | None = None
  axis_name: str | None = None
  affine: bool = True

  @nn.compact
  def __call__(self, x: Array) -> Array:
    """Normalises x, [..., C]."""
    shape = x.shape[-1:]
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, shape)
    running_var = self.variable('batch_stats', 'var', jnp.ones, shape)
    if self.use_running_average:
      mean, var = running_mean.value, running_var.value
    else:
      mean, var = self._statistics(x)
      if not self.is_initializing():
        keep = self.momentum
        running_mean.value = keep * running_mean.value + (1 - keep) * mean
        running_var.value = keep * running_var.value + (1 - keep) * var
    factor = lax.rsqrt(var + self.epsilon)
    dtype = self.dtype or x.dtype
    if self.affine:
      scale = self.param('scale', nn.initializers.ones, shape)
      bias = self.param('bias', nn.initializers.zeros, shape)
      factor = scale * factor
      shift = bias - mean * factor
      dtype = self.dtype or jnp.result_type(x, scale, bias)
    else:
      shift = -mean * factor
    one = (1,) * (x.ndim - 1)
    y = x * factor.reshape(*one, -1) + shift.reshape(*one, -1)
    return y.astype(dtype)

  def _statistics(self, x: Array) -> tuple[Array, Array]:
    """Mean and biased variance [C] over the batch of all devices."""
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    axes = tuple(range(x.ndim - 1))
    means = jnp.stack([x.mean(axes), jnp.square(x).mean(axes)])
    if self.axis_name is not None and not self.is_initializing():
      means = lax.pmean(means, self.axis_name)
    mean, square = means
    # Rounding may make the difference negative.
    return mean, jnp.maximum(0.0, square - jnp.square(mean))

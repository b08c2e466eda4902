"""Variational information distillation (VID): what predicts the teacher.

A regressor makes of a student's stage the mean mu of a Gaussian over the
teacher's; its variance is one number v_c for each of the teacher's channels:

  VID = mean of ((mu - t)^2 / v + log v) / 2,    v = softplus(rho) + 1e-5

over all elements of a stage, summed over pairs of stages. Regressors and rho
are trained with the student: `projections.Regressors`. Of log(1 + exp(rho)) the
exponential overflows; softplus does not.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> mean, teacher = jnp.zeros((1, 2, 2, 3)), jnp.ones((1, 4, 4, 3))
  >>> rho = jnp.full(3, losses.initial_rho(5.))
  >>> print(losses.vid(mean, teacher, rho).round(4))  # (1/5 + log 5) / 2
  [0.9047]

Reference:
  Ahn et al., Variational information distillation for knowledge transfer, CVPR
  2019. RepDistiller's weight is 1.
"""

import math

import chex
import jax
import jax.numpy as jnp

from rnascl_jax.base import Array
from rnascl_jax.losses import rows, stages

# No variance is smaller.
_SMALLEST = 1e-5


def initial_rho(variance: float) -> float:
  """The rho of a variance, its inverse in `vid`.

  Args:
    variance: greater than 1e-5; 5 in RepDistiller.

  Raises:
    ValueError: it is not.
  """
  if not variance > _SMALLEST:
    raise ValueError(
      f'variance={variance} must be greater than {_SMALLEST}, the smallest one '
      'of VID; RepDistiller begins with 5.'
    )
  return math.log(math.expm1(variance - _SMALLEST))


def vid(mean: Array, teacher: Array, rho: Array) -> Array:
  """VID of one pair of stages, see above.

  Args:
    mean: [B, h, w, C], what a regressor makes of the student's stage.
    teacher: [B, H, W, C], average-pooled to (h, w) if larger; constant.
    rho: [C], of any sign.

  Returns:
    [B], at least log(1e-5) / 2.
  """
  chex.assert_equal_shape_prefix([mean, teacher], 1)
  chex.assert_rank(mean, 4)
  _, height, width, _ = mean.shape
  mean, target = rows.widen(mean), stages.pool(teacher, (height, width))
  chex.assert_equal_shape([mean, target])
  chex.assert_shape(rho, mean.shape[-1:])
  variance = (jax.nn.softplus(rho) + _SMALLEST)[None, None, None]
  values = jnp.square(mean - target) / variance + jnp.log(variance)
  return 0.5 * jnp.mean(values, axis=(1, 2, 3))

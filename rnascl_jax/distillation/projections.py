"""Trained parts of VID and CRD: regressors and embeddings.

They take what `methods.Method.select` gives and have no batch statistics. Their
parameters are trained with the student's and thrown away with the loss.

Example:
  >>> import jax, jax.numpy as jnp
  >>> from rnascl_jax import losses
  >>> from rnascl_jax.distillation import projections
  >>> student, teacher = [jnp.ones((2, 8, 8, 3))], [jnp.ones((2, 4, 4, 5))]
  >>> net = projections.Regressors()
  >>> variables = net.init(jax.random.key(0), student, teacher)
  >>> for regression in net.apply(variables, student, teacher):
  ...   print(regression.mean.shape, jax.nn.softplus(regression.rho).round(3))
  (2, 4, 4, 5) [5. 5. 5. 5. 5.]

References:
  Ahn et al., Variational information distillation for knowledge transfer, CVPR
  2019; Tian et al., Contrastive representation distillation, ICLR 2020; both as
  in the latter's RepDistiller.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn

from rnascl_jax import losses
from rnascl_jax.base import Array
from rnascl_jax.losses import rows, stages

# U(-1, 1) / sqrt(inputs), as in PyTorch.
_initializer = nn.initializers.variance_scaling(1.0 / 3.0, 'fan_in', 'uniform')


class Regression(NamedTuple):
  """What a student says of one stage of the teacher.

  Attributes:
    mean: [B, h, w, C], C being the teacher's channels.
    rho: [C], see `distillation.vid`.
  """

  mean: Array
  rho: Array


class Regressors(nn.Module):
  """VID's: three 1x1 convolutions for each pair of stages.

  The last stage's are called `pair_1`, so that their names do not depend on how
  many stages there are. They have no bias, and a ReLU between them; as matrix
  products over channels they are fast on every back end.

  Attributes:
    variance: the initial one, of every channel.
  """

  variance: float = 5.0

  @nn.compact
  def __call__(
    self, student: Sequence[Array], teacher: Sequence[Array]
  ) -> tuple[Regression, ...]:
    """Predicts a teacher's stages from a student's.

    Args:
      student: stages [B, H, W, C] in forward order, paired from the end; those
        of larger maps than the teacher's are average-pooled first.
      teacher: of it only shapes are used.

    Returns:
      One regression for each pair, in forward order.
    """
    pairs = stages.pair(student, teacher)
    return tuple(
      self._regress(len(pairs) - place, *pair)
      for place, pair in enumerate(pairs)
    )

  def _regress(self, number: int, student: Array, teacher: Array) -> Regression:
    x, target = stages.same_size(student, teacher)
    width = target.shape[-1]
    for layer in range(3):
      x = nn.relu(x) if layer else x
      name = f'pair_{number}_conv{layer}'
      x = nn.Dense(width, use_bias=False, kernel_init=_initializer, name=name)(
        x
      )
    rho = self.param(
      f'pair_{number}_rho',
      nn.initializers.constant(losses.initial_rho(self.variance)),
      (width,),
    )
    return Regression(x, rho)


class Embeddings(nn.Module):
  """CRD's: a linear layer for each network, and its result on the sphere.

  Attributes:
    features: E, 128 in the paper.
  """

  features: int = 128

  @nn.compact
  def __call__(self, student: Array, teacher: Array) -> tuple[Array, Array]:
    """Embeds both networks' features.

    Args:
      student: [B, C].
      teacher: [B, C'].

    Returns:
      Two embeddings [B, E] of length 1; that of a row of zeros, before the bias
      has moved, is zero, with gradient 0.
    """

    def embed(x: Array, name: str) -> Array:
      dense = nn.Dense(self.features, kernel_init=_initializer, name=name)
      return rows.normalize(dense(rows.widen(x)))

    return embed(student, 'student'), embed(teacher, 'teacher')

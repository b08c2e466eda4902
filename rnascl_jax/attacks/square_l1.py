"""The Square attack in L1.

It moves pyramids from window to window as in L2 (`square_l2`), with these
differences: pyramids fall faster, with the fourth power of the distance, and
have length 1 in L1; the tiles of the start are not scaled to epsilon; and what
is spent in a window is C times what each channel takes from both windows, so
that perturbations are mostly too long, and are projected onto the ball: of
radius (1 - 1e-6) epsilon, as published, so that rounding does not leave it.

Example:
  >>> from rnascl_jax.attacks import square_l1
  >>> print(square_l1.SquareL1().pyramid(3).round(2))
  [[ 0.03  0.45  0.03]
   [-0.02 -0.02 -0.02]
   [-0.02 -0.39 -0.02]]

Reference:
  Croce and Hein, Mind the box: l1-APGD for sparse adversarial attacks on image
  classifiers, ICML 2021, section 4.3.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from rnascl_jax.attacks import l1, norms, square_l2
from rnascl_jax.attacks.stepwise import AttackInput
from rnascl_jax.base import Array

_RADIUS = 1 - 1e-6


@dataclasses.dataclass(frozen=True)
class SquareL1(square_l2.PyramidSearch):
  """Square in L1, in steps."""

  @property
  def norm(self) -> norms.Norm:
    return norms.L1

  def pyramid(self, side: int) -> np.ndarray:
    return square_l2.pyramid(side, power=4, order=1)

  def channel_lengths(self, delta: Array) -> Array:
    return jnp.sum(jnp.abs(delta), axis=(0, 1), keepdims=True)

  def spent(self, delta: Array, taken: Array, epsilon: Array) -> Array:
    lacking = jnp.maximum(epsilon - norms.L1.length(delta), 0.0)
    channels = delta.shape[-1]
    return (lacking / channels + self.channel_lengths(taken)) * channels

  def into_ball(self, inputs: AttackInput, delta: Array) -> Array:
    radius = inputs.epsilon * _RADIUS
    moved = inputs.image + delta + l1.correction(inputs.image, delta, radius)
    return jnp.clip(moved, 0.0, 1.0)

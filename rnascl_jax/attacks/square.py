"""The Square attack: random search with squares, from the logits alone.

In L-infinity it starts from vertical stripes of +-epsilon; every query moves a
square by +-2 epsilon in each channel and projects,

  x' = project(x_best + 2 epsilon signs [inside the square]),

and keeps x' if the margin z_y - max_other z falls, until it is not positive. A
classifier that hides its gradients gains nothing against it; therefore it ends
AutoAttack. The search is in `square_search`, the attack in L2 in `square_l2`.

Every image has squares of its own, so that results do not depend on the batch.
(The official code has all images of a batch share them.) As in the official
code, a square that could still be moved never reaches the last row or column,
and sides are chosen for square images: rectangular ones are attacked, but the
official code calls its own results for those unreliable.

Example:
  >>> import jax
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.attacks import square
  >>> def logits_fn(images):  # light or dark?
  ...   brightness = images.mean(axis=(1, 2, 3))
  ...   return jnp.stack([brightness - .5, .5 - brightness], axis=-1)
  >>> image = jnp.full((8, 8, 1), .51)
  >>> adversarial = square.square(
  ...   logits_fn, jax.random.key(0), image, 0, epsilon=8 / 255, num_steps=100)
  >>> both = jnp.stack([image, adversarial])
  >>> print(logits_fn(both).argmax(axis=-1))
  [0 1]

Reference:
  Andriushchenko et al., Square attack: a query-efficient black-box adversarial
  attack via random search, ECCV 2020, algorithms 1 and 2.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rnascl_jax.attacks import (
  linf,
  norms,
  square_l2,
  square_search,
  stepwise,
)
from rnascl_jax.attacks.stepwise import AttackInput
from rnascl_jax.base import Array, Key, LogitsFn


class SquareDraw(NamedTuple):
  """The random numbers of one query.

  Attributes:
    row: scalar in [0, 1), where the square begins.
    column: scalar in [0, 1).
    signs: [C], -1 or 1.
  """

  row: Array
  column: Array
  signs: Array


def random_draw(key: Key, index: Array, channels: int) -> SquareDraw:
  """The random numbers of a step's query.

  They depend on nothing but the arguments: the key of the image and the trial,
  the step, and the number of channels.
  """
  bits = square_search.random_bits(key, index, (2 + channels,))
  row, column = square_search.uniforms(bits[:2])
  return SquareDraw(row, column, square_search.signs(bits[2:]))


def random_stripes(key: Key, shape: tuple[int, ...]) -> Array:
  """Signs, -1 or 1, of the stripes (1, W, C) that the attack starts from."""
  return square_search.signs(square_search.random_bits(key, -1, shape))


@dataclasses.dataclass(frozen=True)
class SquareLinf(square_search.RandomSearch):
  """Square in L-infinity, in steps.

  Attributes:
    draw: (key, step, C) -> `SquareDraw`. The key is only passed on.
    stripes: (key, (1, W, C)) -> signs of this shape.
  """

  draw: Callable[[Key, Array, int], SquareDraw] = random_draw
  stripes: Callable[[Key, tuple[int, ...]], Array] = random_stripes

  @property
  def norm(self) -> norms.Norm:
    return norms.LINF

  def sides(self, shape: tuple[int, ...]) -> np.ndarray:
    """The side of each step's square, [num_steps], for images of this shape."""
    shares = square_search.shares(
      self.num_steps, self.initial_share, self.rescale
    )
    return square_search.sides(shares, shape)

  def start(self, inputs: AttackInput) -> Array:
    image = inputs.image
    signs = self.stripes(inputs.key, (1, *image.shape[1:]))
    stripes = inputs.epsilon * signs.astype(image.dtype)
    return jnp.clip(image + stripes, 0.0, 1.0)

  def propose(
    self, inputs: AttackInput, image_adv: Array, index: Array
  ) -> Array:
    height, width, channels = shape = image_adv.shape
    side = jnp.asarray(self.sides(shape))[index]
    draw = self.draw(inputs.key, index, channels)
    row = square_search.position(draw.row, height, side)
    column = square_search.position(draw.column, width, side)
    inside = square_search.window(row, column, side, shape)
    signs = draw.signs.astype(image_adv.dtype).reshape(1, 1, channels)
    moved = image_adv + jnp.where(inside, 2.0 * inputs.epsilon * signs, 0.0)
    return linf.project(moved, *linf.ball(inputs.image, inputs.epsilon))


_SEARCHES: dict[norms.Norm, type[square_search.RandomSearch]] = {
  norms.LINF: SquareLinf,
  norms.L2: square_l2.SquareL2,
}


def search_of(norm: norms.Norm) -> type[square_search.RandomSearch]:
  """The attack in a norm.

  Raises:
    ValueError: if there is none.
  """
  if norm not in _SEARCHES:
    known = ', '.join(norm.name for norm in _SEARCHES)
    raise ValueError(
      f'there is no Square attack in {norm.name}, only in {known}.'
    )
  return _SEARCHES[norm]


def square(
  logits_fn: LogitsFn,
  key: Key,
  image: Array,
  label: int | Array,
  *,
  epsilon: float | Array,
  norm: norms.Norm = norms.LINF,
  unroll: int = 1,
  **options: Any,
) -> Array:
  """The Square attack on one image, with AutoAttack's schedule.

  Args:
    logits_fn: [1, H, W, C] -> [1, K], K >= 2, in evaluation mode. Its gradient
      is not taken.
    key: typed random key.
    image: [H, W, C] in [0, 1].
    label: in [0, K).
    epsilon: radius, may be traced.
    norm: of the ball, `norms.LINF` or `norms.L2`.
    unroll: steps unrolled in the loop, static.
    **options: the fields of `square_search.RandomSearch`, static.

  Returns:
    [H, W, C] in the ball and in [0, 1]: the first image that fooled the
    classifier, or the one of the smallest margin. A constant. An image whose
    margin is 0 ends its search, whether the tie counts as wrong or not.

  Raises:
    ValueError: for another norm, for num_steps or restarts below 1, and for
      fewer than two classes.
  """
  search = search_of(norm)(**options)
  return stepwise.run(
    search, logits_fn, key, image, label, epsilon=epsilon, unroll=unroll
  )

"""The Square attack: random search with squares, from the logits alone.

In L-infinity it starts from vertical stripes of +-epsilon; every query moves a
square by +-2 epsilon in each channel and projects,

  x' = project(x_best + 2 epsilon signs [inside the square]),

and keeps x' if the margin z_y - max_other z falls, until it is not positive. A
classifier that hides its gradients gains nothing against it; therefore it ends
AutoAttack. The squares shrink with the number of queries: first they cover
`initial_share` of the image, then a half, a quarter, ... of that. The attacks
in L2 and L1 are the same `RandomSearch` with other proposals; they are in
`square_l2` and `square_l1`.

A `randomized.Randomized` classifier is queried in a single draw, always the
same one, so that margins compare; another draw may see another margin.

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
  >>> attack = square.SquareLinf(num_steps=100)
  >>> adversarial = attack(
  ...   logits_fn, jax.random.key(0), image, 0, epsilon=8 / 255)
  >>> both = jnp.stack([image, adversarial])
  >>> print(logits_fn(both).argmax(axis=-1))
  [0 1]

Reference:
  Andriushchenko et al., Square attack: a query-efficient black-box adversarial
  attack via random search, ECCV 2020, algorithms 1 and 2.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax import losses
from rnascl_jax.attacks import arguments, norms, prediction, stepwise
from rnascl_jax.attacks.stepwise import (
  AttackInput,
  Candidate,
  NetworkPasses,
  Stepwise,
)
from rnascl_jax.base import Array, Key, LogitsFn

# The share of the image that a square covers halves after these queries.
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
# Queries of the published schedule, which `rescale` stretches to others.
_PUBLISHED_QUERIES = 10_000


def shares(
  num_steps: int, initial_share: float, rescale: bool = False
) -> np.ndarray:
  """The share of the image that the square of each query covers.

  Args:
    num_steps: queries.
    initial_share: of the first queries, in (0, 1].
    rescale: whether the schedule of 10,000 queries is stretched to num_steps.

  Returns:
    [num_steps], never rising.
  """
  queries = np.arange(num_steps)
  if rescale:
    queries = (queries / num_steps * _PUBLISHED_QUERIES).astype(int)
  return initial_share / 2.0 ** np.searchsorted(_HALVED_AFTER, queries)


def sides(
  shares: np.ndarray, shape: tuple[int, ...], smallest: int = 1
) -> np.ndarray:
  """Sides of the squares that cover these shares of an image.

  Args:
    shares: [num_steps], from `shares`.
    shape: (H, W, C).
    smallest: the shortest side, unless the image is shorter itself.

  Returns:
    [num_steps], int32 in [1, min(H, W)].
  """
  # The published order of operations, since a half is rounded to even.
  areas = shares * (shape[0] * shape[1] * shape[2]) / shape[2]
  rounded = np.round(np.sqrt(areas)).astype(np.int32)
  return np.minimum(np.maximum(rounded, smallest), min(shape[:2]))


def position(uniform: Array, length: int, side: Array) -> Array:
  """The first row or column of a square.

  As published, a square that could still be moved never reaches the last row
  or column of the image.

  Args:
    uniform: [...], numbers in [0, 1).
    length: H or W of the image.
    side: scalar integer in [1, length].

  Returns:
    [...], int32 in [0, max(length - side - 1, 0)].
  """
  return jnp.floor((length - side) * uniform).astype(jnp.int32)


def window(
  row: Array, column: Array, side: Array, shape: tuple[int, ...]
) -> Array:
  """A mask [H, W, 1] of the square with this first row, column and side.

  The shape is (H, W, C); all else are scalar integers, which may be traced.
  """
  rows = jnp.arange(shape[0])[:, None, None]  # [H, 1, 1]
  columns = jnp.arange(shape[1])[None, :, None]  # [1, W, 1]
  inside_rows = (rows >= row) & (rows < row + side)
  return inside_rows & (columns >= column) & (columns < column + side)


def uniforms(bits: Array) -> Array:
  """Numbers in [0, 1) from random uint32.

  They have 24 bits, and so are the same whatever the precision of the images.
  """
  return (bits >> 8).astype(jnp.float32) * 2.0**-24


def signs(bits: Array) -> Array:
  """-1 or 1, int32, from random uint32."""
  return 1 - 2 * (bits & 1).astype(jnp.int32)


def random_bits(key: Key, index: int | Array, shape: tuple[int, ...]) -> Array:
  """Random uint32 of a trial's step; what begins a trial has index -1."""
  return jax.random.bits(jax.random.fold_in(key, index + 1), shape, jnp.uint32)


def query(
  logits_fn: LogitsFn, inputs: AttackInput, image_adv: Array
) -> Candidate:
  """An image [H, W, C] with minus its margin, by one forward pass.

  Where the margin is NaN, the loss is infinite if the logits count as wrong,
  and minus infinity if they do not (two are infinite): a NaN is either a
  success or no progress at all.
  """
  logits = logits_fn(image_adv[None])
  loss = -losses.margin(logits, inputs.label[None])[0]
  fooled = prediction.fooled(logits[0], inputs.label)
  loss = jnp.where(jnp.isnan(loss), jnp.where(fooled, jnp.inf, -jnp.inf), loss)
  return Candidate(image_adv, loss.astype(image_adv.dtype), fooled)


@dataclasses.dataclass(frozen=True)
class RandomSearch(Stepwise):
  """A Square attack in steps; norms differ in the images they propose.

  The state is the best image so far, whose loss is -margin. An image whose
  margin is 0 ends its search, whether the tie counts as wrong or not.

  Attributes:
    num_steps: queries of a trial after the first.
    initial_share: share of the image that the first squares cover, in (0, 1].
    rescale: whether the schedule of 10,000 queries is stretched to num_steps.
      AutoAttack does not; the attack by itself does, as published.
    restarts: trials of an image.
    segment: steps after which it is worth looking which images are done.
  """

  num_steps: int = 5000
  initial_share: float = 0.8
  rescale: bool = False
  restarts: int = 1
  segment: int = 50

  def __post_init__(self) -> None:
    arguments.check_counts(
      num_steps=self.num_steps, restarts=self.restarts, segment=self.segment
    )
    if not 0 < self.initial_share <= 1:
      raise ValueError(
        f'initial_share={self.initial_share} must lie in (0, 1]: it is the '
        'part of the image that the first squares cover.'
      )

  @property
  @abc.abstractmethod
  def norm(self) -> norms.Norm:
    """The norm of the ball."""

  @abc.abstractmethod
  def start(self, inputs: AttackInput) -> Array:
    """The image [H, W, C] of the first query, in the ball and in [0, 1]."""

  @abc.abstractmethod
  def propose(
    self, inputs: AttackInput, image_adv: Array, index: Array
  ) -> Array:
    """The image [H, W, C] of the next query, in the ball and in [0, 1].

    Args:
      inputs: the image under attack.
      image_adv: [H, W, C], the best image so far.
      index: scalar, the step.
    """

  def passes(self, num_classes: int) -> tuple[NetworkPasses, NetworkPasses]:
    del num_classes
    query = NetworkPasses(forward=1, backward=0)
    return query, query

  def num_trials(self, num_classes: int) -> int:
    return self.restarts if num_classes > 1 else 0

  def init(
    self, logits_fn: LogitsFn, inputs: AttackInput, trial: Array
  ) -> Candidate:
    del trial  # The key is the trial's.
    return query(logits_fn, inputs, self.start(inputs))

  def step(
    self,
    logits_fn: LogitsFn,
    inputs: AttackInput,
    state: Candidate,
    index: Array,
  ) -> Candidate:
    proposal = query(
      logits_fn, inputs, self.propose(inputs, state.image, index)
    )
    # A margin of 0 ends the search, as published, although it counts as wrong
    # only if the other class comes first.
    improves = (state.loss < 0) & (proposal.loss > state.loss)
    return stepwise.select(improves, proposal, state)

  def candidate(self, inputs: AttackInput, state: Candidate) -> Candidate:
    del inputs
    return state


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
  bits = random_bits(key, index, (2 + channels,))
  row, column = uniforms(bits[:2])
  return SquareDraw(row, column, signs(bits[2:]))


def random_stripes(key: Key, shape: tuple[int, ...]) -> Array:
  """Signs, -1 or 1, of the stripes (1, W, C) that the attack starts from."""
  return signs(random_bits(key, -1, shape))


@dataclasses.dataclass(frozen=True)
class SquareLinf(RandomSearch):
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
    covered = shares(self.num_steps, self.initial_share, self.rescale)
    return sides(covered, shape)

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
    row = position(draw.row, height, side)
    column = position(draw.column, width, side)
    inside = window(row, column, side, shape)
    signs = draw.signs.astype(image_adv.dtype).reshape(1, 1, channels)
    moved = image_adv + jnp.where(inside, 2.0 * inputs.epsilon * signs, 0.0)
    return self.norm.project(inputs.image, moved, inputs.epsilon)

"""The Square attack in L2.

The perturbation always has length epsilon, until it is clamped to [0, 1].
It starts as a grid of tiles, each a pyramid of value +-1 / distance^2 (roughly)
whose two halves have opposite signs. A query takes away what is inside of one
window and spends it in another of the same size, where it adds a pyramid of
random sign and orientation to the direction that is there; windows become
smaller with the number of queries. `square` has the search, and `square_l1` the
same attack with other pyramids and lengths.

Example:
  >>> from rnascl_jax.attacks import square_l2
  >>> print(square_l2.pyramid(3).round(2))
  [[ 0.14  0.68  0.14]
   [-0.13 -0.13 -0.13]
   [-0.13 -0.65 -0.13]]

Reference:
  Andriushchenko et al., Square attack: a query-efficient black-box adversarial
  attack via random search, ECCV 2020, algorithm 3.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rnascl_jax.attacks import norms, square
from rnascl_jax.attacks.stepwise import AttackInput
from rnascl_jax.base import Array, Key

# Windows have at least this side, so that a pyramid has a top and a slope.
_SMALLEST = 3
# Tiles along the shorter side of the image, at the start.
_TILES = 5
# Keeps divisions finite where a perturbation is zero everywhere.
_TINY = 1e-12


class SquareL2Draw(NamedTuple):
  """The random numbers of one query.

  Attributes:
    rows: [2] in [0, 1), where the window that grows and the one that is
      emptied begin.
    columns: [2] in [0, 1).
    transposed: scalar bool, whether the pyramid's halves are left and right.
    signs: [C], -1 or 1.
  """

  rows: Array
  columns: Array
  transposed: Array
  signs: Array


class Tiles(NamedTuple):
  """The random numbers of the start.

  Attributes:
    transposed: [rows, columns], bool.
    signs: [rows, columns, C], -1 or 1.
  """

  transposed: Array
  signs: Array


def random_draw(key: Key, index: Array, channels: int) -> SquareL2Draw:
  """The random numbers of a step's query, as `square.random_draw`."""
  bits = square.random_bits(key, index, (5 + channels,))
  places = square.uniforms(bits[:4])
  signs = square.signs(bits[4:])
  return SquareL2Draw(places[:2], places[2:], signs[0] > 0, signs[1:])


def random_tiles(key: Key, shape: tuple[int, int, int]) -> Tiles:
  """The random numbers of the start, for (rows, columns, C) of the tiles."""
  rows, columns, channels = shape
  bits = square.random_bits(key, -1, (rows, columns, 1 + channels))
  signs = square.signs(bits)
  return Tiles(signs[..., 0] > 0, signs[..., 1:])


def pyramid(side: int, power: int = 2, order: int = 2) -> np.ndarray:
  """A pyramid upwards above one downwards, of length 1.

  Args:
    side: at least 1.
    power: how fast it falls, 4 in L1.
    order: of the norm in which its length is 1, and that of each half.

  Returns:
    [side, side], float64.
  """
  upper = side // 2
  first, second = (
    _slope(height, side, power, order) for height in (upper, side - upper)
  )
  halves = np.concatenate([first, -second])
  return halves / float(np.linalg.norm(halves.ravel(), order))


def _slope(height: int, width: int, power: int, order: int) -> np.ndarray:
  """A pyramid of length 1 around the middle: sum of 1/k^p beyond a distance."""
  rows = np.abs(np.arange(height) - height // 2)[:, None]
  columns = np.abs(np.arange(width) - width // 2)[None]
  reach = max(height, width) // 2 + 1
  # beyond[d] = 1 / (d + 1)^p + ... + 1 / reach^p
  beyond = np.cumsum(1.0 / np.arange(reach, 0, -1) ** power)[::-1]
  heights = beyond[np.maximum(rows, columns)]
  return heights / float(np.linalg.norm(heights.ravel(), order))


@dataclasses.dataclass(frozen=True)
class PyramidSearch(square.RandomSearch):
  """Square with pyramids, in steps; norms differ in lengths.

  Attributes:
    draw: (key, step, C) -> `SquareL2Draw`. The key is only passed on.
    tiles: (key, (rows, columns, C)) -> `Tiles`.
  """

  draw: Callable[[Key, Array, int], SquareL2Draw] = random_draw
  tiles: Callable[[Key, tuple[int, int, int]], Tiles] = random_tiles

  @abc.abstractmethod
  def pyramid(self, side: int) -> np.ndarray:
    """[side, side], a pyramid of length 1."""

  @abc.abstractmethod
  def channel_lengths(self, delta: Array) -> Array:
    """[H, W, C] -> [1, 1, C], the length in each channel."""

  @abc.abstractmethod
  def spent(self, delta: Array, taken: Array, epsilon: Array) -> Array:
    """The length [1, 1, C] that the window that grows gets.

    Args:
      delta: [H, W, C], the perturbation.
      taken: [H, W, C], the same, but 0 outside of both windows.
      epsilon: scalar; the length that `delta` lacks to it is spent as well.
    """

  @abc.abstractmethod
  def into_ball(self, inputs: AttackInput, delta: Array) -> Array:
    """The image with a perturbation [H, W, C], in the ball and in [0, 1]."""

  def sides(self, shape: tuple[int, ...]) -> np.ndarray:
    """The side of each step's windows, [num_steps]: odd, if they fit."""
    shares = square.shares(self.num_steps, self.initial_share, self.rescale)
    sides = square.sides(shares, shape, smallest=_SMALLEST)
    return np.minimum(sides // 2 * 2 + 1, min(shape[:2]))

  def start(self, inputs: AttackInput) -> Array:
    height, width, channels = inputs.image.shape
    shorter = min(height, width)
    side = max(shorter // _TILES, 1)
    grid = (height // side, width // side)
    tiles = self.tiles(inputs.key, (*grid, channels))
    above = jnp.asarray(self.pyramid(side), inputs.image.dtype)  # [side, side]
    # [rows, columns, side, side], then [rows, columns, side, side, C].
    delta = jnp.where(tiles.transposed[:, :, None, None], above.T, above)
    delta = delta[..., None] * tiles.signs[:, :, None, None].astype(delta.dtype)
    delta = delta.swapaxes(1, 2)  # [rows, side, columns, side, C]
    delta = delta.reshape(grid[0] * side, grid[1] * side, channels)
    # As published, five tiles are centred, and more are cut at the far edge.
    margin = max((shorter - side * _TILES) // 2, 0)
    delta = jnp.pad(delta, ((margin, side), (margin, side), (0, 0)))
    return self.into_ball(inputs, delta[:height, :width])

  def propose(
    self, inputs: AttackInput, image_adv: Array, index: Array
  ) -> Array:
    height, width, channels = shape = image_adv.shape
    sides = self.sides(shape)
    side = jnp.asarray(sides)[index]
    draw = self.draw(inputs.key, index, channels)
    row, emptied_row = square.position(draw.rows, height, side)
    column, emptied_column = square.position(draw.columns, width, side)
    grown = square.window(row, column, side, shape)
    emptied = square.window(emptied_row, emptied_column, side, shape)

    signs = draw.signs.astype(image_adv.dtype).reshape(1, 1, channels)
    added = self._added(sides, index, draw.transposed, image_adv.dtype)
    edges = ((0, height - len(added)), (0, width - len(added)))
    added = jnp.roll(jnp.pad(added, edges), (row, column), axis=(0, 1))
    added = added[:, :, None] * signs
    delta = image_adv - inputs.image
    moved = self._moved(delta, added, grown, emptied, inputs.epsilon)
    return self.into_ball(inputs, moved)

  def _added(self, sides, index, transposed, dtype):
    """The pyramid of a step, whose index is traced, from a table of all.

    Args:
      sides: [num_steps], static.
      index: scalar.
      transposed: scalar bool.
      dtype: of the images.

    Returns:
      [side, side] of the largest side; 0 outside of the step's own side.
    """
    distinct, which = np.unique(sides, return_inverse=True)
    padded = [
      np.pad(self.pyramid(side), (0, max(sides) - side)) for side in distinct
    ]
    table = jnp.asarray(np.stack(padded), dtype)  # [distinct, side, side]
    above = table[jnp.asarray(which)[index]]
    return jnp.where(transposed, above.T, above)

  def _moved(self, delta, added, grown, emptied, epsilon):
    """Moves the length of a perturbation from one window to another.

    Args:
      delta: [H, W, C], the perturbation.
      added: [H, W, C], is added to the direction in the window that grows; 0
        elsewhere.
      grown: [H, W, 1], bool.
      emptied: [H, W, 1], bool; where both windows are, it grows.
      epsilon: scalar.

    Returns:
      [H, W, C].
    """
    old = jnp.where(grown, delta, 0.0)
    direction = added + old / (self.channel_lengths(old) + _TINY)
    direction = direction / (self.channel_lengths(direction) + _TINY)
    taken = jnp.where(grown | emptied, delta, 0.0)
    new = direction * self.spent(delta, taken, epsilon)
    return jnp.where(grown, new, jnp.where(emptied, 0.0, delta))


@dataclasses.dataclass(frozen=True)
class SquareL2(PyramidSearch):
  """Square in L2, in steps."""

  @property
  def norm(self) -> norms.Norm:
    return norms.L2

  def pyramid(self, side: int) -> np.ndarray:
    return pyramid(side)

  def channel_lengths(self, delta: Array) -> Array:
    return jnp.sqrt(jnp.sum(delta**2, axis=(0, 1), keepdims=True))

  def spent(self, delta: Array, taken: Array, epsilon: Array) -> Array:
    lacking = jnp.maximum(epsilon**2 - norms.L2.length(delta) ** 2, 0.0)
    available = self.channel_lengths(taken) ** 2
    return jnp.sqrt(lacking / delta.shape[-1] + available)

  def into_ball(self, inputs: AttackInput, delta: Array) -> Array:
    """Scaled to length epsilon, then clamped to [0, 1]."""
    unit = delta / (norms.L2.length(delta) + _TINY)
    return jnp.clip(inputs.image + unit * inputs.epsilon, 0.0, 1.0)

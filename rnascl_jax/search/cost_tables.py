"""Costs of all choices of a search space, and the expectation n_f(G) (eq. 3).

An inverted residual's cost depends on the width that enters it, so that of a
block is a table over the choices of the block and of the block before, and
n_f(G) is the exact expectation under independent draws. At one-hot weights it
equals the cost of the derived network. MACs and parameters are in `flops`,
measured times in `latency_tables`.

Example:
  >>> from rnascl_jax.search import cost_tables, flops, spaces
  >>> space = spaces.from_stages([1], [(4, 2)], [1])
  >>> tables = flops.costs(space, (8, 8, 1), 10)
  >>> cost_tables.of_features(tables, space, (2,))
  43796.0
  >>> cost_tables.uniform(tables)
  45342.0
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rnascl_jax.base import Array
from rnascl_jax.search import spaces
from rnascl_jax.search.spaces import SearchSpace


class Costs(NamedTuple):
  """Cost tables of a search space, all in one unit.

  Attributes:
    blocks: for each block [N_in, N], the cost for each pair of widths.
    stem: cost of the stem.
    head: [N] cost of the pooled head, if any, and the classifier for each width
      of the last block.
  """

  blocks: tuple[np.ndarray, ...]
  stem: float
  head: np.ndarray


def expected(tables: Costs, channels: Sequence[Array]) -> Array:
  """The cost of the network in expectation, n_f(G) of eq. (3).

  Args:
    tables: of the search space.
    channels: for each block [N], weights summing to 1.

  Returns:
    Scalar, the expectation over independent choices; differentiable.
  """
  total = jnp.asarray(tables.stem, channels[0].dtype)
  entering = jnp.ones(1, channels[0].dtype)
  for table, weights in zip(tables.blocks, channels, strict=True):
    total += entering @ jnp.asarray(table, weights.dtype) @ weights
    entering = weights
  return total + entering @ jnp.asarray(tables.head, entering.dtype)


def uniform(tables: Costs) -> float:
  """n_f(G) where every filter choice is equally likely."""
  sizes = [table.shape[1] for table in tables.blocks]
  return float(expected(tables, [jnp.full(size, 1 / size) for size in sizes]))


def of_features(
  tables: Costs, space: SearchSpace, features: Sequence[int]
) -> float:
  """The cost of a derived network, in float64.

  Args:
    tables: of the search space.
    space: the search space.
    features: the width of each block.

  Raises:
    ValueError: if a width is not among its block's choices.
  """
  spaces.with_features(space, features)
  total, entering = float(tables.stem), 0
  for block, table, width in zip(
    space.blocks, tables.blocks, features, strict=True
  ):
    leaving = block.choices.index(width)
    total += float(table[entering, leaving])
    entering = leaving
  return total + float(tables.head[entering])


def least(tables: Costs) -> float:
  """The cost of the cheapest network of the space."""
  costs = np.zeros(1)
  for table in tables.blocks:
    costs = (costs[:, None] + table).min(0)  # [N]
  return float(tables.stem + (costs + tables.head).min())


def weighted(terms: Sequence[tuple[float, Costs]]) -> Costs:
  """The weighted sum of costs of one space, each relative to its `uniform`.

  Relative costs have no unit, so that the weights say what matters how much.

  Args:
    terms: positive weights and tables, at least one.
  """
  factors = np.array([weight / uniform(tables) for weight, tables in terms])
  blocks, stems, heads = zip(*(tables for _, tables in terms), strict=True)

  def total(costs: Sequence[np.ndarray | float]) -> np.ndarray:
    return np.tensordot(factors, np.stack(costs), 1)

  return Costs(
    tuple(total(of_block) for of_block in zip(*blocks, strict=True)),
    float(total(stems)),
    total(heads),
  )

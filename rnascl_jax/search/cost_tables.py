"""Costs of all choices of a search space, and the expectation n_f(G) (eq. 3).

An inverted residual's cost depends on the width that enters it, so that of a
block is a table over the choices of the block and of the block before, and
n_f(G) is the exact expectation under independent draws. Where kernel sizes,
expansions and depth are searched, the table has an axis for each of them. A
skipped block costs nothing and hands on the width that enters it. At one-hot
weights n_f(G) equals the cost of the derived network. MACs and parameters are
in `flops`, measured times in `latency_tables`.

Example:
  >>> from rnascl_jax.search import cost_tables, flops, spaces
  >>> space = spaces.from_stages([1], [(4, 2)], [1])
  >>> tables = flops.costs(space, (8, 8, 1), 10)
  >>> cost_tables.of_features(tables, space, (2,))
  43796.0
  >>> cost_tables.uniform(tables)
  45342.0
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rnascl_jax.base import Array
from rnascl_jax.search import spaces
from rnascl_jax.search.space import Block, Operator, SearchSpace

# Weights of a block's filter choices [N], or also of others, by their names.
Choices = Array | dict[str, Array]
# Axes of a table behind those of the widths, in this order where they exist.
_AXES = ('kernel', 'expansion', 'depth')


class Costs(NamedTuple):
  """Cost tables of a search space, all in one unit.

  Attributes:
    blocks: for each block [N_in, N], the cost for each pair of widths; further
      axes for what else is searched of it: kernel sizes [K], expansions [E] and
      depth [2], kept and skipped.
    stem: cost of the stem.
    head: [N] cost of the pooled head, if any, and the classifier for each width
      of the last block.
  """

  blocks: tuple[np.ndarray, ...]
  stem: float
  head: np.ndarray


def factors(choices: Choices) -> Mapping[str, Array]:
  """The weights of a block's independent choices by name, 'width' always."""
  return choices if isinstance(choices, dict) else {'width': choices}


def leaving(entering: Array, choices: Choices) -> Array:
  """Weights [N] of the widths that leave a block.

  Args:
    entering: [N_in] of the widths that enter it.
    choices: of the block.
  """
  weights = factors(choices)
  if 'depth' not in weights:
    return weights['width']
  kept, skipped = weights['depth']
  # Blocks that may be skipped have the choices of their input.
  return kept * weights['width'] + skipped * entering


def tabulate(
  space: SearchSpace, price: Callable[[int, Block, int, int], float]
) -> tuple[np.ndarray, ...]:
  """The tables of all blocks, as in `Costs`.

  Args:
    space: the search space.
    price: (index, block of one kernel size and expansion, width that enters,
      width that leaves) -> cost.
  """
  tables = []
  for index, block in enumerate(space.blocks):
    costs = [
      [
        [price(index, variant, before, width) for variant in block.variants]
        for width in block.choices
      ]
      for before in space.input_choices[index]
    ]
    choices = (block.kernel_choices, block.expansion_choices)
    sizes = [len(values) for values in choices if values]
    table = np.array(costs, np.float64).reshape(
      len(costs), len(block.choices), *sizes
    )
    if block.skippable:
      table = np.stack([table, np.zeros_like(table)], -1)
    tables.append(table)
  return tuple(tables)


def expected(tables: Costs, channels: Sequence[Choices]) -> Array:
  """The cost of the network in expectation, n_f(G) of eq. (3).

  Args:
    tables: of the search space.
    channels: for each block [N], weights summing to 1, or a dict of them.

  Returns:
    Scalar, the expectation over independent choices; differentiable.
  """
  dtype = factors(channels[0])['width'].dtype
  total = jnp.asarray(tables.stem, dtype)
  entering = jnp.ones(1, dtype)
  for block, choices in zip(tables.blocks, channels, strict=True):
    weights = factors(choices)
    table = jnp.asarray(block, weights['width'].dtype)
    for name in reversed(_AXES):
      table = table @ weights[name] if name in weights else table
    total += entering @ table @ weights['width']
    entering = leaving(entering, choices)
  return total + entering @ jnp.asarray(tables.head, entering.dtype)


def uniform(tables: Costs) -> float:
  """n_f(G) where all choices are equally likely."""
  # Equally likely widths stay so where a block is skipped.
  blocks = [
    table if table.ndim == 2 else table.mean(tuple(range(2, table.ndim)))
    for table in tables.blocks
  ]
  sizes = [table.shape[1] for table in blocks]
  return float(
    expected(
      tables._replace(blocks=tuple(blocks)),
      [jnp.full(size, 1 / size) for size in sizes],
    )
  )


def of_features(
  tables: Costs,
  space: SearchSpace,
  features: Sequence[int],
  operators: Sequence[Operator] = (),
) -> float:
  """The cost of a derived network, in float64.

  Args:
    tables: of the search space.
    space: the search space.
    features: the width of each block.
    operators: as in `spaces.with_features`.

  Raises:
    ValueError: if a width or an operator is not among its block's choices.
  """
  spaces.with_features(space, features, operators)
  operators = tuple(operators) or (Operator(),) * len(features)
  total, entering = float(tables.stem), 0
  for block, table, width, operator in zip(
    space.blocks, tables.blocks, features, operators, strict=True
  ):
    leaving = block.choices.index(width)
    total += float(table[entering, leaving, *operator.places(block).values()])
    entering = leaving
  return total + float(tables.head[entering])


def least(tables: Costs, space: SearchSpace) -> float:
  """The cost of the cheapest network of the space."""
  costs = np.zeros(1)
  for table, block in zip(tables.blocks, space.blocks, strict=True):
    kept = table[..., 0] if block.skippable else table
    pairs = kept.min(tuple(range(2, kept.ndim)))  # [N_in, N]
    cheapest = (costs[:, None] + pairs).min(0)  # [N]
    costs = np.minimum(cheapest, costs) if block.skippable else cheapest
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

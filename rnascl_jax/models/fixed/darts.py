"""The network of DARTS: a chain of cells whose inside is a genotype.

The layout, the operations and the names of the variables are those of DARTS's
`NetworkCIFAR`, which PC-DARTS, RACL and AdvRush use too. That of Huang et al.
differs in its stem, whose width is free, and 144 by default, where it is three
times that of the first cells here. Neither the auxiliary head nor the drop path
is here: both act in training alone.

Example:
  >>> from rnascl_jax.models.fixed import darts
  >>> net = darts.DartsNetwork(num_classes=10, genotype='advrush')
  >>> len(net.tap_names), net.tap_names[:3]
  (21, ('stem', 'cells_0', 'cells_1'))

Reference:
  Liu et al., DARTS: differentiable architecture search, ICLR 2019.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from rnascl_jax.base import Array
from rnascl_jax.models.fixed import cells, genotypes
from rnascl_jax.models.fixed.genotypes import Edge

_POOLS: Mapping[str, Callable[..., Array]] = {
  'max_pool_3x3': nn.max_pool,
  'avg_pool_3x3': functools.partial(nn.avg_pool, count_include_pad=False),
}


class GenotypeCell(cells.Cell):
  """A cell of a genotype.

  Attributes:
    edges: two for each node from node 2 on.
    concat: the nodes that it puts out.
  """

  edges: tuple[Edge, ...]
  concat: tuple[int, ...]

  @nn.compact
  def __call__(self, before: Array, x: Array) -> Array:
    """The output [B, H', W', len(concat) F] of the two cells before it."""
    nodes = self.enter(before, x)
    for place in range(0, len(self.edges), 2):
      first, second = (self._operate(p, nodes) for p in (place, place + 1))
      nodes.append(first + second)
    return jnp.concatenate([nodes[node] for node in self.concat], axis=-1)

  def _operate(self, place: int, nodes: Sequence[Array]) -> Array:
    """The result of an edge; called inside the compact method."""
    operation, node = self.edges[place]
    x, name = nodes[node], f'_ops_{place}'
    stride = self.stride(node)
    if operation == 'none':
      return jnp.zeros_like(x[:, ::stride, ::stride])
    if operation == 'skip_connect':
      if stride == 1:
        return x
      return cells.FactorizedReduction(self.features, self.make, name=name)(x)
    if operation in _POOLS:
      pool, pad = _POOLS[operation], ((1, 1), (1, 1))
      pooled = pool(x, (3, 3), strides=(stride, stride), padding=pad)
      return pooled.astype(x.dtype)  # Means of bfloat16 are float32.
    if operation == 'conv_7x1_1x7':
      convolve = functools.partial(self.make.conv, self.features)
      x = convolve((1, 7), (1, stride), name=f'{name}_1')(nn.relu(x))
      x = convolve((7, 1), (stride, 1), name=f'{name}_2')(x)
      return self.make.norm(name=f'{name}_3')(x)
    # 'sep_conv_3x3' to 'dil_conv_5x5'.
    kind, size = operation[:3], int(operation[-1])
    dilation, repeats = (1, 2) if kind == 'sep' else (2, 1)
    return cells.Separable(
      size, stride, self.make, dilation, repeats, name=name
    )(x)


class DartsNetwork(cells.Chain):
  """Cells of a genotype; the default fields make DARTS's own for CIFAR-10.

  Attributes:
    genotype: a name in `GENOTYPES`, or a text; see `genotypes.by_name`.

  Raises:
    ValueError: if there is no such genotype, and as `cells.Chain`.
  """

  genotype: str = 'darts_v2'

  def __post_init__(self) -> None:
    genotypes.by_name(self.genotype)
    super().__post_init__()

  def cell(self, index: int, reduces: bool, **fields: Any) -> cells.Cell:
    """A cell of the genotype, see `cells.Chain.cell`."""
    del index
    genotype = genotypes.by_name(self.genotype)
    edges, concat = genotype[2:] if reduces else genotype[:2]
    return GenotypeCell(edges=edges, concat=concat, reduces=reduces, **fields)

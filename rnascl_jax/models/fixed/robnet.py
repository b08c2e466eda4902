"""RobNets: cells in which every node has an edge from every node before it.

A cell has four nodes beside its two inputs and puts all four out. The edge from
a node is one of four operations, written as two bits:

  00  nothing
  01  a separable 3x3 convolution
  10  the node itself; where it is larger, through a factorised reduction
  11  the sum of the last two

The network is that of DARTS otherwise; the BatchNorms of its cells have neither
scale nor shift. RobNet-large repeats one cell, in RobNet-free each of the 20
cells is another one. Of RobNet-small and -medium no cells are published.

MSRobNet-1000 has the same operations in 8 wider cells, and scale and shift in
all BatchNorms but those of single operations, 01 and 10. Its authors' code
names variables otherwise.

Example:
  >>> from rnascl_jax.models.fixed import robnet
  >>> len(robnet.RobNet(num_classes=10).tap_names), len(robnet.FREE)
  (21, 20)

References:
  Guo et al., When NAS meets robustness, CVPR 2020, and its code, gmh14/RobNets;
  Ning et al., Discovering robust convolutional architecture at targeted
  capacity, 2020, and its code, walkerning/aw_nas.
"""

import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
from flax import linen as nn

from rnascl_jax.base import Array
from rnascl_jax.models.fixed import cells

_NODES = 4
# Two bits for each edge: those into the first node, from both inputs, ...
LARGE = ('1111 1111 1101 1101 1011 0101 0111',)
FREE = (
  '1110 1111 1011 0101 1011 1100 1101',
  '1100 0110 0100 1010 0001 1110 1100',
  '1111 1101 0111 0100 1000 1010 0011',
  '1011 1001 0110 1001 1011 0000 0110',
  '1111 0100 1010 1001 1001 0010 0111',
  '1110 1111 1101 1011 0010 0111 0111',
  '1111 1110 1001 1110 0110 1010 0110',
  '0111 1111 0111 1111 0111 0111 1000',
  '1111 1111 1101 0111 1001 0010 0111',
  '1011 0100 1111 1011 0111 1111 1100',
  '1110 1100 0000 1100 0110 0001 1011',
  '0111 0111 1110 1011 1011 0111 1000',
  '1111 1010 0100 1011 1101 1010 0001',
  '0111 1111 0101 1101 0111 1101 1010',
  '0111 1111 1101 0001 1010 1110 1011',
  '1111 0011 1101 0001 1000 1101 1111',
  '1111 0111 1110 1110 1010 1010 1111',
  '1011 0111 1101 1100 1111 0010 0001',
  '1110 1111 1111 1110 1100 1101 1111',
  '1111 0101 1111 0100 0010 0001 0111',
)
MULTI_SHOT = (
  '0011 0100 1001 0001 0000 0110 1100',
  '1111 0000 1001 1000 1110 0010 1101',
  '1101 1010 1100 0110 1001 0000 0101',
  '1010 1110 0011 1101 1000 0101 1101',
  '0110 0011 0110 1110 0101 1010 0011',
  '1010 0100 0101 0110 0001 0000 0110',
  '0011 1010 0001 0110 1100 1001 1001',
  '1110 0011 1100 1100 0010 0001 0010',
)


class ResidualSeparable(nn.Module):
  """A separable 3x3 convolution of x [B, H, W, C], and x, summed."""

  stride: int
  make: cells.Factories

  @nn.compact
  def __call__(self, x: Array) -> Array:
    convolved = cells.Separable(3, self.stride, self.make, name='conv')(x)
    if self.stride > 1:
      x = cells.FactorizedReduction(x.shape[-1], self.make, name='res')(x)
    return convolved + x


class Operation(nn.Module):
  """An edge, but no empty one, of x [B, H, W, C].

  Attributes:
    bits: see the module.
    stride: 1 or 2.
    make: makes the layers.
  """

  bits: str
  stride: int
  make: cells.Factories

  @nn.compact
  def __call__(self, x: Array) -> Array:
    if self.bits == '11':
      return ResidualSeparable(self.stride, self.make, name='op')(x)
    plain = functools.partial(self.make.norm, affine=False)
    make = self.make._replace(norm=plain)
    if self.bits == '01':
      return cells.Separable(3, self.stride, make, name='op')(x)
    if self.stride == 1:
      return x
    return cells.FactorizedReduction(x.shape[-1], make, name='op')(x)


class DenseCell(cells.Cell):
  """A cell whose nodes have edges from all nodes before them.

  Attributes:
    code: the edges, two bits each.
  """

  code: str

  @nn.compact
  def __call__(self, before: Array, x: Array) -> Array:
    """The output [B, H', W', 4 F] of the two cells before it."""
    nodes, place = self.enter(before, x), 0
    code, stride = self.code.replace(' ', ''), self.stride(0)
    for _ in range(_NODES):
      total = jnp.zeros_like(nodes[0][:, ::stride, ::stride])
      for node, entering in enumerate(nodes):
        bits, name = code[2 * place : 2 * place + 2], f'_ops_{place}'
        place += 1
        if bits != '00':
          edge = Operation(bits, self.stride(node), self.make, name=name)
          total += edge(entering)
      nodes.append(total)
    return jnp.concatenate(nodes[2:], axis=-1)


class RobNet(cells.Chain):
  """A RobNet; the default fields make RobNet-large.

  Attributes:
    codes: the edges of every cell, or of one for all.

  Raises:
    ValueError: if there is not one code for each cell, or one of them has not
      14 edges of two bits, and as `cells.Chain`.
  """

  affine: ClassVar[bool] = False
  codes: Sequence[str] = LARGE

  def __post_init__(self) -> None:
    super().__post_init__()
    edges = [code.replace(' ', '') for code in self.codes]
    bad = [code for code in edges if len(code) != 28 or code.strip('01')]
    if len(self.codes) not in (1, self.depth) or bad:
      raise ValueError(
        f'codes={tuple(self.codes)} must be one for all cells or one for each '
        f'of the {self.depth}, of 14 edges with two bits.'
      )

  def cell(self, index: int, reduces: bool, **fields: Any) -> cells.Cell:
    """A cell of the codes, see `cells.Chain.cell`."""
    code = self.codes[index % len(self.codes)]
    return DenseCell(code=code, reduces=reduces, **fields)


class MSRobNet(RobNet):
  """A RobNet whose default fields make MSRobNet-1000."""

  affine: ClassVar[bool] = True
  depth: int = 8
  features: Sequence[int] = (51, 102, 204)
  codes: Sequence[str] = MULTI_SHOT


def robnet_free(*, num_classes: int, **fields: Any) -> RobNet:
  """RobNet-free, 21 taps; `fields` are those of `RobNet`."""
  return RobNet(num_classes, codes=FREE, **fields)

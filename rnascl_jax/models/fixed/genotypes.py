"""Cells of published architecture searches, as data.

A genotype in DARTS's notation says how a normal cell and a reduction cell
compute. A cell's nodes 0 and 1 are the outputs of the two cells before it; each
further node is the sum of two operations on earlier nodes, and the cell puts
out some nodes side by side. Two cells that the searches found:

  DARTS V2, normal    2 = sep3(0) + sep3(1)    3 = sep3(0) + sep3(1)
                      4 = sep3(1) + skip(0)    5 = skip(0) + dil3(2)
  AdvRush, normal     2 = sep3(1) + sep3(0)    3 = sep5(0) + sep3(1)
                      4 = sep3(1) + sep3(0)    5 = skip(0) + sep3(1)

`GENOTYPES` has those of RNAS-CL's Table 1, as their authors' code has them.

Example:
  >>> from rnascl_jax.models.fixed import genotypes
  >>> genotypes.by_name('darts_v2').normal[:2]
  (('sep_conv_3x3', 0), ('sep_conv_3x3', 1))
  >>> genotypes.by_name(
  ...   "Genotype(normal=[('skip_connect', 0), ('max_pool_3x3', 1)], "
  ...   "normal_concat=range(2, 3), reduce=[('max_pool_3x3', 0), "
  ...   "('avg_pool_3x3', 1)], reduce_concat=[2])").normal_concat
  (2,)

References:
  Zoph et al., Learning transferable architectures, CVPR 2018 (NASNet-A); Real
  et al., Regularized evolution, AAAI 2019 (AmoebaNet-A); Liu et al., DARTS,
  ICLR 2019; Xu et al., PC-DARTS, ICLR 2020; Dong et al., RACL, 2020; Mok et
  al., AdvRush, ICCV 2021.
"""

import ast
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rnascl_jax.runtime import spelling

# An operation, and the node that it is applied to.
Edge = tuple[str, int]
OPERATIONS = (
  'none',
  'max_pool_3x3',
  'avg_pool_3x3',
  'skip_connect',
  'sep_conv_3x3',
  'sep_conv_5x5',
  'sep_conv_7x7',
  'dil_conv_3x3',
  'dil_conv_5x5',
  'conv_7x1_1x7',
)


class Genotype(NamedTuple):
  """A normal and a reduction cell.

  Attributes:
    normal: two edges for each node from node 2 on.
    normal_concat: the nodes that the cell puts out.
    reduce: the same of the reduction cell, whose edges from nodes 0 and 1 have
      stride 2.
    reduce_concat: its output.
  """

  normal: tuple[Edge, ...]
  normal_concat: tuple[int, ...]
  reduce: tuple[Edge, ...]
  reduce_concat: tuple[int, ...]


def _cell(text: str) -> tuple[Edge, ...]:
  """Edges of 'sep3:0 sep3:1 ...', by the short names below."""
  words = (word.split(':') for word in text.split())
  return tuple((_SHORT[name], int(node)) for name, node in words)


_SHORT = {
  'max': 'max_pool_3x3',
  'avg': 'avg_pool_3x3',
  'skip': 'skip_connect',
  'sep3': 'sep_conv_3x3',
  'sep5': 'sep_conv_5x5',
  'sep7': 'sep_conv_7x7',
  'dil3': 'dil_conv_3x3',
  'dil5': 'dil_conv_5x5',
  '7x1': 'conv_7x1_1x7',
}
_LAST_FOUR = (2, 3, 4, 5)
GENOTYPES: Mapping[str, Genotype] = types.MappingProxyType(
  {
    'nasnet_a': Genotype(
      _cell(
        'sep5:1 sep3:0 sep5:0 sep3:0 avg:1 skip:0 avg:0 avg:0 sep3:1 skip:1'
      ),
      (2, 3, 4, 5, 6),
      _cell(
        'sep5:1 sep7:0 max:1 sep7:0 avg:1 sep5:0 skip:3 avg:2 sep3:2 max:1'
      ),
      (4, 5, 6),
    ),
    'amoebanet_a': Genotype(
      _cell(
        'avg:0 max:1 sep3:0 sep5:2 sep3:0 avg:3 sep3:1 skip:1 skip:0 avg:1'
      ),
      (4, 5, 6),
      _cell('avg:0 sep3:1 max:0 sep7:2 sep7:0 avg:1 max:0 max:1 7x1:0 sep3:5'),
      (3, 4, 6),
    ),
    'darts_v2': Genotype(
      _cell('sep3:0 sep3:1 sep3:0 sep3:1 sep3:1 skip:0 skip:0 dil3:2'),
      _LAST_FOUR,
      _cell('max:0 max:1 skip:2 max:1 max:0 skip:2 skip:2 max:1'),
      _LAST_FOUR,
    ),
    'pc_darts': Genotype(
      _cell('sep3:1 skip:0 sep3:0 dil3:1 sep5:0 sep3:1 avg:0 dil3:1'),
      _LAST_FOUR,
      _cell('sep5:1 max:0 sep5:1 sep5:2 sep3:0 sep3:3 sep3:1 sep3:2'),
      _LAST_FOUR,
    ),
    'racl': Genotype(
      _cell('sep3:0 sep3:1 sep5:0 skip:1 sep3:0 skip:3 sep3:3 skip:4'),
      _LAST_FOUR,
      _cell('sep3:0 sep5:1 avg:0 dil3:1 sep3:0 sep5:1 sep3:2 dil3:3'),
      _LAST_FOUR,
    ),
    'advrush': Genotype(
      _cell('sep3:1 sep3:0 sep5:0 sep3:1 sep3:1 sep3:0 skip:0 sep3:1'),
      _LAST_FOUR,
      _cell('sep3:0 sep3:1 skip:0 dil3:2 skip:0 avg:1 skip:0 skip:2'),
      _LAST_FOUR,
    ),
  }
)


def by_name(text: str) -> Genotype:
  """A published genotype, or one in the words that a search prints.

  Args:
    text: a name in `GENOTYPES`, or 'Genotype(normal=[...], normal_concat=...,
      reduce=[...], reduce_concat=...)'.

  Returns:
    The genotype, checked.

  Raises:
    ValueError: there is no such name, or the text is no genotype.
  """
  if not text.startswith('Genotype('):
    if text not in GENOTYPES:
      raise ValueError(
        f'unknown genotype {text!r}.{spelling.did_you_mean(text, GENOTYPES)} '
        f'Known are {", ".join(GENOTYPES)}; or give the text of one, '
        "'Genotype(normal=[...], ...)'."
      )
    return GENOTYPES[text]
  try:
    call = ast.parse(text, mode='eval').body
    if not isinstance(call, ast.Call) or call.args:
      raise ValueError('it must have named fields')
    genotype = Genotype(
      **{str(word.arg): _tuple(word.value) for word in call.keywords}
    )
    for edges, concat in (genotype[:2], genotype[2:]):
      _check(edges, concat)
  except (SyntaxError, TypeError, ValueError) as error:
    raise ValueError(f'genotype={text!r} cannot be read: {error}.') from error
  return genotype


def _tuple(node: ast.expr) -> tuple[Any, ...]:
  """What a list, or a `range` of numbers, says; nothing is run."""
  if isinstance(node, ast.Call):
    if ast.unparse(node.func) != 'range':
      raise ValueError(f'{ast.unparse(node)} is not a list')
    return tuple(range(*(ast.literal_eval(argument) for argument in node.args)))
  return tuple(ast.literal_eval(node))


def _check(edges: Sequence[Edge], concat: Sequence[int]) -> None:
  """Raises ValueError unless nodes are of two known operations each."""
  nodes = 2 + len(edges) // 2
  if len(edges) % 2 or nodes == 2:
    raise ValueError(f'a cell has {len(edges)} edges, not two for each node')
  for place, (operation, node) in enumerate(edges):
    if operation not in OPERATIONS:
      raise ValueError(
        f'unknown operation {operation!r}; known are {", ".join(OPERATIONS)}'
      )
    if node not in range(2 + place // 2):
      raise ValueError(
        f'node {2 + place // 2} has an edge from {node}, which is not before it'
      )
  if not concat or not set(concat) <= set(range(2, nodes)):
    raise ValueError(f'the output {concat} is not of nodes 2 to {nodes - 1}')

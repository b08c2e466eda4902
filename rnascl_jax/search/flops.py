"""Parameters and multiply-accumulates (MACs) of student networks, exact counts.

Of a search space they are tables over the choices of each block and of the
block before, FLOP(l, i) of eq. (3), of which `cost_tables` takes expectations.

Two conventions of the literature: convolutions and linear layers only, or with
two more for every BatchNorm element (scale and shift: two parameters for a
channel, two operations for an output). Table 1 of RNAS-CL is reached by
parameters without and MACs with BatchNorm. Biases count as parameters, of the
classifier, of squeeze-excite and of the pooled head; additions of residuals,
products with gates, means and activations count nothing.

Example:
  >>> from rnascl_jax.search import flops, spaces
  >>> s3 = spaces.widest(spaces.CIFAR_SPACES['s3'])
  >>> flops.count(s3, (32, 32, 3), 10)
  Cost(parameters=171770, macs=7874176)
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnascl_jax.runtime import jaxprs
from rnascl_jax.search import cost_tables, space_layers
from rnascl_jax.search.cost_tables import Costs
from rnascl_jax.search.space import Block, SearchSpace, Shortcut


class Cost(NamedTuple):
  """Size and work of a network or a part of it, for one image."""

  parameters: int
  macs: int

  def plus(self, other: 'Cost') -> 'Cost':
    return Cost(self.parameters + other.parameters, self.macs + other.macs)


def _conv(
  size: int, inputs: int, outputs: int, cells: int, batch_norm: bool
) -> Cost:
  """A convolution of size^2 * inputs weights per output, and its BatchNorm."""
  weights = size * size * inputs * outputs
  norm = 2 * outputs if batch_norm else 0
  return Cost(weights + norm, (weights + norm) * cells)


def _linear(inputs: int, outputs: int) -> Cost:
  """A linear layer with bias, once an image."""
  return Cost(inputs * outputs + outputs, inputs * outputs)


def _block(
  space: SearchSpace,
  block: Block,
  entering: int,
  features: int,
  cells: tuple[int, int],
  batch_norm: bool,
) -> Cost:
  """An inverted residual; cells are those of its input and its output."""
  inner = space.expansion_of(block) * entering
  cost = _conv(space.kernel_of(block), 1, inner, cells[1], batch_norm)
  if inner > entering:
    cost = cost.plus(_conv(1, entering, inner, cells[0], batch_norm))
  cost = cost.plus(_conv(1, inner, features, cells[1], batch_norm))
  units = space.squeezed(block, entering)
  if units:
    cost = cost.plus(_linear(inner, units)).plus(_linear(units, inner))
  projects = space.shortcut is Shortcut.PROJECT and entering != features
  if block.residual and projects:
    cost = cost.plus(_conv(1, entering, features, cells[1], batch_norm))
  return cost


def _head(
  space: SearchSpace, features: int, classes: int, cells: int, batch_norm: bool
) -> Cost:
  """What follows the last block: the pooled head, if any, a linear layer."""
  if not space.head_features:
    return _linear(features, classes)
  inner = space.expansion * features
  cost = _conv(1, features, inner, cells, batch_norm)
  cost = cost.plus(_linear(inner, space.head_features))
  return cost.plus(_linear(space.head_features, classes))


def _cells(space: SearchSpace, image_shape: Sequence[int]) -> list[int]:
  """Cells of the stem's output and of every block's output."""
  return [
    height * width for height, width in space_layers.maps(space, image_shape)
  ]


def costs(
  space: SearchSpace,
  image_shape: Sequence[int],
  num_classes: int,
  *,
  batch_norm: bool = False,
  kind: str = 'macs',
) -> Costs:
  """Tables of MACs, or of parameters, for all choices of a space.

  Args:
    space: the search space.
    image_shape: (H, W, C).
    num_classes: K.
    batch_norm: whether BatchNorm counts two operations for an element, or two
      parameters for a channel.
    kind: 'macs' or 'parameters'.

  Returns:
    The tables.

  Raises:
    ValueError: if the space does not fit the image.
  """
  cells = _cells(space, image_shape)

  def price(index: int, block: Block, entering: int, features: int) -> int:
    pair = (cells[index], cells[index + 1])
    cost = _block(space, block, entering, features, pair, batch_norm)
    return getattr(cost, kind)

  stem = _conv(3, image_shape[2], space.stem_features, cells[0], batch_norm)
  head = [
    getattr(_head(space, features, num_classes, cells[-1], batch_norm), kind)
    for features in space.blocks[-1].choices
  ]
  return Costs(
    cost_tables.tabulate(space, price),
    float(getattr(stem, kind)),
    np.array(head, np.float64),
  )


def count(
  space: SearchSpace,
  image_shape: Sequence[int],
  num_classes: int,
  *,
  batch_norm: bool = False,
) -> Cost:
  """Exact parameters and MACs of a derived network.

  Args:
    space: with one choice for each block (`search_space.with_features`).
    image_shape: (H, W, C).
    num_classes: K.
    batch_norm: the convention: two per BatchNorm element, or nothing.

  Returns:
    The counts for one image.

  Raises:
    ValueError: if a block has several choices or the image does not fit.
  """
  features = [space.stem_features]
  for index, block in enumerate(space.blocks):
    if len(block.choices) != 1 or block.operator_choices:
      raise ValueError(
        f'Block {index} has the choices {block.choices}, kernel_choices='
        f'{block.kernel_choices}, expansion_choices={block.expansion_choices} '
        f'and skippable={block.skippable}; an exact count needs one each: call '
        'spaces.with_features first.'
      )
    features.append(block.choices[0])
  cells = _cells(space, image_shape)
  total = _conv(3, image_shape[2], features[0], cells[0], batch_norm)
  for index, block in enumerate(space.blocks):
    pair = (cells[index], cells[index + 1])
    entering, leaving = features[index : index + 2]
    cost = _block(space, block, entering, leaving, pair, batch_norm)
    total = total.plus(cost)
  return total.plus(
    _head(space, features[-1], num_classes, cells[-1], batch_norm)
  )


def trace_macs(function: Callable[..., Any], *arguments: Any) -> int:
  """MACs of all convolutions and matrix products that a function runs.

  Nothing is computed. Every tap of a kernel counts, also on padding; the body
  of a loop counts once. A depthwise convolution written as shifts is no
  convolution: count it in its native form.

  Args:
    function: of arrays, traced.
    *arguments: arrays or `jax.ShapeDtypeStruct`s.

  Returns:
    Multiply-accumulate operations.
  """
  total = 0
  for equation in jaxprs.equations(jaxprs.trace(function, *arguments)):
    name = equation.primitive.name
    if name == 'conv_general_dilated':
      kernel = equation.invars[1].aval.shape
      features = equation.params['dimension_numbers'].rhs_spec[0]
      outputs = equation.outvars[0].aval.size
      total += outputs * math.prod(kernel) // kernel[features]
    elif name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      shape = equation.invars[0].aval.shape
      outputs = equation.outvars[0].aval.size
      total += outputs * math.prod(shape[axis] for axis in contracted)
  return total

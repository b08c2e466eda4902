"""What networks of cells have in common: layers, and the chain of cells.

A 3x3 stem with three times the filters of the first cells and a BatchNorm, then
cells, of which those after one and two thirds of the depth are reduction cells
that halve the sides of maps; global average pooling and one linear layer. A
cell sees the outputs of the two cells before it. The names of the variables are
those of DARTS's `NetworkCIFAR`.

The taps are the outputs of the stem and of every cell.

Reference:
  Liu et al., DARTS: differentiable architecture search, ICLR 2019.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from rnascl_jax.base import Array
from rnascl_jax.models import convolutions, layers, networks
from rnascl_jax.models.fixed import blocks
from rnascl_jax.models.networks import Outputs

# Filters of the stem over those of the first cells.
_STEM = 3


class Factories(NamedTuple):
  """Makers of layers.

  Attributes:
    conv: of a dense convolution.
    depthwise: of a depthwise one.
    norm: of a BatchNorm.
    apply: the depthwise convolution itself.
  """

  conv: blocks.Factory
  depthwise: blocks.Factory
  norm: blocks.Factory
  apply: Callable[..., Array]


class Pointwise(nn.Module):
  """ReLU, a 1x1 convolution, BatchNorm: [B, H, W, C] to [B, H, W, F]."""

  features: int
  make: Factories

  @nn.compact
  def __call__(self, x: Array) -> Array:
    conv = self.make.conv(self.features, 1, name='op_1')
    return self.make.norm(name='op_2')(conv(nn.relu(x)))


class FactorizedReduction(nn.Module):
  """ReLU, two 1x1 convolutions of stride 2, one a pixel further, BatchNorm.

  [B, H, W, C] becomes [B, H / 2, W / 2, F]; H, W and F are even.
  """

  features: int
  make: Factories

  @nn.compact
  def __call__(self, x: Array) -> Array:
    x = nn.relu(x)
    halves = [
      self.make.conv(self.features // 2, 1, 2, name=f'conv__{number}')(part)
      for number, part in ((1, x), (2, x[:, 1:, 1:]))
    ]
    return self.make.norm(name='bn')(jnp.concatenate(halves, axis=-1))


class Separable(nn.Module):
  """ReLU, a depthwise and a 1x1 convolution, BatchNorm; once or twice.

  Attributes:
    size: side of the depthwise kernel.
    stride: of the first depthwise convolution.
    make: makes the layers.
    dilation: of the kernel.
    repeats: how often.
  """

  size: int
  stride: int
  make: Factories
  dilation: int = 1
  repeats: int = 2

  @nn.compact
  def __call__(self, x: Array) -> Array:
    convolve = functools.partial(self.make.apply, dilation=self.dilation)
    for place, stride in enumerate((self.stride, 1)[: self.repeats]):
      names = [f'op_{4 * place + number}' for number in (1, 2, 3)]
      depthwise = self.make.depthwise(
        self.size, stride, convolve, name=names[0]
      )
      pointwise = self.make.conv(x.shape[-1], 1, name=names[1])
      x = self.make.norm(name=names[2])(pointwise(depthwise(nn.relu(x))))
    return x


class Cell(nn.Module):
  """A cell: nodes 0 and 1 are what enters, further ones follow from them.

  Attributes:
    features: width of every node.
    reduces: whether edges from nodes 0 and 1 have stride 2.
    after_reduction: whether the cell before it reduces, so that the input from
      the cell before that one is larger.
    make: makes the layers.
  """

  features: int
  reduces: bool
  after_reduction: bool
  make: Factories

  def enter(self, before: Array, x: Array) -> list[Array]:
    """Nodes 0 and 1 [B, H, W, F]; called inside a compact method.

    Args:
      before: the output of the cell before the one before, [B, H', W', C'].
      x: the output of the cell before, [B, H, W, C].
    """
    enter = FactorizedReduction if self.after_reduction else Pointwise
    return [
      enter(self.features, self.make, name='preprocess0')(before),
      Pointwise(self.features, self.make, name='preprocess1')(x),
    ]

  def stride(self, node: int) -> int:
    """The stride of edges from a node."""
    return 2 if self.reduces and node < 2 else 1

  def __call__(self, before: Array, x: Array) -> Array:
    """The output of the cell [B, H'', W'', C'']; arguments as of `enter`."""
    raise NotImplementedError


class Chain(networks.Network):
  """Cells in a chain: images [B, H, W, C] in [0, 1] -> (logits [B, K], taps).

  Attributes:
    num_classes: number of classes K.
    depth: cells, at least 3.
    features: width of a cell's nodes before, between and after the reductions;
      the last two are even.
    mean: subtracted from the images, C numbers or one for all channels.
    std: divides the images, C numbers or one for all channels.
    dtype: of computation; None is float32 (float64 for images of float64).
      Parameters, running averages and logits are float32.
    axis_name: mapped axis over which training synchronises BatchNorm.
    conv: the depthwise convolution.

  Raises:
    ValueError: if depth or features are out of their bounds, or the images do
      not fit: their sides must be multiples of 4.
  """

  num_classes: int
  depth: int = 20
  features: Sequence[int] = (36, 72, 144)
  mean: Sequence[float] = (0.0,)
  std: Sequence[float] = (1.0,)
  dtype: Dtype | None = None
  axis_name: str | None = None
  conv: Callable[..., Array] = convolutions.depthwise_conv

  # Whether BatchNorms of cells have a scale and a shift; the stem's has both.
  affine: ClassVar[bool] = True

  def __post_init__(self) -> None:
    widths = tuple(self.features)
    odd = [width for width in widths[1:] if width < 2 or width % 2]
    if self.depth < 3 or len(widths) != 3 or odd:
      raise ValueError(
        f'depth={self.depth} must be at least 3 and features={widths} three '
        'numbers, the last two even: where maps shrink, two convolutions '
        'compute half of the channels each.'
      )
    super().__post_init__()

  @property
  def tap_names(self) -> tuple[str, ...]:
    """The stem, and each cell's path within `params`, in forward order."""
    return ('stem', *(f'cells_{index}' for index in range(self.depth)))

  @nn.compact
  def represent(self, images: Array, *, train: bool) -> Outputs:
    x = blocks.normalized_input(images, self.mean, self.std, (2, 2))
    if x.shape[1] % 4 or x.shape[2] % 4:
      raise ValueError(
        f'images of shape {x.shape} must have sides that are multiples of 4: '
        'reduction cells halve them twice.'
      )
    make = self._factories(train)
    x = make.conv(_STEM * self.features[0], 3, name='stem_0')(x)
    taps, stages = [make.norm(name='stem_1', affine=True)(x)], []
    before, x, after_reduction = taps[0], taps[0], False
    reductions = (self.depth // 3, 2 * self.depth // 3)
    for index in range(self.depth):
      reduces = index in reductions
      if reduces:
        stages.append(x)
      cell = self.cell(
        index,
        reduces,
        features=self.features[len(stages)],
        after_reduction=after_reduction,
        make=make,
        name=f'cells_{index}',
      )
      before, x, after_reduction = x, cell(before, x), reduces
      taps.append(x)
    stages.append(x)
    pooled = blocks.pooled(x)
    logits = blocks.linear(self.num_classes, name='classifier')(pooled)
    return Outputs(logits, tuple(taps), tuple(stages), pooled)

  def cell(self, index: int, reduces: bool, **fields: Any) -> Cell:
    """Makes a cell, a function of the outputs of the two before it.

    Args:
      index: of the cell.
      reduces: whether it halves the sides of maps.
      **fields: `features`, `after_reduction`, `make` and `name` of the cell.
    """
    raise NotImplementedError

  def _factories(self, train: bool) -> Factories:
    norm = functools.partial(
      blocks.batch_norm,
      train=train,
      dtype=self.dtype,
      axis_name=self.axis_name,
      affine=self.affine,
    )
    return Factories(
      functools.partial(blocks.convolution, dtype=self.dtype),
      functools.partial(layers.Depthwise, dtype=self.dtype),
      norm,
      self.conv,
    )

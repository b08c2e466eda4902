"""A search space: the filter choices of every block, as plain integers.

A network with one choice per block is a search space too: the derived network.
Implements section 3.3 of RNAS-CL. The blocks are those of FBNetV2.

Example:
  >>> from rnascl_jax.search.space import Block, SearchSpace
  >>> blocks = Block((8, 6), 2, False), Block((8, 6), 1, True)
  >>> space = SearchSpace(blocks, stem_features=4)
  >>> space.input_choices, space.reduction
  (((4,), (8, 6)), 4)
"""

import dataclasses
import enum
import math
from typing import NamedTuple


class Shortcut(enum.Enum):
  """What a residual does where a block's width differs from its input's."""

  # Zeros are appended or the last channels dropped: what the supernet computes.
  PAD = 'pad'
  # No residual.
  DROP = 'drop'
  # A 1x1 convolution with BatchNorm.
  PROJECT = 'project'


@dataclasses.dataclass(frozen=True)
class Block:
  """One inverted residual block.

  Attributes:
    choices: filter choices, positive and distinct.
    stride: of the depthwise convolution.
    residual: whether the input is added to the output.
    expansion: width of the inside over that of the input; None for the space's.
      With 1 the block has no convolution that expands.
    kernel_size: of the depthwise convolution, odd; None for the space's.
    kernel_choices: kernel sizes that are searched; () where none are.
    expansion_choices: expansions that are searched, above 1; () where none are.
    skippable: whether the search may leave the block out. It is not the first
      then, its stride is 1, and its choices are those of its input: a skipped
      block has the width that enters it.
  """

  choices: tuple[int, ...]
  stride: int
  residual: bool
  expansion: int | None = None
  kernel_size: int | None = None
  kernel_choices: tuple[int, ...] = ()
  expansion_choices: tuple[int, ...] = ()
  skippable: bool = False

  @property
  def widest(self) -> int:
    return max(self.choices)

  @property
  def operator_choices(self) -> dict[str, tuple[int, ...]]:
    """What is searched beside the width; of 'depth', 1 is a skipped block."""
    choices = {
      'kernel': self.kernel_choices,
      'expansion': self.expansion_choices,
      'depth': (0, 1) if self.skippable else (),
    }
    return {name: values for name, values in choices.items() if values}

  @property
  def variants(self) -> tuple['Block', ...]:
    """The block with each kernel size and, changing faster, expansion."""
    return tuple(
      dataclasses.replace(
        self,
        kernel_size=kernel_size,
        expansion=expansion,
        kernel_choices=(),
        expansion_choices=(),
      )
      for kernel_size in self.kernel_choices or (self.kernel_size,)
      for expansion in self.expansion_choices or (self.expansion,)
    )


class Operator(NamedTuple):
  """What is chosen of a block besides its width.

  Attributes:
    kernel_size: of the depthwise convolution; None for the largest choice.
    expansion: of the inside; None for the largest choice.
    skipped: whether the block is left out.
  """

  kernel_size: int | None = None
  expansion: int | None = None
  skipped: bool = False

  def places(self, block: Block) -> dict[str, int]:
    """The places of what is chosen in the block's `operator_choices`."""
    values = {
      'kernel': self.kernel_size,
      'expansion': self.expansion,
      'depth': int(self.skipped),
    }
    return {
      name: choices.index(
        max(choices) if values[name] is None else values[name]
      )
      for name, choices in block.operator_choices.items()
    }


@dataclasses.dataclass(frozen=True)
class SearchSpace:
  """A chain of blocks between a convolutional stem and a classifier.

  Attributes:
    blocks: in forward order.
    stem_features: filters of the 3x3 stem, which are not searched.
    stem_stride: of the stem.
    expansion: width of a block's inside over the width of its input, where the
      block has none of its own; of the head's as well.
    kernel_size: of the depthwise convolutions, odd.
    shortcut: what residuals do where widths differ.
    squeeze_excite: hidden units of each block's squeeze-excite over the width
      of its inside, in [0, 1]; 0 for none.
    head_features: of the pooled head before the classifier; 0 for none: the
      last block's means are classified.
  """

  blocks: tuple[Block, ...]
  stem_features: int = 16
  stem_stride: int = 2
  expansion: int = 6
  kernel_size: int = 3
  shortcut: Shortcut = Shortcut.PAD
  squeeze_excite: float = 0.0
  head_features: int = 0

  def __post_init__(self):
    for index, block in enumerate(self.blocks):
      distinct = len(set(block.choices)) == len(block.choices) > 0
      if not distinct or min(block.choices) < 1 or block.stride < 1:
        raise ValueError(
          f'Block {index} has choices={block.choices} and '
          f'stride={block.stride}; it needs one or more distinct positive '
          'widths and a stride of at least 1.'
        )
      if self.expansion_of(block) < 1:
        raise ValueError(
          f'Block {index} has expansion={self.expansion_of(block)}; it must be '
          'at least 1.'
        )
      if block.residual and block.stride > 1:
        raise ValueError(
          f'Block {index} has a residual and stride={block.stride}; a residual '
          'needs a stride of 1.'
        )
    if not self.blocks or self.kernel_size % 2 == 0 or self.expansion < 1:
      raise ValueError(
        f'A search space needs at least one block (has {len(self.blocks)}), an '
        f'odd kernel_size (is {self.kernel_size}) and an expansion of at least '
        f'1 (is {self.expansion}).'
      )
    for index, block in enumerate(self.blocks):
      self._check_operators(index, block)
    if not 0 <= self.squeeze_excite <= 1 or self.head_features < 0:
      raise ValueError(
        f'squeeze_excite={self.squeeze_excite} must lie in [0, 1] and '
        f'head_features={self.head_features} must not be negative; 0 stands '
        'for none.'
      )

  def _check_operators(self, index: int, block: Block) -> None:
    sizes = (self.kernel_of(block), *block.kernel_choices)
    if any(size < 1 or size % 2 == 0 for size in sizes):
      raise ValueError(
        f'Block {index} has the kernel sizes {sizes}; they must be odd.'
      )
    for name, least in (('kernel_choices', 1), ('expansion_choices', 2)):
      values = getattr(block, name)
      if len(set(values)) < len(values) or min(values, default=least) < least:
        raise ValueError(
          f'Block {index} has {name}={values}; they must be distinct and at '
          f'least {least}.'
        )
    if block.expansion_choices and self.squeeze_excite:
      raise ValueError(
        f'Block {index} has expansion_choices={block.expansion_choices} and '
        f'squeeze_excite={self.squeeze_excite}: the hidden units of '
        'squeeze-excite follow one expansion. Set one of the two to nothing.'
      )
    entering = self.input_choices[index]
    alike = block.stride == 1 and entering == block.choices
    if block.skippable and not (index and alike):
      raise ValueError(
        f'Block {index} has stride={block.stride} and the choices '
        f'{block.choices} behind {entering}; only a block after the first, of '
        'stride 1, whose choices are those of its input may be skipped.'
      )

  @property
  def has_operators(self) -> bool:
    """Whether more than widths is searched."""
    return any(block.operator_choices for block in self.blocks)

  def expansion_of(self, block: Block) -> int:
    """Width of a block's inside over the width of its input, the largest."""
    if block.expansion_choices:
      return max(block.expansion_choices)
    return self.expansion if block.expansion is None else block.expansion

  def kernel_of(self, block: Block) -> int:
    """Side of a block's depthwise kernel, the largest choice."""
    if block.kernel_choices:
      return max(block.kernel_choices)
    return self.kernel_size if block.kernel_size is None else block.kernel_size

  def squeezed(self, block: Block, entering: int) -> int:
    """Hidden units of the squeeze-excite of a block.

    Args:
      block: the block.
      entering: width of the block's input, positive.

    Returns:
      The share `squeeze_excite` of the block's inside, rounded half up and at
      least 1; it never falls where the width rises. 0 without squeeze-excite.
    """
    if not self.squeeze_excite:
      return 0
    units = self.squeeze_excite * self.expansion_of(block) * entering
    return max(1, math.floor(units + 0.5))

  @property
  def input_choices(self) -> tuple[tuple[int, ...], ...]:
    """Widths that may enter each block: the choices of the one before."""
    return ((self.stem_features,), *(b.choices for b in self.blocks[:-1]))

  @property
  def reduction(self) -> int:
    """Image side over the side of the last feature map."""
    return self.stem_stride * math.prod(b.stride for b in self.blocks)

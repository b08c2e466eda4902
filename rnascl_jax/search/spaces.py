"""Search spaces: the filter choices of every block, as plain integers.

A network with one choice per block is a search space too: the derived network.
Implements section 3.3 of RNAS-CL; Tables 13 and 14 are in
`search_space_tables`. The blocks are those of FBNetV2.

Example:
  >>> from rnascl_jax.search import spaces
  >>> space = spaces.CIFAR_SPACES['s3']
  >>> len(space.blocks), space.blocks[-1].choices
  (9, (64, 60, 56, 52))
  >>> spaces.narrowest(space).blocks[-1].choices
  (52,)
"""

import dataclasses
import enum
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from rnascl_jax.search import space_tables


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


def from_stages(
  depths: Sequence[int],
  choices: Sequence[Sequence[int]],
  strides: Sequence[int],
  *,
  stem_features: int = 16,
  stem_stride: int = 2,
  expansion: int = 6,
  expansions: Sequence[int] = (),
  kernel_size: int = 3,
  shortcut: Shortcut = Shortcut.PAD,
  squeeze_excite: float = 0.0,
  head_features: int = 0,
) -> SearchSpace:
  """A space of stages, as the paper's Tables 13 and 14 write them.

  The first block of a stage has the stage's stride. A block has a residual if
  its stride is 1 and the widest choices of its input and output agree.

  Args:
    depths: blocks of each stage.
    choices: filter choices of each stage's blocks.
    strides: stride of each stage.
    stem_features: filters of the stem.
    stem_stride: stride of the stem.
    expansion: inner over input width of a block, and of the head.
    expansions: of the blocks of each stage, if they differ; else empty.
    kernel_size: of the depthwise convolutions, odd.
    shortcut: what residuals do where widths differ.
    squeeze_excite: share of a block's inside, in [0, 1]; 0 for none.
    head_features: of the pooled head; 0 for none.

  Returns:
    The search space.

  Raises:
    ValueError: if the sequences differ in length or a value is invalid.
  """
  if not len(depths) == len(choices) == len(strides):
    raise ValueError(
      f'depths={tuple(depths)}, choices={tuple(map(tuple, choices))} and '
      f'strides={tuple(strides)} must have one entry for each stage.'
    )
  own = tuple(expansions) or (None,) * len(depths)
  if len(own) != len(depths):
    raise ValueError(
      f'expansions={own} must have one entry for each of {len(depths)} stages, '
      'or none.'
    )
  blocks: list[Block] = []
  widest = stem_features
  for depth, widths, stage_stride, times in zip(
    depths, choices, strides, own, strict=True
  ):
    for index in range(depth):
      stride = stage_stride if index == 0 else 1
      residual = stride == 1 and max(widths) == widest
      blocks.append(Block(tuple(widths), stride, residual, times))
      widest = max(widths)
  return SearchSpace(
    blocks=tuple(blocks),
    stem_features=stem_features,
    stem_stride=stem_stride,
    expansion=expansion,
    kernel_size=kernel_size,
    shortcut=shortcut,
    squeeze_excite=squeeze_excite,
    head_features=head_features,
  )


# Table 13.
CIFAR_SPACES = {
  name: from_stages(*row, (1, 2, 2)) for name, row in space_tables.CIFAR.items()
}
_STRIDES = (2, 2, 2, 1, 2)


def _gated(row: space_tables.TableRow) -> SearchSpace:
  return from_stages(
    *row,
    _STRIDES[: len(row.depths)],
    squeeze_excite=0.25,
    head_features=1280,
  )


def _released(row: space_tables.TableRow) -> SearchSpace:
  return from_stages(
    (1, *row.depths),
    ((16,), *row.choices),
    (1, *_STRIDES[: len(row.depths)]),
    expansions=(1, *(6 for _ in row.depths)),
    head_features=1984,
  )


# Table 14, with the decisions that `space_tables` explains.
IMAGENET_SPACES = {
  name: _gated(row) if name == 'il' else _released(row)
  for name, row in space_tables.IMAGENET.items()
} | {
  f'{name}_se': _gated(row)
  for name, row in space_tables.IMAGENET.items()
  if name != 'il'
}


def with_operators(
  space: SearchSpace,
  *,
  kernel_sizes: Sequence[int] = (),
  expansions: Sequence[int] = (),
  depth: bool = False,
) -> SearchSpace:
  """The space in which more than widths is searched.

  Args:
    space: a search space.
    kernel_sizes: choices of every block, odd; none leaves what the block has.
    expansions: choices of every block, above 1; blocks of expansion 1 keep it.
    depth: whether blocks may be skipped: those after the first, of stride 1,
      whose filter choices are the choices of their input.

  Returns:
    The space; an equal one where nothing is given.

  Raises:
    ValueError: if a value is invalid, or no block can be skipped or expands.
  """
  blocks = tuple(
    dataclasses.replace(
      block,
      kernel_choices=tuple(kernel_sizes),
      expansion_choices=(
        tuple(expansions) if space.expansion_of(block) > 1 else ()
      ),
      # The first stays, so that every network has a block.
      skippable=(
        depth and index > 0 and block.stride == 1 and entering == block.choices
      ),
    )
    for index, (block, entering) in enumerate(
      zip(space.blocks, space.input_choices, strict=True)
    )
  )
  if depth and not any(block.skippable for block in blocks):
    raise ValueError(
      'No block of this space can be skipped: none after the first has stride '
      '1 and the filter choices of its input. Give a stage a second block, or '
      'do not search the depth.'
    )
  if expansions and not any(block.expansion_choices for block in blocks):
    raise ValueError(
      'No block of this space expands: all have an expansion of 1. Do not '
      'search expansions.'
    )
  return dataclasses.replace(space, blocks=blocks)


def with_features(
  space: SearchSpace,
  features: Sequence[int],
  operators: Sequence[Operator] = (),
) -> SearchSpace:
  """The space of the derived network, in which every block has one choice.

  Args:
    space: the space to choose from.
    features: one width for each block, among the block's choices; a skipped
      block has that of its input.
    operators: one for each block, or none: the largest of all, none skipped.

  Returns:
    A space of one-choice blocks, without the skipped ones: its network is the
    derived network.

  Raises:
    ValueError: if a width or an operator is not among its block's choices.
  """
  if len(features) != len(space.blocks):
    raise ValueError(
      f'{len(features)} widths were given for {len(space.blocks)} blocks.'
    )
  operators = tuple(operators) or (Operator(),) * len(features)
  blocks, entering = [], space.stem_features
  for index, (block, width, operator) in enumerate(
    zip(space.blocks, features, operators, strict=True)
  ):
    if width not in block.choices:
      raise ValueError(
        f'Width {width} of block {index} is not one of {block.choices}.'
      )
    if not operator.skipped:
      blocks.append(_chosen(index, block, int(width), operator))
    elif not block.skippable or width != entering:
      raise ValueError(
        f'Block {index} of width {width} is skipped behind a width of '
        f'{entering}; it must be skippable and have the width of its input.'
      )
    entering = width
  return dataclasses.replace(space, blocks=tuple(blocks))


def _chosen(index: int, block: Block, width: int, operator: Operator) -> Block:
  """The block with one choice of everything."""
  chosen: dict[str, Any] = {}
  for name, choices, value in (
    ('kernel_size', block.kernel_choices, operator.kernel_size),
    ('expansion', block.expansion_choices, operator.expansion),
  ):
    if choices:
      chosen[name] = max(choices) if value is None else value
    if choices and chosen[name] not in choices:
      raise ValueError(
        f'{name}={value} of block {index} is not one of {choices}.'
      )
  return dataclasses.replace(
    block,
    choices=(width,),
    kernel_choices=(),
    expansion_choices=(),
    skippable=False,
    **chosen,
  )


def narrowest(space: SearchSpace) -> SearchSpace:
  """The derived space with the smallest width everywhere."""
  return with_features(space, [min(block.choices) for block in space.blocks])


def widest(space: SearchSpace) -> SearchSpace:
  """The derived space with the largest width everywhere."""
  return with_features(space, [block.widest for block in space.blocks])


def check_image(space: SearchSpace, image_shape: Sequence[int]) -> None:
  """Raises unless the space fits images of this shape.

  Args:
    space: the search space.
    image_shape: (H, W, C).

  Raises:
    ValueError: if a side is not a multiple of the product of all strides.
  """
  step = space.reduction
  for side in image_shape[:2]:
    if side % step or side < step:
      near = side // step * step
      fits = f'{near} or {near + step}' if near else str(step)
      raise ValueError(
        f'Images of {image_shape[0]}x{image_shape[1]} pixels do not fit a '
        f'search space whose strides multiply to {step}: each side must be a '
        f'multiple of {step}, such as {fits}. Resize the images, or lower '
        'stem_stride or the stage strides.'
      )


def maps(
  space: SearchSpace, image_shape: Sequence[int]
) -> list[tuple[int, int]]:
  """Height and width of the stem's output and of every block's output.

  Args:
    space: the search space.
    image_shape: (H, W, C).

  Raises:
    ValueError: as `check_image`.
  """
  check_image(space, image_shape)
  height, width = (side // space.stem_stride for side in image_shape[:2])
  sizes = [(height, width)]
  for block in space.blocks:
    height, width = height // block.stride, width // block.stride
    sizes.append((height, width))
  return sizes


def stage_ends(space: SearchSpace) -> tuple[int, ...]:
  """Indices of the blocks that end a stage: before each stride, and the last.

  Args:
    space: the search space.

  Returns:
    In forward order.
  """
  following = [block.stride for block in space.blocks[1:]]
  ends = [index for index, stride in enumerate(following) if stride > 1]
  return (*ends, len(space.blocks) - 1)


def layer_names(
  space: SearchSpace, *, blocks_only: bool = False
) -> tuple[str, ...]:
  """Names of the layers that can be taught, in forward order.

  Args:
    space: the search space.
    blocks_only: False names every convolution, after BatchNorm and activation
      (stem, then expand, if there is one, depthwise and project of each block);
      True names the output of every block.

  Returns:
    A tuple of S names, the order of the student's taps.
  """
  if blocks_only:
    return tuple(f'block{index}' for index in range(len(space.blocks)))
  names = ['stem']
  for index, block in enumerate(space.blocks):
    expands = space.expansion_of(block) > 1
    parts = ('expand', 'depthwise', 'project')[not expands :]
    names += [f'block{index}/{part}' for part in parts]
  return tuple(names)

"""Search spaces: those of the paper, others by stages, and parts of them.

Implements section 3.3 of RNAS-CL; Tables 13 and 14 are in `space_tables`.

Example:
  >>> from rnascl_jax.search import spaces
  >>> space = spaces.CIFAR_SPACES['s3']
  >>> len(space.blocks), space.blocks[-1].choices
  (9, (64, 60, 56, 52))
  >>> spaces.narrowest(space).blocks[-1].choices
  (52,)
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from rnascl_jax.search import space_tables
from rnascl_jax.search.space import Block, Operator, SearchSpace, Shortcut


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

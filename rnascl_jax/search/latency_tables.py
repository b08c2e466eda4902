"""Measured times of every block of a search space on one device.

`rnascl latency` makes such a table, and `costs` makes of it what a search takes
in the place of MACs. A block is known by its widths, stride and map, so that
one table serves all spaces that are made of the same blocks: S3, S5 and S7.

Example:
  >>> from rnascl_jax.search import latency_tables
  >>> latency_tables.shipped()
  ('digits_cpu', 'digits_onnx_cpu', 's3_cpu', 's3_onnx_cpu')
"""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnascl_jax.runtime import files, paths, spelling
from rnascl_jax.search import cost_tables, space_layers
from rnascl_jax.search.cost_tables import Costs
from rnascl_jax.search.space import Block, SearchSpace

FORMAT = 1
_SHIPPED = pathlib.Path(__file__).parent / 'latencies'
_REMEDY = 'Restore it from a copy, or make it again with rnascl latency.'


class MeasuredBlock(NamedTuple):
  """A block by all that its time depends on within one kind of network.

  Attributes:
    entering: width of its input.
    features: width of its output.
    stride: of its depthwise convolution.
    expansion: width of its inside over that of its input.
    residual: whether its input is added.
    height: of the map that enters.
    width: of the map that enters.
    kernel_size: of its depthwise convolution; None for that of the network.
  """

  entering: int
  features: int
  stride: int
  expansion: int
  residual: bool
  height: int
  width: int
  kernel_size: int | None = None

  def __str__(self) -> str:
    return (
      f'{self.entering} -> {self.features} channels, stride {self.stride}, '
      f'expansion {self.expansion}, {self.height}x{self.width}'
      + ', residual' * self.residual
      + f', kernel {self.kernel_size}' * bool(self.kernel_size)
    )


@dataclasses.dataclass(frozen=True)
class LatencyTable:
  """Times in microseconds on one device.

  Attributes:
    device: its name.
    runtime: what ran the network, with its version.
    network: what all blocks share, see `network_facts`.
    batches: numbers of images that were run at once; times are of a batch.
    stem: the stem's time for each of the batches.
    blocks: times of blocks for each of the batches.
    head: times of what follows the last block, by the width of that block.
    additivity: how sums of these times compare with times of whole networks.
    provenance: command, versions, settings.
  """

  device: str
  runtime: str
  network: Mapping[str, Any]
  batches: tuple[int, ...]
  stem: tuple[float, ...]
  blocks: Mapping[MeasuredBlock, tuple[float, ...]]
  head: Mapping[int, tuple[float, ...]]
  additivity: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def network_facts(
  space: SearchSpace, image_shape: Sequence[int], num_classes: int
) -> dict[str, Any]:
  """What the times of all blocks of a space depend on besides the block.

  Args:
    space: the search space.
    image_shape: (H, W, C).
    num_classes: K.

  Raises:
    ValueError: if the space does not fit the image.
  """
  return {
    'image_shape': [*image_shape],
    'num_classes': num_classes,
    'stem_features': space.stem_features,
    'stem_stride': space.stem_stride,
    'last_map': [*space_layers.maps(space, image_shape)[-1]],
    'kernel_size': space.kernel_size,
    'expansion': space.expansion,
    'shortcut': space.shortcut.value,
    'squeeze_excite': space.squeeze_excite,
    'head_features': space.head_features,
  }


def measured_blocks(
  space: SearchSpace, image_shape: Sequence[int]
) -> list[list[list[MeasuredBlock]]]:
  """What a table has of each block, a row for each width that enters it.

  A row has the block's widths and, changing faster, its `variants`.

  Args:
    space: the search space.
    image_shape: (H, W, C).
  """
  sizes = space_layers.maps(space, image_shape)
  return [
    [
      [
        _measured(space, variant, entering, features, size)
        for features in block.choices
        for variant in block.variants
      ]
      for entering in choices
    ]
    # The last map enters no block.
    for block, choices, size in zip(
      space.blocks, space.input_choices, sizes[:-1], strict=True
    )
  ]


def _measured(
  space: SearchSpace,
  block: Block,
  entering: int,
  features: int,
  size: tuple[int, int],
) -> MeasuredBlock:
  kernel_size = space.kernel_of(block)
  return MeasuredBlock(
    entering,
    features,
    block.stride,
    space.expansion_of(block),
    block.residual,
    *size,
    None if kernel_size == space.kernel_size else kernel_size,
  )


def costs(
  table: LatencyTable,
  space: SearchSpace,
  image_shape: Sequence[int],
  num_classes: int,
  *,
  batch: int = 1,
) -> Costs:
  """Tables of microseconds for all choices of a space.

  Args:
    table: what was measured.
    space: the search space.
    image_shape: (H, W, C).
    num_classes: K.
    batch: images at once.

  Returns:
    The tables, microseconds for a batch.

  Raises:
    ValueError: if the table is of another kind of network or image, lacks a
      block or was not measured with this batch.
  """
  known = dict(table.network)
  needed = network_facts(space, image_shape, num_classes)
  differ = [
    f'{name}: {known.get(name)} in the table, {value} here'
    for name, value in needed.items()
    if known.get(name) != value
  ]
  if differ:
    raise ValueError(
      f'it is of another space or other images ({"; ".join(differ)})'
    )
  if batch not in table.batches:
    raise ValueError(
      f'it has no times of {batch} images at once; it has '
      f'{", ".join(map(str, table.batches))}'
    )
  column = table.batches.index(batch)
  blocks = measured_blocks(space, image_shape)
  wanted = [block for choices in blocks for row in choices for block in row]
  missing = [block for block in wanted if block not in table.blocks]
  if missing:
    raise ValueError(
      f'it lacks {len(missing)} of the {len(wanted)} blocks of this space, '
      f'such as {missing[0]}'
    )
  heads = [width for width in space.blocks[-1].choices]
  if not set(heads) <= table.head.keys():
    raise ValueError(f'it lacks a classifier behind some of the widths {heads}')
  sizes = space_layers.maps(space, image_shape)

  def price(index: int, block: Block, entering: int, features: int) -> float:
    measured = _measured(space, block, entering, features, sizes[index])
    return table.blocks[measured][column]

  return Costs(
    cost_tables.tabulate(space, price),
    table.stem[column],
    np.array([table.head[width][column] for width in heads]),
  )


def write(table: LatencyTable, path: str | os.PathLike[str]) -> None:
  """Writes a table as JSON, a block a line, atomically."""
  fields = dataclasses.asdict(table) | {
    'format': FORMAT,
    'unit': 'microseconds for a batch',
    'blocks': [
      {**_facts(block), 'us': times} for block, times in table.blocks.items()
    ],
    'head': [
      {'features': width, 'us': times} for width, times in table.head.items()
    ],
  }
  files.write_atomically(path, _text(files.to_json(fields)))


def read(name: str) -> LatencyTable:
  """Reads a table.

  Args:
    name: a path that ends in .json, or the name of a table that is shipped.

  Raises:
    ValueError: there is no such table, or the file is none.
    DamagedFileError: the file is damaged.
  """
  path = _located(name)
  saved = files.read_json(path, 'format', 'blocks', 'head', remedy=_REMEDY)
  if saved['format'] != FORMAT:
    raise ValueError(
      f'{path} has format={saved["format"]!r}, and {FORMAT} is read here: make '
      'it again with rnascl latency.'
    )
  with files.naming(path, _REMEDY):
    blocks = {}
    for row in saved['blocks']:
      facts = {name: row[name] for name in MeasuredBlock._fields[:-1]}
      # Tables of one kernel size do not repeat it.
      block = MeasuredBlock(**facts, kernel_size=row.get('kernel_size'))
      blocks[block] = _times(row['us'], saved['batches'])
    return LatencyTable(
      device=saved['device'],
      runtime=saved['runtime'],
      network=saved['network'],
      batches=tuple(saved['batches']),
      stem=_times(saved['stem'], saved['batches']),
      blocks=blocks,
      head={
        row['features']: _times(row['us'], saved['batches'])
        for row in saved['head']
      },
      additivity=saved.get('additivity', {}),
      provenance=saved.get('provenance', {}),
    )


def shipped() -> tuple[str, ...]:
  """The names of the tables that come with the package."""
  return tuple(sorted(path.stem for path in _SHIPPED.glob('*.json')))


def _facts(block: MeasuredBlock) -> dict[str, Any]:
  facts = block._asdict()
  return {k: value for k, value in facts.items() if value is not None}


def _text(fields: Mapping[str, Any]) -> str:
  """JSON with a line for each field, and for each object of a list."""
  parts = []
  for name, value in fields.items():
    text = json.dumps(value)
    if isinstance(value, list) and value and isinstance(value[0], dict):
      rows = ',\n'.join(f'    {json.dumps(row)}' for row in value)
      text = f'[\n{rows}\n  ]'
    parts.append(f'  {json.dumps(name)}: {text}')
  return '{\n' + ',\n'.join(parts) + '\n}\n'


def _located(name: str) -> pathlib.Path:
  if not name.endswith('.json'):
    known = shipped()
    if name not in known:
      raise ValueError(
        f'There is no table {name!r}.{spelling.did_you_mean(name, known)} Name '
        'a file that ends in .json, which rnascl latency makes, or one of '
        f'{", ".join(known)}.'
      )
    return _SHIPPED / f'{name}.json'
  path = paths.local(name, 'TABLE')
  if not path.is_file():
    raise ValueError(f'{path} does not exist: make it with rnascl latency.')
  return path


def _times(
  values: Sequence[float], batches: Sequence[int]
) -> tuple[float, ...]:
  """Positive times, one for each batch."""
  times = tuple(float(value) for value in values)
  if len(times) != len(batches) or not all(0 < t < math.inf for t in times):
    raise ValueError(f'{times} must be {len(batches)} positive numbers')
  return times

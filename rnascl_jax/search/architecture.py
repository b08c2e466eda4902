"""The architecture a search decides: filters per block and tutor per layer.

`derive` takes the arg max of the noise-free logits (RNAS-CL, section 3.4). An
`Architecture` is written as JSON that a person can read and that loads without
this library.

Example:
  >>> import jax
  >>> from rnascl_jax.search import arch_params, architecture, spaces
  >>> space = spaces.from_stages([1], [(4, 2)], [1])
  >>> params = arch_params.init_arch_params(space, 4, 2)
  >>> arch = architecture.derive(space, params, ('conv1', 'conv2'))
  >>> arch.features, arch.tutors
  ((4,), (0, 0, 0, 0))
  >>> architecture.from_dict(architecture.to_dict(arch)) == arch
  True
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.base import Array
from rnascl_jax.search import cost_tables, space_layers, spaces
from rnascl_jax.search.arch_params import ArchParams, init_arch_params
from rnascl_jax.search.space import Block, Operator, SearchSpace, Shortcut

# Format 2 has kernel sizes of blocks, and blocks that were skipped.
FORMAT, _WIDTHS_ALONE = 2, 1


@dataclasses.dataclass(frozen=True)
class Architecture:
  """What a search decided.

  Attributes:
    space: the searched space, all choices included.
    features: chosen filters of each block; a skipped one has its input's.
    tutors: for each of S student layers the index of its teacher layer.
    student_layers: names of the layers of the derived network, length S.
    teacher_layers: names of the teacher layers, length T; they give the tutors'
      indices their meaning.
    operators: what else was chosen of each block; () where but widths were.
  """

  space: SearchSpace
  features: tuple[int, ...]
  tutors: tuple[int, ...]
  student_layers: tuple[str, ...]
  teacher_layers: tuple[str, ...]
  operators: tuple[Operator, ...] = ()

  def __post_init__(self):
    spaces.with_features(self.space, self.features, self.operators)
    if len(self.tutors) != len(self.student_layers):
      raise ValueError(
        f'{len(self.tutors)} tutors were given for '
        f'{len(self.student_layers)} student layers.'
      )
    for tutor in self.tutors:
      if not 0 <= tutor < len(self.teacher_layers):
        raise ValueError(
          f'Tutor {tutor} is not one of the {len(self.teacher_layers)} teacher '
          'layers; was the architecture searched with another teacher?'
        )

  @property
  def derived_space(self) -> SearchSpace:
    """The one-choice space, that of the derived network."""
    return spaces.with_features(self.space, self.features, self.operators)


def derive(
  space: SearchSpace,
  params: ArchParams,
  teacher_layers: tuple[str, ...],
  *,
  blocks_only: bool = False,
) -> Architecture:
  """The most probable filters and tutors, from the logits without noise.

  Args:
    space: the searched space.
    params: the logits after the search.
    teacher_layers: names of the T teacher layers.
    blocks_only: whether only the outputs of blocks were taught.

  Returns:
    The architecture.

  Raises:
    ValueError: if the logits do not fit the space or the teacher.
  """
  names = space_layers.layer_names(space, blocks_only=blocks_only)
  expected = (len(names), len(teacher_layers))
  if params.tutor_logits.shape != expected:
    raise ValueError(
      f'tutor_logits of shape {params.tutor_logits.shape} do not fit '
      f'{expected[0]} student and {expected[1]} teacher layers.'
    )
  blank = init_arch_params(space, *expected).channel_logits
  sizes, choices = (
    jax.tree.map(lambda logits: logits.shape, logits)
    for logits in (list(params.channel_logits), list(blank))
  )
  if sizes != choices:
    raise ValueError(
      f'channel_logits of shapes {sizes} do not fit blocks whose numbers of '
      f'choices are {choices}.'
    )
  features, operators = _chosen(space, params)
  best = np.argmax(params.tutor_logits, -1)
  tutors = tuple(int(best[layer]) for layer in kept(names, operators))
  derived = spaces.with_features(space, features, operators)
  return Architecture(
    space,
    features,
    tutors,
    space_layers.layer_names(derived, blocks_only=blocks_only),
    tuple(teacher_layers),
    operators,
  )


def kept(names: Sequence[str], operators: Sequence[Operator]) -> list[int]:
  """Places of what the derived network has of the supernet.

  Args:
    names: of all layers, or blocks, of the supernet.
    operators: of an architecture.
  """
  skipped = {f'block{i}' for i, o in enumerate(operators) if o.skipped}
  blocks = [name.partition('/')[0] for name in names]
  return [i for i, block in enumerate(blocks) if block not in skipped]


def _chosen(
  space: SearchSpace, params: ArchParams
) -> tuple[tuple[int, ...], tuple[Operator, ...]]:
  """Widths and operators; no operators where but widths are searched."""
  features, operators, entering = [], [], space.stem_features
  for block, logits in zip(space.blocks, params.channel_logits, strict=True):
    best = {
      name: int(np.argmax(values))
      for name, values in cost_tables.factors(logits).items()
    }
    values = {
      name: choices[best[name]]
      for name, choices in block.operator_choices.items()
    }
    operator = Operator(skipped=bool(values.get('depth')))
    if not operator.skipped:
      entering = block.choices[best['width']]
      operator = Operator(values.get('kernel'), values.get('expansion'))
    features.append(entering)
    operators.append(operator)
  return tuple(features), tuple(operators) if space.has_operators else ()


def tutor_weights(arch: Architecture) -> Array:
  """The one-hot weights g_ij of the training phase, [S, T]."""
  return jax.nn.one_hot(
    jnp.array(arch.tutors, jnp.int32), len(arch.teacher_layers)
  )


def to_dict(arch: Architecture) -> dict[str, Any]:
  """The architecture as numbers, strings, lists and dicts."""
  space = arch.space
  rows = [_block_fields(arch, index) for index in range(len(space.blocks))]
  skipped = [row for row in rows if 'features' not in row]
  wider = space.has_operators or any(b.kernel_size for b in space.blocks)
  return {
    'format': FORMAT if wider else _WIDTHS_ALONE,
    'stem': space.stem_features,
    'stem_stride': space.stem_stride,
    'expansion': space.expansion,
    'kernel_size': space.kernel_size,
    'shortcut': space.shortcut.value,
    'squeeze_excite': space.squeeze_excite,
    'head_features': space.head_features,
    'blocks': [row for row in rows if 'features' in row],
    **({'skipped': skipped} if skipped else {}),
    'tutors': [
      {
        'layer': name,
        'tutor': tutor,
        'tutor_layer': arch.teacher_layers[tutor],
      }
      for name, tutor in zip(arch.student_layers, arch.tutors, strict=True)
    ],
    'teacher_layers': list(arch.teacher_layers),
  }


def _block_fields(arch: Architecture, index: int) -> dict[str, Any]:
  """A block of the derived network, or a skipped one without `features`."""
  space, block = arch.space, arch.space.blocks[index]
  operator = arch.operators[index] if arch.operators else Operator()
  if operator.skipped:
    return {'index': index, **_searched(block)}
  entering = (space.stem_features, *arch.features)[index]
  fields = {
    'features': arch.features[index],
    **_searched(block),
    # So that readers need not round as `SearchSpace.squeezed` does.
    'squeezed': space.squeezed(block, entering),
    **({'expansion': block.expansion} if block.expansion else {}),
    **({'kernel_size': block.kernel_size} if block.kernel_size else {}),
  }
  if block.expansion_choices:
    fields['expansion'] = operator.expansion or space.expansion_of(block)
  if block.kernel_choices:
    fields['kernel_size'] = operator.kernel_size or space.kernel_of(block)
  return fields


def _searched(block: Block) -> dict[str, Any]:
  """What is known of a block before the search."""
  others = {
    'kernel_choices': list(block.kernel_choices),
    'expansion_choices': list(block.expansion_choices),
    'skippable': block.skippable,
  }
  return {
    'choices': list(block.choices),
    'stride': block.stride,
    'residual': block.residual,
    **{name: value for name, value in others.items() if value},
  }


def from_dict(fields: dict[str, Any]) -> Architecture:
  """The inverse of `to_dict`; further fields are ignored.

  Args:
    fields: what `to_dict` returned, perhaps through JSON.

  Returns:
    The architecture.

  Raises:
    ValueError: if the format is another one or a value is invalid.
  """
  if fields.get('format') not in (_WIDTHS_ALONE, FORMAT):
    raise ValueError(
      f'architecture format={fields.get("format")!r} is not the supported '
      f'{_WIDTHS_ALONE} or {FORMAT}; search again or convert the file.'
    )
  rows = [*fields['blocks']]
  for row in fields.get('skipped', ()):
    rows.insert(row['index'], row)
  blocks = tuple(_read_block(row) for row in rows)
  space = SearchSpace(
    blocks=blocks,
    stem_features=fields['stem'],
    stem_stride=fields['stem_stride'],
    expansion=fields['expansion'],
    kernel_size=fields['kernel_size'],
    shortcut=Shortcut(fields['shortcut']),
    # Architectures of earlier versions had neither.
    squeeze_excite=fields.get('squeeze_excite', 0.0),
    head_features=fields.get('head_features', 0),
  )
  features, operators = _read_choice(space, rows)
  derived = spaces.with_features(space, features, operators)
  layers = tuple(t['layer'] for t in fields['tutors'])
  known = [
    space_layers.layer_names(derived, blocks_only=only)
    for only in (False, True)
  ]
  if layers not in known:
    # Blocks of expansion 1 had a convolution that expands before version 0.2.
    raise ValueError(
      f'the architecture names {len(layers)} student layers {layers[:3]}..., '
      f'but its blocks have {len(known[0])}: {known[0][:3]}.... It was written '
      'by another version: search again.'
    )
  return Architecture(
    space=space,
    features=features,
    tutors=tuple(t['tutor'] for t in fields['tutors']),
    student_layers=layers,
    teacher_layers=tuple(fields['teacher_layers']),
    operators=operators,
  )


def _read_block(row: dict[str, Any]) -> Block:
  kernels = tuple(row.get('kernel_choices', ()))
  expansions = tuple(row.get('expansion_choices', ()))
  return Block(
    tuple(row['choices']),
    row['stride'],
    row['residual'],
    # What is searched is no property of the block; None is that of the space.
    None if expansions else row.get('expansion'),
    None if kernels else row.get('kernel_size'),
    kernels,
    expansions,
    row.get('skippable', False),
  )


def _read_choice(
  space: SearchSpace, rows: list[dict[str, Any]]
) -> tuple[tuple[int, ...], tuple[Operator, ...]]:
  """Widths and operators; a row without `features` is a skipped block."""
  features, operators, entering = [], [], space.stem_features
  for block, row in zip(space.blocks, rows, strict=True):
    entering = row.get('features', entering)
    features.append(entering)
    operators.append(
      Operator(
        row.get('kernel_size') if block.kernel_choices else None,
        row.get('expansion') if block.expansion_choices else None,
        'features' not in row,
      )
    )
  return tuple(features), tuple(operators) if space.has_operators else ()

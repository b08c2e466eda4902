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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.base import Array
from rnascl_jax.search import spaces
from rnascl_jax.search.arch_params import ArchParams
from rnascl_jax.search.spaces import Block, SearchSpace, Shortcut

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Architecture:
  """What a search decided.

  Attributes:
    space: the searched space, all choices included.
    features: chosen filters of each block.
    tutors: for each of S student layers the index of its teacher layer.
    student_layers: names of the student layers, length S.
    teacher_layers: names of the teacher layers, length T; they give the tutors'
      indices their meaning.
  """

  space: SearchSpace
  features: tuple[int, ...]
  tutors: tuple[int, ...]
  student_layers: tuple[str, ...]
  teacher_layers: tuple[str, ...]

  def __post_init__(self):
    spaces.with_features(self.space, self.features)
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
    return spaces.with_features(self.space, self.features)


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
  names = spaces.layer_names(space, blocks_only=blocks_only)
  expected = (len(names), len(teacher_layers))
  if params.tutor_logits.shape != expected:
    raise ValueError(
      f'tutor_logits of shape {params.tutor_logits.shape} do not fit '
      f'{expected[0]} student and {expected[1]} teacher layers.'
    )
  sizes = [logits.shape for logits in params.channel_logits]
  choices = [(len(block.choices),) for block in space.blocks]
  if sizes != choices:
    raise ValueError(
      f'channel_logits of shapes {sizes} do not fit blocks whose numbers of '
      f'choices are {choices}.'
    )
  features = tuple(
    block.choices[int(np.argmax(logits))]
    for block, logits in zip(space.blocks, params.channel_logits, strict=True)
  )
  tutors = tuple(int(j) for j in np.argmax(params.tutor_logits, axis=-1))
  return Architecture(space, features, tutors, names, tuple(teacher_layers))


def tutor_weights(arch: Architecture) -> Array:
  """The one-hot weights g_ij of the training phase, [S, T]."""
  return jax.nn.one_hot(
    jnp.array(arch.tutors, jnp.int32), len(arch.teacher_layers)
  )


def to_dict(arch: Architecture) -> dict[str, Any]:
  """The architecture as numbers, strings, lists and dicts."""
  space = arch.space
  return {
    'format': FORMAT,
    'stem': space.stem_features,
    'stem_stride': space.stem_stride,
    'expansion': space.expansion,
    'kernel_size': space.kernel_size,
    'shortcut': space.shortcut.value,
    'squeeze_excite': space.squeeze_excite,
    'head_features': space.head_features,
    'blocks': [
      {
        'features': width,
        'choices': list(block.choices),
        'stride': block.stride,
        'residual': block.residual,
        # So that readers need not round as `SearchSpace.squeezed` does.
        'squeezed': space.squeezed(block, entering),
        **({'expansion': block.expansion} if block.expansion else {}),
      }
      for block, width, entering in zip(
        space.blocks,
        arch.features,
        (space.stem_features, *arch.features[:-1]),
        strict=True,
      )
    ],
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


def from_dict(fields: dict[str, Any]) -> Architecture:
  """The inverse of `to_dict`; further fields are ignored.

  Args:
    fields: what `to_dict` returned, perhaps through JSON.

  Returns:
    The architecture.

  Raises:
    ValueError: if the format is another one or a value is invalid.
  """
  if fields.get('format') != FORMAT:
    raise ValueError(
      f'architecture format={fields.get("format")!r} is not the supported '
      f'{FORMAT}; search again or convert the file.'
    )
  blocks = tuple(
    Block(
      tuple(b['choices']),
      b['stride'],
      b['residual'],
      # None is that of the space.
      b.get('expansion'),
    )
    for b in fields['blocks']
  )
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
  layers = tuple(t['layer'] for t in fields['tutors'])
  known = [
    spaces.layer_names(space, blocks_only=only) for only in (False, True)
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
    features=tuple(b['features'] for b in fields['blocks']),
    tutors=tuple(t['tutor'] for t in fields['tutors']),
    student_layers=layers,
    teacher_layers=tuple(fields['teacher_layers']),
  )

"""Architecture parameters, draws of them, and the supernet's masks.

`ArchParams` are the logits over filter choices and tutors, a pytree beside the
network's weights; `sample` draws both by Gumbel-Softmax and `masks` turns the
drawn filters into inputs of the supernet. Implements sections 3.2-3.4 of
RNAS-CL; the masks are those of Wan et al., FBNetV2, CVPR 2020, section 3.1.

Example:
  >>> import jax
  >>> from rnascl_jax.search import arch_params, spaces
  >>> space = spaces.from_stages([1], [(4, 2)], [1])
  >>> params = arch_params.init_arch_params(space, 4, 7)
  >>> draw = arch_params.probabilities(params)
  >>> print(arch_params.masks(space, draw.channels).features[0])
  [1.  1.  0.5 0.5]
"""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.base import Array, Key
from rnascl_jax.search import cost_tables, gumbel
from rnascl_jax.search.cost_tables import Choices
from rnascl_jax.search.space import Block, Operator, SearchSpace
from rnascl_jax.search.spaces import with_features


class ArchParams(NamedTuple):
  """Architecture parameters, optimised beside the network's weights.

  Attributes:
    channel_logits: for each block [N], over its filter choices; where more is
      searched, a dict: 'width' [N], and of 'kernel' [K], 'expansion' [E] and
      'depth' [2] (kept, skipped) what is searched.
    tutor_logits: [S, T], over the teacher layers for each student layer.
  """

  channel_logits: tuple[Choices, ...]
  tutor_logits: Array


class Sample(NamedTuple):
  """A draw of the architecture, the Gumbel weights of section 3.4.

  Attributes:
    channels: for each block [N], weights g_w summing to 1, or a dict of such
      weights, drawn independently, as in `ArchParams`.
    tutors: [S, T], weights g_ij summing to 1 over the teacher layers.
  """

  channels: tuple[Choices, ...]
  tutors: Array


class Masks(NamedTuple):
  """What a draw of the filters means for the supernet's blocks.

  Attributes:
    features: for each block [F], sum_i g_i 1[k < f_i] for channel k: 1 for the
      channels all choices have, falling to g of the widest.
    agreement: for each block [F], the part of `features` whose width equals
      the input's, sum_i g_i P(input is f_i wide) 1[k < f_i]; decides between
      the two forms of a residual.
    operators: for each block what multiplies its other parts, none where but
      the width is searched: 'kernel' [k, k], 'expansion' [e] of the inside
      channels of one input channel, 'depth' [2], kept and skipped.
  """

  features: tuple[Array, ...]
  agreement: tuple[Array, ...]
  operators: tuple[dict[str, Array], ...] = ()


def init_arch_params(
  space: SearchSpace, student_layers: int, teacher_layers: int
) -> ArchParams:
  """All logits zero: every choice and every tutor equally likely."""
  return ArchParams(
    channel_logits=tuple(_zeros(block) for block in space.blocks),
    tutor_logits=jnp.zeros((student_layers, teacher_layers)),
  )


def _zeros(block: Block) -> Choices:
  width = jnp.zeros(len(block.choices))
  others = {
    name: jnp.zeros(len(choices))
    for name, choices in block.operator_choices.items()
  }
  return {'width': width} | others if others else width


def sample(
  key: Key,
  params: ArchParams,
  *,
  temperature: float | Array,
  noise: gumbel.Noise = jax.random.gumbel,
  hard: bool = False,
) -> Sample:
  """Draws filters and tutors by Gumbel-Softmax.

  Args:
    key: random key, consumed.
    params: the logits.
    temperature: positive scalar tau.
    noise: as in `gumbel.gumbel_softmax`.
    hard: as in `gumbel.gumbel_softmax`.

  Returns:
    The draw, shaped like the logits.
  """
  leaves, structure = jax.tree.flatten(Sample(*params))
  keys = jax.random.split(key, len(leaves))
  draws = [
    gumbel.gumbel_softmax(
      k, logits, temperature=temperature, noise=noise, hard=hard
    )
    for k, logits in zip(keys, leaves, strict=True)
  ]
  return jax.tree.unflatten(structure, draws)


def probabilities(params: ArchParams) -> Sample:
  """The noise-free softmax of the logits, in the place of a draw."""
  return jax.tree.map(jax.nn.softmax, Sample(*params))


def masks(space: SearchSpace, channels: Sequence[Choices]) -> Masks:
  """Masks of the supernet for given weights of the choices.

  Args:
    space: the search space.
    channels: for each block weights summing to 1, as in `Sample`.

  Returns:
    The masks; one-hot weights give masks of zeros and ones.
  """
  features, agreement, operators = [], [], []
  before: tuple[int, ...] = (space.stem_features,)
  entering = jnp.ones(1)
  for block, choices in zip(space.blocks, channels, strict=True):
    weights = cost_tables.factors(choices)['width']
    chex.assert_shape(weights, (len(block.choices),))
    widths = np.array(block.choices)
    prefixes = np.arange(block.widest)[None] < widths[:, None]  # [N, F]
    kept = prefixes.astype(weights.dtype)
    features.append(weights @ kept)
    same = np.array(before)[:, None] == widths[None]  # [N_in, N]
    same_width = entering @ same.astype(weights.dtype)  # [N]
    agreement.append((weights * same_width) @ kept)
    operators.append(_operator_masks(block, choices))
    entering = cost_tables.leaving(entering, choices)
    before = block.choices
  searched = tuple(operators) if space.has_operators else ()
  return Masks(tuple(features), tuple(agreement), searched)


def _operator_masks(block: Block, choices: Choices) -> dict[str, Array]:
  weights = cost_tables.factors(choices)
  made = {}
  if 'kernel' in weights:
    sizes = np.array(block.kernel_choices)
    offsets = np.abs(np.arange(max(sizes)) - max(sizes) // 2)
    ring = np.maximum.outer(offsets, offsets)  # [k, k], 0 in the middle.
    inside = ring <= (sizes // 2)[:, None, None]
    made['kernel'] = jnp.tensordot(
      weights['kernel'], inside.astype(weights['kernel'].dtype), 1
    )
  if 'expansion' in weights:
    sizes = np.array(block.expansion_choices)
    kept = np.arange(max(sizes))[None] < sizes[:, None]
    made['expansion'] = weights['expansion'] @ kept.astype(
      weights['expansion'].dtype
    )
  if 'depth' in weights:
    made['depth'] = weights['depth']
  return made


def one_hot(
  space: SearchSpace,
  features: Sequence[int],
  operators: Sequence[Operator] = (),
) -> tuple[Choices, ...]:
  """The weights of each block that choose these widths and operators."""
  # Raises on what is no choice.
  with_features(space, features, operators)
  operators = tuple(operators) or (Operator(),) * len(features)
  weights: list[Choices] = []
  for block, width, operator in zip(
    space.blocks, features, operators, strict=True
  ):
    hot = jnp.asarray(np.array(block.choices) == width, jnp.float32)
    others = {
      name: jax.nn.one_hot(place, len(block.operator_choices[name]))
      for name, place in operator.places(block).items()
    }
    weights.append({'width': hot} | others if others else hot)
  return tuple(weights)

"""Squeeze-excite: every image weighs the channels of a block's inside.

As in FBNetV2's published blocks: global average, a linear layer to a part of
the width, hard-swish as in the rest of the block, a linear layer back, and a
hard sigmoid that multiplies the channels. How many hidden units there are
depends on the width that enters the block, so that they are masked as well.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.models import squeeze_excite
  >>> from rnascl_jax.search import spaces
  >>> space = spaces.from_stages(
  ...   [1], [(4,)], [1], expansion=2, squeeze_excite=0.25)
  >>> # Two channels bring the first of the units, four the second.
  >>> mask = jnp.array([1.0, 0.9, 0.3, 0.2])
  >>> print(squeeze_excite.hidden_mask(space, space.blocks[0], mask))
  [1.  0.3]

Reference:
  Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, section 3; Wan et al.,
  FBNetV2, CVPR 2020, and its code, facebookresearch/mobile-vision.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from rnascl_jax.base import Array
from rnascl_jax.search.space import Block, SearchSpace


def hidden_mask(space: SearchSpace, block: Block, entering: Array) -> Array:
  """The mask of the hidden units that belongs to a mask of the block's input.

  Args:
    space: the search space, with squeeze-excite.
    block: the block.
    entering: [C] mask of the input, not increasing.

  Returns:
    [Q], Q the hidden units of the widest input: for each unit the mask of the
    first channel without which the network would not have it.
  """
  widths = range(1, entering.shape[0] + 1)
  units = [space.squeezed(block, width) for width in widths]
  first = np.searchsorted(units, np.arange(units[-1]), side='right')  # [Q]
  return entering[first]


class SqueezeExcite(nn.Module):
  """Multiplies channels by gates in [0, 1].

  Means and gates are float32 at least: they are small, whatever the maps are.

  Attributes:
    hidden: units of the inside.
  """

  hidden: int

  @nn.compact
  def __call__(self, x: Array, mask: Array | None) -> Array:
    """Applies the gates.

    Args:
      x: [B, H, W, C], already masked.
      mask: [Q] of the hidden units, or None.

    Returns:
      [B, H, W, C] of the type of x.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    pooled = x.mean((1, 2), dtype=wide)  # [B, C]
    hidden = nn.hard_swish(nn.Dense(self.hidden, name='squeeze')(pooled))
    if mask is not None:
      hidden *= mask.astype(hidden.dtype)[None]
    gates = nn.hard_sigmoid(nn.Dense(x.shape[-1], name='excite')(hidden))
    return x * gates[:, None, None].astype(x.dtype)

"""The pooled head of the ImageNet students: `ir_pool` of FBNetV2.

An inverted residual whose depthwise convolution is a global average: a 1x1
convolution expands the last block's output, with BatchNorm and hard-swish; the
means go through a linear layer and hard-swish to the classifier. It is no
searched block and no layer that is taught.

Example:
  >>> import functools, jax, jax.numpy as jnp
  >>> from rnascl_jax.models import batch_norm, pooled_head
  >>> norm = functools.partial(
  ...   batch_norm.BatchNorm, use_running_average=True)
  >>> head = pooled_head.PooledHead(features=5, expansion=6, norm=norm)
  >>> x = jnp.ones((1, 2, 2, 3))
  >>> head.init_with_output(jax.random.key(0), x, None)[0].shape
  (1, 5)

Reference:
  Wan et al., FBNetV2, CVPR 2020, and its code, facebookresearch/mobile-vision.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from rnascl_jax.base import Array
from rnascl_jax.models import layers


class PooledHead(nn.Module):
  """Expand by 1x1, global average, linear layer.

  Attributes:
    features: of the result.
    expansion: width of the inside over that of the input.
    norm: makes a BatchNorm.
    dtype: compute type of the maps; means and features are float32 at least.
  """

  features: int
  expansion: int
  norm: Callable[..., nn.Module]
  dtype: jnp.dtype | None = None

  @nn.compact
  def __call__(self, x: Array, mask: Array | None) -> Array:
    """Applies the head.

    Args:
      x: [B, H, W, C], already masked.
      mask: [C] of x, or None.

    Returns:
      [B, features].
    """
    width = x.shape[-1] * self.expansion
    expand = layers.Pointwise(width, self.dtype, name='expand')
    expanded = nn.hard_swish(self.norm(name='expand_norm')(expand(x)))
    wide = jnp.promote_types(expanded.dtype, jnp.float32)
    pooled = expanded.mean((1, 2), dtype=wide)  # [B, 6 C]
    if mask is not None:
      pooled *= jnp.repeat(mask, self.expansion).astype(wide)[None]
    return nn.hard_swish(nn.Dense(self.features, name='features')(pooled))

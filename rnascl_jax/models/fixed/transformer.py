"""Parts of Vision Transformers: patches, attention, perceptron, block.

Layout and names are timm's; see `vit` for the network.

Example:
  >>> import jax
  >>> from flax import linen as nn
  >>> from rnascl_jax.models.fixed import transformer
  >>> block = transformer.TransformerBlock(
  ...   (2, 0.5, True), 16, nn.Dense, nn.LayerNorm
  ... )
  >>> tokens = jax.numpy.zeros((1, 5, 8))
  >>> block.init_with_output(jax.random.key(0), tokens)[0].shape
  (1, 5, 8)

Reference:
  Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021, section 3.1.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from rnascl_jax.base import Array
from rnascl_jax.models.fixed import blocks

# timm truncates it at -2 and 2, a hundred standard deviations out.
normal_init = nn.initializers.normal(0.02)


def _per_patch(
  images: Array, kernel: Array, strides: Any, padding: Any, **options: Any
) -> Array:
  """The convolution of patches that do not overlap, as one matrix product."""
  del strides, padding, options  # Those of the kernel's shape.
  size, (b, h, w, c) = kernel.shape[0], images.shape
  patches = images.reshape(b, h // size, size, w // size, size, c)
  return jnp.einsum('bhiwjc,ijcd->bhwd', patches, kernel)


class PatchEmbed(nn.Module):
  """Images [B, H, W, C] -> tokens [B, H / size, W / size, D].

  Attributes:
    size: side of a patch.
    width: D.
    dtype: of computation.
  """

  size: int
  width: int
  dtype: Dtype | None

  @nn.compact
  def __call__(self, images: Array) -> Array:
    return nn.Conv(
      self.width,
      (self.size, self.size),
      strides=(self.size, self.size),
      padding='VALID',
      dtype=self.dtype,
      # U(-1, 1) / sqrt(inputs), as in PyTorch.
      kernel_init=nn.initializers.variance_scaling(
        1.0 / 3.0, 'fan_in', 'uniform'
      ),
      conv_general_dilated=_per_patch,
      name='proj',
    )(images)


class Attention(nn.Module):
  """Self-attention, [B, N, D] -> [B, N, D]; its softmax is in float32.

  Attributes:
    heads: number of heads, a divisor of D.
    scale: factor of the products of queries and keys.
    qkv_bias: whether queries, keys and values have a bias.
    dense: makes a linear layer.
  """

  heads: int
  scale: float
  qkv_bias: bool
  dense: blocks.Factory

  @nn.compact
  def __call__(self, x: Array) -> Array:
    b, n, d = x.shape
    qkv = self.dense(3 * d, use_bias=self.qkv_bias, name='qkv')(x)
    qkv = qkv.reshape(b, n, 3, self.heads, d // self.heads)
    query, key, value = (qkv[:, :, i] for i in range(3))  # [B, N, heads, d]
    wide = jnp.promote_types(x.dtype, jnp.float32)
    scores = jnp.einsum(
      'bnhd,bmhd->bhnm', query, key, preferred_element_type=wide
    )
    weights = nn.softmax(scores * self.scale).astype(value.dtype)
    mixed = jnp.einsum('bhnm,bmhd->bnhd', weights, value).reshape(b, n, d)
    return self.dense(d, name='proj')(mixed)


class Mlp(nn.Module):
  """Two linear layers with an exact GELU between them, [B, N, D] -> the same.

  Attributes:
    hidden: features between them.
    dense: makes a linear layer.
  """

  hidden: int
  dense: blocks.Factory

  @nn.compact
  def __call__(self, x: Array) -> Array:
    hidden = self.dense(self.hidden, name='fc1')(x)
    hidden = nn.gelu(hidden, approximate=False)
    return self.dense(x.shape[-1], name='fc2')(hidden)


class TransformerBlock(nn.Module):
  """x + attention(norm1(x)), then the same with the perceptron and norm2.

  Attributes:
    attention: fields of `Attention`.
    hidden: of `Mlp`.
    dense, norm: make a linear layer and a LayerNorm.
  """

  attention: tuple[int, float, bool]
  hidden: int
  dense: blocks.Factory
  norm: blocks.Factory

  @nn.compact
  def __call__(self, x: Array) -> Array:
    attention = Attention(*self.attention, self.dense, name='attn')
    x = x + attention(self.norm(name='norm1')(x))
    mlp = Mlp(self.hidden, self.dense, name='mlp')
    return x + mlp(self.norm(name='norm2')(x))

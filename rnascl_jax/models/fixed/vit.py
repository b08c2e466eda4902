"""Vision Transformers, with the patch tokens of every block as a tap.

Dosovitskiy et al., An image is worth 16x16 words, ICLR 2021: patches become
tokens, a class token joins them, learned position embeddings are added, and
after blocks of self-attention and a perceptron, each behind a LayerNorm, the
class token is classified. Layout and names are timm's. There is no dropout.

| function      | width, depth, heads | in timm                                |
| ------------- | ------------------- | -------------------------------------- |
| `deit_tiny`   | 192, 12, 3          | deit_tiny_patch16_224, not distilled   |
| `vit_small`   | 384, 12, 6          | vit_small_patch16_224                  |
| `vit_small_8` | 768, 8, 8           | what had that name in timm 0.3         |
| `vit_base`    | 768, 12, 12         | vit_base_patch16_224                   |

`patch_size` is 16 for 224x224 images and 4 for 32x32 in Mo et al., When
adversarial training meets vision transformers, NeurIPS 2022, who train robust
networks of both sizes; their ViT-S is `vit_small_8`.

Tap i is the **output of block i without the class token**, as the grid of the
patches [B, H / patch_size, W / patch_size, D] with D the width.

The position embeddings belong to the images' size at `init`. To go on training
at another size, or with smaller patches, `refit` gives the parameters for it;
`config.teacher.start` does so.

Example:
  >>> from rnascl_jax.models.fixed import vit
  >>> vit.deit_tiny(num_classes=10, patch_size=4).tap_names[-1]
  'blocks_11'
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from rnascl_jax.base import Array
from rnascl_jax.models import networks
from rnascl_jax.models.fixed import blocks, transformer
from rnascl_jax.models.networks import Outputs


class ViT(networks.Network):
  """Vision Transformer: images [B, H, W, C] in [0, 1] -> (logits, taps).

  The taps are the blocks' patch tokens; see the module's docstring.

  Attributes:
    num_classes: number of classes K.
    patch_size: side of a patch; it divides H and W.
    width: D, the length of a token.
    depth: number of blocks.
    heads: number of attention heads, a divisor of `width`.
    mlp_ratio: hidden features of a block's perceptron per feature of a token.
    qkv_bias: whether queries, keys and values have a bias.
    attention_scale: factor of the products of queries and keys; None is
      1 / sqrt(width / heads).
    norm_epsilon: added to LayerNorm's variance.
    mean: subtracted from the images, C numbers or one for all channels.
    std: divides the images, C numbers or one for all channels.
    dtype: of computation; None is float32 (float64 for images of float64).
      Parameters, LayerNorm's statistics, softmax and logits are float32.
    axis_name: not used, as no layer mixes the images of a batch.

  Raises:
    ValueError: if a number is not positive, `heads` does not divide `width`,
      the images do not fit (see `blocks.normalized_input`) or are not made of
      whole patches, or there are position embeddings for another size.
  """

  num_classes: int
  patch_size: int
  width: int
  depth: int
  heads: int
  mlp_ratio: float = 4.0
  qkv_bias: bool = True
  attention_scale: float | None = None
  norm_epsilon: float = 1e-6
  mean: Sequence[float] = (0.0,)
  std: Sequence[float] = (1.0,)
  dtype: Dtype | None = None
  axis_name: str | None = None

  def __post_init__(self) -> None:
    for name in ('patch_size', 'width', 'depth', 'heads'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)} must be at least 1.')
    if self.width % self.heads:
      raise ValueError(
        f'width={self.width} must be a multiple of heads={self.heads}.'
      )
    if int(self.width * self.mlp_ratio) < 1:
      raise ValueError(
        f'mlp_ratio={self.mlp_ratio} must leave at least one hidden feature of '
        f'width={self.width}.'
      )
    super().__post_init__()

  @property
  def tap_names(self) -> tuple[str, ...]:
    """Path within `params` of each block, in forward order."""
    return tuple(f'blocks_{index}' for index in range(self.depth))

  def _tokens(self, images: Array) -> Array:
    """Embedded patches, [B, h, w, D]."""
    x = blocks.normalized_input(images, self.mean, self.std)
    if any(side % self.patch_size for side in x.shape[1:3]):
      raise ValueError(
        f'images of shape {x.shape} do not consist of whole patches: height '
        f'and width must be multiples of patch_size={self.patch_size}.'
      )
    embed = transformer.PatchEmbed(
      self.patch_size, self.width, self.dtype, name='patch_embed'
    )
    return embed(x)

  def _positions(self, num_tokens: int) -> Array:
    """Position embeddings, [1, num_tokens, D]."""
    shape = (1, num_tokens, self.width)
    if self.has_variable('params', 'pos_embed'):
      given: tuple[int, ...] = jnp.shape(
        self.get_variable('params', 'pos_embed')
      )
      if given != shape:
        raise ValueError(
          f'pos_embed has the shape {given}, but the class token and patches '
          f'of side patch_size={self.patch_size} need {shape}: use images of '
          'the size, and the patch size, that the network was trained with, '
          'or fit it to them with `refit`.'
        )
    return self.param('pos_embed', transformer.normal_init, shape, jnp.float32)

  def _blocks(self) -> list[transformer.TransformerBlock]:
    scale = self.attention_scale
    if scale is None:
      scale = (self.width // self.heads) ** -0.5
    dense = functools.partial(
      nn.Dense, dtype=self.dtype, kernel_init=transformer.normal_init
    )
    norm = functools.partial(
      nn.LayerNorm,
      epsilon=self.norm_epsilon,
      dtype=self.dtype,
      use_fast_variance=False,  # It cancels where the mean is large.
    )
    shape = (self.heads, scale, self.qkv_bias)
    hidden = int(self.width * self.mlp_ratio)
    return [
      transformer.TransformerBlock(shape, hidden, dense, norm, name=name)
      for name in self.tap_names
    ]

  @nn.compact
  def represent(self, images: Array, *, train: bool) -> Outputs:
    del train  # Nothing differs.
    patches = self._tokens(images)
    b, h, w, d = patches.shape
    cls_token = self.param(
      'cls_token', transformer.normal_init, (1, 1, d), jnp.float32
    )
    positions = self._positions(1 + h * w)
    first = jnp.broadcast_to(cls_token, (b, 1, d)).astype(patches.dtype)
    x = jnp.concatenate([first, patches.reshape(b, h * w, d)], axis=1)
    x += positions.astype(patches.dtype)  # [B, 1 + hw, D]
    taps = []
    for block in self._blocks():
      x = block(x)
      taps.append(x[:, 1:].reshape(b, h, w, d))
    # No `dtype`: both compute in that of their parameters, float32, or wider.
    norm = nn.LayerNorm(
      epsilon=self.norm_epsilon, use_fast_variance=False, name='norm'
    )
    head = nn.Dense(
      self.num_classes, kernel_init=transformer.normal_init, name='head'
    )
    features = norm(x[:, 0])
    return Outputs(head(features), tuple(taps), (taps[-1],), features)


def resize_positions(
  params: Mapping[str, Any], grid: tuple[int, int]
) -> dict[str, Any]:
  """Resizes the position embeddings of a ViT, for images of another size.

  Those of the patches are resized by bicubic interpolation with antialiasing,
  as timm does (`resample_abs_pos_embed`); that of the class token is kept.

  Args:
    params: of a `ViT` that was trained on square images.
    grid: (H / patch_size, W / patch_size) of the new images.

  Returns:
    The parameters, with `pos_embed` [1, 1 + h * w, D].

  Raises:
    ValueError: if the patches were not a square, or a side of `grid` is less
      than 1.
  """
  positions = params['pos_embed']
  side = math.isqrt(positions.shape[1] - 1)
  if side**2 != positions.shape[1] - 1:
    raise ValueError(
      f'pos_embed has the shape {positions.shape}: without the class token its '
      f'{positions.shape[1] - 1} patches are no square.'
    )
  if min(grid) < 1:
    raise ValueError(f'grid={grid} must have sides of at least one patch.')
  width = positions.shape[2]
  patches = positions[:, 1:].reshape(1, side, side, width)
  patches = jax.image.resize(
    patches, (1, *grid, width), 'cubic', antialias=True
  ).reshape(1, grid[0] * grid[1], width)
  resized = jnp.concatenate([positions[:, :1], patches], axis=1)
  return {**params, 'pos_embed': resized}


def refit(
  params: Mapping[str, Any], patch_size: int, grid: tuple[int, int]
) -> dict[str, Any]:
  """Fits a trained ViT to images of another size, or to smaller patches.

  Position embeddings are resized, see `resize_positions`. A weight of a smaller
  patch is the sum of those that it stands for, so that the network sees in a
  patch what it saw before in the patch enlarged by repeating pixels. Mo et al.
  fit networks of 224x224 pixels and patches of 16 to 32x32 and 4 like this, but
  with a bilinear resizing of the positions.

  Args:
    params: of a `ViT` that was trained on square images.
    patch_size: of the new network, a divisor of the trained one's.
    grid: (H / patch_size, W / patch_size) of the new images.

  Returns:
    The parameters of the new network, with `patch_embed` and `pos_embed` of it.

  Raises:
    ValueError: if `patch_size` is no divisor, or as of `resize_positions`.
  """
  projection = params['patch_embed']['proj']
  side, _, c, d = projection['kernel'].shape
  if side % patch_size:
    raise ValueError(
      f'patch_size={patch_size} must divide {side}, the side of the patches '
      'that the network was trained with.'
    )
  parts = (patch_size, side // patch_size)
  kernel = projection['kernel'].reshape(*parts, *parts, c, d)
  kernel = kernel.sum((1, 3))  # [patch_size, patch_size, C, D]
  patch_embed = {'proj': {**projection, 'kernel': kernel}}
  return resize_positions({**params, 'patch_embed': patch_embed}, grid)


def vit_small(*, num_classes: int, patch_size: int, **fields: Any) -> ViT:
  """ViT-S of timm, 12 taps; `fields` are those of `ViT`."""
  return ViT(num_classes, patch_size, 384, depth=12, heads=6, **fields)


def vit_small_8(*, num_classes: int, patch_size: int, **fields: Any) -> ViT:
  """The ViT-S of early timm and Mo et al., 8 taps; `fields` as of `ViT`.

  Its attention is scaled by 1 / sqrt(768), as timm and Mo et al. do where they
  start from timm's weights; `attention_scale=None` is their training from
  scratch.
  """
  early = {
    'mlp_ratio': 3.0,
    'qkv_bias': False,
    'attention_scale': 768**-0.5,
    'norm_epsilon': 1e-5,
  }
  return ViT(num_classes, patch_size, 768, depth=8, heads=8, **early | fields)


def vit_base(*, num_classes: int, patch_size: int, **fields: Any) -> ViT:
  """ViT-B, 12 taps; `fields` are those of `ViT`."""
  return ViT(num_classes, patch_size, 768, depth=12, heads=12, **fields)


def deit_tiny(*, num_classes: int, patch_size: int, **fields: Any) -> ViT:
  """DeiT-Ti without the distillation token, 12 taps; `fields` as of `ViT`.

  Touvron et al., Training data-efficient image transformers & distillation
  through attention, ICML 2021.
  """
  return ViT(num_classes, patch_size, 192, depth=12, heads=3, **fields)

"""The gradient of a 3x3 convolution by its kernel, by Winograd's algorithm.

F(2x2, 3x3) computes a tile of 2x2 outputs by 16 products for each pair of
channels instead of 36. Of a tile d of 4x4 inputs and the cotangent g of its
outputs the gradient is

  G' [(B' d B) * (A g A')] G

summed over all tiles between the transforms: 16 matrix products. On a CPU that
is twice as fast as XLA's convolution, which takes the whole cotangent for its
kernel, and at large maps many times (`python tests/benchmarks/winograd.py`).

Reference:
  Lavin and Gray, Fast algorithms for convolutional neural networks, CVPR 2016.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax

from rnascl_jax.base import Array

# Of the input, the kernel and the output, each applied to both sides.
_INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
_OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
# The fewest channels, and numbers of an image, at which it is faster.
_LEAST_CHANNELS, _LEAST_SIZE = 32, 8192


def fits(
  x_shape: Sequence[int],
  kernel_shape: Sequence[int],
  strides: tuple[int, int],
  padding: tuple[tuple[int, int], tuple[int, int]],
  dtype: jnp.dtype,
) -> bool:
  """Whether `kernel_gradient` has the gradient of a convolution, and is faster.

  Args:
    x_shape: (B, H, W, C) of its input.
    kernel_shape: (h, w, C, C').
    strides: down and across.
    padding: zeros added above and below, left and right.
    dtype: of the input.
  """
  _, height, width, _ = x_shape
  channels = min(kernel_shape[2:])
  return (
    tuple(kernel_shape[:2]) == (3, 3)
    and channels >= _LEAST_CHANNELS
    and height * width * channels >= _LEAST_SIZE
    and tuple(strides) == (1, 1)
    and tuple(padding) == ((1, 1), (1, 1))
    and height % 2 == width % 2 == 0
    and dtype == jnp.float32
  )


def kernel_gradient(x: Array, cotangent: Array) -> Array:
  """The gradient by the kernel at stride 1, with zeros around the input.

  Args:
    x: [B, H, W, C], the input; H and W even.
    cotangent: [B, H, W, C'], the gradient by the output.

  Returns:
    [3, 3, C, C'].
  """
  images, height, width, features = cotangent.shape
  split = cotangent.reshape(images, height // 2, 2, width // 2, 2, features)
  rows = _combine(_OUTPUT.T, [split[:, :, i] for i in range(2)])
  spread = jnp.stack(
    [
      part.reshape(-1, features)
      for row in rows
      for part in _combine(_OUTPUT.T, [row[:, :, :, j] for j in range(2)])
    ]
  )  # [16, tiles, C']
  products = lax.dot_general(_tiles(x), spread, (((1,), (1,)), ((0,), (0,))))
  of_kernel = jnp.asarray(_KERNEL, x.dtype)
  products = products.reshape(4, 4, *products.shape[1:])
  return jnp.einsum('ai,bj,abcf->ijcf', of_kernel, of_kernel, products)


def _tiles(x: Array) -> Array:
  """All tiles of 4x4 inputs, transformed: [16, tiles, C]."""
  images, height, width, channels = x.shape
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  split = padded.reshape(
    images, height // 2 + 1, 2, width // 2 + 1, 2, channels
  )
  halves = [split[:, :, i] for i in range(2)]
  shifted = [half[:, low:][:, : height // 2] for low, half in _four(halves)]
  parts = []
  for row in _combine(_INPUT, shifted):
    halves = [row[:, :, :, j] for j in range(2)]
    shifted = [
      half[:, :, low:][:, :, : width // 2] for low, half in _four(halves)
    ]
    parts += _combine(_INPUT, shifted)
  return jnp.stack([part.reshape(-1, channels) for part in parts])


def _four(halves: Sequence[Array]) -> list[tuple[int, Array]]:
  """Where rows 0 to 3 of tiles lie: even and odd ones, and again one later."""
  return [(shift, half) for shift in range(2) for half in halves]


def _combine(matrix: np.ndarray, parts: Sequence[Array]) -> list[Array]:
  """Rows of the matrix times the parts; its numbers are 0, 1 and -1."""
  combined = []
  for row in matrix:
    terms = [int(n) * part for n, part in zip(row, parts, strict=True) if n]
    combined.append(sum(terms[1:], terms[0]))
  return combined

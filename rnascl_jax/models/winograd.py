"""Winograd's dense convolution F(2x2, 3x3), for a CPU.

A tile of 2x2 outputs needs 16 products for each pair of channels instead of 36:

  Y = A' [(G k G') * (B' d B)] A

with a tile d of 4x4 inputs and a kernel k of 3x3, summed over input channels
between the transforms. Over all tiles that sum is 16 matrix products. The
transforms add and halve; rounding is about that of the direct sum.

Reference:
  Lavin and Gray, Fast algorithms for convolutional neural networks, CVPR 2016.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnascl_jax.base import Array

# Of the input, the kernel and the output, each applied to both sides.
_INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
_OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
# The fewest channels, and numbers of an image, at which it is faster than XLA's
# convolution on a CPU (`tests/benchmarks/winograd.py`): of passes in either
# direction, and of the gradient by the kernel.
_LEAST = {False: (64, 16384), True: (32, 8192)}


def fits(
  x_shape: Sequence[int],
  kernel_shape: Sequence[int],
  strides: tuple[int, int],
  padding: tuple[tuple[int, int], tuple[int, int]],
  dtype: jnp.dtype,
  *,
  by_kernel: bool = False,
) -> bool:
  """Whether a convolution is one of `winograd_conv`, and faster so.

  Args:
    x_shape: (B, H, W, C) of its input.
    kernel_shape: (h, w, C, C').
    strides: down and across.
    padding: zeros added above and below, left and right.
    dtype: of the input.
    by_kernel: whether its gradient by the kernel is asked for.
  """
  _, height, width, _ = x_shape
  least_channels, least_size = _LEAST[by_kernel]
  channels = min(kernel_shape[2:])
  return (
    tuple(kernel_shape[:2]) == (3, 3)
    and channels >= least_channels
    and height * width * channels >= least_size
    and tuple(strides) == (1, 1)
    and tuple(padding) == ((1, 1), (1, 1))
    and height % 2 == width % 2 == 0
    and dtype == jnp.float32
  )


@jax.jit  # Programs have its name, by which `flops.trace_macs` knows it.
def winograd_conv(x: Array, kernel: Array) -> Array:
  """A convolution at stride 1 with one row of zeros on each side.

  Args:
    x: [B, H, W, C], H and W even.
    kernel: [3, 3, C, C'].

  Returns:
    [B, H, W, C'].
  """
  images, height, width, channels = x.shape
  features = kernel.shape[-1]
  rows, columns = height // 2, width // 2
  of_kernel = jnp.asarray(_KERNEL, kernel.dtype)
  kernels = jnp.einsum('ai,bj,ijcf->abcf', of_kernel, of_kernel, kernel)
  products = lax.dot_general(
    _tiles(x),
    kernels.reshape(16, channels, features),
    (((2,), (1,)), ((0,), (0,))),
  ).reshape(4, 4, images, rows, columns, features)
  below = _combine(_OUTPUT, [products[i] for i in range(4)])
  pairs = [
    jnp.stack(_combine(_OUTPUT, [row[j] for j in range(4)]), axis=3)
    for row in below
  ]  # two of [B, rows, columns, 2, C']
  return jnp.stack(pairs, axis=2).reshape(images, height, width, features)


def kernel_gradient(x: Array, cotangent: Array) -> Array:
  """The gradient of `winograd_conv` by its kernel.

  Args:
    x: [B, H, W, C].
    cotangent: [B, H, W, C'].

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
  rows = _combine(_INPUT, shifted)
  parts = []
  for row in rows:
    halves = [row[:, :, :, j] for j in range(2)]
    parts += _combine(
      _INPUT,
      [half[:, :, low:][:, :, : width // 2] for low, half in _four(halves)],
    )
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

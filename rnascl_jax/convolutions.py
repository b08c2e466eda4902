"""Dense convolutions whose gradients are fast in loops on a CPU too.

XLA's CPU back end has a fast kernel for convolutions of [B, H, W, C] with
[h, w, C, C']. The gradients that JAX derives are convolutions of other layouts;
a pass brings them into the fast form, but it does not enter the bodies of loops
(jax-ml/jax#12868), where they run ten times slower. Here both gradients are
written in the fast form, by transposing small arrays first. GPU and TPU keep
what JAX derives.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rnascl_jax.base import Array

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')
# One (low, high) pair for height and one for width.
Padding = tuple[tuple[int, int], tuple[int, int]]


def _convolve(x: Array, kernel: Array, **options: Any) -> Array:
  return lax.conv_general_dilated(
    x, kernel, dimension_numbers=_LAYOUT, **options
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def canonical_conv(
  x: Array, kernel: Array, strides: tuple[int, int], padding: Padding
) -> Array:
  """A dense convolution with both gradients in the layout of the forward pass.

  Forward-mode differentiation is not defined.

  Args:
    x: [B, H, W, C].
    kernel: [h, w, C, C'].
    strides: down and across.
    padding: zeros added above and below, left and right.

  Returns:
    [B, H', W', C'].
  """
  return _convolve(x, kernel, window_strides=strides, padding=padding)


def _forward(x, kernel, strides, padding):
  return canonical_conv(x, kernel, strides, padding), (x, kernel)


def _backward(strides, padding, residuals, cotangent):
  x, kernel = residuals
  spatial = tuple(
    zip(
      x.shape[1:3],
      kernel.shape[:2],
      cotangent.shape[1:3],
      strides,
      (low for low, _ in padding),
      strict=True,
    )
  )
  # To the input: the kernel turned by 180 degrees over the spread cotangent.
  turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)  # [h, w, C', C]
  x_gradient = _convolve(
    cotangent,
    turned,
    window_strides=(1, 1),
    padding=tuple(
      (size - 1 - low, side - (out - 1) * stride - 1 + low)
      for side, size, out, stride, low in spatial
    ),
    lhs_dilation=strides,
  )
  # To the kernel: channels take the place of the batch, and the cotangent,
  # spread by the stride, that of the kernel.
  kernel_gradient = _convolve(
    x.transpose(3, 1, 2, 0),  # [C, H, W, B]
    cotangent.transpose(1, 2, 0, 3),  # [H', W', B, C']
    window_strides=(1, 1),
    padding=tuple(
      (low, size + (out - 1) * stride - side - low)
      for side, size, out, stride, low in spatial
    ),
    rhs_dilation=strides,
  )  # [C, h, w, C']
  return x_gradient, kernel_gradient.transpose(1, 2, 0, 3)


canonical_conv.defvjp(_forward, _backward)


def conv_general_dilated(
  x: Array, kernel: Array, strides: Any, padding: Any, **options: Any
) -> Array:
  """`lax.conv_general_dilated`, for `nn.Conv(conv_general_dilated=...)`.

  On a CPU the convolutions of this library, dense and not dilated, are those of
  `canonical_conv`; all others, and those elsewhere, are JAX's.

  Args:
    x: [B, H, W, C].
    kernel: [h, w, C, C'].
    strides: down and across.
    padding: pairs of zeros added low and high.
    **options: as of `lax.conv_general_dilated`.

  Returns:
    [B, H', W', C'].
  """
  plain = (
    options.get('feature_group_count', 1) == 1
    and options.get('precision') is None
    and all(d == 1 for d in options.get('lhs_dilation') or ())
    and all(d == 1 for d in options.get('rhs_dilation') or ())
  )
  if jax.default_backend() != 'cpu' or not plain or isinstance(padding, str):
    return lax.conv_general_dilated(x, kernel, strides, padding, **options)
  dtype = jnp.result_type(x, kernel)
  pairs = tuple((int(low), int(high)) for low, high in padding)
  return canonical_conv(
    x.astype(dtype), kernel.astype(dtype), tuple(strides), pairs
  )

"""Building blocks of student and teachers: normalisation, convolutions, masks.

The inverted residual carries the masks of FBNetV2's channel search: all filter
choices of a block share one convolution of the widest choice, and a choice is a
vector of leading ones that multiplies the block's output (Wan et al., FBNetV2,
CVPR 2020, section 3.1; RNAS-CL, section 3.3).

Depthwise convolutions come twice. XLA's CPU back end runs the grouped
convolution an order of magnitude too slowly, so there the same sum is written
as shifts with a gradient of its own; GPU and TPU keep the convolution.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax import layers
  >>> images = jnp.ones((1, 2, 2, 3))
  >>> layers.normalize(images, (0.5, 0.5, 0.5), (0.5, 0.5, 0.25))[0, 0, 0]
  Array([1., 1., 2.], dtype=float32)
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from rnascl_jax.base import Array


def normalize(
  images: Array, mean: Sequence[float], std: Sequence[float]
) -> Array:
  """Subtracts the mean and divides by the standard deviation per channel.

  Args:
    images: [B, H, W, C], in [0, 1].
    mean: C numbers.
    std: C positive numbers.

  Returns:
    [B, H, W, C].

  Raises:
    ValueError: if mean or std do not have one number per channel.
  """
  channels = images.shape[-1]
  if len(mean) != channels or len(std) != channels:
    raise ValueError(
      f'mean={tuple(mean)} and std={tuple(std)} must have one number for each '
      f'of the {channels} channels of images of shape {images.shape}.'
    )
  shape = (1,) * (images.ndim - 1) + (channels,)
  centre = jnp.asarray(mean, images.dtype).reshape(shape)
  return (images - centre) / jnp.asarray(std, images.dtype).reshape(shape)


def native_depthwise_conv(x: Array, kernel: Array, stride: int = 1) -> Array:
  """Depthwise convolution as XLA's grouped convolution.

  Args:
    x: [B, H, W, C].
    kernel: [k, k, 1, C], k odd; the input is padded by (k - 1) / 2 with zeros.
    stride: step in both directions.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), C].
  """
  pad = kernel.shape[0] // 2
  return lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(stride, stride),
    padding=((pad, pad), (pad, pad)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=x.shape[-1],
  )


def _windows(padded: Array, size: int, stride: int, height: int, width: int):
  """The size^2 shifted views that a depthwise convolution sums up."""
  for i in range(size):
    for j in range(size):
      yield lax.slice(
        padded,
        (0, i, j, 0),
        (
          padded.shape[0],
          i + stride * (height - 1) + 1,
          j + stride * (width - 1) + 1,
          padded.shape[3],
        ),
        (1, stride, stride, 1),
      )


def _shift_sum(
  padded: Array, kernel: Array, stride: int, height: int, width: int
) -> Array:
  taps = kernel.reshape(-1, kernel.shape[-1])  # [k * k, C]
  windows = _windows(padded, kernel.shape[0], stride, height, width)
  return sum(
    window * tap[None, None, None]
    for window, tap in zip(windows, taps, strict=True)
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def shift_depthwise_conv(x: Array, kernel: Array, stride: int = 1) -> Array:
  """`native_depthwise_conv` as a sum of shifted products, fast on the CPU.

  The gradient to the input is the same sum with the kernel flipped; the one to
  the kernel is a single reduction over all k^2 products at once, which reads
  the input and the cotangent only once. Forward-mode differentiation is not
  defined.

  Args:
    x: [B, H, W, C].
    kernel: [k, k, 1, C], k odd; the input is padded by (k - 1) / 2 with zeros.
    stride: step in both directions.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), C].
  """
  pad = kernel.shape[0] // 2
  padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  height, width = (-(-side // stride) for side in x.shape[1:3])
  return _shift_sum(padded, kernel, stride, height, width)


def _shift_forward(x, kernel, stride):
  return shift_depthwise_conv(x, kernel, stride), (x, kernel)


def _shift_backward(stride, residuals, cotangent):
  x, kernel = residuals
  size, pad = kernel.shape[0], kernel.shape[0] // 2
  _, height, width, _ = x.shape
  # Dilating by the stride and padding so that a stride-1 sum with the flipped
  # kernel gives exactly [H, W] back.
  zero = jnp.zeros((), cotangent.dtype)
  spread = [
    (pad, side - 1 - stride * (out - 1) + pad, stride - 1)
    for side, out in zip((height, width), cotangent.shape[1:3], strict=True)
  ]
  dilated = lax.pad(cotangent, zero, ((0, 0, 0), *spread, (0, 0, 0)))
  x_gradient = _shift_sum(dilated, kernel[::-1, ::-1], 1, height, width)
  padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  products = tuple(
    window * cotangent
    for window in _windows(padded, size, stride, *cotangent.shape[1:3])
  )
  sums = lax.reduce(
    products,
    (zero,) * len(products),
    lambda a, b: tuple(p + q for p, q in zip(a, b, strict=True)),
    (0, 1, 2),
  )
  return x_gradient, jnp.stack(sums).reshape(kernel.shape)


shift_depthwise_conv.defvjp(_shift_forward, _shift_backward)


def depthwise_conv(x: Array, kernel: Array, stride: int = 1) -> Array:
  """The depthwise convolution that is fast on the default back end."""
  if jax.default_backend() == 'cpu':
    return shift_depthwise_conv(x, kernel, stride)
  return native_depthwise_conv(x, kernel, stride)

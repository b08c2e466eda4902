"""Convolutions that are fast on a CPU too, forward, backward and in loops.

**Depthwise.** XLA's CPU back end runs the grouped convolution an order of
magnitude too slowly; there the same sum is written as shifts, with a gradient
of its own (`python tests/benchmarks/depthwise.py`).

**Dense.** XLA's CPU back end has a fast kernel for convolutions of [B, H, W, C]
with [h, w, C, C']. The gradients that JAX derives are convolutions of other
layouts; a pass brings them into the fast form, but it does not enter the bodies
of loops (jax-ml/jax#12868), where they run ten times slower
(`python tests/benchmarks/attack_unroll.py` times JAX's own). Here both
gradients are written in the fast form, by transposing small arrays first.
(`linear` keeps forward-mode derivatives beside them.) That by a large 3x3
convolution's kernel is computed by Winograd's algorithm.

GPU and TPU keep JAX's own convolutions.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from rnascl_jax.base import Array
from rnascl_jax.models import linear, winograd

_LAYOUT = ('NHWC', 'HWIO', 'NHWC')
# Of a map whose products with another are added up by one program.
_ROWS = 16
# One (low, high) pair for height and one for width.
Padding = tuple[tuple[int, int], tuple[int, int]]


def _convolve(x: Array, kernel: Array, **options: Any) -> Array:
  return lax.conv_general_dilated(
    x, kernel, dimension_numbers=_LAYOUT, **options
  )


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def canonical_conv(
  x: Array, kernel: Array, strides: tuple[int, int], padding: Padding
) -> Array:
  """A dense convolution with both gradients in the layout of the forward pass.

  Args:
    x: [B, H, W, C].
    kernel: [h, w, C, C'].
    strides: down and across.
    padding: zeros added above and below, left and right.

  Returns:
    [B, H', W', C'].
  """
  return _convolve(x, kernel, window_strides=strides, padding=padding)


@functools.partial(canonical_conv.defjvp, symbolic_zeros=True)
def _canonical_jvp(strides, padding, primals, tangents):
  convolve = functools.partial(
    _convolve, window_strides=strides, padding=padding
  )
  tangent = _tangent(convolve, _Transposed(strides, padding), primals, tangents)
  return canonical_conv(*primals, strides, padding), tangent


def _tangent(convolve, transposed, primals, tangents):
  """The tangent of a convolution, whose transposes are given."""
  (x, kernel), (x_tangent, kernel_tangent) = primals, tangents
  terms = []
  if not isinstance(x_tangent, SymbolicZero):
    to_input = functools.partial(transposed.to_input, shape=x.shape)
    terms.append(linear.call(convolve, to_input, x_tangent, kernel))
  if not isinstance(kernel_tangent, SymbolicZero):
    to_kernel = functools.partial(transposed.to_kernel, shape=kernel.shape)
    terms.append(
      linear.call(lambda k, x: convolve(x, k), to_kernel, kernel_tangent, x)
    )
  return sum(terms[1:], terms[0])


class _Transposed(NamedTuple):
  """The transposes of a dense convolution, by its input and by its kernel."""

  strides: tuple[int, int]
  padding: Padding

  def _spatial(self, x_shape, kernel_shape, cotangent):
    return tuple(
      zip(
        x_shape[1:3],
        kernel_shape[:2],
        cotangent.shape[1:3],
        self.strides,
        (low for low, _ in self.padding),
        strict=True,
      )
    )

  def to_input(self, cotangent, kernel, shape):
    """The kernel turned by 180 degrees goes over the spread cotangent."""
    spatial = self._spatial(shape, kernel.shape, cotangent)
    turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)  # [h, w, C', C]
    return _convolve(
      cotangent,
      turned,
      window_strides=(1, 1),
      padding=tuple(
        (size - 1 - low, side - (out - 1) * stride - 1 + low)
        for side, size, out, stride, low in spatial
      ),
      lhs_dilation=self.strides,
    )

  def to_kernel(self, cotangent, x, shape):
    """Channels take the place of the batch, the cotangent that of the kernel.

    The cotangent is spread by the stride.
    """
    if winograd.fits(x.shape, shape, self.strides, self.padding, x.dtype):
      return winograd.kernel_gradient(x, cotangent)
    spatial = self._spatial(x.shape, shape, cotangent)
    kernel_gradient = _convolve(
      x.transpose(3, 1, 2, 0),  # [C, H, W, B]
      cotangent.transpose(1, 2, 0, 3),  # [H', W', B, C']
      window_strides=(1, 1),
      padding=tuple(
        (low, size + (out - 1) * stride - side - low)
        for side, size, out, stride, low in spatial
      ),
      rhs_dilation=self.strides,
    )  # [C, h, w, C']
    return kernel_gradient.transpose(1, 2, 0, 3)


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


def native_depthwise_conv(
  x: Array, kernel: Array, stride: int = 1, dilation: int = 1
) -> Array:
  """Depthwise convolution as XLA's grouped convolution.

  Args:
    x: [B, H, W, C].
    kernel: [k, k, 1, C], k odd; the input is padded by dilation (k - 1) / 2
      with zeros.
    stride: step in both directions.
    dilation: step between the kernel's numbers.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), C].
  """
  pad = dilation * (kernel.shape[0] // 2)
  return lax.conv_general_dilated(
    x,
    kernel,
    window_strides=(stride, stride),
    padding=((pad, pad), (pad, pad)),
    rhs_dilation=(dilation, dilation),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=x.shape[-1],
  )


class _Steps(NamedTuple):
  """The steps of a depthwise convolution over the input, and of its kernel."""

  stride: int
  dilation: int


def _windows(padded: Array, size: int, steps: _Steps, height: int, width: int):
  """The size^2 shifted views that a depthwise convolution sums up."""
  stride, dilation = steps
  for i in range(0, dilation * size, dilation):
    for j in range(0, dilation * size, dilation):
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
  padded: Array, kernel: Array, steps: _Steps, height: int, width: int
) -> Array:
  taps = kernel.reshape(-1, kernel.shape[-1])  # [k * k, C]
  windows = _windows(padded, kernel.shape[0], steps, height, width)
  return sum(
    window * tap[None, None, None]
    for window, tap in zip(windows, taps, strict=True)
  )


@functools.partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def shift_depthwise_conv(
  x: Array, kernel: Array, stride: int = 1, dilation: int = 1
) -> Array:
  """`native_depthwise_conv` as a sum of shifted products, fast on the CPU.

  The gradient to the input is the same sum with the kernel flipped; the one to
  the kernel goes over the images and adds up products of rows, so that its sums
  stay in a cache and each inner loop runs over a whole row.

  Args:
    x: [B, H, W, C].
    kernel: [k, k, 1, C], k odd; the input is padded by dilation (k - 1) / 2
      with zeros.
    stride: step in both directions.
    dilation: step between the kernel's numbers.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), C].
  """
  pad = dilation * (kernel.shape[0] // 2)
  padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
  height, width = (-(-side // stride) for side in x.shape[1:3])
  return _shift_sum(padded, kernel, _Steps(stride, dilation), height, width)


@functools.partial(shift_depthwise_conv.defjvp, symbolic_zeros=True)
def _shift_jvp(stride, dilation, primals, tangents):
  def convolve(x, kernel):
    return shift_depthwise_conv(x, kernel, stride, dilation)

  transposed = _TransposedShift(_Steps(stride, dilation))
  tangent = _tangent(convolve, transposed, primals, tangents)
  return convolve(*primals), tangent


class _TransposedShift(NamedTuple):
  """The transposes of a depthwise convolution, by its input and its kernel."""

  steps: _Steps

  def to_input(self, cotangent, kernel, shape):
    stride, dilation = self.steps
    pad = dilation * (kernel.shape[0] // 2)
    _, height, width, _ = shape
    # Dilating by the stride and padding so that a stride-1 sum with the flipped
    # kernel gives exactly [H, W] back.
    zero = jnp.zeros((), cotangent.dtype)
    spread = [
      (pad, side - 1 - stride * (out - 1) + pad, stride - 1)
      for side, out in zip((height, width), cotangent.shape[1:3], strict=True)
    ]
    dilated = lax.pad(cotangent, zero, ((0, 0, 0), *spread, (0, 0, 0)))
    steps = _Steps(1, dilation)
    return _shift_sum(dilated, kernel[::-1, ::-1], steps, height, width)

  def to_kernel(self, cotangent, x, shape):
    size, (stride, dilation) = shape[0], self.steps
    pad = dilation * (size // 2)
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    images, height, width, channels = cotangent.shape
    dtype = jnp.promote_types(cotangent.dtype, jnp.float32)

    # Rows that are added at a time, such that none is left over.
    rows = max(r for r in range(1, _ROWS + 1) if height % r == 0)
    parts = height // rows

    def add(index: Array, sums: tuple[Array, ...]) -> tuple[Array, ...]:
      image, row = lax.div(index, parts), rows * lax.rem(index, parts)
      part = lax.dynamic_slice(
        padded,
        (image, stride * row, 0, 0),
        (
          1,
          stride * (rows - 1) + dilation * (size - 1) + 1,
          *padded.shape[2:],
        ),
      )
      factor = lax.dynamic_slice(
        cotangent, (image, row, 0, 0), (1, rows, width, channels)
      ).astype(dtype)
      windows = _windows(part, size, self.steps, rows, width)
      return tuple(
        total + sum((window.astype(dtype) * factor)[0, r] for r in range(rows))
        for total, window in zip(sums, windows, strict=True)
      )

    zeros = (jnp.zeros((width, channels), dtype),) * size**2
    sums = lax.fori_loop(0, images * parts, add, zeros)
    return jnp.stack(sums).sum(1).reshape(shape).astype(cotangent.dtype)


def depthwise_conv(
  x: Array, kernel: Array, stride: int = 1, dilation: int = 1
) -> Array:
  """The depthwise convolution that is fast on the default back end."""
  if jax.default_backend() == 'cpu':
    return shift_depthwise_conv(x, kernel, stride, dilation)
  return native_depthwise_conv(x, kernel, stride, dilation)

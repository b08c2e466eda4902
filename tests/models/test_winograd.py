"""Winograd's convolution against the direct one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rnascl_jax.models import convolutions, winograd
from rnascl_jax.search import flops

_STRIDES, _PADDING = (1, 1), ((1, 1), (1, 1))


def _direct(x, kernel):
  return lax.conv_general_dilated(
    x,
    kernel,
    _STRIDES,
    _PADDING,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    precision='highest',
  )


def _arrays(dtype=np.float32, shape=(3, 16, 18, 64), features=72):
  rng = np.random.default_rng(0)
  kernel = rng.normal(size=(3, 3, shape[-1], features))
  return rng.normal(size=shape).astype(dtype), kernel.astype(dtype)


def test_values_and_kernel_gradients_are_the_direct_ones():
  with jax.enable_x64(True):
    x, kernel = _arrays(np.float64)
    expected, pull = jax.vjp(_direct, x, kernel)
    np.testing.assert_allclose(
      winograd.winograd_conv(x, kernel), expected, rtol=1e-11, atol=1e-11
    )
    cotangent = np.cos(expected)
    np.testing.assert_allclose(
      winograd.kernel_gradient(x, cotangent),
      pull(cotangent)[1],
      rtol=1e-11,
      atol=1e-11,
    )


def test_a_dense_convolution_takes_it_and_its_gradients_agree_to_1e_5():
  x, kernel = _arrays()

  def loss(x, kernel, convolve):
    return jnp.sum(jnp.sin(convolve(x, kernel)))

  def ours(x, kernel):
    return convolutions.conv_general_dilated(x, kernel, _STRIDES, _PADDING)

  program = str(
    jax.make_jaxpr(jax.grad(loss, (0, 1)), static_argnums=2)(x, kernel, ours)
  )
  if jax.default_backend() == 'cpu':
    assert 'winograd_conv' in program
    assert 'conv_general_dilated' not in program
  gradients = [jax.grad(loss, (0, 1))(x, kernel, f) for f in (ours, _direct)]
  for one, two in zip(*gradients, strict=True):
    gap = np.linalg.norm(one - two) / np.linalg.norm(two)
    assert gap < 1e-5


@pytest.mark.parametrize(
  'change',
  [
    {'x_shape': (2, 17, 16, 64)},
    {'x_shape': (2, 8, 8, 64)},
    {'kernel_shape': (3, 3, 32, 64)},
    {'kernel_shape': (1, 1, 64, 64)},
    {'strides': (2, 2)},
    {'padding': ((0, 0), (0, 0))},
    {'dtype': jnp.bfloat16},
  ],
)
def test_others_are_left_to_xla(change):
  options = {
    'x_shape': (2, 16, 16, 64),
    'kernel_shape': (3, 3, 64, 64),
    'strides': _STRIDES,
    'padding': _PADDING,
    'dtype': jnp.float32,
  }
  assert winograd.fits(**options)
  assert not winograd.fits(**options | change)


def test_gradients_by_kernels_take_it_at_fewer_channels():
  shapes = (2, 16, 16, 32), (3, 3, 32, 32)
  fits = functools.partial(
    winograd.fits, *shapes, _STRIDES, _PADDING, jnp.float32
  )
  assert fits(by_kernel=True) and not fits()


def test_its_multiply_adds_count_as_those_of_the_convolution():
  x, kernel = _arrays()
  counts = [
    flops.trace_macs(function, x, kernel)
    for function in (winograd.winograd_conv, _direct)
  ]
  assert counts[0] == counts[1] == 3 * 16 * 18 * 72 * 9 * 64

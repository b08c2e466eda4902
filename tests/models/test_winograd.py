"""Winograd's gradients by kernels against those of the direct convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rnascl_jax.models import convolutions, winograd

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


def _arrays(dtype, shape=(3, 16, 18, 32), features=40):
  rng = np.random.default_rng(0)
  kernel = rng.normal(size=(3, 3, shape[-1], features))
  return rng.normal(size=shape).astype(dtype), kernel.astype(dtype)


def test_it_is_the_direct_gradient():
  with jax.enable_x64(True):
    x, kernel = _arrays(np.float64)
    outputs, pull = jax.vjp(_direct, x, kernel)
    cotangent = np.cos(outputs)
    np.testing.assert_allclose(
      winograd.kernel_gradient(x, cotangent),
      pull(cotangent)[1],
      rtol=1e-11,
      atol=1e-11,
    )


def test_a_dense_convolution_takes_it_and_agrees_to_1e_5(monkeypatch):
  x, kernel = _arrays(np.float32)

  def ours(kernel):
    return convolutions.canonical_conv(x, kernel, _STRIDES, _PADDING)

  gradients = [
    jax.grad(lambda k, f=f: jnp.sum(jnp.sin(f(k))))(kernel)
    for f in (ours, lambda k: _direct(x, k))
  ]
  gap = np.linalg.norm(gradients[0] - gradients[1])
  assert gap < 1e-5 * np.linalg.norm(gradients[1])
  monkeypatch.setattr(
    winograd, 'kernel_gradient', lambda x, cotangent: jnp.zeros_like(kernel)
  )
  assert not jax.grad(lambda k: jnp.sum(ours(k)))(kernel).any()


@pytest.mark.parametrize(
  'change',
  [
    {'x_shape': (2, 17, 16, 64)},
    {'x_shape': (2, 8, 8, 64)},
    {'kernel_shape': (3, 3, 16, 64)},
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

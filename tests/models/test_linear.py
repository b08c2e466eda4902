"""All derivatives of the convolutions for CPUs are those of JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rnascl_jax.models import convolutions

_OPTIONS = ((2, 2), ((1, 1), (1, 1)))


def _native(x, kernel):
  return lax.conv_general_dilated(
    x, kernel, *_OPTIONS, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )


def _dense(x, kernel):
  return convolutions.canonical_conv(x, kernel, *_OPTIONS)


def _depthwise(stride):
  return (
    lambda x, kernel: convolutions.shift_depthwise_conv(x, kernel, stride),
    lambda x, kernel: convolutions.native_depthwise_conv(x, kernel, stride),
    (3, 3, 1, 3),
  )


def _gradients(function):
  return jax.grad(lambda *a: jnp.sin(function(*a)).sum(), (0, 1))


def _derivatives(function, x, kernel, tangents):
  """Of first and second order, forwards, backwards, mixed, and lifted."""

  def sum_of_squares(x):
    return (_gradients(function)(x, kernel)[1] ** 2).sum()

  return (
    jax.jvp(function, (x, kernel), tangents),
    jax.jvp(_gradients(function), (x, kernel), tangents),
    jax.jit(jax.grad(sum_of_squares))(x),
    jax.vmap(lambda x: _gradients(function)(x[None], kernel))(x),
    jax.vmap(
      lambda x: jax.jvp(lambda k: function(x[None], k), (kernel,), tangents[1:])
    )(x),
    jax.vmap(lambda t: jax.jvp(function, (x, kernel), (tangents[0], t)))(
      jnp.stack([tangents[1], kernel])
    ),
  )


@pytest.mark.parametrize(
  ('ours', 'native', 'shape'),
  ((_dense, _native, (3, 3, 3, 5)), _depthwise(1), _depthwise(2)),
  ids=('dense', 'depthwise', 'strided depthwise'),
)
def test_every_derivative_of_a_convolution_is_that_of_jaxs_own(
  ours, native, shape
):
  with jax.enable_x64(True):
    keys = jax.random.split(jax.random.key(0), 4)
    x, x_tangent = jax.random.normal(keys[0], (2, 4, 9, 7, 3))
    kernel, tangent = jax.random.normal(keys[1], (2, *shape))
    arguments = (x, kernel, (x_tangent, tangent))

    pairs = zip(
      jax.tree.leaves(_derivatives(ours, *arguments)),
      jax.tree.leaves(_derivatives(native, *arguments)),
      strict=True,
    )
    for one, other in pairs:
      np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-11)

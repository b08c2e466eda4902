"""Convolutions and networks have forward-mode derivatives on a CPU too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rnascl_jax.models import convolutions, networks, student
from rnascl_jax.models.teachers import resnet
from rnascl_jax.search.spaces import CIFAR_SPACES

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


@pytest.mark.parametrize(
  'net',
  [
    resnet.small_resnet(
      num_classes=10, features=(4, 8), stage_sizes=(1, 1), strides=(1, 2)
    ),
    student.Student(CIFAR_SPACES['s3'], 10),
  ],
  ids=['teacher', 'student'],
)
def test_the_jvp_of_a_network_agrees_with_its_gradient(net):
  images, tangent = jax.random.uniform(jax.random.key(1), (2, 1, 32, 32, 3))
  variables = jax.jit(lambda key: net.init(key, images, train=False))(
    jax.random.key(0)
  )

  def both(images, tangent):
    logits_fn = networks.logits_fn(net, variables)
    _, change = jax.jvp(logits_fn, (images,), (tangent,))
    gradient = jax.grad(lambda x: logits_fn(x)[0, 3])(images)
    return change[0, 3], (gradient * tangent).sum()

  change, expected = jax.jit(both)(images, tangent)

  assert abs(change) > 0
  np.testing.assert_allclose(change, expected, rtol=1e-3)

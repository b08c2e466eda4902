"""Depthwise convolutions in two forms, and the normalisation of images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax.models import convolutions, layers

SIDES = ((4, 4), (5, 8))
STRIDES = (1, 2)
KERNELS = (3, 5)


def make_case(height, width, size, channels=3):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, height, width, channels))
  kernel = rng.normal(size=(size, size, 1, channels))
  return jnp.asarray(x), jnp.asarray(kernel)


def value_and_gradients(conv, stride):
  """The output, and gradients of a sum with weights that are all different."""

  def run(x, kernel):
    y = conv(x, kernel, stride)
    weights = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
    return jnp.sum(weights * y), y

  def both(x, kernel):
    (_, y), gradients = jax.value_and_grad(run, (0, 1), has_aux=True)(x, kernel)
    return y, gradients

  return both


def assert_close(found, expected):
  for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('size', KERNELS)
@pytest.mark.parametrize('stride', STRIDES)
@pytest.mark.parametrize('sides', SIDES)
def test_shifts_equal_the_native_convolution_with_both_gradients(
  sides, stride, size
):
  with jax.enable_x64(True):
    x, kernel = make_case(*sides, size)

    found = jax.jit(
      value_and_gradients(convolutions.shift_depthwise_conv, stride)
    )(x, kernel)
    expected = jax.jit(
      value_and_gradients(convolutions.native_depthwise_conv, stride)
    )(x, kernel)

    out = tuple(-(-side // stride) for side in sides)
    assert found[0].shape == (2, *out, 3)
    assert_close(found, expected)


@pytest.mark.parametrize('stride', STRIDES)
def test_shifts_equal_the_native_convolution_with_a_spread_kernel(stride):
  with jax.enable_x64(True):
    x, kernel = make_case(7, 6, 3)
    found, expected = (
      jax.jit(value_and_gradients(functools.partial(conv, dilation=2), stride))(
        x, kernel
      )
      for conv in (
        convolutions.shift_depthwise_conv,
        convolutions.native_depthwise_conv,
      )
    )
    assert_close(found, expected)
    # The same as a larger kernel with zeros in between.
    spread = jnp.zeros((5, 5, 1, 3)).at[::2, ::2].set(kernel)
    larger = convolutions.native_depthwise_conv(x, spread, stride)
    np.testing.assert_allclose(found[0], larger, rtol=1e-12)


@pytest.mark.parametrize('stride', STRIDES)
def test_shifts_equal_the_native_convolution_under_vmap(stride):
  with jax.enable_x64(True):
    x, kernel = make_case(5, 6, 3)
    images = jnp.stack([x, 2 * x[::-1]])
    kernels = jnp.stack([kernel, kernel[::-1]])

    for axes, arguments in (
      ((0, None), (images, kernel)),
      ((0, 0), (images, kernels)),
    ):
      found, expected = (
        jax.jit(jax.vmap(value_and_gradients(conv, stride), axes))(*arguments)
        for conv in (
          convolutions.shift_depthwise_conv,
          convolutions.native_depthwise_conv,
        )
      )
      assert_close(found, expected)


@pytest.mark.parametrize('stride', STRIDES)
@pytest.mark.parametrize(
  'conv',
  (convolutions.shift_depthwise_conv, convolutions.native_depthwise_conv),
)
def test_depthwise_convolutions_are_the_sum_over_the_window(conv, stride):
  with jax.enable_x64(True):
    x, kernel = make_case(4, 5, 3)

    found = conv(x, kernel, stride)

  padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  for h in range(found.shape[1]):
    for w in range(found.shape[2]):
      window = padded[:, stride * h :, stride * w :][:, :3, :3]
      expected = np.einsum('bijc,ijc->bc', window, kernel[:, :, 0])
      np.testing.assert_allclose(found[:, h, w], expected, rtol=1e-12)


def test_shifts_equal_pytorch_with_symmetric_padding():
  torch = pytest.importorskip('torch')
  x, kernel = make_case(6, 7, 3)

  found = convolutions.shift_depthwise_conv(x, kernel, 2)

  expected = torch.nn.functional.conv2d(
    torch.from_numpy(np.array(x)).permute(0, 3, 1, 2),
    torch.from_numpy(np.array(kernel)).permute(3, 2, 0, 1),
    stride=2,
    padding=1,
    groups=3,
  ).permute(0, 2, 3, 1)
  np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_each_channel_is_convolved_by_itself():
  x, kernel = make_case(4, 4, 3)

  found = convolutions.depthwise_conv(x, kernel)

  silenced = convolutions.depthwise_conv(x.at[..., 1:].set(0.0), kernel)
  np.testing.assert_array_equal(silenced[..., 0], found[..., 0])
  np.testing.assert_array_equal(silenced[..., 1:], jnp.zeros_like(x[..., 1:]))


def test_the_cpu_takes_the_shifts():
  x, kernel = make_case(4, 4, 3)

  program = str(jax.make_jaxpr(convolutions.depthwise_conv)(x, kernel))

  assert 'conv_general_dilated' not in program


@pytest.mark.parametrize(
  'conv',
  (convolutions.shift_depthwise_conv, convolutions.native_depthwise_conv),
)
def test_bfloat16_stays_bfloat16_with_both_gradients(conv):
  x, kernel = (a.astype(jnp.bfloat16) for a in make_case(4, 4, 3))

  outputs = jax.jit(value_and_gradients(conv, 1))(x, kernel)

  for output in jax.tree.leaves(outputs):
    assert output.dtype == jnp.bfloat16


def test_normalisation_is_per_channel():
  images = jnp.asarray(np.random.default_rng(0).random((2, 3, 3, 2)))
  mean, std = (0.2, 0.7), (0.5, 0.25)

  found = layers.normalize(images, mean, std)

  expected = (np.asarray(images) - np.array(mean)) / np.array(std)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  np.testing.assert_array_equal(
    found[0], layers.normalize(images[0], mean, std)
  )


@pytest.mark.parametrize(
  'mean, std', (((0.0,), (1.0, 1.0)), ((0.0, 0.0), (1.0,)), ((0.0,), (1.0,)))
)
def test_normalisation_needs_one_number_for_each_channel(mean, std):
  with pytest.raises(ValueError, match='2 channels'):
    layers.normalize(jnp.zeros((1, 2, 2, 2)), mean, std)

"""Dense convolutions with gradients in one layout equal JAX's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rnascl_jax import attacks
from rnascl_jax.attacks import unrolling
from rnascl_jax.models import convolutions, networks, student
from rnascl_jax.models.fixed import resnet
from rnascl_jax.search.spaces import CIFAR_SPACES

_CASES = [
  # Image sides, kernel sides, strides, padding.
  ((8, 8), (3, 3), (1, 1), ((1, 1), (1, 1))),
  ((8, 8), (3, 3), (2, 2), ((1, 1), (1, 1))),
  ((9, 7), (3, 3), (2, 2), ((1, 1), (1, 1))),
  ((8, 8), (1, 1), (2, 2), ((0, 0), (0, 0))),
  ((9, 8), (5, 3), (3, 2), ((2, 1), (0, 1))),
  ((8, 8), (3, 3), (2, 2), ((0, 0), (0, 0))),
]


_both_networks = pytest.mark.parametrize(
  'net',
  [
    resnet.small_resnet(
      num_classes=10, features=(4, 8), stage_sizes=(1, 1), strides=(1, 2)
    ),
    student.Student(CIFAR_SPACES['s3'], 10),
  ],
  ids=['teacher', 'student'],
)


@pytest.mark.parametrize(('sides', 'size', 'strides', 'padding'), _CASES)
def test_values_and_both_gradients_equal_jaxs(sides, size, strides, padding):
  with jax.enable_x64(True):
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (4, *sides, 3), jnp.float64)
    kernel = jax.random.normal(keys[1], (*size, 3, 5), jnp.float64)

    def native(x, kernel):
      return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
      )

    def ours(x, kernel):
      return convolutions.canonical_conv(x, kernel, strides, padding)

    values = [f(x, kernel) for f in (native, ours)]
    np.testing.assert_allclose(*values, rtol=1e-13, atol=1e-13)
    gradients = [
      jax.grad(lambda *a, f=f: jnp.sum(jnp.sin(f(*a))), (0, 1))(x, kernel)
      for f in (native, ours)
    ]
    for one, two in zip(*gradients, strict=True):
      np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-12)


def test_flax_convolutions_take_it_and_keep_their_values():
  images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
  options = dict(strides=(2, 2), padding=((1, 1), (1, 1)), use_bias=False)
  plain = nn.Conv(4, (3, 3), **options)
  ours = nn.Conv(
    4,
    (3, 3),
    conv_general_dilated=convolutions.conv_general_dilated,
    **options,
  )
  variables = plain.init(jax.random.key(1), images)
  np.testing.assert_allclose(
    plain.apply(variables, images), ours.apply(variables, images), rtol=1e-6
  )


def test_it_leaves_grouped_and_dilated_convolutions_to_jax():
  x = jnp.ones((1, 8, 8, 4))
  layout = ('NHWC', 'HWIO', 'NHWC')
  grouped = convolutions.conv_general_dilated(
    x,
    jnp.ones((3, 3, 1, 4)),
    (1, 1),
    ((1, 1), (1, 1)),
    feature_group_count=4,
    dimension_numbers=layout,
  )
  assert float(grouped[0, 4, 4, 0]) == 9
  dilated = convolutions.conv_general_dilated(
    x,
    jnp.ones((3, 3, 4, 1)),
    (1, 1),
    ((2, 2), (2, 2)),
    rhs_dilation=(2, 2),
    dimension_numbers=layout,
  )
  assert dilated.shape == (1, 8, 8, 1)
  assert float(dilated[0, 0, 0, 0]) == 4 * 4


@_both_networks
def test_attacks_on_our_networks_need_no_unrolling_on_a_cpu(net):
  """No convolution in their gradients is slow in the body of a loop."""
  images = jnp.zeros((2, 32, 32, 3))
  variables = jax.eval_shape(
    lambda x: net.init(jax.random.key(0), x, train=False), images
  )
  keys = jax.random.split(jax.random.key(0), 2)

  def attack(variables, images):
    return attacks.batched(attacks.fgsm)(
      networks.logits_fn(net, variables),
      keys,
      images,
      jnp.zeros(2, int),
      epsilon=0.1,
    )

  assert unrolling.choose(attack, variables, images, length=20) == 1


@_both_networks
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

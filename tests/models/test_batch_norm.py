"""BatchNorm as a multiplication and an addition equals that of Flax."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax.models.batch_norm import BatchNorm
from rnascl_jax.runtime import parallel


def _variables(channels, dtype):
  keys = jax.random.split(jax.random.key(0), 4)
  scale, bias, mean, var = (
    jax.random.uniform(key, (channels,), dtype, 0.5, 1.5) for key in keys
  )
  return {
    'params': {'scale': scale, 'bias': bias},
    'batch_stats': {'mean': mean, 'var': var},
  }


@pytest.mark.parametrize('train', (True, False), ids=('train', 'eval'))
@pytest.mark.parametrize('shape', ((6, 4, 4, 3), (8, 5)))
def test_values_statistics_and_gradients_equal_those_of_flax(shape, train):
  with jax.enable_x64(True):
    x = 3 + 2 * jax.random.normal(jax.random.key(1), shape, jnp.float64)
    variables = _variables(shape[-1], jnp.float64)

    def loss(make, params, x):
      norm = make(use_running_average=not train, momentum=0.9)
      y, new = norm.apply(
        variables | {'params': params}, x, mutable=['batch_stats']
      )
      return jnp.sum(jnp.sin(y)), (y, new)

    found, expected = (
      jax.jit(jax.value_and_grad(functools.partial(loss, make), (0, 1), True))(
        variables['params'], x
      )
      for make in (BatchNorm, nn.BatchNorm)
    )
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-11),
    found,
    expected,
  )


def test_variables_have_the_names_shapes_and_values_of_flax():
  x = jnp.ones((2, 4, 4, 3))
  ours, flaxs = (
    make(use_running_average=False).init(jax.random.key(0), x)
    for make in (BatchNorm, nn.BatchNorm)
  )
  assert jax.tree.structure(ours) == jax.tree.structure(flaxs)
  jax.tree.map(np.testing.assert_array_equal, ours, flaxs)


def test_statistics_are_those_of_the_batch_of_all_devices():
  devices = parallel.devices(2)
  x = jax.random.normal(jax.random.key(2), (6, 4, 4, 3))
  variables = _variables(3, jnp.float32)
  whole = BatchNorm(use_running_average=False)
  of_all = BatchNorm(use_running_average=False, axis_name=parallel.AXIS)
  expected, new = whole.apply(variables, x, mutable=['batch_stats'])
  apply = functools.partial(of_all.apply, mutable=['batch_stats'])
  found, found_new = parallel.pmap(apply, devices)(
    parallel.replicate(variables, devices),
    parallel.place([*parallel.share(np.asarray(x), devices)], devices),
  )
  np.testing.assert_allclose(
    np.concatenate(found), expected, rtol=1e-5, atol=1e-5
  )
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-6),
    parallel.unreplicate(found_new),
    new,
  )


def test_maps_in_bfloat16_have_statistics_in_float32():
  x = jax.random.normal(jax.random.key(3), (64, 8)).astype(jnp.bfloat16)
  norm = BatchNorm(use_running_average=False, dtype=jnp.bfloat16)
  y, new = norm.apply(_variables(8, jnp.float32), x, mutable=['batch_stats'])
  assert y.dtype == jnp.bfloat16
  expected = 0.1 * x.astype(jnp.float32).mean(0)
  expected += 0.9 * _variables(8, jnp.float32)['batch_stats']['mean']
  np.testing.assert_allclose(new['batch_stats']['mean'], expected, rtol=1e-6)

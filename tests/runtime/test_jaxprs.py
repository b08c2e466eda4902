"""Programs are read alike, however a version of JAX writes them down."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from rnascl_jax.runtime import jaxprs

WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)


def scanned(x):
  def body(carry, row):
    return (carry[0] * x + row.sum(), carry[0] - carry[1]), row

  return lax.scan(body, (x, x), jnp.asarray(WEIGHTS))[1]


def test_operands_of_a_scan_are_told_apart():
  program = jaxprs.trace(scanned, 1.0)
  (scan,) = (e for e in program.eqns if e.primitive.name == 'scan')

  assert jaxprs.scan_operands(scan) == (1, 2)
  assert len(scan.invars) == 1 + 2 + 1


@pytest.mark.parametrize(
  'params',
  (
    {'num_consts': 1, 'num_carry': 2},
    {'ft_in': types.SimpleNamespace(unpack=lambda: ((0,), (0, 0), (0,)))},
  ),
  ids=('as up to 0.10', 'as from 0.11 on'),
)
def test_operands_of_a_scan_are_told_apart_in_every_version(params):
  assert jaxprs.scan_operands(types.SimpleNamespace(params=params)) == (1, 2)


@pytest.mark.parametrize(
  'call',
  (
    lambda function: function,
    jax.jit,
    jax.checkpoint,
    lambda function: lambda x: lax.cond(x[0] > 0, function, jnp.cos, x),
    lambda function: lambda x: lax.fori_loop(0, 3, lambda _, c: function(c), x),
    lambda function: (
      lambda x: lax.while_loop(
        lambda c: c[0] < 1, lambda c: jax.jit(function)(c), x
      )
    ),
  ),
  ids=('bare', 'jit', 'checkpoint', 'cond', 'scan', 'jit in while'),
)
def test_equations_and_arrays_are_found_wherever_they_are_called(call):
  constant = np.arange(7.0, dtype=np.float32)
  function = call(lambda x: jnp.sin(x) * constant)
  closed = jax.make_jaxpr(function)(jnp.ones(7))

  names = [e.primitive.name for e in jaxprs.equations(jaxprs.opened(closed))]
  arrays = [a for a in jaxprs.constants(closed) if a.shape == (7,)]

  assert names.count('sin') == 1
  assert len(arrays) >= 1
  assert all((array == constant).all() for array in arrays)

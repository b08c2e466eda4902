"""Programs as JAX writes them down, read alike in all of its versions.

This is the only file that knows how they differ. Up to JAX 0.10 a traced
program is a `ClosedJaxpr` around a `Jaxpr`; from 0.11 on both are one class.
A scan said how many operands are constants and how many are carried; from 0.11
on it says so by a tree. The types are not asked for, only what they hold.

Example:
  >>> import jax
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.runtime import jaxprs
  >>> def twice(x):
  ...   return jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, length=2)[0]
  >>> program = jaxprs.trace(twice, 1.0)
  >>> [equation.primitive.name for equation in jaxprs.equations(program)]
  ['scan', 'sin']
  >>> jaxprs.scan_operands(program.eqns[0])
  (0, 1)
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.extend import core


def trace(function: Callable[..., Any], *arguments: Any) -> Any:
  """The program of a function; nothing is compiled.

  Args:
    function: of arrays, giving arrays.
    *arguments: arrays, or `jax.ShapeDtypeStruct`; only their types are used.

  Returns:
    A jaxpr with `invars`, `outvars`, `constvars` and `eqns`.
  """
  return opened(jax.make_jaxpr(function)(*arguments))


def opened(program: Any) -> Any:
  """A jaxpr without its constants' values, of one with or without them."""
  return getattr(program, 'jaxpr', program)


def called(equation: Any) -> list[Any]:
  """The functions that an equation calls, as jaxprs."""
  return list(core.jaxprs_in_params(equation.params))


def equations(program: Any) -> Iterator[Any]:
  """All equations of a program, those of functions that it calls included.

  The body of a loop counts once, a function as often as it is called.
  """
  for equation in program.eqns:
    yield equation
    for function in called(equation):
      yield from equations(function)


def constants(value: Any) -> Iterator[Any]:
  """Arrays in a program and in those that it calls; numbers are in its text."""
  if hasattr(value, 'eqns'):
    yield from getattr(value, 'consts', ())
    for equation in value.eqns:
      yield from constants(list(equation.params.values()))
  elif isinstance(value, tuple | list):
    for item in value:
      yield from constants(item)
  elif isinstance(value, np.ndarray | jax.Array):
    yield value


def scan_operands(equation: Any) -> tuple[int, int]:
  """How many operands of a scan are constants, and how many are carried.

  The constants come first, then what is carried, then what is scanned over.
  """
  params = equation.params
  if 'num_consts' in params:
    return params['num_consts'], params['num_carry']
  constant, carried, _ = params['ft_in'].unpack()
  return len(constant), len(carried)

"""Whether the loop of an attack should be unrolled on this back end.

XLA's CPU back end has a fast kernel for convolutions of images [B, H, W, C]
with kernels [H, W, C, C'], and a pass that brings others into this form, but
the pass does not enter the bodies of loops (jax-ml/jax#12868). The gradient of
a convolution by its input is such another form (its kernel is transposed), so
that inside a loop it runs ten times slower than outside of it; a partly
unrolled loop is still a loop and gains nothing. Networks without such
convolutions (matrix products, depthwise convolutions as shifts, convolutions
with a gradient written in the fast form) gain nothing from unrolling and only
compile longer; neither does an attack that is in a loop itself, such as one
over training steps. Accelerators do not have this problem.

PGD on 16 images of 16 x 16, from `python tests/benchmarks/attack_unroll.py` on
a busy CPU of two cores, JAX 0.10.2:

| network         | steps | loop: compile, run | unrolled: compile, run |
| --------------- | ----- | ------------------ | ---------------------- |
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax

# The longest loop that is unrolled: PGD-50 of 20 convolutions compiles in about
# 6 s, and a single run of it takes that long as a loop.
_MAX_LENGTH = 50

# Positions of batch, channels, height and width in [B, H, W, C]; of output
# channels, input channels, height and width in [H, W, C, C'].
_IMAGES = (0, 3, 1, 2)
_KERNELS = (3, 2, 0, 1)


def choose(
  function: Callable[..., Any], *arguments: Any, length: int
) -> int | bool:
  """The `unroll` of a `lax.scan` of a function.

  Args:
    function: what an iteration computes, gradients included.
    *arguments: of the function; only shapes and types are used.
    length: iterations of the loop.

  Returns:
    True where unrolling is worth its longer compilation, and 1 elsewhere.
  """
  # A loop of one iteration is still a loop for the pass.
  if length == 1:
    return True
  if jax.default_backend() != 'cpu' or length > _MAX_LENGTH:
    return 1
  jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
  return True if any(map(_is_slow_in_loops, _equations(jaxpr))) else 1


def _equations(jaxpr: Any) -> Iterator[Any]:
  """All equations, also those of functions that are called."""
  for equation in jaxpr.eqns:
    yield equation
    for parameter in jax.tree.leaves(tuple(equation.params.values())):
      inner = getattr(parameter, 'jaxpr', parameter)
      if hasattr(inner, 'eqns'):
        yield from _equations(inner)


def _is_slow_in_loops(equation: Any) -> bool:
  """Whether this is a dense convolution that is not of the fast form."""
  if equation.primitive.name != 'conv_general_dilated':
    return False
  groups = ('feature_group_count', 'batch_group_count')
  if any(equation.params[name] != 1 for name in groups):
    return False
  form = equation.params['dimension_numbers']
  return (form.lhs_spec, form.rhs_spec, form.out_spec) != (
    _IMAGES,
    _KERNELS,
    _IMAGES,
  )

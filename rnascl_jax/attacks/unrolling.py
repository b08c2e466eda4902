"""Whether the loop of an attack should be unrolled on this back end.

XLA's CPU back end has a fast kernel for convolutions of images [B, H, W, C]
with kernels [H, W, C, C'], and a pass that brings others into this form, but
the pass does not enter the bodies of loops (jax-ml/jax#12868). The gradient of
a convolution by its input is such another form (its kernel is transposed), so
that inside a loop it runs ten times slower than outside of it; a partly
unrolled loop is still a loop and gains nothing. Networks without such
convolutions (matrix products, depthwise convolutions as shifts, convolutions
with a gradient written in the fast form), or with one of them only, as a stem,
gain next to nothing from unrolling and compile longer. Neither does an attack
gain that is in a loop itself, such as one over training steps. Accelerators do
not have this problem.

PGD on 16 images of 32 x 32, by `python tests/benchmarks/attack_unroll.py` on
two busy CPU cores, JAX 0.10.2; seconds to compile / milliseconds of a run:

| network         | steps | loop       | 5 unrolled | all unrolled |
| --------------- | ----- | ---------- | ---------- | ------------ |
| 3 convolutions  | 7     | 1.7 / 341  | 2.1 / 261  | 1.5 / 41     |
| 3 convolutions  | 20    | 1.5 / 1020 | 1.9 / 997  | 1.6 / 118    |
| 10 convolutions | 7     | 1.8 / 1489 | 3.1 / 1086 | 1.5 / 137    |
| 10 convolutions | 20    | 2.0 / 4177 | 3.3 / 4140 | 1.6 / 384    |
| RNAS-CL-S3      | 7     | 3.6 / 76   | 7.0 / 72   | 5.9 / 66     |
| RNAS-CL-S3      | 20    | 3.3 / 200  | 5.4 / 202  | 10.9 / 184   |
"""

from collections.abc import Callable
from typing import Any

import jax

from rnascl_jax.runtime import jaxprs

# The longest loop that is unrolled. (PGD-50 of 20 convolutions compiles in 6 s,
# which a single run of it takes longer as a loop.)
_MAX_LENGTH = 50
# The fewest slow convolutions in an iteration for which it is unrolled.
_MIN_CONVOLUTIONS = 2

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
  if length > _MAX_LENGTH:
    return 1
  return True if is_slow_in_loops(function, *arguments) else 1


def is_slow_in_loops(
  function: Callable[..., Any], *arguments: Any, platform: str | None = None
) -> bool:
  """Whether a function runs much slower as the body of a loop.

  Args:
    function: what an iteration computes, gradients included.
    *arguments: of the function; only shapes and types are used.
    platform: where it runs, such as 'cpu'; None for the default back end.

  Returns:
    Whether it has several slow convolutions and the back end is the CPU's.
  """
  if (platform or jax.default_backend()) != 'cpu':
    return False
  equations = jaxprs.equations(jaxprs.trace(function, *arguments))
  return sum(map(_is_slow, equations)) >= _MIN_CONVOLUTIONS


def _is_slow(equation: Any) -> bool:
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

"""Linear maps whose transposes are given rather than derived.

JAX differentiates forwards by linear maps, and backwards by their transposes,
which it derives. Where it derives a slow one, `call` takes both:

  call(function, transpose, x, r) = function(x, r),  linear in x,

and the gradient of it is transpose(cotangent, r). Unlike `jax.custom_vjp` this
leaves `jax.jvp`, and unlike `jax.custom_derivatives.linear_call` it can be
lifted by `vmap`.

Example:
  >>> import jax
  >>> from rnascl_jax.models import linear
  >>> def double(x):
  ...   return 2 * x
  >>> def call(x):
  ...   return linear.call(double, double, x)
  >>> print(jax.grad(call)(3.), jax.jvp(call, (3.,), (1.,))[1])
  2.0 2.0
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from rnascl_jax.base import Array

_linear = Primitive('linear')


def call(
  function: Callable[..., Array],
  transpose: Callable[..., Array],
  x: Array,
  *residuals: Array,
) -> Array:
  """Applies a linear map.

  Args:
    function: (x, *residuals) -> y, linear in x.
    transpose: (cotangent of y, *residuals) -> cotangent of x.
    x: any shape.
    *residuals: what else the map depends on.

  Returns:
    y.
  """
  return _linear.bind(x, *residuals, function=function, transpose=transpose)


@dataclasses.dataclass(frozen=True)
class _Lifted:
  """A map of a batch."""

  function: Callable[..., Array]
  axes: tuple[int | None, ...]

  def __call__(self, *arrays: Array) -> Array:
    return jax.vmap(self.function, in_axes=self.axes)(*arrays)


def _apply(*arrays: Array, function: Any, transpose: Any) -> Array:
  del transpose
  return function(*arrays)


def _abstract(*arrays: Any, function: Any, transpose: Any) -> Any:
  del transpose
  shapes = (jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays)
  result = jax.eval_shape(function, *shapes)
  return jax.core.ShapedArray(result.shape, result.dtype)


def _jvp(
  primals: Sequence[Any], tangents: Sequence[Any], **maps: Any
) -> tuple[Any, Any]:
  result = _linear.bind(*primals, **maps)
  terms = []
  if not isinstance(tangents[0], ad.Zero):
    terms.append(_linear.bind(tangents[0], *primals[1:], **maps))
  for place, tangent in enumerate(tangents[1:], 1):
    if isinstance(tangent, ad.Zero):
      continue

    def of_residual(residual: Array, place: int = place) -> Array:
      return maps['function'](*primals[:place], residual, *primals[place + 1 :])

    terms.append(jax.jvp(of_residual, (primals[place],), (tangent,))[1])
  return result, sum(terms[1:], terms[0])


def _transpose(
  cotangent: Any, x: Any, *residuals: Any, function: Any, transpose: Any
) -> list[Any]:
  del x
  if isinstance(cotangent, ad.Zero):
    return [None] * (1 + len(residuals))
  pulled = call(transpose, function, cotangent, *residuals)
  return [pulled, *[None] * len(residuals)]


def _batch(
  arrays: Sequence[Any],
  axes: Sequence[int | None],
  *,
  function: Any,
  transpose: Any,
) -> tuple[Any, int]:
  size = next(
    array.shape[axis]
    for array, axis in zip(arrays, axes, strict=True)
    if axis is not None
  )
  x, lifted = arrays[0], (0, *axes[1:])
  if axes[0] is None:
    x = jnp.broadcast_to(x, (size, *x.shape))
  else:
    x = jnp.moveaxis(x, axes[0], 0)
  result = call(
    _Lifted(function, lifted), _Lifted(transpose, lifted), x, *arrays[1:]
  )
  return result, 0


_linear.def_impl(_apply)
_linear.def_abstract_eval(_abstract)
mlir.register_lowering(_linear, mlir.lower_fun(_apply, multiple_results=False))
ad.primitive_jvps[_linear] = _jvp
ad.primitive_transposes[_linear] = _transpose
batching.primitive_batchers[_linear] = _batch

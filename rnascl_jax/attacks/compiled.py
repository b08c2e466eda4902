"""Compiled programs of classifiers, of which only the latest are kept.

A program belongs to a function: to a classifier's code and, where that is a
closure, to what it closes over. `jax.jit` keeps a program for each function
that it was ever given, and so a new closure in every call fills the memory.
(XLA crashes at 65,530 pieces of memory, the most that Linux allows a process;
a program takes dozens.) The programs here are made of arrays alone, one for
each function, and those that were not used for long are given back.

Example:
  >>> import jax.numpy as jnp
  >>> from jax.tree_util import Partial
  >>> from rnascl_jax.attacks import compiled
  >>> @compiled.jit
  ... def evaluate(logits_fn, images):
  ...   return logits_fn(images)
  >>> for factor in range(3):
  ...   print(evaluate(Partial(lambda x, k=factor: k * x), jnp.ones(2)))
  [0. 0.]
  [1. 1.]
  [2. 2.]
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rnascl_jax.attacks.randomized import Randomized
from rnascl_jax.base import PyTree
from rnascl_jax.runtime import compilation


def as_argument(function: Callable[..., Any]) -> Callable[..., Any]:
  """A callable as `jit` takes it: its arrays traced, all else static.

  Args:
    function: a function, or a pytree that can be called, such as a
      `jax.tree_util.Partial` or a module whose leaves are weights, activation
      functions and options. Leaves that are not arrays must be hashable.

  Returns:
    A pytree that does the same; equal for equal static leaves, so that other
    weights do not compile again.
  """
  if isinstance(function, Randomized):
    return Randomized(as_argument(function.function))
  leaves, structure = jax.tree.flatten(function)
  if all(map(is_traced, leaves)):
    return function
  static = tuple(None if is_traced(leaf) else leaf for leaf in leaves)
  traced = [leaf if is_traced(leaf) else None for leaf in leaves]
  return jax.tree_util.Partial(_Rebuilt(structure, static), traced)


@dataclasses.dataclass(frozen=True)
class _Rebuilt:
  """Puts a callable together from its traced leaves, and calls it."""

  structure: Any
  static: tuple[Any, ...]

  def __call__(self, traced: list[Any], *args: Any, **kwargs: Any) -> Any:
    leaves = [
      static if leaf is None else leaf
      for leaf, static in zip(traced, self.static, strict=True)
    ]
    return jax.tree.unflatten(self.structure, leaves)(*args, **kwargs)


def is_traced(value: Any) -> bool:
  """Whether a number is traced; integers, flags and functions are static."""
  return isinstance(value, float | np.floating | np.ndarray | jax.Array)


def of_leaves(function: Callable[..., Any], structure: Any) -> Callable:
  """A function whose first argument is given as a list of its leaves.

  Args:
    function: (tree, *others) -> anything.
    structure: of the tree, of `jax.tree.structure`.

  Returns:
    (leaves, *others) -> the same result. When it is compiled, JAX's caches
    refer to the arrays of the tree only, and not to the functions in it.
  """

  def call(leaves: list[Any], *others: PyTree) -> Any:
    return function(jax.tree.unflatten(structure, leaves), *others)

  return call


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
  """`jax.jit` that keeps the latest programs only.

  Args:
    function: of pytrees, whose arrays are traced; what else is in them, such as
      the code of a classifier, is static and must be hashable. Its keyword
      arguments are static. Programs of 16 different static parts are kept.

  Returns:
    The compiled function.
  """

  @functools.lru_cache(maxsize=16)
  def program(structure: Any, static: tuple[tuple[str, Any], ...]) -> Callable:
    options = dict(static)
    of_arguments = of_leaves(
      lambda arguments: function(*arguments, **options), structure
    )
    of_arguments.__name__ = function.__name__
    return jax.jit(of_arguments, compiler_options=compilation.brief())

  @functools.wraps(function)
  def call(*arguments: PyTree, **static: Any) -> Any:
    leaves, structure = jax.tree.flatten(arguments)
    return program(structure, tuple(sorted(static.items())))(leaves)

  return call

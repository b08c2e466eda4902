"""Which operations of a function lie between its argument and its result.

`steps` lists every equation of a function's jaxpr, those of all functions that
it calls and of the bodies of loops included, and says of each

* which of its inputs depend on the function's argument,
* whether the function's result depends on it,
* through which of its results as a value, not only by selecting among others.

relu(x) = where(x > 0, x, 0) selects: its comparison has no derivative, and
needs none. In where(x > 0, 1, -1) the comparison is all that is known of x. An
operand selects if it is the condition of a `where`, an index, the key of a sort
or a factor of zeros and ones, and if what it selects from depends on the
argument too.

Example:
  >>> import jax
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.attacks.checks import dataflow
  >>> def function(x):
  ...   unused = jnp.exp(x)
  ...   return jax.lax.select(x > 0, x, -x)
  >>> for step in dataflow.steps(function, jnp.ones(2)):
  ...   print(step.name, step.depends, step.reaches, step.as_value)
  exp (True,) False (False,)
  gt (True, False) True (False,)
  neg (True,) True (True,)
  select_n (True, True, True) True (True,)
"""

import collections
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from jax.extend import source_info_util

from rnascl_jax.attacks.checks import jaxpr_graph
from rnascl_jax.runtime import jaxprs


class Step(NamedTuple):
  """One equation, in one place where it is evaluated.

  Attributes:
    path: the equation, after those of the functions that it is called from.
    depends: of each operand, whether it depends on the argument.
    reaches: whether the function's result depends on this equation.
    as_value: of each of the equation's results, whether the function's depends
      on it other than by selecting.
  """

  path: tuple[Any, ...]
  depends: tuple[bool, ...]
  reaches: bool
  as_value: tuple[bool, ...]

  @property
  def equation(self) -> Any:
    return self.path[-1]

  @property
  def name(self) -> str:
    return self.equation.primitive.name

  @property
  def calls(self) -> bool:
    """Whether it calls functions, whose equations are steps themselves."""
    return bool(jaxprs.called(self.equation))

  def __str__(self) -> str:
    """The primitive and its line of code, without folders, if it is known."""
    infos = (equation.source_info for equation in reversed(self.path))
    lines = map(source_info_util.summarize, infos)
    place = next((line.rpartition('/')[2] for line in lines if line), '')
    return f'{self.name} at {place}' if place else self.name


def steps(function: Callable[..., Any], *arguments: Any) -> list[Step]:
  """All operations of a function, in the order of evaluation.

  Args:
    function: of arrays, giving arrays.
    *arguments: arrays, or `jax.ShapeDtypeStruct`; only their types are used.

  Returns:
    A step for every place where an equation is evaluated. The body of a loop
    counts once. The insides of primitives that have their own way of calling
    functions (linear solvers, kernels) are taken to mix all of their inputs;
    what a kernel writes through a reference is not followed.
  """
  jaxpr = jaxprs.trace(function, *arguments)
  graph = jaxpr_graph.Graph()
  inputs = graph.new(len(jaxpr.invars))
  outputs = graph.enter(jaxpr, inputs, ())
  edges = graph.edges
  dependent = _closure(inputs, [(e.source, e.target) for e in edges])
  values = [e for e in edges if dependent.isdisjoint(e.choices)]
  needed = _closure(outputs, [(e.target, e.source) for e in edges])
  valued = _closure(outputs, [(e.target, e.source) for e in values])
  return [
    Step(
      path,
      tuple(r in dependent for r in reads),
      not needed.isdisjoint(writes),
      tuple(w in valued for w in writes),
    )
    for path, reads, writes in graph.equations
  ]


def _closure(starts: Iterable[int], edges: Iterable[tuple[int, int]]) -> set:
  """All that can be reached from some numbers."""
  following = collections.defaultdict(list)
  for source, target in edges:
    following[source].append(target)
  found, waiting = set(starts), list(starts)
  while waiting:
    fresh = set(following[waiting.pop()]) - found
    found |= fresh
    waiting.extend(fresh)
  return found

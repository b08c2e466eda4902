"""Which operations of a function lie between its argument and its result.

`steps` lists every equation of a function's jaxpr, with those of all functions
that it calls and of the bodies of loops.

The result of an equation is used as a value, or only to select among others.
relu(x) = where(x > 0, x, 0) selects: its comparison has no derivative, and
needs none. In where(x > 0, 1, -1) the comparison is all that is known of x. An
operand selects if it is the condition of a `where`, an index, the key of a sort
or a factor of zeros and ones, and if what it selects from depends on the
function's argument too.

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
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from jax.extend import core, source_info_util

from rnascl_jax.runtime import jaxprs

# Of these primitives, operands from this position on are indices.
_INDICES = {'gather': 1, 'dynamic_slice': 1, 'dynamic_update_slice': 2}
# What a factor of zeros and ones goes through on its way to the product.
_SHAPING = ('broadcast_in_dim', 'reshape', 'squeeze', 'transpose')


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

  def __str__(self) -> str:
    """The primitive and its line of code, without folders, if it is known."""
    infos = (equation.source_info for equation in reversed(self.path))
    lines = map(source_info_util.summarize, infos)
    place = next((line.rpartition('/')[2] for line in lines if line), '')
    return f'{self.name} at {place}' if place else self.name


def steps(function: Callable[..., Any], *arguments: Any) -> list[Step]:
  """Lists all operations of a function, in the order of evaluation.

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
  graph = _Graph()
  inputs = graph.new(len(jaxpr.invars))
  outputs = graph.enter(jaxpr, inputs, ())
  dependent = _closure(inputs, [(s, t) for s, t, _ in graph.edges])
  needed = _closure(outputs, [(t, s) for s, t, _ in graph.edges])
  by_value = [e for e in graph.edges if dependent.isdisjoint(e[2])]
  valued = _closure(outputs, [(t, s) for s, t, _ in by_value])
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
  """Gives all numbers that edges lead to from the starts."""
  following = collections.defaultdict(list)
  for source, target in edges:
    following[source].append(target)
  reached, waiting = set(starts), list(starts)
  while waiting:
    fresh = set(following[waiting.pop()]) - reached
    reached |= fresh
    waiting.extend(fresh)
  return reached


class _Graph:
  """The values of a program, as numbers, and what each is computed from.

  Functions are entered wherever they are called, so that one which is called
  twice, of the image and of a constant, has other numbers each time. A loop's
  body is entered once, and its results lead back to its operands.

  Attributes:
    edges: a value, another one that is computed from it, and the values among
      which it selects there; none where it is a value itself.
    equations: the path of each, its operands and its results.
  """

  def __init__(self):
    self.edges: list[tuple[int, int, tuple[int, ...]]] = []
    self.equations: list[tuple[tuple, list[int], list[int]]] = []
    self._numbers = itertools.count()
    self._masks: set[int] = set()  # Numbers of factors of zeros and ones.

  def new(self, count: int) -> list[int]:
    """Gives numbers that no value has yet."""
    return list(itertools.islice(self._numbers, count))

  def enter(
    self, jaxpr: Any, inputs: Sequence[int], path: tuple[Any, ...]
  ) -> list[int]:
    """Adds the equations of a function for one call; gives its results."""
    jaxpr = jaxprs.opened(jaxpr)
    numbers = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atoms):
      # Constants are new; those with a name stay the same value.
      return [
        number
        if isinstance(atom, core.Literal)
        else numbers.setdefault(atom, number)
        for atom, number in zip(atoms, self.new(len(atoms)), strict=True)
      ]

    for equation in jaxpr.eqns:
      reads = read(equation.invars)
      writes = self._apply(equation, reads, (*path, equation))
      numbers.update(zip(equation.outvars, writes, strict=True))
      self.equations.append(((*path, equation), reads, writes))
    return read(jaxpr.outvars)

  def _link(self, sources, targets):
    self.edges += [(s, t, ()) for s, t in zip(sources, targets, strict=False)]

  def _apply(self, equation, reads, path):
    """Adds the edges of one equation; gives the numbers of its results."""
    name, params = equation.primitive.name, equation.params
    if name == 'scan':
      begin, count = jaxprs.scan_operands(equation)
      return self._loop(params['jaxpr'], reads, begin, self.new(count), path)
    if name == 'while':
      begin, constants = params['cond_nconsts'], params['body_nconsts']
      carry, writes = (self.new(len(equation.outvars)) for _ in range(2))
      self._loop(params['body_jaxpr'], reads[begin:], constants, carry, path)
      inputs = [*reads[:begin], *carry]
      (more,) = self.enter(params['cond_jaxpr'], inputs, path)
      self._link(carry, writes)
      self.edges += [(more, write, tuple(carry)) for write in writes]
      return writes
    if name == 'cond':
      writes = self.new(len(equation.outvars))
      results = []
      for branch in params['branches']:
        results.append(self.enter(branch, reads[1:], path))
        self._link(results[-1], writes)
      for write, *among in zip(writes, *results, strict=True):
        self.edges.append((reads[0], write, tuple(among)))
      return writes
    called = jaxprs.called(equation)
    if len(called) == 1 and _arity(called[0]) == _arity(equation):
      return self.enter(called[0], reads, path)
    return self._mix(equation, reads, path)

  def _loop(self, body, reads, begin, carry, path):
    """Adds a body whose operands from `begin` on are carried."""
    end = begin + len(carry)
    results = self.enter(body, [*reads[:begin], *carry, *reads[end:]], path)
    self._link(reads[begin:end], carry)
    self._link(results, carry)
    return results

  def _mix(self, equation, reads, path):
    """Adds an operation, or one that calls functions in its own way."""
    name = equation.primitive.name
    writes = self.new(len(equation.outvars))
    # What a scatter calls combines two numbers, and never sees an index.
    for jaxpr in [] if name.startswith('scatter') else jaxprs.called(equation):
      inputs = self.new(len(jaxpr.invars))
      results = self.enter(jaxpr, inputs, path)
      for pairs in ((reads, inputs), (results, writes)):
        self.edges += [(s, t, ()) for s, t in itertools.product(*pairs)]
    for i, source in enumerate(reads):
      for j, target in enumerate(writes):
        self.edges.append((source, target, self._among(name, reads, i, j)))
    is_truth = (
      name == 'convert_element_type' and equation.invars[0].aval.dtype == bool
    )
    if is_truth or (name in _SHAPING and self._masks.issuperset(reads)):
      self._masks.update(writes)
    return writes

  def _among(self, name, reads, i, j):
    """Gives what operand i selects among for result j; none if a value."""
    if name == 'select_n' and i == 0:
      return tuple(reads[1:])
    if name in _INDICES and i >= _INDICES[name]:
      return tuple(reads[: _INDICES[name]])
    if name.startswith('scatter') and i == 1:
      return reads[0], reads[2]
    if name == 'sort' and i != j:
      return (reads[j],)
    if name == 'mul' and reads[i] in self._masks:
      return (reads[1 - i],)
    return ()


def _arity(function):
  """Gives the numbers of operands and results of an equation or a jaxpr."""
  return len(function.invars), len(function.outvars)

"""A jaxpr as a graph: values are numbers, and edges say what needs what.

Functions are entered wherever they are called, so that one which is called
twice, of the image and of a constant, has other numbers each time. A loop's
body is entered once, and its results lead back to its operands.

Example:
  >>> from rnascl_jax.attacks.checks import jaxpr_graph
  >>> from rnascl_jax.runtime import jaxprs
  >>> graph = jaxpr_graph.Graph()
  >>> jaxpr = jaxprs.trace(lambda x, y: x * (x - y), 1., 2.)
  >>> graph.enter(jaxpr, graph.new(2), ())
  [7]
  >>> [(edge.source, edge.target) for edge in graph.edges]
  [(0, 4), (1, 4), (0, 7), (4, 7)]
"""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from jax.extend import core

from rnascl_jax.runtime import jaxprs

# Of these primitives, operands from this position on are indices.
_INDICES = {'gather': 1, 'dynamic_slice': 1, 'dynamic_update_slice': 2}
# What a factor of zeros and ones goes through on its way to the product.
_SHAPING = ('broadcast_in_dim', 'reshape', 'squeeze', 'transpose')


class Edge(NamedTuple):
  """A value that another one is computed from.

  Attributes:
    source: number of the value.
    target: number of the other one.
    choices: what the source selects from; empty where it is a value itself.
  """

  source: int
  target: int
  choices: tuple[int, ...] = ()


class Graph:
  """The values of a program, and what each is computed from.

  Attributes:
    edges: of all values.
    equations: of each its path (the equations that it is called from, and it
      itself), its operands and its results.
  """

  def __init__(self):
    self.edges: list[Edge] = []
    self.equations: list[tuple[tuple, list[int], list[int]]] = []
    self._numbers = itertools.count()
    self._masks: set[int] = set()

  def new(self, count: int) -> list[int]:
    """Numbers that no value has yet."""
    return list(itertools.islice(self._numbers, count))

  def enter(
    self, jaxpr: Any, inputs: Sequence[int], path: tuple[Any, ...]
  ) -> list[int]:
    """Adds the equations of a function for one call; gives its results."""
    numbers = dict(zip(jaxpr.invars, inputs, strict=True))

    def read(atoms):
      # Constants are new; those with a name stay the same value.
      fresh = self.new(len(atoms))
      return [
        number
        if isinstance(atom, core.Literal)
        else numbers.setdefault(atom, number)
        for atom, number in zip(atoms, fresh, strict=True)
      ]

    for equation in jaxpr.eqns:
      reads = read(equation.invars)
      writes = self._apply(equation, reads, (*path, equation))
      numbers.update(zip(equation.outvars, writes, strict=True))
      self.equations.append(((*path, equation), reads, writes))
    return read(jaxpr.outvars)

  def _apply(self, equation, reads, path):
    """Adds the edges of one equation; gives the numbers of its results."""
    name, params = equation.primitive.name, equation.params
    if name == 'scan':
      begin, carried = jaxprs.scan_operands(equation)
      body = jaxprs.opened(params['jaxpr'])
      own = slice(begin, begin + carried)
      return self._loop(body, reads, own, path)[1]
    if name == 'while':
      return self._while(params, reads, path)
    if name == 'cond':
      return self._branch(params['branches'], reads, path)
    functions = jaxprs.called(equation)
    if len(functions) == 1 and _arity(functions[0]) == _arity(equation):
      return self.enter(functions[0], reads, path)
    return self._mix(equation, reads, path)

  def _mix(self, equation, reads, path):
    """An operation of its own, or one that calls functions in its own way."""
    name = equation.primitive.name
    writes = self.new(len(equation.outvars))
    # What a scatter calls combines two numbers, and never sees an index.
    for jaxpr in [] if name.startswith('scatter') else jaxprs.called(equation):
      inputs = self.new(len(jaxpr.invars))
      results = self.enter(jaxpr, inputs, path)
      joined = [
        *itertools.product(reads, inputs),
        *itertools.product(results, writes),
      ]
      self.edges += itertools.starmap(Edge, joined)
    for i, source in enumerate(reads):
      for j, target in enumerate(writes):
        choices = self._choices(equation, reads, i, j)
        self.edges.append(Edge(source, target, choices))
    is_mask = name in _SHAPING and self._masks.issuperset(reads)
    if is_mask or _is_truth_as_number(equation):
      self._masks.update(writes)
    return writes

  def _loop(self, body, reads, carried, path):
    """A loop whose carry has this place among the operands of its body."""
    carry = self.new(carried.stop - carried.start)
    inputs = [*reads[: carried.start], *carry, *reads[carried.stop :]]
    results = self.enter(body, inputs, path)
    self.edges += map(Edge, reads[carried], carry)
    self.edges += map(Edge, results, carry)
    return carry, results

  def _while(self, params, reads, path):
    begin, count = params['cond_nconsts'], params['body_nconsts']
    body = jaxprs.opened(params['body_jaxpr'])
    own = slice(count, len(reads) - begin)
    carry, _ = self._loop(body, reads[begin:], own, path)
    condition = jaxprs.opened(params['cond_jaxpr'])
    (more,) = self.enter(condition, [*reads[:begin], *carry], path)
    writes = self.new(len(carry))
    self.edges += map(Edge, carry, writes)
    self.edges += [Edge(more, write, tuple(carry)) for write in writes]
    return writes

  def _branch(self, branches, reads, path):
    bodies = map(jaxprs.opened, branches)
    results = [self.enter(body, reads[1:], path) for body in bodies]
    writes = self.new(len(results[0]))
    for write, choices in zip(writes, zip(*results, strict=True), strict=True):
      self.edges += [Edge(choice, write) for choice in choices]
      self.edges.append(Edge(reads[0], write, choices))
    return writes

  def _choices(self, equation, reads, i, j):
    """What operand i selects from for result j; empty if it is a value."""
    name = equation.primitive.name
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
  """Numbers of operands and results, of an equation or a jaxpr."""
  return len(function.invars), len(function.outvars)


def _is_truth_as_number(equation):
  is_cast = equation.primitive.name == 'convert_element_type'
  return is_cast and equation.invars[0].aval.dtype == bool

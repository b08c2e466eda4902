"""Reads a pickle without running any of it.

A pickle is a program for a small machine with a stack. The machine of Python
imports whatever the program names, calls it and changes it. Here the program is
taken apart by `pickletools`, which runs nothing, and the machine makes numbers,
texts, containers and tensors alone. It knows the few names of `makers`, for
each of which it has a function of its own. Any other name becomes a
`Placeholder`: what is called, changed or filled of it leaves a placeholder and
does nothing. What the program says to change about an object is not done.

Time and memory are linear in the length of the pickle.
"""

import io
import pickletools
import warnings
from collections.abc import Callable
from typing import Any

from rnascl_jax.interop import makers, tensors
from rnascl_jax.interop.makers import Known, NumpyType, Placeholder

# Of an integer, in bits: Python does not print much longer ones.
_LONGEST_INTEGER = 8000
_RENAMED = {'__builtin__': 'builtins'}  # Of Python 2.
_FILL: dict[type, Callable[..., None]] = {
  list: list.extend,
  dict: dict.update,
  set: set.update,
}
_SIZED = (str, bytes, bytearray, list, tuple, dict, set)

# What loads the storage of an identifier of `torch.save`.
Storages = Callable[[Any], tensors.Storage]


def load(
  stream: io.BytesIO, storages: Storages | None = None
) -> tuple[Any, set[str]]:
  """Reads the next pickle of a stream.

  Args:
    stream: at the pickle's first byte; afterwards behind its last.
    storages: gives the storage of an identifier; None where there are none.

  Returns:
    What it makes, and the names in it that became placeholders.

  Raises:
    ValueError: it is damaged, or not of a protocol from 2 to 5.
  """
  machine = _Machine(storages, stream.getbuffer().nbytes - stream.tell())
  try:
    # A name in a damaged file may have what looks like an escape.
    with warnings.catch_warnings(action='ignore'):
      for operation, argument, _ in pickletools.genops(stream):
        if operation.name not in _STEPS:
          raise ValueError(f'its pickle has the operation {operation.name}')
        _STEPS[operation.name](machine, argument)
  except (AttributeError, LookupError, OverflowError, TypeError) as error:
    raise ValueError(f'its pickle asks for what is not: {error}') from error
  if machine.marks or len(machine.stack) != 1:
    raise ValueError('its pickle ends before it is complete')
  return machine.stack[0], machine.unknown


class _Machine:
  """The machine that a pickle is a program for.

  Attributes:
    stack: the objects above the last mark.
    marks: the stacks below each mark.
    memo: the objects that the program keeps.
    unknown: the names that became placeholders.
  """

  def __init__(self, storages: Storages | None, length: int):
    self.stack: list[Any] = []
    self.marks: list[list[Any]] = []
    self.memo: dict[int, Any] = {}
    self.unknown: set[str] = set()
    self._storages = storages
    self._left = 2 * length  # Items that calls may copy.

  def push(self, value: Any) -> None:
    if type(value) is int and value.bit_length() > _LONGEST_INTEGER:
      raise ValueError(f'it has an integer of {value.bit_length():,} bits')
    self.stack.append(value)

  def pop(self, count: int) -> tuple[Any, ...]:
    """Takes the topmost objects, the top of them last."""
    return tuple([self.stack.pop() for _ in range(count)][::-1])

  def mark(self) -> None:
    self.marks.append(self.stack)
    self.stack = []

  def since_mark(self) -> list[Any]:
    items, self.stack = self.stack, self.marks.pop()
    return items

  def keep(self, place: int) -> None:
    self.memo[place] = self.stack[-1]

  def fill(self, kind: type, items: Any) -> None:
    """Adds items to the list, dict or set on top; a TypeError for another."""
    target = self.stack[-1]
    if isinstance(target, Placeholder):
      # Of other classes, only what those of dicts hold is kept.
      target = target.items if kind is dict else kind()
    if kind is dict:
      keys = map(makers.as_key, items[::2])
      items = zip(keys, items[1::2], strict=True)
    elif kind is set:
      items = map(makers.as_key, items)
    _FILL[kind](target, items)

  def build(self, state: Any) -> None:
    """Leaves an object as it is, but for the bytes of NumPy's numbers."""
    target = self.stack[-1]
    if isinstance(target, NumpyType):
      target.set_order(state)
    elif isinstance(target, Placeholder) and type(state) is dict:
      target.is_module |= '_parameters' in state

  def name(self, module: Any, name: Any) -> None:
    if type(module) is not str or type(name) is not str:
      raise ValueError('its pickle has a name that is no text')
    path = f'{_RENAMED.get(module, module)}.{name}'
    if path in tensors.DTYPES:
      self.push(tensors.DTYPES[path])
    elif path in makers.MAKERS or path in makers.NAMES:
      self.push(Known(path))
    else:
      self.unknown.add(path)
      self.push(Placeholder(path))

  def call(self, function: Any, args: Any, named: Any = None) -> None:
    if isinstance(function, Known) and function.path == makers.FROM_TYPE:
      # The function that makes the tensor, its class, arguments and state.
      function, _, args, _ = args
    if type(args) is not tuple:
      raise ValueError('it calls a function with what is no tuple')
    if isinstance(function, Placeholder):
      self.push(Placeholder(function.path))
      return
    if not isinstance(function, Known) or named:
      raise ValueError('it calls what is no function')
    self._left -= sum(len(arg) for arg in args if type(arg) in _SIZED)
    if self._left < 0:
      raise ValueError('its pickle copies more than it holds')
    self.push(makers.MAKERS[function.path](*args))

  def storage(self, identifier: Any) -> None:
    if self._storages is None:
      raise ValueError('it names a storage where there are none')
    self.push(self._storages(identifier))


# Operations of protocols 2 to 5 by their names in `pickletools`.
_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
  **dict.fromkeys(('PROTO', 'FRAME', 'STOP'), lambda m, _: None),
  **dict.fromkeys(
    (
      *('BININT', 'BININT1', 'BININT2', 'LONG1', 'LONG4', 'BINFLOAT'),
      *('SHORT_BINUNICODE', 'BINUNICODE', 'BINUNICODE8'),
      *('SHORT_BINBYTES', 'BINBYTES', 'BINBYTES8', 'BYTEARRAY8'),
      *('SHORT_BINSTRING', 'BINSTRING'),  # Texts of Python 2.
    ),
    _Machine.push,
  ),
  'NONE': lambda m, _: m.push(None),
  'NEWTRUE': lambda m, _: m.push(True),
  'NEWFALSE': lambda m, _: m.push(False),
  'EMPTY_TUPLE': lambda m, _: m.push(()),
  'EMPTY_LIST': lambda m, _: m.push([]),
  'EMPTY_DICT': lambda m, _: m.push({}),
  'EMPTY_SET': lambda m, _: m.push(set()),
  'TUPLE1': lambda m, _: m.push(m.pop(1)),
  'TUPLE2': lambda m, _: m.push(m.pop(2)),
  'TUPLE3': lambda m, _: m.push(m.pop(3)),
  'TUPLE': lambda m, _: m.push(tuple(m.since_mark())),
  'FROZENSET': lambda m, _: m.push(makers.as_set(m.since_mark())),
  'MARK': lambda m, _: m.mark(),
  'POP': lambda m, _: m.pop(1),
  'POP_MARK': lambda m, _: m.since_mark(),
  **dict.fromkeys(
    ('BINGET', 'LONG_BINGET'), lambda m, place: m.push(m.memo[place])
  ),
  **dict.fromkeys(('BINPUT', 'LONG_BINPUT'), _Machine.keep),
  'MEMOIZE': lambda m, _: m.keep(len(m.memo)),
  'APPEND': lambda m, _: m.fill(list, m.pop(1)),
  'APPENDS': lambda m, _: m.fill(list, m.since_mark()),
  'SETITEM': lambda m, _: m.fill(dict, m.pop(2)),
  'SETITEMS': lambda m, _: m.fill(dict, m.since_mark()),
  'ADDITEMS': lambda m, _: m.fill(set, m.since_mark()),
  'GLOBAL': lambda m, names: m.name(*names.split(' ', 1)),
  'STACK_GLOBAL': lambda m, _: m.name(*m.pop(2)),
  'REDUCE': lambda m, _: m.call(*m.pop(2)),
  'NEWOBJ': lambda m, _: m.call(*m.pop(2)),
  'NEWOBJ_EX': lambda m, _: m.call(*m.pop(3)),
  'BUILD': lambda m, _: m.build(*m.pop(1)),
  'BINPERSID': lambda m, _: m.storage(*m.pop(1)),
}

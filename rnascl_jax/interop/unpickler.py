"""Reads a pickle without running any of it.

A pickle is a program for a small machine with a stack. The machine of Python
imports whatever the program names, calls it and changes it. The one here makes
numbers, texts, containers and tensors, and knows the few names of `makers`,
for each of which it has a function of its own. Any other name becomes a
`Placeholder`: what is called, changed or filled of it leaves a placeholder and
does nothing. What the program says to change about an object is not done.

Time and memory are linear in the length of the pickle.
"""

import io
import pickle
import struct
from collections.abc import Callable, Sequence
from typing import Any

from rnascl_jax.interop import makers, tensors
from rnascl_jax.interop.makers import Known, NumpyType, Placeholder
from rnascl_jax.interop.tensors import Storage

# Of an integer, in bytes: Python does not print much longer ones.
_LONGEST_INTEGER = 1000
_RENAMED = {'__builtin__': 'builtins'}  # Of Python 2.
_SIZED = (str, bytes, list, tuple, dict, set)

# What loads the storage of an identifier of `torch.save`.
Storages = Callable[[Any], Storage]


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
  machine = _Machine(stream, storages)
  return machine.run(), machine.unknown


class _Machine:
  """The machine that a pickle is a program for."""

  def __init__(self, stream: io.BytesIO, storages: Storages | None):
    self.unknown: set[str] = set()
    self.memo: dict[int, Any] = {}
    self._stream, self._storages = stream, storages
    self._stack: list[Any] = []
    self._marks: list[list[Any]] = []
    begin = stream.tell()
    self._end = stream.seek(0, io.SEEK_END)
    stream.seek(begin)
    # Items that calls may copy.
    self._left = 2 * (self._end - begin)

  def run(self) -> Any:
    while (code := self.take(1)) != pickle.STOP:
      step = _STEPS.get(code)
      if step is None:
        raise ValueError(f'its pickle has the operation {code!r}')
      step(self)
    if self._marks or len(self._stack) != 1:
      raise ValueError('its pickle ends before it is complete')
    return self._stack.pop()

  def take(self, count: int) -> bytes:
    if count > self._end - self._stream.tell():
      raise ValueError('its pickle ends too early')
    return self._stream.read(count)

  def number(self, layout: str) -> Any:
    return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

  def sized(self, layout: str) -> bytes:
    return self.take(self.number(layout))

  def text(self, layout: str) -> str:
    return self.sized(layout).decode('utf-8', 'surrogatepass')

  def integer(self, layout: str) -> int:
    content = self.sized(layout)
    if len(content) > _LONGEST_INTEGER:
      raise ValueError(f'it has an integer of {len(content):,} bytes')
    return int.from_bytes(content, 'little', signed=True)

  def line(self) -> str:
    line = self._stream.readline()
    if not line.endswith(b'\n'):
      raise ValueError('its pickle ends in a name')
    return line[:-1].decode()

  def push(self, value: Any) -> None:
    self._stack.append(value)

  def last(self, count: int) -> tuple[Any, ...]:
    """Takes the topmost objects, the top of them last."""
    if len(self._stack) < count:
      raise ValueError('its pickle takes what is not there')
    taken = tuple(self._stack[-count:])
    del self._stack[-count:]
    return taken

  def pop(self) -> Any:
    return self.last(1)[0]

  def top(self) -> Any:
    self.push(top := self.pop())
    return top

  def mark(self) -> None:
    self._marks.append(self._stack)
    self._stack = []

  def since_mark(self) -> list[Any]:
    if not self._marks:
      raise ValueError('its pickle has no mark')
    items, self._stack = self._stack, self._marks.pop()
    return items

  def recall(self, layout: str) -> None:
    place = self.number(layout)
    if place not in self.memo:
      raise ValueError('its pickle recalls what it did not keep')
    self.push(self.memo[place])

  def keep(self, place: int) -> None:
    self.memo[place] = self.top()

  def extend(self, items: Sequence[Any]) -> None:
    target = self.top()
    if type(target) is list:
      target.extend(items)
    elif not isinstance(target, Placeholder):
      raise ValueError('it adds items to what is no list')

  def set_items(self, items: Sequence[Any]) -> None:
    target = self.top()
    if len(items) % 2:
      raise ValueError('it has a key without a value')
    if isinstance(target, Placeholder):
      target = target.items
    if type(target) is not dict:
      raise ValueError('it sets items of what is no dict')
    target.update(zip(map(makers.as_key, items[::2]), items[1::2], strict=True))

  def add_items(self, items: Sequence[Any]) -> None:
    target = self.top()
    if type(target) is set:
      target.update(map(makers.as_key, items))
    elif not isinstance(target, Placeholder):
      raise ValueError('it adds items to what is no set')

  def build(self) -> None:
    """Leaves an object as it is, but for the bytes of NumPy's numbers."""
    state, target = self.pop(), self.top()
    if isinstance(target, NumpyType):
      if type(state) is not tuple or len(state) < 2:
        raise ValueError('a type of NumPy has no order of bytes')
      order = 'big' if state[1] == '>' else 'little'
      target.swapped = tensors.is_swapped(order)
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
    if type(args) is not tuple:
      raise ValueError('it calls a function with what is no tuple')
    if isinstance(function, Known) and function.path == makers.FROM_TYPE:
      # The function that makes the tensor, its class, arguments and state.
      function, args = (args[0], args[2]) if len(args) == 4 else (None, ())
    if isinstance(function, Placeholder):
      self.push(Placeholder(function.path))
      return
    make = (
      makers.MAKERS.get(function.path) if isinstance(function, Known) else None
    )
    if make is None or type(args) is not tuple or named:
      raise ValueError('it calls what is no function')
    self._left -= sum(len(arg) for arg in args if type(arg) in _SIZED)
    if self._left < 0:
      raise ValueError('its pickle copies more than it holds')
    try:
      self.push(make(*args))
    except TypeError as error:
      raise ValueError(f'it calls {function.path} with other things') from error

  def persistent(self) -> None:
    identifier = self.pop()
    if self._storages is None:
      raise ValueError('it names a storage where there are none')
    self.push(self._storages(identifier))


# Operations of protocols 2 to 5 by their codes.
_STEPS: dict[bytes, Callable[[_Machine], Any]] = {
  pickle.PROTO: lambda m: m.take(1),
  pickle.FRAME: lambda m: m.take(8),
  pickle.NONE: lambda m: m.push(None),
  pickle.NEWTRUE: lambda m: m.push(True),
  pickle.NEWFALSE: lambda m: m.push(False),
  pickle.BININT: lambda m: m.push(m.number('<i')),
  pickle.BININT1: lambda m: m.push(m.number('<B')),
  pickle.BININT2: lambda m: m.push(m.number('<H')),
  pickle.BINFLOAT: lambda m: m.push(m.number('>d')),
  pickle.LONG1: lambda m: m.push(m.integer('<B')),
  pickle.LONG4: lambda m: m.push(m.integer('<I')),
  pickle.SHORT_BINUNICODE: lambda m: m.push(m.text('<B')),
  pickle.BINUNICODE: lambda m: m.push(m.text('<I')),
  pickle.BINUNICODE8: lambda m: m.push(m.text('<Q')),
  pickle.SHORT_BINBYTES: lambda m: m.push(m.sized('<B')),
  pickle.BINBYTES: lambda m: m.push(m.sized('<I')),
  pickle.BINBYTES8: lambda m: m.push(m.sized('<Q')),
  pickle.BYTEARRAY8: lambda m: m.push(m.sized('<Q')),
  # Texts of Python 2.
  pickle.SHORT_BINSTRING: lambda m: m.push(m.sized('<B').decode('latin1')),
  pickle.BINSTRING: lambda m: m.push(m.sized('<I').decode('latin1')),
  pickle.EMPTY_TUPLE: lambda m: m.push(()),
  pickle.EMPTY_LIST: lambda m: m.push([]),
  pickle.EMPTY_DICT: lambda m: m.push({}),
  pickle.EMPTY_SET: lambda m: m.push(set()),
  pickle.TUPLE1: lambda m: m.push(m.last(1)),
  pickle.TUPLE2: lambda m: m.push(m.last(2)),
  pickle.TUPLE3: lambda m: m.push(m.last(3)),
  pickle.TUPLE: lambda m: m.push(tuple(m.since_mark())),
  pickle.FROZENSET: lambda m: m.push(makers.as_set(m.since_mark())),
  pickle.MARK: _Machine.mark,
  pickle.POP: _Machine.pop,
  pickle.POP_MARK: _Machine.since_mark,
  pickle.BINGET: lambda m: m.recall('<B'),
  pickle.LONG_BINGET: lambda m: m.recall('<I'),
  pickle.BINPUT: lambda m: m.keep(m.number('<B')),
  pickle.LONG_BINPUT: lambda m: m.keep(m.number('<I')),
  pickle.MEMOIZE: lambda m: m.keep(len(m.memo)),
  pickle.APPEND: lambda m: m.extend(m.last(1)),
  pickle.APPENDS: lambda m: m.extend(m.since_mark()),
  pickle.SETITEM: lambda m: m.set_items(m.last(2)),
  pickle.SETITEMS: lambda m: m.set_items(m.since_mark()),
  pickle.ADDITEMS: lambda m: m.add_items(m.since_mark()),
  pickle.GLOBAL: lambda m: m.name(m.line(), m.line()),
  pickle.STACK_GLOBAL: lambda m: m.name(*m.last(2)),
  pickle.REDUCE: lambda m: m.call(*m.last(2)),
  pickle.NEWOBJ: lambda m: m.call(*m.last(2)),
  pickle.NEWOBJ_EX: lambda m: m.call(*m.last(3)),
  pickle.BUILD: _Machine.build,
  pickle.BINPERSID: _Machine.persistent,
}

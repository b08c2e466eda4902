"""Dataclasses read from nested mappings, with types, bounds and clear errors.

Example:
  >>> import dataclasses
  >>> from rnascl_jax.config import fields
  >>> @dataclasses.dataclass(frozen=True)
  ... class Walk:
  ...   steps: int = fields.bounded(10, 1)
  ...   pace: str = fields.one_of('slow', 'fast')
  >>> fields.read(Walk, {'steps': 3, 'pace': 'fast'}, 'walk')
  Walk(steps=3, pace='fast')
  >>> fields.read(Walk, {'steps': 0, 'pace': 'fast'}, 'walk')
  Traceback (most recent call last):
    ...
  ValueError: walk.steps=0 must be at least 1.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from rnascl_jax.runtime import spelling


def bounded(
  default: Any, low: float | None = None, high: float | None = None
) -> Any:
  """A field whose number, or each of whose numbers at any depth, has bounds.

  Args:
    default: of the field.
    low: least value, or None.
    high: greatest value, or None.
  """
  return dataclasses.field(default=default, metadata={'low': low, 'high': high})


def one_of(default: str, *others: str) -> Any:
  """A field that holds one of a few words."""
  return dataclasses.field(
    default=default, metadata={'options': (default, *others)}
  )


def read(cls: type, given: Any, where: str) -> Any:
  """Reads a dataclass from nested fields, all of them checked.

  Args:
    cls: a dataclass whose fields are numbers, strings, booleans, tuples, other
      such dataclasses, or mappings from names to them.
    given: nested mappings.
    where: what messages call it.

  Returns:
    An instance.

  Raises:
    ValueError: for an unknown or missing field, and for a value of the wrong
      type or out of bounds.
  """
  if not isinstance(given, Mapping):
    raise ValueError(f'{where}={given!r} must have fields of its own.')
  known = {field.name: field for field in dataclasses.fields(cls)}
  for name in given:
    if name not in known:
      raise ValueError(
        f'{where}.{name} is not a field.{spelling.did_you_mean(name, known)} '
        f'Fields: {", ".join(known)}.'
      )
  missing = [name for name in known if name not in given]
  if missing:
    raise ValueError(
      f'{where} lacks {", ".join(missing)}; every field must be given.'
    )
  hints = typing.get_type_hints(cls)
  values = {
    name: _value(hints[name], given[name], f'{where}.{name}', field)
    for name, field in known.items()
  }
  return cls(**values)


def _value(kind: Any, value: Any, where: str, field: dataclasses.Field) -> Any:
  """One field's value, of the right type and within its bounds."""
  if dataclasses.is_dataclass(kind):
    return read(typing.cast(type, kind), value, where)
  if typing.get_origin(kind) is Mapping:
    inner = typing.get_args(kind)[1]
    if not isinstance(value, Mapping):
      raise ValueError(f'{where}={value!r} must have names and their fields.')
    return {
      name: read(inner, v, f'{where}.{name}') for name, v in value.items()
    }
  value = _typed(kind, value, where)
  low, high = field.metadata.get('low'), field.metadata.get('high')
  for number in _numbers(value):
    if low is not None and number < low:
      raise ValueError(f'{where}={value} must be at least {low}.')
    if high is not None and number > high:
      raise ValueError(f'{where}={value} must be at most {high}.')
  options = field.metadata.get('options')
  if options and value not in options:
    raise ValueError(f'{where}={value!r} must be one of {options}.')
  return value


def _numbers(value: Any) -> Iterator[Any]:
  """A value, or what is in a tuple and in the tuples in it."""
  if not isinstance(value, tuple):
    yield value
    return
  for item in value:
    yield from _numbers(item)


def _typed(kind: Any, value: Any, where: str) -> Any:
  """A number, string, boolean or tuple of the declared type."""
  if isinstance(kind, types.GenericAlias):
    if not isinstance(value, tuple | list):
      raise ValueError(f'{where}={value!r} must be a tuple.')
    inner = typing.get_args(kind)[0]
    return tuple(_typed(inner, item, where) for item in value)
  if kind is float and type(value) is int:
    # No float is as large as an integer may be.
    value = float(value) if abs(value) < 10**300 else math.inf
  if type(value) is not kind:
    raise ValueError(
      f'{where}={value!r} is a {type(value).__name__}, must be a '
      f'{kind.__name__}.'
    )
  if kind is float and not math.isfinite(value):
    raise ValueError(f'{where}={value} must be a finite number.')
  return value

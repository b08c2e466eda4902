"""Names in a config and what they mean."""

import difflib
from collections.abc import Mapping
from typing import Any


def pick(table: Mapping[str, Any], name: str, where: str) -> Any:
  """The entry of a table.

  Args:
    table: names and what they mean.
    name: as written in a config.
    where: the config's field.

  Returns:
    The entry.

  Raises:
    ValueError: if there is no such name; it lists those there are.
  """
  if name in table:
    return table[name]
  close = difflib.get_close_matches(name, table, 1)
  hint = f' Did you mean {close[0]!r}?' if close else ''
  raise ValueError(
    f'config.{where}={name!r} is unknown.{hint} Choose one of: '
    f'{", ".join(map(repr, table))}.'
  )

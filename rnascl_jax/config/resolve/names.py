"""Names of a config in the tables that know them."""

from collections.abc import Mapping
from typing import Any

from rnascl_jax.runtime import spelling


def pick(table: Mapping[str, Any], name: str, where: str) -> Any:
  """The entry of a table.

  Args:
    table: names and what they mean.
    name: as written in a config.
    where: the config's field.

  Raises:
    ValueError: if there is no such name; it lists those there are.
  """
  if name in table:
    return table[name]
  raise ValueError(
    f'config.{where}={name!r} is unknown.{spelling.did_you_mean(name, table)} '
    f'Choose one of: {", ".join(map(repr, table))}.'
  )

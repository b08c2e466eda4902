"""What a search pays, kept beside it, and what the network found costs."""

import pathlib
from typing import Any

from rnascl_jax.runtime import files
from rnascl_jax.search import cost_tables
from rnascl_jax.search.architecture import Architecture
from rnascl_jax.training.search_step import Search


def keep(path: pathlib.Path, searched: Search) -> None:
  """Writes what the search pays, or compares it with what it paid before.

  Raises:
    ValueError: if a table of latencies was made again since the search began.
  """
  cost = files.to_json(
    {name: tables._asdict() for name, tables in searched.measured.items()}
  )
  if path.exists() and files.read_json(path) != cost:
    raise ValueError(
      f'{path} has the costs that this search began with, and those of '
      'config.search.cost are others now: restore the table of latencies, or '
      f'delete {path.parent} and search again.'
    )
  files.write_json(path, cost)


def paid(cost: str, searched: Search, arch: Architecture) -> dict[str, Any]:
  """What the network costs by a table; nothing where MACs are the cost."""
  if cost == 'macs':
    return {}
  times = {
    name: cost_tables.of_features(
      tables, arch.space, arch.features, arch.operators
    )
    for name, tables in searched.measured.items()
    if name == 'latency_us'
  }
  return {'cost': cost, **times}

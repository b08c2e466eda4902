"""What a search pays for a network: n_f(G) of `config.search.cost`."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rnascl_jax.config import settings
from rnascl_jax.config.resolve.names import pick
from rnascl_jax.runtime import provenance
from rnascl_jax.search import cost_tables, flops, latency_tables
from rnascl_jax.search.cost_tables import Costs
from rnascl_jax.search.latency_tables import LatencyTable
from rnascl_jax.search.space import SearchSpace

_LATENCY = 'latency'
# Costs by `cost`, and the metrics of their expectations.
COSTS: Mapping[str, str] = {
  'macs': 'macs',
  'parameters': 'parameters',
  _LATENCY: 'latency_us',
}
# Of the logarithm of FBNet's penalty: FBNet's numbers are above 1 by far.
_LEAST_OF_LOG = 1.0


class SearchCost(NamedTuple):
  """The cost of a search.

  Attributes:
    tables: what the search pays.
    measures: MACs and all parts of the cost, by the metrics of their
      expectations.
  """

  tables: Costs
  measures: Mapping[str, Costs]


def search_cost(
  spec: settings.SearchSettings,
  space: SearchSpace,
  image_shape: Sequence[int],
  num_classes: int,
) -> SearchCost:
  """Reads `cost`.

  Args:
    spec: the search.
    space: the search space.
    image_shape: (H, W, C).
    num_classes: K.

  Raises:
    ValueError: for an unknown cost, a weight that is no positive number, a
      table that is not there or is of another space, image or device, and a
      cost without a logarithm where the penalty takes it.
  """
  macs = flops.costs(space, image_shape, num_classes)
  measures, terms = {'macs': macs}, []
  for weight, name, table in _terms(spec.cost):
    tables = macs
    if name == 'parameters':
      tables = flops.costs(space, image_shape, num_classes, kind=name)
    elif name == _LATENCY:
      tables = _latencies(spec, table, space, image_shape, num_classes)
    measures[COSTS[name]] = tables
    terms.append((weight, tables))
  tables = terms[0][1] if len(terms) == 1 else cost_tables.weighted(terms)
  _check_logarithm(spec, len(terms), tables, space)
  return SearchCost(tables, measures)


def latency_table(cost: str) -> LatencyTable | None:
  """The table of a cost's latencies; None where it has none."""
  names = [table for _, name, table in _terms(cost) if name == _LATENCY]
  return _read(cost, names[0]) if names else None


def _terms(cost: str) -> list[tuple[float, str, str]]:
  """Weights, names and tables of the terms of a sum."""
  terms = []
  for term in cost.split('+'):
    weight, star, rest = term.strip().rpartition('*')
    name, _, table = rest.strip().partition(':')
    pick(COSTS, name, 'search.cost')
    if bool(table) != (name == _LATENCY):
      raise ValueError(
        f'config.search.cost={cost!r}: {name!r} '
        + (
          'needs the table of its times: write latency:TABLE, a path that ends '
          f'in .json or one of {", ".join(latency_tables.shipped())}.'
          if name == _LATENCY
          else f'takes no table: write {name}.'
        )
      )
    terms.append((_weight(cost, weight) if star else 1.0, name, table))
  names = [name for _, name, _ in terms]
  if len(set(names)) < len(names) or (len(terms) == 1 and terms[0][0] != 1):
    raise ValueError(
      f'config.search.cost={cost!r}: a sum has each cost once, and a cost that '
      'is alone has no weight; the exponent says how much it counts.'
    )
  return terms


def _weight(cost: str, text: str) -> float:
  try:
    weight = float(text)
  except ValueError:
    weight = 0.0
  if not 0 < weight < 1e6:
    raise ValueError(
      f'config.search.cost={cost!r}: the weight {text.strip()!r} must be a '
      'positive number below a million, as in 0.5*macs+0.5*parameters.'
    )
  return weight


def _read(cost: str, table: str) -> LatencyTable:
  try:
    return latency_tables.read(table)
  except ValueError as error:
    raise ValueError(f'config.search.cost={cost!r}: {error}') from error


def _latencies(
  spec: settings.SearchSettings,
  name: str,
  space: SearchSpace,
  image_shape: Sequence[int],
  num_classes: int,
) -> Costs:
  """The times of a table that was measured on the device that is meant."""
  table = _read(spec.cost, name)
  meant = spec.cost_device or provenance.device_name()
  if table.device != meant:
    raise ValueError(
      f'config.search.cost={spec.cost!r}: the table was measured on '
      f'{table.device!r}, not on {meant!r}. To search for that device set '
      f'config.search.cost_device={table.device!r}; for another one make a '
      'table there with rnascl latency.'
    )
  try:
    return latency_tables.costs(
      table, space, image_shape, num_classes, batch=spec.cost_batch
    )
  except ValueError as error:
    raise ValueError(
      f'config.search.cost={spec.cost!r} with config.search.cost_batch='
      f'{spec.cost_batch}: the table does not fit, {error}. Make one with '
      'rnascl latency of this config.'
    ) from error


def _check_logarithm(
  spec: settings.SearchSettings, terms: int, tables: Costs, space: SearchSpace
) -> None:
  if spec.penalty != 'log':
    return
  if terms > 1:
    raise ValueError(
      f"config.search.penalty='log' takes a cost in absolute numbers, and "
      f'config.search.cost={spec.cost!r} is a sum of relative ones: choose one '
      "cost, or penalty='power'."
    )
  least = cost_tables.least(tables, space)
  if least <= _LEAST_OF_LOG:
    raise ValueError(
      f"config.search.penalty='log' needs a cost above {_LEAST_OF_LOG:g}, and "
      f'the cheapest network of this space costs {least:.3g} by '
      f"config.search.cost={spec.cost!r}: choose penalty='power'."
    )

"""Whether times of blocks add up to times of networks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnascl_jax.interop.timed_networks import Plan
from rnascl_jax.reporting import statistics
from rnascl_jax.search import cost_tables, latency_tables
from rnascl_jax.search.latency_tables import LatencyTable


def compare(
  plan: Plan,
  table: LatencyTable,
  measured: Mapping[tuple[int, ...], Sequence[float]],
) -> dict[str, Any]:
  """Compares sums of a table with measured times of networks.

  Args:
    plan: of the table.
    table: the times of the blocks.
    measured: microseconds of networks by their widths, for each batch.

  Returns:
    For each batch Spearman's rank correlation with its p-value, the relative
    error of the sums (its median and the largest one, absolute), and the median
    of sum over measured time, which a search does not see; and all networks.
  """
  by_batch = []
  networks: list[dict[str, Any]] = [{'features': f} for f in measured]
  for column, batch in enumerate(table.batches):
    tables = latency_tables.costs(
      table, plan.space, plan.image_shape, plan.num_classes, batch=batch
    )
    sums = [
      cost_tables.of_features(tables, plan.space, features)
      for features in measured
    ]
    times = [of_network[column] for of_network in measured.values()]
    for row, predicted, time in zip(networks, sums, times, strict=True):
      row[f'predicted_us_{batch}'] = round(predicted, 3)
      row[f'measured_us_{batch}'] = round(time, 3)
    by_batch.append(_agreement(batch, np.array(sums), np.array(times)))
  return {'batches': by_batch, 'networks': networks}


def _agreement(
  batch: int, sums: np.ndarray, times: np.ndarray
) -> dict[str, Any]:
  ranks = statistics.rank_correlation(sums, times)
  errors = np.abs(sums / times - 1) if len(sums) else np.array([np.nan])
  return {
    'batch': batch,
    'spearman': round(ranks.rho, 4) if ranks else None,
    'p_value': ranks.p_value if ranks else None,
    'median_error': round(float(np.median(errors)), 4),
    'largest_error': round(float(errors.max()), 4),
    'median_ratio': round(float(np.median(sums / times)), 4),
  }

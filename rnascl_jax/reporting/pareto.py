"""What searches by several costs found: accuracy against MACs and latency.

Rows of a sweep that differ in the cost of their search, means over seeds. A row
is on the front of two quantities if no other is at least as good in both and
better in one.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rnascl_jax.reporting import results, statistics
from rnascl_jax.reporting.paper.sweep_runs import EvaluatedModel, SweepRuns


class Point(NamedTuple):
  """One row: what its search paid, and what was found in each seed.

  Attributes:
    row: its name.
    cost: `search.cost`.
    exponent: of the cost.
    seeds: of its runs, increasing; all else has an entry for each.
    features: widths of the blocks.
    clean: accuracies, in [0, 1].
    robust: accuracies under the headline attack.
    parameters: without BatchNorm.
    macs: of an image.
    latency: measured microseconds.
  """

  row: str
  cost: str
  exponent: float
  seeds: tuple[int, ...]
  features: tuple[tuple[int, ...], ...]
  clean: tuple[float, ...]
  robust: tuple[float, ...]
  parameters: tuple[int, ...]
  macs: tuple[int, ...]
  latency: tuple[float, ...]

  def mean(self, name: str) -> float:
    """The mean over seeds of one of its numbers."""
    return statistics.mean_and_deviation(getattr(self, name))[0]


class Measured(NamedTuple):
  """How latencies were measured.

  Attributes:
    device: its name.
    runtime: what ran the networks.
    batch: images at once.
    repeats: turns.
    times: microseconds by row and seed.
  """

  device: str
  runtime: str
  batch: int
  repeats: int
  times: Mapping[tuple[str, int], float]


def searched(
  sweep: SweepRuns, model: str
) -> dict[tuple[str, int], EvaluatedModel]:
  """Evaluated models of rows that were searched, by row and seed.

  Args:
    sweep: all runs.
    model: the student's name.

  Raises:
    ValueError: if there is none.
  """
  models = {
    (row, seed): EvaluatedModel(run, evaluation)
    for row, of_row in sweep.runs.items()
    for seed, run in sorted(of_row.items())
    if (evaluation := run.evaluation(model)) is not None
    and run.architecture is not None
    and results.is_searched(
      run.config.get('students', {}).get(evaluation.base or model, {})
    )
    and 'cost' in run.config.get('search', {})
  }
  if not models:
    raise ValueError(
      f'--workdir={sweep.root} has no evaluated {model!r} of a searched row.'
    )
  return models


def points(
  models: Mapping[tuple[str, int], EvaluatedModel],
  times: Mapping[tuple[str, int], float],
) -> list[Point]:
  """The rows in which a robust accuracy was measured, in their order."""
  made = []
  for row in dict.fromkeys(row for row, _ in models):
    of_row = {seed: m for (name, seed), m in models.items() if name == row}
    pairs = {
      seed: (clean, robust)
      for seed, (run, evaluation) in of_row.items()
      if (clean := evaluation.under('clean')) is not None
      and (robust := evaluation.under(run.headline_attack)) is not None
    }
    if not pairs:
      continue
    evaluations = [of_row[seed].evaluation for seed in pairs]
    search = next(iter(of_row.values())).run.config['search']
    made.append(
      Point(
        row=row,
        cost=search['cost'],
        exponent=search['flops_exponent'],
        seeds=tuple(pairs),
        features=tuple(_features(of_row[seed]) for seed in pairs),
        clean=tuple(clean.accuracy for clean, _ in pairs.values()),
        robust=tuple(robust.accuracy for _, robust in pairs.values()),
        parameters=tuple(e.parameters or 0 for e in evaluations),
        macs=tuple(e.macs or 0 for e in evaluations),
        latency=tuple(times[row, seed] for seed in pairs),
      )
    )
  return made


def _features(model: EvaluatedModel) -> tuple[int, ...]:
  blocks = (model.run.architecture or {})['blocks']
  return tuple(block['features'] for block in blocks)


def front(found: Sequence[Point], less: str, more: str) -> list[Point]:
  """Rows on the front of two means, in order of the first.

  Args:
    found: all rows.
    less: the number of which less is better, such as 'latency'.
    more: the number of which more is better, such as 'robust'.
  """
  placed = [((p.mean(less), -p.mean(more)), p) for p in found]

  def is_dominated(place: tuple[float, float]) -> bool:
    return any(
      other != place and all(a <= b for a, b in zip(other, place, strict=True))
      for other, _ in placed
    )

  kept = [(place, p) for place, p in placed if not is_dominated(place)]
  return [p for _, p in sorted(kept, key=lambda pair: pair[0])]


def facts(measured: Measured, provenance: Mapping[str, Any]) -> dict[str, Any]:
  """The latencies as JSON."""
  networks = [
    {'row': row, 'seed': seed, 'us': time}
    for (row, seed), time in measured.times.items()
  ]
  return {
    **measured._asdict(),
    'times': networks,
    'provenance': {**provenance},
  }


def folder(root: pathlib.Path) -> pathlib.Path:
  """Where all of it is written."""
  return root / 'pareto'

"""What searches by several costs found: accuracy against MACs and latency.

Rows of a sweep that differ in the cost of their search, means over seeds. A row
is on the front of two quantities if no other is at least as good in both and
better in one.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rnascl_jax.reporting import statistics, tables
from rnascl_jax.reporting.paper.sweep_runs import EvaluatedModel, SweepRuns

NOTE = (
  'Accuracies in %, mean ± standard deviation over seeds. Latency: '
  'microseconds of {batch}, {device}, {runtime}, median of {repeats} turns of '
  'all networks in one process. Front: no other row is at least as fast and as '
  'robust, and better in one.'
)
_DIFFERENCES = (
  'Differences of seeds, mean and 95 % interval by t; a row is faster or '
  'slower where the interval of its latency does not contain 0.'
)


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

  def note(self) -> str:
    """What the numbers of the table are."""
    images = f'{self.batch} image{"s" * (self.batch > 1)} at once'
    return NOTE.format(**self._asdict() | {'batch': images})


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


def cells(found: Sequence[Point], attack: str) -> list[list[str]]:
  """A row of headings, then one for each point."""
  best = front(found, 'latency', 'robust')
  heads = ['Row', 'Cost', 'Exponent', 'Seeds', 'Clean', attack]
  rows = [[*heads, 'Params', 'MACs', 'Latency (µs)', 'Front']]
  for p in found:
    rows.append(
      [
        p.row,
        p.cost,
        f'{p.exponent:g}',
        f'{len(p.seeds)}',
        tables.mean(p.clean, 100),
        tables.mean(p.robust, 100),
        tables.mean(p.parameters, decimals=0),
        tables.mean(p.macs, decimals=0),
        tables.mean(p.latency, decimals=2),
        '*' if p in best else '',
      ]
    )
  return rows


def difference_cells(found: Sequence[Point], attack: str) -> list[list[str]]:
  """Every other cost beside MACs with the same exponent and seeds.

  Returns:
    As `cells`; a row of headings alone where there are no two seeds of both.
  """
  rows = [['Row', 'Seeds', 'Latency (%)', 'It is', 'Clean', attack, 'MACs (%)']]
  by_macs = {p.exponent: p for p in found if p.cost == 'macs'}
  for p in found:
    base = by_macs.get(p.exponent)
    if base is None or base is p:
      continue
    seeds = [seed for seed in p.seeds if seed in base.seeds]
    if len(seeds) < 2:
      continue
    latency = _changes(p, base, 'latency', _per_cent)
    rows.append(
      [
        p.row,
        f'{len(seeds)}',
        _interval(latency),
        _verdict(latency),
        _interval(_changes(p, base, 'clean', _points)),
        _interval(_changes(p, base, 'robust', _points)),
        _interval(_changes(p, base, 'macs', _per_cent)),
      ]
    )
  return rows


def _changes(
  point: Point,
  base: Point,
  name: str,
  change: Callable[[float, float], float],
) -> list[float]:
  """How a number differs from that of the base, in each seed of both."""
  mine, its = (
    dict(zip(of.seeds, getattr(of, name), strict=True)) for of in (point, base)
  )
  return [change(mine[seed], its[seed]) for seed in mine if seed in its]


def _per_cent(mine: float, its: float) -> float:
  return 100 * (mine / its - 1)


def _points(mine: float, its: float) -> float:
  return 100 * (mine - its)


def _interval(values: Sequence[float]) -> str:
  """'-3.1 [-5.0, -1.2]'."""
  interval = statistics.interval_of_mean(values)
  assert interval is not None  # There are two seeds.
  mean, _ = statistics.mean_and_deviation(values)
  low, high = interval
  return f'{mean:+z.1f} [{low:+z.1f}, {high:+z.1f}]'


def _verdict(values: Sequence[float]) -> str:
  """Whether latencies differ, from their differences in per cent."""
  interval = statistics.interval_of_mean(values)
  assert interval is not None
  low, high = interval
  if low > 0:
    return 'slower'
  return 'faster' if high < 0 else 'no difference'


def architecture_cells(found: Sequence[Point]) -> list[list[str]]:
  """The networks of the front, one a row and seed."""
  rows = [['Row', 'Seed', 'Filters', 'Clean', 'Robust', 'MACs', 'Latency (µs)']]
  for p in front(found, 'latency', 'robust'):
    for index, seed in enumerate(p.seeds):
      rows.append(
        [
          p.row,
          f'{seed}',
          ' '.join(map(str, p.features[index])),
          f'{100 * p.clean[index]:.1f}',
          f'{100 * p.robust[index]:.1f}',
          tables.count(p.macs[index]),
          f'{p.latency[index]:.2f}',
        ]
      )
  return rows


def page(
  found: Sequence[Point], measured: Measured, attack: str, command: str
) -> str:
  """The Markdown page, with the picture beside it."""
  parts = [
    '# What searches paid, and what they found',
    f'    {command}',
    tables.markdown(cells(found, attack), left=2),
    measured.note(),
    '![Accuracy against cost](pareto.png)',
    '## Against the search by MACs',
  ]
  differences = difference_cells(found, attack)
  if len(differences) > 1:
    parts += [tables.markdown(differences), _DIFFERENCES]
  else:
    parts.append('There are no two seeds of another cost and of MACs.')
  parts += ['## The front', tables.markdown(architecture_cells(found), left=3)]
  return '\n\n'.join(parts) + '\n'


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

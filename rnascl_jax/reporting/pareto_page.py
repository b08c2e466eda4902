"""The page about a front: tables of its rows, differences and networks."""

from collections.abc import Callable, Sequence

from rnascl_jax.reporting import pareto, statistics, tables
from rnascl_jax.reporting.pareto import Measured, Point

_NOTE = (
  'Accuracies in %, mean ± standard deviation over seeds. Latency: '
  'microseconds of {batch}, {device}, {runtime}, median of {repeats} turns of '
  'all networks in one process. Front: no other row is at least as fast and as '
  'robust, and better in one.'
)
_DIFFERENCES = (
  'Differences of seeds, mean and 95 % interval by t; a row is faster or '
  'slower where the interval of its latency does not contain 0.'
)


def note(measured: Measured) -> str:
  """What the numbers of the tables are."""
  images = f'{measured.batch} image{"s" * (measured.batch > 1)} at once'
  return _NOTE.format(**measured._asdict() | {'batch': images})


def cells(found: Sequence[Point], attack: str) -> list[list[str]]:
  """A row of headings, then one for each point."""
  best = pareto.front(found, 'latency', 'robust')
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
  for p in pareto.front(found, 'latency', 'robust'):
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
    note(measured),
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

"""The summary of a run: main numbers, and differences with their intervals."""

from typing import NamedTuple

from rnascl_jax.reporting import tables
from rnascl_jax.reporting.html import scores
from rnascl_jax.reporting.report import comparison
from rnascl_jax.reporting.results import SavedRun


class Tile(NamedTuple):
  """A number of the summary, and what stands below it."""

  name: str
  value: str
  note: str


def tiles(run: SavedRun) -> tuple[str, list[Tile]]:
  """Label and main numbers of RNAS-CL, or of the first model there is."""
  model = run.evaluation(comparison.STUDENT)
  model = model or next(iter(run.evaluations), None)
  if model is None:
    return '', []
  ensembles = [a.attack for a in model.attacks if a.members]
  wanted = ['clean', run.headline_attack, *ensembles]
  results = [r for key in wanted if (r := model.under(key)) is not None]
  made = []
  for result in results:
    name = result.label
    if result.epsilon:
      radius = tables.epsilon_text(result.epsilon, run.dataset, result.norm)
      name += f', ε = {radius}'
    made.append(
      Tile(name, f'{100 * result.accuracy:.1f} %', scores.interval(result))
    )
  if model.parameters is not None:
    macs = tables.count(model.macs)
    made.append(Tile('Parameters', tables.parameters(model), f'{macs} MACs'))
  return model.label, made


class Difference(NamedTuple):
  """A comparison as a row of a forest plot; places are in per cent of it."""

  names: tuple[str, ...]
  under: str
  points: str
  interval: str
  shown: str  # 'better', 'worse' or ''.
  low: float
  middle: float
  high: float


class Forest(NamedTuple):
  """Differences under the headline attack.

  Attributes:
    zero: where 0 lies, in per cent of the plot.
    rows: the differences.
  """

  zero: float
  rows: list[Difference]


def forest(run: SavedRun) -> Forest | None:
  """Differences of models with their intervals; None where there are none.

  They are those under the headline attack on all of its images.
  """
  headline = [
    c
    for c in comparison.comparisons(run)
    if c.under
    and c.results[0].attack == run.headline_attack
    and c.results[0].images == run.images
  ]
  if not headline:
    return None
  ends = [0.0, *(end for c in headline for end in c.interval)]
  low, width = min(ends), (max(ends) - min(ends)) or 1.0

  def place(points: float) -> float:
    return round(2 + 96 * (points - low) / width, 2)

  rows = []
  for c in headline:
    rows.append(
      Difference(
        c.names,
        comparison.under(run, c),
        f'{c.points:+z.1f}',
        '{:+.1f} to {:+.1f}'.format(*c.interval),
        {1: 'better', -1: 'worse', 0: ''}[c.sign],
        place(c.interval[0]),
        place(c.points),
        place(c.interval[1]),
      )
    )
  return Forest(place(0.0), rows)

"""Clean against robust accuracy: the points of Figures 1 and 3, and Figure 3.

Figure 3 has other ways to distil against RNAS-CL.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from rnascl_jax.reporting import statistics, style
from rnascl_jax.reporting.paper import comparison, measures, picture
from rnascl_jax.reporting.paper.comparison import FilledTable
from rnascl_jax.reporting.paper.definition import Line, Table
from rnascl_jax.reporting.paper.picture import Picture
from rnascl_jax.reporting.paper.sweep_runs import SweepRuns

DEVIATION = ' with standard deviation'
_REFERENCE = 'RNAS-CL'
# By the second label of a row.
_METHODS = {
  'RNAS-CL': style.Look(style.BLUE, '', 'o'),
  'Similarity': style.Look(style.ORANGE, '', 's'),
  'VID': style.Look(style.GREEN, '', '^'),
  'RKD': style.Look(style.RED, '', 'v'),
  'CRD': style.Look(style.PURPLE, '', 'D'),
  'PKT': style.Look(style.SKY, '', 'P'),
  'AT': style.Look(style.BLACK, '', 'X'),
  'KD': style.Look(style.GREY, '', 'h'),
}


class AccuracyPair(NamedTuple):
  """Clean accuracy and that under PGD-20, in %, one for each seed."""

  clean: Sequence[float]
  robust: Sequence[float]

  @property
  def means(self) -> tuple[float, float]:
    """Of clean and of robust accuracy."""
    clean, robust = map(statistics.mean_and_deviation, self)
    return clean[0], robust[0]

  def draw(self, axes: Axes, *, color: str, **look: Any) -> None:
    """Draws a marker with the deviation over seeds, where there are several.

    Args:
      axes: those of clean against robust accuracy.
      color: of both.
      **look: arguments of `scatter`.
    """
    (x, x_error), (y, y_error) = map(statistics.mean_and_deviation, self)
    bars: dict[str, Any] = {'lw': 0.8, 'alpha': 0.45, 'fmt': 'none'}
    axes.errorbar(x, y, y_error, x_error, color=color, **bars)
    axes.scatter(x, y, color=color, zorder=3, **look)


def measured(filled: FilledTable) -> dict[Line, AccuracyPair]:
  """The rows of which both accuracies were measured."""
  pairs = {}
  for line, models in filled.rows:
    clean, robust = (
      list(measures.values(models, key).values())
      for key in ('clean', picture.ROBUST)
    )
    if clean and robust:
      pairs[line] = AccuracyPair(clean, robust)
  return pairs


def finish(axes: Axes, attacked: str = '') -> None:
  """Names the axes, with what is said of the attack, and draws a grid."""
  axes.margins(0.08)
  axes.set_xlabel('Clean accuracy (%)')
  axes.set_ylabel(f'PGD-20 accuracy (%){attacked}')
  axes.grid()


def figure_3(sweep: SweepRuns, name: str, table: Table) -> Picture | None:
  """Ways to distil against RNAS-CL; a larger marker is a larger space.

  The caption begins with the name. Rows of the table have a space, the smallest
  first, and a method as labels. None where none but RNAS-CL was run.
  """
  filled = comparison.fill(table, sweep)
  pairs = measured(filled)
  models = [models for line, models in filled.rows if line in pairs]
  methods = {line.labels[1] for line in pairs}
  if methods <= {_REFERENCE}:
    return None
  spaces = list(dict.fromkeys(line.labels[0] for line in table.lines))
  areas = {space: 36 * (1 + 1.3 * i) for i, space in enumerate(spaces)}
  several = len(spaces) > 1
  radius = picture.radius(models)
  figure = style.figure(6.6, 4.4)
  axes = figure.subplots()
  for line, pair in pairs.items():
    space, method = line.labels
    look = _METHODS[method]
    options = {'marker': look.marker, 's': areas[space], 'alpha': 0.85}
    pair.draw(axes, color=look.color, **options)
  handles = [
    look.handle(method)
    for method, look in _METHODS.items()
    if method in methods
  ]
  hollow: dict[str, Any] = {'marker': 'o', 'mfc': 'none', 'mec': style.GREY}
  handles += [
    Line2D([], [], ls='', ms=area**0.5, label=space, **hollow)
    for space, area in areas.items()
    if several
  ]
  figure.legend(handles=handles, loc='outside right upper')
  finish(axes, f', ε = {radius}')
  sizes = f' A larger marker is a larger space ({", ".join(spaces)}).'
  caption = (
    f'{name}: ways to distil against RNAS-CL, '
    f'{picture.averaged(models, DEVIATION)}, PGD-20 at ε = {radius}.'
    f'{sizes * several} All in the architecture that RNAS-CL found.'
  )
  absent = [
    '-'.join(reversed(line.labels)) if several else line.labels[1]
    for line in table.lines
    if line not in pairs
  ]
  return Picture(figure, caption + picture.lacking(absent))

"""Figures of our own: Table 7 as bars, and accuracy against γ."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rnascl_jax.reporting import style
from rnascl_jax.reporting.paper import measures, picture, rendering, studies
from rnascl_jax.reporting.paper.definition import Column, Table
from rnascl_jax.reporting.paper.picture import Picture
from rnascl_jax.reporting.paper.rendering import Filled, Row
from rnascl_jax.reporting.paper.sweep_results import Sweep

_WIDTH = 0.38
# Of the first and of the second type of training.
_COLORS = (style.BLUE, style.RED)


def terms(sweep: Sweep, table: Table, with_paper: bool) -> Picture | None:
  """Table 7 as bars: mean over seeds, a dot for each seed.

  Args:
    sweep: the results.
    table: Table 7, of CIFAR-10 or of digits.
    with_paper: whether the paper's numbers are of these data and shown.

  Returns:
    None where no row of it was run.
  """
  filled = rendering.fill(table, sweep)
  if filled.is_empty:
    return None
  trainings = list(dict.fromkeys(line.labels[0] for line in table.lines))
  figure = style.figure(9.0, 3.8)
  panels = figure.subplots(1, len(table.accuracies))
  for place, axes in enumerate(panels):
    _draw_terms(axes, filled, place, trainings, with_paper)
  handles: list = [
    Patch(color=color, label=training)
    for color, training in zip(_COLORS, trainings, strict=True)
  ]
  handles.append(_dot('a seed', 'o', style.BLACK))
  if with_paper:
    handles.append(_dot('the paper', '_', style.BLACK))
  figure.legend(handles=handles, loc='outside lower center', ncols=len(handles))
  models = [row.models for row in filled.rows if row.models]
  radius = picture.radius(e for seeds in models for e in seeds.values())
  caption = (
    f'{table.title}. Bars: {picture.averaged(models)}; dots: single '
    f'seeds. PGD-20 at ε = {radius}.'
  )
  absent = [': '.join(line.labels) for line in filled.missing]
  return Picture(figure, caption + picture.lacking(absent))


def _dot(label: str, marker: str, color: str) -> Line2D:
  size = 9 if marker == '_' else 3.5
  return Line2D(
    [], [], ls='', marker=marker, ms=size, mew=1.4, color=color, label=label
  )


def _draw_terms(
  axes: Axes,
  filled: Filled,
  place: int,
  trainings: Sequence[str],
  with_paper: bool,
) -> None:
  """A panel of one measure, the `place`-th column of the table."""
  column = filled.table.accuracies[place]
  objectives = list(dict.fromkeys(r.line.labels[1] for r in filled.rows))
  for row in filled.rows:
    training, objective = row.line.labels
    index = trainings.index(training)
    x = objectives.index(objective) + (index - 0.5) * _WIDTH
    _draw_bar(axes, x, row, column, _COLORS[index])
    if with_paper:
      value = float(row.line.printed[place])
      axes.plot(x, value, '_', color=style.BLACK, ms=13, mew=1.4, zorder=4)
  axes.set_xticks(range(len(objectives)), objectives)
  axes.tick_params(axis='x', length=0)
  axes.set_title(column.heading)
  style.percent(axes, 'Accuracy (%)')


def _draw_bar(
  axes: Axes, x: float, row: Row, column: Column, color: str
) -> None:
  found = measures.summary(row.models, column.key)
  if found is None:
    axes.text(x, 1, 'not run', rotation=90, ha='center', va='bottom', size=7)
    return
  axes.bar(x, found.mean, _WIDTH * 0.92, color=color, alpha=0.75)
  seeds = list(found.values.values())
  spread = np.linspace(-1, 1, len(seeds)) if len(seeds) > 1 else np.zeros(1)
  axes.scatter(
    x + 0.1 * spread,
    seeds,
    s=9,
    color=style.BLACK,
    zorder=5,
    linewidth=0,
  )


_SERIES = {
  studies.WITH_KL: style.Look(style.BLUE, '-', 'o'),
  studies.WITHOUT_KL: style.Look(style.ORANGE, '--', 's'),
  studies.OWN_SEARCH: style.Look(style.GREEN, ':', '^'),
}


def gamma(sweep: Sweep, table: Table) -> Picture | None:
  """Accuracy against γ, with and without KL: seeds thin, their mean thick.

  Args:
    sweep: the results.
    table: the study.

  Returns:
    None where no row of the study but those that others share was run.
  """
  filled = rendering.fill(table, sweep)
  if filled.is_empty:
    return None
  figure = style.figure(9.0, 3.8)
  panels = figure.subplots(1, len(table.accuracies))
  for axes, column in zip(panels, table.accuracies, strict=True):
    for series, look in _SERIES.items():
      _draw_series(axes, filled, column, series, look)
    ticks = [f'{value}' for value in studies.GAMMAS]
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set(xlabel='γ, weight of the attention loss', title=column.heading)
    axes.set_ylabel('Accuracy (%)')
    axes.grid(axis='y')
  handles = [
    Line2D(
      [], [], color=k.color, ls=k.line, marker=k.marker, ms=4, lw=2.2, label=s
    )
    for s, k in _SERIES.items()
  ]
  figure.legend(handles=handles, loc='outside lower center', ncols=3)
  models = [row.models for row in filled.rows if row.models]
  radius = picture.radius(e for seeds in models for e in seeds.values())
  caption = (
    f'{table.title}: thin lines are seeds, thick ones their mean '
    f'({picture.averaged(models)}). PGD-20 at ε = {radius}; γ is not to '
    'scale.'
  )
  absent = [f'{": γ = ".join(line.labels)}' for line in filled.missing]
  return Picture(figure, caption + picture.lacking(absent))


def _draw_series(
  axes: Axes, filled: Filled, column: Column, series: str, look: style.Look
) -> None:
  found = {
    studies.GAMMAS.index(int(row.line.labels[1])): reached
    for row in filled.rows
    if row.line.labels[0] == series
    and (reached := measures.summary(row.models, column.key)) is not None
  }
  if not found:
    return
  for seed in sorted({s for reached in found.values() for s in reached.values}):
    places = [x for x, reached in found.items() if seed in reached.values]
    values = [found[x].values[seed] for x in places]
    axes.plot(places, values, look.line, color=look.color, lw=0.7, alpha=0.55)
  axes.plot(
    list(found),
    [reached.mean for reached in found.values()],
    look.line,
    color=look.color,
    marker=look.marker,
    ms=5,
    lw=2.2,
  )

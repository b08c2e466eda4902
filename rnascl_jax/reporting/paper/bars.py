"""Figures 8 and 10, student layers by teacher layer; and Table 7 as bars."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from rnascl_jax.reporting import style
from rnascl_jax.reporting.paper import comparison, measures, picture
from rnascl_jax.reporting.paper.comparison import FilledTable
from rnascl_jax.reporting.paper.definition import RowSource, Table
from rnascl_jax.reporting.paper.picture import Picture
from rnascl_jax.reporting.paper.sweep_runs import SweepRuns

_COLUMNS = 2
_WIDTH = 0.38


def tutor_counts(
  sweep: SweepRuns, name: str, rows: Mapping[str, str], of_paper: str = ''
) -> Picture | None:
  """Student layers taught by each teacher layer, a panel for each student.

  Args:
    sweep: the results.
    name: 'Fig. 8: CIFAR-10, WRT-34', how the caption begins.
    rows: that of each student RNAS-CL by the title of its panel; one that was
      not run is left out. The figure is None where none was run.
    of_paper: what the paper says of its own.
  """
  by_title = {title: _counts(sweep, row) for title, row in rows.items()}
  drawn = {title: counts for title, counts in by_title.items() if len(counts)}
  if not drawn:
    return None
  columns = min(_COLUMNS, len(drawn))
  height = -(-len(drawn) // columns)
  figure = style.figure(0.6 + 4.8 * columns, 0.3 + 2.3 * height)
  grid = figure.subplots(height, columns, squeeze=False).ravel()
  for axes, (title, counts) in zip(grid, drawn.items(), strict=False):
    _draw_counts(axes, counts)
    axes.set_title(title)
  for axes in grid[len(drawn) :]:
    axes.remove()
  spread = ' with lines from the lowest to the highest'
  averaged = picture.averaged(drawn.values(), spread)
  caption = (
    f'{name}: student layers taught by each teacher layer (counted from 0, in '
    f'forward order), {averaged}.{of_paper}'
  )
  absent = [title for title in by_title if title not in drawn]
  return Picture(figure, caption + picture.lacking(absent))


def _counts(sweep: SweepRuns, row: str) -> np.ndarray:
  """Student layers taught, [seeds, T]; of no seeds where none has tutors."""
  models = sweep.models(RowSource(row, 'rnas_cl')).values()
  counts = [c for run, _ in models if (c := run.tutor_counts) is not None]
  return np.stack(counts) if counts else np.zeros((0, 0), int)


def _draw_counts(axes: Axes, counts: np.ndarray) -> None:
  """Bars of counts [seeds, T]."""
  layers = np.arange(counts.shape[1])
  mean = counts.mean(0)
  colors = [style.BLUE if value else style.PALE for value in mean]
  axes.bar(layers, mean, color=colors, width=0.8)
  if len(counts) > 1:
    taught = layers[mean > 0]
    ends = counts.min(0)[taught], counts.max(0)[taught]
    axes.vlines(taught, *ends, color=style.BLACK, lw=0.9)
  axes.set(xlabel='Teacher layer', ylabel='Student layers')
  axes.set_xlim(-0.7, len(layers) - 0.3)
  axes.xaxis.set_major_locator(MaxNLocator(16, integer=True))
  axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
  axes.grid(axis='y')


def terms(sweep: SweepRuns, table: Table, with_paper: bool) -> Picture | None:
  """Table 7 as bars: mean over seeds, a dot for each seed.

  The paper's numbers are shown where they are of these data. The figure is None
  where no row of the table was run.
  """
  filled = comparison.fill(table, sweep)
  if filled.is_empty:
    return None
  figure = style.figure(9.0, 3.8)
  panels = figure.subplots(1, len(table.accuracies))
  for place, axes in enumerate(panels):
    _draw_terms(axes, filled, place, with_paper)
  handles: list = [
    Patch(color=color, label=training)
    for training, color in picture.TRAINING_COLORS.items()
  ]
  seed, paper = (style.Look(style.BLACK, '', marker) for marker in 'o_')
  handles.append(seed.handle('a seed', ms=3.5, mew=1.4))
  if with_paper:
    handles.append(paper.handle('the paper', ms=9, mew=1.4))
  figure.legend(handles=handles, loc='outside lower center', ncols=len(handles))
  models = [models for _, models in filled.run]
  caption = (
    f'{table.title}. Bars: {picture.averaged(models)}; dots: '
    f'single seeds. PGD-20 at ε = {picture.radius(models)}.'
  )
  absent = [': '.join(line.labels) for line in filled.missing]
  return Picture(figure, caption + picture.lacking(absent))


def _draw_terms(
  axes: Axes, filled: FilledTable, place: int, with_paper: bool
) -> None:
  """A panel of one measure, the `place`-th column of the table."""
  column = filled.table.accuracies[place]
  objectives = list(dict.fromkeys(line.labels[1] for line, _ in filled.rows))
  trainings = list(picture.TRAINING_COLORS)
  for line, models in filled.rows:
    training, objective = line.labels
    side = trainings.index(training) - 0.5
    x = objectives.index(objective) + side * _WIDTH
    values = list(measures.values(models, column.key).values())
    _draw_bar(axes, x, values, picture.TRAINING_COLORS[training])
    if with_paper:
      printed = float(line.printed[place])
      axes.plot(x, printed, '_', color=style.BLACK, ms=13, mew=1.4, zorder=4)
  axes.set_xticks(range(len(objectives)), objectives)
  axes.tick_params(axis='x', length=0)
  axes.set_title(column.heading)
  style.percent(axes, 'Accuracy (%)')


def _draw_bar(axes: Axes, x: float, values: list[float], color: str) -> None:
  """A bar of the mean with a dot for each seed's accuracy in %."""
  if not values:
    axes.text(x, 1, 'not run', rotation=90, ha='center', va='bottom', size=7)
    return
  axes.bar(x, np.mean(values), _WIDTH * 0.92, color=color, alpha=0.75)
  spread = np.linspace(-1, 1, len(values)) if len(values) > 1 else np.zeros(1)
  dots: dict[str, Any] = {'color': style.BLACK, 'zorder': 5, 'linewidth': 0}
  axes.scatter(x + 0.1 * spread, values, s=9, **dots)

"""Figures of accuracy under attack: against epsilon, and against clean."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from rnascl_jax.reporting import style, tables
from rnascl_jax.reporting.evaluations import ModelEvaluation, SavedAttack
from rnascl_jax.reporting.results import SavedRun

# Up to this many epsilons, each has its tick.
_MOST_TICKS = 9
# Models in a column of the legend beside clean against robust.
_IN_COLUMN = 8
# Inches there: of the title, between captions, and of a line of one.
_LEGEND_TITLE, _CAPTION, _LINE = 0.4, 0.15, 0.14


def epsilon_curves(run: SavedRun) -> Figure | None:
  """Accuracy of every model against epsilon, one panel per attack."""
  attacks = {
    (c.attack, c.norm): c.label for e in run.evaluations for c in e.curves
  }
  if not attacks:
    return None
  looks = style.looks(run.models)
  handles = [
    looks[e.model].handle(e.label, ms=4) for e in run.evaluations if e.curves
  ]
  width = 0.8 + 4.0 * len(attacks)
  columns, legend = style.legend_shape(handles, width, most=3)
  figure = style.figure(width, 3.3 + legend)
  panels = figure.subplots(1, len(attacks), squeeze=False, sharey=True)[0]
  for axes, (shown, label) in zip(panels, attacks.items(), strict=True):
    scale, unit = tables.epsilon_unit(run.dataset, shown[1])
    ticks = set()
    for model in run.evaluations:
      for curve in model.curves:
        if (curve.attack, curve.norm) != shown:
          continue
        axes.plot(
          scale * curve.epsilons,
          100 * curve.accuracies,
          **looks[model.model].style(ms=4),
        )
        ticks |= {round(epsilon, 6) for epsilon in curve.epsilons.tolist()}
    if len(ticks) <= _MOST_TICKS:
      axes.set_xticks([scale * epsilon for epsilon in sorted(ticks)])
    style.percent(axes, 'Accuracy (%)' if axes is panels[0] else '')
    axes.set(xlabel=f'ε ({unit})', title=label)
  figure.legend(handles=handles, loc='outside lower center', ncols=columns)
  return figure


def clean_vs_robust(run: SavedRun) -> Figure | None:
  """Clean accuracy against PGD-20; a student's marker grows with its size."""
  points = run.clean_and_robust
  students = [model for model, _, _ in points if model.kind == 'student']
  if len(students) < 2:
    return None
  columns = -(-len(points) // _IN_COLUMN)
  # Columns of the legend hold equally many captions.
  lines = [_caption(model).count('\n') + 1 for model, _, _ in points]
  legend = _LEGEND_TITLE + max(
    _CAPTION * len(column) + _LINE * sum(column)
    for column in np.array_split(lines, columns)
  )
  figure = style.figure(5.4 + 2.2 * columns, max(4.2, legend))
  axes = figure.subplots()
  largest = max(model.parameters or 1 for model in students)
  handles = [
    _point(axes, run, model, (clean, robust), largest)
    for model, clean, robust in points
  ]
  attacked = points[0][2]
  radius = tables.epsilon_text(attacked.epsilon, run.dataset, attacked.norm)
  axes.set_xlabel('Clean accuracy (%)')
  axes.set_ylabel(f'{attacked.label} accuracy (%), ε = {radius}')
  axes.grid()
  figure.legend(
    handles=handles,
    loc='outside right upper',
    ncols=columns,
    labelspacing=1.3,
    title='(parameters, MACs)',
  )
  return figure


def _point(
  axes: Axes,
  run: SavedRun,
  model: ModelEvaluation,
  reached: tuple[SavedAttack, SavedAttack],
  largest: int,
) -> PathCollection:
  """One model with its intervals; a student's area grows with its size."""
  look = style.looks(run.models)[model.model]
  x, y = (100 * result.accuracy for result in reached)
  x_bars, y_bars = map(_bars, reached)
  axes.errorbar(x, y, y_bars, x_bars, color=look.color, lw=0.8, alpha=0.6)
  student = model.kind == 'student'
  return axes.scatter(
    x,
    y,
    s=30 + 150 * (model.parameters or 0) / largest if student else 50,
    marker=look.marker,
    facecolor=look.color if student else 'white',
    edgecolor=look.color,
    label=_caption(model),
    zorder=3,
  )


def _bars(result: SavedAttack) -> np.ndarray:
  """Lengths below and above, [2, 1], of a 95 % interval in points."""
  low, high = result.interval
  lengths = [[result.accuracy - low], [high - result.accuracy]]
  return 100 * np.maximum(lengths, 0.0)


def _caption(model: ModelEvaluation) -> str:
  """A model's label with its parameters and MACs, as in the paper's Fig. 1."""
  label = textwrap.fill(model.label, 24)
  counts = (model.parameters, model.macs)
  if None in counts:
    return label
  sizes = [
    f'{count / 1e6:.3g}M' if count >= 1e6 else f'{count / 1e3:.3g}k'
    for count in counts
    if count
  ]
  return f'{label}\n({", ".join(sizes)})'

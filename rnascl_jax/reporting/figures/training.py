"""Figures of what happened over the epochs: every stage, and the search."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from rnascl_jax.reporting import style
from rnascl_jax.reporting import training_curves as training_panels
from rnascl_jax.reporting.results import SavedRun
from rnascl_jax.reporting.training_curves import Panel

# Inches of a row of panels.
_ROW = 2.1


def training_curves(run: SavedRun) -> Figure | None:
  """Terms of the loss and accuracies over epochs, one column per stage."""
  panels = training_panels.panels(run)
  groups = [
    g for g in training_panels.GROUPS if any(p.group == g for p in panels)
  ]
  rows = [
    q
    for q in training_panels.QUANTITIES
    if any(p.quantity == q for p in panels)
  ]
  if not panels:
    return None
  looks = style.looks(run.models)
  models = dict.fromkeys(s.model for s in run.stages if s.group != 'search')
  handles = [looks[m].handle(run.label(m), marker=None) for m in models]
  for label, width, alpha in (('training', 0.9, 0.6), ('validation', 2, 1)):
    handles.append(
      Line2D([], [], color='black', lw=width, alpha=alpha, label=label)
    )
  width = 1.0 + 3.4 * len(groups)
  columns, legend = style.legend_shape(handles, width, most=4)
  figure = style.figure(width, 0.75 + legend + _ROW * len(rows))
  grid = figure.subplots(len(rows), len(groups), squeeze=False)
  drawn = {(p.quantity, p.group): p for p in panels}
  for line, quantity in zip(grid, rows, strict=True):
    for axes, group in zip(line, groups, strict=True):
      panel = drawn.get((quantity, group))
      if panel is None:
        axes.remove()
      else:
        _draw(axes, panel, looks)
  for axes, group in zip(grid[0], groups, strict=True):
    axes.set_title(training_panels.GROUPS[group])
  figure.legend(handles=handles, loc='outside lower center', ncols=columns)
  return figure


def _draw(axes: Axes, panel: Panel, looks: Mapping[str, style.Look]) -> None:
  """Thin lines of training and thick ones of validation."""
  for model, split, epochs, values in panel.lines:
    look, is_training = looks[model], split == 'train'
    axes.plot(
      epochs,
      values,
      look.line,
      color=look.color,
      lw=0.9 if is_training else 2.0,
      alpha=0.6 if is_training else 1.0,
      marker=look.marker if len(epochs) == 1 and not is_training else None,
      ms=5,
    )
  style.epochs(axes)
  axes.grid(True, axis='y')
  axes.set_xlim(left=0)
  axes.set_ylabel(panel.quantity.label)
  if panel.quantity.is_share:
    style.percent(axes, panel.quantity.label)


def search(run: SavedRun) -> Figure | None:
  """Temperature, entropies, expected MACs and loss terms of the search."""
  panels = training_panels.search_panels(run)
  if not panels:
    return None
  columns = min(len(panels), 2)
  rows = -(-len(panels) // columns)
  figure = style.figure(4.2 * columns, 0.4 + 2.6 * rows)
  grid = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
  for axes, panel in zip(grid, panels, strict=False):
    axes.set(title=panel.title, ylabel=panel.label)
    if panel.is_log:
      axes.set_yscale('log')
      # Its own ones write formulas.
      axes.yaxis.set_major_formatter(LogFormatter())
      axes.yaxis.set_minor_formatter(LogFormatter())
    for label, look, epochs, values in panel.lines:
      axes.plot(epochs, values, look.line, color=look.color, label=label)
    if panel.lines[0].label:
      axes.legend(loc='upper right')
    axes.set_ylim(*panel.limits)
    axes.grid(axis='y')
    style.epochs(axes)
    axes.xaxis.set_tick_params(labelbottom=True)
  for axes in grid[len(panels) :]:
    axes.remove()
  return figure

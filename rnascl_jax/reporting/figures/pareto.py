"""Clean and robust accuracy against MACs and measured latency, with fronts."""

import pathlib
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnascl_jax.reporting import pareto, statistics, style
from rnascl_jax.reporting.pareto import Point

_ACROSS = {'latency': 'Measured latency (µs)', 'macs': 'MACs (thousand)'}
_SCALES = {'latency': 1.0, 'macs': 1e-3}


def write(found: Sequence[Point], attack: str, path: pathlib.Path) -> None:
  """Draws `fronts` into a PNG file."""
  with matplotlib.rc_context(style.SETTINGS):
    figure = fronts(found, attack)
  style.save(figure, path)


def fronts(found: Sequence[Point], attack: str) -> Figure:
  """A panel for each accuracy and cost; a step joins the rows of its front.

  Args:
    found: rows, at least one.
    attack: what the robust accuracy is under.
  """
  looks = _looks([point.cost for point in found])
  handles = [
    look.handle(_label(cost), ls='', ms=5) for cost, look in looks.items()
  ]
  handles.append(
    style.Look(style.GREY, '-', '').handle('front', drawstyle='steps-post')
  )
  columns, legend = style.legend_shape(handles, 8.4, most=5)
  figure = style.figure(8.4, 6.0 + legend)
  grid = figure.subplots(2, 2, sharex='col', sharey='row')
  rows = {'clean': 'Clean accuracy (%)', 'robust': f'{attack} accuracy (%)'}
  for line, (accuracy, label) in zip(grid, rows.items(), strict=True):
    for axes, across in zip(line, _ACROSS, strict=True):
      _draw(axes, found, looks, (across, accuracy))
      axes.grid()
      if accuracy == 'robust':
        axes.set_xlabel(_ACROSS[across])
    line[0].set_ylabel(label)
  figure.legend(handles=handles, loc='outside lower center', ncols=columns)
  return figure


def _draw(
  axes: Axes,
  found: Sequence[Point],
  looks: dict[str, style.Look],
  names: tuple[str, str],
) -> None:
  across, accuracy = names
  scale = _SCALES[across]
  for point in found:
    x, x_error = statistics.mean_and_deviation(getattr(point, across))
    y, y_error = statistics.mean_and_deviation(getattr(point, accuracy))
    look = looks[point.cost]
    axes.errorbar(
      scale * x,
      100 * y,
      y_error and 100 * y_error,
      x_error and scale * x_error,
      fmt=look.marker,
      color=look.color,
      ms=5,
      lw=0.8,
      alpha=0.85,
    )
    axes.annotate(
      f'{point.exponent:g}',
      (scale * x, 100 * y),
      xytext=(4, 3),
      textcoords='offset points',
      fontsize=7,
      color=look.color,
    )
  best = pareto.front(found, across, accuracy)
  axes.step(
    [scale * point.mean(across) for point in best],
    [100 * point.mean(accuracy) for point in best],
    where='post',
    color=style.GREY,
    lw=1.0,
    zorder=0,
  )


def _label(cost: str) -> str:
  """'macs', 'latency', '0.5*macs+0.5*latency': a cost without its table."""
  terms = [term.partition(':')[0].strip() for term in cost.split('+')]
  return ' + '.join(terms)


def _looks(costs: Sequence[str]) -> dict[str, style.Look]:
  markers = ('o', 's', '^', 'D', 'v', 'P')
  colors = (
    *(style.BLUE, style.RED, style.GREEN, style.ORANGE),
    *(style.PURPLE, style.BLACK),
  )
  unique = dict.fromkeys(costs)
  return {
    cost: style.Look(
      colors[index % len(colors)], '', markers[index % len(markers)]
    )
    for index, cost in enumerate(unique)
  }

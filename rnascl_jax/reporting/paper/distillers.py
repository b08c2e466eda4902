"""Figure 3: other ways to distil against RNAS-CL."""

from collections.abc import Collection, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rnascl_jax.reporting import style
from rnascl_jax.reporting.paper import picture, studies
from rnascl_jax.reporting.paper.picture import Picture, Point
from rnascl_jax.reporting.paper.sweep_results import Sweep

_REFERENCE = 'rnas_cl'
_METHOD_COLORS = {
  'rnas_cl': (style.BLUE, 'o'),
  'sp': (style.ORANGE, 's'),
  'vid': (style.GREEN, '^'),
  'rkd': (style.RED, 'v'),
  'crd': (style.PURPLE, 'D'),
  'pkt': (style.SKY, 'P'),
  'at': (style.BLACK, 'X'),
  'kd': (style.GREY, 'h'),
}


def figure_3(
  sweep: Sweep, spaces: Sequence[str], on_digits: bool = False
) -> Picture | None:
  """Ways to distil against RNAS-CL; a larger marker is a larger space.

  Args:
    sweep: the results.
    spaces: of the students, the smallest first.
    on_digits: whether rows are those of digits.

  Returns:
    None where none but RNAS-CL was run.
  """
  found = _points(sweep, spaces, on_digits)
  if {method for _, method in found} <= {_REFERENCE}:
    return None
  figure = _figure_3(found, spaces)
  absent = [
    studies.METHODS[method] + f'-{space.upper()}' * (not on_digits)
    for space in spaces
    for method in studies.METHODS
    if (space, method) not in found
  ]
  shown = ', '.join(space.upper() for space in spaces)
  sizes = '' if on_digits else f' A larger marker is a larger space ({shown}).'
  models = [point.models for point in found.values()]
  caption = (
    f'Fig. 3{" on digits" if on_digits else ""}: ways to distil against '
    f'RNAS-CL, {picture.averaged(models, " with standard deviation")}, '
    f'PGD-20 at ε = {_radius(found)}.{sizes} All in the architecture that '
    'RNAS-CL found.'
  )
  return Picture(figure, caption + picture.lacking(absent))


def _points(
  sweep: Sweep, spaces: Sequence[str], on_digits: bool
) -> dict[tuple[str, str], Point]:
  """All that were run, by space and method."""
  found = {}
  for space in spaces:
    for method in studies.METHODS:
      source = studies.distilled(space, method)
      if on_digits:
        source = source._replace(teacher='small')
      reached = picture.point(sweep, source)
      if reached is not None:
        found[space, method] = reached
  return found


def _area(spaces: Sequence[str], space: str) -> float:
  """Of a marker, in points squared."""
  return 36 * (1 + 1.3 * spaces.index(space))


def _radius(found: dict[tuple[str, str], Point]) -> str:
  return picture.radius(
    e for point in found.values() for e in point.models.values()
  )


def _figure_3(
  found: dict[tuple[str, str], Point], spaces: Sequence[str]
) -> Figure:
  figure = style.figure(6.6, 4.4)
  axes = figure.subplots()
  for (space, method), point in found.items():
    color, marker = _METHOD_COLORS[method]
    picture.draw_point(
      axes,
      point,
      s=_area(spaces, space),
      marker=marker,
      color=color,
      alpha=0.85,
    )
  handles = _methods({method for _, method in found}) + _sizes(spaces)
  figure.legend(handles=handles, loc='outside right upper')
  axes.set_xlabel('Clean accuracy (%)')
  axes.set_ylabel(f'PGD-20 accuracy (%), ε = {_radius(found)}')
  axes.grid()
  axes.margins(0.08)
  return figure


def _methods(shown: Collection[str]) -> list[Line2D]:
  """Entries of the legend for these methods."""
  return [
    Line2D([], [], ls='', color=color, marker=marker, label=label)
    for method, label in studies.METHODS.items()
    for color, marker in [_METHOD_COLORS[method]]
    if method in shown
  ]


def _sizes(spaces: Sequence[str]) -> list[Line2D]:
  """Entries for the sizes of markers, where there are several."""
  if len(spaces) < 2:
    return []
  return [
    Line2D(
      [],
      [],
      ls='',
      marker='o',
      mfc='none',
      mec=style.GREY,
      ms=_area(spaces, space) ** 0.5,
      label=space.upper(),
    )
    for space in spaces
  ]

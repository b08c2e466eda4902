"""Figures 1 and 3: clean against robust accuracy.

Figure 1 is Table 1, with what others published in grey. Figure 3 has other ways
to distil against RNAS-CL.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from rnascl_jax.reporting import statistics, style
from rnascl_jax.reporting.paper import comparison, measures, picture
from rnascl_jax.reporting.paper.comparison import FilledTable
from rnascl_jax.reporting.paper.definition import Line, Table
from rnascl_jax.reporting.paper.picture import Picture
from rnascl_jax.reporting.paper.sweep_runs import EvaluatedModel, SweepRuns

_REFERENCE = 'RNAS-CL'
_DEVIATION = ' with standard deviation'
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
# Directions from a marker, and how far from its edge; the first of equal ones.
_DIRECTIONS = np.array(
  [(1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7)]
  + [(0.7, -0.7), (-0.7, -0.7)]
)
_BEYOND = (6.0, 11.0, 16.0)
# In dots: farther than this, room is room.
_FREE = 18.0


class AccuracyPair(NamedTuple):
  """Clean accuracy and that under PGD-20, in %, one for each seed."""

  clean: Sequence[float]
  robust: Sequence[float]

  @property
  def means(self) -> tuple[float, float]:
    """Of clean and of robust accuracy."""
    return _mean(self.clean), _mean(self.robust)

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


class _Mark(NamedTuple):
  """One method of Fig. 1.

  Attributes:
    text: beside its marker.
    label: in the legend.
    pair: its accuracies.
    millions: of parameters.
    line: a row of Table 1.
    is_ours: whether it is not what the paper prints.
  """

  text: str
  label: str
  pair: AccuracyPair
  millions: float
  line: Line
  is_ours: bool

  @property
  def area(self) -> float:
    """That of the marker, in points squared."""
    return 22 + 26 * self.millions

  @property
  def color(self) -> str | None:
    """That of its training; None for methods of others."""
    training = self.line.labels[0]
    return picture.TRAINING_COLORS[training] if self.line.source else None


def _mean(values: Sequence[float]) -> float:
  return statistics.mean_and_deviation(values)[0]


def _measured(
  filled: FilledTable,
) -> tuple[dict[Line, AccuracyPair], list[dict[int, EvaluatedModel]]]:
  """The rows of which both accuracies were measured, and their models."""
  pairs, models = {}, []
  for row in filled.rows:
    clean = measures.values(row.models, 'clean').values()
    robust = measures.values(row.models, picture.ROBUST).values()
    if clean and robust:
      pairs[row.line] = AccuracyPair(list(clean), list(robust))
      models.append(row.models)
  return pairs, models


def figure_1(sweep: SweepRuns, table: Table) -> Picture | None:
  """Table 1 as a figure: others in grey, the paper's RNAS-CL hollow, ours full.

  Args:
    sweep: the results.
    table: Table 1.

  Returns:
    None where no row of it was run.
  """
  pairs, models = _measured(comparison.fill(table, sweep))
  if not pairs:
    return None
  rows = zip(pairs.items(), models, strict=True)
  marks = _printed_marks(table)
  marks += [_our_mark(line, pair, of_row) for (line, pair), of_row in rows]
  # The paper's RNAS-CL is not explained: its spaces have one name with ours.
  explained = [mark for mark in marks if mark.is_ours or not mark.line.source]
  legend = [*_markers(), *map(_entry, explained)]
  figure = style.figure(11.0, 5.0 + 0.17 * (-(-len(legend) // 4)))
  panels = figure.subplots(1, 2)
  figure.legend(handles=legend, loc='outside lower center', ncols=4, fontsize=7)
  for axes, training in zip(panels, picture.TRAINING_COLORS, strict=True):
    axes.set_title(training)
    shown = [mark for mark in marks if mark.line.labels[0] == training]
    _draw_marks(axes, shown)
    _write_beside(figure, axes, shown)
  absent = [
    f'{line.labels[1]} ({line.labels[0].lower()})'
    for line in table.sources.values()
    if line not in pairs
  ]
  caption = (
    f'Fig. 1: clean accuracy against accuracy under PGD-20 (ours at ε = '
    f'{picture.radius(models)}). The area of a marker grows with the number of '
    'parameters; in brackets parameters and MACs. Grey: other methods, as the '
    "paper prints them in Table 1. Hollow: the paper's RNAS-CL. Full: ours, "
    f'{picture.averaged(models, _DEVIATION)}.'
  )
  return Picture(figure, caption + picture.lacking(absent))


def _printed_marks(table: Table) -> list[_Mark]:
  """All rows of the paper; those of others have numbers."""
  keys = [column.key for column in table.columns if column.printed]
  marks, number = [], 0
  for line in table.lines:
    printed = dict(zip(keys, line.printed, strict=True))
    number += line.source is None
    text = _space(line) if line.source else f'{number}'
    sizes = _sizes(printed['parameters'], printed['macs'])
    label = f'{line.labels[1].split(" (")[0]} {sizes}'
    clean, robust = float(printed['clean']), float(printed[picture.ROBUST])
    pair = AccuracyPair([clean], [robust])
    millions = float(printed['parameters'])
    marks.append(_Mark(text, label, pair, millions, line, is_ours=False))
  return marks


def _our_mark(line: Line, pair: AccuracyPair, models: measures.Models) -> _Mark:
  parameters, macs = (
    list(measures.values(models, key).values())
    for key in ('parameters', 'macs')
  )
  millions = _mean(parameters) if parameters else 0.0
  written = f'{_mean(macs):.3g}' if macs else 'MACs unknown'
  tuned = ' + eq. (6)' if line.labels[0].startswith('With ') else ''
  sizes = _sizes(f'{millions:.2g}', written)
  label = f'{line.labels[1]}{tuned}, ours {sizes}'
  return _Mark(_space(line), label, pair, millions, line, is_ours=True)


def _space(line: Line) -> str:
  """'S3' of 'RNAS-CL-S3-WRT-34'."""
  return line.labels[1].split('-')[2]


def _sizes(parameters: str, macs: str) -> str:
  """'(3.3M, 500M*)', with a dash for what is not reported."""
  shown = [
    f'{n.rstrip("*")}M{"*" * n.endswith("*")}' if n[0].isdigit() else n
    for n in (parameters, macs)
  ]
  return f'({", ".join(shown)})'


def _markers() -> list[Line2D]:
  """What the three kinds of markers mean."""
  kinds = (
    ('other methods, as printed', style.GREY, style.PALE),
    ("the paper's RNAS-CL", style.BLUE, 'none'),
    ('RNAS-CL, ours', style.BLUE, style.BLUE),
  )
  return [
    Line2D([], [], ls='', marker='o', mec=edge, mfc=face, label=label)
    for label, edge, face in kinds
  ]


def _entry(mark: _Mark) -> Line2D:
  """An entry of the legend, whose marker is the text of the mark."""
  path = TextPath((0.0, 0.0), mark.text)
  box = path.get_extents()
  middle = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
  written = path.transformed(Affine2D().translate(-middle[0], -middle[1]))
  look = style.Look(mark.color or style.BLACK, '', '')
  size = 4 + 2 * len(mark.text)
  return look.handle(mark.label, marker=written, ms=size, mew=0.3)


def _draw_marks(axes: Axes, marks: Sequence[_Mark]) -> None:
  for mark in marks:
    color = mark.color or style.GREY
    if mark.is_ours:
      mark.pair.draw(axes, s=mark.area, color=color)
    else:
      face = 'none' if mark.color else style.PALE
      look: dict[str, Any] = {'facecolor': face, 'edgecolor': color}
      axes.scatter(*mark.pair.means, s=mark.area, **look)
  axes.margins(0.08)
  axes.set(xlabel='Clean accuracy (%)', ylabel='PGD-20 accuracy (%)')
  axes.grid()


def _write_beside(figure: Figure, axes: Axes, marks: Sequence[_Mark]) -> None:
  """Writes texts beside their markers, where fewest others are.

  Args:
    figure: to which the axes belong.
    axes: whose limits are final.
    marks: drawn ones.
  """
  figure.draw_without_rendering()
  points = axes.transData.transform([mark.pair.means for mark in marks])
  taken = list(points)
  dots = 72 / figure.dpi
  for index, mark in enumerate(marks):
    others = [*taken[:index], *taken[index + 1 :]]
    edge = mark.area**0.5 / 2
    offsets = np.concatenate([_DIRECTIONS * (edge + b) for b in _BEYOND])
    places = points[index] + offsets / dots  # [places, 2]
    best = int(np.argmax([_room(place, others) for place in places]))
    taken.append(places[best])
    axes.annotate(
      mark.text,
      mark.pair.means,
      xytext=tuple(offsets[best]),
      textcoords='offset points',
      ha='center',
      va='center',
      color=mark.color or style.BLACK,
      fontsize=7,
    )


def _room(at: np.ndarray, taken: Sequence[np.ndarray]) -> float:
  """Distance to the nearest thing, up to what is enough."""
  return min(_FREE, *(float(np.hypot(*(at - other))) for other in taken))


def figure_3(sweep: SweepRuns, name: str, table: Table) -> Picture | None:
  """Ways to distil against RNAS-CL; a larger marker is a larger space.

  Args:
    sweep: the results.
    name: 'Fig. 3', how the caption begins.
    table: its numbers, whose rows have a space, the smallest first, and a
      method as labels.

  Returns:
    None where none but RNAS-CL was run.
  """
  pairs, models = _measured(comparison.fill(table, sweep))
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
  axes.set_xlabel('Clean accuracy (%)')
  axes.set_ylabel(f'PGD-20 accuracy (%), ε = {radius}')
  axes.grid()
  axes.margins(0.08)
  sizes = f' A larger marker is a larger space ({", ".join(spaces)}).'
  caption = (
    f'{name}: ways to distil against RNAS-CL, '
    f'{picture.averaged(models, _DEVIATION)}, PGD-20 at ε = {radius}.'
    f'{sizes * several} All in the architecture that RNAS-CL found.'
  )
  absent = [
    '-'.join(reversed(line.labels)) if several else line.labels[1]
    for line in table.lines
    if line not in pairs
  ]
  return Picture(figure, caption + picture.lacking(absent))

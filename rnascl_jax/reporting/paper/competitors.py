"""Figure 1: Table 1 as a figure, with what others published in grey."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from rnascl_jax.reporting import statistics, style
from rnascl_jax.reporting.paper import comparison, measures, picture, scatter
from rnascl_jax.reporting.paper.definition import Line, Table
from rnascl_jax.reporting.paper.picture import Picture
from rnascl_jax.reporting.paper.scatter import AccuracyPair
from rnascl_jax.reporting.paper.sweep_runs import Models, SweepRuns

# Directions from a marker, and how far from its edge; the first of equal ones.
_DIRECTIONS = np.array(
  [(1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7)]
  + [(0.7, -0.7), (-0.7, -0.7)]
)
_BEYOND = (6.0, 11.0, 16.0)
# In dots: farther than this, room is room.
_FREE = 18.0


class _Mark(NamedTuple):
  """One method."""

  text: str  # Beside its marker.
  label: str  # In the legend.
  pair: AccuracyPair
  millions: float  # Of parameters.
  line: Line  # A row of Table 1.
  is_ours: bool  # Whether it is not what the paper prints.

  @property
  def area(self) -> float:
    """That of the marker, in points squared."""
    return 22 + 26 * self.millions

  @property
  def color(self) -> str | None:
    """That of its training; None for methods of others."""
    training = self.line.labels[0]
    return picture.TRAINING_COLORS[training] if self.line.source else None


def figure_1(sweep: SweepRuns, table: Table) -> Picture | None:
  """Others in grey, the paper's RNAS-CL hollow, ours full; None without any."""
  filled = comparison.fill(table, sweep)
  pairs = scatter.measured(filled)
  if not pairs:
    return None
  rows = {line: models for line, models in filled.rows if line in pairs}
  marks = _printed_marks(table)
  marks += [_our_mark(line, pairs[line], rows[line]) for line in rows]
  # The paper's RNAS-CL is not explained: its spaces have one name with ours.
  explained = [mark for mark in marks if mark.is_ours or not mark.line.source]
  kinds = (
    ('other methods, as printed', style.GREY, style.PALE),
    ("the paper's RNAS-CL", style.BLUE, 'none'),
    ('RNAS-CL, ours', style.BLUE, style.BLUE),
  )
  legend = [
    Line2D([], [], ls='', marker='o', mec=edge, mfc=face, label=label)
    for label, edge, face in kinds
  ]
  legend += map(_entry, explained)
  models = list(rows.values())
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
    f'{picture.averaged(models, scatter.DEVIATION)}.'
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


def _our_mark(line: Line, pair: AccuracyPair, models: Models) -> _Mark:
  parameters, macs = (
    statistics.mean_and_deviation(list(values.values()))[0] if values else None
    for key in ('parameters', 'macs')
    for values in [measures.values(models, key)]
  )
  millions = parameters or 0.0
  written = 'MACs unknown' if macs is None else f'{macs:.3g}'
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
  scatter.finish(axes)


def _write_beside(figure: Figure, axes: Axes, marks: Sequence[_Mark]) -> None:
  """Writes texts beside drawn markers, where fewest others are.

  The limits of the axes are final.
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
    # Distance [places] to the nearest thing, up to what is enough.
    apart = np.hypot(*np.transpose(places[:, None] - np.array(others)[None]))
    best = int(np.argmax(apart.min(0, initial=_FREE)))
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

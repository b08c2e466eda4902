"""Figure 1: clean against robust accuracy, beside what others published."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from rnascl_jax.reporting import style
from rnascl_jax.reporting.paper import cifar10, measures, picture
from rnascl_jax.reporting.paper.definition import Line
from rnascl_jax.reporting.paper.picture import Picture, Point
from rnascl_jax.reporting.paper.sweep_results import Sweep

_CLEAN, _ROBUST, _PARAMETERS, _MACS = 0, 2, 4, 5
_COLORS = {cifar10.WITHOUT: style.BLUE, cifar10.WITH: style.RED}


class _Mark(NamedTuple):
  """One method of Fig. 1.

  Attributes:
    text: beside its marker.
    label: in the legend.
    clean: accuracy, %.
    robust: accuracy under PGD-20, %.
    millions: of parameters.
    ours: over seeds, None for what the paper prints.
    line: of Table 1.
  """

  text: str
  label: str
  clean: float
  robust: float
  millions: float
  ours: Point | None
  line: Line

  @property
  def area(self) -> float:
    """Of the marker, in points squared."""
    return 22 + 26 * self.millions


def figure_1(sweep: Sweep) -> Picture | None:
  """Table 1 as a figure: others in grey, the paper's RNAS-CL hollow, ours full.

  Args:
    sweep: the results.

  Returns:
    None where no row of it was run.
  """
  lines = [line for line in cifar10.TABLE_1.lines if line.source is not None]
  ours = [mark for line in lines if (mark := _our_mark(sweep, line))]
  if not ours:
    return None
  marks = [*_printed_marks(), *ours]
  legend = [*_markers(), *map(_entry, _explained(marks))]
  figure = style.figure(11.0, 5.0 + 0.17 * (-(-len(legend) // 4)))
  panels = figure.subplots(1, 2)
  figure.legend(handles=legend, loc='outside lower center', ncols=4, fontsize=7)
  for axes, training in zip(panels, _COLORS, strict=True):
    axes.set_title(training)
    shown = [m for m in marks if m.line.labels[0] == training]
    _draw(axes, shown)
    picture.place_labels(figure, axes, _texts(shown), 7)
  reached = [point.models for mark in ours if (point := mark.ours)]
  radius = picture.radius(e for models in reached for e in models.values())
  absent = [
    f'{line.labels[1]} ({line.labels[0].lower()})'
    for line in lines
    if line not in [mark.line for mark in ours]
  ]
  caption = (
    f'Fig. 1: clean accuracy against accuracy under PGD-20 (ours at ε = '
    f'{radius}). The area of a marker grows with the number of parameters; in '
    'brackets parameters and MACs. Grey: other methods, as the paper prints '
    "them in Table 1. Hollow: the paper's RNAS-CL. Full: ours, "
    f'{picture.averaged(reached, " with standard deviation")}.'
  )
  return Picture(figure, caption + picture.lacking(absent))


def _printed_marks() -> list[_Mark]:
  """All rows of the paper; those of others have numbers."""
  found, number = [], 0
  for line in cifar10.TABLE_1.lines:
    printed = line.printed
    text, color_of = _space(line), line.source
    if color_of is None:
      number += 1
      text = f'{number}'
    sizes = _sizes(printed[_PARAMETERS], printed[_MACS])
    found.append(
      _Mark(
        text,
        f'{line.labels[1].split(" (")[0]} {sizes}',
        float(printed[_CLEAN]),
        float(printed[_ROBUST]),
        float(printed[_PARAMETERS]),
        None,
        line,
      )
    )
  return found


def _our_mark(sweep: Sweep, line: Line) -> _Mark | None:
  found = None if line.source is None else picture.point(sweep, line.source)
  if found is None:
    return None
  sizes = [measures.summary(found.models, k) for k in ('parameters', 'macs')]
  millions = sizes[0].mean if sizes[0] else 0.0
  macs = f'{sizes[1].mean:.3g}' if sizes[1] else 'MACs unknown'
  hardened = ' + eq. (6)' if line.labels[0] == cifar10.WITH else ''
  return _Mark(
    _space(line),
    f'{line.labels[1]}{hardened}, ours {_sizes(f"{millions:.2g}", macs)}',
    found.clean.mean,
    found.robust.mean,
    millions,
    found,
    line,
  )


def _space(line: Line) -> str:
  return '' if line.source is None else line.source.space.upper()


def _sizes(parameters: str, macs: str) -> str:
  """'(3.3M, 500M*)', with a dash for what is not reported."""
  shown = [
    f'{n.rstrip("*")}M{"*" * n.endswith("*")}' if n[0].isdigit() else n
    for n in (parameters, macs)
  ]
  return f'({", ".join(shown)})'


def _explained(marks: Sequence[_Mark]) -> list[_Mark]:
  """Without the paper's RNAS-CL, whose spaces have one name with ours."""
  return [mark for mark in marks if mark.ours or not mark.line.source]


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


def _written(text: str) -> Path:
  """A marker that is a text, in its middle."""
  path = TextPath((0.0, 0.0), text)
  box = path.get_extents()
  return path.transformed(
    Affine2D().translate(-(box.x0 + box.x1) / 2, -(box.y0 + box.y1) / 2)
  )


def _entry(mark: _Mark) -> Line2D:
  color = _COLORS[mark.line.labels[0]] if mark.ours else style.BLACK
  return Line2D(
    [],
    [],
    ls='',
    marker=_written(mark.text),
    ms=4 + 2 * len(mark.text),
    color=color,
    mew=0.3,
    label=mark.label,
  )


def _draw(axes: Axes, marks: Sequence[_Mark]) -> None:
  for mark in marks:
    own = mark.line.source is not None
    color = _COLORS[mark.line.labels[0]] if own else style.GREY
    if mark.ours:
      picture.draw_point(axes, mark.ours, s=mark.area, color=color)
    else:
      face = 'none' if own else style.PALE
      axes.scatter(
        mark.clean, mark.robust, s=mark.area, facecolor=face, edgecolor=color
      )
  axes.margins(0.08)
  axes.set(xlabel='Clean accuracy (%)', ylabel='PGD-20 accuracy (%)')
  axes.grid()


def _texts(marks: Sequence[_Mark]) -> list[picture.Label]:
  """What is written beside markers."""
  return [
    picture.Label(
      mark.clean,
      mark.robust,
      mark.text,
      _COLORS[mark.line.labels[0]] if mark.line.source else style.BLACK,
      mark.area**0.5 / 2,
    )
    for mark in marks
  ]

"""How the figures look: colours, type and the empty picture they start from.

A model has the same colour, line and marker in every figure. The palette is
that of Okabe and Ito (Color Universal Design, 2008), which stays apart under
the common forms of colour blindness; no figure needs colour alone.
"""

import itertools
import pathlib
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rnascl_jax.runtime import files

BLUE = '#0072B2'
ORANGE = '#E69F00'
GREEN = '#009E73'
RED = '#D55E00'
PURPLE = '#CC79A7'
SKY = '#56B4E9'
BLACK = '#222222'
GREY = '#8C8C8C'
PALE = '#D9D9D9'
# Inches of a row of a legend; of an entry beside its label, and of a letter.
_LEGEND_ROW = 0.18
_ENTRY, _LETTER = 0.55, 0.065
# Letters of a note to an inch.
_NOTE_LETTERS = 15

# Settings of matplotlib that hold while a figure is drawn and saved.
SETTINGS: Any = {
  'font.size': 9,
  'axes.titlesize': 10,
  'axes.titlelocation': 'left',
  'axes.labelsize': 9,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.edgecolor': '#555555',
  'axes.axisbelow': True,
  'grid.color': '#E4E4E4',
  'grid.linewidth': 0.7,
  'xtick.labelsize': 8,
  'ytick.labelsize': 8,
  'legend.fontsize': 8,
  'legend.frameon': False,
  'lines.linewidth': 1.6,
  'savefig.dpi': 150,
  # Labels are the user's: a $ or a \\ in them is no formula.
  'text.parse_math': False,
}


class Look(NamedTuple):
  """How a model is drawn: a hexadecimal colour, and matplotlib's styles."""

  color: str
  line: str
  marker: str

  def style(self, **options) -> dict[str, Any]:
    """Arguments of matplotlib for a line with markers of this look."""
    look = {'color': self.color, 'ls': self.line, 'marker': self.marker}
    return look | options

  def handle(self, label: str, **options) -> Line2D:
    """An entry of a legend; `options` are arguments of matplotlib."""
    return Line2D([], [], label=label, **self.style(**options))


_KNOWN = {
  'teacher': Look(BLACK, '-', 'D'),
  'vulnerable_teacher': Look(GREY, '--', 'D'),
  'search': Look(BLUE, '-', 'o'),
  'rnas_cl': Look(BLUE, '-', 'o'),
  'rnas_cl_eq6': Look(RED, '-', '*'),
  'ce': Look(ORANGE, '-', 's'),
  'ce_kl': Look(GREEN, '-', '^'),
  'control_rnas_cl': Look(SKY, '--', 'o'),
  'control_ce_kl': Look(PURPLE, '--', '^'),
}
_SPARE = [
  Look(color, line, marker)
  for (line, marker), color in itertools.product(
    (('-.', 'v'), (':', 'P'), ('--', 'X')),
    (RED, PURPLE, GREEN, SKY, ORANGE, BLUE, GREY),
  )
]


def looks(models: Sequence[str]) -> dict[str, Look]:
  """A look for every model of a run, the same whichever of them are drawn."""
  unknown = sorted(set(models) - _KNOWN.keys())
  return _KNOWN | dict(zip(unknown, itertools.cycle(_SPARE), strict=False))


def figure(width: float, height: float) -> Figure:
  """An empty figure of width x height inches that arranges its own margins."""
  margins = ConstrainedLayoutEngine(
    w_pad=0.08, h_pad=0.08, rect=(0.0, 0.0, 0.99, 1.0)
  )
  return Figure(figsize=(width, height), layout=margins)


def save(drawn: Figure, path: pathlib.Path) -> None:
  """Writes a PNG file of 150 dots per inch, whole or not at all."""
  with matplotlib.rc_context(SETTINGS), files.replacing(path) as file:
    drawn.savefig(file, format='png')


def legend_shape(
  handles: Sequence[Line2D], width: float, *, most: int
) -> tuple[int, float]:
  """Columns, at most `most`, of a legend below a figure, and its inches.

  It has at least one entry; the width is that of the figure, in inches.
  """
  longest = max(len(str(handle.get_label())) for handle in handles)
  fitting = int(width // (_ENTRY + _LETTER * longest))
  columns = max(1, min(most, len(handles), fitting))
  return columns, _LEGEND_ROW * -(-len(handles) // columns)


def note(drawn: Figure, text: str) -> None:
  """Writes a note below all panels, broken to the width of the figure."""
  width = int(_NOTE_LETTERS * drawn.get_figwidth())
  drawn.supxlabel(textwrap.fill(text, width), fontsize=8)


def layer_ticks(
  axes: Axes, labels: Sequence[str], inches: float, centre: float = 0.0
) -> None:
  """Names of teacher layers below the x axis, `inches` long, without marks."""
  axes.set_xticks(
    np.arange(len(labels)) + centre,
    labels,
    rotation=90,
    fontsize=font_for(len(labels), inches),
  )
  axes.tick_params(axis='x', length=0)
  axes.set_xlabel('Teacher layer')


def epochs(axes: Axes) -> None:
  """Makes the x axis one of epochs."""
  axes.set_xlabel('Epoch')
  axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def color_bar(drawn: Figure, axes: Axes, mesh: QuadMesh, label: str) -> None:
  """A bar of the mesh's colours beside the axes, at most five inches long."""
  drawn.colorbar(
    mesh,
    ax=axes,
    label=label,
    aspect=25,
    shrink=min(1.0, 5.0 / drawn.get_figheight()),
    anchor=(0.0, 1.0),
  )


def percent(axes: Axes, label: str) -> None:
  """Makes the y axis one of percentages, 0 to 100, with horizontal lines."""
  axes.set_ylabel(label)
  axes.set_ylim(-2, 102)
  axes.set_yticks(range(0, 101, 20))
  axes.grid(True, axis='y')


def font_for(rows: int, inches: float, *, largest: float = 8.0) -> float:
  """Font size at which `rows` labels fit beside an axis of this length."""
  return float(np.clip(inches * 72 / max(rows, 1) / 1.25, 4.5, largest))

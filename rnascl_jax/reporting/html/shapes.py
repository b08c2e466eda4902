"""Charts as numbers: what `templates/parts.html` draws as SVG.

Lengths are in units of the picture, about a pixel each. Colours are names for
the style sheet, which has a light and a dark value for each.
"""

from collections.abc import Mapping
from typing import NamedTuple

from rnascl_jax.reporting import style

WIDTH, HEIGHT = 320, 215
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 10, 36
COLORS = {
  style.BLUE: 'blue',
  style.ORANGE: 'orange',
  style.GREEN: 'green',
  style.RED: 'red',
  style.PURPLE: 'purple',
  style.SKY: 'sky',
  style.BLACK: 'black',
  style.GREY: 'grey',
  style.PALE: 'pale',
}
DASHES = {'-': '', '--': '6 3', '-.': '7 3 1.5 3', ':': '1.5 3'}


class Mark(NamedTuple):
  """A point: its place, half its width, and its text ('' for none)."""

  x: float
  y: float
  size: float
  shape: str
  color: str
  text: str = ''
  is_hollow: bool = False
  # Ends of its bars: left, right, top, bottom.
  bars: tuple[float, float, float, float] | None = None


class Line(NamedTuple):
  """A line, as the coordinates of an SVG path."""

  path: str
  color: str
  dash: str
  is_thin: bool


class Strip(NamedTuple):
  """A part of a chart that has a text: where it begins, and its middle."""

  x: float
  width: float
  middle: float
  text: str


class Tick(NamedTuple):
  """A place on an axis and what is written there."""

  place: float
  text: str


class Chart(NamedTuple):
  """A chart with two axes."""

  title: str
  x_label: str
  y_label: str
  x_ticks: list[Tick]
  y_ticks: list[Tick]
  lines: list[Line]
  marks: list[Mark]
  strips: list[Strip]
  width: int = WIDTH
  height: int = HEIGHT
  left: int = LEFT
  right: int = WIDTH - RIGHT
  top: int = TOP
  bottom: int = HEIGHT - BOTTOM


class Segment(NamedTuple):
  """A part of a bar: where it begins and how long it is, in per cent."""

  start: float
  length: float
  color: str
  text: str


class Bar(NamedTuple):
  """A row of bars: its label, parts, and what is written behind them.

  Attributes:
    label: what a reader sees.
    segments: the parts.
    note: behind the bar.
    whisker: ends of an interval in per cent; None for none.
  """

  label: str
  segments: list[Segment]
  note: str
  whisker: tuple[float, float] | None = None


class Key(NamedTuple):
  """An entry of a legend."""

  label: str
  color: str
  dash: str = ''
  shape: str = ''


def legend(looks: Mapping[str, style.Look]) -> list[Key]:
  """A legend of lines by what a reader sees of them."""
  return [
    Key(label, color(look), DASHES[look.line], look.marker)
    for label, look in looks.items()
  ]


def color(look: style.Look) -> str:
  """The style sheet's name of a look's colour."""
  return COLORS[look.color]

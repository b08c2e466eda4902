"""Charts as numbers: what `templates/charts.html` draws as SVG.

Lengths are in units of the picture, about a pixel each. Colours are names for
the style sheet, which has a light and a dark value for each. A mark or a strip
of a chart has a text with its values, which browsers show without a script.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import ticker

from rnascl_jax.reporting import style

WIDTH, HEIGHT = 320, 215
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 10, 36
# At most so many strips of a chart have a text.
_MOST_STRIPS = 60
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
_DASHES = {'-': '', '--': '6 3', '-.': '7 3 1.5 3', ':': '1.5 3'}


class Series(NamedTuple):
  """One line of a chart before it has a place.

  Attributes:
    label: what a reader sees.
    look: colour, line and marker, as in the figures.
    x: [P], increasing.
    y: [P].
    is_thin: drawn as a thin pale line.
    has_marks: whether points have marks.
  """

  label: str
  look: style.Look
  x: np.ndarray
  y: np.ndarray
  is_thin: bool = False
  has_marks: bool = False


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
  left: int = _LEFT
  right: int = WIDTH - _RIGHT
  top: int = _TOP
  bottom: int = HEIGHT - _BOTTOM


class _Axis(NamedTuple):
  """Places of values between two ends of a picture."""

  low: float
  high: float
  start: float
  end: float
  is_log: bool = False

  def __call__(self, value: float) -> float:
    low, high = self.low, self.high
    if self.is_log:
      value, low, high = np.log10([value, low, high])
    share = (value - low) / (high - low)
    return round(float(self.start + share * (self.end - self.start)), 1)

  def places(self, ends: tuple[float, float]) -> tuple[float, float]:
    """Places of both ends of an interval."""
    return self(ends[0]), self(ends[1])

  def ticks(self, values: Sequence[float] | None = None) -> list[Tick]:
    """Ticks at values that are there, or at round ones."""
    locator: ticker.Locator = ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
    if self.is_log:
      locator = ticker.LogLocator(subs=(1.0, 2.0, 5.0), numticks=20)
    at = locator.tick_values(self.low, self.high) if values is None else values
    margin = 1e-6 * (self.high - self.low)
    inside = [v for v in at if self.low - margin <= v <= self.high + margin]
    return [Tick(self(v), f'{v:.6g}') for v in inside]


def _axis(
  values: np.ndarray,
  limits: tuple[float | None, float | None],
  start: float,
  end: float,
  is_log: bool = False,
) -> _Axis:
  """An axis that has all values, with a margin where no limit is set."""
  low, high = float(values.min()), float(values.max())
  if is_log:
    return _Axis(low / 1.15, high * 1.15, start, end, True)
  margin = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
  low = low - margin if limits[0] is None else limits[0]
  high = high + margin if limits[1] is None else limits[1]
  return _Axis(low, high, start, end)


def color(look: style.Look) -> str:
  """The style sheet's name of a look's colour."""
  return COLORS[look.color]


def lines(
  title: str,
  labels: tuple[str, str],
  series: Sequence[Series],
  *,
  limits: tuple[float | None, float | None] = (None, None),
  is_log: bool = False,
  x_ticks: Sequence[float] | None = None,
  unit: str = '',
  from_zero: bool = True,
) -> Chart:
  """Draws lines over one axis; strips have the values of all of them.

  Args:
    title: what it shows.
    labels: of the horizontal and of the vertical axis.
    series: at least one, with at least one point each.
    limits: ends of the vertical axis; None for one that the values decide.
    is_log: whether the vertical axis is logarithmic; values are positive then.
    x_ticks: values with ticks on the horizontal axis; None for round ones.
    unit: what is written behind a value.
    from_zero: whether the horizontal axis begins at 0.
  """
  every_x = np.concatenate([s.x for s in series])
  every_y = np.concatenate([s.y for s in series])
  ends = (0.0 if from_zero else None, None)
  across = _axis(every_x, ends, _LEFT, WIDTH - _RIGHT)
  up = _axis(every_y, limits, HEIGHT - _BOTTOM, _TOP, is_log)
  drawn, marks = [], []
  for _, look, x, y, is_thin, has_marks in series:
    points = [(across(a), up(b)) for a, b in zip(x, y, strict=True)]
    path = 'M' + 'L'.join(f'{a} {b}' for a, b in points)
    drawn.append(Line(path, color(look), _DASHES[look.line], is_thin))
    if has_marks or len(points) == 1:
      size = 3.5 if has_marks or not is_thin else 2.0
      marks += [Mark(a, b, size, look.marker, color(look)) for a, b in points]
  return Chart(
    title,
    *labels,
    across.ticks(x_ticks),
    up.ticks(),
    drawn,
    marks,
    _strips(across, labels[0], series, unit),
  )


def _strips(
  across: _Axis, name: str, series: Sequence[Series], unit: str
) -> list[Strip]:
  """A strip around every x, or around some at regular intervals."""
  values: dict[float, list[str]] = {}
  for s in series:
    for x, y in zip(s.x.tolist(), s.y.tolist(), strict=True):
      shown = f'{y:.1f}' if unit else f'{y:.4g}'
      text = ': '.join(filter(None, [s.label, f'{shown}{unit}']))
      values.setdefault(round(x, 6), []).append(text)
  every = sorted(values)
  if len(every) > _MOST_STRIPS:
    places = np.linspace(0, len(every) - 1, _MOST_STRIPS).round().astype(int)
    every = [every[place] for place in places]
  middles = [across(x) for x in every]
  edges = [across.start]
  edges += [(a + b) / 2 for a, b in zip(middles, middles[1:], strict=False)]
  edges.append(across.end)
  word = name.split(' (')[0]
  return [
    Strip(
      round(edges[i], 1),
      round(max(edges[i + 1] - edges[i], 0.5), 1),
      middles[i],
      '\n'.join([f'{word} {x:.6g}', *values[x]]),
    )
    for i, x in enumerate(every)
  ]


class Point(NamedTuple):
  """A mark of a scatter plot before it has a place; bars are intervals."""

  label: str
  look: style.Look
  x: float
  y: float
  x_bar: tuple[float, float]
  y_bar: tuple[float, float]
  size: float
  is_hollow: bool
  text: str


def scatter(
  title: str, labels: tuple[str, str], points: Sequence[Point]
) -> Chart:
  """Draws points with their intervals."""
  free = (None, None)
  bars = np.asarray([[*p.x_bar, *p.y_bar] for p in points])
  across = _axis(bars[:, :2], free, _LEFT, WIDTH - _RIGHT)
  up = _axis(bars[:, 2:], free, HEIGHT - _BOTTOM, _TOP)
  marks = [
    Mark(
      across(p.x),
      up(p.y),
      round(p.size, 1),
      p.look.marker,
      color(p.look),
      p.text,
      p.is_hollow,
      (*across.places(p.x_bar), *up.places(p.y_bar)),
    )
    for p in points
  ]
  return Chart(
    title,
    *labels,
    across.ticks(),
    up.ticks(),
    [],
    marks,
    [],
  )


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
    Key(label, color(look), _DASHES[look.line], look.marker)
    for label, look in looks.items()
  ]

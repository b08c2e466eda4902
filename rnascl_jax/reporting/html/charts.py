"""Lines and points over two axes, as shapes.

A mark or a strip of a chart has a text with its values, which browsers show
without a script.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib import ticker

from rnascl_jax.reporting import style
from rnascl_jax.reporting.html import shapes
from rnascl_jax.reporting.html.shapes import Chart, Line, Mark, Strip, Tick

# At most so many strips of a chart have a text.
_MOST_STRIPS = 60


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
  across = _axis(every_x, ends, shapes.LEFT, shapes.WIDTH - shapes.RIGHT)
  up = _axis(every_y, limits, shapes.HEIGHT - shapes.BOTTOM, shapes.TOP, is_log)
  drawn, marks = [], []
  for _, look, x, y, is_thin, has_marks in series:
    points = [(across(a), up(b)) for a, b in zip(x, y, strict=True)]
    path = 'M' + 'L'.join(f'{a} {b}' for a, b in points)
    drawn.append(
      Line(path, shapes.color(look), shapes.DASHES[look.line], is_thin)
    )
    if has_marks or len(points) == 1:
      size = 3.5 if has_marks or not is_thin else 2.0
      marks += [
        Mark(a, b, size, look.marker, shapes.color(look)) for a, b in points
      ]
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
  across = _axis(bars[:, :2], free, shapes.LEFT, shapes.WIDTH - shapes.RIGHT)
  up = _axis(bars[:, 2:], free, shapes.HEIGHT - shapes.BOTTOM, shapes.TOP)
  marks = [
    Mark(
      across(p.x),
      up(p.y),
      round(p.size, 1),
      p.look.marker,
      shapes.color(p.look),
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

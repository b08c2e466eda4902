"""A figure of a sweep with its caption, and what all of them share."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnascl_jax.reporting import results
from rnascl_jax.reporting.paper import measures
from rnascl_jax.reporting.paper.definition import Source
from rnascl_jax.reporting.paper.measures import Summary
from rnascl_jax.reporting.paper.sweep_results import Evaluated, Sweep

ROBUST = 'pgd20'


class Picture(NamedTuple):
  """A drawn figure.

  Attributes:
    figure: to be saved.
    caption: what it shows and what it lacks.
  """

  figure: Figure
  caption: str


class Point(NamedTuple):
  """A model between clean and robust accuracy, over seeds.

  Attributes:
    clean: in %.
    robust: under PGD-20, in %.
    models: by seed.
  """

  clean: Summary
  robust: Summary
  models: dict[int, Evaluated]


def point(sweep: Sweep, source: Source) -> Point | None:
  """Clean and robust accuracy; None where either was not measured."""
  models = sweep.models(source)
  clean = measures.summary(models, 'clean')
  robust = measures.summary(models, ROBUST)
  if clean is None or robust is None:
    return None
  return Point(clean, robust, models)


def draw_point(axes: Axes, found: Point, *, color: str, **look: Any) -> None:
  """A marker with the standard deviation over seeds, where there are several.

  Args:
    axes: of clean against robust accuracy.
    found: the model.
    color: of both.
    **look: of `scatter`.
  """
  x, y = found.clean.mean, found.robust.mean
  axes.errorbar(
    x,
    y,
    found.robust.deviation,
    found.clean.deviation,
    color=color,
    lw=0.8,
    alpha=0.45,
    fmt='none',
  )
  axes.scatter(x, y, color=color, zorder=3, **look)


def radius(found: Iterable[Evaluated]) -> str:
  """'8/255', the radius of PGD-20; several if they differ."""
  radii = [
    results.epsilon_text(outcome.epsilon, e.dataset)
    for _, e in found
    if (outcome := e.under(ROBUST)) is not None
  ]
  return ', '.join(dict.fromkeys(radii))


def averaged(found: Sequence[Iterable[int]], spread: str = '') -> str:
  """What the numbers of models with these seeds are.

  Args:
    found: the seeds of each.
    spread: how their spread is shown, said where there is one.

  Returns:
    'of one seed', 'mean over 3 seeds', 'mean over 1 to 3 seeds'.
  """
  counts = sorted({len(list(seeds)) for seeds in found})
  if counts == [1]:
    return 'of one seed'
  numbers = ' to '.join(dict.fromkeys(f'{n}' for n in (counts[0], counts[-1])))
  return f'mean over {numbers} seeds{spread}'


def lacking(names: Sequence[str]) -> str:
  """' Not run: S5, S7.'; '' where nothing lacks."""
  return f' **Not run: {", ".join(names)}.**' if names else ''


class Label(NamedTuple):
  """Text beside a marker.

  Attributes:
    x: of the marker.
    y: of the marker.
    text: to be written.
    color: of the text.
    radius: of the marker, in points.
  """

  x: float
  y: float
  text: str
  color: str
  radius: float


# Directions from a marker, and how far from its edge; the first of equal ones.
_DIRECTIONS = np.array(
  [(1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7)]
  + [(0.7, -0.7), (-0.7, -0.7)]
)
_BEYOND = (6.0, 11.0, 16.0)
# In dots: farther than this, room is room.
_FREE = 18.0


def place_labels(
  figure: Figure, axes: Axes, labels: Sequence[Label], size: float
) -> None:
  """Writes labels beside their markers, where fewest others are.

  Args:
    figure: to which the axes belong.
    axes: whose limits are final.
    labels: one for each marker.
    size: of the type.
  """
  figure.draw_without_rendering()
  points = axes.transData.transform([(label.x, label.y) for label in labels])
  taken = list(points)
  dots = 72 / figure.dpi
  for index, label in enumerate(labels):
    others = [*taken[:index], *taken[index + 1 :]]
    reach = [label.radius + beyond for beyond in _BEYOND]
    offsets = np.concatenate([_DIRECTIONS * r for r in reach])  # [places, 2]
    places = points[index] + offsets / dots
    best = int(np.argmax([_room(place, others) for place in places]))
    taken.append(places[best])
    axes.annotate(
      label.text,
      (label.x, label.y),
      xytext=tuple(offsets[best]),
      textcoords='offset points',
      ha='center',
      va='center',
      color=label.color,
      fontsize=size,
    )


def _room(at: np.ndarray, taken: Sequence[np.ndarray]) -> float:
  """Distance to the nearest thing, up to what is enough."""
  return min(_FREE, *(float(np.hypot(*(at - other))) for other in taken))

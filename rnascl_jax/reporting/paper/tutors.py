"""Figures 8 and 10: how many student layers each teacher layer teaches."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from rnascl_jax.reporting import style
from rnascl_jax.reporting.paper import picture
from rnascl_jax.reporting.paper.definition import Source
from rnascl_jax.reporting.paper.picture import Picture
from rnascl_jax.reporting.paper.sweep_results import Sweep

FIGURE_8 = tuple(
  (f'RNAS-CL-{space.upper()}', Source(space, 'wrn34', '', 'rnas_cl'))
  for space in ('s3', 's5', 's7', 'm')
)
# Of the spaces of Table 14, IL is that of ImageNet.
FIGURE_10 = tuple(
  (f'RNAS-CL-{space.upper()}', Source(space, 'wrn50', '', 'rnas_cl'))
  for space in ('is', 'im', 'i')
)
DIGITS = (('RNAS-CL on digits', Source('digits', 'small', '', 'rnas_cl')),)
_COLUMNS = 2
_SPREAD = ' with lines from the lowest to the highest'


def tutor_counts(
  sweep: Sweep,
  name: str,
  panels: Sequence[tuple[str, Source]],
  said: str = '',
) -> Picture | None:
  """Student layers taught by each teacher layer, a panel for each student.

  Args:
    sweep: the results.
    name: 'Fig. 8: CIFAR-10, WRT-34', how the caption begins.
    panels: title and source of each; one that was not run is left out.
    said: what the paper says of its own.

  Returns:
    None where none was run.
  """
  found = {title: _counts(sweep, source) for title, source in panels}
  drawn = {title: counts for title, counts in found.items() if len(counts)}
  if not drawn:
    return None
  columns = min(_COLUMNS, len(drawn))
  rows = -(-len(drawn) // columns)
  figure = style.figure(0.6 + 4.8 * columns, 0.3 + 2.3 * rows)
  grid = figure.subplots(rows, columns, squeeze=False).ravel()
  for axes, (title, counts) in zip(grid, drawn.items(), strict=False):
    _draw(axes, counts)
    axes.set_title(title)
  for axes in grid[len(drawn) :]:
    axes.remove()
  caption = (
    f'{name}: student layers taught by each teacher layer (counted from 0, in '
    f'forward order), {picture.averaged(list(drawn.values()), _SPREAD)}.{said}'
  )
  absent = [title for title in found if title not in drawn]
  return Picture(figure, caption + picture.lacking(absent))


def _counts(sweep: Sweep, source: Source) -> np.ndarray:
  """Student layers taught, [seeds, T]; of no seeds where none has tutors."""
  counts = [
    evaluated.run.tutor_counts for evaluated in sweep.models(source).values()
  ]
  known = [row for row in counts if row is not None]
  return np.stack(known) if known else np.zeros((0, 0), int)


def _draw(axes: Axes, counts: np.ndarray) -> None:
  """Bars of counts [seeds, T]."""
  layers = np.arange(counts.shape[1])
  mean = counts.mean(0)
  axes.bar(
    layers,
    mean,
    color=[style.BLUE if value else style.PALE for value in mean],
    width=0.8,
  )
  if len(counts) > 1:
    taught = layers[mean > 0]
    axes.vlines(
      taught,
      counts.min(0)[taught],
      counts.max(0)[taught],
      color=style.BLACK,
      lw=0.9,
    )
  axes.set(xlabel='Teacher layer', ylabel='Student layers')
  axes.set_xlim(-0.7, len(layers) - 0.3)
  axes.xaxis.set_major_locator(MaxNLocator(16, integer=True))
  axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
  axes.grid(axis='y')

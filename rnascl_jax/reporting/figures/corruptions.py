"""Figures of common corruptions: accuracy by severity, and an image."""

import matplotlib.image
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnascl_jax.reporting import style
from rnascl_jax.reporting.corruptions import SavedSet
from rnascl_jax.reporting.results import SavedRun

_COLUMNS = 5
# Inches of a panel of curves, and of a picture.
_PANEL, _PICTURE = (1.9, 1.55), 0.85


def corruption_curves(run: SavedRun) -> Figure | None:
  """Accuracy of every model against severity, a panel for each corruption."""
  panels = [(s, name) for s in run.corruptions for name in s.severities]
  if not panels:
    return None
  models = {m.model: m.label for s in run.corruptions for m in s.models}
  looks = style.looks([*run.models, *models])
  handles = [looks[model].handle(models[model], ms=4) for model in models]
  columns = min(_COLUMNS, len(panels))
  rows = -(-len(panels) // columns)
  width = max(0.6 + _PANEL[0] * columns, 4.0)
  in_row, legend = style.legend_shape(handles, width, most=4)
  figure = style.figure(width, 0.3 + _PANEL[1] * rows + legend)
  grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
  for axes in grid.flat[len(panels) :]:
    axes.set_visible(False)
  for place, (axes, panel) in enumerate(zip(grid.flat, panels, strict=False)):
    style.percent(axes, 'Accuracy (%)' if place % columns == 0 else '')
    _curves(axes, *panel, looks)
    axes.set_title(_title(run, *panel), fontsize=8)
    if place + columns >= len(panels):
      axes.set_xlabel('Severity')
      axes.tick_params(labelbottom=True)
  figure.legend(handles=handles, loc='outside lower center', ncols=in_row)
  return figure


def _curves(
  axes: Axes, corrupted: SavedSet, name: str, looks: dict[str, style.Look]
) -> None:
  """One corruption; severity 0 is without it."""
  for model in corrupted.models:
    points = dict(model.accuracies.get(name, {}))
    if model.clean is not None:
      points[0] = model.clean
    severities = sorted(points)
    axes.plot(
      severities,
      [100 * points[severity] for severity in severities],
      **looks[model.model].style(ms=3, lw=1.2),
    )
  axes.set_xticks(range(6))


def _title(run: SavedRun, corrupted: SavedSet, name: str) -> str:
  title = name.replace('_', ' ')
  return f'{title}, {corrupted.name}' if len(run.corruptions) > 1 else title


def corrupted_images(run: SavedRun) -> Figure | None:
  """One image under every corruption, a row each, by severity."""
  rows = [
    (_title(run, s, name), s, name)
    for s in run.corruptions
    for name in s.severities
    if any(example == name for example, _ in s.examples())
  ]
  if not rows:
    return None
  severities = sorted({x for _, s, name in rows for x in s.severities[name]})
  columns = [0, *severities]
  figure = style.figure(
    1.6 + _PICTURE * len(columns), 0.5 + _PICTURE * len(rows)
  )
  grid = figure.subplots(len(rows), len(columns), squeeze=False)
  for axes in grid.flat:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
  for line, (title, corrupted, name) in zip(grid, rows, strict=True):
    examples = corrupted.examples()
    for axes, severity in zip(line, columns, strict=True):
      path = examples.get((name, severity) if severity else ('clean', 0))
      if path is not None:
        picture = matplotlib.image.imread(path)
        axes.imshow(picture, cmap='gray', vmin=0, vmax=1)
    line[0].set_ylabel(title, rotation=0, ha='right', va='center', fontsize=8)
  for axes, severity in zip(grid[0], columns, strict=True):
    axes.set_title(f'{severity}' if severity else 'none', loc='center')
  return figure

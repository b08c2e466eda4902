"""Models under common corruptions, for the page."""

from typing import Any

import numpy as np

from rnascl_jax.reporting import style
from rnascl_jax.reporting.corruptions import SavedSet
from rnascl_jax.reporting.html import charts, pictures, scores, shapes
from rnascl_jax.reporting.html.charts import Series
from rnascl_jax.reporting.html.shapes import Chart
from rnascl_jax.reporting.report import corruptions as section
from rnascl_jax.reporting.results import SavedRun


def shown(run: SavedRun) -> list[dict[str, Any]]:
  """For every set of corrupted images its table, curves and examples."""
  return [
    {
      'about': section.about(corrupted),
      'table': scores.table(section.cells(corrupted), is_sortable=False),
      'notes': ' '.join(section.notes(corrupted)),
      'charts': _corruption_curves(run, corrupted),
      'legend': shapes.legend(
        {m.label: _looks(run)[m.model] for m in corrupted.models}
      ),
      'examples': [
        (name.replace('_', ' ') + f' {severity}' * bool(severity), picture)
        for (name, severity), path in corrupted.examples().items()
        if (picture := pictures.of_file(path))
      ],
    }
    for corrupted in run.corruptions
    if corrupted.severities
  ]


def _corruption_curves(run: SavedRun, corrupted: SavedSet) -> list[Chart]:
  """Accuracy of every model against severity, by corruption."""
  made = []
  for name in corrupted.severities:
    series = []
    for model in corrupted.models:
      points = dict(model.accuracies.get(name, {}))
      if model.clean is not None:
        points[0] = model.clean
      x = np.asarray(sorted(points), float)
      y = 100 * np.asarray([points[int(s)] for s in x])
      look = _looks(run)[model.model]
      if len(x):
        series.append(Series(model.label, look, x, y, has_marks=True))
    labels, title = ('Severity', ''), name.replace('_', ' ')
    made.append(
      charts.lines(
        title,
        labels,
        series,
        limits=scores.PERCENT,
        unit=' %',
        x_ticks=range(6),
      )
    )
  return made


def _looks(run: SavedRun) -> dict[str, style.Look]:
  others = [m.model for s in run.corruptions for m in s.models]
  return style.looks([*run.models, *others])

"""What models reached, for the page: tiles, tables, curves and bars."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnascl_jax.reporting import style, tables
from rnascl_jax.reporting.corruptions import SavedSet
from rnascl_jax.reporting.evaluations import ModelEvaluation, SavedAttack
from rnascl_jax.reporting.figures import auto_attack as bars
from rnascl_jax.reporting.html import charts, pictures
from rnascl_jax.reporting.html.charts import Bar, Chart, Point, Segment, Series
from rnascl_jax.reporting.report import comparison, model_table
from rnascl_jax.reporting.report import corruptions as sections
from rnascl_jax.reporting.results import SavedRun

# Half the width of a mark of the largest student, and of a teacher.
_LARGE, _TEACHER = 9.0, 5.0
_PERCENT = (-2.0, 102.0)


class Cell(NamedTuple):
  """A cell: its text, a note shown when it is pointed at, and its link."""

  text: str
  note: str = ''
  link: str = ''


class Table(NamedTuple):
  """A table: headings, rows, and how many columns are flush left."""

  headings: list[str]
  rows: list[list[Cell]]
  left: int = 1
  is_sortable: bool = True


def table(
  rows: Sequence[Sequence[str]], left: int = 1, *, is_sortable: bool = True
) -> Table:
  """Makes a table of rows of text, the headings first."""
  cells = [[Cell(text) for text in row] for row in rows[1:]]
  return Table(list(rows[0]), cells, left, is_sortable)


def results(run: SavedRun) -> Table:
  """The results, with the interval of each accuracy as its note."""
  headings, *rows = model_table.cells(run)
  columns = tables.columns(run)
  made = []
  for model, row in zip(run.evaluations, rows, strict=True):
    reached = tables.by_column(model)
    notes = [interval(reached.get(column)) for column in columns]
    notes = ['', *notes, *[''] * (len(row) - 1 - len(notes))]
    made.append([Cell(*pair) for pair in zip(row, notes, strict=True)])
  return Table(headings, made)


def interval(result: SavedAttack | None) -> str:
  """'95 % interval 31.0 to 39.2 %, 181 of 517 images'; '' for no result."""
  if result is None:
    return ''
  low, high = (100 * end for end in result.interval)
  return (
    f'95 % interval {low:.1f} to {high:.1f} %, {result.correct:,} of '
    f'{result.images:,} images'
  )


class Tile(NamedTuple):
  """A number of the summary, and what stands below it."""

  name: str
  value: str
  note: str


def tiles(run: SavedRun) -> tuple[str, list[Tile]]:
  """Label and main numbers of RNAS-CL, or of the first model there is."""
  model = run.evaluation(comparison.STUDENT)
  model = model or next(iter(run.evaluations), None)
  if model is None:
    return '', []
  ensembles = [a.attack for a in model.attacks if a.members]
  wanted = ['clean', run.headline_attack, *ensembles]
  results = [r for key in wanted if (r := model.under(key)) is not None]
  made = []
  for result in results:
    name = result.label
    if result.epsilon:
      radius = tables.epsilon_text(result.epsilon, run.dataset, result.norm)
      name += f', ε = {radius}'
    made.append(Tile(name, f'{100 * result.accuracy:.1f} %', interval(result)))
  if model.parameters is not None:
    macs = tables.count(model.macs)
    made.append(
      Tile('Parameters', tables.count(model.parameters), f'{macs} MACs')
    )
  return model.label, made


class Difference(NamedTuple):
  """A comparison as a row of a forest plot; places are in per cent of it."""

  names: tuple[str, ...]
  under: str
  points: str
  interval: str
  shown: str  # 'better', 'worse' or ''.
  low: float
  middle: float
  high: float


class Forest(NamedTuple):
  """Differences under the headline attack.

  Attributes:
    zero: where 0 lies, in per cent of the plot.
    rows: the differences.
  """

  zero: float
  rows: list[Difference]


def forest(run: SavedRun) -> Forest | None:
  """Differences of models with their intervals; None where there are none.

  They are those under the headline attack on all of its images.
  """
  headline = [
    c
    for c in comparison.comparisons(run)
    if c.under
    and c.results[0].attack == run.headline_attack
    and c.results[0].images == run.images
  ]
  if not headline:
    return None
  ends = [0.0, *(end for c in headline for end in c.interval)]
  low, width = min(ends), (max(ends) - min(ends)) or 1.0

  def place(points: float) -> float:
    return round(2 + 96 * (points - low) / width, 2)

  rows = []
  for c in headline:
    rows.append(
      Difference(
        c.names,
        comparison.under(run, c),
        f'{c.points:+z.1f}',
        '{:+.1f} to {:+.1f}'.format(*c.interval),
        {1: 'better', -1: 'worse', 0: ''}[c.sign],
        place(c.interval[0]),
        place(c.points),
        place(c.interval[1]),
      )
    )
  return Forest(place(0.0), rows)


def epsilon_curves(run: SavedRun) -> list[tuple[Chart, Table]]:
  """Accuracy against epsilon for each attack, and the numbers of the chart."""
  attacks = {
    (c.attack, c.norm): c.label for e in run.evaluations for c in e.curves
  }
  looks, made = style.looks(run.models), []
  for (attack, norm), label in attacks.items():
    scale, unit = tables.epsilon_unit(run.dataset, norm)
    series = [
      Series(
        model.label,
        looks[model.model],
        scale * curve.epsilons,
        100 * curve.accuracies,
        has_marks=True,
      )
      for model in run.evaluations
      for curve in model.curves
      if (curve.attack, curve.norm) == (attack, norm)
    ]
    names = f'ε ({unit})', 'Accuracy (%)'
    chart = charts.lines(label, names, series, limits=_PERCENT, unit=' %')
    radii = sorted({round(x, 6) for s in series for x in s.x.tolist()})
    rows = [['Model', *(f'{radius:.4g}' for radius in radii)]]
    for s in series:
      at = {round(x, 6): y for x, y in zip(s.x.tolist(), s.y, strict=True)}
      values = [f'{at[r]:.1f}' if r in at else tables.NOTHING for r in radii]
      rows.append([s.label, *values])
    made.append((chart, table(rows)))
  return made


def clean_vs_robust(run: SavedRun) -> Chart | None:
  """Clean accuracy against that under the headline attack."""
  pairs = [
    (model, clean, robust)
    for model in run.evaluations
    if (clean := model.under('clean')) is not None
    and (robust := model.under(run.headline_attack)) is not None
  ]
  students = [m for m, _, _ in pairs if m.kind == 'student']
  if len(students) < 2:
    return None
  largest = max(model.parameters or 1 for model in students)
  looks = style.looks(run.models)
  points = []
  for model, clean, robust in pairs:
    is_teacher = model.kind == 'teacher'
    size = _LARGE * ((model.parameters or 0) / largest) ** 0.5
    points.append(
      Point(
        model.label,
        looks[model.model],
        100 * clean.accuracy,
        100 * robust.accuracy,
        _ends(clean),
        _ends(robust),
        _TEACHER if is_teacher else max(size, 3.0),
        is_teacher,
        f'{model.label}\n{tables.count(model.parameters)} parameters, '
        f'{tables.count(model.macs)} MACs\n'
        f'clean: {100 * clean.accuracy:.1f} % ({interval(clean)})\n'
        f'{robust.label}: {100 * robust.accuracy:.1f} % ({interval(robust)})',
      )
    )
  attacked = pairs[0][2]
  radius = tables.epsilon_text(attacked.epsilon, run.dataset, attacked.norm)
  labels = 'Clean accuracy (%)', f'{attacked.label} accuracy (%), ε = {radius}'
  return charts.scatter('Clean against robust accuracy', labels, points)


def _ends(result: SavedAttack) -> tuple[float, float]:
  low, high = result.interval
  return 100 * low, 100 * high


def auto_attack(
  group: Sequence[tuple[ModelEvaluation, SavedAttack]],
) -> dict[str, Any]:
  """Bars of all images per model: wrong, broken by each member, robust."""
  palette = bars.palette([result for _, result in group])
  rows = []
  for model, result in group:
    segments, start = [], 0.0
    for label, count in bars.counts(result).items():
      length = 100 * count / result.images
      text = f'{model.label}\n{label}: {count:,} of {result.images:,} images'
      color = charts.COLORS[palette[label]]
      if count:
        segments.append(Segment(round(start, 2), round(length, 2), color, text))
      start += length
    low, high = _ends(result)
    note = f'{100 * result.accuracy:.1f} % robust ({low:.1f} to {high:.1f} %)'
    rows.append(Bar(model.label, segments, note))
  keys = [charts.Key(n, charts.COLORS[c]) for n, c in palette.items()]
  return {'bars': rows, 'legend': keys}


def corruptions(run: SavedRun) -> list[dict[str, Any]]:
  """For every set of corrupted images its table, curves and examples."""
  return [
    {
      'about': sections.about(corrupted),
      'table': table(sections.cells(corrupted), is_sortable=False),
      'notes': ' '.join(sections.notes(corrupted)),
      'charts': _corruption_curves(run, corrupted),
      'legend': charts.legend(
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
    made.append(charts.lines(title, labels, series, limits=_PERCENT, unit=' %'))
  return made


def _looks(run: SavedRun) -> dict[str, style.Look]:
  others = [m.model for s in run.corruptions for m in s.models]
  return style.looks([*run.models, *others])


def legend(run: SavedRun, models: Iterable[str]) -> list[charts.Key]:
  """A legend of models."""
  looks = style.looks(run.models)
  return charts.legend({run.label(model): looks[model] for model in models})

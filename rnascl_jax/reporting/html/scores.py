"""What models reached, for the page: tables, curves and bars."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rnascl_jax.reporting import style, tables
from rnascl_jax.reporting.evaluations import ModelEvaluation, SavedAttack
from rnascl_jax.reporting.figures import auto_attack as bars
from rnascl_jax.reporting.html import charts, shapes
from rnascl_jax.reporting.html.charts import Point, Series
from rnascl_jax.reporting.html.shapes import Bar, Chart, Segment
from rnascl_jax.reporting.report import model_table
from rnascl_jax.reporting.results import SavedRun

# Half the width of a mark of the largest student, and of a teacher.
_LARGE, _TEACHER = 9.0, 5.0
PERCENT = (-2.0, 102.0)


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
    chart = charts.lines(label, names, series, limits=PERCENT, unit=' %')
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
  pairs = run.clean_and_robust
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
      color = shapes.COLORS[palette[label]]
      if count:
        segments.append(Segment(round(start, 2), round(length, 2), color, text))
      start += length
    low, high = _ends(result)
    note = f'{100 * result.accuracy:.1f} % robust ({low:.1f} to {high:.1f} %)'
    rows.append(Bar(model.label, segments, note))
  keys = [shapes.Key(n, shapes.COLORS[c]) for n, c in palette.items()]
  return {'bars': rows, 'legend': keys}


def legend(run: SavedRun, models: Iterable[str]) -> list[shapes.Key]:
  """A legend of models."""
  looks = style.looks(run.models)
  return shapes.legend({run.label(model): looks[model] for model in models})

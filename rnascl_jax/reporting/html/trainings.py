"""Trainings for the page: their curves, and how far they have come."""

from typing import NamedTuple

from rnascl_jax.reporting import results, style, training_curves
from rnascl_jax.reporting.html import charts, shapes
from rnascl_jax.reporting.html.charts import Series
from rnascl_jax.reporting.html.shapes import Chart
from rnascl_jax.reporting.results import SavedRun

_SPLITS = {'train': 'training', 'validation': 'validation'}


def curves(run: SavedRun) -> list[tuple[str, list[Chart]]]:
  """Every kind of stage with the charts of its terms and accuracies."""
  looks = style.looks(run.models)
  made: dict[str, list[Chart]] = {}
  for panel in training_curves.panels(run):
    series = [
      Series(
        f'{run.label(line.model)}, {_SPLITS[line.split]}',
        looks[line.model],
        line.epochs,
        line.values,
        is_thin=line.split == 'train',
      )
      for line in panel.lines
    ]
    is_share = panel.quantity.is_share
    chart = charts.lines(
      panel.quantity.label,
      ('Epoch', ''),
      series,
      limits=(-2.0, 102.0) if is_share else (None, None),
      unit=' %' if is_share else '',
    )
    made.setdefault(panel.title, []).append(chart)
  return list(made.items())


def search(run: SavedRun) -> list[tuple[Chart, list[shapes.Key]]]:
  """Temperature, entropies, cost and terms of the search, with legends."""
  made = []
  for panel in training_curves.search_panels(run):
    series = [
      Series(line.label, line.look, line.epochs, line.values)
      for line in panel.lines
    ]
    chart = charts.lines(
      panel.title,
      ('Epoch', panel.label),
      series,
      limits=panel.limits,
      is_log=panel.is_log,
    )
    looks = {line.label: line.look for line in panel.lines if line.label}
    made.append((chart, [k._replace(shape='') for k in shapes.legend(looks)]))
  return made


class Stage(NamedTuple):
  """A training of a run: its name, and how many of its epochs are done."""

  name: str
  done: float
  epochs: int
  is_complete: bool


def stages(run: SavedRun) -> list[Stage]:
  """All trainings that the config asks for, in order; empty without one.

  There is no search where the architecture is that of another run, or no
  student's is searched.
  """
  config, students = run.config, run.config.get('students') or {}
  fine_tuned = (config.get('adversarial') or {}).get('students') or {}
  planned = [('teacher', 'teacher', 'teacher')]
  if config.get('controls'):
    planned.append(('teacher', 'vulnerable_teacher', 'vulnerable_teacher'))
  searches = not students or any(map(results.is_searched, students.values()))
  if searches and not (config.get('search') or {}).get('architecture'):
    planned.append(('search', 'search', 'search'))
  planned += [('train', name, 'train') for name in students]
  for name, entry in fine_tuned.items():
    if entry.get('prune') == 'hydra':
      planned.append(('pruning', name, 'pruning'))
    planned.append(('adversarial', name, 'adversarial'))
  made = []
  for group, model, section in planned:
    epochs = results.epochs(run, section)
    if not epochs:
      continue
    stage = next(
      (s for s in run.stages if (s.group, s.model) == (group, model)), None
    )
    done = stage.records[-1]['epoch'] if stage else 0
    is_complete = bool(stage and stage.summary) or model in run.pretrained
    title = training_curves.GROUPS[group]
    name = title if group == 'search' else f'{title}: {run.label(model)}'
    made.append(Stage(name, done, epochs, is_complete))
  return made

"""Figure of the teachers' layers: whom they teach, and how robust they are."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from rnascl_jax.reporting import results, statistics, style
from rnascl_jax.reporting.figures import (
  architecture,
)
from rnascl_jax.reporting.results import LayerScores, Run, TeacherScores

# Inches: of a layer, of a panel, of all panels together, of what is beside.
_LAYER, _NARROWEST, _WIDEST, _TOGETHER, _BESIDE = 0.17, 3.4, 7.5, 15.0, 0.8
# Letters of a title, and of the note below, to an inch.
_TITLE_LETTERS, _NOTE_LETTERS = 12, 15


def teacher_layers(run: Run) -> Figure | None:
  """Student layers taught by each teacher layer, beside the layers' scores.

  One panel for the tutors, if the run searched any, and one for each teacher,
  its most robust layer first; scores of all teachers share their axis.
  """
  counts, measured = run.tutor_counts, run.layer_scores
  teachers = () if measured is None else measured.teachers
  lengths = [len(found.layers) for found in teachers]
  if counts is not None:
    lengths.insert(0, len(counts))
  if not lengths:
    return None
  widest = min(_WIDEST, _TOGETHER / len(lengths))
  panel = float(np.clip(_LAYER * max(lengths), _NARROWEST, widest))
  width = panel * len(lengths) + _BESIDE
  figure = style.figure(width, 4.6)
  panels = list(figure.subplots(1, len(lengths), squeeze=False)[0])
  if counts is not None:
    _histogram(panels.pop(0), run, counts, panel)
    _legend(figure)
  for axes in panels[1:]:
    axes.sharey(panels[0])  # Before anything is drawn, so that all of it fits.
  for axes, found in zip(panels, teachers, strict=True):
    _scores(axes, run, found, panel)
  if measured is not None:
    note = _note(run, measured)
    note = textwrap.fill(note, int(_NOTE_LETTERS * width))
    figure.supxlabel(note, fontsize=8)
  return figure


def _histogram(axes: Axes, run: Run, counts: np.ndarray, inches: float) -> None:
  axes.bar(np.arange(len(counts)), counts, color=_colors(counts))
  _layer_ticks(axes, architecture.numbered(run.teacher_layers), inches)
  axes.set(ylabel='Student layers taught', title='Tutors chosen')
  axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _scores(axes: Axes, run: Run, found: LayerScores, inches: float) -> None:
  """A teacher's scores from the lowest, with 95 % intervals."""
  order = found.order
  axes.bar(
    np.arange(len(order)),
    found.scores[order],
    yerr=statistics.Z * np.nan_to_num(found.errors[order]),
    error_kw={'elinewidth': 0.8, 'ecolor': style.BLACK},
    color=[_score_colors(run, found)[index] for index in order],
  )
  labels = architecture.numbered(list(found.layers))
  _layer_ticks(axes, [labels[index] for index in order], inches)
  axes.set_ylabel('|clean − adversarial| / |clean|')
  lines = textwrap.wrap(run.label(found.model), int(_TITLE_LETTERS * inches))
  lines.append('Robustness score, most robust first')
  correlation = run.tutors_against(found)
  if correlation is not None:
    lines.append(f'Rank correlation: {correlation}')
  axes.set_title('\n'.join(lines), fontsize=9)


def _score_colors(run: Run, found: LayerScores) -> list[str]:
  """Layers that teach are marked, where they are of such names."""
  if run.tutor_counts is None or list(found.layers) != run.teacher_layers:
    return [style.GREY] * len(found.layers)
  return _colors(run.tutor_counts)


def _colors(counts: np.ndarray) -> list[str]:
  return [style.BLUE if count else style.PALE for count in counts]


def _legend(figure: Figure) -> None:
  handles = [
    Patch(color=style.BLUE, label='teaches a student layer'),
    Patch(color=style.PALE, label='teaches none'),
  ]
  figure.legend(handles=handles, loc='outside upper right', ncols=2)


def _note(run: Run, measured: TeacherScores) -> str:
  radius = results.epsilon_text(measured.epsilon, run.dataset)
  attacked = 'each teacher' if len(measured.teachers) > 1 else 'the teacher'
  text = (
    f'Scores: {measured.attack} on {attacked}, ε = {radius}, mean over '
    f'{measured.images} test images, with 95 % intervals; lower is more robust.'
  )
  if any(run.tutors_against(found) for found in measured.teachers):
    text += ' Rank correlation: of score and number of student layers taught.'
  return text


def _layer_ticks(axes: Axes, labels: list[str], inches: float) -> None:
  axes.set_xticks(
    np.arange(len(labels)),
    labels,
    rotation=90,
    fontsize=style.font_for(len(labels), inches),
  )
  axes.tick_params(axis='x', length=0)
  axes.margins(x=0.02)
  axes.set_xlabel('Teacher layer')
  axes.grid(axis='y')

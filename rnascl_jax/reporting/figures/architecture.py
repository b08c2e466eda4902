"""Figures of what the search chose: filters, tutors, and their layers."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from rnascl_jax.reporting import statistics, style, tables
from rnascl_jax.reporting.layer_scores import LayerScores, TeacherScores
from rnascl_jax.reporting.results import SavedRun

# Inches: of a layer, of a panel, of all panels together, of what is beside.
_LAYER, _NARROWEST, _WIDEST, _TOGETHER, _BESIDE = 0.17, 3.4, 7.5, 15.0, 0.8
# Letters of a title to an inch.
_TITLE_LETTERS = 12


def filters(run: SavedRun) -> Figure | None:
  """Filters of every block against its choices, and their probabilities.

  One row per choice: on the left a bar as long as its number of filters, on
  the right its probability over the epochs of the search (where saved).
  """
  if run.architecture is None or not run.architecture['blocks']:
    return None
  blocks = run.architecture['blocks']
  rows = [(b, n) for b, block in enumerate(blocks) for n in block['choices']]
  ends = np.cumsum([len(block['choices']) for block in blocks])
  height = float(np.clip(0.19 * len(rows), 1.8, 13.0))
  history = run.history or {}
  saved = history.get('channel_probabilities', np.empty(0))  # [E, blocks, N]
  has_heat = len(saved) > 0
  figure = style.figure(9.0 if has_heat else 4.8, height + 1.1)
  panels = figure.subplots(
    1,
    2 if has_heat else 1,
    sharey=True,
    squeeze=False,
    width_ratios=[1.0, 1.25] if has_heat else [1.0],
  )[0]
  axes = panels[0]
  axes.barh(
    np.arange(len(rows)),
    [n for _, n in rows],
    color=_colors([n == blocks[b]['features'] for b, n in rows]),
    height=0.72,
  )
  starts = {0, *ends.tolist()}
  labels = [
    f'block {b}:  {n}' if i in starts else f'{n}'
    for i, (b, n) in enumerate(rows)
  ]
  font = style.font_for(len(rows), height)
  axes.set_yticks(np.arange(len(rows)), labels, fontsize=font)
  axes.set(xlabel='Filters', title='Choices of every block')
  if has_heat:
    probabilities = [  # [rows, E]
      saved[:, b, : len(block['choices'])].T for b, block in enumerate(blocks)
    ]
    mesh = panels[1].pcolormesh(
      _edges(history['epochs']),
      np.arange(len(rows) + 1) - 0.5,
      np.concatenate(probabilities),
      cmap='Blues',
      vmin=0,
      vmax=1,
    )
    panels[1].set_title('Probability of a choice during the search')
    style.epochs(panels[1])
    style.color_bar(figure, panels[1], mesh, 'Probability')
  for axes in panels:
    axes.tick_params(axis='y', length=0)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    for end in ends[:-1]:
      axes.axhline(end - 0.5, color=style.GREY, lw=0.6)
  _legend(figure, 'chosen', 'other choices', 'outside lower left')
  return figure


def _edges(centres: np.ndarray) -> np.ndarray:
  """Borders [E + 1] of cells around increasing centres [E]."""
  if len(centres) == 1:
    return np.array([centres[0] - 0.5, centres[0] + 0.5])
  middles = (centres[1:] + centres[:-1]) / 2
  first, last = 2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1]
  return np.concatenate([[first], middles, [last]])


def tutor_map(run: SavedRun) -> Figure | None:
  """Final probability of every teacher layer as tutor of a student layer."""
  tutors = run.tutors
  history = (run.history or {}).get('tutor_probabilities', np.empty(0))
  if not history.size or not tutors:
    return None
  final = history[-1]  # [S, T], of [E, S, T]
  students, teachers = final.shape
  width = float(np.clip(0.22 * teachers, 3.2, 9.0))
  height = float(np.clip(0.22 * students, 2.4, 13.0))
  figure = style.figure(width + 2.4, height + 1.8)
  axes = figure.subplots()
  mesh = axes.pcolormesh(
    final, cmap='Blues', vmin=0, vmax=final.max(), ec='white', lw=0.4
  )
  cell = min(72 * min(width / teachers, height / students), 22)  # In points.
  axes.scatter(
    [t['tutor'] + 0.5 for t in tutors],
    np.arange(len(tutors)) + 0.5,
    s=(0.42 * cell) ** 2,
    color=style.ORANGE,
    edgecolor='white',
    linewidth=0.6,
    label='chosen tutor',
  )
  style.layer_ticks(axes, _numbered(run.teacher_layers), width, centre=0.5)
  axes.set_yticks(
    np.arange(students) + 0.5,
    _numbered([t['layer'] for t in tutors]),
    fontsize=style.font_for(students, height),
  )
  axes.tick_params(length=0)
  axes.invert_yaxis()
  axes.set_ylabel('Student layer')
  figure.legend(loc='outside upper left')
  style.color_bar(figure, axes, mesh, 'Probability as tutor')
  return figure


def teacher_layers(run: SavedRun) -> Figure | None:
  """Student layers taught by each teacher layer, beside the layers' scores.

  One panel for the tutors, if the run searched any, and one for each teacher,
  its most robust layer first; scores of all teachers share their axis.
  """
  counts, measured = run.tutor_counts, run.layer_scores
  teachers = () if measured is None else measured.teachers
  lengths = [len(teacher.layers) for teacher in teachers]
  if counts is not None:
    lengths.insert(0, len(counts))
  if not lengths:
    return None
  widest = min(_WIDEST, _TOGETHER / len(lengths))
  inches = float(np.clip(_LAYER * max(lengths), _NARROWEST, widest))
  figure = style.figure(inches * len(lengths) + _BESIDE, 4.6)
  panels = list(figure.subplots(1, len(lengths), squeeze=False)[0])
  if counts is not None:
    axes = panels.pop(0)
    axes.bar(np.arange(len(counts)), counts, color=_colors(counts))
    _layer_axis(axes, _numbered(run.teacher_layers), inches)
    axes.set(ylabel='Student layers taught', title='Tutors chosen')
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(
      figure, 'teaches a student layer', 'teaches none', 'outside upper right'
    )
  for axes in panels[1:]:
    axes.sharey(panels[0])  # Before anything is drawn, so that all of it fits.
  for axes, teacher in zip(panels, teachers, strict=True):
    _draw_scores(axes, run, teacher, inches)
  if measured is not None:
    style.note(figure, _note(run, measured))
  return figure


def _draw_scores(
  axes: Axes, run: SavedRun, teacher: LayerScores, inches: float
) -> None:
  """A teacher's scores from the lowest, with 95 % intervals."""
  order, counts = teacher.order, run.students_of(teacher)
  # Layers that teach are marked, where they are of such names.
  axes.bar(
    np.arange(len(order)),
    teacher.scores[order],
    yerr=statistics.Z * np.nan_to_num(teacher.errors[order]),
    error_kw={'elinewidth': 0.8, 'ecolor': style.BLACK},
    color=style.GREY if counts is None else _colors(counts[order]),
  )
  labels = _numbered(teacher.layers)
  _layer_axis(axes, [labels[index] for index in order], inches)
  axes.set_ylabel('|clean − adversarial| / |clean|')
  lines = textwrap.wrap(run.label(teacher.model), int(_TITLE_LETTERS * inches))
  lines.append('Robustness score, most robust first')
  correlation = run.tutors_against(teacher)
  if correlation is not None:
    lines.append(f'Rank correlation: {correlation}')
  axes.set_title('\n'.join(lines), fontsize=9)


def _note(run: SavedRun, measured: TeacherScores) -> str:
  radius = tables.epsilon_text(measured.epsilon, run.dataset, measured.norm)
  attacked = 'each teacher' if len(measured.teachers) > 1 else 'the teacher'
  text = (
    f'Scores: {measured.attack} on {attacked}, ε = {radius}, mean over '
    f'{measured.images} test images, with 95 % intervals; lower is more robust.'
  )
  if any(run.tutors_against(teacher) for teacher in measured.teachers):
    text += ' Rank correlation: of score and number of student layers taught.'
  return text


def _layer_axis(axes: Axes, labels: list[str], inches: float) -> None:
  style.layer_ticks(axes, labels, inches)
  axes.margins(x=0.02)
  axes.grid(axis='y')


def _legend(figure: Figure, marked: str, other: str, where: Any) -> None:
  handles = [
    Patch(color=style.BLUE, label=marked),
    Patch(color=style.PALE, label=other),
  ]
  figure.legend(handles=handles, loc=where, ncols=2)


def _colors(is_marked: list[bool] | np.ndarray) -> list[str]:
  return [style.BLUE if marked else style.PALE for marked in is_marked]


def _numbered(names: list[str] | tuple[str, ...]) -> list[str]:
  """Layer names with the index by which figures and report refer to them."""
  return [f'{name}  {index}' for index, name in enumerate(names)]

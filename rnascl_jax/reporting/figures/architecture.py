"""Figures of what the search chose: filters per block, a tutor per layer."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from rnascl_jax.reporting import style
from rnascl_jax.reporting.results import Run


def filters(run: Run) -> Figure | None:
  """Filters of every block against its choices, and their probabilities.

  One row per choice: on the left a bar as long as its number of filters, on
  the right its probability over the epochs of the search (where saved).
  """
  if run.architecture is None or not run.architecture['blocks']:
    return None
  blocks = run.architecture['blocks']
  rows = [(b, c) for b, block in enumerate(blocks) for c in block['choices']]
  height = float(np.clip(0.19 * len(rows), 1.8, 13.0))
  heat = _channel_rows(run)
  figure = style.figure(9.0 if heat is not None else 4.8, height + 1.1)
  panels = figure.subplots(
    1,
    1 if heat is None else 2,
    sharey=True,
    squeeze=False,
    width_ratios=[1.0] if heat is None else [1.0, 1.25],
  )[0]
  _bars(panels[0], blocks, rows, style.font_for(len(rows), height))
  if heat is not None:
    _draw_heat(figure, panels[1], *heat)
  for axes in panels:
    axes.set_ylim(len(rows) - 0.5, -0.5)
    for start in _starts(blocks)[1:]:
      axes.axhline(start - 0.5, color=style.GREY, lw=0.6)
  return figure


def _draw_heat(
  figure: Figure, axes: Axes, epochs: np.ndarray, probabilities: np.ndarray
) -> None:
  """Probabilities [rows, E] at epochs [E] as colours."""
  borders = np.arange(len(probabilities) + 1) - 0.5
  mesh = axes.pcolormesh(
    _edges(epochs), borders, probabilities, cmap='Blues', vmin=0, vmax=1
  )
  axes.set_title('Probability of a choice during the search')
  style.epochs(axes)
  axes.tick_params(axis='y', length=0)
  style.color_bar(figure, axes, mesh, 'Probability')


def _bars(
  axes: Axes, blocks: list, rows: list[tuple[int, int]], font: float
) -> None:
  chosen = [n == blocks[b]['features'] for b, n in rows]
  axes.barh(
    np.arange(len(rows)),
    [n for _, n in rows],
    color=[style.BLUE if c else style.PALE for c in chosen],
    height=0.72,
  )
  starts = _starts(blocks)
  axes.set_yticks(
    np.arange(len(rows)),
    [
      f'block {b}:  {n}' if i in starts else f'{n}'
      for i, (b, n) in enumerate(rows)
    ],
    fontsize=font,
  )
  axes.tick_params(axis='y', length=0)
  axes.set(xlabel='Filters', title='Choices of every block')
  handles = [
    Patch(color=style.BLUE, label='chosen'),
    Patch(color=style.PALE, label='other choices'),
  ]
  axes.figure.legend(handles=handles, loc='outside lower left', ncols=2)


def _starts(blocks: list) -> list[int]:
  """Row of each block's first choice."""
  return [0, *np.cumsum([len(b['choices']) for b in blocks])[:-1].tolist()]


def _channel_rows(run: Run) -> tuple[np.ndarray, np.ndarray] | None:
  """Epochs [E] and probabilities [rows, E], a row per choice of a block."""
  if run.architecture is None or run.history is None:
    return None
  saved = run.history.get('channel_probabilities')  # [E, blocks, N]
  if saved is None or not len(saved):
    return None
  rows = [
    saved[:, b, : len(block['choices'])].T  # [choices, E]
    for b, block in enumerate(run.architecture['blocks'])
  ]
  return run.history['epochs'], np.concatenate(rows)


def _edges(centres: np.ndarray) -> np.ndarray:
  """Borders [E + 1] of cells around increasing centres [E]."""
  if len(centres) == 1:
    return np.array([centres[0] - 0.5, centres[0] + 0.5])
  middles = (centres[1:] + centres[:-1]) / 2
  first, last = 2 * centres[0] - middles[0], 2 * centres[-1] - middles[-1]
  return np.concatenate([[first], middles, [last]])


def tutor_map(run: Run) -> Figure | None:
  """Final probability of every teacher layer as tutor of a student layer."""
  if run.architecture is None or run.history is None:
    return None
  history = run.history.get('tutor_probabilities')  # [E, S, T]
  if history is None or not history.size:
    return None
  final = history[-1]  # [S, T]
  tutors = run.architecture['tutors']
  if not tutors:
    return None
  students, teachers = final.shape
  width = float(np.clip(0.22 * teachers, 3.2, 9.0))
  height = float(np.clip(0.22 * students, 2.4, 13.0))
  figure = style.figure(width + 2.4, height + 1.8)
  axes = figure.subplots()
  mesh = axes.pcolormesh(
    final, cmap='Blues', vmin=0, vmax=final.max(), ec='white', lw=0.4
  )
  _mark(axes, tutors, 72 * min(width / teachers, height / students))
  axes.set_xticks(
    np.arange(teachers) + 0.5,
    numbered(run.teacher_layers),
    rotation=90,
    fontsize=style.font_for(teachers, width),
  )
  axes.set_yticks(
    np.arange(students) + 0.5,
    numbered([t['layer'] for t in tutors]),
    fontsize=style.font_for(students, height),
  )
  axes.tick_params(length=0)
  axes.invert_yaxis()
  axes.set(xlabel='Teacher layer', ylabel='Student layer')
  figure.legend(loc='outside upper left')
  style.color_bar(figure, axes, mesh, 'Probability as tutor')
  return figure


def _mark(axes: Axes, tutors: list, cell: float) -> None:
  """A dot on each student layer's tutor, in cells of `cell` points."""
  axes.scatter(
    [t['tutor'] + 0.5 for t in tutors],
    np.arange(len(tutors)) + 0.5,
    s=(0.42 * min(cell, 22)) ** 2,
    color=style.ORANGE,
    edgecolor='white',
    linewidth=0.6,
    label='chosen tutor',
  )


def numbered(names: list[str]) -> list[str]:
  """Layer names with the index by which figures and report refer to them."""
  return [f'{name}  {index}' for index, name in enumerate(names)]

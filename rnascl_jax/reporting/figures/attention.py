"""Attention maps of students beside those of the tutors they were given."""

import textwrap
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnascl_jax.reporting import results, style
from rnascl_jax.reporting.results import SavedRun

_IMAGES = 4
_LAYERS = 4
# Teacher layers with the most students, and of these students how many.
_CHOSEN = 3
_STUDENTS = 2
# The student drawn to the left of RNAS-CL: the first of these that was saved.
_BASELINES = ('ce_kl', 'ce')
_KEY = (
  "Number below a student's map: its distance to the tutor's map, in [0, √2]. "
  "Colours: from 0 (dark) to the largest value of the row's maps of a layer."
)


class _Panel(NamedTuple):
  """Maps of one teacher layer and of student layers that it teaches."""

  heading: str  # Above all.
  titles: list[str]  # One for each column.
  maps: list[np.ndarray]  # Of each column [images, h, w], the teacher's last.


def attention_maps(run: SavedRun) -> Figure | None:
  """Test images and maps: baseline, RNAS-CL and tutor of some student layers.

  The maps of one layer and image share a colour scale from 0 to their largest
  value; below a student's map stands its distance to the tutor's, eq. (1).
  """
  saved, students = run.attention, shown_students(run)
  if saved is None or not students:
    return None
  panels = []
  for layer in _regular(len(run.tutors), _LAYERS):
    tutor = run.tutors[layer]
    # The paper's '0th layer (13)', with the names of both layers.
    heading = (
      f'layer {layer} ({tutor["tutor"]})\n'
      f'{tutor["layer"]}\n← {tutor["tutor_layer"]}'
    )
    maps = [saved[f'maps/{name}'][:, layer] for name in students]
    maps.append(saved['teacher_maps'][:, tutor['tutor']])
    panels.append(_Panel(heading, [*students.values(), 'Tutor'], maps))
  return _draw(saved['images'], panels)


def chosen_layers(run: SavedRun) -> Figure | None:
  """Maps of the teacher layers with most students, beside those of students.

  Of the student layers that a teacher layer teaches, a few at regular
  intervals; numbers and colours as in `attention_maps`.
  """
  saved, students, counts = run.attention, shown_students(run), run.tutor_counts
  if saved is None or counts is None or not students:
    return None
  panels = []
  for tutor in np.argsort(-counts, kind='stable')[:_CHOSEN].tolist():
    taught = [i for i, t in enumerate(run.tutors) if t['tutor'] == tutor]
    if not taught:
      continue
    titles, maps = [], []
    for layer in (taught[place] for place in _regular(len(taught), _STUDENTS)):
      titles += [f'{label}\nlayer {layer}' for label in students.values()]
      maps += [saved[f'maps/{name}'][:, layer] for name in students]
    heading = (
      f'{run.tutors[taught[0]]["tutor_layer"]} ({tutor})\n'
      f'teaches {len(taught)} student layer{"s" * (len(taught) > 1)}'
    )
    titles.append(f'Teacher\nlayer {tutor}')
    maps.append(saved['teacher_maps'][:, tutor])
    panels.append(_Panel(heading, titles, maps))
  return _draw(saved['images'], panels)


def shown_students(run: SavedRun) -> dict[str, str]:
  """Keys and labels of the students shown; none where there is nothing to show.

  That is without maps or tutors, or where RNAS-CL was taught by other tutors or
  is of an architecture that was not searched.
  """
  students = run.config.get('students', {})
  trained = students.get('rnas_cl', {})
  searched = trained.get('tutors', 'searched') == 'searched'
  searched = searched and results.is_searched(trained)
  saved = (run.attention if run.tutors and searched else None) or {}
  baseline = [m for m in _BASELINES if f'maps/{m}' in saved][:1]
  return {
    model: textwrap.fill(run.label(model), 15)
    for model in (*baseline, 'rnas_cl')
    if f'maps/{model}' in saved
    # Tutors are of the layers of the architecture that was found.
    and results.is_searched(students.get(model, {}))
  }


def map_distance(student: np.ndarray, tutor: np.ndarray) -> float:
  """The distance of two maps [h, w], in [0, √2], as in eq. (1)."""
  return float(np.linalg.norm(student - tutor))


def _regular(count: int, most: int) -> list[int]:
  """At most `most` indices at regular intervals from 0 to count - 1."""
  spaced = np.linspace(0, count - 1, min(count, most)).round().astype(int)
  return spaced.tolist()


def _draw(images: np.ndarray, panels: list[_Panel]) -> Figure:
  """Images [n, H, W, C] and, beside them, panels of maps [n, h, w]."""
  images = images[:_IMAGES]
  columns = [len(panel.maps) for panel in panels]
  figure = style.figure(1.1 + 0.95 * sum(columns), 1.0 + 1.06 * len(images))
  parts = figure.subfigures(
    1, 1 + len(panels), squeeze=False, width_ratios=[1, *columns], wspace=0.0
  )[0]
  # The images stand as far down as the maps do below their titles.
  lines = max(title.count('\n') for panel in panels for title in panel.titles)
  pixels = images[..., 0] if images.shape[-1] == 1 else images
  left = _Panel(' \n \n ', [' \n' * lines + 'Image'], [pixels])
  for part, panel in zip(parts, [left, *panels], strict=True):
    part.suptitle(panel.heading, fontsize=9)
    grid = part.subplots(len(images), len(panel.maps), squeeze=False)
    for axes, title in zip(grid[0], panel.titles, strict=True):
      axes.set_title(title, fontsize=7.5, loc='center')
    for row, cells in enumerate(grid):
      if panel is left:
        _show(cells[0], pixels[row], ' ', cmap='gray', vmin=0, vmax=1)
      else:
        maps = [of_column[row] for of_column in panel.maps]
        top = max(float(m.max()) for m in maps)  # All maps have one scale.
        for axes, shown in zip(cells, maps, strict=True):
          distance = map_distance(shown, maps[-1])
          below = ' ' if shown is maps[-1] else f'{distance:.2f}'
          _show(axes, shown, below, cmap='viridis', vmin=0, vmax=top)
  style.note(figure, _KEY)
  return figure


def _show(axes: Axes, shown: np.ndarray, below: str, **colors) -> None:
  """A picture without ticks and frame, and a word below it."""
  axes.imshow(shown, **colors)
  axes.set_xticks([])
  axes.set_yticks([])
  axes.set_xlabel(below, fontsize=7, labelpad=2)
  for spine in axes.spines.values():
    spine.set_visible(False)

"""Attention maps of students beside those of the tutors they were given."""

import textwrap
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnascl_jax.reporting import style
from rnascl_jax.reporting.results import Arrays, Json, SavedRun

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
  """Maps of one teacher layer and of student layers that it teaches.

  Attributes:
    heading: above all.
    titles: one for each column.
    maps: of each column [images, h, w], the teacher's last.
  """

  heading: str
  titles: list[str]
  maps: list[np.ndarray]


class _Maps(NamedTuple):
  """What a run saved to show.

  Attributes:
    arrays: evaluation/attention.npz.
    tutors: of architecture.json, one for each student layer.
    students: keys and labels of the students shown, the baseline first.
  """

  arrays: Arrays
  tutors: list[Json]
  students: dict[str, str]

  def of_layer(self, layer: int) -> list[np.ndarray]:
    """Maps [n, h, w] of a layer, for each student."""
    return [self.arrays[f'maps/{name}'][:, layer] for name in self.students]

  def of_teacher(self, layer: int) -> np.ndarray:
    """Maps [n, h, w] of a layer of the teacher."""
    return self.arrays['teacher_maps'][:, layer]


def attention_maps(run: SavedRun) -> Figure | None:
  """Test images and maps: baseline, RNAS-CL and tutor of some student layers.

  The maps of one layer and image share a colour scale from 0 to their largest
  value; below a student's map stands its distance to the tutor's, eq. (1).
  """
  saved = _saved(run)
  if saved is None:
    return None
  panels = []
  for layer in _regular(len(saved.tutors), _LAYERS):
    tutor = saved.tutors[layer]
    # The paper's '0th layer (13)', with the names of both layers.
    heading = (
      f'layer {layer} ({tutor["tutor"]})\n'
      f'{tutor["layer"]}\n← {tutor["tutor_layer"]}'
    )
    titles = [*saved.students.values(), 'Tutor']
    maps = [*saved.of_layer(layer), saved.of_teacher(tutor['tutor'])]
    panels.append(_Panel(heading, titles, maps))
  return _draw(saved.arrays['images'], panels)


def chosen_layers(run: SavedRun) -> Figure | None:
  """Maps of the teacher layers with most students, beside those of students.

  Of the student layers that a teacher layer teaches, a few at regular
  intervals; numbers and colours as in `attention_maps`.
  """
  saved, counts = _saved(run), run.tutor_counts
  if saved is None or counts is None:
    return None
  panels = []
  for tutor in np.argsort(-counts, kind='stable')[:_CHOSEN].tolist():
    taught = [i for i, t in enumerate(saved.tutors) if t['tutor'] == tutor]
    if not taught:
      continue
    titles, maps = [], []
    for place in _regular(len(taught), _STUDENTS):
      layer = taught[place]
      titles += [f'{name}\nlayer {layer}' for name in saved.students.values()]
      maps += saved.of_layer(layer)
    heading = (
      f'{saved.tutors[taught[0]]["tutor_layer"]} ({tutor})\n'
      f'teaches {len(taught)} student layer{"s" * (len(taught) > 1)}'
    )
    titles.append(f'Teacher\nlayer {tutor}')
    panels.append(_Panel(heading, titles, [*maps, saved.of_teacher(tutor)]))
  return _draw(saved.arrays['images'], panels)


def _saved(run: SavedRun) -> _Maps | None:
  """Maps and tutors; None where a part is missing, or RNAS-CL had others."""
  saved, tutors = run.attention, (run.architecture or {}).get('tutors')
  trained = run.config.get('students', {}).get('rnas_cl', {})
  searched = trained.get('tutors', 'searched') == 'searched'
  if saved is None or not tutors or not searched:
    return None
  baseline = [m for m in _BASELINES if f'maps/{m}' in saved][:1]
  students = {
    model: textwrap.fill(run.label(model), 15)
    for model in (*baseline, 'rnas_cl')
    if f'maps/{model}' in saved
  }
  return _Maps(saved, tutors, students) if students else None


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
        _draw_row(cells, [maps[row] for maps in panel.maps])
  style.note(figure, _KEY)
  return figure


def _draw_row(cells: np.ndarray, maps: list[np.ndarray]) -> None:
  """Maps [h, w] of one image and layer, the tutor's last, on one scale."""
  top = max(float(m.max()) for m in maps)
  for axes, shown in zip(cells, maps, strict=True):
    distance = float(np.linalg.norm(shown - maps[-1]))
    below = ' ' if shown is maps[-1] else f'{distance:.2f}'
    _show(axes, shown, below, cmap='viridis', vmin=0, vmax=top)


def _show(axes: Axes, shown: np.ndarray, below: str, **colors) -> None:
  """A picture without ticks and frame, and a word below it."""
  axes.imshow(shown, **colors)
  axes.set_xticks([])
  axes.set_yticks([])
  axes.set_xlabel(below, fontsize=7, labelpad=2)
  for spine in axes.spines.values():
    spine.set_visible(False)

"""Attention maps of students beside those of the tutors they were given."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from rnascl_jax.figures import style
from rnascl_jax.figures.evaluation import Arrays, Json
from rnascl_jax.figures.results import Run

_IMAGES = 4
_LAYERS = 4
# The student drawn to the left of RNAS-CL: the first of these that was saved.
_BASELINES = ('ce_kl', 'ce')
_KEY = (
  "Number below a student's map: its distance to the tutor's map, in [0, √2]. "
  "Colours: from 0 (dark) to the largest value of the row's maps of a layer."
)


def attention_maps(run: Run) -> Figure | None:
  """Test images and maps: baseline, RNAS-CL and tutor of some student layers.

  The maps of one layer and image share a colour scale from 0 to their largest
  value; below a student's map stands its distance to the tutor's, eq. (1).
  """
  saved, architecture = run.attention, run.architecture
  if saved is None or architecture is None or not architecture['tutors']:
    return None
  students = _students(saved)
  if not students:
    return None
  tutors = architecture['tutors']
  layers = _regular(len(tutors), _LAYERS)
  images = saved['images'][:_IMAGES]
  columns = len(students) + 1
  figure = style.figure(
    1.1 + 0.95 * columns * len(layers), 1.0 + 1.06 * len(images)
  )
  ratios = [1, *[columns] * len(layers)]
  parts = figure.subfigures(
    1, len(ratios), squeeze=False, width_ratios=ratios, wspace=0.0
  )[0]
  titles = [textwrap.fill(run.label(s), 15) for s in students]
  _draw_images(parts[0], images, lines=max(t.count('\n') for t in titles))
  for part, layer in zip(parts[1:], layers, strict=True):
    part.suptitle(_heading(layer, tutors[layer]), fontsize=9)
    maps = [saved[f'maps/{s}'][:, layer] for s in students]  # [n, h, w] each
    maps.append(saved['teacher_maps'][:, tutors[layer]['tutor']])
    _draw_layer(part, [m[: len(images)] for m in maps], [*titles, 'Tutor'])
  figure.supxlabel(_KEY, fontsize=8)
  return figure


def _students(saved: Arrays) -> list[str]:
  """Keys of the students shown: the baseline, then RNAS-CL."""
  baseline = next((m for m in _BASELINES if f'maps/{m}' in saved), None)
  candidates = [baseline, 'rnas_cl']
  return [m for m in candidates if m is not None and f'maps/{m}' in saved]


def _regular(count: int, most: int) -> list[int]:
  """At most `most` indices at regular intervals from 0 to count - 1."""
  spaced = np.linspace(0, count - 1, min(count, most)).round().astype(int)
  return spaced.tolist()


def _heading(layer: int, tutor: Json) -> str:
  """The paper's '0th layer (13)', with the names of both layers."""
  return (
    f'layer {layer} ({tutor["tutor"]})\n'
    f'{tutor["layer"]} ← {tutor["tutor_layer"]}'
  )


def _draw_images(part: SubFigure, images: np.ndarray, lines: int) -> None:
  """Images [n, H, W, C], as far down as maps below titles with line breaks."""
  part.suptitle(' \n ', fontsize=9)
  grid = part.subplots(len(images), 1, squeeze=False)
  for axes, image in zip(grid[:, 0], images, strict=True):
    grey = image.shape[-1] == 1
    axes.imshow(image[..., 0] if grey else image, cmap='gray', vmin=0, vmax=1)
    _bare(axes, ' ')
  grid[0, 0].set_title(' \n' * lines + 'Image', fontsize=7.5, loc='center')


def _draw_layer(
  part: SubFigure, maps: list[np.ndarray], titles: list[str]
) -> None:
  """Maps [n, h, w] of one layer, a column each; the tutor's is the last."""
  grid = part.subplots(len(maps[0]), len(maps), squeeze=False)
  for row, cells in enumerate(grid):
    _draw_row(cells, [m[row] for m in maps])
  for axes, title in zip(grid[0], titles, strict=True):
    axes.set_title(title, fontsize=7.5, loc='center')


def _draw_row(cells: np.ndarray, maps: list[np.ndarray]) -> None:
  """Maps [h, w] of one image and layer, the tutor's last, on one scale."""
  top = max(float(m.max()) for m in maps)
  for axes, shown in zip(cells, maps, strict=True):
    axes.imshow(shown, cmap='viridis', vmin=0, vmax=top)
    distance = float(np.linalg.norm(shown - maps[-1]))
    _bare(axes, ' ' if shown is maps[-1] else f'{distance:.2f}')


def _bare(axes: Axes, below: str) -> None:
  """No ticks, no frame, a word below."""
  axes.set_xticks([])
  axes.set_yticks([])
  axes.set_xlabel(below, fontsize=7, labelpad=2)
  for spine in axes.spines.values():
    spine.set_visible(False)

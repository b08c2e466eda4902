"""What was searched, and how robust teacher layers are, for the page."""

from typing import NamedTuple

import numpy as np

from rnascl_jax.reporting import statistics
from rnascl_jax.reporting.html import pictures
from rnascl_jax.reporting.html.shapes import Bar, Segment
from rnascl_jax.reporting.report import model_table
from rnascl_jax.reporting.results import SavedRun


class Choice(NamedTuple):
  """A number of filters of a block: its probability in the end, and a text."""

  features: int
  is_chosen: bool
  probability: str  # '' where it is not known.
  text: str


class Block(NamedTuple):
  """A block with its choices, and how their probabilities went.

  Attributes:
    picture: rows are choices, columns are epochs; '' where it is not known.
  """

  name: str
  choices: list[Choice]
  picture: str


def filters(run: SavedRun) -> list[Block]:
  """Filters of every block; empty without an architecture."""
  saved = (run.architecture or {}).get('blocks') or []
  history = (run.history or {}).get('channel_probabilities', np.empty(0))
  blocks = []
  for index, block in enumerate(saved):
    count = len(block['choices'])
    shares = history[:, index, :count].T if len(history) else None  # [N, E]
    choices = []
    for place, features in enumerate(block['choices']):
      is_chosen = features == block['features']
      text = f'block {index}: {features} filters'
      probability = ''
      if shares is not None:
        probability = f'{shares[place, -1]:.2f}'
        text += f'\nprobability at the end: {probability}'
      choices.append(Choice(features, is_chosen, probability, text))
    picture = '' if shares is None else pictures.heat(shares)
    blocks.append(Block(f'block {index}', choices, picture))
  return blocks


class Box(NamedTuple):
  """A part of the student in its diagram.

  Attributes:
    text: its name and its filters.
    width: of the box, in units of the picture, which grows with the filters.
    y: of its upper edge.
    stride: of the part.
    operator: the kernel size and the expansion that were searched, or ''.
    is_residual: whether its input is added to its output.
    tutors: a text for each of its layers that has a tutor.
  """

  text: str
  width: float
  y: int
  stride: int
  operator: str
  is_residual: bool
  tutors: list[str]


class Diagram(NamedTuple):
  """The boxes of a student from its stem down, and the size of the picture."""

  boxes: list[Box]
  width: int
  height: int


# Height of a row of the diagram, the width of the widest box, where texts
# begin, and the width of a letter.
_ROW, _WIDEST, _TEXTS, _LETTER = 58, 150, 192, 6.4


def diagram(run: SavedRun) -> Diagram | None:
  """The student from its stem to its classifier; None without one."""
  saved = run.architecture or {}
  blocks = saved.get('blocks') or []
  if not blocks or 'stem' not in saved:
    return None
  stem = {'features': saved['stem'], 'stride': saved.get('stem_stride', 1)}
  named = {'stem': stem}
  named |= {f'block{index}': block for index, block in enumerate(blocks)}
  widest = max(part['features'] for part in named.values())
  boxes = []
  for row, (name, part) in enumerate(named.items()):
    layers = [t for t in run.tutors if t['layer'].partition('/')[0] == name]
    features = part['features']
    boxes.append(
      Box(
        f'{name.replace("block", "block ")} · {features}',
        round(_WIDEST * (0.5 + 0.5 * features / widest), 1),
        _ROW * row + 16,
        part['stride'],
        model_table.operator(part),
        bool(part.get('residual')),
        [
          f'{t["layer"].partition("/")[2] or name} ← {t["tutor_layer"]}'
          for t in layers
        ],
      )
    )
  y = _ROW * len(boxes) + 16
  boxes.append(Box('classifier', 0.5 * _WIDEST, y, 1, '', False, []))
  letters = max(len(text) for box in boxes for text in ('', *box.tutors))
  return Diagram(boxes, round(_TEXTS + 8 + _LETTER * letters), y + 40)


class HeatCell(NamedTuple):
  """A cell of a heat map: column, row, opacity, text, and whether chosen."""

  x: int
  y: int
  opacity: float
  text: str
  is_chosen: bool


class HeatMap(NamedTuple):
  """Student layers (rows) against teacher layers (columns)."""

  rows: list[str]
  columns: list[str]
  cells: list[HeatCell]


def tutor_map(run: SavedRun) -> HeatMap | None:
  """Final probability of every teacher layer as tutor of a student layer."""
  saved = (run.history or {}).get('tutor_probabilities', np.empty(0))
  if not saved.size or not run.tutors:
    return None
  final, columns = saved[-1], _numbered(run.teacher_layers)  # [S, T]
  rows = _numbered([tutor['layer'] for tutor in run.tutors])
  cells = [
    HeatCell(
      x,
      y,
      round(float(final[y, x] / final.max()), 3),
      f'{rows[y]} ← {columns[x]}: {final[y, x]:.3f}',
      run.tutors[y]['tutor'] == x,
    )
    for y, x in np.ndindex(*final.shape)
  ]
  return HeatMap(rows, columns, cells)


def _numbered(names: list[str] | tuple[str, ...]) -> list[str]:
  return [f'{name} ({index})' for index, name in enumerate(names)]


def teacher_layers(run: SavedRun) -> list[tuple[str, list[Bar]]]:
  """Scores of every teacher's layers, the most robust layer first."""
  measured = run.layer_scores
  if measured is None:
    return []
  most = max(
    float((t.scores + statistics.Z * np.nan_to_num(t.errors)).max())
    for t in measured.teachers
  )
  made = []
  for teacher in measured.teachers:
    counts, labels = run.students_of(teacher), _numbered(teacher.layers)
    bars = []
    for index in teacher.order.tolist():
      score, error = teacher.scores[index], teacher.errors[index]
      taught = 0 if counts is None else int(counts[index])
      half = statistics.Z * np.nan_to_num(error)
      text = f'{labels[index]}\nscore {score:.4f}'
      if taught:
        text += f'\nteaches {taught} student layer{"s" * (taught > 1)}'
      color = 'blue' if taught else 'grey'
      bars.append(
        Bar(
          labels[index],
          [Segment(0.0, round(100 * score / most, 2), color, text)],
          f'{score:.3f}' + f' · teaches {taught}' * bool(taught),
          (
            round(100 * max(score - half, 0) / most, 2),
            round(100 * (score + half) / most, 2),
          ),
        )
      )
    made.append((run.label(teacher.model), bars))
  return made

"""Tables of a run: what every model reached, and what the search chose."""

import itertools
import re
import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from rnascl_jax.reporting.figures import (
  ensembles,
  evaluation,
  outcomes,
  statistics,
)
from rnascl_jax.reporting.figures.evaluation import Evaluation
from rnascl_jax.reporting.figures.outcomes import Json, Outcome
from rnascl_jax.reporting.figures.results import Run

# The order of the columns, by how a key starts; all other attacks follow.
_ATTACKS = ('clean', 'fgsm', 'pgd', 'mi_fgsm', 'cw', 'autoattack')
# Stands in a cell that has no number.
NOTHING = '—'
# Shares at which the table's note states the interval's half-width.
_NOTED_SHARES = (0.5, 0.9, 0.99)
# In a console, names of models are broken into lines if a table is wider than
# this; such a line, and any of a heading, is at most so long.
_WIDEST, _LONGEST = 96, 20
# In a cell of Markdown, the end of the cell and the beginning of a tag.
_SPECIAL = re.compile(r'\||<(?=[A-Za-z/!?])')


class Column(NamedTuple):
  """One attack with one radius on the same images.

  Attributes:
    attack: the attack's key.
    epsilon: its radius, rounded so that equal radii compare equal.
    images: how many, the first of the split.
  """

  attack: str
  epsilon: float
  images: int


def cells(run: Run) -> list[list[str]]:
  """The results as text: a row of headings, then one row a model, in order."""
  headings = columns(run)
  rows = [['Model', *headings.values(), 'Params', 'MACs', 'Seconds']]
  for found in run.evaluations:
    reached = by_column(found)
    rows.append(
      [
        found.label,
        *(percent(reached.get(column)) for column in headings),
        count(found.parameters),
        count(found.macs),
        NOTHING if found.seconds is None else f'{found.seconds:,.0f}',
      ]
    )
  return rows


def by_column(found: Evaluation) -> dict[Column, Outcome]:
  """A model's outcomes by their column."""
  return {_column(outcome): outcome for outcome in found.outcomes}


def columns(run: Run) -> dict[Column, str]:
  """The columns of a run's attacks, in order, with their headings."""
  found = {_column(o): o.label for e in run.evaluations for o in e.outcomes}
  seen = list(dict.fromkeys(column.attack for column in found))

  def place(column: Column) -> tuple[int, int, float, int]:
    starts = [column.attack.startswith(start) for start in _ATTACKS]
    family = starts.index(True) if any(starts) else len(_ATTACKS)
    return family, seen.index(column.attack), column.epsilon, -column.images

  ordered = sorted(found, key=place)
  return {c: _heading(run, c, found[c], ordered) for c in ordered}


def _column(outcome: Outcome) -> Column:
  return Column(outcome.attack, round(outcome.epsilon, 6), outcome.images)


def _heading(run: Run, column: Column, label: str, every: list[Column]) -> str:
  """The label, with the radius if there are several, and with fewer images."""
  if len({c.epsilon for c in every if c.attack == column.attack}) > 1:
    label += f' {evaluation.epsilon_text(column.epsilon, run.dataset)}'
  if column.images < run.images:
    label += f' ({column.images:,} images)'
  return label


def percent(outcome: Outcome | None) -> str:
  """An accuracy in per cent with one decimal, a dash where there is none."""
  return NOTHING if outcome is None else f'{100 * outcome.accuracy:.1f}'


def count(number: int | None) -> str:
  """'6,512' below a million, '2.96M' from there on."""
  if number is None:
    return NOTHING
  return f'{number:,}' if number < 1e6 else f'{number / 1e6:,.2f}M'


def notes(run: Run) -> list[str]:
  """What a reader must know beside the table: units, attacks, intervals."""
  further = any(e.base for e in run.evaluations)
  lines = [
    'Accuracies in %. Params and MACs (multiply-accumulates of one image): '
    'convolutions and linear layers, without BatchNorm. Seconds: time of '
    f'training{", or of further training on attacks" if further else ""}.'
  ]
  found = [o for e in run.evaluations for o in e.outcomes]
  attacks = [_settings(o, run.dataset) for o in found if o.attack != 'clean']
  if attacks:
    lines.append(
      f'Attacks (L∞, ε in pixel values): {"; ".join(dict.fromkeys(attacks))}.'
    )
  lines += fewer_notes(run)
  lines += [
    _interval_note(images) for images in sorted({o.images for o in found})
  ]
  return lines


def _settings(outcome: Outcome, dataset: str) -> str:
  text = (
    f'{outcome.label} ε = {evaluation.epsilon_text(outcome.epsilon, dataset)}'
  )
  if outcome.norm != outcomes.LINF:
    text += f' ({outcome.norm})'
  if outcome.steps and outcome.steps > 1:
    text += f', {outcome.steps} steps'
    if outcome.step_size:
      text += f' of {outcome.step_size:.3g}'
  if outcome.defined and '(' not in outcome.label:
    names = ', '.join(member.label for member in outcome.defined)
    text += f' (the worst case of {names})'
  return text


def fewer_notes(run: Run) -> list[str]:
  """Which attacks were run on fewer images than others, and on which."""
  found = [o for e in run.evaluations for o in e.outcomes]
  notes = [
    f'{o.label} is on {ensembles.which_images(o, run.images)}: compare it with '
    'other columns on the same images only.'
    for o in found
    if o.images < run.images
  ]
  return list(dict.fromkeys(notes))


def _interval_note(images: int) -> str:
  widths = []
  for share in _NOTED_SHARES:
    low, high = statistics.wilson(round(share * images), images)
    widths.append(f'± {50 * (high - low):.1f} at {100 * share:.0f} %')
  return (
    f'95 % binomial intervals (Wilson) for {images:,} images, in points: '
    f'{", ".join(widths)}.'
  )


def markdown(rows: Sequence[Sequence[str]], left: int = 1) -> str:
  """A Markdown table; the first `left` columns are flush left, others right.

  What would end a cell or begin an HTML tag is written so that it does not.
  """
  rule = [':--' if i < left else '--:' for i in range(len(rows[0]))]
  lines = [rows[0], rule, *rows[1:]]
  escaped = [
    [_SPECIAL.sub(r'\\\g<0>', ' '.join(cell.splitlines())) for cell in line]
    for line in lines
  ]
  return '\n'.join(f'| {" | ".join(line)} |' for line in escaped)


def plain(rows: Sequence[Sequence[str]]) -> str:
  """The same rows for a console: aligned columns, the first flush left.

  What is in brackets in a heading has lines of its own. Where the table is
  wide for a console, so has what is behind the first words of a model's name.
  """
  heading = [
    [
      line
      for part in cell.replace(' (', '\n(').split('\n')
      for line in textwrap.wrap(part, _LONGEST, break_on_hyphens=False)
    ]
    for cell in rows[0]
  ]
  depth = max(map(len, heading))
  cells = [[[''] * (depth - len(cell)) + cell for cell in heading]]
  cells += [[[cell] for cell in row] for row in rows[1:]]
  if sum(_widths(cells)) + 2 * (len(cells[0]) - 1) > _WIDEST:
    for row in cells[1:]:
      row[0] = textwrap.wrap(row[0][0], _LONGEST)
  widths = _widths(cells)
  lines = [line for row in cells for line in _lines(row, widths)]
  lines.insert(depth, '-' * (sum(widths) + 2 * (len(widths) - 1)))
  return '\n'.join(lines)


def _widths(cells: list[list[list[str]]]) -> list[int]:
  """The longest line in each column of cells of lines."""
  return [
    max(len(line) for cell in column for line in cell)
    for column in zip(*cells, strict=True)
  ]


def _lines(row: list[list[str]], widths: list[int]) -> list[str]:
  """The lines of one row, whose cells begin at its first line."""
  return [
    '  '.join(
      line.ljust(width) if i == 0 else line.rjust(width)
      for i, (line, width) in enumerate(zip(across, widths, strict=True))
    ).rstrip()
    for across in itertools.zip_longest(*row, fillvalue='')
  ]


def architecture(saved: Json) -> list[list[str]]:
  """The found network: a row a block, with the tutors of its layers.

  Args:
    saved: architecture.json.

  Returns:
    Rows of text, headings first. Layers in front of the blocks have a row of
    their own.
  """
  blocks, tutors = saved['blocks'], saved['tutors']
  # Every block has as many taught layers as any other; the rest is the stem.
  each = len(tutors) // max(len(blocks), 1)
  before = len(tutors) - each * len(blocks)
  stride = f'{saved.get("stem_stride", "")}'
  rows = [['Block', 'Stride', 'Filters', 'Choices', 'Tutor of each layer']]
  rows.append(
    ['stem', stride, f'{saved["stem"]}', '', _tutors(tutors[:before])]
  )
  for index, block in enumerate(blocks):
    start = before + index * each
    rows.append(
      [
        f'{index}',
        f'{block["stride"]}',
        f'{block["features"]}',
        ', '.join(map(str, block['choices'])),
        _tutors(tutors[start : start + each]) if tutors else NOTHING,
      ]
    )
  return rows


def _tutors(tutors: Sequence[Json]) -> str:
  """'expand ← layer1_0/conv2 (3)' for each layer; its block heads the row."""
  return '; '.join(
    f'{t["layer"].split("/")[-1]} ← {t["tutor_layer"]} ({t["tutor"]})'
    for t in tutors
  )


def attack_settings(outcome: Outcome, dataset: str) -> str:
  """An attack as the notes below a table have it, 'FGSM ε = 8/255'."""
  return _settings(outcome, dataset)

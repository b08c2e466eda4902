"""Tables of a run: what every model reached, and what the search chose."""

from collections.abc import Sequence
from typing import NamedTuple

from rnascl_jax.figures import evaluation, statistics
from rnascl_jax.figures.evaluation import Json, Outcome
from rnascl_jax.figures.results import Run

# The order of the columns, by how a key starts; all other attacks follow.
_ATTACKS = ('clean', 'fgsm', 'pgd', 'mi_fgsm', 'cw')
_NOTHING = '—'
# Shares at which the table's note states the interval's half-width.
_NOTED_SHARES = (0.5, 0.9, 0.99)


class Column(NamedTuple):
  """One attack with one radius.

  Attributes:
    attack: the attack's key.
    epsilon: its radius, rounded so that equal radii compare equal.
  """

  attack: str
  epsilon: float


def cells(run: Run) -> list[list[str]]:
  """The results as text: a row of headings, then one row a model, in order."""
  columns = _columns(run)
  heading = [_heading(run, column, columns) for column in columns]
  rows = [['Model', *heading, 'Params', 'MACs', 'Seconds']]
  for found in run.evaluations:
    outcomes = {_column(o): o for o in found.outcomes}
    rows.append(
      [
        found.label,
        *(percent(outcomes.get(column)) for column in columns),
        count(found.parameters),
        count(found.macs),
        _NOTHING if found.seconds is None else f'{found.seconds:,.0f}',
      ]
    )
  return rows


def _column(outcome: Outcome) -> Column:
  return Column(outcome.attack, round(outcome.epsilon, 6))


def _columns(run: Run) -> list[Column]:
  found = dict.fromkeys(_column(o) for e in run.evaluations for o in e.outcomes)
  seen = list(dict.fromkeys(column.attack for column in found))

  def place(column: Column) -> tuple[int, int, float]:
    starts = [column.attack.startswith(start) for start in _ATTACKS]
    family = starts.index(True) if any(starts) else len(_ATTACKS)
    return family, seen.index(column.attack), column.epsilon

  return sorted(found, key=place)


def _heading(run: Run, column: Column, columns: list[Column]) -> str:
  """The attack's label, with its radius where the attack has several."""
  outcomes = [o for e in run.evaluations for o in e.outcomes]
  label = next(o.label for o in outcomes if _column(o) == column)
  if sum(c.attack == column.attack for c in columns) == 1:
    return label
  return f'{label} {evaluation.epsilon_text(column.epsilon, run.dataset)}'


def percent(outcome: Outcome | None) -> str:
  """An accuracy in per cent with one decimal, a dash where there is none."""
  return _NOTHING if outcome is None else f'{100 * outcome.accuracy:.1f}'


def count(number: int | None) -> str:
  """'6,512' below a million, '2.96M' from there on."""
  if number is None:
    return _NOTHING
  return f'{number:,}' if number < 1e6 else f'{number / 1e6:,.2f}M'


def notes(run: Run) -> list[str]:
  """What a reader must know beside the table: units, attacks, intervals."""
  lines = [
    'Accuracies in %. Params and MACs (multiply-accumulates of one image): '
    'convolutions and linear layers, without BatchNorm. Seconds: time of '
    'training.'
  ]
  attacks = list(
    dict.fromkeys(
      _settings(o, run.dataset)
      for e in run.evaluations
      for o in e.outcomes
      if o.attack != 'clean'
    )
  )
  if attacks:
    lines.append(f'Attacks (L∞, ε in pixel values): {"; ".join(attacks)}.')
  sizes = sorted({o.images for e in run.evaluations for o in e.outcomes})
  lines += [_interval_note(images) for images in sizes]
  return lines


def _settings(outcome: Outcome, dataset: str) -> str:
  text = (
    f'{outcome.label} ε = {evaluation.epsilon_text(outcome.epsilon, dataset)}'
  )
  if outcome.steps and outcome.steps > 1:
    text += f', {outcome.steps} steps'
    if outcome.step_size:
      text += f' of {outcome.step_size:.3g}'
  return text


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
  """A Markdown table; the first `left` columns are flush left, others right."""
  rule = [':--' if i < left else '--:' for i in range(len(rows[0]))]
  lines = [rows[0], rule, *rows[1:]]
  escaped = [[cell.replace('|', '\\|') for cell in line] for line in lines]
  return '\n'.join(f'| {" | ".join(line)} |' for line in escaped)


def plain(rows: Sequence[Sequence[str]]) -> str:
  """The same rows for a console: aligned columns, the first flush left."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [
    '  '.join(
      cell.ljust(width) if i == 0 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in rows
  ]
  lines.insert(1, '-' * (sum(widths) + 2 * (len(widths) - 1)))
  return '\n'.join(lines)


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
        _tutors(tutors[start : start + each]),
      ]
    )
  return rows


def _tutors(tutors: Sequence[Json]) -> str:
  """'expand ← layer1_0/conv2 (3)' for each layer; its block heads the row."""
  return '; '.join(
    f'{t["layer"].split("/")[-1]} ← {t["tutor_layer"]} ({t["tutor"]})'
    for t in tutors
  )

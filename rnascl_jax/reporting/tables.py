"""The one writer of tables: Markdown and aligned text, and what cells say.

Example:
  >>> from rnascl_jax.reporting import tables
  >>> rows = [['Model', 'Clean'], ['Teacher', tables.mean([0.97, 0.98], 100)]]
  >>> print(tables.markdown(rows))
  | Model | Clean |
  | :-- | --: |
  | Teacher | 97.5 ± 0.7 |
"""

import itertools
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rnascl_jax.reporting import statistics
from rnascl_jax.reporting.evaluations import LINF, ModelEvaluation, SavedAttack
from rnascl_jax.reporting.results import SavedRun

# Data sets whose perturbations are stated on the [0, 1] scale; those of 8-bit
# colour images are stated in units of 1/255.
_UNIT_SCALE = ('digits', 'mnist', 'fashion_mnist')

# The order of the columns, by how a key starts; all other attacks follow.
_ATTACKS = ('clean', 'fgsm', 'pgd', 'mi_fgsm', 'cw', 'autoattack')
# Stands in a cell that has no number.
NOTHING = '—'
# In a console, names of models are broken into lines if a table is wider than
# this; such a line, and any of a heading, is at most so long.
_WIDEST, _LONGEST = 96, 20
# In a cell of Markdown, the end of the cell and the beginning of a tag.
_SPECIAL = re.compile(r'\||<(?=[A-Za-z/!?])')


class AttackColumn(NamedTuple):
  """One attack with one radius on the same images."""

  attack: str
  epsilon: float  # Rounded so that equal radii compare equal.
  images: int  # How many, the first of the split.
  norm: str  # The norm that the radius is measured in.


def epsilon_unit(dataset: str, norm: str = LINF) -> tuple[float, str]:
  """Scale for an axis of epsilons and the name of its unit.

  The unit names the norm unless it is L-infinity.
  """
  if norm != LINF:
    return 1.0, f'{norm}, pixel values in [0, 1]'
  if dataset.split('/')[0] in _UNIT_SCALE:
    return 1.0, 'pixel values in [0, 1]'
  return 255.0, 'units of 1/255'


def epsilon_text(
  epsilon: float, dataset: str, norm: str = LINF, *, named: bool = True
) -> str:
  """'8/255', '0.1' or '0.5 (L2)', a radius with its norm unless that is L∞.

  Args:
    epsilon: the radius, of pixels in [0, 1].
    dataset: name of the data set; on 8-bit images, L-infinity's radius is in
      1/255 where that is a round number.
    norm: the norm that it is measured in.
    named: whether another norm than L-infinity is named.
  """
  if norm != LINF:
    return f'{epsilon:.4g}' + f' ({norm})' * named
  scaled = epsilon * epsilon_unit(dataset)[0]
  if scaled != epsilon and math.isclose(scaled, round(scaled), abs_tol=1e-3):
    return f'{round(scaled)}/255'
  return f'{epsilon:.4g}'


def which_images(result: SavedAttack, images: int) -> str:
  """'the first 64 of 517 test images', or 'all 517 test images'."""
  if result.images < images:
    return f'the first {result.images:,} of {images:,} test images'
  return f'all {images:,} test images'


def by_column(evaluation: ModelEvaluation) -> dict[AttackColumn, SavedAttack]:
  """A model's results by their column."""
  return {_column(result): result for result in evaluation.attacks}


def columns(run: SavedRun) -> dict[AttackColumn, str]:
  """The columns of a run's attacks, in order, with their headings."""
  labels = {_column(a): a.label for e in run.evaluations for a in e.attacks}
  seen = list(dict.fromkeys(column.attack for column in labels))

  def place(column: AttackColumn) -> tuple[int, int, float, int]:
    starts = [column.attack.startswith(start) for start in _ATTACKS]
    family = starts.index(True) if any(starts) else len(_ATTACKS)
    return family, seen.index(column.attack), column.epsilon, -column.images

  headings = {}
  for column in sorted(labels, key=place):
    heading = labels[column]
    same = [c for c in labels if c.attack == column.attack]
    if len({(c.epsilon, c.norm) for c in same}) > 1:
      heading += f' {epsilon_text(column.epsilon, run.dataset, column.norm)}'
    if column.images < run.images:
      heading += f' ({column.images:,} images)'
    headings[column] = heading
  return headings


def _column(result: SavedAttack) -> AttackColumn:
  epsilon = round(result.epsilon, 6)
  return AttackColumn(result.attack, epsilon, result.images, result.norm)


def attack_settings(result: SavedAttack, dataset: str) -> str:
  """'PGD-20 ε = 8/255, 20 steps of 0.00784', as notes below a table have it."""
  radius = epsilon_text(result.epsilon, dataset, result.norm)
  text = f'{result.label} ε = {radius}'
  if result.steps and result.steps > 1:
    text += f', {result.steps} steps'
    if result.step_size:
      text += f' of {result.step_size:.3g}'
  if result.defined and '(' not in result.label:
    names = ', '.join(member.label for member in result.defined)
    text += f' (the worst case of {names})'
  return text


def attacks_note(attacked: Sequence[tuple[SavedAttack, str]]) -> str:
  """Which norms and settings attacks have, each with the name of its data."""
  named = ', '.join(dict.fromkeys(result.norm for result, _ in attacked))
  settings = dict.fromkeys(attack_settings(*pair) for pair in attacked)
  return f'Attacks ({named}, ε in pixel values): {"; ".join(settings)}.'


def fewer_note(result: SavedAttack, images: int) -> str:
  """Says on which of the images an attack is that was run on fewer of them."""
  return (
    f'{result.label} is on {which_images(result, images)}: compare it with '
    'other columns on the same images only.'
  )


def fewer_notes(run: SavedRun) -> list[str]:
  """Which attacks were run on fewer images than others, and on which."""
  attacks = [a for e in run.evaluations for a in e.attacks]
  fewer = [a for a in attacks if a.images < run.images]
  return list(dict.fromkeys(fewer_note(a, run.images) for a in fewer))


def count(number: int | None) -> str:
  """'6,512' below a million, '2.96M' from there on, a dash for None."""
  if number is None:
    return NOTHING
  return f'{number:,}' if number < 1e6 else f'{number / 1e6:,.2f}M'


def parameters(model: ModelEvaluation) -> str:
  """'6,512', of a pruned network '6,512 (10 % kept)'."""
  text = count(model.parameters)
  kept = model.weights_kept
  return text if kept is None else f'{text} ({100 * kept:.3g} % kept)'


def mean(
  values: Sequence[float | None],
  scale: float = 1.0,
  decimals: int = 1,
  sign: str = '',
) -> str:
  """'43.2 ± 0.4': mean ± standard deviation, of a single value '43.2'.

  Args:
    values: one for each seed; None where a run lacks it.
    scale: of both numbers: 100 for shares shown in per cent.
    decimals: of both numbers.
    sign: '+' to write the sign of a positive mean.

  Returns:
    Text; a dash where a value is missing: a mean would be over other seeds.
  """
  numbers = [value for value in values if value is not None]
  if not numbers or len(numbers) < len(values):
    return NOTHING
  mean, deviation = statistics.mean_and_deviation(numbers)
  text = f'{scale * mean:{sign}z,.{decimals}f}'
  if deviation is not None:
    text += f' ± {scale * deviation:,.{decimals}f}'
  return text


def mean_accuracy(
  reached: Sequence[Mapping[AttackColumn, SavedAttack]], column: AttackColumn
) -> str:
  """'43.2 ± 0.4' of one attack's accuracies in %, each of another seed."""
  results = [of_seed.get(column) for of_seed in reached]
  return mean([r and r.accuracy for r in results], 100)


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

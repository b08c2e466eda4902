"""Figure of AutoAttack: which of its members broke how many images."""

import itertools
import textwrap
from typing import NamedTuple

from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.text import Text

from rnascl_jax.reporting import results, statistics, style
from rnascl_jax.reporting.results import AttackResult, AutoAttacked, Run

# Of members in the order in which they come first; without gradients: black.
_COLORS = (style.RED, style.ORANGE, style.PURPLE, style.SKY, style.GREEN)
_WRONG, _ROBUST = 'Wrong without attack', 'Robust'
# Inches of a row, of a panel beside its rows, and of the legend.
_ROW, _FRAME, _LEGEND = 0.62, 0.75, 0.3
# Of a row: height of its bar, and where the text below the bar begins.
_BAR, _BELOW = 0.46, 0.28
_SMALL = 7.5
# Characters of a line of a title.
_TITLE = 90
# Pixels of a part that its white edges would hide.
_THIN = 5


class _Part(NamedTuple):
  """A part of a bar and what may be written on it, the longest first."""

  bar: Rectangle
  text: Text
  choices: tuple[str, ...]


def auto_attack(run: Run) -> Figure | None:
  """A bar of all images per model: wrong, broken by each member, robust."""
  groups = run.auto_attacked()
  if not groups:
    return None
  rows = [len(group) for group in groups]
  height = _LEGEND + _FRAME * len(rows) + _ROW * sum(rows)
  figure = style.figure(8.4, height)
  panels = figure.subplots(len(rows), squeeze=False, height_ratios=rows)
  looks = _looks(groups)
  parts = []
  for axes, group in zip(panels[:, 0], groups, strict=True):
    parts += _draw(axes, run, group, looks)
  figure.legend(
    handles=[Patch(facecolor=looks[label], label=label) for label in looks],
    loc='outside lower center',
    ncols=len(looks),
    handlelength=1.0,
    handleheight=1.0,
    handletextpad=0.5,
    columnspacing=1.4,
  )
  figure.draw_without_rendering()  # From here on bars have a length on paper.
  for part in parts:
    _write(part)
  return figure


def _looks(groups: list[list[AutoAttacked]]) -> dict[str, str]:
  """Colour of every part of a bar, in the order of the parts."""
  members = {
    member.label: member.black_box
    for group in groups
    for _, outcome in group
    for member in outcome.defined
  }
  spare = itertools.cycle(_COLORS)
  named = {
    label: style.BLACK if black_box else next(spare)
    for label, black_box in members.items()
  }
  return {_WRONG: style.PALE, **named, _ROBUST: style.BLUE}


def _draw(
  axes: Axes, run: Run, group: list[AutoAttacked], looks: dict[str, str]
) -> list[_Part]:
  """The bars of models that faced the same attacks on the same images."""
  outcome = group[0].result
  most = max(found.images for found, _ in group)
  radius = results.epsilon_text(outcome.epsilon, run.dataset)
  parts = []
  for row, attacked in enumerate(group):
    parts += _bar(axes, row, attacked, looks)
  labels = [textwrap.fill(found.label, 20) for found, _ in group]
  axes.set_yticks(range(len(group)), labels, fontsize=9)
  axes.set_ylim(len(group) - 0.42, -0.42)
  axes.set_xlim(0, outcome.images)
  axes.tick_params(axis='y', length=0)
  axes.spines['left'].set_visible(False)
  title = (
    f'What broke each image first: {outcome.label}, {outcome.norm}, '
    f'ε = {radius}, {results.which_images(outcome, most)}'
  )
  axes.set_title(textwrap.fill(title, _TITLE))
  axes.set_xlabel('Images')
  return parts


def _bar(
  axes: Axes, row: int, attacked: AutoAttacked, looks: dict[str, str]
) -> list[_Part]:
  """One model: its parts with their counts, and what they come to."""
  outcome = attacked.result
  counts = {
    _WRONG: outcome.images - outcome.members[0].attacked,
    **{member.label: member.broken for member in outcome.defined},
    _ROBUST: outcome.correct,
  }
  parts, left, steps = [], 0, []
  for label, count in counts.items():
    if count:
      parts.append(_part(axes, row, left, (label, count), looks[label]))
    left += count
    share = 100 * (1 - left / outcome.images)
    if label != _ROBUST:
      steps.append(f'{"clean" if label == _WRONG else label} {share:.1f}')
  axes.text(
    0,
    row + _BELOW,
    f'{" → ".join(steps)} %{_left_out(outcome)}',
    va='top',
    size=_SMALL,
    color='#444444',
  )
  low, high = statistics.wilson(outcome.correct, outcome.images)
  axes.annotate(
    f'{100 * outcome.accuracy:.1f} % robust\n'
    f'({100 * low:.1f} to {100 * high:.1f} %)',
    (1, row),
    xytext=(5, 0),
    xycoords=axes.get_yaxis_transform(),
    textcoords='offset points',
    va='center',
    size=_SMALL,
  )
  return parts


def _left_out(outcome: AttackResult) -> str:
  labels = [m.label for m in outcome.members if not m.num_trials]
  return f' (left out: {", ".join(labels)})' if labels else ''


def _part(
  axes: Axes, row: int, left: int, named: tuple[str, int], color: str
) -> _Part:
  """One part of a bar, with a place for text in its middle."""
  label, count = named
  bar = axes.barh(row, count, _BAR, left, color=color, edgecolor='white')[0]
  red, green, blue = colors.to_rgb(color)
  is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
  text = axes.text(
    left + count / 2,
    row,
    '',
    ha='center',
    va='center_baseline',
    size=8,
    color='white' if is_dark else 'black',
  )
  return _Part(bar, text, (f'{label} {count}', f'{count}', ''))


def _write(part: _Part) -> None:
  """Writes on a part the longest text that fits; a thin part has no edge."""
  space = part.bar.get_window_extent().width
  if space < _THIN:
    part.bar.set_linewidth(0)
  for choice in part.choices:
    part.text.set_text(choice)
    if not choice or part.text.get_window_extent().width < space - 2:
      return

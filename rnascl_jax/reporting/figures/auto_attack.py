"""Figure of AutoAttack: which of its members broke how many images."""

import itertools
import textwrap

from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.text import Text

from rnascl_jax.reporting import style, tables
from rnascl_jax.reporting.evaluations import SavedAttack
from rnascl_jax.reporting.results import SavedRun

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


# A part of a bar, its text, and what may be written there, the longest first.
_Part = tuple[Rectangle, Text, tuple[str, ...]]


def auto_attack(run: SavedRun) -> Figure | None:
  """A bar of all images per model: wrong, broken by each member, robust."""
  groups = run.auto_attacked()
  if not groups:
    return None
  rows = [len(group) for group in groups]
  height = _LEGEND + _FRAME * len(rows) + _ROW * sum(rows)
  figure = style.figure(8.4, height)
  panels = figure.subplots(len(rows), squeeze=False, height_ratios=rows)
  colors_of = palette([result for group in groups for _, result in group])
  parts = []
  for axes, group in zip(panels[:, 0], groups, strict=True):
    result = group[0][1]
    for row, (_, of_model) in enumerate(group):
      parts += _bar(axes, row, of_model, colors_of)
    labels = [textwrap.fill(model.label, 20) for model, _ in group]
    axes.set_yticks(range(len(group)), labels, fontsize=9)
    axes.set_ylim(len(group) - 0.42, -0.42)
    axes.set_xlim(0, result.images)
    axes.tick_params(axis='y', length=0)
    axes.spines['left'].set_visible(False)
    radius = tables.epsilon_text(
      result.epsilon, run.dataset, result.norm, named=False
    )
    images = tables.which_images(result, max(m.images for m, _ in group))
    title = (
      f'What broke each image first: {result.label}, {result.norm}, '
      f'ε = {radius}, {images}'
    )
    axes.set_title(textwrap.fill(title, _TITLE))
    axes.set_xlabel('Images')
  figure.legend(
    handles=[Patch(facecolor=c, label=label) for label, c in colors_of.items()],
    loc='outside lower center',
    ncols=len(colors_of),
    handlelength=1.0,
    handleheight=1.0,
    handletextpad=0.5,
    columnspacing=1.4,
  )
  figure.draw_without_rendering()  # From here on bars have a length on paper.
  for part in parts:
    _write(*part)
  return figure


def palette(attacked: list[SavedAttack]) -> dict[str, str]:
  """Colour of every part of a bar, in the order of the parts."""
  members = {
    m.label: m.black_box for result in attacked for m in result.defined
  }
  spare = itertools.cycle(_COLORS)
  named = {
    label: style.BLACK if black_box else next(spare)
    for label, black_box in members.items()
  }
  return {_WRONG: style.PALE, **named, _ROBUST: style.BLUE}


def counts(result: SavedAttack) -> dict[str, int]:
  """Images in every part of a model's bar, in the order of the parts."""
  return {
    _WRONG: result.images - result.members[0].attacked,
    **{member.label: member.broken for member in result.defined},
    _ROBUST: result.correct,
  }


def _bar(
  axes: Axes, row: int, result: SavedAttack, colors_of: dict[str, str]
) -> list[_Part]:
  """One model: its parts with their counts, and what they come to."""
  parts, left, steps = [], 0, []
  for label, count in counts(result).items():
    if count:
      parts.append(_part(axes, row, left, label, count, colors_of[label]))
    left += count
    share = 100 * (1 - left / result.images)
    if label != _ROBUST:
      steps.append(f'{"clean" if label == _WRONG else label} {share:.1f}')
  labels = [m.label for m in result.members if not m.num_trials]
  left_out = f' (left out: {", ".join(labels)})' if labels else ''
  axes.text(
    0,
    row + _BELOW,
    f'{" → ".join(steps)} %{left_out}',
    va='top',
    size=_SMALL,
    color='#444444',
  )
  low, high = result.interval
  axes.annotate(
    f'{100 * result.accuracy:.1f} % robust\n'
    f'({100 * low:.1f} to {100 * high:.1f} %)',
    (1, row),
    xytext=(5, 0),
    xycoords=axes.get_yaxis_transform(),
    textcoords='offset points',
    va='center',
    size=_SMALL,
  )
  return parts


def _part(
  axes: Axes, row: int, left: int, label: str, count: int, color: str
) -> _Part:
  """One part of a bar, with a place for text in its middle."""
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
  return bar, text, (f'{label} {count}', f'{count}', '')


def _write(bar: Rectangle, text: Text, choices: tuple[str, ...]) -> None:
  """Writes on a part the longest text that fits; a thin part has no edge."""
  space = bar.get_window_extent().width
  if space < _THIN:
    bar.set_linewidth(0)
  for choice in choices:
    text.set_text(choice)
    if not choice or text.get_window_extent().width < space - 2:
      return

"""AutoAttack, attack by attack: a section of the report, and for a console."""

import textwrap
from collections.abc import Sequence

from rnascl_jax.reporting import tables
from rnascl_jax.reporting.evaluations import ModelEvaluation, SavedAttack
from rnascl_jax.reporting.results import SavedRun

# Models with the results of attacks that were the same, on the same images.
_Group = Sequence[tuple[ModelEvaluation, SavedAttack]]
_HEADINGS = (
  *('Model', 'Attack', 'Attacked', 'Broken', 'Accuracy (%)', 'Seconds'),
  *('Forward', 'Backward'),
)
_HOW = (
  'An attack sees the images that those before it left right, and an image is '
  'robust if none broke it. Row "none": without an attack, and the images that '
  'are wrong then. Accuracy: after the attack. Forward, Backward: passes '
  'through the network of all images together; an attack on an image ends when '
  'it is broken. Seconds include compilation.'
)


def section(run: SavedRun) -> str:
  """The section of report.md; '' where no AutoAttack was run."""
  parts = ['## AutoAttack: which attack broke how many']
  for group in run.auto_attacked():
    parts += [about(run, group), tables.markdown(cells(group), left=2)]
  return '\n\n'.join(parts) if len(parts) > 1 else ''


def plain(run: SavedRun, width: int) -> list[str]:
  """The same tables for a console, and how many warnings there are.

  Args:
    run: the saved tables.
    width: to which text is wrapped.

  Returns:
    Lines; empty where no AutoAttack was run.
  """
  lines = []
  for group in run.auto_attacked():
    lines += ['', textwrap.fill(about(run, group), width), '']
    lines.append(tables.plain(cells(group)))
  number = len({w for e in run.evaluations for w in e.warnings})
  if number:
    warnings = '1 warning' if number == 1 else f'{number} warnings'
    lines += ['', f'{warnings} about models and attacks: see report.md.']
  return lines


def cells(group: _Group) -> list[list[str]]:
  """A row of headings, then for each model a row without attack and its own."""
  rows = [list(_HEADINGS)]
  for model, result in group:
    right = result.members[0].attacked
    wrong = [f'{result.images:,}', f'{result.images - right:,}']
    none = [*wrong, _share(right, result), *[tables.NOTHING] * 3]
    rows.append([model.label, 'none', *none])
    for member in result.members:
      row = ['left out', *[tables.NOTHING] * 5]
      if member.num_trials:
        row = [
          f'{member.attacked:,}',
          f'{member.broken:,}',
          _share(member.robust, result),
          f'{member.seconds:.{int(member.seconds < 10)}f}',
          tables.count(member.forward),
          tables.count(member.backward),
        ]
      rows.append(['', member.label, *row])
  return rows


def about(run: SavedRun, group: _Group) -> str:
  """What was attacked, how to read it, and why members were not run."""
  first = group[0][1]
  radius = tables.epsilon_text(
    first.epsilon, run.dataset, first.norm, named=False
  )
  images = tables.which_images(first, run.images)
  reasons = {
    f'{member.label} is left out: not defined for '
    f'{result.num_classes or "so few"} classes.'
    for _, result in group
    for member in result.members
    if not member.num_trials
  }
  title = f'{first.label}, {first.norm}, ε = {radius}, on {images}.'
  return ' '.join([title, _HOW, *sorted(reasons)])


def _share(images: int, result: SavedAttack) -> str:
  return f'{100 * images / result.images:.1f}'

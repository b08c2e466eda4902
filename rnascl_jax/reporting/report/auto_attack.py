"""AutoAttack, attack by attack: a section of the report, and for a console."""

import textwrap
from collections.abc import Sequence

from rnascl_jax.reporting import results, tables
from rnascl_jax.reporting.results import AttackResult, AutoAttacked, Run

_HEADINGS = (
  'Model',
  'Attack',
  'Attacked',
  'Broken',
  'Accuracy after it (%)',
  'Seconds',
  'Forward passes',
  'Backward passes',
)
_HOW = (
  'An attack sees the images that those before it left right, and an image is '
  'robust if none broke it. Row "none": without an attack, and the images that '
  'are wrong then. Passes through the network of all images together: an '
  'attack on an image ends when it is broken. Seconds include compilation.'
)


def section(run: Run) -> str:
  """The section of report.md; '' where no AutoAttack was run."""
  groups = run.auto_attacked()
  if not groups:
    return ''
  parts = ['## AutoAttack: which attack broke how many']
  for group in groups:
    parts.append(f'{_title(run, group)}. {_HOW} {_left_out(group)}'.strip())
    parts.append(tables.markdown(cells(group), left=2))
  return '\n\n'.join(parts)


def plain(run: Run, width: int) -> list[str]:
  """Lines for a console: the accuracy after each attack.

  Args:
    run: the saved results.
    width: to which text is wrapped.

  Returns:
    Lines; empty where no AutoAttack was run.
  """
  lines = []
  for group in run.auto_attacked():
    text = (
      f'{_title(run, group)}: accuracy in % after each attack (of the images '
      f'left by those before it, how many it broke). {_left_out(group)}'
    )
    lines += ['', textwrap.fill(text.strip(), width), '']
    lines.append(tables.plain(compact(group)))
  number = len({w for e in run.evaluations for w in e.warnings})
  if number:
    plural = 's' * (number > 1)
    lines += [
      '',
      f'{number} warning{plural} about models and attacks: see report.md.',
    ]
  return lines


def cells(group: Sequence[AutoAttacked]) -> list[list[str]]:
  """A row of headings, then for each model a row without attack and its own.

  Args:
    group: models that faced the same attacks on the same images.

  Returns:
    Text; a member that is not defined says so.
  """
  rows = [list(_HEADINGS)]
  for model, result in group:
    right = result.members[0].attacked
    wrong = [f'{result.images:,}', f'{result.images - right:,}']
    none = [*wrong, _share(right, result), *[tables.NOTHING] * 3]
    rows.append([f'**{model.label}**', 'none', *none])
    for member in result.members:
      row = ['left out', *[tables.NOTHING] * 5]
      if member.num_trials:
        row = [
          f'{member.attacked:,}',
          f'{member.broken:,}',
          _share(member.robust, result),
          _seconds(member.seconds),
          tables.count(member.forward),
          tables.count(member.backward),
        ]
      rows.append(['', member.label, *row])
  return rows


def compact(group: Sequence[AutoAttacked]) -> list[list[str]]:
  """A row a model: the accuracy after each attack, and what it broke."""
  labels = [member.label for member in group[0].result.members]
  rows = [['Model', 'Clean', *labels, 'Seconds']]
  for model, result in group:
    row = [model.label, _share(result.members[0].attacked, result)]
    for m in result.members:
      share = f'{_share(m.robust, result)} ({m.broken:,})'
      row.append(share if m.num_trials else 'left out')
    rows.append([*row, _seconds(sum(m.seconds for m in result.members))])
  return rows


def _title(run: Run, group: Sequence[AutoAttacked]) -> str:
  """'AutoAttack, L∞, ε = 0.1, on the first 64 of 517 test images'."""
  result = group[0].result
  radius = results.epsilon_text(result.epsilon, run.dataset)
  images = results.which_images(result, run.images)
  return f'{result.label}, {result.norm}, ε = {radius}, on {images}'


def _left_out(group: Sequence[AutoAttacked]) -> str:
  """Why members were not run, of all models."""
  reasons = {
    f'{member.label} is left out: not defined for '
    f'{result.num_classes or "so few"} classes.'
    for _, result in group
    for member in result.members
    if not member.num_trials
  }
  return ' '.join(sorted(reasons))


def _share(images: int, result: AttackResult) -> str:
  return f'{100 * images / result.images:.1f}'


def _seconds(seconds: float) -> str:
  return f'{seconds:.1f}' if seconds < 10 else f'{seconds:,.0f}'

"""AutoAttack, attack by attack: a section of the report, and for a console."""

import textwrap

from rnascl_jax.reporting import results, tables
from rnascl_jax.reporting.results import (
  AttackResult,
  AutoAttacked,
  MemberResult,
  Run,
)

_TITLE = 'AutoAttack: which attack broke how many'
_HOW = (
  'An attack sees the images that those before it left right, and an image is '
  'robust if none broke it.'
)


def section(run: Run) -> str:
  """The section of report.md; '' where no AutoAttack was run."""
  groups = run.auto_attacked()
  if not groups:
    return ''
  parts = [f'## {_TITLE}']
  for group in groups:
    parts += [f'{_title(run, group)}. {_HOW}', _steps(group)]
    parts += [tables.markdown(cells(group), left=2), _key(group)]
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
  number = len({s for e in run.evaluations for s in e.warnings})
  if number:
    warnings = '1 warning' if number == 1 else f'{number} warnings'
    lines += ['', f'{warnings} about models and attacks: see report.md.']
  return lines


def cells(group: list[AutoAttacked]) -> list[list[str]]:
  """A row of headings, then for each model a row without attack and its own.

  Args:
    group: models that faced the same attacks on the same images.

  Returns:
    Text; a member that is not defined says so.
  """
  rows = [
    [
      'Model',
      'Attack',
      'AutoAttacked',
      'Broken',
      'Accuracy after it (%)',
      'Seconds',
      'Forward passes',
      'Backward passes',
    ]
  ]
  for found, outcome in group:
    right = outcome.members[0].attacked
    rows.append(
      [
        f'**{found.label}**',
        'none',
        f'{outcome.images:,}',
        f'{outcome.images - right:,}',
        _share(right, outcome),
        *[tables.NOTHING] * 3,
      ]
    )
    rows += [
      ['', member.label, *_row(member, outcome)] for member in outcome.members
    ]
  return rows


def _row(member: MemberResult, outcome: AttackResult) -> list[str]:
  if not member.num_trials:
    return ['left out', *[tables.NOTHING] * 5]
  return [
    f'{member.attacked:,}',
    f'{member.broken:,}',
    _share(member.robust, outcome),
    _seconds(member.seconds),
    tables.count(member.forward),
    tables.count(member.backward),
  ]


def compact(group: list[AutoAttacked]) -> list[list[str]]:
  """A row a model: the accuracy after each attack, and what it broke."""
  labels = [member.label for member in group[0].result.members]
  rows = [['Model', 'Clean', *labels, 'Seconds']]
  for found, outcome in group:
    rows.append(
      [
        found.label,
        _share(outcome.members[0].attacked, outcome),
        *(
          f'{_share(m.robust, outcome)} ({m.broken:,})'
          if m.num_trials
          else 'left out'
          for m in outcome.members
        ),
        _seconds(sum(m.seconds for m in outcome.members)),
      ]
    )
  return rows


def _title(run: Run, group: list[AutoAttacked]) -> str:
  """'AutoAttack, L∞, ε = 0.1, on the first 64 of 517 test images'."""
  outcome = group[0].result
  radius = results.epsilon_text(outcome.epsilon, run.dataset)
  return (
    f'{outcome.label}, {outcome.norm}, ε = {radius}, on '
    f'{results.which_images(outcome, run.images)}'
  )


def _steps(group: list[AutoAttacked]) -> str:
  """'clean 98.4 → APGD-CE 12.5 → ...' of each model, as a list."""
  lines = []
  for found, outcome in group:
    steps = [f'clean {_share(outcome.members[0].attacked, outcome)}']
    steps += [f'{m.label} {_share(m.robust, outcome)}' for m in outcome.defined]
    lines.append(f'- {found.label}: {" → ".join(steps)}')
  return '\n'.join(['Accuracy in % after each attack:', '', *lines])


def _key(group: list[AutoAttacked]) -> str:
  """What stands in the columns, and why a member is not there."""
  text = (
    'Row "none": without an attack, and the images that are wrong then. '
    'Passes through the network of all images together: an attack on an image '
    'ends when it is broken. Seconds include compilation. '
  )
  return (text + _left_out(group)).strip()


def _left_out(group: list[AutoAttacked]) -> str:
  """Why members were not run, of all models."""
  reasons = {
    f'{member.label} is left out: not defined for '
    f'{outcome.num_classes or "so few"} classes.'
    for _, outcome in group
    for member in outcome.members
    if not member.num_trials
  }
  return ' '.join(sorted(reasons))


def _share(images: int, outcome: AttackResult) -> str:
  return f'{100 * images / outcome.images:.1f}'


def _seconds(seconds: float) -> str:
  return f'{seconds:.1f}' if seconds < 10 else f'{seconds:,.0f}'

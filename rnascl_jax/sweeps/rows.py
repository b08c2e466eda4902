r"""The rows of a sweep: runs that differ in a few fields, and their commands.

Every row has a folder of its own, ROOT/seed<N>/<name>/, which is the workdir of
its commands. A row may take files from the folders of other rows of its seed: a
teacher that several students learn from is trained once.

Example:
  >>> from rnascl_jax import sweeps
  >>> student = sweeps.Row(
  ...   'student',
  ...   'configs/digits.py:smoke',
  ...   changes={'search.gamma': 7.0},
  ...   takes={'teacher.checkpoint': 'teacher/teacher'},
  ... )
  >>> teacher = sweeps.Row(
  ...   'teacher', 'configs/digits.py:smoke', commands=('teacher', 'evaluate')
  ... )
  >>> [row.name for row in sweeps.in_order([student, teacher])]
  ['teacher', 'student']
  >>> (command,) = sweeps.commands(student, 0, 'R')
  >>> print(*command, sep='\n')
  python
  -m
  experiments.pipeline
  --config=configs/digits.py:smoke
  --config.seed=0
  --config.search.gamma=7.0
  --config.teacher.checkpoint=R/seed0/teacher/teacher
  --workdir=R/seed0/student
"""

import dataclasses
import pathlib
import re
from collections.abc import Mapping, Sequence

from rnascl_jax.runtime import spelling

Value = bool | int | float | str | tuple
_NAME = re.compile(r'[A-Za-z0-9_]{1,200}')
# In these fields rows of a table may differ by their config's argument.
_OBJECTIVE = re.compile(
  r'students\.|search\.(gamma|kl_weight|method|cross_layer)$'
)


@dataclasses.dataclass(frozen=True)
class Row:
  """One run of a sweep, for each seed.

  Attributes:
    name: of its folder; letters, digits and '_'.
    config: path of its config file, with the argument behind a colon.
    changes: values of fields of the config, by their path: 'search.gamma'.
    takes: for fields that name a file or a folder, its path relative to the
      folder of the seed. It begins with the row that makes it.
    commands: modules of `experiments`, in the order in which they are run.
  """

  name: str
  config: str
  changes: Mapping[str, Value] = dataclasses.field(default_factory=dict)
  takes: Mapping[str, str] = dataclasses.field(default_factory=dict)
  commands: tuple[str, ...] = ('pipeline',)

  @property
  def needs(self) -> tuple[str, ...]:
    """Names of the rows that it takes from."""
    first = (pathlib.PurePosixPath(p).parts[0] for p in self.takes.values())
    return tuple(dict.fromkeys(first))


def in_order(rows: Sequence[Row]) -> list[Row]:
  """Sorts rows so that what one takes from comes before it.

  Args:
    rows: of one sweep.

  Returns:
    The same rows, in their order but where one must come first.

  Raises:
    ValueError: for a name that is not one or that two rows have, and for rows
      that take from a row that there is not, or from each other.
  """
  named = {row.name: row for row in rows}
  if len(named) < len(rows):
    names = [row.name for row in rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    raise ValueError(f'Two rows are called {twice[0]!r}: rename one of them.')
  for row in rows:
    if not _NAME.fullmatch(row.name):
      raise ValueError(
        f'{row.name!r} cannot be the name of a row, which is a folder: use '
        'at most 200 letters, digits and _.'
      )
    for name in row.needs:
      if name not in named:
        raise ValueError(
          f'Row {row.name!r} takes from {name!r}, which is not a row of this '
          f'sweep.{spelling.did_you_mean(name, named)} Add it, or take from '
          'another.'
        )
  found: dict[str, Row] = {}
  for row in rows:
    _visit(row, named, found, ())
  return list(found.values())


def _visit(
  row: Row, named: Mapping[str, Row], found: dict[str, Row], path: tuple
) -> None:
  """Adds a row to those found, behind all that it takes from."""
  if row.name in path:
    circle = ' <- '.join((*path[path.index(row.name) :], row.name))
    raise ValueError(f'Rows take from each other: {circle}; break the circle.')
  if row.name in found:
    return
  for name in row.needs:
    _visit(named[name], named, found, (*path, row.name))
  found[row.name] = row


def select(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
  """Some rows, and all that they take from.

  Args:
    rows: of one sweep, from `in_order`.
    names: of rows; none means all.

  Returns:
    These rows, in their order.

  Raises:
    ValueError: for a name that no row has.
  """
  named = {row.name: row for row in rows}
  for name in names:
    if name not in named:
      raise ValueError(
        f'{name!r} is not a row of this sweep.'
        f'{spelling.did_you_mean(name, named)} Its rows are {", ".join(named)}.'
      )
  wanted = set(names or named)
  # Whatever a row takes from is in front of it.
  for row in reversed(rows):
    if row.name in wanted:
      wanted.update(row.needs)
  return [row for row in rows if row.name in wanted]


def change(rows: Sequence[Row], given: Sequence[str]) -> list[Row]:
  """Rows with fields as a user sets them.

  Args:
    rows: of one sweep.
    given: each 'FIELD=VALUE' for all rows, or 'ROW:FIELD=VALUE' for one. They
      are handed on as they are, behind the changes of the row.

  Returns:
    The rows.

  Raises:
    ValueError: for a text that is neither, for a row that there is not, for the
      seed, and for all rows a field in which rows differ.
  """
  differ = {field for row in rows for field in row.changes}
  for text in given:
    path, equals, value = text.partition('=')
    name, colon, field = path.rpartition(':')
    if not equals or not field or (colon and not name):
      raise ValueError(
        f'{text!r} must be FIELD=VALUE, such as evaluation.max_images=1000, or '
        'ROW:FIELD=VALUE for one row.'
      )
    if field == 'seed':
      raise ValueError(f'{text!r} sets the seed of all runs: use --seeds.')
    if name:
      select(rows, [name])
    elif field in differ or _OBJECTIVE.match(field):
      raise ValueError(
        f'{text!r} would change what rows of this sweep are, and not their '
        'names: set it for one, as ROW:FIELD=VALUE.'
      )
    rows = [
      dataclasses.replace(
        row,
        changes={**row.changes, field: value},
        takes={k: v for k, v in row.takes.items() if k != field},
      )
      if name in ('', row.name)
      else row
      for row in rows
    ]
  return list(rows)


def folder(root: str, seed: int, name: str) -> str:
  """The path of a row's workdir, or of a file in it."""
  return str(pathlib.PurePath(root, f'seed{seed}', name))


def commands(row: Row, seed: int, root: str) -> list[list[str]]:
  """The commands of a row for one seed; their first word is 'python'.

  Args:
    row: one of a sweep.
    seed: of the run.
    root: folder of the sweep.

  Returns:
    A list of words for each command.
  """
  fields = {'seed': seed, **row.changes}
  fields |= {name: folder(root, seed, path) for name, path in row.takes.items()}
  flags = [f'--config.{name}={value}' for name, value in fields.items()]
  return [
    [
      'python',
      '-m',
      f'experiments.{command}',
      f'--config={row.config}',
      *flags,
      f'--workdir={folder(root, seed, row.name)}',
    ]
    for command in row.commands
  ]

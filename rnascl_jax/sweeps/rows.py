"""The rows of a sweep: runs that differ in a few fields of their config."""

import dataclasses
import graphlib
import itertools
import pathlib
import re
from collections.abc import Mapping, Sequence

from rnascl_jax.config import config_files
from rnascl_jax.runtime import commands, spelling

Value = bool | int | float | str | tuple
_NAME = re.compile(r'[A-Za-z0-9_]{1,200}')
# In these fields rows of a table may differ by their config's argument.
_OBJECTIVE = re.compile(
  r'students\.|search\.(gamma|reduction|tutors|kl_\w+|method|layer_loss)$'
)


@dataclasses.dataclass(frozen=True)
class Row:
  """One run of a sweep, for each seed.

  A row may take files from the folders of other rows of its seed: a teacher
  that several students learn from is trained once.

  Attributes:
    name: the name of its folder; letters, digits and '_'.
    config: the path of its config file, with the argument behind a colon.
    changes: values of fields of the config, by their path: 'search.gamma'.
    takes: paths for fields that name a file or a folder of another row. A path
      is relative to the folder of the seed, and begins with that row's name.
    commands: names of commands, in the order in which they are run.
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


def load(text: str) -> list[Row]:
  """Makes the rows of a config file, in an order in which they can be run.

  Args:
    text: the file, as for `config_files.read`.

  Raises:
    ValueError: if there is no such file, if it has no sweep, or if its rows or
      the argument are wrong.
  """
  module, argument = config_files.read(text)
  if not hasattr(module, 'sweep'):
    raise ValueError(
      f'--config={text} has no function sweep(argument), so it is a single '
      f'run: use {commands.usage("pipeline")}, or name a file that has one: '
      f'{", ".join(_sweeps())}.'
    )
  return in_order(module.sweep(argument))


def summary(text: str) -> str:
  """The command that a sweep ends with, `SUMMARY` of its file; '' for none."""
  return getattr(config_files.read(text)[0], 'SUMMARY', '')


def _sweeps() -> list[str]:
  """Lists the shipped config files that have a sweep."""
  return [
    name
    for name, path in config_files.names().items()
    if '\ndef sweep(' in path.read_text(encoding='utf-8')
  ]


def in_order(rows: Sequence[Row]) -> list[Row]:
  """Sorts rows so that each row comes behind the rows that it takes from.

  Args:
    rows: the rows of one sweep.

  Returns:
    The same rows; their order changes only where it must.

  Raises:
    ValueError: if a name cannot be a folder's, if two rows have the same name,
      or if rows take from an unknown row or from each other.
  """
  named: dict[str, Row] = {}
  for row in rows:
    if not _NAME.fullmatch(row.name):
      raise ValueError(
        f'{row.name!r} cannot be the name of a row, which is a folder: use '
        'at most 200 letters, digits and _.'
      )
    if named.setdefault(row.name, row) is not row:
      raise ValueError(f'Two rows are called {row.name!r}: rename one of them.')
  for row in rows:
    for name in row.needs:
      if name not in named:
        raise ValueError(
          f'Row {row.name!r} takes from {name!r}, which is not a row of this '
          f'sweep.{spelling.did_you_mean(name, named)} Add it, or take from '
          'another.'
        )
  try:
    graphlib.TopologicalSorter({r.name: r.needs for r in rows}).prepare()
  except graphlib.CycleError as error:
    circle = ' <- '.join(reversed(error.args[1]))
    raise ValueError(
      f'Rows take from each other: {circle}; break the circle.'
    ) from None

  def with_needs(name: str) -> list[str]:
    return [*itertools.chain(*map(with_needs, named[name].needs)), name]

  names = itertools.chain(*map(with_needs, named))
  return [named[name] for name in dict.fromkeys(names)]


def select(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
  """Selects rows, and all rows that they take from.

  Args:
    rows: the rows of one sweep, from `in_order`.
    names: names of rows; none means all.

  Returns:
    These rows, in their order.

  Raises:
    ValueError: if no row has one of the names.
  """
  known = [row.name for row in rows]
  for name in names:
    if name not in known:
      raise ValueError(
        f'{name!r} is not a row of this sweep.'
        f'{spelling.did_you_mean(name, known)} Its rows are {", ".join(known)}.'
      )
  wanted = set(names or known)
  # Whatever a row takes from is in front of it.
  for row in reversed(rows):
    if row.name in wanted:
      wanted.update(row.needs)
  return [row for row in rows if row.name in wanted]


def change(rows: Sequence[Row], changes: Sequence[str]) -> list[Row]:
  """Sets fields of rows as a user says.

  Args:
    rows: the rows of one sweep.
    changes: texts, each 'FIELD=VALUE' for all rows or 'ROW:FIELD=VALUE' for one
      row. The values are handed on as they are, behind the row's own changes.

  Returns:
    The rows with these changes.

  Raises:
    ValueError: if a text is neither, names an unknown row, sets the seed, or
      sets for all rows a field in which the rows differ.
  """
  differ = {field for row in rows for field in row.changes}
  for text in changes:
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

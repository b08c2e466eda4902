"""Rows with a seed, and what is left of those that are finished.

A finished job has a file `sweep.json` in its folder: what it was made with, so
that it is not made again with the same, nor taken for one made with another.
"""

import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rnascl_jax.runtime import files
from rnascl_jax.sweeps import rows as rows_lib

_MARKER = 'sweep.json'


class Job(NamedTuple):
  """A row with one seed.

  Attributes:
    name: of the row.
    seed: of the run.
    folder: its workdir.
    needs: names of the rows that it takes from.
    commands: words of each command, of which the first is 'python'.
    identity: the same with another root: what makes them the same commands
      after the sweep's folder was moved.
    config: digest of the settings, '' if it is not to be compared.
    takes: what it takes from the folders of others.
  """

  name: str
  seed: int
  folder: pathlib.Path
  needs: tuple[str, ...]
  commands: list[list[str]]
  identity: list[list[str]]
  config: str
  takes: tuple[pathlib.Path, ...]


def of_rows(
  rows: Sequence[rows_lib.Row],
  seeds: Sequence[int],
  root: str,
  configs: Mapping[tuple[int, str], str] | None = None,
) -> list[Job]:
  """All rows with the first seed, then with the next.

  Args:
    rows: from `rows.in_order`.
    seeds: of the runs.
    root: folder of the sweep.
    configs: from `validation.check`.
  """
  return [
    Job(
      name=row.name,
      seed=seed,
      folder=pathlib.Path(rows_lib.folder(root, seed, row.name)),
      needs=row.needs,
      commands=rows_lib.commands(row, seed, root),
      identity=rows_lib.commands(row, seed, 'ROOT'),
      config=(configs or {}).get((seed, row.name), ''),
      takes=tuple(
        pathlib.Path(rows_lib.folder(root, seed, path))
        for path in row.takes.values()
      ),
    )
    for seed in seeds
    for row in rows
  ]


def seconds(job: Job) -> float | None:
  """How long a finished job took; None if it is not finished.

  A job whose commands, config or inputs have changed is not finished.

  Raises:
    DamagedFileError: the file that says so is damaged.
  """
  saved = _saved(job)
  same = saved.get('commands') == job.identity
  same &= saved.get('config') == job.config and saved.get('took') == _took(job)
  return saved['seconds'] if same else None


def _saved(job: Job) -> dict:
  try:
    return files.read_json(
      job.folder / _MARKER, 'commands', 'config', 'took', 'seconds'
    )
  except FileNotFoundError:
    return {}


def _took(job: Job) -> list[str]:
  """Digests of what it takes: of a file, or of what completed a folder."""
  paths = [p / 'stage.json' if p.is_dir() else p for p in job.takes]
  return [
    hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ''
    for path in paths
  ]


def outdated(job: Job) -> str:
  """What is wrong with a row that was finished with other inputs; ''."""
  saved = _saved(job)
  if not saved or saved.get('took') == _took(job):
    return ''
  return (
    f'{" or ".join(job.needs)} was made again since this row was: move '
    f'{job.folder} away, and it is made with the new one'
  )


def unmark(job: Job) -> None:
  """Forgets that a job was finished."""
  (job.folder / _MARKER).unlink(missing_ok=True)


def mark(job: Job, seconds: float) -> None:
  """Notes that a job is finished, and how long it took."""
  saved = {
    'commands': job.identity,
    'config': job.config,
    'took': _took(job),
    'seconds': seconds,
  }
  files.write_json(job.folder / _MARKER, saved)

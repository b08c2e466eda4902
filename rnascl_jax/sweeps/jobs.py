"""Jobs of a sweep: a row with one seed, its folder and its commands.

A finished job has a file `sweep.json` in its folder: what it was made with and
how long it took. So it is neither made again with the same, nor taken for one
made with another config, commands or inputs.
"""

import dataclasses
import hashlib
import itertools
import json
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

from rnascl_jax.config import config_files
from rnascl_jax.runtime import commands, files
from rnascl_jax.sweeps.rows import Row

_MARKER = 'sweep.json'


@dataclasses.dataclass(frozen=True)
class Job:
  """A row with one seed.

  Attributes:
    row: what is run.
    seed: the seed of the run.
    root: the folder of the sweep.
    config: the SHA-256 of all settings, from `plan`.
  """

  row: Row
  seed: int
  root: str
  config: str = ''

  @property
  def name(self) -> str:
    """The name of the row."""
    return self.row.name

  @property
  def folder(self) -> pathlib.Path:
    """The workdir of the job's commands."""
    return self._place(self.name)

  def _place(self, path: str) -> pathlib.Path:
    """A path in the folder of the seed."""
    return pathlib.Path(self.root, f'seed{self.seed}', path)

  @property
  def commands(self) -> list[list[str]]:
    """The words of each command; the first of them is 'rnascl'."""
    taken = {field: self._place(path) for field, path in self.row.takes.items()}
    fields = {'seed': self.seed, **self.row.changes, **taken}
    flags = [f'--config.{path}={value}' for path, value in fields.items()]
    return [
      [
        'rnascl',
        name,
        f'--config={self.row.config}',
        *flags,
        f'--workdir={self.folder}',
      ]
      for name in self.row.commands
    ]

  def _inputs(self) -> dict[str, Any]:
    """What the job is made with, equal where the sweep's folder was moved."""
    paths = [self._place(path) for path in self.row.takes.values()]
    # Of a folder, the file that says that it is complete.
    paths = [p / 'stage.json' if p.is_dir() else p for p in paths]
    took = [
      hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ''
      for path in paths
    ]
    commands = dataclasses.replace(self, root='ROOT').commands
    return {'commands': commands, 'config': self.config, 'took': took}

  def seconds(self) -> float | None:
    """How long the job took; None unless it is finished with these inputs.

    Raises:
      DamagedFileError: the file that says so is damaged.
      ValueError: it was finished with other files of other rows, and its
        workdir would go on with them.
    """
    try:
      saved = files.read_json(
        self.folder / _MARKER, 'commands', 'config', 'took', 'seconds'
      )
    except FileNotFoundError:
      return None
    inputs = self._inputs()
    if saved['took'] != inputs['took']:
      raise ValueError(
        f'{" or ".join(self.row.needs)} was made again since this row was: '
        f'move {self.folder} away, and it is made with the new one'
      )
    took = saved.pop('seconds')
    return took if saved == inputs else None

  def mark(self, seconds: float) -> None:
    """Notes that the job is finished, and how long it took."""
    inputs = self._inputs()
    files.write_json(self.folder / _MARKER, inputs | {'seconds': seconds})

  def unmark(self) -> None:
    """Forgets that the job was finished."""
    (self.folder / _MARKER).unlink(missing_ok=True)


def plan(rows: Sequence[Row], seeds: Sequence[int], root: str) -> list[Job]:
  """Makes the jobs of a sweep: all rows with the first seed, then the next.

  The config of each job is read as its commands will read it.

  Args:
    rows: the rows, in the order of `rows.in_order`.
    seeds: the seeds of every row.
    root: the folder of the sweep.

  Returns:
    The jobs; the digest of a job changes with its config file.

  Raises:
    ValueError: if there is no seed or one is repeated, or if a row's config
      file cannot be read, or has no such field, or a value is out of its
      bounds; the message names the row.
  """
  if not seeds or len(set(seeds)) < len(seeds):
    raise ValueError(
      f'--seeds={",".join(map(str, seeds))} must be one number or several '
      'different ones, such as 0,1,2.'
    )
  jobs = [Job(row, seed, root) for seed in seeds for row in rows]
  return [dataclasses.replace(job, config=_digest(job)) for job in jobs]


def _digest(job: Job) -> str:
  """SHA-256 of all settings of a job."""
  words = dataclasses.replace(job, root='ROOT').commands[0]
  try:
    parsed = config_files.parse(words)
  except ValueError as error:
    raise ValueError(f'Row {job.name!r} cannot be run: {error}') from error
  text = json.dumps(dataclasses.asdict(parsed), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def script(jobs: Sequence[Job]) -> str:
  """Writes all commands, one a line, in the order of the jobs."""
  lines = []
  for seed, of_seed in itertools.groupby(jobs, lambda job: job.seed):
    lines.append(f'# seed {seed}')
    lines += [_line(words) for job in of_seed for words in job.commands]
  return '\n'.join(lines)


def _line(words: Sequence[str]) -> str:
  """A command as the user's own way of starting commands has it."""
  return f'{commands.usage(words[1])} {shlex.join(words[2:])}'


def seeds(texts: Sequence[str]) -> list[int]:
  """Reads the numbers of --seeds.

  Raises:
    ValueError: if a text is not a whole number.
  """
  try:
    return [int(text) for text in texts]
  except ValueError:
    raise ValueError(
      f'--seeds={",".join(texts)} must be whole numbers, such as 0,1,2.'
    ) from None

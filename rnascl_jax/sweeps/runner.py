"""Runs the rows of a sweep one after another, and goes on where one fails.

Each command is a process of its own. It says what it has to say in
ROOT/seed<N>/<row>/sweep.log, while the terminal has one line for each row. A
row whose commands have all ended well leaves `sweep.json` there, and is not run
again as long as its commands, its config and what it takes are the same.
"""

import contextlib
import hashlib
import pathlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, NamedTuple

from rnascl_jax import files
from rnascl_jax.sweeps import lock
from rnascl_jax.sweeps import rows as rows_lib

FINISHED, FAILED, ELSEWHERE = 'finished', 'failed', 'running elsewhere'
# Followed by the names of the rows.
NEEDS = 'not run, needs '
_MARKER, _LOG = 'sweep.json', 'sweep.log'
_LAST_LINES = 12
# Seconds after which a signal is passed on at the latest.
_POLL = 0.2


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


class Stopped(Exception):
  """A signal asked the sweep to stop."""

  def __init__(self, signum: int):
    super().__init__(signum)
    self.signum = signum


States = dict[tuple[int, str], str]


def jobs(
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

  It is not where its commands, its config, or what it took have changed.
  """
  saved = _saved(job)
  same = saved.get('commands') == job.identity
  same &= saved.get('config') == job.config and saved.get('took') == _took(job)
  return saved['seconds'] if same else None


def _saved(job: Job) -> dict:
  try:
    return files.read_json(job.folder / _MARKER)
  except FileNotFoundError:
    return {}


def _took(job: Job) -> list[str]:
  """Digests of what it takes: of a file, or of what completed a folder."""
  paths = [p / 'stage.json' if p.is_dir() else p for p in job.takes]
  return [
    hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ''
    for path in paths
  ]


def _outdated(job: Job) -> str:
  """What is wrong with a row that was finished with other inputs; ''."""
  saved = _saved(job)
  if not saved or saved.get('took') == _took(job):
    return ''
  return (
    f'{" or ".join(job.needs)} was made again since this row was: move '
    f'{job.folder} away, and it is made with the new one'
  )


def run(todo: Sequence[Job], out: IO[str]) -> States:
  """Runs jobs that are not finished, whatever becomes of others.

  Args:
    todo: from `jobs`.
    out: where a line for each job is written.

  Returns:
    For each (seed, row) what became of it.

  Raises:
    Stopped: after SIGINT or SIGTERM, which was passed on to the command under
      way and waited for.
  """
  states: States = {}
  with _signals() as asked:
    for index, job in enumerate(todo):
      place = f'[{index + 1}/{len(todo)}] seed {job.seed}, {job.name}: '
      print(place, end='', file=out, flush=True)
      state, text = _one(job, states, asked)
      states[job.seed, job.name] = state
      left = _left(todo[index + 1 :], todo) if state == FINISHED else ''
      print(f'{text}{left}', file=out, flush=True)
      if asked:
        raise Stopped(asked[0])
  return states


def _one(job: Job, states: States, asked: list[int]) -> tuple[str, str]:
  """What became of a job, and what to say of it."""
  missing = [n for n in job.needs if states.get((job.seed, n)) != FINISHED]
  if missing:
    state = NEEDS + ', '.join(missing)
    return state, state
  try:
    before = seconds(job)
    if before is not None:
      return FINISHED, f'finished before, in {duration(before)}'
    outdated = _outdated(job)
    if outdated:
      return FAILED, f'{FAILED}: {outdated}'
    with lock.hold(job.folder) as note:
      # Another sweep may have finished it in the meantime.
      if seconds(job) is not None:
        return FINISHED, 'finished by another sweep'
      return _start(job, note, asked)
  except lock.LockedError as error:
    return ELSEWHERE, f'{ELSEWHERE}: {error}'
  except (OSError, ValueError) as error:
    # A full disk, or a file that is broken: others may still be run.
    return FAILED, f'{FAILED}: {error}'


def _start(
  job: Job, note: Callable[[int], None], asked: list[int]
) -> tuple[str, str]:
  """Runs the commands of a job until one fails."""
  (job.folder / _MARKER).unlink(missing_ok=True)
  begin = time.monotonic()
  log = job.folder / _LOG
  for command in job.commands:
    start = log.stat().st_size if log.exists() else 0
    code = _command(command, log, note, asked)
    if asked and code:
      return FAILED, f'stopped after {duration(time.monotonic() - begin)}'
    if code:
      how = f'exit status {code}' if code > 0 else f'signal {-code}'
      took = duration(time.monotonic() - begin)
      text = f'failed after {took}, {how}; {log} ends:\n{_tail(log, start)}'
      return FAILED, text
  whole = round(time.monotonic() - begin, 1)
  saved = {
    'commands': job.identity,
    'config': job.config,
    'took': _took(job),
    'seconds': whole,
  }
  files.write_json(job.folder / _MARKER, saved)
  return FINISHED, f'finished in {duration(whole)}'


def _command(
  words: Sequence[str],
  log: pathlib.Path,
  note: Callable[[int], None],
  asked: list[int],
) -> int:
  """Runs a command to its end, passing signals on; returns its exit status."""
  if asked:
    return 128 + asked[0]
  passed = 0
  with open(log, 'ab') as file:
    file.write(f'$ {shlex.join(words)}\n'.encode())
    file.flush()
    # In a group of its own the terminal's Ctrl-C reaches it once, from here.
    with subprocess.Popen(
      [sys.executable, *words[1:]],
      stdin=subprocess.DEVNULL,
      stdout=file,
      stderr=subprocess.STDOUT,
      process_group=0,
    ) as child:
      note(child.pid)
      while True:
        try:
          return child.wait(_POLL)
        except subprocess.TimeoutExpired:
          for signum in asked[passed:]:
            child.send_signal(signum)
            passed += 1


def _tail(log: pathlib.Path, start: int) -> str:
  """The last lines of what a command wrote."""
  text = log.read_bytes()[start:].decode(errors='replace')
  return '\n'.join(f'  {line}' for line in text.splitlines()[-_LAST_LINES:])


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
  """Collects the signals that ask to stop."""
  asked: list[int] = []
  numbers = (signal.SIGINT, signal.SIGTERM)
  before = [
    signal.signal(number, lambda signum, _: asked.append(signum))
    for number in numbers
  ]
  try:
    yield asked
  finally:
    for number, handler in zip(numbers, before, strict=True):
      signal.signal(number, handler)


def _left(rest: Sequence[Job], todo: Sequence[Job]) -> str:
  """How long the rest will take, from the jobs that are finished."""
  rest = [job for job in rest if seconds(job) is None]
  if not rest:
    return ''
  took = [(job, s) for job in todo if (s := seconds(job)) is not None]
  total = sum(_expected(job, took) for job in rest)
  return f'; about {duration(total)} left'


def _expected(job: Job, took: Sequence[tuple[Job, float]]) -> float:
  """The mean of the same row; else of rows with such commands; else of all."""

  def modules(of: Job) -> list[str]:
    return [words[2] for words in of.commands]

  same = [s for other, s in took if other.name == job.name]
  alike = [s for other, s in took if modules(other) == modules(job)]
  found = same or alike or [s for _, s in took]
  return sum(found) / len(found)


def duration(value: float) -> str:
  """'12 s', '3 min' or '2.5 h'."""
  if value < 99.5:
    return f'{value:.0f} s'
  return f'{value / 60:.0f} min' if value < 5970 else f'{value / 3600:.1f} h'

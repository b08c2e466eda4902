"""Runs the rows of a sweep one after another, and goes on where one fails.

Each command is a process of its own. It says what it has to say in
ROOT/seed<N>/<row>/sweep.log, while the terminal has one line for each row. A
row whose commands have all ended well leaves `sweep.json` there, and is not run
again as long as its commands, its config and what it takes are the same.
"""

import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO

from rnascl_jax.runtime import lock, signals
from rnascl_jax.sweeps import jobs

FINISHED, FAILED, ELSEWHERE = 'finished', 'failed', 'running elsewhere'
# Followed by the names of the rows.
NEEDS = 'not run, needs '
_LOG = 'sweep.log'
_LAST_LINES = 12
# Seconds after which a signal is passed on at the latest.
_POLL = 0.2


class Stopped(Exception):
  """A signal asked the sweep to stop."""

  def __init__(self, signum: int):
    super().__init__(signum)
    self.signum = signum


States = dict[tuple[int, str], str]


def run(todo: Sequence[jobs.Job], out: IO[str]) -> States:
  """Runs jobs that are not finished, whatever becomes of others.

  Args:
    todo: from `jobs.of_rows`.
    out: where a line for each job is written.

  Returns:
    For each (seed, row) what became of it.

  Raises:
    Stopped: after SIGINT or SIGTERM, which was passed on to the command under
      way and waited for.
  """
  states: States = {}
  asked: list[int] = []
  with signals.handled_by(lambda signum, frame: asked.append(signum)):
    for index, job in enumerate(todo):
      place = f'[{index + 1}/{len(todo)}] seed {job.seed}, {job.name}: '
      print(place, end='', file=out, flush=True)
      state, text = _one(job, states, asked)
      states[job.seed, job.name] = state
      left = _left(todo[index + 1 :], todo) if state == FINISHED else ''
      print(f'{text}{left}', file=out, flush=True)
      if asked:
        break
  if asked:
    raise Stopped(asked[0])
  return states


def _one(job: jobs.Job, states: States, asked: list[int]) -> tuple[str, str]:
  """What became of a job, and what to say of it."""
  missing = [n for n in job.needs if states.get((job.seed, n)) != FINISHED]
  if missing:
    state = NEEDS + ', '.join(missing)
    return state, state
  try:
    before = jobs.seconds(job)
    if before is not None:
      return FINISHED, f'finished before, in {duration(before)}'
    outdated = jobs.outdated(job)
    if outdated:
      return FAILED, f'{FAILED}: {outdated}'
    with lock.take(job.folder) as held:
      # Another sweep may have finished it in the meantime.
      if jobs.seconds(job) is not None:
        return FINISHED, 'finished by another sweep'
      return _start(job, held, asked)
  except lock.HeldError as error:
    return ELSEWHERE, f'{ELSEWHERE}: {error}'
  except (OSError, ValueError) as error:
    # A full disk, or a file that is broken: others may still be run.
    return FAILED, f'{FAILED}: {error}'


def _start(job: jobs.Job, held: lock.Lock, asked: list[int]) -> tuple[str, str]:
  """Runs the commands of a job until one fails."""
  jobs.unmark(job)
  begin = time.monotonic()
  log = job.folder / _LOG
  for command in job.commands:
    start = log.stat().st_size if log.exists() else 0
    code = _command(command, log, held, asked)
    if asked and code:
      return FAILED, f'stopped after {duration(time.monotonic() - begin)}'
    if code:
      how = f'exit status {code}' if code > 0 else f'signal {-code}'
      took = duration(time.monotonic() - begin)
      text = f'failed after {took}, {how}; {log} ends:\n{_tail(log, start)}'
      return FAILED, text
  whole = round(time.monotonic() - begin, 1)
  jobs.mark(job, whole)
  return FINISHED, f'finished in {duration(whole)}'


def _command(
  words: Sequence[str],
  log: pathlib.Path,
  held: lock.Lock,
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
    # It keeps the lock if this process is killed, so that it is not run twice.
    with subprocess.Popen(
      [sys.executable, *words[1:]],
      stdin=subprocess.DEVNULL,
      stdout=file,
      stderr=subprocess.STDOUT,
      process_group=0,
      **held.handed(),
    ) as child:
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


def _left(rest: Sequence[jobs.Job], todo: Sequence[jobs.Job]) -> str:
  """How long the rest will take, from the jobs that are finished."""
  rest = [job for job in rest if _seconds(job) is None]
  if not rest:
    return ''
  took = [(job, s) for job in todo if (s := _seconds(job)) is not None]
  total = sum(_expected(job, took) for job in rest)
  return f'; about {duration(total)} left'


def _seconds(job: jobs.Job) -> float | None:
  """How long a job took; None if it is not finished or does not say so."""
  try:
    return jobs.seconds(job)
  except (OSError, ValueError):
    return None


def _expected(job: jobs.Job, took: Sequence[tuple[jobs.Job, float]]) -> float:
  """The mean of the same row; else of rows with such commands; else of all."""

  def modules(of: jobs.Job) -> list[str]:
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

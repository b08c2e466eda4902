"""Runs the jobs of a sweep one after another, and goes on where one fails.

Each command is a process of its own. It says what it has to say in
ROOT/seed<N>/<row>/sweep.log, while the terminal has one line for each job.
"""

import pathlib
import shlex
import statistics
import subprocess
import time
from collections.abc import Sequence
from typing import IO

from rnascl_jax.runtime import commands, lock, signals
from rnascl_jax.sweeps.jobs import Job

FINISHED, FAILED, ELSEWHERE = 'finished', 'failed', 'running elsewhere'
_LAST_LINES = 12
# Seconds after which a signal is passed on at the latest.
_POLL = 0.2

# What became of each (seed, row): one of the words above, or 'not run, needs'
# and the names of rows.
States = dict[tuple[int, str], str]


class Stopped(Exception):
  """A signal asked the sweep to stop."""

  def __init__(self, signum: int):
    super().__init__(signum)
    self.signum = signum


def run(jobs: Sequence[Job], out: IO[str]) -> States:
  """Runs jobs that are not finished, whatever becomes of others.

  Args:
    jobs: the jobs, from `jobs.plan`.
    out: the file to which a line for each job is written.

  Returns:
    What became of each (seed, row).

  Raises:
    Stopped: SIGINT or SIGTERM came; it was passed on to the running command,
      and the command has ended.
  """
  states: States = {}
  asked: list[int] = []
  with signals.handled_by(lambda signum, frame: asked.append(signum)):
    for index, job in enumerate(jobs):
      place = f'[{index + 1}/{len(jobs)}] seed {job.seed}, {job.name}: '
      print(place, end='', file=out, flush=True)
      state, text = _one(job, states, asked)
      states[job.seed, job.name] = state
      left = _left(jobs, index + 1) if state == FINISHED else ''
      print(f'{text}{left}', file=out, flush=True)
      if asked:
        break
  if asked:
    raise Stopped(asked[0])
  return states


def _one(job: Job, states: States, asked: list[int]) -> tuple[str, str]:
  """Runs a job if it is to be run; returns its state and a line about it."""
  missing = [n for n in job.row.needs if states.get((job.seed, n)) != FINISHED]
  if missing:
    state = f'not run, needs {", ".join(missing)}'
    return state, state
  try:
    seconds = job.seconds()
    if seconds is not None:
      return FINISHED, f'finished before, in {duration(seconds)}'
    with lock.take(job.folder) as held:
      # Another sweep may have finished it in the meantime.
      if job.seconds() is not None:
        return FINISHED, 'finished by another sweep'
      return _start(job, held, asked)
  except lock.HeldError as error:
    return ELSEWHERE, f'{ELSEWHERE}: {error}'
  except (OSError, ValueError) as error:
    # A full disk, or a file that is broken: others may still be run.
    return FAILED, f'{FAILED}: {error}'


def _start(job: Job, held: lock.Lock, asked: list[int]) -> tuple[str, str]:
  """Runs the commands of a job until one fails; returns as `_one` does."""
  job.unmark()
  begin = time.monotonic()
  log = job.folder / 'sweep.log'
  for command in job.commands:
    start = log.stat().st_size if log.exists() else 0
    code = _command(command, log, held, asked)
    seconds = round(time.monotonic() - begin, 1)
    if code and asked:
      return FAILED, f'stopped after {duration(seconds)}'
    if code:
      reason = f'exit status {code}' if code > 0 else f'signal {-code}'
      last = log.read_bytes()[start:].decode(errors='replace').splitlines()
      end = ''.join(f'\n  {line}' for line in last[-_LAST_LINES:])
      text = f'failed after {duration(seconds)}, {reason}; {log} ends:{end}'
      return FAILED, text
  job.mark(seconds)
  return FINISHED, f'finished in {duration(seconds)}'


def _command(
  words: Sequence[str], log: pathlib.Path, held: lock.Lock, asked: list[int]
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
      [*commands.PROCESS, *words[1:]],
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


def _left(jobs: Sequence[Job], done: int) -> str:
  """Says how long the jobs behind the first `done` will take; '' for none."""
  timed = [(job, _seconds(job)) for job in jobs]
  finished = [(job, s) for job, s in timed if s is not None]
  rest = [job for job, s in timed[done:] if s is None]
  total = sum(_expected(job, finished) for job in rest)
  return f'; about {duration(total)} left' if rest else ''


def _seconds(job: Job) -> float | None:
  """Returns the seconds of a finished job; None for any other."""
  try:
    return job.seconds()
  except (OSError, ValueError):
    return None


def _expected(job: Job, finished: Sequence[tuple[Job, float]]) -> float:
  """The mean of the same row, else of rows with its commands, else of all."""
  same = [s for other, s in finished if other.name == job.name]
  modules = job.row.commands
  alike = [s for other, s in finished if other.row.commands == modules]
  return statistics.mean(same or alike or [s for _, s in finished])


def duration(seconds: float) -> str:
  """'12 s', '3 min' or '2.5 h'."""
  if seconds < 99.5:
    return f'{seconds:.0f} s'
  if seconds < 5970:
    return f'{seconds / 60:.0f} min'
  return f'{seconds / 3600:.1f} h'

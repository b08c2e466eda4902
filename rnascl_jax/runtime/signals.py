"""SIGINT and SIGTERM end a process at once, or a stage at its next boundary.

Python's own handler of Ctrl-C raises an exception, and Python drops what is
raised in a callback or while an object is deleted: the run would go on. So no
handler here raises. `install` makes a signal end the process from then on, with
exit status 128 + N and one sentence. For the time of a stage, `stop_on_signal`
makes the first signal a request that the stage honours when all is saved. Slurm
and `pkill` signal a sweep and the row it runs, and the sweep passes the signal
on: what comes again within two seconds is the same request.

Commands alone call `install`; importing this module changes no handler, and
without `install` a process has its own handlers back after each stage.
"""

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds within which the same signal is no second one.
_SAME = 2.0

# Signals that handlers were called for, and how many may be left to handlers.
_handled = 0
_allowed: float = 0
_ending = threading.Lock()


class Interrupted(SystemExit):
  """The process was asked to stop by a signal, and everything is saved."""


class Stop:
  """Remembers the signal that asked the process to stop."""

  def __init__(self):
    self.signum: int | None = None

  def __call__(self, signum: int, frame: Any) -> None:
    del frame
    if self.signum is not None:
      signal.signal(signum, signal.SIG_DFL)
      os.kill(os.getpid(), signum)
    self.signum = signum
    _say('Stopping after this step; a second signal stops at once.')


class _Repeats:
  """Knows whether a signal is the last one, sent by another once more."""

  def __init__(self):
    self._last, self._since = 0, -math.inf

  def __call__(self, signum: int) -> bool:
    now = time.monotonic()
    if signum == self._last and now - self._since < _SAME:
      return True
    self._last, self._since = signum, now
    return False


def install() -> None:
  """Makes SIGINT and SIGTERM end this process, also where they were ignored.

  A shell that starts a command in the background has it ignore SIGINT.
  """
  for number in SIGNALS:
    signal.signal(number, _end)
  # Handlers run in the main thread, which may be in C++ for minutes (a program
  # is compiled, other hosts are waited for). This thread needs not wait for it.
  received, sent = os.pipe()
  os.set_blocking(sent, False)
  signal.set_wakeup_fd(sent, warn_on_full_buffer=False)
  # A forked process would send its signals here too.
  os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
  threading.Thread(target=_watch, args=(received,), daemon=True).start()


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Stop]:
  """Turns SIGTERM and SIGINT into a request, for the time of a stage.

  Yields:
    The request, to be asked for where everything is saved.

  Raises:
    Interrupted: a signal came and the stage had already asked for the last
      time.
  """
  stop = Stop()
  with handled_by(stop, at_most=1):
    yield stop
  if stop.signum is not None:
    raise Interrupted(128 + stop.signum)


@contextlib.contextmanager
def handled_by(
  handler: Callable[[int, Any], None], at_most: float = math.inf
) -> Iterator[None]:
  """Leaves signals to a handler, for a time; in the main thread only.

  Args:
    handler: of a signal's number and a frame.
    at_most: how many signals the handler gets. If `install` was called, the
      next one ends the process, even while Python is too busy to call handlers.
  """
  global _allowed
  if threading.current_thread() is not threading.main_thread():
    yield
    return

  def handle(signum: int, frame: Any) -> None:
    global _handled
    if not repeats(signum):
      _handled += 1
      handler(signum, frame)

  repeats = _Repeats()
  before = [signal.signal(number, handle) for number in SIGNALS]
  _allowed = _handled + at_most
  try:
    yield
  finally:
    for number, old in zip(SIGNALS, before, strict=True):
      signal.signal(number, old)
    _allowed = _handled


def _watch(received: int) -> None:
  """Ends the process at a signal that no handler is to be left with."""
  count, repeats = 0, _Repeats()
  while True:
    (signum,) = os.read(received, 1)
    if signum in SIGNALS and not repeats(signum):
      count += 1
      if count > _allowed:
        _end(signum)


def _end(signum: int, frame: Any = None) -> None:
  """Ends the process without a chance for anyone to catch it."""
  del frame
  if _ending.acquire(blocking=False):
    name = signal.Signals(signum).name
    _say(f'Stopped by {name}; the same command goes on.')
    os._exit(128 + signum)


def _say(text: str) -> None:
  """Prints a line, on a terminal below what a progress bar shows."""
  # Not by `print`: a signal may have come while that was writing.
  with contextlib.suppress(OSError):
    os.write(2, ('\n' * os.isatty(2) + f'{text}\n').encode())

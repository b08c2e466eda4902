"""Turns SIGTERM and SIGINT into a request that a loop honours in its time."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from absl import logging


class Interrupted(SystemExit):
  """The process was asked to stop by a signal, and everything is saved."""


class Stop:
  """Remembers the signal that asked the process to stop."""

  def __init__(self):
    self.signum: int | None = None

  def __call__(self, signum: int, frame: Any) -> None:
    del frame
    logging.warning('Stopping after this step; the same signal stops at once.')
    self.signum = signum
    signal.signal(signum, signal.SIG_DFL)


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Stop]:
  """Turns SIGTERM and SIGINT into a request, for the time of a stage."""
  stop = Stop()
  if threading.current_thread() is not threading.main_thread():
    yield stop
    return
  signals = (signal.SIGTERM, signal.SIGINT)
  before = [signal.signal(number, stop) for number in signals]
  try:
    yield stop
  finally:
    for number, handler in zip(signals, before, strict=True):
      signal.signal(number, handler)

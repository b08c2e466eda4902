"""How far a stage has come: a bar on a terminal, else a line now and then.

Without the package tqdm, a terminal has lines too.

Example:
  >>> import sys
  >>> from rnascl_jax.runtime import progress
  >>> with progress.Progress(4, description='search', stream=sys.stdout) as bar:
  ...   bar.update(4, {'loss': 0.5})  # doctest: +ELLIPSIS
  search 4/4 (100 %), ... steps/s | loss=0.5
"""

import contextlib
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

try:
  import tqdm
except ImportError:  # Lines are shown instead of a bar.
  tqdm = None

# Logs of hours stay readable, and a stage that hangs is seen.
SECONDS_BETWEEN_LINES = 10.0


class Progress(contextlib.AbstractContextManager):
  """Shows steps done, rate, time left and the last metrics of one stage."""

  def __init__(
    self,
    total: int,
    *,
    initial: int = 0,
    description: str = '',
    unit: str = 'steps',
    stream: TextIO | None = None,
    is_main_process: bool = True,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Starts showing.

    Args:
      total: steps of the whole stage, at least 1.
      initial: steps done by an earlier run that this one goes on from.
      description: what the stage is called.
      unit: what is counted.
      stream: by default standard error.
      is_main_process: only this process of several shows anything.
      clock: seconds; for tests.
    """
    self._total, self._done, self._shown = total, initial, initial
    self._description, self._unit = description, unit
    self._stream = stream or sys.stderr
    self._clock, self._metrics = clock, ''
    self._is_main_process = is_main_process
    self._last_line = clock()
    self._start = (initial, self._last_line)
    self._first_update: tuple[int, float] | None = None
    self._bar: Any = None
    if tqdm and is_main_process and self._stream.isatty():
      self._bar = tqdm.tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=f' {unit}',
        file=self._stream,
        dynamic_ncols=True,
      )

  def update(self, done: int, metrics: Mapping[str, Any] | None = None) -> None:
    """Tells how far the stage is.

    Args:
      done: steps done in all, not since the last update.
      metrics: numbers to show until there are newer ones.
    """
    self._done = done
    if metrics is not None:
      self._metrics = ' '.join(
        f'{k}={float(v):.4g}' for k, v in metrics.items()
      )
    if self._bar is not None:
      self._bar.set_postfix_str(self._metrics, refresh=False)
      self._bar.update(done - self._bar.n)
      return
    now = self._clock()
    if self._first_update is None:
      self._first_update = (done, now)
    if now - self._last_line >= SECONDS_BETWEEN_LINES:
      self._print_line(now)

  def close(self) -> None:
    """Shows the final state."""
    if self._bar is not None:
      self._bar.close()
    elif self._done > self._shown:
      self._print_line(self._clock())

  def __exit__(self, *error: object) -> None:
    self.close()

  def _print_line(self, now: float) -> None:
    self._last_line, self._shown = now, self._done
    if not self._is_main_process:
      return
    parts = [
      f'{self._description} {self._done}/{self._total} '
      f'({100 * self._done // self._total} %)'.lstrip()
    ]
    # The steps before the first update were also compiled: they do not count,
    # unless there are no others in the whole stage.
    steps, since = self._first_update or self._start
    if steps == self._done == self._total:
      steps, since = self._start
    if self._done > steps and now > since:
      rate = (self._done - steps) / (now - since)
      parts.append(f'{rate:.3g} {self._unit}/s')
      if self._done < self._total:
        parts.append(f'{_clock_time((self._total - self._done) / rate)} left')
    line = ', '.join(parts) + (f' | {self._metrics}' if self._metrics else '')
    print(line, file=self._stream, flush=True)


def _clock_time(seconds: float) -> str:
  """Minutes and seconds, and hours if there are any: 07:30, 1:07:30."""
  minutes, second = divmod(int(seconds), 60)
  hours, minute = divmod(minutes, 60)
  return (
    f'{hours}:{minute:02}:{second:02}'
    if hours
    else (f'{minute:02}:{second:02}')
  )

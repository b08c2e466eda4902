"""A trace of some training steps, for TensorBoard or Perfetto.

A program may have several steps (`steps_per_dispatch`): traced are those that
have one of the steps asked for. A trace changes no number, and a run goes on
where it cannot be made.

Example:
  >>> from rnascl_jax.runtime import profiler
  >>> profiler.parse('100:110')
  range(100, 110)
  >>> profiler.parse('110:100')
  Traceback (most recent call last):
    ...
  ValueError: --profile_steps=110:100 must be a:b with 0 <= a < b, such as \
100:110 for ten steps.
"""

import contextlib
import pathlib
import re

import jax
from absl import logging

from rnascl_jax.base import PyTree
from rnascl_jax.runtime import processes

_FORMAT = re.compile(r'(\d+):(\d+)')
# A trace of a step has thousands of events, and viewers load it as a whole.
MOST_STEPS = 1000


def parse(text: str) -> range | None:
  """Reads the steps to trace: 'a:b', the steps from a on and before b.

  Args:
    text: of the flag; '' for none.

  Raises:
    ValueError: it is another text, or there are more than `MOST_STEPS` steps.
  """
  if not text:
    return None
  match = _FORMAT.fullmatch(text)
  steps = range(int(match[1]), int(match[2])) if match else range(0)
  if not steps:
    raise ValueError(
      f'--profile_steps={text} must be a:b with 0 <= a < b, such as 100:110 '
      'for ten steps.'
    )
  if len(steps) > MOST_STEPS:
    raise ValueError(
      f'--profile_steps={text} are {len(steps):,} steps, of at most '
      f'{MOST_STEPS:,}, or no viewer could show them: take fewer.'
    )
  return steps


class Profiler(contextlib.AbstractContextManager):
  """Traces some steps of a stage, on the main process."""

  def __init__(self, steps: range | None, folder: pathlib.Path):
    """Begins nothing yet.

    Args:
      steps: to be traced; None for none.
      folder: for the trace.
    """
    self._steps, self._folder = steps, folder
    self._first: int | None = None  # The first step of a trace that has begun.

  def begin(self, step: int, count: int, state: PyTree) -> None:
    """Begins a trace if one of the next steps is to be traced.

    Args:
      step: the next one.
      count: how many steps there are in the next program.
      state: before them, which is waited for: earlier steps are not traced.
    """
    steps = self._steps
    if steps is None or self._first is not None or not processes.is_main():
      return
    if step < steps.stop and step + count > steps.start:
      jax.block_until_ready(state)
      with self._never_again_if_it_fails():
        jax.profiler.start_trace(str(self._folder), create_perfetto_trace=True)
        self._first = step

  def end(self, step: int, state: PyTree) -> None:
    """Ends the trace if the last of its steps has been begun.

    Args:
      step: the next one.
      state: before it, which is waited for.
    """
    if self._first is not None and self._steps and step >= self._steps.stop:
      jax.block_until_ready(state)
      self._stop(step)

  def __exit__(self, *error: object) -> None:
    """Ends the trace of a stage that is interrupted or has no more steps."""
    if self._first is not None:
      self._stop(None)

  def _stop(self, step: int | None) -> None:
    first, self._first = self._first, None
    self._steps = None
    with self._never_again_if_it_fails():
      jax.profiler.stop_trace()
      logging.info(
        'The trace of the steps from %d %s is in %s.',
        first,
        'on' if step is None else f'to {step - 1}',
        self._folder,
      )

  @contextlib.contextmanager
  def _never_again_if_it_fails(self):
    try:
      yield
    # A full disk, another trace, a driver that allows none.
    except Exception as error:
      self._steps = None
      logging.warning(
        'No trace in %s: %s. The run goes on.', self._folder, error
      )

"""Several processes, one on each host: what they agree on and wait for.

All of them run the same program on the same config; each drives the devices of
its host. What a stage computes is the same on all of them, so the main process
alone writes files, in a folder that all of them see.

Example:
  >>> from rnascl_jax.runtime import processes
  >>> processes.count(), processes.is_main(), processes.any_true(False)
  (1, True, False)
  >>> processes.on_main(print, 'written')
  written
"""

import json
import pathlib
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

# A network file system may show a new file late to other hosts.
SECONDS_TO_APPEAR = 90.0
# Seconds that a process which ends waits for the others.
_SHUTDOWN = 10

P = ParamSpec('P')
T = TypeVar('T')


class OtherProcessError(RuntimeError):
  """Another process cannot go on, and so this one cannot."""


def connect(
  coordinator: str = '', num_processes: int = 0, process_id: int = -1
) -> None:
  """Joins the other processes; called once, before JAX computes anything.

  Args:
    coordinator: address host:port of the first process. Empty where JAX finds
      the others by itself: on TPU pods, and under Slurm, Open MPI or
      Kubernetes.
    num_processes: how many there are; needed with `coordinator`.
    process_id: which one this is, in [0, num_processes); likewise.

  Raises:
    ValueError: if the three do not fit together, or JAX does not find the
      other processes by itself.
  """
  if not coordinator and (num_processes or process_id >= 0):
    raise ValueError(
      f'num_processes={num_processes} and process_id={process_id} were given '
      'without the address of a coordinator: give all three, or none on a TPU '
      'pod.'
    )
  if coordinator and not (
    ':' in coordinator and 0 <= process_id < num_processes
  ):
    raise ValueError(
      f'coordinator={coordinator!r} must be host:port, and process_id='
      f'{process_id} must lie in [0, num_processes), which is {num_processes}.'
    )
  # JAX would take SIGTERM for itself; the processes agree on it by themselves.
  jax.config.update('jax_enable_preemption_service', False)
  try:
    jax.distributed.initialize(
      coordinator or None,
      num_processes or None,
      process_id if coordinator else None,
      shutdown_timeout_seconds=_SHUTDOWN,
    )
  except ValueError as error:
    if coordinator:
      raise
    raise ValueError(
      f'JAX does not find the other processes by itself ({error}): give the '
      'address of the first one, how many there are, and which this is.'
    ) from error


def count() -> int:
  """How many processes have joined; asking starts no device."""
  return jax.process_count() if jax.distributed.is_initialized() else 1


def is_main() -> bool:
  """Whether this process writes files and prints progress."""
  return count() == 1 or jax.process_index() == 0


def gather(array: np.ndarray) -> np.ndarray:
  """Arrays of all processes, one after another along the first axis.

  Args:
    array: [n, ...], of the same shape on all processes, no wider than JAX's
      default types.

  Returns:
    [n * processes, ...], the same on all of them.
  """
  if count() == 1:
    return np.asarray(array)
  from jax.experimental import multihost_utils

  return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def any_true(flag: bool) -> bool:
  """Whether some process has a true flag; all of them must ask."""
  return bool(gather(np.array([flag])).any())


def texts(text: str) -> list[str]:
  """The texts of all processes, by their index."""
  data = text.encode()
  lengths = gather(np.array([len(data)], np.int32))
  padded = np.zeros((1, max(int(lengths.max()), 1)), np.uint8)
  padded[0, : len(data)] = np.frombuffer(data, np.uint8)
  return [
    row[:length].tobytes().decode()
    for row, length in zip(gather(padded), lengths, strict=True)
  ]


def from_main(value: Any) -> Any:
  """The main process's value, for what decides what all of them do.

  A file that the main process sees may not have appeared to the others.

  Args:
    value: JSON; that of the others is not looked at.
  """
  if count() == 1:
    return value
  return json.loads(texts(json.dumps(value) if is_main() else '')[0])


def together(
  function: Callable[P, T], *arguments: P.args, **named: P.kwargs
) -> T:
  """Calls a function on all processes; what fails on one fails on all.

  Without this the others would wait for one that has ended. The function must
  not communicate.

  Returns:
    The function's result on this process.

  Raises:
    OtherProcessError: the function raised on other processes; the message says
      what.
    Exception: what the function raised on this one.
  """
  if count() == 1:
    return function(*arguments, **named)
  result: Any = None
  error: Exception | None = None
  try:
    result = function(*arguments, **named)
  except Exception as caught:
    error = caught
  errors = texts('' if error is None else f'{error}' or repr(error))
  if error is not None:
    raise error
  failed = [index for index, text in enumerate(errors) if text]
  if failed:
    raise OtherProcessError(
      f'{len(failed)} of {count()} processes cannot go on; process '
      f'{failed[0]}: {errors[failed[0]]}'
    )
  return result


def on_main(
  function: Callable[P, Any], *arguments: P.args, **named: P.kwargs
) -> None:
  """Calls a function on the main process, and waits for it on all others.

  Raises:
    OtherProcessError: on the others, if it raised.
  """

  def call() -> None:
    if is_main():
      function(*arguments, **named)

  together(call)


def wait_for(path: pathlib.Path) -> None:
  """Waits for a file that another process wrote.

  Raises:
    ValueError: if it does not appear for `SECONDS_TO_APPEAR`.
  """
  ends = time.monotonic() + SECONDS_TO_APPEAR
  while not path.exists():
    if time.monotonic() > ends:
      raise ValueError(
        f'process {jax.process_index()} of {count()} does not see '
        f'what process 0 writes to {path.parent}: name a --workdir in a file '
        'system that all hosts share.'
      )
    time.sleep(0.1)


def check_agreement(what: str, text: str) -> None:
  """Raises unless all processes have the same text.

  Args:
    what: what the text is, for the message.
    text: this process's text, one fact on each line.

  Raises:
    ValueError: on all processes; it names those that differ from the main one,
      and of the first of them the lines that do.
  """
  all_texts = [own.splitlines() for own in texts(text)]
  main = all_texts[0]
  others = [index for index, own in enumerate(all_texts) if own != main]
  if not others:
    return
  first = all_texts[others[0]]
  lines = [
    *(f'{line} (process 0)' for line in main if line not in first),
    *(f'{line} (process {others[0]})' for line in first if line not in main),
  ]
  raise ValueError(
    f'{len(others)} of {count()} processes were started with another {what} '
    f'than process 0: {others}; {"; ".join(lines[:8])}. Start all of them with '
    'the same command.'
  )

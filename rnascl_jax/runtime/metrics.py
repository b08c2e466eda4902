"""Metrics: exact means over examples, and where they are written.

A step returns masked sums and a count; sums of steps and devices are added, and
divided once at the end, so every example weighs the same. A run that was killed
and goes on drops what it had written after its checkpoint, so its file is that
of an uninterrupted run.

Example:
  >>> import tempfile
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.runtime import files, metrics
  >>> sums = metrics.masked_sums(
  ...   {'loss': jnp.array([1.0, 3.0, 9.0])}, jnp.array([True, True, False])
  ... )
  >>> metrics.means(metrics.add(sums, sums))
  {'loss': 2.0}
  >>> folder = tempfile.mkdtemp()
  >>> with metrics.open_writer(folder, last_step=None) as writer:
  ...   writer.write(10, {'loss': 2.0}, split='train')
  >>> files.read_json_lines(f'{folder}/metrics.jsonl')
  [{'step': 10, 'split': 'train', 'loss': 2.0}]
"""

import contextlib
import math
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np

from rnascl_jax.base import Array
from rnascl_jax.runtime import disk, files, lock

# Sums over examples by name, and under 'count' how many examples there were.
Sums = dict[str, Array]
COUNT = 'count'


def accuracy(logits: Array, labels: Array) -> Array:
  """Whether the label has the largest logit; of equal ones the first counts.

  Args:
    logits: [B, K]. A row with a NaN is wrong, whatever its label.
    labels: [B], integers in [0, K).

  Returns:
    [B], float32, 0 or 1.
  """
  chex.assert_rank([logits, labels], [2, 1])
  chex.assert_equal_shape_prefix([logits, labels], 1)
  right = jnp.argmax(logits, axis=-1) == labels
  valid = ~jnp.any(jnp.isnan(logits), axis=-1)
  return (right & valid).astype(jnp.float32)


def masked_sums(values: Mapping[str, Array], mask: Array) -> Sums:
  """Sums over the examples that count.

  Args:
    values: each [B]; what stands where the mask is False does not matter, not
      even NaN.
    mask: [B], bool.

  Returns:
    A scalar for each value, in float32 or wider, or int32 for integers and
    booleans; and the number of examples as `COUNT`, int32.
  """
  if COUNT in values:
    raise ValueError(f'{COUNT!r} is the name of the number of examples.')
  chex.assert_rank(mask, 1)
  chex.assert_equal_shape([mask, *values.values()])

  def masked_sum(value: Array) -> Array:
    dtype = jnp.int32
    if jnp.issubdtype(value.dtype, jnp.floating):
      dtype = jnp.promote_types(value.dtype, jnp.float32)
    return jnp.sum(jnp.where(mask, value.astype(dtype), 0))

  sums = {name: masked_sum(value) for name, value in values.items()}
  return sums | {COUNT: jnp.sum(mask, dtype=jnp.int32)}


def add(left: Sums, right: Sums) -> Sums:
  """Adds sums over different examples.

  Raises:
    ValueError: they are not of the same values.
  """
  if left.keys() != right.keys():
    raise ValueError(f'cannot add {sorted(left)} and {sorted(right)}.')
  return {name: left[name] + right[name] for name in left}


def means(sums: Mapping[str, Any]) -> dict[str, float]:
  """Divides by the number of examples, on the host, in float64.

  Raises:
    ValueError: there was no example.
  """
  host = jax.device_get(dict(sums))
  count = int(host.pop(COUNT))
  if count == 0:
    raise ValueError(f'no example was counted for {sorted(host)}.')
  return {name: float(total) / count for name, total in host.items()}


class _Sink(Protocol):
  """Somewhere records go."""

  def write(self, record: Mapping[str, Any]) -> None: ...


class TensorBoard(contextlib.AbstractContextManager):
  """Writes the finite numbers of records as scalars, named split/value.

  They are written at once, not by a thread as tensorboardX's own writer does:
  on a full disk its thread ends, and the program would wait for it for ever.
  """

  def __init__(self, directory: files.Path, *, last_step: int | None = None):
    """Adds an events file to a folder.

    Args:
      directory: created if missing.
      last_step: TensorBoard hides what earlier files have after this step;
        None: everything.
    """
    from tensorboardX import event_file_writer
    from tensorboardX.proto import event_pb2, summary_pb2

    self._path = os.path.join(directory, 'events')
    self._event, self._summary = event_pb2.Event, summary_pb2.Summary
    first_step = 0 if last_step is None else last_step + 1
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    with disk.explained(directory):
      self._file = event_file_writer.EventsWriter(self._path)
    self._append(first_step, session_log=start)

  def write(self, record: Mapping[str, Any]) -> None:
    """Adds a point to the curve of every number."""
    prefix = f'{record["split"]}/' if record.get('split') else ''
    points = []
    for name, value in record.items():
      array = np.asarray(value)
      # Kind V is bfloat16; strings, None and lists are no scalars.
      scalar = not array.ndim and array.dtype.kind in 'biufV'
      if name != 'step' and scalar and math.isfinite(number := float(array)):
        points.append(
          self._summary.Value(tag=prefix + name, simple_value=number)
        )
    self._append(record['step'], summary=self._summary(value=points))

  def _append(self, step: int, **content: Any) -> None:
    event = self._event(step=step, wall_time=time.time(), **content)
    with disk.explained(self._path):
      self._file.write_event(event)
      self._file.flush()

  def __exit__(self, *error: object) -> None:
    with disk.explained(self._path):
      self._file.close()


class Writer(contextlib.AbstractContextManager):
  """Writes every record to all of its sinks, which may be none."""

  def __init__(self, sinks: Sequence[_Sink], opened: contextlib.ExitStack):
    self._sinks, self._opened = sinks, opened

  def write(
    self, step: int, values: Mapping[str, Any], *, split: str | None = None
  ) -> None:
    """Writes the values of a step.

    Args:
      step: how many steps are done.
      values: numbers, and what else JSON has, by name.
      split: what they were measured on, for example 'train'.
    """
    where = {} if split is None else {'split': split}
    for sink in self._sinks:
      sink.write({'step': int(step), **where, **values})

  def close(self) -> None:
    self._opened.close()

  def __exit__(self, *error: object) -> None:
    self.close()


def open_writer(
  directory: files.Path,
  *,
  last_step: int | None,
  is_main_process: bool = True,
  tensorboard: bool = True,
) -> Writer:
  """Opens metrics.jsonl and TensorBoard's events of a stage.

  Args:
    directory: created if missing.
    last_step: the step the stage goes on from, that of its checkpoint; what was
      written after it is dropped. None: it starts, and all is dropped.
    is_main_process: only this process of several writes.
    tensorboard: whether to write events too.

  Raises:
    HeldError: another writer is open there; nothing was changed.
    DiskError: the folder cannot be written to.
  """
  with contextlib.ExitStack() as opened:
    sinks: list[_Sink] = []
    if is_main_process:
      opened.enter_context(lock.take(directory))
      lines = files.JsonLines(pathlib.Path(directory) / 'metrics.jsonl')
      sinks.append(opened.enter_context(lines))
      lines.truncate_after(-1 if last_step is None else last_step)
    if is_main_process and tensorboard:
      events = TensorBoard(directory, last_step=last_step)
      sinks.append(opened.enter_context(events))
    return Writer(sinks, opened.pop_all())

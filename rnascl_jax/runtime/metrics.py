"""Metrics: exact means over examples, and the file that has them.

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
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp

from rnascl_jax.base import Array
from rnascl_jax.runtime import files, lock, sinks

# Sums over examples by name, and under 'count' how many examples there were.
Sums = dict[str, Array]
COUNT = 'count'


def accuracy(logits: Array, labels: Array) -> Array:
  """Whether the label has the largest logit; of equal ones the first counts.

  Args:
    logits: [B, K]. A row with a NaN is wrong, whatever its label.
    labels: [B], integers in [0, K); or [B, K], the classes' shares.

  Returns:
    [B], float32, 0 or 1; or the share of the class with the largest logit.
  """
  chex.assert_rank([logits, labels], [2, {1, 2}])
  chex.assert_equal_shape_prefix([logits, labels], labels.ndim)
  largest = jnp.argmax(logits, axis=-1)
  if labels.ndim == 2:
    right = jnp.take_along_axis(labels, largest[:, None], axis=-1)[:, 0]
  else:
    right = largest == labels
  valid = ~jnp.any(jnp.isnan(logits), axis=-1)
  if labels.ndim == 2:
    return jnp.where(valid, right, 0.0).astype(jnp.float32)
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


class Writer(contextlib.AbstractContextManager):
  """Writes every record to metrics.jsonl and to sinks, or to nothing."""

  def __init__(
    self,
    outputs: Sequence[files.JsonLines | sinks.Guarded],
    opened: contextlib.ExitStack,
  ):
    self._outputs, self._opened = outputs, opened

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
    for output in self._outputs:
      output.write({'step': int(step), **where, **values})

  def close(self) -> None:
    self._opened.close()

  def __exit__(self, *error: object) -> None:
    self.close()


def open_writer(
  directory: files.Path,
  *,
  last_step: int | None,
  is_main_process: bool = True,
  words: Sequence[str] = ('tensorboard',),
  facts: sinks.Facts | None = None,
) -> Writer:
  """Opens metrics.jsonl and the sinks of a stage.

  Args:
    directory: created if missing.
    last_step: the step the stage goes on from, that of its checkpoint; what was
      written after it is dropped. None: it starts, and all is dropped.
    is_main_process: only this process of several writes.
    words: the sinks, keys of `sinks.SINKS`.
    facts: what sinks are told of the stage.

  Raises:
    HeldError: another writer is open there; nothing was changed.
    DiskError: the folder cannot be written to.
  """
  with contextlib.ExitStack() as opened:
    outputs: list[files.JsonLines | sinks.Guarded] = []
    if is_main_process:
      folder = pathlib.Path(directory)
      opened.enter_context(lock.take(folder))
      lines = files.JsonLines(folder / 'metrics.jsonl')
      outputs.append(opened.enter_context(lines))
      lines.truncate_after(-1 if last_step is None else last_step)
      records = files.read_json_lines(folder / 'metrics.jsonl')
      for word in words:
        sink = sinks.Guarded(
          word,
          folder,
          facts or sinks.Facts(),
          last_step=last_step,
          records=records,
        )
        opened.callback(sink.close)
        outputs.append(sink)
    return Writer(outputs, opened.pop_all())

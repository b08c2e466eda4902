"""Saving and restoring with Orbax: the last and the best step of a stage.

A checkpoint is a nested dict of host arrays with JSON beside it, in a folder
named after its step. It appears under that name only when all of it is written:
a run killed while saving goes on from the checkpoint before. Saving returns
when the files are there: 0.2 s for 300 small arrays, most of it per array.

On several hosts every process calls the same functions on a shared file system,
with one replica of its state, and the first process writes. The replicas are
equal, so there are no global arrays to assemble from pmapped ones.

Example:
  >>> import tempfile
  >>> import numpy as np
  >>> from rnascl_jax import checkpoints
  >>> with checkpoints.Checkpoints(tempfile.mkdtemp()) as saved:
  ...   saved.save(10, {'w': np.ones(2)}, metric=0.7, extra={'epoch': 1})
  ...   saved.save(20, {'w': np.zeros(2)}, metric=0.6, extra={'epoch': 2})
  ...   print(saved.last_step(), saved.restore_best({'w': np.empty(2)}))
  20 Restored(step=10, state={'w': array([1., 1.])}, extra={'epoch': 1})
"""

import contextlib
import functools
import logging
import math
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from flax import traverse_util
from orbax.checkpoint import checkpoint_managers

from rnascl_jax import named_arrays, processes
from rnascl_jax.base import PyTree
from rnascl_jax.runtime import disk, lock

# Folders of exported variables, so that they may lie beside checkpoints.
_EXPORT = 'variables'
_NO_METRIC = -math.inf
# What Orbax calls a checkpoint that is not complete ends so.
_UNFINISHED = '.orbax-checkpoint-tmp'


class Restored(NamedTuple):
  """What was read from a checkpoint.

  Attributes:
    step: the step it was saved at.
    state: the template's containers with NumPy arrays; random keys are JAX
      arrays.
    extra: the JSON saved with it.
  """

  step: int
  state: PyTree
  extra: dict[str, Any]


class Checkpoints(contextlib.AbstractContextManager):
  """The last and the best checkpoint in a folder; other files may be in it."""

  def __init__(
    self,
    directory: str | os.PathLike[str],
    *,
    prefix: str | None = None,
    read_only: bool = False,
  ):
    """Opens a folder.

    Args:
      directory: created if missing.
      prefix: of the names of steps; others in the folder are not seen.
      read_only: saves nothing and removes nothing. Without it this is the
        folder's only writer, and what a killed one has left half written is
        removed.

    Raises:
      FileNotFoundError: `read_only` and there is no such folder.
      HeldError: another writer has opened the folder; nothing was changed.
      DiskError: the folder cannot be written to.
    """
    self._directory = pathlib.Path(directory).absolute()
    self._read_only = read_only
    if read_only and not self._directory.is_dir():
      raise FileNotFoundError(f'there is no directory {self._directory}.')
    last = checkpoint_managers.LatestN(1)
    best = checkpoint_managers.BestN(get_metric_fn=_metric, n=1)
    own = jax.process_index() if processes.count() > 1 else 0
    alone = ocp.options.MultiprocessingOptions(
      primary_host=own,
      active_processes={own},
      barrier_sync_key_prefix=f'reader{own}',
    )
    options = ocp.CheckpointManagerOptions(
      # Whoever only reads waits for nobody.
      multiprocessing_options=alone
      if read_only and processes.count() > 1
      else ocp.options.MultiprocessingOptions(),
      best_fn=_metric,
      preservation_policy=checkpoint_managers.AnyPreservationPolicy(
        [last, best]
      ),
      step_prefix=prefix,
      create=not read_only,
      cleanup_tmp_directories=not read_only,
      enable_async_checkpointing=False,
    )
    with contextlib.ExitStack() as stack:
      stack.enter_context(_quiet_orbax())
      if not read_only:
        processes.on_main(self._take, stack)
      self._manager = ocp.CheckpointManager(self._directory, options=options)
      stack.callback(self._manager.close)
      self._close = stack.pop_all().close

  def save(
    self,
    step: int,
    state: PyTree,
    *,
    metric: float | None = None,
    extra: Mapping[str, Any] | None = None,
  ) -> None:
    """Saves a step; afterwards only it and the best one are kept.

    Args:
      step: greater than the last one.
      state: any nesting of containers, see `named_arrays.from_state`; one
        replica of a replicated state.
      metric: what chooses the best step, higher is better, of equals the later.
        None or NaN: this step cannot be the best.
      extra: JSON to keep with it.

    Raises:
      ValueError: the step is not greater than the last one, or a leaf is not
        an array of numbers.
      DiskError: the disk is full, or the folder cannot be written to or was
        deleted; the checkpoints before are left as they are.
    """
    if self._read_only:
      raise ValueError(f'{self._directory} was opened with read_only=True.')
    last = self.last_step()
    if last is not None and step <= last:
      raise ValueError(
        f'step={step} must be greater than {last}, the last one that was saved '
        f'in {self._directory}.'
      )
    if metric is None or math.isnan(metric):
      metric = _NO_METRIC
    arrays = traverse_util.unflatten_dict(named_arrays.from_state(state))
    items = ocp.args.Composite(
      state=ocp.args.StandardSave(arrays),
      extra=ocp.args.JsonSave(dict(extra or {})),
    )
    metrics = {'metric': float(metric)}
    processes.on_main(lock.check, self._directory)
    _hide_closed_loops()
    try:
      with disk.explained(self._directory):
        self._manager.save(step, args=items, metrics=metrics, force=True)
    except disk.DiskError:
      for unfinished in self._directory.glob(f'*{_UNFINISHED}'):
        shutil.rmtree(unfinished, ignore_errors=True)
      lock.check(self._directory)
      raise

  def _take(self, stack: contextlib.ExitStack) -> None:
    """Makes this the only writer of the folder, as long as it is open."""
    stack.enter_context(lock.take(self._directory))

  def last_step(self) -> int | None:
    """The last step that was saved, or None."""
    return self._manager.latest_step()

  def best_step(self) -> int | None:
    """The step with the highest metric, or None if no step has one."""
    step = self._manager.best_step()
    if step is None or _metric(self._manager.metrics(step)) == _NO_METRIC:
      return None
    return step

  def restore_last(self, template: PyTree) -> Restored:
    """Restores the last step.

    Args:
      template: a state as it was saved, with arrays or `jax.ShapeDtypeStruct`.

    Raises:
      FileNotFoundError: nothing was saved.
      ValueError: it is of another architecture; the message names the first
        leaf that differs, with both shapes.
    """
    return self._restore(self.last_step(), template)

  def restore_best(self, template: PyTree) -> Restored:
    """Like `restore_last`, but the step with the highest metric."""
    return self._restore(self.best_step(), template)

  def close(self) -> None:
    """Releases what Orbax holds; everything is saved already."""
    self._close()

  def __exit__(self, *error: object) -> None:
    self.close()

  def _restore(self, step: int | None, template: PyTree) -> Restored:
    restored = self._read(step)
    arrays = traverse_util.flatten_dict(restored.state)
    source = f'step {step} in {self._directory}'
    state = named_arrays.into_template(template, arrays, source=source)
    return restored._replace(state=state)

  def _read(self, step: int | None) -> Restored:
    """The state as nested dicts; `step` is None if there is no such one."""
    if step is None:
      raise FileNotFoundError(f'no such checkpoint in {self._directory}.')
    items = ocp.args.Composite(
      state=ocp.args.StandardRestore(), extra=ocp.args.JsonRestore()
    )
    found = self._manager.restore(step, args=items)
    return Restored(step, found['state'], found['extra'])

  def _read_extra(self, step: int | None) -> dict[str, Any]:
    """The JSON beside a state; `step` is None if there is no such one."""
    if step is None:
      raise FileNotFoundError(f'no such checkpoint in {self._directory}.')
    items = ocp.args.Composite(extra=ocp.args.JsonRestore())
    return self._manager.restore(step, args=items)['extra']


def save_variables(
  directory: str | os.PathLike[str],
  variables: Mapping[str, Any],
  metadata: Mapping[str, Any],
) -> None:
  """Exports a network's variables in place of an earlier export.

  Args:
    directory: created if missing. Killed while saving, it has the old export.
    variables: nested dicts with strings as keys and NumPy or JAX arrays, none
      empty. A dict without arrays is not kept.
    metadata: JSON, for example what it takes to build the network.

  Raises:
    ValueError: a container is not a dict, or a leaf is not an array of numbers.
  """
  named_arrays.check_nested_dicts(variables)
  with Checkpoints(directory, prefix=_EXPORT) as exports:
    last = exports.last_step()
    step = 0 if last is None else last + 1
    exports.save(step, variables, extra=metadata)


def load_variables(
  directory: str | os.PathLike[str],
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Loads what `save_variables` saved, without knowing the network.

  Returns:
    variables: nested dicts of NumPy arrays.
    metadata: the JSON.

  Raises:
    FileNotFoundError: there is no export in the directory.
  """
  with Checkpoints(directory, prefix=_EXPORT, read_only=True) as exports:
    _, variables, metadata = exports._read(exports.last_step())
  return variables, metadata


def load_metadata(directory: str | os.PathLike[str]) -> dict[str, Any]:
  """Loads the JSON that `save_variables` saved, and no array.

  Raises:
    FileNotFoundError: there is no export in the directory.
  """
  with Checkpoints(directory, prefix=_EXPORT, read_only=True) as exports:
    return exports._read_extra(exports.last_step())


def _metric(metrics: Mapping[str, float]) -> float:
  return metrics['metric']


@contextlib.contextmanager
def _quiet_orbax() -> Iterator[None]:
  """Holds back Orbax's reports, a dozen a save, but no warnings of it.

  Nor are exceptions of its threads shown, which are raised here as well.
  """

  def keep(record: logging.LogRecord) -> bool:
    chatty = f'{os.sep}orbax{os.sep}' in record.pathname
    warns = record.levelno >= logging.WARNING and not record.exc_info
    return warns or not chatty

  logger = logging.getLogger('absl')
  logger.addFilter(keep)
  try:
    yield
  finally:
    logger.removeFilter(keep)


@functools.cache
def _hide_closed_loops() -> None:
  """Keeps threads of tensorstore from showing that Orbax has given up on them.

  One array that cannot be written is raised; the others come too late, for as
  long as a second, and would each leave a traceback.
  """
  shown = sys.unraisablehook

  def show(found: Any) -> None:
    if str(found.exc_value) != 'Event loop is closed':
      shown(found)

  sys.unraisablehook = show

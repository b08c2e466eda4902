"""Saving and restoring with Orbax: the last steps and the best of a stage.

A checkpoint is a nested dict of host arrays with JSON beside it, in a folder
named after its step, with the SHA-256 of every file in it. It gets that name
when all of it is written, so a run killed while saving goes on from the one
before. Digests are compared before anything is read, so a flipped bit never
becomes another number; if the last checkpoint of a run is damaged, the one
before is taken. A checkpoint is written by a thread while the program goes on;
whoever asks for what is saved waits for it.

On several hosts every process calls the same functions on a shared file system,
with one replica of its state, and the first process writes.

Example:
  >>> import tempfile
  >>> import numpy as np
  >>> from rnascl_jax.runtime import checkpoints
  >>> with checkpoints.Checkpoints(tempfile.mkdtemp()) as saved:
  ...   saved.save(10, {'w': np.ones(2)}, metric=0.7, extra={'epoch': 1})
  ...   saved.save(20, {'w': np.zeros(2)}, metric=0.6, extra={'epoch': 2})
  ...   print(saved.last_step(), saved.restore_best({'w': np.empty(2)}))
  20 Restored(step=10, state={'w': array([1., 1.])}, extra={'epoch': 1})
"""

import concurrent.futures
import contextlib
import copy
import functools
import json
import logging
import math
import os
import pathlib
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from flax import traverse_util

from rnascl_jax.base import PyTree
from rnascl_jax.runtime import (
  digests,
  disk,
  files,
  lock,
  named_arrays,
  paths,
  processes,
)

NO_METRIC = -math.inf
# Of the folder of a step while it is written or deleted.
_UNFINISHED = '.orbax-checkpoint-tmp'
# What a step consists of.
_STATE, EXTRA, _METRICS = 'state', 'extra/metadata', 'metrics/metrics'


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
  """The last two checkpoints in a folder and the best one."""

  # The names of steps begin with it; other files in the folder are not seen.
  _prefix = ''
  # With the last two, there is one to go on from where the last is damaged.
  _keep = 2

  def __init__(
    self, directory: str | os.PathLike[str], *, read_only: bool = False
  ):
    """Opens a folder.

    Args:
      directory: created if missing.
      read_only: saves nothing and removes nothing. Without it this is the
        folder's only writer, and what a killed one has left half written is
        removed.

    Raises:
      FileNotFoundError: `read_only` and there is no such folder.
      HeldError: another writer has opened the folder; nothing was changed.
      DiskError: the folder cannot be written to.
    """
    self._directory = paths.local(directory)
    self._read_only = read_only
    # Listed once: a shared file system may show processes different folders.
    self._steps: list[int] = []
    # A save that is under way, in all processes; the main one writes.
    self._saving = False
    self._writing: concurrent.futures.Future[None] | None = None
    with contextlib.ExitStack() as held:
      if not read_only:
        self._change(self._prepare, held)
      elif self._directory.is_dir():
        self._steps = self._list()
      else:
        raise FileNotFoundError(f'there is no directory {self._directory}.')
      self._writer = held.enter_context(
        concurrent.futures.ThreadPoolExecutor(1, 'checkpoints')
      )
      self._held = held.pop_all()

  def save(
    self,
    step: int,
    state: PyTree,
    *,
    metric: float | None = None,
    extra: Mapping[str, Any] | None = None,
  ) -> None:
    """Begins to save a step; then only the last two and the best are kept.

    Args:
      step: greater than the last one.
      state: see `named_arrays.from_state`; one replica of a replicated state.
        Its arrays are not to change before `wait`.
      metric: the step with the highest is the best, of equals the later. None
        or NaN: this step cannot be the best.
      extra: JSON to keep with it, as it is now.

    Raises:
      ValueError: the step is not greater than the last one, or a leaf is not
        an array of numbers.
      DiskError: by the save before, see `wait`.
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
      metric = NO_METRIC
    arrays = traverse_util.unflatten_dict(named_arrays.from_state(state))
    # A copy, as the program goes on beside the save.
    extra = copy.deepcopy(dict(extra or {}))
    processes.on_main(self._begin, step, arrays, float(metric), extra)
    self._saving = True

  def _begin(self, *arguments: Any) -> None:
    # Here, since locks are taken and released by this thread.
    lock.check(self._directory)
    self._writing = self._writer.submit(self._write, *arguments)

  def wait(self) -> None:
    """Waits until what was begun is saved.

    Raises:
      DiskError: the disk is full, or the folder cannot be written to or was
        deleted; the checkpoints before are left as they are.
    """
    if self._saving:
      self._saving = False
      self._change(self._finish)

  def _finish(self) -> None:
    assert self._writing is not None  # The main process has begun it.
    self._writing.result()

  def last_step(self) -> int | None:
    """The last step that was saved, or None."""
    self.wait()
    return self._steps[-1] if self._steps else None

  def best_step(self) -> int | None:
    """The step with the highest metric, or None if no step has one.

    Raises:
      DamagedFileError: the metric of a step cannot be read.
    """
    self.wait()
    metrics = {step: self._metric(step) for step in self._steps}
    best = _best(metrics) if metrics else None
    return None if best is None or metrics[best] == NO_METRIC else best

  def restore_last(self, template: PyTree) -> Restored:
    """Restores the last step.

    A step that is damaged is set aside, with a warning, and the last one that
    is not is taken; if the folder was opened to be read only, it is refused.

    Args:
      template: a state as it was saved, with arrays or `jax.ShapeDtypeStruct`.

    Raises:
      FileNotFoundError: nothing was saved.
      DamagedFileError: every step is damaged; or the best of those before the
        last one, without which the run would come to another result.
      ValueError: see `named_arrays.into_template`.
    """
    if self._read_only:
      return self._restore(self.last_step(), template)
    self.wait()
    self._change(self._set_damaged_aside)
    return processes.together(self._restore, self.last_step(), template)

  def restore_best(self, template: PyTree) -> Restored:
    """Like `restore_last`, but the step with the highest metric.

    Raises:
      DamagedFileError: it is damaged, or the metric of any step is.
    """
    return self._restore(self.best_step(), template)

  def close(self) -> None:
    """Lets others write in the folder when everything is saved.

    Raises:
      DiskError: see `wait`.
    """
    with self._held:
      self.wait()

  def __exit__(self, *error: object) -> None:
    self.close()

  def _change(self, function: Callable[..., None], *arguments: Any) -> None:
    """Has the main process change the folder, and tells all of the steps."""
    processes.on_main(function, *arguments)
    self._steps = processes.from_main(self._steps)

  def _list(self) -> list[int]:
    """All steps in the folder, increasing."""
    steps = [
      path.name.removeprefix(self._prefix)
      for path in self._directory.glob(f'{self._prefix}*')
    ]
    return sorted(int(step) for step in steps if step.isdecimal())

  def _folder(self, step: int | None) -> pathlib.Path:
    """The folder of a step; `step` is None if there is no such one."""
    if step is None:
      raise FileNotFoundError(f'no such checkpoint in {self._directory}.')
    return self._directory / f'{self._prefix}{step}'

  @property
  def _remedy(self) -> str:
    """What the user can do about a damaged step."""
    return (
      f'Restore it from a copy, or delete {self._directory} to begin this '
      'stage anew.'
    )

  def _prepare(self, held: contextlib.ExitStack) -> None:
    """Becomes the folder's only writer, and removes what a killed one left."""
    if self._directory.is_file():
      raise files.damaged(self._directory, 'it is no folder', self._remedy)
    held.enter_context(lock.take(self._directory))
    for path in self._directory.glob(f'*{_UNFINISHED}'):
      _remove(path)
    self._steps = self._list()

  def _write(
    self,
    step: int,
    arrays: dict[str, Any],
    metric: float,
    extra: Mapping[str, Any],
  ) -> None:
    """Writes a step, and removes those that it makes superfluous."""
    metrics = {other: self._metric(other) for other in self._steps}
    metrics[step] = metric
    best = _best(metrics)
    folder = self._folder(step)
    # Threads of a save that failed may still write into the folder of theirs.
    name = f'{folder.name}.{secrets.token_hex(4)}{_UNFINISHED}'
    unfinished = folder.with_name(name)
    _hide_closed_loops()
    try:
      with disk.explained(self._directory):
        unfinished.mkdir()
        with _orbax() as checkpointer:
          checkpointer.save(
            unfinished / _STATE, args=ocp.args.StandardSave(arrays)
          )
        files.write_json(unfinished / EXTRA, extra)
        files.write_json(
          unfinished / _METRICS, {'metric': metric, 'best': best}
        )
        digests.write(unfinished)
        unfinished.rename(folder)
      self._steps.append(step)
    finally:
      shutil.rmtree(unfinished, ignore_errors=True)
    for other in self._steps[: -self._keep]:
      if other != best:
        with disk.explained(self._folder(other)):
          _delete(self._folder(other))
        self._steps.remove(other)

  def _set_damaged_aside(self) -> None:
    """Renames damaged steps; raises if what is left is not enough to go on."""
    damaged: dict[int, files.DamagedFileError] = {}
    aside = {s: self._directory / f'damaged_{s}' for s in self._steps}
    for step in self._steps:
      try:
        remedy = f'This checkpoint is set aside as {aside[step]}.'
        digests.check(self._folder(step), remedy=remedy)
      except files.DamagedFileError as error:
        damaged[step] = error
    whole = [step for step in self._steps if step not in damaged]
    # The best step when the last whole one was saved.
    needed = self.last_step()
    if whole:
      needed = self.read_json(whole[-1], _METRICS).get('best')
    if needed in damaged:
      digests.check(self._folder(needed), remedy=self._remedy)
    for step, damage in damaged.items():
      _remove(aside[step])
      self._folder(step).rename(aside[step])
      absl_logging.warning('%s Step %d is gone on from.', damage, whole[-1])
    self._steps = whole

  def _metric(self, step: int) -> float:
    return self.read_json(step, _METRICS)['metric']

  def _restore(self, step: int | None, template: PyTree) -> Restored:
    restored = self.read(step)
    state = named_arrays.into_template(
      template,
      traverse_util.flatten_dict(restored.state),
      source=f'step {step} in {self._directory}',
    )
    return restored._replace(state=state)

  def read(self, step: int | None) -> Restored:
    """The state as nested dicts."""
    folder, extra = self._folder(step), self.read_json(step, EXTRA)
    # Orbax reads arrays side by side: of damaged ones it would raise one error,
    # and print others from threads that outlive the call.
    digests.check(folder, remedy=self._remedy)
    with _orbax() as checkpointer:
      state = checkpointer.restore(
        folder / _STATE, args=ocp.args.StandardRestore()
      )
    return Restored(step or 0, state, extra)

  def read_json(self, step: int | None, name: str) -> dict[str, Any]:
    """The JSON beside a state."""
    content = digests.read(self._folder(step), name, remedy=self._remedy)
    return files.from_json(json.loads(content))


def _best(metrics: Mapping[int, float]) -> int:
  """The step with the highest metric, of equals the later."""
  return max(metrics, key=lambda step: (metrics[step], step))


def _delete(folder: pathlib.Path) -> None:
  """Deletes a step: renamed first, so a kill leaves all of it or none."""
  unfinished = folder.with_name(f'{folder.name}{_UNFINISHED}')
  folder.rename(unfinished)
  _remove(unfinished)


def _remove(path: pathlib.Path) -> None:
  """Deletes a folder, or the file in its place, if there is one."""
  if path.is_dir():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _orbax() -> Iterator[ocp.Checkpointer]:
  """What reads and writes arrays on this process, and waits for no other."""
  options = ocp.options.MultiprocessingOptions()
  if processes.count() > 1:
    own = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
      primary_host=own,
      active_processes={own},
      barrier_sync_key_prefix=f'alone{own}',
    )
  logger = logging.getLogger('absl')
  logger.addFilter(_is_shown)
  try:
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=options)
    with ocp.Checkpointer(handler, multiprocessing_options=options) as orbax:
      yield orbax
  finally:
    logger.removeFilter(_is_shown)


def _is_shown(record: logging.LogRecord) -> bool:
  """Whether a line is not one of the dozen that Orbax reports of each save.

  Its warnings are shown; exceptions of its threads are raised here as well.
  """
  warns = record.levelno >= logging.WARNING and not record.exc_info
  return warns or f'{os.sep}orbax{os.sep}' not in record.pathname


@functools.cache
def _hide_closed_loops() -> None:
  """Hides tracebacks of tensorstore's threads after a save has failed.

  Orbax raises the error of the first array that cannot be written and closes
  its event loop. The threads of the other arrays then fail to report to it, up
  to a second later, and each would print a traceback.
  """
  shown = sys.unraisablehook

  def show(unraisable: Any) -> None:
    if str(unraisable.exc_value) != 'Event loop is closed':
      shown(unraisable)

  sys.unraisablehook = show

"""Runs a stage: dispatches, validation, checkpoints, signals, broken numbers.

A stage is a number of epochs of one mapped step. Its state is saved every few
epochs and when the process is asked to stop, always between two dispatches; a
run that goes on from a checkpoint does exactly what it would have done without
the break, down to the last bit (on a CPU) and to the same `metrics.jsonl`.

Several steps may run in one dispatch (`lax.scan`): indices of images go in,
metrics of all steps come out, and the host waits only for the dispatch before.
"""

import collections
import contextlib
import dataclasses
import functools
import math
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
from absl import logging
from jax import lax

from rnascl_jax import checkpoints, interrupts, metrics, parallel, progress
from rnascl_jax.base import Array, PyTree
from rnascl_jax.steps import Batch

# Dispatches that may wait in the queue before the host waits for the oldest.
_IN_FLIGHT = 2


class NonFiniteLossError(RuntimeError):
  """Training ran into a loss that is not a number."""


@dataclasses.dataclass(frozen=True)
class Stage:
  """What `run` needs to know.

  Attributes:
    name: shown in progress and errors.
    directory: for checkpoints and metrics.
    step: (state, context, *batches) -> (state, sums), for one device.
    parts: sizes of the parts of a global batch, one for each of the batches.
    epochs: how many.
    steps_per_epoch: how many.
    steps_per_dispatch: how many in one program.
    checkpoint_every: epochs between validations and checkpoints.
    order: epoch -> indices [steps_per_epoch, sum of parts] of images.
    validate: replicated state -> metrics; `selection` chooses the best.
    annotate: (replicated state, epochs done) -> further metrics of training.
    max_drop: the stage ends where `adversarial_accuracy`, a share, falls by
      more than this below its best so far: the network has overfitted to the
      attack it is trained on. 0 never ends it.
  """

  name: str
  directory: pathlib.Path
  step: Callable[..., tuple[PyTree, dict[str, Array]]]
  parts: tuple[int, ...]
  epochs: int
  steps_per_epoch: int
  steps_per_dispatch: int
  checkpoint_every: int
  order: Callable[[int], np.ndarray]
  validate: Callable[[PyTree], dict[str, float]]
  annotate: Callable[[PyTree, int], dict[str, float]]
  max_drop: float = 0.0


class Result(NamedTuple):
  """What a stage has come to.

  Attributes:
    state: the last one, on the host.
    seconds: all of it took.
    collapse: the drop that ended it before its time, or None.
  """

  state: PyTree
  seconds: float
  collapse: dict[str, float] | None


@functools.lru_cache(maxsize=8)
def make_dispatch(
  step: Callable[..., Any], over: tuple[jax.Device, ...]
) -> Callable[..., Any]:
  """Maps steps over devices: (state, context, data, rows) -> (state, sums).

  Stages that share a step share the compiled program.
  """

  def run(state, context, data, rows):
    def one(state, parts):
      batches, offset = [], 0
      for part in parts:
        where = offset + parallel.positions(part.shape[0])
        batches.append(Batch(data.images[part], data.labels[part], where))
        offset += part.shape[0] * len(over)
      return step(state, context, *batches)

    if rows[0].shape[0] > 1:
      return lax.scan(one, state, rows)
    state, sums = one(state, tuple(part[0] for part in rows))
    return state, jax.tree.map(lambda x: x[None], sums)

  return parallel.pmap(run, over, donate=(0,))


def _shares(stage: Stage, rows: np.ndarray, devices: int) -> tuple:
  """Indices [n, B] as one array [devices, n, part / devices] for each part."""
  bounds = np.cumsum(stage.parts)[:-1]
  return tuple(
    parallel.shard(part, devices, axis=1)
    for part in np.split(rows, bounds, axis=1)
  )


@dataclasses.dataclass
class _Position:
  """Where a run stands.

  Attributes:
    step: steps done.
    sums: metrics of the open epoch.
    seconds: of all processes before this one.
    robust: the best `adversarial_accuracy` so far, or None.
  """

  step: int
  sums: dict[str, list[float]]
  seconds: float
  robust: float | None = None

  def extend(self, sums: dict[str, np.ndarray]) -> None:
    for name, values in sums.items():
      self.sums.setdefault(name, []).extend(float(v) for v in values)


def _means(sums: dict[str, list[float]]) -> dict[str, float]:
  """Metrics of an epoch, from those of its steps."""
  totals = {name: math.fsum(values) for name, values in sums.items()}
  count = totals.pop('count')
  return {name: total / count for name, total in totals.items()}


def run(
  stage: Stage,
  state: PyTree,
  context: PyTree,
  data: PyTree,
  over: Sequence[jax.Device],
) -> Result:
  """Runs a stage to its end, from its last checkpoint if there is one.

  Args:
    stage: what to run.
    state: at step 0, on one device or the host; it has an attribute `step`.
    context: what the step uses and does not change, not replicated.
    data: with `images` and `labels`, not replicated.
    over: devices.

  Returns:
    The final state, and what is to be said of it. A stage that ended because
    of `max_drop` has its last good state among its checkpoints, as the best.

  Raises:
    NonFiniteLossError: if the loss is not finite; nothing is saved after the
      last good checkpoint, which the message names.
    Interrupted: after SIGTERM or SIGINT, when everything is saved.
  """
  runner = _Runner(stage, state, context, data, over)
  with contextlib.closing(runner), interrupts.stop_on_signal() as stop:
    return runner.run(stop)


class _Runner:
  """The parts of `run` that share open files."""

  def __init__(self, stage, state, context, data, over):
    self._stage, self._over = stage, over
    self._context = parallel.replicate(context, over)
    self._data = parallel.replicate(data, over)
    self._dispatch = make_dispatch(stage.step, tuple(over))
    self._saved = checkpoints.Checkpoints(stage.directory / 'checkpoints')
    self._at = _Position(0, {}, 0.0)
    if self._saved.last_step() is not None:
      restored = self._saved.restore_last(state)
      state = restored.state
      self._at = _Position(restored.step, **restored.extra)
    self._state = parallel.replicate(state, over)
    main = parallel.is_main_process()
    self._writer = metrics.open_writer(
      stage.directory, last_step=self._at.step, is_main_process=main
    )
    self._progress = progress.Progress(
      stage.epochs * stage.steps_per_epoch,
      initial=self._at.step,
      description=stage.name,
      is_main_process=main,
    )
    self._started = time.monotonic() - self._at.seconds

  def close(self) -> None:
    self._progress.close()
    self._writer.close()
    self._saved.close()

  def run(self, stop: interrupts.Stop) -> Result:
    stage = self._stage
    collapse = None
    for epoch in range(self._at.step // stage.steps_per_epoch, stage.epochs):
      self._run_epoch(epoch, stop)
      collapse = self._finish_epoch(epoch + 1)
      if collapse:
        break
      if stop.signum:
        self._save_and_exit(stop.signum)
    final = parallel.unreplicate(self._state)
    return Result(final, time.monotonic() - self._started, collapse)

  def _run_epoch(self, epoch: int, stop: interrupts.Stop) -> None:
    stage = self._stage
    order = stage.order(epoch)
    queue: collections.deque = collections.deque()
    first = self._at.step - epoch * stage.steps_per_epoch
    while first < stage.steps_per_epoch:
      rows = order[first : first + stage.steps_per_dispatch]
      self._state, sums = self._dispatch(
        self._state,
        self._context,
        self._data,
        _shares(stage, rows, len(self._over)),
      )
      queue.append((len(rows), sums))
      first += len(rows)
      while len(queue) > _IN_FLIGHT or (queue and self._must_wait()):
        self._collect(queue)
      if stop.signum and first < stage.steps_per_epoch:
        while queue:
          self._collect(queue)
        self._save_and_exit(stop.signum)
    while queue:
      self._collect(queue)

  def _must_wait(self) -> bool:
    # Collectives of several virtual CPU devices deadlock if they pile up.
    return len(self._over) > 1 and self._over[0].platform == 'cpu'

  def _collect(self, queue: collections.deque) -> None:
    """Waits for the oldest dispatch and reads its metrics."""
    steps, sums = queue.popleft()
    sums = parallel.unreplicate(sums)
    self._check_finite(sums)
    self._at.extend(sums)
    self._at.step += steps
    count = sums['count'].sum()
    self._progress.update(
      self._at.step,
      {name: sums[name].sum() / count for name in ('loss', 'accuracy')},
    )

  def _check_finite(self, sums: dict[str, np.ndarray]) -> None:
    bad = ~np.isfinite(sums['loss'] + sums.get('arch_loss', 0.0))
    if not bad.any():
      return
    offset = int(np.argmax(bad))
    terms = {name: float(v[offset]) for name, v in sums.items()}
    self._fail(
      self._at.step + offset,
      f'the loss is not finite; sums over the batch: {terms}',
    )

  def _fail(self, step: int, what: str) -> NoReturn:
    last = self._saved.last_step()
    good = 'there is no checkpoint yet'
    if last is not None:
      path = self._stage.directory / 'checkpoints' / str(last)
      good = f'the last good checkpoint is {path}'
    raise NonFiniteLossError(
      f'{self._stage.name}, step {step} (epoch '
      f'{step // self._stage.steps_per_epoch}): {what}; {good}. Lower the '
      'learning rate or the loss weights.'
    )

  def _finish_epoch(self, done: int) -> dict[str, float] | None:
    """Writes the epoch's metrics; validates and saves if it is time.

    Returns:
      The drop that is to end the stage, if there is one; nothing is saved then.
    """
    stage = self._stage
    values = {
      **_means(self._at.sums),
      **stage.annotate(self._state, done),
    }
    self._at.sums = {}
    step = self._at.step
    self._writer.write(step, {'epoch': done, **values}, split='train')
    if done % stage.checkpoint_every and done < stage.epochs:
      return None
    measured = stage.validate(self._state)
    selection = measured.pop('selection')
    if measured:
      self._writer.write(step, {'epoch': done, **measured}, split='validation')
    robust = measured.get('adversarial_accuracy')
    if robust is not None:
      before = self._at.robust
      self._at.robust = max(robust, before or 0.0)
      if before and stage.max_drop and robust < before - stage.max_drop:
        return self._collapsed(done, before, robust)
    self._save(selection)
    return None

  def _collapsed(
    self, epoch: int, before: float, now: float
  ) -> dict[str, float]:
    logging.warning(
      '%s has overfitted to the attack it is trained on: its accuracy under '
      'PGD on the validation images fell from %.1f to %.1f %% (epoch %d). '
      'Training ends, and its best checkpoint is used. A smaller step of the '
      'attack or a lower learning rate may help.',
      self._stage.name,
      100 * before,
      100 * now,
      epoch,
    )
    return {'epoch': epoch, 'best': before, 'fell_to': now}

  def _save(self, selection: float | None) -> None:
    host = parallel.unreplicate(self._state)
    # The last update may have broken what the loss before it did not show.
    if not all(_is_finite(leaf) for leaf in jax.tree.leaves(host)):
      self._fail(self._at.step, 'the state is not finite')
    extra = {
      'sums': self._at.sums,
      'seconds': time.monotonic() - self._started,
      'robust': self._at.robust,
    }
    self._saved.save(self._at.step, host, metric=selection, extra=extra)

  def _save_and_exit(self, signum: int) -> None:
    if self._saved.last_step() != self._at.step:
      self._save(None)
    logging.info(
      '%s was stopped after step %d and saved; the same command goes on.',
      self._stage.name,
      self._at.step,
    )
    raise interrupts.Interrupted(128 + signum)


def _is_finite(array: np.ndarray) -> bool:
  if not jax.numpy.issubdtype(array.dtype, jax.numpy.floating):
    return True
  return bool(np.isfinite(array.astype(np.float32)).all())


def restore(stage_directory: pathlib.Path, template: PyTree, select: str):
  """The 'last' or 'best' state that a finished stage saved, and its step."""
  path = stage_directory / 'checkpoints'
  with checkpoints.Checkpoints(path, read_only=True) as saved:
    if select == 'best':
      return saved.restore_best(template)
    return saved.restore_last(template)

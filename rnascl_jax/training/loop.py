"""Runs a stage: dispatches, validation, checkpoints, signals, broken numbers.

A stage is a number of epochs of one mapped step. Its state is saved every few
epochs and when the process is asked to stop, always between two dispatches; a
run that goes on from a checkpoint does exactly what it would have done without
the break, down to the last bit (on a CPU) and to the same `metrics.jsonl`.

Several steps may run in one dispatch (`lax.scan`): images or their indices go
in (`feeds`), metrics of all steps come out, and the host waits only for the
dispatch before.

With several processes a signal to any of them stops all, at the same step: each
tells with every dispatch whether it was asked to stop.
"""

import collections
import contextlib
import dataclasses
import functools
import math
import pathlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
from absl import logging
from jax import lax

from rnascl_jax.base import Array, PyTree
from rnascl_jax.runtime import (
  checkpoints,
  metrics,
  parallel,
  processes,
  progress,
  signals,
)
from rnascl_jax.training import loader
from rnascl_jax.training.loader import Dispatch, Loader, Schedule
from rnascl_jax.training.train_state import Batch

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
    schedule: which images each step sees; a batch has a part for each of the
      step's batches.
    checkpoint_every: epochs between validations and checkpoints.
    validate: replicated state -> metrics; `selection` chooses the best.
    annotate: (replicated state, epochs done) -> further metrics of training.
    max_drop: the stage ends where `adversarial_accuracy`, a share, falls by
      more than this below its best so far: the network has overfitted to the
      attack it is trained on. 0 never ends it.
  """

  name: str
  directory: pathlib.Path
  step: Callable[..., tuple[PyTree, dict[str, Array]]]
  schedule: Schedule
  checkpoint_every: int
  validate: Callable[[PyTree], dict[str, float]]
  annotate: Callable[[PyTree, int], dict[str, float]]
  max_drop: float = 0.0


class Result(NamedTuple):
  """What a stage has come to.

  Attributes:
    state: the last one, on the host.
    seconds: all of it took.
    waited: seconds of them, since the last start, that steps waited for images.
    collapse: the drop that ended it before its time, or None.
  """

  state: PyTree
  seconds: float
  waited: float
  collapse: dict[str, float] | None


@functools.lru_cache(maxsize=8)
def make_dispatch(
  step: Callable[..., Any],
  over: tuple[jax.Device, ...],
  read: Callable[..., tuple[Array, Array, Array]] = loader.Resident.read,
) -> Callable[..., Any]:
  """Maps steps over devices: (state, context, data, given) -> (state, sums).

  Stages that share a step share the compiled program.

  Args:
    step: for one device.
    over: devices.
    read: of a data_loader, whose data and dispatches the program is given.
  """

  def run(state, context, data, given):
    def one(state, parts):
      batches, offset = [], 0
      for part in parts:
        images, labels, indices = read(data, part)
        where = offset + parallel.positions(labels.shape[0])
        batches.append(Batch(images, labels, where, indices))
        offset += labels.shape[0] * len(over)
      return step(state, context, *batches)

    if jax.tree.leaves(given)[0].shape[0] > 1:
      return lax.scan(one, state, given)
    state, sums = one(state, jax.tree.map(lambda x: x[0], given))
    return state, jax.tree.map(lambda x: x[None], sums)

  return parallel.pmap(run, over, donate=(0,))


@functools.lru_cache(maxsize=2)
def _ballot(over: tuple[jax.Device, ...]) -> Callable[..., Any]:
  """Counts devices whose process was asked to stop."""
  return parallel.pmap(parallel.psum, over)


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
  data_loader: Loader,
  over: Sequence[jax.Device],
) -> Result:
  """Runs a stage to its end, from its last checkpoint if there is one.

  Args:
    stage: what to run.
    state: at step 0, on one device or the host; it has an attribute `step`.
    context: what the step uses and does not change, not replicated.
    data_loader: images.
    over: devices.

  Returns:
    The final state, and what is to be said of it. A stage that ended because
    of `max_drop` has its last good state among its checkpoints, as the best.

  Raises:
    NonFiniteLossError: if the loss is not finite; nothing is saved after the
      last good checkpoint, which the message names.
    Interrupted: after SIGTERM or SIGINT, when everything is saved.
  """
  runner = _Runner(stage, state, context, data_loader, over)
  with contextlib.closing(runner), signals.stop_on_signal() as stop:
    result = runner.run(stop)
    # One that came after the last vote.
    if processes.any_true(stop.signum is not None):
      raise _interrupted(stop)
    return result


def _interrupted(stop: signals.Stop) -> signals.Interrupted:
  # Another process may be the one that was asked.
  return signals.Interrupted(128 + (stop.signum or signal.SIGTERM))


class _Runner:
  """The parts of `run` that share open files."""

  def __init__(self, stage, state, context, data_loader, over):
    self._stage, self._over, self._loader = stage, over, data_loader
    self._context = parallel.replicate(context, over)
    self._data = parallel.replicate(data_loader.data, over)
    self._dispatch = make_dispatch(stage.step, tuple(over), data_loader.read)
    self._told_to_stop = False
    with contextlib.ExitStack() as opened:
      self._open(stage, state, opened)
      self.close = opened.pop_all().close

  def _open(self, stage, state, opened: contextlib.ExitStack):
    """Opens the stage's files and finds where it stands."""
    self._saved = opened.enter_context(
      checkpoints.Checkpoints(stage.directory / 'checkpoints')
    )
    self._at = _Position(0, {}, 0.0)
    if self._saved.last_step() is not None:
      restored = self._saved.restore_last(state)
      state = restored.state
      self._at = _Position(restored.step, **restored.extra)
    processes.check_agreement('checkpoint', f'step={self._at.step}')
    self._state = parallel.replicate(state, self._over)
    main = processes.is_main()
    self._writer = processes.together(
      metrics.open_writer,
      stage.directory,
      last_step=self._at.step,
      is_main_process=main,
    )
    opened.callback(self._writer.close)
    self._progress = progress.Progress(
      stage.schedule.steps,
      initial=self._at.step,
      description=stage.name,
      is_main_process=main,
    )
    opened.callback(self._progress.close)
    self._started = time.monotonic() - self._at.seconds

  def run(self, stop: signals.Stop) -> Result:
    collapse = None
    schedule, over = self._stage.schedule, self._over
    first = self._at.step
    given = self._loader.dispatches(schedule, first, over)
    with contextlib.closing(given):
      for epoch in range(first // schedule.steps_per_epoch, schedule.epochs):
        self._run_epoch(epoch, given, stop)
        collapse = self._finish_epoch(epoch + 1)
        if collapse:
          break
        if self._is_stopping(stop):
          self._save_and_exit(stop)
    final = parallel.unreplicate(self._state, self._over)
    seconds = time.monotonic() - self._started
    return Result(final, seconds, self._loader.waited, collapse)

  def _run_epoch(
    self, epoch: int, given: Iterator[Dispatch], stop: signals.Stop
  ) -> None:
    end = (epoch + 1) * self._stage.schedule.steps_per_epoch
    queue: collections.deque = collections.deque()
    ahead = self._at.step
    while ahead < end:
      steps, rows = next(given)
      self._state, sums = self._dispatch(
        self._state, self._context, self._data, rows
      )
      queue.append((steps, sums, self._vote(stop)))
      ahead += steps
      while len(queue) > _IN_FLIGHT or (queue and self._must_wait()):
        self._collect(queue)
      if self._is_stopping(stop) and ahead < end:
        while queue:
          self._collect(queue)
        self._save_and_exit(stop)
    while queue:
      self._collect(queue)

  def _vote(self, stop: signals.Stop) -> Array | None:
    """Tells the other processes, if there are any, whether to stop."""
    if processes.count() == 1:
      return None
    own = parallel.here(self._over)
    asked = np.full(len(own), stop.signum is not None, np.int32)
    return _ballot(tuple(self._over))(asked)

  def _is_stopping(self, stop: signals.Stop) -> bool:
    """Whether to stop, at the same step in all processes."""
    if processes.count() == 1:
      return stop.signum is not None
    return self._told_to_stop

  def _must_wait(self) -> bool:
    # Collectives of several virtual CPU devices deadlock if they pile up.
    return len(self._over) > 1 and self._over[0].platform == 'cpu'

  def _collect(self, queue: collections.deque) -> None:
    """Waits for the oldest dispatch and reads its metrics."""
    steps, sums, votes = queue.popleft()
    sums = parallel.unreplicate(sums)
    if votes is not None:
      self._told_to_stop |= bool(parallel.unreplicate(votes))
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
    epoch = step // self._stage.schedule.steps_per_epoch
    raise NonFiniteLossError(
      f'{self._stage.name}, step {step} (epoch {epoch}): {what}; {good}. Lower '
      'the learning rate or the loss weights.'
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
    self._write('train', {'epoch': done, **values})
    if done % stage.checkpoint_every and done < stage.schedule.epochs:
      return None
    measured = stage.validate(self._state)
    selection = measured.pop('selection')
    if measured:
      self._write('validation', {'epoch': done, **measured})
    robust = measured.get('adversarial_accuracy')
    if robust is not None:
      before = self._at.robust
      self._at.robust = max(robust, before or 0.0)
      if before and stage.max_drop and robust < before - stage.max_drop:
        return self._collapsed(done, before, robust)
    self._save(selection)
    return None

  def _write(self, split: str, values: dict[str, float]) -> None:
    """Writes metrics on the main process; a full disk ends all of them."""
    processes.on_main(self._writer.write, self._at.step, values, split=split)

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
    host = parallel.unreplicate(self._state, self._over)
    # The last update may have broken what the loss before it did not show.
    if not all(_is_finite(leaf) for leaf in jax.tree.leaves(host)):
      self._fail(self._at.step, 'the state is not finite')
    extra = {
      'sums': self._at.sums,
      'seconds': time.monotonic() - self._started,
      'robust': self._at.robust,
    }
    self._saved.save(self._at.step, host, metric=selection, extra=extra)

  def _save_and_exit(self, stop: signals.Stop) -> NoReturn:
    if self._saved.last_step() != self._at.step:
      self._save(None)
    logging.info(
      '%s was stopped after step %d and saved; the same command goes on.',
      self._stage.name,
      self._at.step,
    )
    raise _interrupted(stop)


def _is_finite(array: np.ndarray) -> bool:
  if not jax.numpy.issubdtype(array.dtype, jax.numpy.floating):
    return True
  return bool(np.isfinite(array.astype(np.float32)).all())


def restore(stage_directory: pathlib.Path, template: PyTree, select: str):
  """The 'last' or 'best' state that a finished stage saved, and its step."""
  path = stage_directory / 'checkpoints'
  with checkpoints.Checkpoints(path, read_only=True) as saved:
    best = select == 'best'
    restored = saved.restore_best if best else saved.restore_last
    return processes.together(restored, template)

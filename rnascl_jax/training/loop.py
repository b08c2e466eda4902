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
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

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
  profiler,
  progress,
  signals,
)
from rnascl_jax.runtime.sinks import Facts
from rnascl_jax.training import loader
from rnascl_jax.training.loader import BatchSchedule, Loader
from rnascl_jax.training.statistics import StatisticsState
from rnascl_jax.training.train_state import Batch

# Dispatches that may run before the host waits for the oldest.
_IN_FLIGHT = 2
_OVERFITTED = (
  '%s has overfitted to the attack it is trained on: its accuracy under PGD on '
  'the validation images fell from %.1f to %.1f %% (epoch %d). Training ends, '
  'and its best checkpoint is used. A smaller step of the attack or a lower '
  'learning rate may help.'
)


class NonFiniteLossError(RuntimeError):
  """Training ran into a loss that is not a number."""


@dataclasses.dataclass(frozen=True)
class Stage:
  """What `run` needs to know.

  Attributes:
    name: shown in progress and errors.
    directory: for checkpoints and metrics.
    step: (state, context, *batches) -> (state, sums), for one device.
    data_loader: of the images.
    schedule: which images each step sees; a batch has a part for each of the
      step's batches.
    checkpoint_every: epochs between validations and checkpoints.
    select: which state is used afterwards, the 'last' or the 'best'.
    validate: replicated state -> metrics; `selection` chooses the best.
    annotate: (replicated state, epochs done) -> further metrics of training.
    max_drop: the stage ends where `adversarial_accuracy`, a share, falls by
      more than this below its best so far: the network has overfitted to the
      attack it is trained on. 0 never ends it.
    sinks: where metrics go besides metrics.jsonl and TensorBoard.
    facts: what sinks are told of the stage.
    profile_steps: which steps are traced; None for none.
    statistics_step: of a pass over an epoch's images, which computes the
      statistics of the state's average anew before it is validated and saved,
      see `statistics`; None keeps those it has.
    statistics_from: epochs done from which on it is.
  """

  name: str
  directory: pathlib.Path
  step: Callable[..., tuple[PyTree, dict[str, Array]]]
  data_loader: Loader
  schedule: BatchSchedule
  checkpoint_every: int
  select: str
  validate: Callable[[PyTree], dict[str, float]]
  annotate: Callable[[PyTree, int], dict[str, float]]
  max_drop: float = 0.0
  sinks: Sequence[str] = ()
  facts: Facts = Facts()
  profile_steps: range | None = None
  statistics_step: Callable[..., tuple[PyTree, dict[str, Array]]] | None = None
  statistics_from: int = 0

  def is_due(self, done: int) -> bool:
    """Whether the state is validated and saved after so many epochs."""
    return not done % self.checkpoint_every or done >= self.schedule.epochs


@functools.lru_cache(maxsize=8)
def make_dispatch(
  step: Callable[..., Any],
  devices: tuple[jax.Device, ...],
  read: Callable[..., tuple[Array, Array, Array]] = loader.Resident.read,
) -> Callable[..., Any]:
  """Maps steps over devices: (state, context, data, rows) -> (state, sums).

  Stages that share a step share the compiled program.

  Args:
    step: for one device.
    devices: devices.
    read: of a data_loader, whose data and dispatches the program is given.
  """

  def run(state, context, data, rows):
    def one(state, parts):
      batches, offset = [], 0
      for part in parts:
        images, labels, indices = read(data, part)
        where = offset + parallel.positions(labels.shape[0])
        batches.append(Batch(images, labels, where, indices))
        offset += labels.shape[0] * len(devices)
      return step(state, context, *batches)

    if jax.tree.leaves(rows)[0].shape[0] > 1:
      return lax.scan(one, state, rows)
    state, sums = one(state, jax.tree.map(lambda x: x[0], rows))
    return state, jax.tree.map(lambda x: x[None], sums)

  return parallel.pmap(run, devices, donate=(0,))


def run(
  stage: Stage,
  state: PyTree,
  context: PyTree,
  devices: Sequence[jax.Device],
) -> tuple[PyTree, dict[str, Any]]:
  """Runs a stage to its end, from its last checkpoint if there is one.

  Args:
    stage: what to run.
    state: at step 0, on one device or the host; it has an attribute `step`.
    context: what the step uses and does not change, not replicated.
    devices: devices.

  Returns:
    The state to use afterwards, on the host, and the stage's summary. A stage
    that `max_drop` ended gives its best state, and the drop as `collapse`.

  Raises:
    NonFiniteLossError: if the loss is not finite; nothing is saved after the
      last good checkpoint, which the message names.
    Interrupted: after SIGTERM or SIGINT, when everything is saved.
  """
  devices, schedule, images = tuple(devices), stage.schedule, stage.data_loader
  logging.info(
    '%s: %d epochs of %d steps',
    stage.name,
    schedule.epochs,
    schedule.steps_per_epoch,
  )
  dispatch = make_dispatch(stage.step, devices, images.read)
  context = parallel.replicate(context, devices)
  data = parallel.replicate(images.data, devices)
  with contextlib.ExitStack() as opened:
    record = opened.enter_context(contextlib.closing(_Record(stage, devices)))
    stop = opened.enter_context(signals.stop_on_signal())
    trace = opened.enter_context(
      profiler.Profiler(stage.profile_steps, stage.directory / 'profile')
    )
    state = parallel.replicate(record.restore(state), devices)
    step, collapse = record.step, None
    dispatches = opened.enter_context(
      contextlib.closing(images.dispatches(schedule, step, devices))
    )
    # The host waits for older dispatches while the newest ones run.
    waiting: collections.deque = collections.deque()
    while step < schedule.steps and not collapse:
      steps, rows = next(dispatches)
      trace.begin(step, steps, state)
      with jax.profiler.StepTraceAnnotation('train', step_num=step):
        state, sums = dispatch(state, context, data, rows)
      waiting.append((steps, sums, _vote(stop, devices)))
      step += steps
      trace.end(step, state)
      epoch, within = divmod(step, schedule.steps_per_epoch)
      while len(waiting) > (_in_flight(devices) if within else 0):
        record.collect(*waiting.popleft())
      if not within:
        if stage.is_due(epoch):
          state = _with_statistics(stage, state, context, data, epoch, devices)
        collapse = record.finish_epoch(state, epoch)
      if record.is_stopping(stop) and not collapse:
        while waiting:
          record.collect(*waiting.popleft())
        record.save_and_exit(state, stop)
    state = parallel.unreplicate(state, devices)
    summary: dict[str, Any] = {
      'seconds': round(record.seconds, 2),
      'epochs': schedule.epochs,
    }
    # One that came after the last vote.
    if processes.any_true(stop.signum is not None):
      raise _interrupted(stop)
  # The best checkpoint of a stage that collapsed is its last good one.
  best = stage.select == 'best' or collapse is not None
  state, summary['selected_step'] = _selected(stage.directory, state, best)
  if images.waited is not None:
    summary['waited_for_images'] = round(images.waited, 2)
  if collapse:
    summary['collapse'] = collapse
  return state, summary


def _with_statistics(
  stage: Stage,
  state: PyTree,
  context: PyTree,
  data: PyTree,
  epoch: int,
  devices: tuple[jax.Device, ...],
) -> PyTree:
  """The state with new statistics of its average, if the stage wants them."""
  if stage.statistics_step is None or epoch < stage.statistics_from:
    return state
  if not jax.tree.leaves(state.average['batch_stats']):
    return state
  images, schedule = stage.data_loader, stage.schedule
  dispatch = make_dispatch(stage.statistics_step, devices, images.read)
  first = (epoch - 1) * schedule.steps_per_epoch
  step = parallel.replicate(np.int32(first), devices)
  passed = StatisticsState(step, state.average)
  only = dataclasses.replace(schedule, epochs=epoch)
  with contextlib.closing(images.dispatches(only, first, devices)) as rows:
    for _, batch in rows:
      passed, _ = dispatch(passed, context, data, batch)
      jax.block_until_ready(passed)
  return state.replace(average=passed.average)


def _in_flight(devices: tuple[jax.Device, ...]) -> int:
  """Dispatches that may run before the host waits for the oldest."""
  # Collectives of several virtual CPU devices deadlock if they pile up.
  return 0 if len(devices) > 1 and devices[0].platform == 'cpu' else _IN_FLIGHT


@functools.lru_cache(maxsize=2)
def _ballot(devices: tuple[jax.Device, ...]) -> Callable[..., Any]:
  """Counts devices whose process was asked to stop."""
  return parallel.pmap(parallel.psum, devices)


def _vote(stop: signals.Stop, devices: tuple[jax.Device, ...]) -> Array | None:
  """Tells the other processes, if there are any, whether to stop."""
  if processes.count() == 1:
    return None
  own = parallel.here(devices)
  return _ballot(devices)(np.full(len(own), stop.signum is not None, np.int32))


def _interrupted(stop: signals.Stop) -> signals.Interrupted:
  # Another process may be the one that was asked.
  return signals.Interrupted(128 + (stop.signum or signal.SIGTERM))


def _means(sums: dict[str, list[float]]) -> dict[str, float]:
  """Metrics of an epoch, from those of its steps."""
  totals = {name: math.fsum(values) for name, values in sums.items()}
  count = totals.pop('count')
  return {name: total / count for name, total in totals.items()}


class _Record:
  """What a run writes: checkpoints, metrics, progress.

  Attributes:
    step: steps done whose metrics were read.
  """

  def __init__(self, stage: Stage, devices: tuple[jax.Device, ...]):
    self._stage, self._devices = stage, devices
    self.step = 0
    # Metrics of the open epoch, and the best `adversarial_accuracy` so far.
    self._sums: dict[str, list[float]] = {}
    self._robust: float | None = None
    self._told_to_stop = False
    self._started = time.monotonic()
    self._opened = contextlib.ExitStack()
    self._saved = self._opened.enter_context(
      checkpoints.Checkpoints(stage.directory / 'checkpoints')
    )

  def close(self) -> None:
    with self._opened:
      self._saved.wait()

  @property
  def seconds(self) -> float:
    """Seconds that the stage took, in all of its processes."""
    return time.monotonic() - self._started

  def restore(self, state: PyTree) -> PyTree:
    """Finds where the stage stands, and opens its files there.

    Args:
      state: at step 0.

    Returns:
      The state of the last checkpoint, if there is one.
    """
    if self._saved.last_step() is not None:
      restored = self._saved.restore_last(state)
      state, self.step = restored.state, restored.step
      self._sums, self._robust = (
        restored.extra['sums'],
        restored.extra['robust'],
      )
      self._started -= restored.extra['seconds']
    processes.check_agreement('checkpoint', f'step={self.step}')
    main = processes.is_main()
    self._writer = processes.together(
      metrics.open_writer,
      self._stage.directory,
      last_step=self.step,
      is_main_process=main,
      words=list(dict.fromkeys(['tensorboard', *self._stage.sinks])),
      facts=self._stage.facts,
    )
    self._opened.callback(self._writer.close)
    self._progress = progress.Progress(
      self._stage.schedule.steps,
      initial=self.step,
      description=self._stage.name,
      is_main_process=main,
    )
    self._opened.callback(self._progress.close)
    return state

  def collect(self, steps: int, sums: PyTree, votes: Array | None) -> None:
    """Waits for a dispatch and reads its metrics."""
    sums = parallel.unreplicate(sums)
    if votes is not None:
      self._told_to_stop |= bool(parallel.unreplicate(votes))
    self._check_finite(sums)
    for name, values in sums.items():
      self._sums.setdefault(name, []).extend(float(v) for v in values)
    self.step += steps
    # Steps of a search that move no weights count no images, and leave what the
    # steps before them have shown.
    count, shown = sums['count'].sum(), None
    if count:
      shown = {name: sums[name].sum() / count for name in ('loss', 'accuracy')}
    self._progress.update(self.step, shown)

  def is_stopping(self, stop: signals.Stop) -> bool:
    """Whether to stop, at the same step in all processes."""
    if processes.count() == 1:
      return stop.signum is not None
    return self._told_to_stop

  def finish_epoch(self, state: PyTree, done: int) -> dict[str, float] | None:
    """Writes the epoch's metrics; validates and saves if it is time.

    Args:
      state: replicated, after the epoch.
      done: epochs.

    Returns:
      The drop that is to end the stage, if there is one; nothing is saved then.
    """
    stage = self._stage
    values = {**_means(self._sums), **stage.annotate(state, done)}
    self._sums = {}
    self._write('train', {'epoch': done, **values})
    if not stage.is_due(done):
      return None
    measured = stage.validate(state)
    selection = measured.pop('selection')
    if measured:
      self._write('validation', {'epoch': done, **measured})
    robust = measured.get('adversarial_accuracy')
    if robust is not None:
      before = self._robust
      self._robust = max(robust, before or 0.0)
      if before and stage.max_drop and robust < before - stage.max_drop:
        logging.warning(
          _OVERFITTED, stage.name, 100 * before, 100 * robust, done
        )
        return {'epoch': done, 'best': before, 'fell_to': robust}
    self._save(state, selection)
    return None

  def save_and_exit(self, state: PyTree, stop: signals.Stop) -> NoReturn:
    """Saves the state after the last step that was collected."""
    if self._saved.last_step() != self.step:
      self._save(state, None)
    self._saved.wait()
    logging.info(
      '%s was stopped after step %d and saved; the same command goes on.',
      self._stage.name,
      self.step,
    )
    raise _interrupted(stop)

  def _check_finite(self, sums: dict[str, np.ndarray]) -> None:
    bad = ~np.isfinite(sums['loss'] + sums.get('arch_loss', 0.0))
    if not bad.any():
      return
    offset = int(np.argmax(bad))
    terms = {name: float(v[offset]) for name, v in sums.items()}
    self._fail(
      self.step + offset,
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

  def _write(self, split: str, values: dict[str, float]) -> None:
    """Writes metrics on the main process; a full disk ends all of them."""
    processes.on_main(self._writer.write, self.step, values, split=split)

  def _save(self, state: PyTree, selection: float | None) -> None:
    # Copies: on a CPU the next step may write where these arrays lie.
    host = jax.tree.map(np.array, parallel.unreplicate(state, self._devices))
    # The last update may have broken what the loss before it did not show.
    if not all(_is_finite(leaf) for leaf in jax.tree.leaves(host)):
      self._fail(self.step, 'the state is not finite')
    extra = {
      'sums': self._sums,
      'seconds': self.seconds,
      'robust': self._robust,
    }
    self._saved.save(self.step, host, metric=selection, extra=extra)


def _is_finite(array: np.ndarray) -> bool:
  if not jax.numpy.issubdtype(array.dtype, jax.numpy.floating):
    return True
  return bool(np.isfinite(array.astype(np.float32)).all())


def _selected(
  directory: pathlib.Path, template: PyTree, best: bool
) -> tuple[PyTree, int]:
  """The best or the last state that a stage saved, and its step."""
  path = directory / 'checkpoints'
  with checkpoints.Checkpoints(path, read_only=True) as saved:
    restore = saved.restore_best if best else saved.restore_last
    restored = processes.together(restore, template)
    return restored.state, restored.step

"""Where metrics go besides metrics.jsonl: TensorBoard, W&B, MLflow, your own.

A sink takes every record of a stage: 'step', maybe 'split', and numbers by name
(and what else JSON has). Its maker is called when a stage begins or goes on,

  make(folder, facts, *, name, last_step) -> Sink

and is registered under a word by which a run chooses it:

  sinks.register('print', make)
  with runs.open_run(config, workdir, sinks=('print',)) as run: ...

A run never fails for the want of a sink: what one raises is logged once, and
this sink is switched off until the stage goes on. A full disk is not the
sink's, and ends a run as everywhere.

Example:
  >>> import pathlib, tempfile
  >>> from rnascl_jax.runtime import sinks
  >>> class Print:
  ...   def __init__(self, folder, facts, *, name, last_step):
  ...     self.name = name or f'{facts.run}-{facts.stage}'
  ...   def write(self, record):
  ...     print(self.name, record)
  ...   def close(self):
  ...     print('closed')
  >>> sinks.register('print', Print)
  >>> folder = pathlib.Path(tempfile.mkdtemp())
  >>> facts = sinks.Facts('digits', 'search', {})
  >>> sink = sinks.Guarded('print', folder, facts, last_step=None, records=[])
  >>> sink.write({'step': 10, 'loss': 2.0})
  digits-search {'step': 10, 'loss': 2.0}
  >>> sink.close()
  closed
  >>> _ = sinks.SINKS.pop('print')
"""

import contextlib
import functools
import math
import os
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from absl import logging

from rnascl_jax.runtime import disk, extras, files, spelling

# W&B's project and MLflow's experiment where the environment names none.
_PROJECT = 'rnascl_jax'
# How many parameters, and how much of each, MLflow takes at a call.
_PARAMETERS, _LONGEST = 100, 500


class Facts(NamedTuple):
  """What is known of the stage whose metrics a sink takes.

  Attributes:
    run: the name of the workdir.
    stage: the name of the stage: 'search', 'train/ce'.
    config: the fields of the run's config under dotted names.
  """

  run: str = ''
  stage: str = ''
  config: Mapping[str, Any] = {}


class Sink(Protocol):
  """Somewhere the records of a stage go.

  Attributes:
    name: what the service calls the stage's run there. It is kept in the
      stage's folder, and the maker gets it where the stage goes on. Such a sink
      is written every record once, also those that it had missed. ''
      if nothing is to be kept: then the sink gets all records after
      `last_step`, and drops itself what it had after that step.
  """

  name: str

  def write(self, record: Mapping[str, Any]) -> None:
    """Takes a record: 'step', maybe 'split', and values by name."""

  def close(self) -> None:
    """Ends; the stage is finished, or will go on in another process."""


class Maker(Protocol):
  """Makes a sink for a stage.

  Args of the call:
    folder: of the stage, where the sink may keep files.
    facts: of the stage.
    name: the sink's name of an earlier part of the stage; '' if there is none.
    last_step: the step from which the stage goes on; None if it begins.
  """

  def __call__(
    self,
    folder: pathlib.Path,
    facts: Facts,
    *,
    name: str,
    last_step: int | None,
  ) -> Sink: ...


def scalars(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
  """The finite numbers of a record but for its step, named split/value."""
  prefix = f'{record["split"]}/' if record.get('split') else ''
  for name, value in record.items():
    array = np.asarray(value)
    # Kind V is bfloat16; strings, None and lists are no scalars.
    scalar = not array.ndim and array.dtype.kind in 'biufV'
    if name != 'step' and scalar and math.isfinite(number := float(array)):
      yield prefix + name, number


class TensorBoard:
  """Writes an events file into the stage's folder.

  Events are written at once, not by a thread as tensorboardX's own writer does:
  on a full disk its thread ends, and the program would wait for it for ever.
  """

  name = ''

  def __init__(
    self,
    folder: pathlib.Path,
    facts: Facts,
    *,
    name: str,
    last_step: int | None,
  ):
    """Adds a file; TensorBoard hides what earlier ones have after last_step."""
    del facts, name
    from tensorboardX import event_file_writer
    from tensorboardX.proto import event_pb2, summary_pb2

    self._path = os.path.join(folder, 'events')
    self._event, self._summary = event_pb2.Event, summary_pb2.Summary
    first_step = 0 if last_step is None else last_step + 1
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    with disk.explained(folder):
      self._file = event_file_writer.EventsWriter(self._path)
    self._append(first_step, session_log=start)

  def write(self, record: Mapping[str, Any]) -> None:
    """Adds a point to the curve of every number."""
    points = [
      self._summary.Value(tag=name, simple_value=number)
      for name, number in scalars(record)
    ]
    self._append(record['step'], summary=self._summary(value=points))

  def _append(self, step: int, **content: Any) -> None:
    event = self._event(step=step, wall_time=time.time(), **content)
    with disk.explained(self._path):
      self._file.write_event(event)
      self._file.flush()

  def close(self) -> None:
    with disk.explained(self._path):
      self._file.close()


class WeightsAndBiases:
  """Writes to a run of Weights & Biases, one for each stage.

  Runs of a workdir are a group. The project is that of WANDB_PROJECT, and all
  else is as `wandb` takes it from its environment: WANDB_MODE=offline keeps
  everything in the stage's folder, for `wandb sync`.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    facts: Facts,
    *,
    name: str,
    last_step: int | None,
  ):
    """Begins a run, or resumes the one of this name."""
    del last_step
    extras.require('wandb', '--sinks=wandb')
    import wandb

    self._run = wandb.init(
      project=os.environ.get('WANDB_PROJECT', _PROJECT),
      group=facts.run,
      name=f'{facts.run}/{facts.stage}',
      config=dict(facts.config),
      dir=os.fspath(folder),
      id=name or None,
      resume='allow',
    )
    # Its own steps only grow: training and validation have the same ones.
    self._run.define_metric('*', step_metric='step')
    self.name = self._run.id

  def write(self, record: Mapping[str, Any]) -> None:
    self._run.log({'step': record['step'], **dict(scalars(record))})

  def close(self) -> None:
    self._run.finish()


class MLflow:
  """Writes to a run of MLflow, one for each stage.

  The server is that of MLFLOW_TRACKING_URI, the experiment that of
  MLFLOW_EXPERIMENT_NAME.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    facts: Facts,
    *,
    name: str,
    last_step: int | None,
  ):
    """Begins a run with the config as its parameters, or resumes one."""
    del folder, last_step
    extras.require('mlflow', '--sinks=mlflow')
    import mlflow

    self._entities = mlflow.entities
    self._client = mlflow.MlflowClient()
    self.name = name
    if name:
      self._client.update_run(name, status='RUNNING')
      return
    experiment = os.environ.get('MLFLOW_EXPERIMENT_NAME', _PROJECT)
    known = self._client.get_experiment_by_name(experiment)
    self.name = self._client.create_run(
      known.experiment_id
      if known
      else self._client.create_experiment(experiment),
      run_name=f'{facts.run}/{facts.stage}',
    ).info.run_id
    parameters = [
      self._entities.Param(field, str(value)[:_LONGEST])
      for field, value in facts.config.items()
    ]
    for first in range(0, len(parameters), _PARAMETERS):
      part = parameters[first : first + _PARAMETERS]
      self._client.log_batch(self.name, params=part)

  def write(self, record: Mapping[str, Any]) -> None:
    now = int(1000 * time.time())
    points = [
      self._entities.Metric(name, number, now, record['step'])
      for name, number in scalars(record)
    ]
    self._client.log_batch(self.name, metrics=points)

  def close(self) -> None:
    self._client.set_terminated(self.name)


# Makers of sinks by the word that chooses them; `register` adds to them.
SINKS: dict[str, Maker] = {
  'tensorboard': TensorBoard,
  'wandb': WeightsAndBiases,
  'mlflow': MLflow,
}
_OWN = tuple(SINKS)


def register(word: str, make: Maker) -> None:
  """Adds a sink that runs may choose by a word, or replaces it.

  A config file may do so: all commands execute it before they look for sinks.

  Args:
    word: as in --sinks; letters, digits and underscores, as it names a file.
    make: see `Maker`.

  Raises:
    ValueError: the word is no such word, or is that of a sink of ours.
  """
  if not word.isidentifier():
    raise ValueError(
      f'a sink is called {word!r}: take letters, digits and underscores.'
    )
  if word in _OWN:
    raise ValueError(f'the sink {word!r} is our own: take another word.')
  SINKS[word] = make


def check(words: Sequence[str]) -> None:
  """Raises ValueError unless there is a sink of every word."""
  for word in words:
    if word not in SINKS:
      raise ValueError(
        f'--sinks={",".join(words)}: there is no sink {word!r}.'
        f'{spelling.did_you_mean(word, SINKS)} There are {", ".join(SINKS)}, '
        'and `sinks.register` adds others.'
      )


class Guarded:
  """A sink whose errors are logged, and end it and not the run."""

  def __init__(
    self,
    word: str,
    folder: pathlib.Path,
    facts: Facts,
    *,
    last_step: int | None,
    records: Sequence[Mapping[str, Any]],
  ):
    """Makes the sink, and writes to it what it has missed.

    Args:
      word: a key of `SINKS`.
      folder: of the stage; it exists and can be written to.
      facts: of the stage.
      last_step: the step from which the stage goes on; None if it begins.
      records: of the stage up to that step.

    Raises:
      DiskError: the folder cannot be written to any more.
    """
    self._word = word
    self._place = folder / f'sink_{word}.json'
    self._sink: Sink | None = None
    # How many records there were, and how many the sink was written.
    self._count = self._written = 0
    with self._off_if_it_raises():
      saved = files.read_json(self._place) if self._place.exists() else {}
      self._written = saved.get('records', 0)
      self._sink = SINKS[word](
        folder, facts, name=saved.get('name', ''), last_step=last_step
      )
      if not self._sink.name:
        self._count = len(records)
        return
      self._keep()
    for record in records:
      self.write(record)

  def write(self, record: Mapping[str, Any]) -> None:
    """Hands a record to the sink, unless it has it already or is off."""
    self._count += 1
    if self._sink is None or self._sink.name and self._count <= self._written:
      return
    with self._off_if_it_raises():
      self._sink.write(record)
      self._written = self._count
      if self._sink.name:
        self._keep()

  def close(self) -> None:
    """Closes the sink, unless it is off."""
    with self._off_if_it_raises():
      if self._sink is not None:
        self._sink.close()

  def _keep(self) -> None:
    """Keeps what a process needs that goes on with the stage."""
    assert self._sink is not None
    kept = {'name': self._sink.name, 'records': self._written}
    files.write_json(self._place, kept)

  @contextlib.contextmanager
  def _off_if_it_raises(self) -> Iterator[None]:
    try:
      yield
    except disk.DiskError:
      raise
    # Whatever a service or its library raises is not to end the run.
    except Exception as error:
      sink, self._sink = self._sink, None
      if sink is not None:
        with contextlib.suppress(Exception):
          sink.close()
      _warn(self._word, f'{type(error).__name__}: {error}')


@functools.cache
def _warn(word: str, error: str) -> None:
  """Tells once in a process what switched a sink off."""
  logging.warning(
    'The sink %s is switched off: %s The run goes on, and its metrics are in '
    'metrics.jsonl; a sink that keeps a name gets what it has missed when the '
    'stage goes on.',
    word,
    f'{error.rstrip(".")}.',
  )

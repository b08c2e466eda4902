"""What all stages share: an opened run, one stage of training, exports."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from rnascl_jax.base import PyTree, Variables
from rnascl_jax.config import checks, resolve, settings
from rnascl_jax.data.datasets import Dataset
from rnascl_jax.distillation import compare
from rnascl_jax.evaluation import under_attack
from rnascl_jax.evaluation.classification import NetworkOnDevices
from rnascl_jax.runtime import (
  files,
  parallel,
  paths,
  processes,
  profiler,
  saved_variables,
)
from rnascl_jax.runtime import sinks as all_sinks
from rnascl_jax.stages import data_record, pretrained, workdir
from rnascl_jax.training import loader, loop, statistics, train_state


class Run(NamedTuple):
  """A run whose config was checked and whose folder is its own.

  Attributes:
    settings: of the run.
    folder: the workdir.
    data: images.
    devices: devices of all processes.
    sinks: where metrics of training go besides metrics.jsonl and TensorBoard.
    profile_steps: which steps of each training are traced; None for none.
  """

  settings: settings.Settings
  folder: pathlib.Path
  data: Dataset
  devices: list[jax.Device]
  sinks: tuple[str, ...] = ()
  profile_steps: range | None = None


@contextlib.contextmanager
def open_run(
  config: Mapping[str, Any],
  path: str,
  *,
  sinks: Sequence[str] = (),
  profile_steps: str = '',
) -> Iterator[Run]:
  """Checks a config and opens its folder; nothing is computed before.

  Args:
    config: see `settings`; the same in all processes.
    path: the workdir; of several processes, in a file system that they share.
    sinks: words of `sinks.SINKS`: where metrics of training go besides
      metrics.jsonl and TensorBoard. They may be others when a run goes on.
    profile_steps: 'a:b', steps of each training that are traced, see
      `profiler`; '' for none.

  Yields:
    The run, which is until the end the only one that can write in the workdir.

  Raises:
    ValueError: if the config is not valid or not the same in all processes, the
      folder is of another one, a teacher's checkpoint does not fit, there is no
      such sink, or no training has such steps.
    FileNotFoundError: if there is no such checkpoint.
    HeldError: if another run is writing in the workdir.
    DiskError: if the workdir cannot be written to.
    OtherProcessError: if another process cannot open the run.
  """
  folder = paths.local(path, 'workdir')
  all_sinks.check(sinks)
  traced = profiler.parse(profile_steps)
  parsed = processes.together(settings.parse, config)
  fields = workdir.flat(dataclasses.asdict(parsed))
  facts = [f'config.{name}={value!r}' for name, value in fields.items()]
  # All processes must have been started with the same command.
  processes.check_agreement('config', '\n'.join([*facts, f'workdir={path!r}']))
  data, devices = processes.together(_check, parsed, folder)
  facts = [f'{k}={value}' for k, value in data_record.facts(data).items()]
  processes.check_agreement('data set', '\n'.join(facts))
  _check_traced(parsed, data, traced)
  sources = processes.from_main(_open_sources(parsed, folder))
  processes.together(_check_sources, parsed, data, sources)
  with workdir.open_workdir(folder, parsed):
    processes.on_main(data_record.keep, folder, data)
    yield Run(parsed, folder, data, devices, tuple(sinks), traced)


def _check(
  config: settings.Settings, folder: pathlib.Path
) -> tuple[Dataset, list[jax.Device]]:
  """The data and the devices of a run, if they and its folder fit together."""
  devices = parallel.devices(config.devices)
  workdir.compare(folder, config)
  data = resolve.dataset(config.data, data_record.statistics(folder))
  data_record.check(folder, data)
  checks.check(config, data, len(devices))
  return data, devices


def _check_traced(
  config: settings.Settings, data: Dataset, traced: range | None
) -> None:
  """Raises unless some training has the steps to be traced."""
  trainings = [
    config.teacher.optimization,
    *([config.search.optimization] if config.searches else []),
    config.train.optimization,
    config.adversarial.optimization,
    *(
      [config.adversarial.pruning.optimization]
      if config.adversarial.learns_scores
      else []
    ),
  ]
  most = max(
    spec.epochs * (len(data.train.labels) // spec.batch_size)
    for spec in trainings
  )
  if traced and traced.stop > most:
    raise ValueError(
      f'--profile_steps={traced.start}:{traced.stop} must end at {most} or '
      'before: the longest training of this config has so many steps. Take '
      f'{max(most - 10, 0)}:{most}.'
    )


def _open_sources(config: settings.Settings, folder: pathlib.Path) -> list[str]:
  """Stages whose result the run takes from elsewhere and has not taken yet."""
  sources = {
    'teacher': pretrained.source(config.teacher),
    'vulnerable_teacher': config.controls
    and pretrained.source(config.vulnerable_teacher),
    'search': config.searches and config.search.architecture,
  }
  return [
    stage
    for stage, source in sources.items()
    if source and not (folder / stage / 'stage.json').exists()
  ]


def _check_sources(
  config: settings.Settings, data: Dataset, stages: Sequence[str]
) -> None:
  """Compares what is from elsewhere with the config."""
  for stage in stages:
    if stage == 'search':
      teacher = resolve.fixed_network(data, config.teacher.network)
      pretrained.load_architecture(config, teacher.tap_names)
    else:
      pretrained.check_teacher(getattr(config, stage), stage, data)


def stage_seed(seed: int, stage: str) -> int:
  """A seed for each kind of stage, so that they do not share draws."""
  words = [seed, *stage.encode()]
  return int(np.random.SeedSequence(words).generate_state(1)[0])


def epoch_steps(run: Run, spec: settings.Optimization) -> int:
  """Training steps of an epoch."""
  return len(run.data.train.labels) // spec.batch_size


def make_validate(
  run: Run,
  net: nn.Module,
  method: settings.AdversarialTraining,
  batch_size: int,
) -> Callable[[train_state.TrainState], dict[str, float]]:
  """Measures accuracy on the validation images, under attack if trained so.

  Args:
    run: the run.
    net: the network.
    method: if it attacks, the accuracy under its attack chooses the best
      checkpoint; otherwise the clean accuracy does.
    batch_size: images at once.

  Returns:
    A function of a replicated state; without validation images it measures
    nothing.
  """
  split, devices = run.data.validation, tuple(run.devices)
  if not len(split.labels):
    return lambda state: {'selection': 0.0}
  size = min(batch_size, len(split.labels))
  attack = resolve.validation_attack(method)

  def validate(state: train_state.TrainState) -> dict[str, float]:
    network = NetworkOnDevices(net, state.variables, devices, size)
    metrics = network.mean_metrics(split)
    metrics['selection'] = metrics['accuracy']
    if attack is not None:
      robust = under_attack.accuracy_under_attack(
        network,
        split,
        attack,
        epsilon=float(attack.epsilon),
        seed=run.settings.seed,
      )
      metrics['adversarial_accuracy'] = metrics['selection'] = robust
    return metrics

  return validate


def make_recipe(
  run: Run,
  net: nn.Module,
  spec: settings.Optimization,
  method: settings.AdversarialTraining,
  distillation: compare.Distillation,
  *,
  updating: int | None = None,
) -> train_state.Recipe:
  """What a stage's step is made of.

  Args:
    run: the run.
    net: the network.
    spec: how long and how fast.
    method: on which images.
    distillation: how the network is compared with a teacher.
    updating: steps of an epoch that move weights; None for all.
  """
  epoch = epoch_steps(run, spec)
  updates = (updating or epoch) * resolve.replays(method)
  return train_state.Recipe(
    net=net,
    optimizer=resolve.optimizer(spec, updates),
    adversarial=resolve.adversarial_method(method, steps=spec.epochs * epoch),
    distillation=distillation,
    augment=resolve.augmentation(run.settings.data),
    accumulate=spec.accumulate,
    average=resolve.average(spec, epoch),
    label_smoothing=spec.label_smoothing,
    mixing=resolve.mixture(spec, run.data.num_classes),
  )


def context(
  run: Run,
  stage: str,
  *,
  teacher: Variables | None = None,
  tutors: PyTree = (),
  kl_weight: float = 0.0,
  gamma: float = 0.0,
) -> train_state.Context:
  """What a stage uses and does not change."""
  return train_state.Context(
    seed=jnp.uint32(stage_seed(run.settings.seed, stage)),
    teacher=teacher or (),
    tutors=tutors,
    kl_weight=jnp.float32(kl_weight),
    gamma=jnp.float32(gamma),
  )


def make_stage(
  run: Run,
  place: str,
  spec: settings.Optimization,
  method: settings.AdversarialTraining,
  step: Callable[..., Any],
  *,
  parts: tuple[int, ...],
  validate: Callable[[PyTree], dict[str, float]],
  annotate: Callable[[PyTree, int], dict[str, float]] | None = None,
  updating: int | None = None,
  statistics_step: Callable[..., Any] | None = None,
) -> loop.Stage:
  """Makes what `loop.run` runs.

  Args:
    run: the run.
    place: folder of the stage in the workdir, such as 'train/ce'; all stages
      with the same first part see the images in the same order.
    spec: how long and how fast.
    method: on which images.
    step: a step of `train_step` or `search_step`.
    parts: sizes of the parts of a batch.
    validate: measures a replicated state.
    annotate: adds metrics of a replicated state after an epoch.
    updating: steps of an epoch that move weights; None for all.
    statistics_step: of `make_statistics_step`.
  """
  epoch = epoch_steps(run, spec)
  updates = (updating or epoch) * resolve.replays(method)
  rate = resolve.schedule(spec, updates)
  # Both teachers see the images in one order.
  order_stage = place.split('/')[0].removeprefix('vulnerable_')
  seed = stage_seed(run.settings.seed, order_stage)
  train, data = run.data.training, run.settings.data
  in_memory = isinstance(train.images, np.ndarray)
  # Steps on streamed images are long, and a dispatch holds all their images.
  at_once = 10 if in_memory and jax.default_backend() != 'cpu' else 1

  steps = spec.epochs * epoch
  if run.profile_steps and run.profile_steps.start >= steps:
    logging.warning('%s is not traced: it has %d steps only.', place, steps)

  def describe(state: PyTree, done: int) -> dict[str, float]:
    # The rate of the epoch's last update.
    values = {'learning_rate': float(rate(done * updates - 1))}
    return values | (annotate(state, done) if annotate else {})

  return loop.Stage(
    name=place,
    directory=run.folder / place,
    step=step,
    data_loader=loader.Resident(train)
    if in_memory
    else loader.Streamed(
      train,
      seed=seed,
      min_crop=data.min_crop if run.data.resized else 0.0,
      workers=data.workers,
    ),
    schedule=loader.BatchSchedule(
      order=resolve.batch_order(data, run.data, seed, sum(parts)),
      parts=parts,
      epochs=spec.epochs,
      steps_per_epoch=epoch,
      steps_per_dispatch=run.settings.steps_per_dispatch or at_once,
    ),
    checkpoint_every=spec.checkpoint_every,
    select=spec.select,
    validate=validate,
    annotate=describe,
    max_drop=resolve.max_drop(method),
    sinks=run.sinks,
    facts=all_sinks.Facts(
      run.folder.name, place, workdir.flat(dataclasses.asdict(run.settings))
    ),
    profile_steps=run.profile_steps,
    statistics_step=statistics_step,
    statistics_from=spec.average_from,
  )


def make_statistics_step(
  run: Run, spec: settings.Optimization, recipe: train_state.Recipe
) -> Callable[..., Any] | None:
  """The step that computes statistics of an equal average; None without one."""
  if not spec.average_from:
    return None
  return statistics.make_statistics_step(recipe, epoch_steps(run, spec))


def finish(
  run: Run,
  place: str,
  summary: dict[str, Any],
  variables: Variables,
  metadata: dict[str, Any],
) -> None:
  """Exports a trained network and marks its stage as complete."""
  folder = run.folder / place
  export = {
    'dataset': run.data.name,
    'num_classes': run.data.num_classes,
    'image_shape': list(run.data.image_shape),
    'mean': list(run.data.mean),
    'std': list(run.data.std),
    # Of a network from elsewhere, what it was trained for.
    **metadata,
  }
  saved_variables.save(folder / 'model', variables, export)
  workdir.finish(folder, summary)
  record(run, place, summary['seconds'])


def record(run: Run, stage: str, seconds: float) -> None:
  """Adds a stage to the run's provenance."""
  seed, devices = run.settings.seed, len(run.devices)
  workdir.record(run.folder, seed, devices, stage, seconds)


def exported(folder: pathlib.Path) -> pathlib.Path:
  """The folder of the exported variables of a complete stage.

  Raises:
    MissingStageError: the stage is not complete.
    DamagedFileError: it is, and there is no export.
  """
  workdir.summary(folder)
  export = folder / 'model'
  if not any(export.glob('*')):
    raise files.damaged(
      export,
      'it is missing or empty',
      f'Restore it from a copy, or delete {folder / "stage.json"} and run the '
      'same command again, which saves it anew.',
    )
  return export


def load_variables(folder: pathlib.Path) -> Variables:
  """The exported variables of a complete stage; raises as `exported` does."""
  return saved_variables.load(exported(folder))[0]

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
from rnascl_jax.data import batches
from rnascl_jax.data.datasets import Dataset
from rnascl_jax.distillation import compare
from rnascl_jax.evaluation import under_attack
from rnascl_jax.runtime import checkpoints, files, parallel, paths, processes
from rnascl_jax.stages import given, given_architecture, workdir
from rnascl_jax.training import loader, loop, train_state


class Run(NamedTuple):
  """A run whose config was checked and whose folder is its own.

  Attributes:
    settings: of the run.
    folder: the workdir.
    data: images.
    devices: devices of all processes.
  """

  settings: settings.Settings
  folder: pathlib.Path
  data: Dataset
  devices: list[jax.Device]


@contextlib.contextmanager
def open_run(config: Mapping[str, Any], path: str) -> Iterator[Run]:
  """Checks a config and opens its folder; nothing is computed before.

  Within a run the same run may be opened again, as the stages of a pipeline do.

  Args:
    config: see `settings`; the same in all processes.
    path: the workdir; of several processes, in a file system that they share.

  Yields:
    The run, which is until the end the only one that can write in the workdir.

  Raises:
    ValueError: if the config is not valid or not the same in all processes, the
      folder is of another one, or a teacher's checkpoint does not fit.
    FileNotFoundError: if there is no such checkpoint.
    HeldError: if another run is writing in the workdir.
    DiskError: if the workdir cannot be written to.
    OtherProcessError: if another process cannot open the run.
  """
  folder = paths.local(path, 'workdir')
  everything = processes.together(settings.parse, config)
  _check_agreement(everything, path)
  data, devices = processes.together(_check, everything)
  todo = processes.from_main(_to_be_taken(everything, folder))
  processes.together(_check_given, everything, data, todo)
  with workdir.open_workdir(folder, everything):
    yield Run(everything, folder, data, devices)


def _check_agreement(everything: settings.Settings, path: str) -> None:
  """Raises if processes were started with different commands."""
  fields = workdir.flat(dataclasses.asdict(everything))
  facts = [f'config.{name}={value!r}' for name, value in fields.items()]
  facts.append(f'workdir={path!r}')
  processes.check_agreement('config', '\n'.join(facts))


def _check(
  everything: settings.Settings,
) -> tuple[Dataset, list[jax.Device]]:
  """The data and the devices of a run, if they fit together."""
  devices = parallel.devices(everything.devices)
  data = resolve.dataset(everything.data)
  checks.check(everything, data, len(devices))
  return data, devices


def _to_be_taken(
  everything: settings.Settings, folder: pathlib.Path
) -> list[str]:
  """What the run takes from elsewhere, unless it did already."""
  named = {
    'teacher': everything.teacher.checkpoint,
    'vulnerable_teacher': everything.controls
    and everything.vulnerable_teacher.checkpoint,
    'search': everything.search.architecture,
  }
  return [
    stage
    for stage, source in named.items()
    if source and not (folder / stage / 'stage.json').exists()
  ]


def _check_given(
  everything: settings.Settings, data: Dataset, stages: Sequence[str]
) -> None:
  """Compares what is from elsewhere with the config."""
  for name in stages:
    if name != 'search':
      given.check(getattr(everything, name), name, data)
      continue
    teacher = resolve.teacher_network(data, everything.teacher.network)
    given_architecture.load(everything, teacher.tap_names)


def stage_seed(seed: int, stage: str) -> int:
  """A seed for each kind of stage, so that they do not share draws."""
  words = [seed, *stage.encode()]
  return int(np.random.SeedSequence(words).generate_state(1)[0])


def dispatch_size(run: Run) -> int:
  """Training steps in one program."""
  if run.settings.steps_per_dispatch:
    return run.settings.steps_per_dispatch
  # Steps on streamed images are long, and a dispatch holds all their images.
  short = isinstance(run.data.train.images, np.ndarray)
  return 10 if short and jax.default_backend() != 'cpu' else 1


def make_loader(run: Run, seed: int) -> loader.Loader:
  """How training images come to the devices."""
  train, spec = run.data.train, run.settings.data
  if isinstance(train.images, np.ndarray):
    return loader.Resident(train)
  return loader.Streamed(
    train, seed=seed, min_crop=spec.min_crop, workers=spec.workers
  )


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
    A function of a replicated state.
  """
  split, devices = run.data.validation, run.devices
  size = min(batch_size, len(split.labels))
  attack = resolve.validation_attack(method)

  def validate(state: train_state.TrainState) -> dict[str, float]:
    found = under_attack.mean_metrics(
      net, state.variables, split, devices, batch_size=size
    )
    found['selection'] = found['accuracy']
    if attack is not None:
      robust = under_attack.accuracy_under_attack(
        net,
        state.variables,
        split,
        attack,
        devices,
        epsilon=float(attack.epsilon),
        seed=run.settings.seed,
        batch_size=size,
      )
      found['adversarial_accuracy'] = found['selection'] = robust
    return found

  return validate


def make_recipe(
  run: Run,
  net: nn.Module,
  spec: settings.Optimization,
  method: settings.AdversarialTraining,
  distillation: compare.Distillation,
) -> train_state.Recipe:
  """What a stage's step is made of."""
  return train_state.Recipe(
    net=net,
    optimizer=resolve.optimizer(
      spec, epoch_steps(run, spec) * resolve.replays(method)
    ),
    adversarial=resolve.adversarial_method(method),
    distillation=distillation,
    augment=resolve.augmentation(run.settings.data),
    accumulate=spec.accumulate,
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


def fit(
  run: Run,
  name: str,
  folder: pathlib.Path,
  spec: settings.Optimization,
  method: settings.AdversarialTraining,
  step: Callable[..., Any],
  state: PyTree,
  given: train_state.Context,
  *,
  order_stage: str,
  parts: tuple[int, ...],
  validate: Callable[[PyTree], dict[str, float]],
  annotate: Callable[[PyTree, int], dict[str, float]] | None = None,
) -> tuple[PyTree, dict[str, Any]]:
  """Runs a stage of training from its last checkpoint to its end.

  Args:
    run: the run.
    name: of the stage, for people.
    folder: of the stage.
    spec: how long and how fast.
    method: on which images.
    step: a step of `steps` or `search_steps`.
    state: at step 0.
    given: the step's context.
    order_stage: decides the order of the images.
    parts: sizes of the parts of a batch.
    validate: measures a replicated state.
    annotate: adds metrics of a replicated state after an epoch.

  Returns:
    The state to use afterwards, on the host, and the stage's summary.
  """
  epoch = epoch_steps(run, spec)
  updates = epoch * resolve.replays(method)
  rate = resolve.schedule(spec, updates)
  seed = stage_seed(run.settings.seed, order_stage)
  examples = len(run.data.train.labels)

  def describe(state: PyTree, done: int) -> dict[str, float]:
    # The rate of the epoch's last update.
    values = {'learning_rate': float(rate(done * updates - 1))}
    return values | (annotate(state, done) if annotate else {})

  stage = loop.Stage(
    name=name,
    directory=folder,
    step=step,
    schedule=loader.BatchSchedule(
      order=lambda done: batches.batch_order(seed, done, examples, sum(parts)),
      parts=parts,
      epochs=spec.epochs,
      steps_per_epoch=epoch,
      steps_per_dispatch=dispatch_size(run),
    ),
    checkpoint_every=spec.checkpoint_every,
    validate=validate,
    annotate=describe,
    max_drop=resolve.max_drop(method),
  )
  data_loader = make_loader(run, seed)
  logging.info('%s: %d epochs of %d steps', name, spec.epochs, epoch)
  result = loop.run(stage, state, given, data_loader, run.devices)
  select = 'best' if result.collapse else spec.select
  chosen = loop.restore(folder, result.state, select)
  summary = {
    'seconds': round(result.seconds, 2),
    'epochs': spec.epochs,
    'selected_step': chosen.step,
  }
  if isinstance(data_loader, loader.Streamed):
    summary['waited_for_images'] = round(result.waited, 2)
  if result.collapse:
    summary['collapse'] = result.collapse
  return chosen.state, summary


def finish(
  run: Run,
  folder: pathlib.Path,
  name: str,
  summary: dict[str, Any],
  variables: Variables,
  metadata: dict[str, Any],
) -> None:
  """Exports a trained network and marks its stage as complete."""
  export = {
    'dataset': run.data.name,
    'num_classes': run.data.num_classes,
    'image_shape': list(run.data.image_shape),
    'mean': list(run.data.mean),
    'std': list(run.data.std),
    # Of a network from elsewhere, what it was trained for.
    **metadata,
  }
  checkpoints.save_variables(folder / 'model', variables, export)
  workdir.finish(folder, summary)
  record(run, name, summary['seconds'])


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
  return checkpoints.load_variables(exported(folder))[0]


def save_arrays(path: pathlib.Path, arrays: Mapping[str, Any]) -> None:
  """Writes an .npz file atomically, on the main process."""

  def write() -> None:
    with files.replacing(path) as file:
      np.savez_compressed(file, **arrays)

  processes.on_main(write)

"""What all stages share: an opened run, one stage of training, exports."""

import io
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from rnascl_jax import (
  batches,
  checkpoints,
  checks,
  driver,
  evaluation,
  files,
  parallel,
  resolve,
  settings,
  steps,
  workdir,
)
from rnascl_jax.base import PyTree, Variables
from rnascl_jax.datasets import Dataset
from rnascl_jax.loops import given


class Run(NamedTuple):
  """A run whose config was checked and whose folder is its own.

  Attributes:
    settings: of the run.
    folder: the workdir.
    data: images.
    over: devices.
  """

  settings: settings.Settings
  folder: pathlib.Path
  data: Dataset
  over: list[jax.Device]


class DeviceData(NamedTuple):
  """Training images on a device: uint8 [N, H, W, C] and labels [N]."""

  images: Any
  labels: Any


def open_run(config: Mapping[str, Any], path: str) -> Run:
  """Checks a config and opens its folder; nothing is computed before.

  Args:
    config: see `settings`.
    path: the workdir.

  Returns:
    The run.

  Raises:
    ValueError: if the config is not valid, the folder is of another one, or a
      teacher's checkpoint does not fit.
    FileNotFoundError: if there is no such checkpoint.
  """
  everything = settings.parse(config)
  if jax.process_count() > 1:
    raise ValueError(
      f'{jax.process_count()} processes were started; runs use the devices of '
      'one. Start one process.'
    )
  over = parallel.devices(everything.devices)
  data = resolve.dataset(everything.data)
  checks.check(everything, data, len(over))
  _check_given(everything, data, pathlib.Path(path))
  folder = workdir.open_workdir(path, everything)
  return Run(everything, folder, data, over)


def _check_given(
  everything: settings.Settings, data: Dataset, folder: pathlib.Path
) -> None:
  """Compares teachers from elsewhere, if they are yet to be taken, with it."""
  for name in ('teacher', 'vulnerable_teacher'):
    chosen = getattr(everything, name)
    used = name == 'teacher' or everything.controls
    if used and chosen.checkpoint and not workdir.is_done(folder / name):
      given.check(chosen, name, data)


def stage_seed(seed: int, stage: str) -> int:
  """A seed for each kind of stage, so that they do not share draws."""
  words = [seed, *stage.encode()]
  return int(np.random.SeedSequence(words).generate_state(1)[0])


def dispatch_size(everything: settings.Settings) -> int:
  """Training steps in one program."""
  if everything.steps_per_dispatch:
    return everything.steps_per_dispatch
  return 1 if jax.default_backend() == 'cpu' else 10


def epoch_steps(run: Run, spec: settings.Optimization) -> int:
  """Training steps of an epoch."""
  return len(run.data.train.labels) // spec.batch_size


def make_validate(
  run: Run, net: nn.Module, regime: settings.Regime, batch_size: int
) -> Callable[[steps.TrainState], dict[str, float]]:
  """Measures accuracy on the validation images, under attack if trained so.

  Args:
    run: the run.
    net: the network.
    regime: if it attacks, the accuracy under its attack chooses the best
      checkpoint; otherwise the clean accuracy does.
    batch_size: images at once.

  Returns:
    A function of a replicated state.
  """
  split, over = run.data.validation, run.over
  size = min(batch_size, len(split.labels))
  attack = resolve.validation_attack(regime)

  def validate(state: steps.TrainState) -> dict[str, float]:
    found = evaluation.mean_metrics(
      net, state.variables, split, over, batch_size=size
    )
    found['selection'] = found['accuracy']
    if attack is not None:
      outcome = evaluation.attacked(
        net,
        state.variables,
        split,
        attack,
        over,
        epsilon=float(attack.epsilon),
        seed=run.settings.seed,
        batch_size=size,
      )
      found['adversarial_accuracy'] = found['selection'] = outcome.accuracy
    return found

  return validate


def make_recipe(
  run: Run,
  net: nn.Module,
  spec: settings.Optimization,
  regime: settings.Regime,
  distillation: steps.Distillation,
) -> steps.Recipe:
  """What a stage's step is made of."""
  return steps.Recipe(
    net=net,
    optimizer=resolve.optimizer(
      spec, epoch_steps(run, spec) * resolve.replays(regime)
    ),
    regime=resolve.regime(regime),
    distillation=distillation,
    augment=resolve.augmentation(run.settings.data),
  )


def context(
  run: Run,
  stage: str,
  *,
  teacher: Variables | None = None,
  tutors: PyTree = (),
  kl_weight: float = 0.0,
  gamma: float = 0.0,
) -> steps.Context:
  """What a stage uses and does not change."""
  return steps.Context(
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
  regime: settings.Regime,
  step: Callable[..., Any],
  state: PyTree,
  given: steps.Context,
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
    regime: on which images.
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
  updates = epoch * resolve.replays(regime)
  rate = resolve.schedule(spec, updates)
  seed = stage_seed(run.settings.seed, order_stage)
  train = run.data.train

  def describe(state: PyTree, done: int) -> dict[str, float]:
    # The rate of the epoch's last update.
    values = {'learning_rate': float(rate(done * updates - 1))}
    return values | (annotate(state, done) if annotate else {})

  stage = driver.Stage(
    name=name,
    directory=folder,
    step=step,
    parts=parts,
    epochs=spec.epochs,
    steps_per_epoch=epoch,
    steps_per_dispatch=dispatch_size(run.settings),
    checkpoint_every=spec.checkpoint_every,
    order=lambda done: batches.batch_order(
      seed, done, len(train.labels), sum(parts)
    ),
    validate=validate,
    annotate=describe,
    max_drop=resolve.max_drop(regime),
  )
  data = DeviceData(train.images, train.labels)
  logging.info('%s: %d epochs of %d steps', name, spec.epochs, epoch)
  result = driver.run(stage, state, given, data, run.over)
  select = 'best' if result.collapse else spec.select
  chosen = driver.restore(folder, result.state, select)
  summary = {
    'seconds': round(result.seconds, 2),
    'epochs': spec.epochs,
    'selected_step': chosen.step,
  }
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
  seed, devices = run.settings.seed, len(run.over)
  workdir.record(run.folder, seed, devices, stage, seconds)


def load_variables(folder: pathlib.Path) -> Variables:
  """The exported variables of a complete stage."""
  workdir.summary(folder)
  return checkpoints.load_variables(folder / 'model')[0]


def save_arrays(path: pathlib.Path, arrays: Mapping[str, Any]) -> None:
  """Writes an .npz file atomically, on the main process."""
  if parallel.is_main_process():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    files.write_atomically(path, buffer.getvalue())

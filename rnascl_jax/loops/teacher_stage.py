"""Trains teachers: the robust one, and the control without attacks."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import logging

from rnascl_jax import (
  checkpoints,
  named_arrays,
  resolve,
  settings,
  steps,
  workdir,
)
from rnascl_jax.base import Variables
from rnascl_jax.loops import run as runs
from rnascl_jax.loops.run import Run


def teacher(config: Mapping[str, Any], path: str) -> None:
  """Trains the teacher, and the control if the config asks for it.

  Args:
    config: see `settings`.
    path: the workdir; the teacher is left in `teacher/`, the control in
      `vulnerable_teacher/`.

  Raises:
    ValueError: if the config is not valid or the workdir is of another one.
  """
  run = runs.open_run(config, path)
  for name in names(run):
    _train(run, name)


def names(run: Run) -> list[str]:
  """The run's teachers: names of settings and of folders alike."""
  both = ['teacher', 'vulnerable_teacher']
  return both if run.settings.controls else both[:1]


def spec(run: Run, name: str) -> settings.Teacher:
  """Settings of a teacher."""
  return getattr(run.settings, name)


def network(run: Run, name: str, *, guides: bool = False) -> nn.Module:
  """A teacher's network; as a guide it may compute in bfloat16."""
  return resolve.teacher_network(
    run.data, spec(run, name).network, where=name, guides=guides
  )


def load(run: Run, name: str) -> tuple[nn.Module, Variables]:
  """A trained teacher.

  Raises:
    FileNotFoundError: if it was not trained yet.
  """
  return network(run, name), runs.load_variables(run.folder / name)


def _train(run: Run, name: str) -> None:
  folder: pathlib.Path = run.folder / name
  if workdir.is_done(folder):
    logging.info('%s is complete: %s', name, folder)
    return
  chosen, net = spec(run, name), network(run, name)
  metadata = {
    'kind': 'teacher',
    'network': dataclasses.asdict(chosen.network),
    'layers': list(net.tap_names),
  }
  if chosen.checkpoint:
    variables = _given(run, net, chosen.checkpoint)
    summary = {'seconds': 0.0, 'checkpoint': chosen.checkpoint}
    runs.finish(run, folder, name, summary, variables, metadata)
    return
  recipe = runs.make_recipe(
    run, net, chosen.optimization, chosen.regime, steps.Distillation()
  )
  # Both teachers start from the same weights and see images in one order.
  key = jax.random.key(runs.stage_seed(run.settings.seed, 'teacher'))
  state, summary = runs.fit(
    run,
    name.replace('_', ' '),
    folder,
    chosen.optimization,
    chosen.regime,
    steps.make_train_step(recipe),
    steps.init_state(
      recipe, key, run.data.image_shape, chosen.optimization.batch_size
    ),
    runs.context(run, 'teacher'),
    order_stage='teacher',
    parts=(chosen.optimization.batch_size,),
    validate=runs.make_validate(
      run, net, chosen.regime, chosen.optimization.batch_size
    ),
  )
  runs.finish(run, folder, name, summary, state.variables, metadata)


def _given(run: Run, net: nn.Module, checkpoint: str) -> Variables:
  """A trained teacher from elsewhere, if it fits the config.

  Raises:
    ValueError: if it has another number of classes or another architecture.
    FileNotFoundError: if there is none.
  """
  folder = pathlib.Path(checkpoint) / 'model'
  if not folder.exists():
    raise FileNotFoundError(
      f'config.teacher.checkpoint={checkpoint!r} has no folder "model": name '
      'the folder teacher/ of a complete workdir.'
    )
  variables, metadata = checkpoints.load_variables(folder)
  classes = run.data.num_classes
  if metadata['num_classes'] != classes:
    raise ValueError(
      f'The teacher in {checkpoint} tells {metadata["num_classes"]} classes '
      f'apart (trained on {metadata["dataset"]}), but {run.data.name} has '
      f'{classes}. Use a teacher of this data set, or train one: '
      "config.teacher.checkpoint=''."
    )
  images = jax.ShapeDtypeStruct((1, *run.data.image_shape), jnp.float32)
  template = jax.eval_shape(
    lambda x: net.init(jax.random.key(0), x, train=False), images
  )
  return named_arrays.into_template(
    template,
    named_arrays.from_state(variables),
    source=f'the teacher in {checkpoint}',
  )

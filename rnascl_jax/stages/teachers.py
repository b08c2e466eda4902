"""The teachers of a run: the robust one, and the control without attacks."""

from typing import Any

import flax.linen as nn
import jax
from absl import logging

from rnascl_jax.base import Variables
from rnascl_jax.config import resolve, settings
from rnascl_jax.distillation import compare
from rnascl_jax.runtime import saved_variables
from rnascl_jax.stages import pretrained, workdir
from rnascl_jax.stages import run as runs
from rnascl_jax.stages.run import Run
from rnascl_jax.training import loop, train_state, train_step


def train(run: Run) -> None:
  """Trains the teachers that are not complete, or takes them from elsewhere.

  Both start from the same weights and see images in one order.
  """
  key = jax.random.key(runs.stage_seed(run.settings.seed, 'teacher'))
  for name in names(run):
    if workdir.is_done(run.folder / name):
      logging.info('%s is complete: %s', name, run.folder / name)
      continue
    if spec(run, name).checkpoint:
      _take(run, name)
      continue
    config = spec(run, name)
    net = network(run, name, bfloat16=config.bfloat16)
    optimization, method = config.optimization, config.adversarial_training
    recipe = runs.make_recipe(
      run, net, optimization, method, compare.Distillation()
    )
    size = optimization.batch_size
    stage = runs.make_stage(
      run,
      name,
      optimization,
      method,
      train_step.make_train_step(recipe),
      parts=(size,),
      validate=runs.make_validate(run, network(run, name), method, size),
      statistics_step=runs.make_statistics_step(run, optimization, recipe),
    )
    shape = run.data.image_shape
    state = train_state.init_state(recipe, key, shape, size)
    if config.start:
      variables = pretrained.load_start(config, name, run.data, state.variables)
      state = train_state.start_from(recipe, variables, shape, size, key)
    state, summary = loop.run(
      stage,
      state,
      runs.context(run, 'teacher'),
      run.devices,
    )
    if config.start:
      summary['start'] = config.start
    metadata = _metadata(config, net)
    runs.finish(run, name, summary, state.variables, metadata)


def _take(run: Run, name: str) -> None:
  """Takes a teacher that was trained elsewhere."""
  config = spec(run, name)
  variables, known = pretrained.load_teacher(config, name, run.data)
  summary = {'seconds': 0.0, 'checkpoint': config.checkpoint}
  if 'source' in known:
    summary['source'] = known['source']
  metadata = _metadata(config, network(run, name)) | known
  runs.finish(run, name, summary, variables, metadata)


def _metadata(config: settings.Teacher, net: nn.Module) -> dict[str, Any]:
  """What is exported beside a teacher's weights."""
  return {
    'kind': 'teacher',
    'network': resolve.network_spec(config.network),
    'layers': list(net.tap_names),
  }


def names(run: Run) -> list[str]:
  """The run's teachers: names of settings and of folders alike."""
  both = ['teacher', 'vulnerable_teacher']
  return both if run.settings.controls else both[:1]


def spec(run: Run, name: str) -> settings.Teacher:
  """Settings of a teacher."""
  return getattr(run.settings, name)


def network(run: Run, name: str, *, bfloat16: str = 'never') -> nn.Module:
  """A teacher's network, which computes in bfloat16 where that says so."""
  config, folder, trained = spec(run, name), run.folder / name, None
  if config.checkpoint:
    if workdir.is_done(folder):
      model = runs.exported(folder)
    else:
      model = pretrained.teacher_folder(config, name)
    metadata = saved_variables.load_metadata(model)
    trained = pretrained.trained_for(metadata, config, run.data)
  return resolve.fixed_network(
    run.data, config.network, where=name, bfloat16=bfloat16, trained=trained
  )


def guide(run: Run, name: str) -> nn.Module:
  """The network of a teacher that guides students."""
  return network(run, name, bfloat16=spec(run, name).network.bfloat16)


def load(run: Run, name: str) -> tuple[nn.Module, Variables]:
  """A trained teacher.

  Raises:
    FileNotFoundError: if it was not trained yet.
  """
  return network(run, name), runs.load_variables(run.folder / name)

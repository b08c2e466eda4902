"""The teachers of a run: the robust one, and the control without attacks."""

import flax.linen as nn
import jax
from absl import logging

from rnascl_jax.base import Variables
from rnascl_jax.config import resolve, settings
from rnascl_jax.distillation import compare
from rnascl_jax.runtime import checkpoints
from rnascl_jax.stages import pretrained, workdir
from rnascl_jax.stages import run as runs
from rnascl_jax.stages.run import Run
from rnascl_jax.training import train_state, train_step


def train(run: Run) -> None:
  """Trains the teachers that are not complete, or takes them from elsewhere."""
  for name in names(run):
    folder = run.folder / name
    if workdir.is_done(folder):
      logging.info('%s is complete: %s', name, folder)
    else:
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
  config, folder, trained = spec(run, name), run.folder / name, None
  if config.checkpoint:
    if workdir.is_done(folder):
      model = runs.exported(folder)
    else:
      model = pretrained.teacher_folder(config, name)
    metadata = checkpoints.load_metadata(model)
    trained = pretrained.trained_for(metadata, config, run.data)
  return resolve.teacher_network(
    run.data, config.network, where=name, guides=guides, trained=trained
  )


def load(run: Run, name: str) -> tuple[nn.Module, Variables]:
  """A trained teacher.

  Raises:
    FileNotFoundError: if it was not trained yet.
  """
  return network(run, name), runs.load_variables(run.folder / name)


def _train(run: Run, name: str) -> None:
  config, net = spec(run, name), network(run, name)
  metadata = {
    'kind': 'teacher',
    'network': resolve.teacher_spec(config.network),
    'layers': list(net.tap_names),
  }
  if config.checkpoint:
    variables, known = pretrained.load_teacher(config, name, run.data)
    summary = {'seconds': 0.0, 'checkpoint': config.checkpoint}
    if 'source' in known:
      summary['source'] = known['source']
    runs.finish(run, name, summary, variables, metadata | known)
    return
  method, batch_size = (
    config.adversarial_training,
    config.optimization.batch_size,
  )
  recipe = runs.make_recipe(
    run, net, config.optimization, method, compare.Distillation()
  )
  # Both teachers start from the same weights and see images in one order.
  key = jax.random.key(runs.stage_seed(run.settings.seed, 'teacher'))
  state, summary = runs.fit(
    run,
    name,
    config.optimization,
    method,
    train_step.make_train_step(recipe),
    train_state.init_state(recipe, key, run.data.image_shape, batch_size),
    runs.context(run, 'teacher'),
    order_stage='teacher',
    parts=(batch_size,),
    validate=runs.make_validate(run, net, method, batch_size),
  )
  runs.finish(run, name, summary, state.variables, metadata)

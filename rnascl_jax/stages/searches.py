"""Searches filters and tutors (RNAS-CL, sections 3.2-3.4)."""

import contextlib
import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
from absl import logging

from rnascl_jax.base import PyTree
from rnascl_jax.config import checks, resolve
from rnascl_jax.runtime import files, parallel, processes
from rnascl_jax.search import (
  arch_params,
  architecture,
  cost_tables,
  flops,
  gumbel,
  space_layers,
)
from rnascl_jax.search.arch_params import ArchParams, Sample
from rnascl_jax.search.architecture import Architecture
from rnascl_jax.stages import pretrained, search_costs, teachers, workdir
from rnascl_jax.stages import run as runs
from rnascl_jax.stages.run import Run
from rnascl_jax.training import loop, search_step, train_state
from rnascl_jax.training.search_step import Search, SearchState
from rnascl_jax.training.train_state import Recipe


def search(run: Run) -> Architecture:
  """Searches an architecture and its tutors, or takes it from elsewhere.

  Raises:
    FileNotFoundError: if the teacher was not trained yet, or no student is to
      have the architecture.
  """
  if not run.settings.searches:
    raise workdir.MissingStageError(
      'All students of the config have a network of their own, so there is '
      'nothing to search: go on with the next stage, or leave the network.name '
      'of one empty.'
    )
  folder = run.folder / 'search'
  if workdir.is_done(folder):
    logging.info('search is complete: %s', folder)
    return load(run)
  if run.settings.search.architecture:
    _take(run, folder)
    return load(run)
  config = run.settings.search
  parts = checks.search_parts(config, len(run.devices))
  recipe, searched, state = _supernet(run, parts[0])
  teacher_net, teacher = teachers.load(run, 'teacher')
  if config.cost != 'macs':
    processes.on_main(search_costs.keep, folder / 'cost.json', searched)
  with _History(
    folder / 'arch.jsonl', searched, config.optimization.epochs
  ) as history:
    stage = runs.make_stage(
      run,
      'search',
      dataclasses.replace(config.optimization, select='last'),
      config.adversarial_training,
      search_step.make_search_step(recipe, searched),
      parts=parts,
      validate=lambda state: {'selection': 0.0},
      annotate=history.annotate,
      updating=searched.weight_steps,
    )
    context = runs.context(
      run,
      'search',
      teacher=teacher,
      tutors=resolve.tutor_weights(
        config.tutors,
        recipe.net.tap_names,
        teacher_net.tap_names,
        where='search',
        seed=runs.stage_seed(run.settings.seed, 'tutors'),
      ),
      kl_weight=config.kl_weight,
      gamma=config.gamma,
    )
    state, summary = loop.run(stage, state, context, run.devices)
    derived = architecture.derive(
      searched.space,
      state.arch,
      teacher_net.tap_names,
      blocks_only=run.settings.space.layers == 'block',
    )
    names = space_layers.layer_names(searched.space, blocks_only=True)
    blocks, layers = (
      architecture.kept(all_names, derived.operators)
      for all_names in (names, recipe.net.tap_names)
    )
    processes.on_main(history.export, folder / 'history.npz', blocks, layers)
  # Where nothing moves them, all are the first layer.
  _write(
    run,
    derived,
    tutors_searched=config.searches_tutors,
    **search_costs.paid(config.cost, searched, derived),
  )
  workdir.finish(folder, summary)
  runs.record(run, 'search', summary['seconds'])
  return load(run)


def _supernet(run: Run, batch: int) -> tuple[Recipe, Search, SearchState]:
  """How the supernet is trained, what is searched in it, and its first state.

  Args:
    run: the run.
    batch: images of a batch that move weights.
  """
  config, spec = run.settings.search, run.settings.space
  space = resolve.space(spec)
  net = resolve.student_network(run.data, space, spec.layers, trained=spec)
  teacher = teachers.guide(run, 'teacher')
  method = config.adversarial_training
  taught = config.kl_weight > 0 or config.gamma > 0 or method.needs_teacher
  distillation = resolve.distill(
    run.settings.distillation,
    teacher if taught else None,
    resolve.distillation_spec(config, 'search'),
  )
  optimization = config.optimization
  epoch = runs.epoch_steps(run, optimization)
  searched = resolve.search(config, run.data, space, epoch)
  recipe = runs.make_recipe(
    run,
    net,
    optimization,
    method,
    distillation,
    updating=searched.weight_steps,
  )
  weights = train_state.init_state(
    recipe,
    jax.random.key(runs.stage_seed(run.settings.seed, 'search')),
    run.data.image_shape,
    batch,
    run.data.training.labels,
  )
  arch = arch_params.init_arch_params(
    space, len(net.tap_names), len(teacher.tap_names)
  )
  state = search_step.init_search_state(weights, arch, searched.optimizer)
  return recipe, searched, state


def load(run: Run) -> Architecture:
  """The architecture that was found.

  Raises:
    FileNotFoundError: if the search is not complete.
    DamagedFileError: if architecture.json is missing or damaged.
    ValueError: if it was searched with another teacher.
  """
  folder = run.folder / 'search'
  workdir.summary(folder)
  path = run.folder / 'architecture.json'
  remedy = (
    f'Restore it from a copy, or delete {folder / "stage.json"} and run the '
    'same command again, which writes it anew.'
  )
  if not path.exists():
    raise files.damaged(path, 'it is missing', remedy)
  with files.naming(path, remedy):
    arch = architecture.from_dict(files.read_json(path, remedy=remedy))
  layers = teachers.network(run, 'teacher').tap_names
  if arch.teacher_layers != layers:
    raise ValueError(
      f'architecture.json names {len(arch.teacher_layers)} teacher layers '
      f'{arch.teacher_layers[:3]}..., but the teacher has {len(layers)}: '
      f'{layers[:3]}.... Search again with this teacher.'
    )
  return arch


def _take(run: Run, folder: pathlib.Path) -> None:
  """Takes an architecture that was searched elsewhere."""
  path = run.settings.search.architecture
  layers = teachers.network(run, 'teacher').tap_names
  arch = pretrained.load_architecture(run.settings, layers)
  _write(run, arch, **pretrained.about_architecture(path))
  workdir.finish(folder, {'seconds': 0.0, 'architecture': path})
  runs.record(run, 'search', 0.0)


def _write(run: Run, arch: Architecture, **about: Any) -> None:
  """Writes architecture.json, with what it is to say beside."""
  shape, classes = run.data.image_shape, run.data.num_classes
  cost = flops.count(arch.derived_space, shape, classes)
  full = flops.count(arch.derived_space, shape, classes, batch_norm=True)
  processes.on_main(
    files.write_json,
    run.folder / 'architecture.json',
    {
      **architecture.to_dict(arch),
      'space': run.settings.space.name,
      'teacher': {
        'name': run.settings.teacher.network.name,
        'layers': list(arch.teacher_layers),
      },
      'image_shape': list(shape),
      'num_classes': classes,
      'parameters': cost.parameters,
      'macs': cost.macs,
      'parameters_with_batch_norm': full.parameters,
      'macs_with_batch_norm': full.macs,
      **about,
    },
  )


_probabilities = jax.jit(arch_params.probabilities)


@jax.jit
def _entropies(arch: ArchParams) -> Sample:
  """The entropy of each choice of a block [], and of each layer's tutor [S]."""
  return jax.tree.map(gumbel.entropy, Sample(*arch))


class _History(contextlib.AbstractContextManager):
  """Probabilities of filters and tutors after every epoch.

  The main process alone has a file.
  """

  def __init__(self, path: pathlib.Path, searched: Search, epochs: int):
    self._path = path
    self._log: files.JsonLines | None = None
    processes.on_main(self._open)
    self._searched, self._epoch = searched, searched.steps_per_epoch
    self._epochs = epochs

  def _open(self) -> None:
    self._log = files.JsonLines(self._path)

  def __exit__(self, *error: object) -> None:
    if self._log is not None:
      self._log.close()

  def annotate(self, state: PyTree, done: int) -> dict[str, float]:
    """Logs the logits; returns temperature and entropies."""
    arch: ArchParams = parallel.unreplicate(state.arch)
    processes.on_main(self._append, arch, done)
    # That of the epoch's last draw.
    temperature = self._searched.temperature_at(done * self._epoch - 1)
    entropies = _entropies(arch)
    return {
      'temperature': float(temperature),
      'channel_entropy': float(
        np.mean([*map(float, jax.tree.leaves(entropies.channels))])
      ),
      'tutor_entropy': float(np.mean(entropies.tutors)),
    }

  def _append(self, arch: ArchParams, done: int) -> None:
    log = self._log
    assert log is not None  # The main process has opened it.
    step = done * self._epoch
    # A resumed run writes an epoch again that it had written before the break.
    log.truncate_after(step - 1)
    probabilities = _probabilities(arch)
    factors = [cost_tables.factors(c) for c in probabilities.channels]
    operators = [
      {k: np.asarray(p).tolist() for k, p in f.items() if k != 'width'}
      for f in factors
    ]
    log.write(
      {
        'step': step,
        'epoch': done,
        'channels': [np.asarray(f['width']).tolist() for f in factors],
        'tutors': np.asarray(probabilities.tutors).tolist(),
        **({'operators': operators} if any(operators) else {}),
      }
    )

  def export(
    self, path: pathlib.Path, blocks: list[int], layers: list[int]
  ) -> None:
    """Writes all epochs as arrays; ragged filter choices padded with NaN.

    Args:
      path: of the file.
      blocks: places of those that the derived network has.
      layers: the same of its layers.
    """
    lines = files.read_json_lines(self._path)
    if len(lines) < self._epochs:
      logging.warning(
        '%s has %d of %d epochs: the others were lost, and are missing in %s.',
        self._path,
        len(lines),
        self._epochs,
        path,
      )
    if not lines:
      return
    widest = max(len(lines[0]['channels'][block]) for block in blocks)
    channels = np.full((len(lines), len(blocks), widest), np.nan)
    for e, line in enumerate(lines):
      for b, block in enumerate(blocks):
        shares = line['channels'][block]
        channels[e, b, : len(shares)] = shares
    arrays = {
      'epochs': np.array([line['epoch'] for line in lines]),
      'channel_probabilities': channels,
      'tutor_probabilities': np.array(
        [[line['tutors'][layer] for layer in layers] for line in lines]
      ),
    }
    files.write_npz(path, arrays)

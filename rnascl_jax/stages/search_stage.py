"""Searches filters and tutors (RNAS-CL, sections 3.2-3.4)."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging

from rnascl_jax.base import PyTree
from rnascl_jax.config import checks, resolve
from rnascl_jax.runtime import files, parallel, processes
from rnascl_jax.search import arch_params, architecture, flops, gumbel
from rnascl_jax.search.arch_params import ArchParams
from rnascl_jax.search.architecture import Architecture
from rnascl_jax.stages import given_architecture, workdir
from rnascl_jax.stages import run as runs
from rnascl_jax.stages import teacher_stage as teachers
from rnascl_jax.stages.run import Run
from rnascl_jax.training import search_step, train_state
from rnascl_jax.training.search_step import Search


def search(config: Mapping[str, Any], path: str) -> Architecture:
  """Searches an architecture and its tutors, with the trained teacher.

  Args:
    config: see `settings`.
    path: the workdir, with a complete `teacher/`; the search is left in
      `search/` and its result in `architecture.json`, which is that of another
      run if the config names one.

  Returns:
    The architecture.

  Raises:
    ValueError: if the config is not valid or the workdir is of another one.
    FileNotFoundError: if the teacher was not trained yet.
  """
  with runs.open_run(config, path) as run:
    folder = run.folder / 'search'
    if not workdir.is_done(folder):
      if run.settings.search.architecture:
        _take(run, folder)
      else:
        _search(run, folder)
    else:
      logging.info('search is complete: %s', folder)
    return load(run)


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
    found = architecture.from_dict(files.read_json(path, remedy=remedy))
  layers = teachers.network(run, 'teacher').tap_names
  if found.teacher_layers != layers:
    raise ValueError(
      f'architecture.json names {len(found.teacher_layers)} teacher layers '
      f'{found.teacher_layers[:3]}..., but the teacher has {len(layers)}: '
      f'{layers[:3]}.... Search again with this teacher.'
    )
  return found


def _take(run: Run, folder: pathlib.Path) -> None:
  """Takes an architecture that was searched elsewhere."""
  path = run.settings.search.architecture
  layers = teachers.network(run, 'teacher').tap_names
  found = given_architecture.load(run.settings, layers)
  _write(run, found, **given_architecture.about(path))
  workdir.finish(folder, {'seconds': 0.0, 'architecture': path})
  runs.record(run, 'search', 0.0)


def _search(run: Run, folder: pathlib.Path) -> None:
  chosen = run.settings.search
  space = resolve.space(run.settings.space)
  spec = run.settings.space
  net = resolve.student_network(run.data, space, spec.layers, trained=spec)
  teacher_net = teachers.network(run, 'teacher', guides=True)
  _, teacher = teachers.load(run, 'teacher')
  epoch = runs.epoch_steps(run, chosen.optimization)
  taught = chosen.kl_weight > 0 or chosen.gamma > 0
  how = resolve.distill(
    run.settings.distillation,
    teacher_net if taught else None,
    resolve.distillation_spec(chosen, 'search'),
  )
  recipe = runs.make_recipe(
    run, net, chosen.optimization, chosen.adversarial_training, how
  )
  searched = resolve.search(chosen, run.data, space, epoch)
  arch = arch_params.init_arch_params(
    space, len(net.tap_names), len(teacher_net.tap_names)
  )
  key = jax.random.key(runs.stage_seed(run.settings.seed, 'search'))
  parts = checks.split_batch(
    chosen.optimization.batch_size,
    chosen.arch_share,
    len(run.devices),
    chosen.optimization.accumulate,
  )
  weights = train_state.init_state(
    recipe, key, run.data.image_shape, parts[0], run.data.train.labels
  )
  epochs = chosen.optimization.epochs
  with _History(folder / 'arch.jsonl', searched, epochs) as history:
    state, summary = runs.fit(
      run,
      'search',
      folder,
      dataclasses.replace(chosen.optimization, select='last'),
      chosen.adversarial_training,
      search_step.make_search_step(recipe, searched),
      search_step.init_search_state(weights, arch, searched.optimizer),
      runs.context(
        run,
        'search',
        teacher=teacher,
        kl_weight=chosen.kl_weight,
        gamma=chosen.gamma,
      ),
      order_stage='search',
      parts=parts,
      validate=lambda state: {'selection': 0.0},
      annotate=history.annotate,
    )
    history.export(folder / 'history.npz')
  found = architecture.derive(
    space,
    state.arch,
    teacher_net.tap_names,
    blocks_only=run.settings.space.layers == 'block',
  )
  # Without the attention loss nothing moves them, and all are the first layer.
  _write(run, found, tutors_searched=chosen.gamma > 0)
  workdir.finish(folder, summary)
  runs.record(run, 'search', summary['seconds'])


def _write(run: Run, found: Architecture, **about: Any) -> None:
  """Writes architecture.json, with what it is to say beside."""
  shape, classes = run.data.image_shape, run.data.num_classes
  cost = flops.count(found.derived_space, shape, classes)
  full = flops.count(found.derived_space, shape, classes, batch_norm=True)
  processes.on_main(
    files.write_json,
    run.folder / 'architecture.json',
    {
      **architecture.to_dict(found),
      'space': run.settings.space.name,
      'teacher': {
        'name': run.settings.teacher.network.name,
        'layers': list(found.teacher_layers),
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
    entropies = [float(gumbel.entropy(c)) for c in arch.channel_logits]
    return {
      'temperature': float(temperature),
      'channel_entropy': float(np.mean(entropies)),
      'tutor_entropy': float(np.mean(gumbel.entropy(arch.tutor_logits))),
    }

  def _append(self, arch: ArchParams, done: int) -> None:
    log = self._log
    assert log is not None  # The main process has opened it.
    step = done * self._epoch
    # A resumed run writes an epoch again that it had written before the break.
    log.truncate_after(step - 1)
    chosen = arch_params.probabilities(arch)
    log.write(
      {
        'step': step,
        'epoch': done,
        'channels': [np.asarray(c).tolist() for c in chosen.channels],
        'tutors': np.asarray(chosen.tutors).tolist(),
      }
    )

  def export(self, path: pathlib.Path) -> None:
    """Writes all epochs as arrays; ragged filter choices padded with NaN."""
    processes.on_main(self._export, path)

  def _export(self, path: pathlib.Path) -> None:
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
    widest = max(len(c) for c in lines[0]['channels'])
    channels = np.full((len(lines), len(lines[0]['channels']), widest), np.nan)
    for e, line in enumerate(lines):
      for b, block in enumerate(line['channels']):
        channels[e, b, : len(block)] = block
    with files.replacing(path) as file:
      np.savez_compressed(
        file,
        epochs=np.array([line['epoch'] for line in lines]),
        channel_probabilities=channels,
        tutor_probabilities=np.array([line['tutors'] for line in lines]),
      )

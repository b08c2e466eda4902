"""The runs of a sweep: `ROOT/seed<N>/<row>/` are workdirs.

`load(root)` reads all of them; a row that is not there, or not complete, is
missing in what it returns. So is one with a damaged file, which is named in a
warning. Runs of several seeds are averaged only if they were trained by one
config, but for the seed, files of other runs of that seed and what changes no
number, and if every attack that two of them share was the same.

Example:
  >>> import pathlib, tempfile
  >>> from rnascl_jax.reporting.paper import sweep_runs
  >>> root = pathlib.Path(tempfile.mkdtemp())
  >>> (root / 'seed0' / 'digits_ce').mkdir(parents=True)
  >>> sweep_runs.load(root).runs['digits_ce'][0].evaluations
  ()
"""

import os
import pathlib
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from rnascl_jax.reporting import results
from rnascl_jax.reporting.evaluations import ModelEvaluation, SavedAttack
from rnascl_jax.reporting.paper.definition import RowSource
from rnascl_jax.reporting.results import SavedRun
from rnascl_jax.runtime import paths

_SEED = re.compile(r'seed(\d+)')
# Fields, and sections, that differ between runs that are averaged.
_FREE = ('seed', 'devices', 'data.data_dir', 'data.workers', 'evaluation.')
# The folder of a seed, in paths of what another row of the same seed has made.
_OF_SEED = re.compile(r'.*/seed\d+/')
_FIX = (
  'evaluate both alike, or leave the folder of one of them out of the sweep.'
)


class EvaluatedModel(NamedTuple):
  """A model of one seed: the run in which it was trained, and how it did."""

  run: SavedRun
  evaluation: ModelEvaluation


# A model of a sweep in every seed in which it was evaluated.
Models = Mapping[int, EvaluatedModel]


class SweepRuns(NamedTuple):
  """All runs of a sweep, by row and seed, and its folder."""

  root: pathlib.Path
  runs: Mapping[str, Mapping[int, SavedRun]]

  def models(self, source: RowSource | None) -> Models:
    """A row of a table by seed, increasing; empty where there is none.

    Raises:
      ValueError: if its seeds were trained or attacked otherwise, or are of
        other data; it names the difference.
    """
    if source is None:
      return {}
    models = {
      seed: EvaluatedModel(run, evaluation)
      for seed, run in sorted(self.runs.get(source.row, {}).items())
      if (evaluation := run.evaluation(source.model)) is not None
    }
    evaluated = list(models.values())
    for other in evaluated[1:]:
      _check_config(evaluated[0].run, other.run)
      _check_evaluation(evaluated[0], other)
    return models


def load(root: str | os.PathLike[str], only: Collection[int] = ()) -> SweepRuns:
  """Reads all runs of a sweep whose files can be read.

  Args:
    root: its folder.
    only: seeds; none for all that are there.

  Raises:
    ValueError: if the folder has none, or lacks a seed that was asked for.
  """
  folder = paths.local(root, 'workdir')
  seeds = {
    int(match[1]): path
    for path in sorted(folder.glob('seed*'))
    if (match := _SEED.fullmatch(path.name)) and path.is_dir()
  }
  if not seeds:
    raise ValueError(
      f'--workdir={folder} has no folder seed<N>: name the folder of a sweep, '
      'in which the runs are seed0/<row>, seed1/<row>.'
    )
  lacking = sorted(set(only) - seeds.keys())
  if lacking:
    raise ValueError(
      f'--seeds names {lacking[0]}, and {folder} has the seeds '
      f'{", ".join(map(str, sorted(seeds)))}: choose among these.'
    )
  runs: dict[str, dict[int, SavedRun]] = {}
  for seed in sorted(set(only) or seeds):
    for run in sorted(p for p in seeds[seed].iterdir() if p.is_dir()):
      try:
        runs.setdefault(run.name, {})[seed] = results.load(run)
      except ValueError as error:  # Damaged, or of another version.
        logging.warning(
          'Seed %d, row %s is left out: %s', seed, run.name, error
        )
  return SweepRuns(folder, runs)


def _check_config(first: SavedRun, second: SavedRun) -> None:
  before, now = _flat(first.config), _flat(second.config)
  # A field that only one of them has came with another version of the code.
  differ = [
    f'{name} is {before[name]!r} there, {now[name]!r} here'
    for name in sorted(before.keys() & now.keys())
    if _alike(before[name]) != _alike(now[name]) and not name.startswith(_FREE)
  ]
  if differ:
    raise ValueError(
      f'{second.workdir} cannot be averaged with {first.workdir}, a run of '
      f'another config ({"; ".join(differ[:4])}): train both with the same, or '
      'leave the folder of one of them out of the sweep.'
    )


def _flat(fields: Any, prefix: str = '') -> dict[str, Any]:
  """Nested fields under dotted names."""
  if not isinstance(fields, Mapping):
    return {prefix[:-1]: fields}
  nested = [_flat(v, f'{prefix}{k}.') for k, v in fields.items()]
  return {name: value for part in nested for name, value in part.items()}


def _alike(value: Any) -> Any:
  """A field as it is compared."""
  return _OF_SEED.sub('', value) if isinstance(value, str) else value


def _check_evaluation(first: EvaluatedModel, second: EvaluatedModel) -> None:
  one, other = first.evaluation, second.evaluation
  differ = ''
  if one.dataset != other.dataset:
    differ = f'its data are {other.dataset!r}, not {one.dataset!r}'
  for result in other.attacks:
    same = one.under(result.attack) or result
    if not differ and not is_alike(same, result):
      differ = (
        f'it was attacked otherwise, by {_settings(result)}, not by '
        f'{_settings(same)}'
      )
  for curve in other.curves:
    known = one.curve(curve.attack) or curve
    radii = [np.round(c.epsilons, 6).tolist() for c in (curve, known)]
    images = curve.images, known.images
    named = curve.norm, known.norm
    pairs = radii, images, named
    if not differ and any(one != other for one, other in pairs):
      differ = (
        f'its curve of {curve.label} has ε = {radii[0]} ({named[0]}) on '
        f'{images[0]} images, not {radii[1]} ({named[1]}) on {images[1]}'
      )
  if differ:
    raise ValueError(
      f'{other.model} of {second.run.workdir} cannot be averaged with that of '
      f'{first.run.workdir}: {differ}; {_FIX}'
    )


def is_alike(first: SavedAttack, second: SavedAttack) -> bool:
  """Whether two results are of one attack on as many images."""
  return first.same_attack(second) and first.images == second.images


def _settings(result: SavedAttack) -> str:
  text = f'{result.label} at ε = {result.epsilon:.6g}'
  if result.norm:
    text += f' ({result.norm})'
  if result.steps:
    text += f', {result.steps} steps'
  if result.step_size:
    text += f' of {result.step_size:.6g}'
  members = ', '.join(
    f'{m.label} with {m.num_trials} trials of {m.num_steps} steps'
    for m in result.members
  )
  return text + f' [{members}]' * bool(members) + f' on {result.images} images'

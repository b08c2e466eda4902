"""The runs of a sweep: `ROOT/seed<N>/<row>/` are workdirs.

`load(root)` reads all of them; a row that is not there, or not complete, is
missing in what it returns. So is one with a damaged file, which is named in a
warning.

Example:
  >>> import pathlib, tempfile
  >>> from rnascl_jax.reporting.paper import sweep_results
  >>> root = pathlib.Path(tempfile.mkdtemp())
  >>> (root / 'seed0' / 'digits_ce').mkdir(parents=True)
  >>> sweep_results.load(root).seeds
  (0,)
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from absl import logging

from rnascl_jax.reporting import results
from rnascl_jax.reporting.paper import agreement
from rnascl_jax.reporting.paper.definition import Source
from rnascl_jax.reporting.results import ModelEvaluation, Run
from rnascl_jax.runtime import files, paths

_SEED = re.compile(r'seed(\d+)')


class Evaluated(NamedTuple):
  """A model of one seed.

  Attributes:
    run: in which it was trained and attacked.
    found: its evaluation.
  """

  run: Run
  found: ModelEvaluation


@dataclasses.dataclass(frozen=True)
class Sweep:
  """All runs of a sweep.

  Attributes:
    root: its folder.
    runs: by row and seed.
  """

  root: pathlib.Path
  runs: Mapping[str, Mapping[int, Run]]

  @property
  def seeds(self) -> tuple[int, ...]:
    """All seeds of any row, increasing."""
    return tuple(sorted({seed for row in self.runs.values() for seed in row}))

  def row(self, name: str) -> Mapping[int, Run]:
    """The runs of a row by seed; empty where there are none."""
    return self.runs.get(name, {})

  def models(self, source: Source) -> dict[int, Evaluated]:
    """A model of every seed in which it was evaluated.

    Args:
      source: of a line.

    Returns:
      By seed, increasing; empty where there is none.

    Raises:
      ValueError: if they were trained or attacked otherwise.
    """
    found = {
      seed: Evaluated(run, evaluation)
      for seed, run in sorted(self.row(source.row).items())
      if (evaluation := run.evaluation(source.model)) is not None
    }
    agreement.check(
      [evaluated.run for evaluated in found.values()], source.model
    )
    return found


def load(root: str | os.PathLike[str], only: Collection[int] = ()) -> Sweep:
  """Reads a sweep.

  Args:
    root: its folder.
    only: seeds; none for all that are there.

  Returns:
    All of its runs whose files can be read.

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
  runs: dict[str, dict[int, Run]] = {}
  for seed, path in sorted(seeds.items()):
    if only and seed not in only:
      continue
    for run in sorted(p for p in path.iterdir() if p.is_dir()):
      try:
        runs.setdefault(run.name, {})[seed] = results.load(run)
      except files.DamagedFileError as error:
        logging.warning(
          'Seed %d, row %s is left out: %s', seed, run.name, error
        )
  return Sweep(folder, runs)

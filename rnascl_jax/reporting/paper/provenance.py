"""Where the numbers of a table come from: data, code, devices, commands."""

import re
import shlex

from absl import logging

from rnascl_jax.reporting import results
from rnascl_jax.reporting.paper.rendering import Filled
from rnascl_jax.reporting.results import Run
from rnascl_jax.runtime import files

# What a sweep leaves in the folder of a row that is finished.
_MARKER = 'sweep.json'
_SEED = re.compile(r'(--config\.seed=|ROOT/seed)\d+')
# A row whose files a command names.
_TAKEN = re.compile(r'=ROOT/seedN/(\w+)/')
_STAGES = ('search', 'train', 'adversarial')


def facts(filled: Filled) -> list[str]:
  """Data, training, commits and devices of all runs of a table.

  Args:
    filled: with at least one row that was run.

  Returns:
    A line; only facts that the runs saved.
  """
  runs = _runs(filled)
  commits = [run.provenance.get('commit') or 'not recorded' for run in runs]
  kinds = [
    f'{device["count"]} × {device["kind"]}'
    for run in runs
    for device in _devices(run)
  ]
  facts = [
    ('Data set', [run.dataset for run in runs]),
    ('Test images', [f'{e.images:,}' for _, e in filled.evaluated]),
    ('Training images', [text for run in runs if (text := _limited(run))]),
    ('Epochs', _epochs(runs)),
    ('Commit', commits),
    ('Devices', kinds),
  ]
  said = [
    f'{name}: {"; ".join(dict.fromkeys(values))}.'
    for name, values in facts
    if values
  ]
  return [' '.join(said)]


def _devices(run: Run) -> list:
  """Those of all stages."""
  stages = run.provenance.get('stages') or {'': run.provenance}
  return [d for stage in stages.values() for d in stage.get('devices', ())]


def _limited(run: Run) -> str:
  """'the first 20,480' where a run was not trained on all images."""
  count = (run.config.get('data') or {}).get('max_train')
  return f'the first {count:,}' if count else ''


def _epochs(runs: list[Run]) -> list[str]:
  """'search 100, train 100, adversarial 20', for each kind of run."""
  found = []
  for run in runs:
    stages = [
      f'{name} {epochs}'
      for name in _STAGES
      if (epochs := _stage_epochs(run, name)) is not None
    ]
    if stages:
      found.append(', '.join(stages))
  return found


def _stage_epochs(run: Run, name: str) -> int | None:
  """Of a stage that the run has."""
  has = any(stage.group == name for stage in run.stages)
  section = (run.config.get(name) or {}).get('optimization') or {}
  return section.get('epochs') if has else None


def commands(filled: Filled) -> list[str]:
  """The command lines of all rows, of a seed N.

  Args:
    filled: with at least one row that was run.

  Returns:
    Of a row of a sweep its commands, as `sweep.json` of any seed has them, and
    before them those of rows that it takes from; of other runs the last one of
    their workdir.
  """
  found: dict[str, list[str]] = {}
  given: dict[str, list[str]] = {}
  for run in _runs(filled):
    row, own = run.workdir.name, run.provenance.get('command')
    found.setdefault(row, []).extend(_of_sweep(run))
    given.setdefault(row, []).extend([own] if own else [])
  lines = [line for row in found for line in found[row] or given[row]]
  lines = [*_before(filled, lines, frozenset(found)), *lines]
  return list(dict.fromkeys(lines))


def _before(
  filled: Filled, lines: list[str], known: frozenset[str]
) -> list[str]:
  """The commands of rows that these take from, in an order that works."""
  taken = [name for line in lines for name in _TAKEN.findall(line)]
  new = [name for name in dict.fromkeys(taken) if name not in known]
  own = [
    command
    for name in new
    for run in filled.sweep.row(name).values()
    for command in _of_sweep(run)
  ]
  if not own:
    return []
  return [*_before(filled, own, known | set(new)), *own]


def _of_sweep(run: Run) -> list[str]:
  """The commands of a finished row of a sweep, none of any other run."""
  path = run.workdir / _MARKER
  try:
    saved = results.read_json(path) or {}
    with files.naming(path):
      return [
        _SEED.sub(r'\1N', shlex.join(words))
        for words in saved.get('commands', ())
      ]
  except files.DamagedFileError as error:
    logging.warning('The commands of a row are left out: %s', error)
    return []


def _runs(filled: Filled) -> list[Run]:
  """Every run of the table, each once."""
  runs = {
    evaluated.run.workdir: evaluated.run for evaluated in filled.evaluated
  }
  return list(runs.values())

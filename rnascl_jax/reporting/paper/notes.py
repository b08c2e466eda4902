"""What stands below a table: how to read it, and what made its numbers."""

import re
import shlex
import statistics

from absl import logging

from rnascl_jax.reporting import results, tables
from rnascl_jax.reporting.paper import measures, sweep_runs
from rnascl_jax.reporting.paper.comparison import FilledTable
from rnascl_jax.reporting.results import SavedRun
from rnascl_jax.runtime import files

# Images in the test split of a data set, and in that of a class of ImageNet.
_TEST_IMAGES = {'cifar10': 10_000, 'digits': 517}
_IMAGENET, _PER_CLASS, _CLASSES = 'imagenet', 50, 1000
# Points of deviation from which on a mean hides what the seeds are.
_APART = 5.0
# What a sweep leaves in the folder of a row that is finished.
_MARKER = 'sweep.json'
_SEED = re.compile(r'(--config\.seed=|ROOT/seed)\d+')
# A row whose files a command names.
_TAKEN = re.compile(r'=ROOT/seedN/(\w+)/')
_STAGES = ('search', 'train', 'adversarial')


def notes(filled: FilledTable) -> list[str]:
  """What a reader must know beside a table of which a row was run.

  The sentences are of the table, of what is missing, of the attacks, of where
  the numbers come from.
  """
  return [
    *filled.table.notes,
    _averages(filled),
    *_seeds(filled),
    *_attacks(filled),
    *_fewer(filled),
    *_attacked_otherwise(filled),
    _facts(filled),
  ]


def _averages(filled: FilledTable) -> str:
  seeds = ', '.join(map(str, filled.seeds))
  if len(filled.seeds) < 2:
    return f'Accuracies in %, of one seed ({seeds}).'
  return (
    f'Accuracies in %, mean ± standard deviation over seeds ({seeds}); a '
    'number without ± is of one seed.'
  )


def _seeds(filled: FilledTable) -> list[str]:
  """Which rows lack which seeds, and every seed of those that are far apart."""
  lacking, apart = [], []
  for line, models in filled.run:
    name = ': '.join(line.labels)
    absent = [f'{s}' for s in filled.seeds if s not in models]
    if absent:
      lacking.append(f'{name} (seed {", ".join(absent)})')
    for column in filled.table.accuracies:
      values = measures.values(models, column.key)
      if len(values) > 1 and statistics.stdev(values.values()) > _APART:
        texts = [f'{value:.1f} (seed {seed})' for seed, value in values.items()]
        apart.append(f'{name}, {column.heading}: {", ".join(texts)}')
  sentences = []
  if lacking:
    rows = '; '.join(lacking)
    sentences.append(f'Lacking, so that means are of other seeds: {rows}.')
  if apart:
    sentences.append(f'Seeds that are far apart: {"; ".join(apart)}.')
  return sentences


def _attacks(filled: FilledTable) -> list[str]:
  """The settings of every attack of a column."""
  keys = [column.key for column in filled.table.columns]
  attacked = [
    (result, evaluation.dataset)
    for _, evaluation in filled.evaluated
    for result in evaluation.attacks
    if result.attack in keys and result.attack != 'clean'
  ]
  if not attacked:
    return []
  text = tables.attacks_note(attacked)
  radius = filled.table.radius_255
  if filled.table.is_printed and any(
    abs(result.epsilon - radius / 255) > 1e-4 for result, _ in attacked
  ):
    text += f' The paper has ε = {radius:g}/255.'
  return [text]


def _fewer(filled: FilledTable) -> list[str]:
  """Columns on fewer images than others, and fewer than there are."""
  keys = [column.key for column in filled.table.columns]
  texts = []
  for run, evaluation in filled.evaluated:
    images = evaluation.images
    texts += [
      tables.fewer_note(result, images)
      for result in evaluation.attacks
      if result.attack in keys and result.images < images
    ]
    in_split = _test_images(run)
    if in_split is not None and images < in_split:
      texts.append(
        f'Evaluated on the first {images:,} of {in_split:,} test images.'
      )
  return list(dict.fromkeys(texts))


def _test_images(run: SavedRun) -> int | None:
  """Images in the test split of a run's data set, None if unknown."""
  if run.dataset != _IMAGENET:
    return _TEST_IMAGES.get(run.dataset)
  classes = (run.config.get('data') or {}).get('classes') or ()
  return _PER_CLASS * (len(classes) or _CLASSES)


def _attacked_otherwise(filled: FilledTable) -> list[str]:
  """Columns whose rows were attacked in different ways."""
  texts = []
  for column in filled.table.columns:
    attacked = [a for _, e in filled.evaluated if (a := e.under(column.key))]
    if not all(sweep_runs.is_alike(attacked[0], a) for a in attacked):
      texts.append(
        f'**{column.heading} does not compare across rows: they were attacked '
        'with other settings, or on other images.**'
      )
  return texts


def _facts(filled: FilledTable) -> str:
  """Data, training, commits and devices, as far as the runs saved them."""
  runs = _runs(filled)
  # What is known of each stage, or of the run where it has no stages.
  stages = [
    stage
    for run in runs
    for stage in (run.provenance.get('stages') or {'': run.provenance}).values()
  ]
  facts: dict[str, list[str]] = {
    'Data set': [run.dataset for run in runs],
    'Test images': [f'{e.images:,}' for _, e in filled.evaluated],
    'Training images': [
      f'the first {count:,}'
      for run in runs
      if (count := (run.config.get('data') or {}).get('max_train'))
    ],
    'Epochs': [text for run in runs if (text := _epochs(run))],
    'Commit': [run.provenance.get('commit') or 'not recorded' for run in runs],
    'Devices': [
      f'{device["count"]} × {device["kind"]}'
      for stage in stages
      for device in stage.get('devices', ())
    ],
  }
  return ' '.join(
    f'{name}: {"; ".join(dict.fromkeys(values))}.'
    for name, values in facts.items()
    if values
  )


def _epochs(run: SavedRun) -> str:
  """'search 100, train 100, adversarial 20', of the stages that it has."""
  texts = []
  for name in _STAGES:
    epochs = results.epochs(run, name)
    if epochs and any(s.group == name for s in run.stages):
      texts.append(f'{name} {epochs}')
  return ', '.join(texts)


def commands(filled: FilledTable) -> list[str]:
  """The command lines of all rows, of a seed N.

  Of a row of a sweep they are its commands, as `sweep.json` of any seed has
  them, and before them those of rows that it takes from; of other runs the last
  one of their workdir.
  """
  of_sweep: dict[str, list[str]] = {}
  of_runs: dict[str, list[str]] = {}
  for run in _runs(filled):
    row, last = run.workdir.name, run.provenance.get('command')
    of_sweep.setdefault(row, []).extend(_of_sweep(run))
    of_runs.setdefault(row, []).extend([last] if last else [])
  lines = [line for row in of_sweep for line in of_sweep[row] or of_runs[row]]
  lines = [*_before(filled, lines, frozenset(of_sweep)), *lines]
  return list(dict.fromkeys(lines))


def _before(
  filled: FilledTable, lines: list[str], known: frozenset[str]
) -> list[str]:
  """The commands of rows that these take from, in an order that works."""
  taken = [name for line in lines for name in _TAKEN.findall(line)]
  new = [name for name in dict.fromkeys(taken) if name not in known]
  own = [
    command
    for name in new
    for run in filled.sweep.runs.get(name, {}).values()
    for command in _of_sweep(run)
  ]
  return [*_before(filled, own, known | set(new)), *own] if own else []


def _of_sweep(run: SavedRun) -> list[str]:
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


def _runs(filled: FilledTable) -> list[SavedRun]:
  """Every run of the table, each once."""
  return list({run.workdir: run for run, _ in filled.evaluated}.values())

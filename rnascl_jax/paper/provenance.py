"""What stands below a table: where its numbers come from, what they lack."""

import re
import shlex
import textwrap

from rnascl_jax.figures import ensembles, evaluation
from rnascl_jax.figures.results import Run
from rnascl_jax.paper import agreement
from rnascl_jax.paper.rendering import Filled
from rnascl_jax.paper.sweep_results import Evaluated
from rnascl_jax.report import tables

# Images in the test split of a data set, and in that of a class of ImageNet.
_TEST_IMAGES = {'cifar10': 10_000, 'digits': 517}
_IMAGENET, _PER_CLASS, _CLASSES = 'imagenet', 50, 1000
# What a sweep leaves in the folder of a row that is finished.
_MARKER = 'sweep.json'
_SEED = re.compile(r'(--config\.seed=|ROOT/seed)\d+')
_STAGES = ('search', 'train', 'adversarial')


def notes(filled: Filled) -> list[str]:
  """What a reader must know beside the table.

  Args:
    filled: with at least one row that was run.

  Returns:
    Sentences: of the table, of what is missing, of the attacks, of where the
    numbers come from.
  """
  return [
    *filled.table.notes,
    _how(filled),
    *_missing(filled),
    *_attacks(filled),
    *_fewer(filled),
    *_otherwise(filled),
    *_origin(filled),
  ]


def _models(filled: Filled) -> list[Evaluated]:
  return [e for row in filled.rows for e in row.models.values()]


def _runs(filled: Filled) -> list[Run]:
  """Every run of the table, each once."""
  runs = {evaluated.run.workdir: evaluated.run for evaluated in _models(filled)}
  return list(runs.values())


def _how(filled: Filled) -> str:
  seeds = ', '.join(map(str, filled.seeds))
  if len(filled.seeds) < 2:
    return f'Accuracies in %, of one seed ({seeds}).'
  return (
    f'Accuracies in %, mean ± standard deviation over seeds ({seeds}); a '
    'number without ± is of one seed.'
  )


def _missing(filled: Filled) -> list[str]:
  """Which rows lack which seeds."""
  lacking = []
  for row in filled.rows:
    absent = [s for s in filled.seeds if s not in row.models]
    if row.models and absent:
      seeds = ', '.join(map(str, absent))
      lacking.append(f'{": ".join(row.line.labels)} (seed {seeds})')
  if not lacking:
    return []
  return [f'Lacking, so that means are of other seeds: {"; ".join(lacking)}.']


def _attacks(filled: Filled) -> list[str]:
  """The settings of every attack of a column."""
  keys = [column.key for column in filled.table.columns]
  found: dict[str, None] = {}
  radii = set()
  for _, e in _models(filled):
    for outcome in e.outcomes:
      if outcome.attack in keys and outcome.attack != 'clean':
        found[tables.attack_settings(outcome, e.dataset)] = None
        radii.add((round(outcome.epsilon, 6), e.dataset))
  if not found:
    return []
  text = f'Attacks (L∞, ε in pixel values): {"; ".join(found)}.'
  paper = filled.table.radius_255 / 255
  if filled.table.is_printed and any(abs(r - paper) > 1e-4 for r, _ in radii):
    text += f' The paper has ε = {_paper_radius(filled)}.'
  return [text]


def _paper_radius(filled: Filled) -> str:
  return f'{filled.table.radius_255:g}/255'


def _fewer(filled: Filled) -> list[str]:
  """Columns on fewer images than others, and fewer than there are."""
  keys = [column.key for column in filled.table.columns]
  found: dict[str, None] = {}
  for run, e in _models(filled):
    for outcome in e.outcomes:
      if outcome.attack in keys and outcome.images < e.images:
        which = ensembles.which_images(outcome, e.images)
        found[
          f'{outcome.label} is on {which}: compare it with other columns on '
          'the same images only.'
        ] = None
    there = test_images(run)
    if there is not None and e.images < there:
      found[
        f'Evaluated on the first {e.images:,} of {there:,} test images.'
      ] = None
  return list(found)


def test_images(run: Run) -> int | None:
  """Images in the test split of a run's data set, None if unknown."""
  if run.dataset != _IMAGENET:
    return _TEST_IMAGES.get(run.dataset)
  classes = (run.config.get('data') or {}).get('classes') or ()
  return _PER_CLASS * (len(classes) or _CLASSES)


def _otherwise(filled: Filled) -> list[str]:
  """Columns whose rows were attacked in different ways."""
  found = []
  for column in filled.table.columns:
    outcomes = [
      outcome
      for _, e in _models(filled)
      if (outcome := e.outcome(column.key)) is not None
    ]
    if any(not agreement.is_alike(outcomes[0], other) for other in outcomes):
      found.append(
        f'**{column.heading} does not compare across rows: they were attacked '
        'with other settings, or on other images.**'
      )
  return found


def _origin(filled: Filled) -> list[str]:
  """Data, training, commit, devices."""
  runs = _runs(filled)
  commits = [run.provenance.get('commit') or 'not recorded' for run in runs]
  kinds = [
    f'{device["count"]} × {device["kind"]}'
    for run in runs
    for device in _devices(run)
  ]
  facts = [
    ('Data set', [run.dataset for run in runs]),
    ('Test images', [f'{e.images:,}' for _, e in _models(filled)]),
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
    Of a run of a sweep its commands, as `sweep.json` has them; of any other
    the last one of its workdir.
  """
  found = [line for run in _runs(filled) for line in _commands(run)]
  return list(dict.fromkeys(found))


def _commands(run: Run) -> list[str]:
  saved = evaluation.read_json(run.workdir / _MARKER)
  if saved is None:
    command = run.provenance.get('command')
    return [command] if command else []
  return [
    _SEED.sub(r'\1N', shlex.join(words)) for words in saved.get('commands', ())
  ]


def wrapped(lines: list[str], width: int) -> str:
  """Sentences for a console, each on lines of its own, without emphasis."""
  return '\n'.join(
    textwrap.fill(line.replace('**', ''), width, break_on_hyphens=False)
    for line in lines
  )

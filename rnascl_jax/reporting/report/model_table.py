"""What every model reached, in one run and over seeds, and what was searched.

A run's intervals cover the choice of test images; only several seeds show what
the randomness of training does.
"""

from collections.abc import Sequence

from rnascl_jax.reporting import statistics, tables
from rnascl_jax.reporting.evaluations import Json
from rnascl_jax.reporting.results import SavedRun

# Shares at which the table's note states the interval's half-width.
_NOTED_SHARES = (0.5, 0.9, 0.99)


def cells(run: SavedRun) -> list[list[str]]:
  """The results as text: a row of headings, then one row a model, in order."""
  columns = tables.columns(run)
  rows = [['Model', *columns.values(), 'Params', 'MACs', 'Seconds']]
  for model in run.evaluations:
    reached = tables.by_column(model)
    seconds = model.seconds
    rows.append(
      [
        model.label,
        *(tables.mean_accuracy([reached], column) for column in columns),
        tables.count(model.parameters),
        tables.count(model.macs),
        tables.NOTHING if seconds is None else f'{seconds:,.0f}',
      ]
    )
  return rows


def notes(run: SavedRun) -> list[str]:
  """What a reader must know beside the table: units, attacks, intervals."""
  further = any(e.base for e in run.evaluations)
  lines = [
    'Accuracies in %. Params and MACs (multiply-accumulates of one image): '
    'convolutions and linear layers, without BatchNorm. Seconds: time of '
    f'training{", or of fine-tuning" if further else ""}.'
  ]
  attacks = [a for e in run.evaluations for a in e.attacks]
  attacked = [(a, run.dataset) for a in attacks if a.attack != 'clean']
  if attacked:
    lines.append(tables.attacks_note(attacked))
  lines += tables.fewer_notes(run)
  return lines + [
    _interval_note(images) for images in sorted({a.images for a in attacks})
  ]


def _interval_note(images: int) -> str:
  widths = []
  for share in _NOTED_SHARES:
    low, high = statistics.wilson(round(share * images), images)
    widths.append(f'± {50 * (high - low):.1f} at {100 * share:.0f} %')
  return (
    f'95 % binomial intervals (Wilson) for {images:,} images, in points: '
    f'{", ".join(widths)}.'
  )


def over_seeds(runs: Sequence[SavedRun]) -> str:
  """Mean and standard deviation of every accuracy, as a Markdown table.

  Returns:
    A row for each model that all runs have, a dash for an attack that one of
    them lacks, and a note.

  Raises:
    ValueError: if there are fewer than two runs, or if they are of different
      data, or an attack on a model has other settings or images in one.
  """
  if len(runs) < 2:
    raise ValueError(f'{len(runs)} run given; a mean over seeds needs two.')
  first = runs[0]
  for run in runs[1:]:
    attacks = _settings(first), _settings(run)
    both = attacks[0].keys() & attacks[1].keys()
    agree = all(attacks[0][key] == attacks[1][key] for key in both)
    if not agree or run.dataset != first.dataset:
      raise ValueError(
        f'{run.workdir} was evaluated under other attacks, or on other data, '
        f'than {first.workdir}; evaluate both with the same config.'
      )
  columns = tables.columns(first)
  rows = [['Model', *columns.values()]]
  for model in first.evaluations:
    same = [run.evaluation(model.model) for run in runs]
    reached = [tables.by_column(e) for e in same if e is not None]
    if len(reached) == len(runs):
      rows.append(
        [model.label, *(tables.mean_accuracy(reached, c) for c in columns)]
      )
  seeds = ', '.join(str(run.config.get('seed', '?')) for run in runs)
  note = [
    f'Accuracies in %, mean ± standard deviation over {len(runs)} runs (seeds '
    f'{seeds}).',
    *tables.fewer_notes(first),
  ]
  return f'{tables.markdown(rows)}\n\n{" ".join(note)}'


def _settings(run: SavedRun) -> dict[tuple[str, str], set[tuple]]:
  """The settings of every attack on every model of a run."""
  if not run.evaluations:
    raise ValueError(f'{run.workdir} has no evaluated model.')
  settings: dict[tuple[str, str], set[tuple]] = {}
  for e in run.evaluations:
    for column, a in tables.by_column(e).items():
      members = tuple(member.name for member in a.members)
      of_attack = settings.setdefault((e.model, a.attack), set())
      of_attack.add((column, a.steps, a.norm, members))
  return settings


def about_architecture(saved: Json) -> str:
  """The space and the size of the network of architecture.json."""
  sizes = [
    f'{tables.count(saved[key])} {name}'
    for key, name in (('parameters', 'parameters'), ('macs', 'MACs'))
    if saved.get(key) is not None
  ]
  if saved.get('latency_us') is not None:
    sizes.append(f'{saved["latency_us"]:.1f} µs by the table of its search')
  space = saved.get('space')
  skipped = [str(block['index']) for block in saved.get('skipped', ())]
  texts = [
    f'Search space `{space}`.' if isinstance(space, str) else '',
    f'{", ".join(sizes)}.' if sizes else '',
    f'Blocks that the search skipped: {", ".join(skipped)}.' if skipped else '',
    'A tutor is the teacher layer, its index in brackets, whose attention maps '
    'a student layer was taught.'
    if saved['tutors']
    else 'No tutors were searched: config.search.gamma is 0, or '
    'config.search.tutors a control.',
  ]
  return ' '.join(filter(None, texts))


def architecture(saved: Json) -> list[list[str]]:
  """The network of architecture.json: a row a block, with its layers' tutors.

  Layers in front of the blocks have a row of their own, below the headings.
  """
  blocks, tutors = saved['blocks'], saved['tutors']
  # Every block has as many taught layers as any other; the rest is the stem.
  each = len(tutors) // max(len(blocks), 1)
  before = len(tutors) - each * len(blocks)
  stride = f'{saved.get("stem_stride", "")}'
  rows = [['Block', 'Stride', 'Filters', 'Choices', 'Tutor of each layer']]
  rows.append(
    ['stem', stride, f'{saved["stem"]}', '', _tutors(tutors[:before])]
  )
  for index, block in enumerate(blocks):
    start = before + index * each
    rows.append(
      [
        f'{index}',
        f'{block["stride"]}',
        ' '.join(filter(None, (f'{block["features"]}', operator(block)))),
        ', '.join(map(str, block['choices'])),
        _tutors(tutors[start : start + each]) if tutors else tables.NOTHING,
      ]
    )
  return rows


def operator(block: Json) -> str:
  """'5x5 x3', the kernel size and the expansion, as far as searched."""
  parts = []
  if block.get('kernel_choices'):
    parts.append('{0}x{0}'.format(block['kernel_size']))
  if block.get('expansion_choices'):
    parts.append(f'x{block["expansion"]}')
  return ' '.join(parts)


def _tutors(tutors: Sequence[Json]) -> str:
  """'expand ← layer1_0/conv2 (3)' for each layer; its block heads the row."""
  return '; '.join(
    f'{t["layer"].split("/")[-1]} ← {t["tutor_layer"]} ({t["tutor"]})'
    for t in tutors
  )

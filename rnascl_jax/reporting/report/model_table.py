"""Tables of a run: what every model reached, and what the search chose."""

from collections.abc import Sequence

from rnascl_jax.reporting import statistics, tables
from rnascl_jax.reporting.results import Json, Run

# Shares at which the table's note states the interval's half-width.
_NOTED_SHARES = (0.5, 0.9, 0.99)


def cells(run: Run) -> list[list[str]]:
  """The results as text: a row of headings, then one row a model, in order."""
  columns = tables.columns(run)
  rows = [['Model', *columns.values(), 'Params', 'MACs', 'Seconds']]
  for model in run.evaluations:
    reached = tables.by_column(model)
    seconds = model.seconds
    rows.append(
      [
        model.label,
        *(
          f'{100 * reached[column].accuracy:.1f}'
          if column in reached
          else tables.NOTHING
          for column in columns
        ),
        tables.count(model.parameters),
        tables.count(model.macs),
        tables.NOTHING if seconds is None else f'{seconds:,.0f}',
      ]
    )
  return rows


def notes(run: Run) -> list[str]:
  """What a reader must know beside the table: units, attacks, intervals."""
  further = any(e.base for e in run.evaluations)
  lines = [
    'Accuracies in %. Params and MACs (multiply-accumulates of one image): '
    'convolutions and linear layers, without BatchNorm. Seconds: time of '
    f'training{", or of further training on attacks" if further else ""}.'
  ]
  attacks = [a for e in run.evaluations for a in e.attacks]
  settings = [
    tables.attack_settings(a, run.dataset)
    for a in attacks
    if a.attack != 'clean'
  ]
  if settings:
    lines.append(
      f'Attacks (L∞, ε in pixel values): {"; ".join(dict.fromkeys(settings))}.'
    )
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


def architecture(saved: Json) -> list[list[str]]:
  """The found network: a row a block, with the tutors of its layers.

  Args:
    saved: architecture.json.

  Returns:
    Rows of text, headings first. Layers in front of the blocks have a row of
    their own.
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
        f'{block["features"]}',
        ', '.join(map(str, block['choices'])),
        _tutors(tutors[start : start + each]) if tutors else tables.NOTHING,
      ]
    )
  return rows


def _tutors(tutors: Sequence[Json]) -> str:
  """'expand ← layer1_0/conv2 (3)' for each layer; its block heads the row."""
  return '; '.join(
    f'{t["layer"].split("/")[-1]} ← {t["tutor_layer"]} ({t["tutor"]})'
    for t in tutors
  )

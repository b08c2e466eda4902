"""Common corruptions: a section of the report, and tables for a console."""

import textwrap
from collections.abc import Sequence

from rnascl_jax.reporting import tables
from rnascl_jax.reporting.corruptions import SavedSet

_WIDTH = 76
_CONSTANTS = {
  32: 'CIFAR-10-C (images of 32 pixels)',
  64: 'Tiny-ImageNet-C (images of 64 pixels)',
  224: 'ImageNet-C (images of 224 pixels)',
}


def section(saved: Sequence[SavedSet]) -> str:
  """The section of report.md; '' where nothing was evaluated so."""
  parts = ['## Common corruptions']
  for corrupted in saved:
    if corrupted.severities:
      parts += [
        about(corrupted),
        tables.markdown(cells(corrupted)),
        ' '.join(notes(corrupted)),
      ]
  return '\n\n'.join(parts) if len(parts) > 1 else ''


def plain(saved: Sequence[SavedSet]) -> str:
  """The same for a console."""
  parts = []
  for corrupted in saved:
    if corrupted.severities:
      parts += [
        textwrap.fill(about(corrupted), _WIDTH),
        tables.plain(cells(corrupted)),
        textwrap.fill(' '.join(notes(corrupted)), _WIDTH),
      ]
  return '\n\n'.join(parts)


def cells(corrupted: SavedSet) -> list[list[str]]:
  """Accuracies in %: headings, then a row a corruption, then means."""
  models = corrupted.models
  rows = [['Corruption', *(model.label for model in models)]]
  rows.append(['none', *(tables.mean([m.clean], 100) for m in models)])
  for name in corrupted.severities:
    accuracies = [corrupted.accuracy(model, name) for model in models]
    rows.append(
      [name.replace('_', ' '), *(tables.mean([a], 100) for a in accuracies)]
    )
  means = [corrupted.mean_accuracy(model) for model in models]
  errors = [None if mean is None else 1 - mean for mean in means]
  rows.append(['Mean accuracy', *(tables.mean([mean], 100) for mean in means)])
  rows.append(['Mean error', *(tables.mean([error], 100) for error in errors)])
  if corrupted.baseline:
    rates = [corrupted.mean_corruption_error(model) for model in models]
    heading = f'mCE, {corrupted.baseline["name"]} = 100'
    rows.append([heading, *(tables.mean([rate], 100) for rate in rates)])
  return rows


def about(corrupted: SavedSet) -> str:
  """Which images these are."""
  name = corrupted.name
  made = corrupted.identity.get('constants')
  source = f'the images in the folder {name}'
  if made:
    source = (
      'test images that were corrupted by the published formulas, with the '
      f'constants of {_CONSTANTS[made]}'
    )
  return (
    f'Accuracies in % on {source}, {corrupted.images:,} of each corruption and '
    'severity (Hendrycks and Dietterich, 2019).'
  )


def notes(corrupted: SavedSet) -> list[str]:
  """Over what the means are, and what the errors are divided by."""
  by_severities: dict[tuple[int, ...], list[str]] = {}
  for name, severities in corrupted.severities.items():
    by_severities.setdefault(severities, []).append(name.replace('_', ' '))
  texts = []
  for severities, of_these in by_severities.items():
    listed = ', '.join(map(str, severities))
    word = 'severities' if len(severities) > 1 else 'severity'
    whose = f' ({", ".join(of_these)})' if len(by_severities) > 1 else ''
    texts.append(f'{word} {listed}{whose}')
  count = len(corrupted.averaged)
  extra = ' (not the extra ones)' * (count < len(corrupted.severities))
  lines = [
    f'Means over {" and ".join(texts)}, and then over {count} '
    f'corruption{"s" * (count > 1)}{extra}.'
  ]
  baseline = corrupted.baseline
  if baseline:
    lines.append(
      'mCE: errors divided by those of the baseline, per corruption '
      f'({baseline["source"]}).'
    )
  else:
    lines.append(
      'The mean error is a mean corruption error that is not normalised: it is '
      'not divided by the errors of a baseline, such as AlexNet.'
    )
  return lines

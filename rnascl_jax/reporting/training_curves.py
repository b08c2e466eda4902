"""What is drawn of every training: each term of the loss, and accuracies.

A panel has one quantity of one kind of stage over its epochs. Training and
validation share a panel only where they are the same quantity: the objective is
of training alone, and the validation loss is a cross-entropy.

Example:
  >>> import pathlib
  >>> from rnascl_jax.reporting import results, training_curves
  >>> record = {'epoch': 1, 'split': 'validation', 'loss': 0.5}
  >>> stage = results.StageMetrics('train', 'ce', (record,), {})
  >>> run = results.SavedRun(pathlib.Path('run'), stages=(stage,))
  >>> (panel,) = training_curves.panels(run)
  >>> panel.title, panel.quantity.label, panel.lines[0].values.tolist()
  ('Students', 'Cross-entropy', [0.5])
"""

from typing import NamedTuple

import numpy as np

from rnascl_jax.reporting import style
from rnascl_jax.reporting.results import SavedRun, StageMetrics
from rnascl_jax.reporting.style import Look

# Kinds of stages, in order, with their titles.
GROUPS = {
  'teacher': 'Teachers',
  'search': 'Search',
  'train': 'Students',
  'pruning': 'Scores of weights',
  'adversarial': 'Adversarial fine-tuning',
}
SPLITS = ('train', 'validation')
# Training methods whose accuracy and cross-entropy of training are those of
# attacked images.
_ON_ATTACKED = ('pgd', 'fast', 'free', 'mart', 'ard', 'rslad', 'iad', 'adaad')


class Quantity(NamedTuple):
  """What the vertical axis of a panel shows.

  Attributes:
    label: what a reader sees.
    train: its name in the metrics of training; '' for none.
    validation: its name in the metrics of validation; '' for none.
    attacked: its name in the metrics of a training on attacked images alone.
    is_share: whether it is a share, to be shown in per cent.
  """

  label: str
  train: str
  validation: str
  attacked: str
  is_share: bool = False


QUANTITIES = (
  Quantity('Training objective', 'loss', '', 'loss'),
  Quantity('Cross-entropy', 'cross_entropy', 'loss', ''),
  Quantity('Cross-entropy under attack', '', '', 'cross_entropy'),
  Quantity('KL, or the method in its place', 'kl', '', 'kl'),
  Quantity('Attention loss, eq. (1)', 'attention', '', 'attention'),
  Quantity('Robust term', 'robust_term', '', 'robust_term'),
  Quantity("The method's own loss", '', '', 'own_loss'),
  Quantity('Accuracy (%)', 'accuracy', 'accuracy', 'clean_accuracy', True),
  Quantity(
    'Accuracy under attack (%)',
    'adversarial_accuracy',
    'adversarial_accuracy',
    'accuracy',
    True,
  ),
)
NOTE = (
  'The objective is the sum of the terms with their weights; the terms are '
  'shown without them, and one that is off is left out. Objectives of '
  'different stages do not compare. Training is measured on augmented images '
  'while the weights change, validation on images as they are; accuracy under '
  'attack is that of the attack of training, and on validation images that '
  'under PGD.'
)


# Two names of one number, the first of former versions.
_MACS = ('flops', 'macs')
# Panels of the search: title, label of the vertical axis, metrics.
_SEARCH = (
  ('Temperature', 'Gumbel temperature', ('temperature',)),
  (
    'How undecided the search is',
    'Entropy / its maximum',
    ('channel_entropy', 'tutor_entropy'),
  ),
  ('Cost of an image', 'Expected MACs', _MACS),
  ('Latency', 'Expected latency (µs)', ('latency_us',)),
  ('Terms of the objective', 'Loss', ('cross_entropy', 'kl', 'attention')),
)
# Metrics that share a panel.
_LOOKS = {
  'channel_entropy': ('filters (mean over blocks)', Look(style.BLUE, '-', 'o')),
  'tutor_entropy': ('tutors (mean over layers)', Look(style.RED, '--', 's')),
  'cross_entropy': ('cross-entropy', Look(style.ORANGE, '-', 'o')),
  'kl': ('KL, or the method in its place', Look(style.GREEN, '--', 's')),
  'attention': ('attention loss, eq. (1)', Look(style.BLUE, '-.', '^')),
}
# Ends of the vertical axis by the first metric of a panel; None for free ones.
_LIMITS = {'temperature': (0, None), 'channel_entropy': (-0.02, 1.05)}


class Line(NamedTuple):
  """One model's values of one split.

  Attributes:
    model: its key.
    split: 'train' or 'validation'.
    epochs: [P], increasing.
    values: [P], in per cent where the quantity is a share.
  """

  model: str
  split: str
  epochs: np.ndarray
  values: np.ndarray


class Panel(NamedTuple):
  """One quantity of all trainings of one kind; it has at least one line."""

  group: str
  quantity: Quantity
  lines: tuple[Line, ...]

  @property
  def title(self) -> str:
    """The kind of the stages."""
    return GROUPS[self.group]


def panels(run: SavedRun) -> list[Panel]:
  """Makes all panels that a run has values for, stage by stage."""
  made = []
  for group in GROUPS:
    stages = [stage for stage in run.stages if stage.group == group]
    for quantity in QUANTITIES:
      lines = [
        line
        for stage in stages
        for split in SPLITS
        if (line := _line(run, stage, quantity, split)) is not None
      ]
      if lines:
        made.append(Panel(group, quantity, tuple(lines)))
  return made


def _line(
  run: SavedRun, stage: StageMetrics, quantity: Quantity, split: str
) -> Line | None:
  """One line; None where nothing was measured, or the term is always 0."""
  name = quantity.validation
  if split == 'train':
    method = run.adversarial_method(stage.model, stage.group)
    name = quantity.attacked if method in _ON_ATTACKED else quantity.train
  epochs, values = stage.series(name, split)
  if not len(values) or not (quantity.is_share or values.any()):
    return None
  scale = 100.0 if quantity.is_share else 1.0
  return Line(stage.model, split, epochs, scale * values)


class SearchLine(NamedTuple):
  """One metric of the search over its epochs; '' names one that is alone."""

  label: str
  look: Look
  epochs: np.ndarray
  values: np.ndarray


class SearchPanel(NamedTuple):
  """Metrics of the search that share an axis; there is at least one.

  Attributes:
    title: of the panel.
    label: of the vertical axis.
    limits: ends of the vertical axis, None for one that the values decide.
    is_log: whether it is logarithmic; no value is 0 then.
    lines: the metrics.
  """

  title: str
  label: str
  limits: tuple[float | None, float | None]
  is_log: bool
  lines: tuple[SearchLine, ...]


def search_panels(run: SavedRun) -> list[SearchPanel]:
  """Temperature, entropies, expected MACs and terms of the loss of a search."""
  stage = next((s for s in run.stages if s.group == 'search'), None)
  if stage is None:
    return []
  panels = []
  for title, label, metrics in _SEARCH:
    is_log = label == 'Loss'
    lines = [_search_line(stage, metric, is_log) for metric in metrics]
    lines = [line for line in lines if len(line.epochs)]
    if lines and metrics is _MACS:
      is_large = max(lines[0].values) >= 1e6
      scaled = lines[0].values / (1e6 if is_large else 1e3)
      lines = [lines[0]._replace(values=scaled)]
      label = f'Expected MACs ({"million" if is_large else "thousand"})'
    if lines:
      limits = _LIMITS.get(metrics[0], (None, None))
      panels.append(SearchPanel(title, label, limits, is_log, tuple(lines)))
  return panels


def _search_line(stage: StageMetrics, metric: str, is_log: bool) -> SearchLine:
  """A metric of training, or of whatever there is of it."""
  epochs, values = stage.series(metric, 'train')
  if not len(epochs):
    epochs, values = stage.series(metric)
  if is_log:  # A term that is off has no logarithm.
    epochs, values = epochs[values > 0], values[values > 0]
  name, look = _LOOKS.get(metric, ('', Look(style.BLACK, '-', 'o')))
  return SearchLine(name, look, epochs, values)

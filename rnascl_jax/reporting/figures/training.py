"""Figures of what happened over the epochs: every stage, and the search."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from rnascl_jax.reporting import style
from rnascl_jax.reporting.results import SavedRun, StageMetrics

_TITLES = {
  'teacher': 'Teachers',
  'search': 'Search',
  'train': 'Students',
  'adversarial': 'Adversarial fine-tuning',
}
# Metric, axis label, whether it is a share to be shown in per cent.
_ROWS = (
  ('loss', 'Training objective', False),
  ('accuracy', 'Accuracy (%)', True),
  ('adversarial_accuracy', 'Accuracy under attack (%)', True),
)
# Training methods that learn labels on attacked images alone: there, `accuracy`
# in the metrics of training is that of these images.
_ON_ATTACKED = ('pgd', 'fast', 'free')
_TRAINED_ON_ATTACKED = {
  'accuracy': 'clean_accuracy',
  'adversarial_accuracy': 'accuracy',
}


# Two names of one number, the first of former versions.
_MACS = ('flops', 'macs')
# Panels of the search: title, label of the y axis, metrics.
_PANELS = (
  ('Temperature', 'Gumbel temperature', ('temperature',)),
  (
    'How undecided the search is',
    'Entropy / its maximum',
    ('channel_entropy', 'tutor_entropy'),
  ),
  ('Cost of an image', 'Expected MACs', _MACS),
  ('Terms of the objective', 'Loss', ('cross_entropy', 'kl', 'attention')),
)
# Metrics that share a panel: label, colour, line.
_CURVES = {
  'channel_entropy': ('filters (mean over blocks)', style.BLUE, '-'),
  'tutor_entropy': ('tutors (mean over layers)', style.RED, '--'),
  'cross_entropy': ('cross-entropy', style.ORANGE, '-'),
  'kl': ('KL, or the method in its place', style.GREEN, '--'),
  'attention': ('attention loss, eq. (1)', style.BLUE, '-.'),
}


def training_curves(run: SavedRun) -> Figure | None:
  """Loss and accuracy of every stage over epochs, one column per stage."""
  groups = [g for g in _TITLES if any(s.group == g for s in run.stages)]
  rows = [r for r in _ROWS if any(_has(run, s, r[0]) for s in run.stages)]
  if not groups or not rows:
    return None
  looks = style.looks(run.models)
  models = dict.fromkeys(s.model for s in run.stages if s.group != 'search')
  handles = [looks[m].handle(run.label(m), marker=None) for m in models]
  for label, width, alpha in (('training', 0.9, 0.6), ('validation', 2, 1)):
    handles.append(
      Line2D([], [], color='black', lw=width, alpha=alpha, label=label)
    )
  width = 1.0 + 3.4 * len(groups)
  columns, legend = style.legend_shape(handles, width, most=4)
  figure = style.figure(width, 0.75 + legend + 2.4 * len(rows))
  panels = figure.subplots(len(rows), len(groups), squeeze=False)
  for column, group in zip(panels.T, groups, strict=True):
    stages = [s for s in run.stages if s.group == group]
    for axes, (metric, label, share) in zip(column, rows, strict=True):
      if not any(_has(run, s, metric) for s in stages):
        axes.remove()
        continue
      for stage in stages:
        _draw(axes, run, stage, metric, 100.0 if share else 1.0)
      style.epochs(axes)
      axes.grid(True, axis='y')
      axes.set_xlim(left=0)
      axes.set_ylabel(label)
      if share:
        style.percent(axes, label)
    column[0].set_title(_TITLES[group])
  figure.legend(handles=handles, loc='outside lower center', ncols=columns)
  return figure


def _series(
  run: SavedRun, stage: StageMetrics, metric: str, split: str
) -> tuple[np.ndarray, np.ndarray]:
  """Epochs and values of a row's metric, wherever the stage has them."""
  if (
    split == 'train'
    and run.adversarial_method(stage.model, stage.group) in _ON_ATTACKED
  ):
    metric = _TRAINED_ON_ATTACKED.get(metric, metric)
  return stage.series(metric, split)


def _has(run: SavedRun, stage: StageMetrics, metric: str) -> bool:
  splits = ('train', 'validation')
  return any(len(_series(run, stage, metric, split)[0]) for split in splits)


def _draw(
  axes: Axes, run: SavedRun, stage: StageMetrics, metric: str, scale: float
) -> None:
  """A thin line of training and a thick one of validation."""
  look = style.looks(run.models)[stage.model]
  for split, width, alpha in (('train', 0.9, 0.6), ('validation', 2.0, 1.0)):
    epochs, values = _series(run, stage, metric, split)
    is_point = split == 'validation' and len(epochs) == 1
    axes.plot(
      epochs,
      scale * values,
      look.line,
      color=look.color,
      lw=width,
      alpha=alpha,
      marker=look.marker if is_point else None,
      ms=5,
    )


def search(run: SavedRun) -> Figure | None:
  """Temperature, entropies, expected MACs and loss terms of the search."""
  stage = next((s for s in run.stages if s.group == 'search'), None)
  panels = [
    (title, label, metrics)
    for title, label, every in _PANELS
    if stage is not None
    if (metrics := [name for name in every if len(stage.series(name)[0])])
  ]
  if stage is None or not panels:
    return None
  columns = min(len(panels), 2)
  rows = -(-len(panels) // columns)
  figure = style.figure(4.2 * columns, 0.4 + 2.6 * rows)
  grid = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
  for axes, (title, label, metrics) in zip(grid, panels, strict=False):
    axes.set(title=title, ylabel=label)
    if label == 'Loss':
      axes.set_yscale('log')
      # Its own ones write formulas.
      axes.yaxis.set_major_formatter(LogFormatter())
      axes.yaxis.set_minor_formatter(LogFormatter())
    for metric in metrics:
      _draw_metric(axes, stage, metric)
    if metrics[0] in _CURVES:
      axes.legend(loc='upper right')
    axes.grid(axis='y')
    style.epochs(axes)
    axes.xaxis.set_tick_params(labelbottom=True)
  for axes in grid[len(panels) :]:
    axes.remove()
  return figure


def _draw_metric(axes: Axes, stage: StageMetrics, metric: str) -> None:
  """A metric of the search, of training or whatever there is of it."""
  epochs, values = stage.series(metric, 'train')
  if not len(epochs):
    epochs, values = stage.series(metric)
  if axes.get_yscale() == 'log':  # A term that is off has no logarithm.
    epochs, values = epochs[values > 0], values[values > 0]
  if metric in _MACS:
    is_large = max(values) >= 1e6
    values = values / (1e6 if is_large else 1e3)
    axes.set_ylabel(f'Expected MACs ({"million" if is_large else "thousand"})')
  label, color, line = _CURVES.get(metric, (None, style.BLACK, '-'))
  axes.plot(epochs, values, line, color=color, label=label)
  if metric == 'temperature':
    axes.set_ylim(bottom=0)
  if metric.endswith('entropy') and metric != 'cross_entropy':
    axes.set_ylim(-0.02, 1.05)

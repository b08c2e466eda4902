"""Figures of what happened over the epochs: every stage, and the search."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from rnascl_jax.reporting import style
from rnascl_jax.reporting.results import Run, StageMetrics

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
# Regimes that learn labels on attacked images alone: there, `accuracy` in the
# metrics of training is that of these images.
_ON_ATTACKED = ('pgd', 'fast', 'free')
_TRAINED_ON_ATTACKED = {
  'accuracy': 'clean_accuracy',
  'adversarial_accuracy': 'accuracy',
}


def training_curves(run: Run) -> Figure | None:
  """Loss and accuracy of every stage over epochs, one column per stage."""
  groups = [g for g in _TITLES if any(s.group == g for s in run.stages)]
  rows = [r for r in _ROWS if any(_has(s, r[0]) for s in run.stages)]
  if not groups or not rows:
    return None
  handles = _legend(run)
  width = 1.0 + 3.4 * len(groups)
  labels = [str(handle.get_label()) for handle in handles]
  columns, legend = style.legend_shape(labels, width, most=4)
  figure = style.figure(width, 0.75 + legend + 2.4 * len(rows))
  panels = figure.subplots(len(rows), len(groups), squeeze=False)
  for column, group in zip(panels.T, groups, strict=True):
    stages = [s for s in run.stages if s.group == group]
    _draw_column(column, run, stages, rows)
    column[0].set_title(_TITLES[group])
  figure.legend(handles=handles, loc='outside lower center', ncols=columns)
  return figure


def _draw_column(
  panels: np.ndarray, run: Run, stages: list[StageMetrics], rows: list
) -> None:
  """Panels of one kind of stage, without those that it has no data for."""
  for axes, (metric, label, share) in zip(panels, rows, strict=True):
    if not any(_has(s, metric) for s in stages):
      axes.remove()
      continue
    _draw_stages(axes, run, stages, metric, 100.0 if share else 1.0)
    style.epochs(axes)
    axes.grid(True, axis='y')
    axes.set_xlim(left=0)
    axes.set_ylabel(label)
    if share:
      style.percent(axes, label)


def _series(
  stage: StageMetrics, metric: str, split: str
) -> tuple[np.ndarray, np.ndarray]:
  """Epochs and values of a row's metric, wherever the stage has them."""
  if split == 'train' and stage.regime in _ON_ATTACKED:
    metric = _TRAINED_ON_ATTACKED.get(metric, metric)
  return stage.series(metric, split)


def _has(stage: StageMetrics, metric: str) -> bool:
  return any(
    len(_series(stage, metric, split)[0]) for split in ('train', 'validation')
  )


def _draw_stages(
  axes: Axes, run: Run, stages: list[StageMetrics], metric: str, scale: float
) -> None:
  looks = style.looks(run.models)
  for stage in stages:
    look = looks[stage.model]
    epochs, values = _series(stage, metric, 'train')
    axes.plot(
      epochs, scale * values, look.line, color=look.color, lw=0.9, alpha=0.6
    )
    epochs, values = _series(stage, metric, 'validation')
    axes.plot(
      epochs,
      scale * values,
      look.line,
      color=look.color,
      lw=2.0,
      marker=look.marker if len(epochs) == 1 else None,
      ms=5,
    )


def _legend(run: Run) -> list[Line2D]:
  """Handles of all models, and of the two splits."""
  looks = style.looks(run.models)
  models = dict.fromkeys(s.model for s in run.stages if s.group != 'search')
  handles = [
    Line2D([], [], color=looks[m].color, ls=looks[m].line, label=run.label(m))
    for m in models
  ]
  for label, width, alpha in (('training', 0.9, 0.6), ('validation', 2, 1)):
    handles.append(
      Line2D([], [], color='black', lw=width, alpha=alpha, label=label)
    )
  return handles


def search(run: Run) -> Figure | None:
  """Temperature, entropies, expected MACs and loss terms of the search."""
  stage = next((s for s in run.stages if s.group == 'search'), None)
  if stage is None:
    return None
  panels = [
    (draw, metrics)
    for draw, names in (
      (_temperature, ('temperature',)),
      (_entropies, ('channel_entropy', 'tutor_entropy')),
      (_macs, ('flops', 'macs')),
      (_terms, ('cross_entropy', 'kl', 'attention')),
    )
    if (metrics := [n for n in names if len(stage.series(n)[0])])
  ]
  if not panels:
    return None
  columns = min(len(panels), 2)
  rows = -(-len(panels) // columns)
  figure = style.figure(4.2 * columns, 0.4 + 2.6 * rows)
  grid = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
  for axes, (draw, metrics) in zip(grid, panels, strict=False):
    draw(axes, stage, metrics)
    axes.grid(axis='y')
    style.epochs(axes)
    axes.xaxis.set_tick_params(labelbottom=True)
  for axes in grid[len(panels) :]:
    axes.remove()
  return figure


def _training(stage: StageMetrics, metric: str):
  """The metric's training series, or whatever there is of it."""
  found = stage.series(metric, 'train')
  return found if len(found[0]) else stage.series(metric)


def _temperature(axes: Axes, stage: StageMetrics, metrics: list[str]) -> None:
  axes.plot(*_training(stage, metrics[0]), color=style.BLACK)
  axes.set(ylabel='Gumbel temperature', title='Temperature')
  axes.set_ylim(bottom=0)


def _entropies(axes: Axes, stage: StageMetrics, metrics: list[str]) -> None:
  labels = {
    'channel_entropy': ('filters (mean over blocks)', style.BLUE, '-'),
    'tutor_entropy': ('tutors (mean over layers)', style.RED, '--'),
  }
  for metric in metrics:
    label, color, line = labels[metric]
    axes.plot(*_training(stage, metric), line, color=color, label=label)
  axes.set(ylabel='Entropy / its maximum', ylim=(-0.02, 1.05))
  axes.set_title('How undecided the search is')
  axes.legend(loc='upper right')


def _macs(axes: Axes, stage: StageMetrics, metrics: list[str]) -> None:
  epochs, values = _training(stage, metrics[0])
  scale, unit = (1e6, 'million') if max(values) >= 1e6 else (1e3, 'thousand')
  axes.plot(epochs, values / scale, color=style.BLACK)
  axes.set(ylabel=f'Expected MACs ({unit})', title='Cost of an image')


def _terms(axes: Axes, stage: StageMetrics, metrics: list[str]) -> None:
  labels = {
    'cross_entropy': ('cross-entropy', style.ORANGE, '-'),
    'kl': ('KL, or the method in its place', style.GREEN, '--'),
    'attention': ('attention loss, eq. (1)', style.BLUE, '-.'),
  }
  axes.set_yscale('log')
  # Its own ones write formulas.
  axes.yaxis.set_major_formatter(LogFormatter())
  axes.yaxis.set_minor_formatter(LogFormatter())
  for metric in metrics:
    label, color, line = labels[metric]
    epochs, values = _training(stage, metric)
    seen = values > 0  # A term that is switched off has no logarithm.
    axes.plot(epochs[seen], values[seen], line, color=color, label=label)
  axes.set(ylabel='Loss', title='Terms of the objective')
  axes.legend(loc='upper right')

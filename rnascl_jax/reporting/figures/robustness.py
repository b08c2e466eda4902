"""Figures of accuracy under attack: against epsilon, and against clean."""

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rnascl_jax.reporting import results, statistics, style
from rnascl_jax.reporting.results import AttackResult, ModelEvaluation, Run

# Up to this many epsilons, each has its tick.
_MOST_TICKS = 9
# Models in a column of the legend beside clean against robust.
_IN_COLUMN = 8
# Inches there: of the title, between captions, and of a line of one.
_LEGEND_TITLE, _CAPTION, _LINE = 0.4, 0.15, 0.14


def epsilon_curves(run: Run) -> Figure | None:
  """Accuracy of every model against epsilon, one panel per attack."""
  attacks = {c.attack: c.label for e in run.evaluations for c in e.curves}
  if not attacks:
    return None
  scale, unit = results.epsilon_unit(run.dataset)
  drawn = [e for e in run.evaluations if e.curves]
  width = 0.8 + 4.0 * len(attacks)
  columns, legend = style.legend_shape([e.label for e in drawn], width, most=3)
  figure = style.figure(width, 3.3 + legend)
  panels = figure.subplots(1, len(attacks), squeeze=False, sharey=True)[0]
  for axes, (attack, label) in zip(panels, attacks.items(), strict=True):
    _draw_curves(axes, run, attack, scale)
    style.percent(axes, 'Accuracy (%)' if axes is panels[0] else '')
    axes.set(xlabel=f'ε ({unit})', title=label)
  figure.legend(
    handles=_legend(run, drawn),
    loc='outside lower center',
    ncols=columns,
  )
  return figure


def _draw_curves(axes: Axes, run: Run, attack: str, scale: float) -> None:
  """Every model's curve under one attack, epsilons times `scale`."""
  looks = style.looks(run.models)
  ticks = set()
  for found in run.evaluations:
    look = looks[found.model]
    for curve in (c for c in found.curves if c.attack == attack):
      axes.plot(
        scale * curve.epsilons,
        100 * curve.accuracies,
        look.line,
        color=look.color,
        marker=look.marker,
        ms=4,
      )
      ticks |= {round(e, 6) for e in curve.epsilons.tolist()}
  if len(ticks) <= _MOST_TICKS:
    axes.set_xticks([scale * epsilon for epsilon in sorted(ticks)])


def _legend(run: Run, evaluations: list[ModelEvaluation]) -> list[Line2D]:
  looks = style.looks(run.models)
  return [
    Line2D(
      [],
      [],
      color=looks[e.model].color,
      ls=looks[e.model].line,
      marker=looks[e.model].marker,
      ms=4,
      label=e.label,
    )
    for e in evaluations
  ]


def clean_vs_robust(run: Run) -> Figure | None:
  """Clean accuracy against PGD-20; a student's marker grows with its size."""
  attack = run.headline_attack
  if attack is None:
    return None
  points = [
    (found, clean, robust)
    for found in run.evaluations
    if (clean := found.under('clean')) is not None
    and (robust := found.under(attack)) is not None
  ]
  if sum(found.kind == 'student' for found, _, _ in points) < 2:
    return None
  columns = -(-len(points) // _IN_COLUMN)
  height = _legend_height([_caption(e) for e, _, _ in points], columns)
  figure = style.figure(5.4 + 2.2 * columns, max(4.2, height))
  axes = figure.subplots()
  largest = max(e.parameters or 1 for e, _, _ in points if e.kind == 'student')
  handles = [
    _point(axes, run, found, (clean, robust), largest)
    for found, clean, robust in points
  ]
  attacked = points[0][2]
  radius = results.epsilon_text(attacked.epsilon, run.dataset)
  axes.set_xlabel('Clean accuracy (%)')
  axes.set_ylabel(f'{attacked.label} accuracy (%), ε = {radius}')
  axes.grid()
  figure.legend(
    handles=handles,
    loc='outside right upper',
    ncols=columns,
    labelspacing=1.3,
    title='(parameters, MACs)',
  )
  return figure


def _legend_height(captions: list[str], columns: int) -> float:
  """Inches of a legend whose columns hold equally many captions."""
  lines = [caption.count('\n') + 1 for caption in captions]
  return _LEGEND_TITLE + max(
    _CAPTION * len(column) + _LINE * sum(column)
    for column in np.array_split(lines, columns)
  )


def _point(
  axes: Axes,
  run: Run,
  found: ModelEvaluation,
  outcomes: tuple[AttackResult, AttackResult],
  largest: int,
) -> PathCollection:
  """One model with its intervals; a student's area grows with its size."""
  look = style.looks(run.models)[found.model]
  x, y = (100 * outcome.accuracy for outcome in outcomes)
  x_bars, y_bars = map(_bars, outcomes)
  axes.errorbar(x, y, y_bars, x_bars, color=look.color, lw=0.8, alpha=0.6)
  student = found.kind == 'student'
  return axes.scatter(
    x,
    y,
    s=30 + 150 * (found.parameters or 0) / largest if student else 50,
    marker=look.marker,
    facecolor=look.color if student else 'white',
    edgecolor=look.color,
    label=_caption(found),
    zorder=3,
  )


def _bars(outcome: AttackResult) -> np.ndarray:
  """Lengths below and above, [2, 1], of a 95 % interval in points."""
  low, high = statistics.wilson(outcome.correct, outcome.images)
  mid = outcome.accuracy
  return 100 * np.array([[max(mid - low, 0.0)], [max(high - mid, 0.0)]])


def _caption(found: ModelEvaluation) -> str:
  """A model's label with its parameters and MACs, as in the paper's Fig. 1."""
  label = textwrap.fill(found.label, 24)
  numbers = (found.parameters, found.macs)
  if None in numbers:
    return label
  return f'{label}\n({", ".join(_short(n) for n in numbers if n)})'


def _short(count: int) -> str:
  if count >= 1e6:
    return f'{count / 1e6:.3g}M'
  return f'{count / 1e3:.3g}k'

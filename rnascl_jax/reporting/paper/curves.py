"""Figures 4, 5B and 6, robust accuracy against ε; the study of eq. (1)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from rnascl_jax.reporting import style, tables
from rnascl_jax.reporting.evaluations import Curve, ModelEvaluation
from rnascl_jax.reporting.paper import comparison, measures, picture
from rnascl_jax.reporting.paper.definition import RowSource, Table
from rnascl_jax.reporting.paper.picture import Picture
from rnascl_jax.reporting.paper.sweep_runs import SweepRuns

# Up to so many ε, each has its tick.
_MOST_TICKS = 9
# What is compared, and its row of the sweep: each was searched with its own
# objective, and cross-entropy has no teacher.
MODELS = {
  'rnas_cl': ('RNAS-CL', '{space}_{teacher}'),
  'ce_kl': ('KL', '{space}_{teacher}_ce_kl'),
  'ce': ('Standard', '{space}_ce'),
}
# Each of them as trained, and after further training on attacks.
FINE_TUNED = {
  model + key: (label + text, row)
  for model, (label, row) in MODELS.items()
  for key, text in (('', ''), ('_eq6', ' + eq. (6)'))
}
_ATTACKS = {picture.ROBUST: 'PGD-20', 'fgsm': 'FGSM'}
# Series of the study of the factor, by the first label of a row.
_SERIES = {
  'CE + KL + ICC': style.Look(style.BLUE, '-', 'o'),
  'CE + ICC': style.Look(style.ORANGE, '--', 's'),
  'CE + KL + ICC, own search': style.Look(style.GREEN, ':', '^'),
}
# A curve, and the evaluation that it is from.
_ModelCurve = tuple[Curve, ModelEvaluation]


class PanelSource(NamedTuple):
  """What a panel of curves shows."""

  space: str
  teacher: str
  attack: str = picture.ROBUST  # Or 'fgsm'.


def epsilon_curves(
  sweep: SweepRuns,
  name: str,
  panels: Mapping[str, PanelSource],
  compared: Mapping[str, tuple[str, str]] = MODELS,
) -> Picture | None:
  """Accuracy against ε, a panel for each space, teacher or attack.

  Args:
    sweep: the results.
    name: 'Fig. 6: CIFAR-10', how the caption begins.
    panels: panels by title; one of which nothing was run is left out. The
      figure is None where nothing was run.
    compared: labels and rows of the models, see `MODELS`.
  """
  by_title = {
    title: _curves(sweep, source, compared) for title, source in panels.items()
  }
  drawn = {title: panel for title, panel in by_title.items() if panel}
  if not drawn:
    return None
  figure = style.figure(0.9 + 3.4 * len(drawn), 3.7)
  grid = figure.subplots(1, len(drawn), squeeze=False, sharey=True)[0]
  looks = {model: _look(model) for model in compared}
  attacks: list[str] = []
  for axes, (title, panel) in zip(grid, drawn.items(), strict=True):
    # RNAS-CL is drawn last, so that nothing hides it.
    for model, (label, _) in reversed(list(compared.items())):
      if model in panel:
        _draw_curves(axes, panel[model], label, looks[model])
    attack = _ATTACKS[panels[title].attack]
    label = '' if attack in attacks else f'{attack} accuracy (%)'
    attacks.append(attack)
    style.percent(axes, label)
    axes.set_title(title)
  handles = [
    looks[model].handle(label, ms=4)
    for model, (label, _) in compared.items()
    if any(model in panel for panel in drawn.values())
  ]
  figure.legend(handles=handles, loc='outside lower center', ncols=3)
  rows = [curves for panel in drawn.values() for curves in panel.values()]
  spread = '; shaded from the lowest to the highest'
  caption = f'{name}: accuracy against ε, {picture.averaged(rows, spread)}.'
  counts = {(curve.images, e.images) for row in rows for curve, e in row}
  fewer = {images for images, most in counts if 0 < images < most}
  if fewer:
    numbers = ' or '.join(map(str, sorted(fewer)))
    caption += f' On the first {numbers} test images.'
  absent = [
    f'{label} ({title})'
    for title, panel in by_title.items()
    for model, (label, _) in compared.items()
    if model not in panel
  ]
  return Picture(figure, caption + picture.lacking(absent))


def _curves(
  sweep: SweepRuns, source: PanelSource, compared: Mapping[str, tuple[str, str]]
) -> dict[str, list[_ModelCurve]]:
  """The curves of a panel, by model; a model has one for each seed."""
  panel = {}
  for model, (_, row) in compared.items():
    models = sweep.models(RowSource(row.format(**source._asdict()), model))
    curves = [
      (curve, evaluation)
      for _, evaluation in models.values()
      if (curve := evaluation.curve(source.attack)) is not None
    ]
    if curves:
      panel[model] = curves
  return panel


def _look(model: str) -> style.Look:
  """A fine-tuned student has the colour of what it was, and dashes."""
  base = model.removesuffix('_eq6')
  look = style.looks(tuple(MODELS))[base]
  return look if model == base else look._replace(line='--')


def _draw_curves(
  axes: Axes, of_seeds: list[_ModelCurve], label: str, look: style.Look
) -> None:
  """A model's mean over seeds with the range over seeds."""
  curves = [curve for curve, _ in of_seeds]
  scale, unit = tables.epsilon_unit(of_seeds[0][1].dataset, curves[0].norm)
  epsilons = scale * curves[0].epsilons  # [P]
  shares = 100 * np.stack([c.accuracies for c in curves])  # [seeds, P]
  band = shares.min(0), shares.max(0)
  axes.fill_between(epsilons, *band, color=look.color, alpha=0.2, lw=0)
  axes.plot(epsilons, shares.mean(0), label=label, **look.style(ms=4))
  if len(epsilons) <= _MOST_TICKS:
    axes.set_xticks(epsilons, [f'{value:.3g}' for value in epsilons])
  axes.set_xlabel(f'ε ({unit})')


def reduction(sweep: SweepRuns, table: Table) -> Picture | None:
  """Accuracy against the factor of eq. (1): seeds thin, their mean thick.

  None where no row of the study but those that others share was run.
  """
  filled = comparison.fill(table, sweep)
  if filled.is_empty:
    return None
  factors = list(dict.fromkeys(line.labels[1] for line in table.lines))
  figure = style.figure(9.0, 3.8)
  panels = figure.subplots(1, len(table.accuracies))
  for axes, column in zip(panels, table.accuracies, strict=True):
    for series, look in _SERIES.items():
      by_place = {
        factors.index(line.labels[1]): values
        for line, models in filled.rows
        if line.labels[0] == series
        and (values := measures.values(models, column.key))
      }
      _draw_series(axes, by_place, look)
    axes.set_xticks(range(len(factors)), factors)
    axes.set(xlabel='Attention loss, eq. (1)', title=column.heading)
    axes.set_ylabel('Accuracy (%)')
    axes.grid(axis='y')
  handles = [look.handle(s, ms=4, lw=2.2) for s, look in _SERIES.items()]
  figure.legend(handles=handles, loc='outside lower center', ncols=3)
  models = [models for _, models in filled.run]
  caption = (
    f'{table.title}: thin lines are seeds, thick ones their mean '
    f'({picture.averaged(models)}). PGD-20 at '
    f'ε = {picture.radius(models)}; the factors are not to scale.'
  )
  absent = [': '.join(line.labels) for line in filled.missing]
  return Picture(figure, caption + picture.lacking(absent))


def _draw_series(
  axes: Axes, by_place: Mapping[int, Mapping[int, float]], look: style.Look
) -> None:
  """Draws accuracies in % by place on the x axis and by seed."""
  for seed in sorted({seed for values in by_place.values() for seed in values}):
    line = {x: values[seed] for x, values in by_place.items() if seed in values}
    thin = look.style(marker='', lw=0.7, alpha=0.55)
    axes.plot(list(line), list(line.values()), **thin)
  if by_place:
    means = [np.mean(list(values.values())) for values in by_place.values()]
    axes.plot(list(by_place), means, **look.style(ms=5, lw=2.2))

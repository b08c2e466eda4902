"""Figures 4 and 6, robust accuracy against ε; the study of eq. (1)'s factor."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from rnascl_jax.reporting import style, tables
from rnascl_jax.reporting.evaluations import Curve, ModelEvaluation
from rnascl_jax.reporting.paper import comparison, measures, picture
from rnascl_jax.reporting.paper.definition import RowSource, Table
from rnascl_jax.reporting.paper.picture import Picture
from rnascl_jax.reporting.paper.sweep_runs import Models, SweepRuns

# Up to so many ε, each has its tick.
_MOST_TICKS = 9
# What is compared, and its row of the sweep: each was searched with its own
# objective, and cross-entropy has no teacher.
_MODELS = {
  'rnas_cl': ('RNAS-CL', '{space}_{teacher}'),
  'ce_kl': ('KL', '{space}_{teacher}_ce_kl'),
  'ce': ('Standard', '{space}_ce'),
}
# Series of the study of the factor, by the first label of a row.
_SERIES = {
  'CE + KL + ICC': style.Look(style.BLUE, '-', 'o'),
  'CE + ICC': style.Look(style.ORANGE, '--', 's'),
  'CE + KL + ICC, own search': style.Look(style.GREEN, ':', '^'),
}
_Panel = Mapping[str, Models]  # By the key of a model.


def epsilon_curves(
  sweep: SweepRuns, name: str, panels: Mapping[str, tuple[str, str]]
) -> Picture | None:
  """Accuracy under PGD-20 against ε, a panel for each space or teacher.

  Args:
    sweep: the results.
    name: 'Fig. 6: CIFAR-10', how the caption begins.
    panels: space and teacher by title; one of which nothing was run is left
      out. The figure is None where nothing was run.
  """
  by_title = {
    title: _models(sweep, space, teacher)
    for title, (space, teacher) in panels.items()
  }
  drawn = {title: models for title, models in by_title.items() if models}
  if not drawn:
    return None
  figure = style.figure(0.9 + 3.4 * len(drawn), 3.7)
  grid = figure.subplots(1, len(drawn), squeeze=False, sharey=True)[0]
  for axes, (title, models) in zip(grid, drawn.items(), strict=True):
    _draw_panel(axes, models)
    style.percent(axes, 'PGD-20 accuracy (%)' if axes is grid[0] else '')
    axes.set_title(title)
  looks = style.looks(tuple(_MODELS))
  handles = [looks[m].handle(label, ms=4) for m, (label, _) in _MODELS.items()]
  figure.legend(handles=handles, loc='outside lower center', ncols=3)
  seeds = [seeds for models in drawn.values() for seeds in models.values()]
  spread = '; shaded from the lowest to the highest'
  caption = f'{name}: accuracy against ε, {picture.averaged(seeds, spread)}.'
  evaluations = [e for models in seeds for _, e in models.values()]
  counts = {(c.images, e.images) for e in evaluations for c in _curves([e])}
  fewer = {images for images, most in counts if 0 < images < most}
  if fewer:
    numbers = ' or '.join(map(str, sorted(fewer)))
    caption += f' On the first {numbers} test images.'
  absent = [
    f'{label} ({title})'
    for title, models in by_title.items()
    for model, (label, _) in _MODELS.items()
    if model not in models
  ]
  return Picture(figure, caption + picture.lacking(absent))


def _models(sweep: SweepRuns, space: str, teacher: str) -> _Panel:
  """The models that have a curve, by model and seed."""
  panel = {}
  for model, (_, row) in _MODELS.items():
    source = RowSource(row.format(space=space, teacher=teacher), model)
    by_seed = {
      seed: evaluated
      for seed, evaluated in sweep.models(source).items()
      if _curves([evaluated.evaluation])
    }
    if by_seed:
      panel[model] = by_seed
  return panel


def _curves(evaluations: list[ModelEvaluation]) -> list[Curve]:
  """Their curves of PGD-20, of those that have one."""
  curves = (e.curve(picture.ROBUST) for e in evaluations)
  return [curve for curve in curves if curve is not None]


def _draw_panel(axes: Axes, panel: _Panel) -> None:
  looks = style.looks(tuple(_MODELS))
  # RNAS-CL is drawn last, so that nothing hides it.
  for model, by_seed in reversed(list(panel.items())):
    evaluations = [evaluation for _, evaluation in by_seed.values()]
    scale, unit = tables.epsilon_unit(evaluations[0].dataset)
    curves = _curves(evaluations)
    epsilons = scale * curves[0].epsilons  # [P]
    shares = 100 * np.stack([c.accuracies for c in curves])  # [seeds, P]
    look, label = looks[model], _MODELS[model][0]
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

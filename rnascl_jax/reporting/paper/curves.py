"""Figures 4 and 6: robust accuracy against the size of the perturbation."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from rnascl_jax.reporting import results, style
from rnascl_jax.reporting.paper import picture
from rnascl_jax.reporting.paper.definition import Source
from rnascl_jax.reporting.paper.picture import Picture
from rnascl_jax.reporting.paper.sweep_results import Evaluated, Sweep
from rnascl_jax.reporting.results import Curve

# Up to so many ε, each has its tick.
_MOST_TICKS = 9
_KINDS = {'rnas_cl': 'RNAS-CL', 'ce_kl': 'KL', 'ce': 'Standard'}


class Panel(NamedTuple):
  """Models of one space and teacher.

  Attributes:
    title: above it.
    sources: of each kind of model.
  """

  title: str
  sources: Mapping[str, Source]


def panel(title: str, space: str, teacher: str) -> Panel:
  """RNAS-CL, KL-X-T and Standard of a space; the last has no teacher."""
  return Panel(
    title,
    {
      'rnas_cl': Source(space, teacher, '', 'rnas_cl'),
      'ce_kl': Source(space, teacher, 'ce_kl', 'ce_kl'),
      'ce': Source(space, '', 'ce', 'ce'),
    },
  )


FIGURE_4 = tuple(
  panel(f'I, {name}', 'i', teacher)
  for teacher, name in (
    ('resnet18', 'R-18'),
    ('resnet50', 'R-50'),
    ('wrn50', 'WRT-50'),
  )
)
FIGURE_6 = tuple(
  panel(f'{space.upper()}, WRT-34', space, 'wrn34')
  for space in ('s3', 's5', 's7')
)
DIGITS = (panel('Digits, small teacher', 'digits', 'small'),)


def epsilon_curves(
  sweep: Sweep, name: str, panels: Sequence[Panel]
) -> Picture | None:
  """Accuracy under PGD-20 against ε, a panel for each space or teacher.

  Args:
    sweep: the results.
    name: 'Fig. 6: CIFAR-10', how the caption begins.
    panels: to draw; one of which nothing was run is left out.

  Returns:
    None where nothing was run.
  """
  found = {panel.title: _curves(sweep, panel) for panel in panels}
  drawn = [panel for panel in panels if found[panel.title]]
  if not drawn:
    return None
  figure = style.figure(0.9 + 3.4 * len(drawn), 3.7)
  grid = figure.subplots(1, len(drawn), squeeze=False, sharey=True)[0]
  for axes, shown in zip(grid, drawn, strict=True):
    _draw(axes, found[shown.title])
    style.percent(axes, 'PGD-20 accuracy (%)' if axes is grid[0] else '')
    axes.set_title(shown.title)
  handles = [_handle(kind) for kind in _KINDS]
  figure.legend(handles=handles, loc='outside lower center', ncols=3)
  absent = [
    f'{_KINDS[kind]} ({panel.title})'
    for panel in panels
    for kind in _KINDS
    if kind not in found[panel.title]
  ]
  models = [seeds for shown in drawn for seeds in found[shown.title].values()]
  caption = (
    f'{name}: accuracy against ε, '
    f'{picture.averaged(models, "; shaded from the lowest to the highest")}.'
    f'{_fewer(models)}'
  )
  return Picture(figure, caption + picture.lacking(absent))


def _curves(sweep: Sweep, shown: Panel) -> dict[str, dict[int, Evaluated]]:
  """For each kind the models by seed that have a curve."""
  found = {}
  for kind, source in shown.sources.items():
    models = {
      seed: evaluated
      for seed, evaluated in sweep.models(source).items()
      if _curve(evaluated) is not None
    }
    if models:
      found[kind] = models
  return found


def _fewer(models: Sequence[Mapping[int, Evaluated]]) -> str:
  """Says if a curve is of fewer images than the tables."""
  counts = sorted(
    {
      curve.images
      for seeds in models
      for evaluated in seeds.values()
      if (curve := _curve(evaluated)) is not None
      and 0 < curve.images < evaluated.found.images
    }
  )
  if not counts:
    return ''
  return f' On the first {" or ".join(map(str, counts))} test images.'


def _curve(evaluated: Evaluated) -> Curve | None:
  return next(
    (c for c in evaluated.found.curves if c.attack == picture.ROBUST), None
  )


def _draw(axes: Axes, found: Mapping[str, dict[int, Evaluated]]) -> None:
  looks = style.looks(tuple(_KINDS))
  # RNAS-CL is drawn last, so that nothing hides it.
  for kind, models in reversed(list(found.items())):
    dataset = next(iter(models.values())).found.dataset
    scale, unit = results.epsilon_unit(dataset)
    curves = [c for e in models.values() if (c := _curve(e)) is not None]
    epsilons = scale * curves[0].epsilons  # [P]
    shares = 100 * np.stack([c.accuracies for c in curves])  # [seeds, P]
    look = looks[kind]
    axes.fill_between(
      epsilons,
      shares.min(0),
      shares.max(0),
      color=look.color,
      alpha=0.2,
      lw=0,
    )
    axes.plot(
      epsilons,
      shares.mean(0),
      look.line,
      color=look.color,
      marker=look.marker,
      ms=4,
      label=_KINDS[kind],
    )
    if len(epsilons) <= _MOST_TICKS:
      axes.set_xticks(epsilons, [f'{value:.3g}' for value in epsilons])
    axes.set_xlabel(f'ε ({unit})')


def _handle(kind: str) -> Line2D:
  look = style.looks(tuple(_KINDS))[kind]
  return Line2D(
    [],
    [],
    color=look.color,
    ls=look.line,
    marker=look.marker,
    ms=4,
    label=_KINDS[kind],
  )

"""The paper's figures, drawn from what a run saved; JAX is not needed.

`draw(workdir)` writes every figure for which the run holds the data to
`workdir/figures/`. Matplotlib is imported in this package and in
`rnascl_jax.reporting.paper` only, and only through its object-oriented
interface, so that it needs no display.

Example:
  >>> import tempfile
  >>> from rnascl_jax.reporting import figures
  >>> figures.draw(tempfile.mkdtemp())
  ()
"""

import os
import pathlib
from collections.abc import Callable

import matplotlib
from matplotlib.figure import Figure

from rnascl_jax.reporting import results, style
from rnascl_jax.reporting.figures import (
  architecture,
  attention,
  auto_attack,
  corruptions,
  robustness,
  training,
)

# File name to figure, in the order in which a reader wants them. A figure is
# None where the run has no data for it.
FIGURES: dict[str, Callable[[results.SavedRun], Figure | None]] = {
  'epsilon_curves': robustness.epsilon_curves,
  'clean_vs_robust': robustness.clean_vs_robust,
  'auto_attack': auto_attack.auto_attack,
  'corruption_curves': corruptions.corruption_curves,
  'corrupted_images': corruptions.corrupted_images,
  'attention_maps': attention.attention_maps,
  'chosen_layers': attention.chosen_layers,
  'teacher_layers': architecture.teacher_layers,
  'tutor_map': architecture.tutor_map,
  'filters': architecture.filters,
  'search': training.search,
  'training_curves': training.training_curves,
}


def draw(workdir: str | os.PathLike[str]) -> tuple[pathlib.Path, ...]:
  """Draws a run's figures into `workdir/figures/*.png`, 150 dots per inch.

  Returns:
    Paths of the figures that could be drawn, in the order of `FIGURES`. One
    whose data is not there is left out.

  Raises:
    ValueError: a file of the run is broken.
  """
  run = results.load(workdir)
  paths = []
  for name, build in FIGURES.items():
    with matplotlib.rc_context(style.SETTINGS):
      figure = build(run)
    if figure is not None:
      paths.append(run.workdir / 'figures' / f'{name}.png')
      style.save(figure, paths[-1])
  return tuple(paths)

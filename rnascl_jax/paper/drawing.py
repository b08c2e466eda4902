"""Which figures there are, and their files."""

import functools
import pathlib
from collections.abc import Callable, Collection
from typing import NamedTuple

import matplotlib

from rnascl_jax import files
from rnascl_jax.figures import style
from rnascl_jax.paper import ablations, bars, curves, digits, scatter, studies
from rnascl_jax.paper import tutors
from rnascl_jax.paper.picture import Picture
from rnascl_jax.paper.sweep_results import Sweep

_Draw = Callable[[Sweep], Picture | None]
_partial = functools.partial
# By data and by key, in order. A figure is None where nothing of it was run.
FIGURES: dict[str, dict[str, _Draw]] = {
  'cifar10': {
    '1': scatter.figure_1,
    '3': _partial(scatter.figure_3, spaces=studies.SPACES),
    '4': _partial(
      curves.epsilon_curves,
      name='Fig. 4: ImageNet-100, space I',
      panels=curves.FIGURE_4,
    ),
    '6': _partial(
      curves.epsilon_curves, name='Fig. 6: CIFAR-10', panels=curves.FIGURE_6
    ),
    '8': _partial(
      tutors.tutor_counts,
      name='Fig. 8: CIFAR-10, WRT-34',
      panels=tutors.FIGURE_8,
      said=" The paper's are mostly layers 15 and 21.",
    ),
    '10': _partial(
      tutors.tutor_counts,
      name='Fig. 10: ImageNet-100, WRT-50',
      panels=tutors.FIGURE_10,
      said=" The paper's are mostly layers 18, 32 and 40.",
    ),
    'table7': _partial(bars.terms, table=ablations.TABLE_7, with_paper=True),
  },
  'digits': {
    '3': _partial(scatter.figure_3, spaces=('s3',), on_digits=True),
    '6': _partial(
      curves.epsilon_curves, name='Fig. 6 on digits', panels=curves.DIGITS
    ),
    '8': _partial(
      tutors.tutor_counts, name='Fig. 8 on digits', panels=tutors.DIGITS
    ),
    'table7': _partial(bars.terms, table=digits.TABLE_7, with_paper=False),
    'gamma': bars.gamma,
  },
}


class Drawn(NamedTuple):
  """A figure that was asked for.

  Attributes:
    name: 'Fig. 3', 'Fig. 3 on digits'.
    path: of the file; None where nothing of it was run.
    caption: below it.
  """

  name: str
  path: pathlib.Path | None
  caption: str


def draw(
  sweep: Sweep, data: str, keys: Collection[str] | None, folder: pathlib.Path
) -> list[Drawn]:
  """Draws figures of one kind of data, 150 dots per inch.

  Args:
    sweep: the results.
    data: key of `FIGURES`.
    keys: of the figures; None for all.
    folder: for the files.

  Returns:
    All figures that were asked for, drawn or not.
  """
  found = []
  with matplotlib.rc_context(style.SETTINGS):
    for key, build in FIGURES[data].items():
      if keys is None or key in keys:
        found.append(_save(build(sweep), data, key, folder))
  return found


def _save(
  picture: Picture | None, data: str, key: str, folder: pathlib.Path
) -> Drawn:
  name = f'Fig. {key}' if key.isdigit() else f'the figure {key!r}'
  if data == 'digits':
    name += ' on digits'
  if picture is None:
    return Drawn(name, None, '')
  file = f'fig{key}' if key.isdigit() else key
  suffix = '_digits' if data == 'digits' else ''
  path = folder / f'{file}{suffix}.png'
  with files.replacing(path) as target:
    picture.figure.savefig(target, format='png')
  return Drawn(name, path, picture.caption)

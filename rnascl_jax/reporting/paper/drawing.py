"""Which figures there are, and their files."""

import functools
import pathlib
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

import matplotlib

from rnascl_jax.reporting import style
from rnascl_jax.reporting.paper import (
  ablations,
  bars,
  competitors,
  curves,
  digits,
  distillers,
  studies,
  tutors,
)
from rnascl_jax.reporting.paper.picture import Picture
from rnascl_jax.reporting.paper.sweep_results import Sweep
from rnascl_jax.runtime import files

_Draw = Callable[[Sweep], Picture | None]
_partial = functools.partial
# By data and by key, in order. A figure is None where nothing of it was run.
FIGURES: dict[str, dict[str, _Draw]] = {
  'cifar10': {
    '1': competitors.figure_1,
    '3': _partial(distillers.figure_3, spaces=studies.SPACES),
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
    'gamma': _partial(bars.gamma, table=studies.GAMMA),
  },
  'digits': {
    '3': _partial(distillers.figure_3, spaces=('digits',), on_digits=True),
    '6': _partial(
      curves.epsilon_curves, name='Fig. 6 on digits', panels=curves.DIGITS
    ),
    '8': _partial(
      tutors.tutor_counts, name='Fig. 8 on digits', panels=tutors.DIGITS
    ),
    'table7': _partial(bars.terms, table=digits.TABLE_7, with_paper=False),
    'gamma': _partial(bars.gamma, table=studies.GAMMA_DIGITS),
  },
}


class Drawn(NamedTuple):
  """A figure that was asked for.

  Attributes:
    name: 'Fig. 3', 'Fig. 3 on digits'.
    file: its name.
    picture: None where nothing of it was run.
  """

  name: str
  file: str
  picture: Picture | None


def draw(sweep: Sweep, data: str, keys: Collection[str] | None) -> list[Drawn]:
  """Draws figures of one kind of data.

  Args:
    sweep: the results.
    data: key of `FIGURES`.
    keys: of the figures; None for all.

  Returns:
    All figures that were asked for, drawn or not.
  """
  with matplotlib.rc_context(style.SETTINGS):
    return [
      _drawn(build(sweep), data, key)
      for key, build in FIGURES[data].items()
      if keys is None or key in keys
    ]


def _drawn(picture: Picture | None, data: str, key: str) -> Drawn:
  name = f'Fig. {key}' if key.isdigit() else f'the figure {key!r}'
  file = f'fig{key}' if key.isdigit() else key
  if data == 'digits':
    name, file = f'{name} on digits', f'{file}_digits'
  return Drawn(name, f'{file}.png', picture)


def save(drawn: Iterable[Drawn], folder: pathlib.Path) -> None:
  """Writes PNG files of 150 dots per inch, each whole or not at all.

  Args:
    drawn: of `draw`; what was not drawn is passed over.
    folder: for the files.
  """
  with matplotlib.rc_context(style.SETTINGS):
    for _, file, picture in drawn:
      if picture is not None:
        with files.replacing(folder / file) as target:
          picture.figure.savefig(target, format='png')

"""Which figures there are, and their files."""

import functools
import pathlib
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

import matplotlib

from rnascl_jax.reporting import style
from rnascl_jax.reporting.paper import (
  bars,
  competitors,
  curves,
  definition,
  scatter,
)
from rnascl_jax.reporting.paper.picture import Picture
from rnascl_jax.reporting.paper.sweep_runs import SweepRuns

_partial = functools.partial
_CIFAR10, _DIGITS = definition.TABLES['cifar10'], definition.TABLES['digits']


def _title(space: str) -> str:
  return f'RNAS-CL-{space.upper()}'


# By data and by key, in order. A figure is None where nothing of it was run.
FIGURES: dict[str, dict[str, Callable[[SweepRuns], Picture | None]]] = {
  'cifar10': {
    '1': _partial(competitors.figure_1, table=_CIFAR10['1']),
    '3': _partial(scatter.figure_3, name='Fig. 3', table=_CIFAR10['fig3']),
    '4': _partial(
      curves.epsilon_curves,
      name='Fig. 4: ImageNet-100, space I',
      panels={
        'I, R-18': ('i', 'resnet18'),
        'I, R-50': ('i', 'resnet50'),
        'I, WRT-50': ('i', 'wrn50'),
      },
    ),
    '6': _partial(
      curves.epsilon_curves,
      name='Fig. 6: CIFAR-10',
      panels={f'{s.upper()}, WRT-34': (s, 'wrn34') for s in ('s3', 's5', 's7')},
    ),
    '8': _partial(
      bars.tutor_counts,
      name='Fig. 8: CIFAR-10, WRT-34',
      rows={_title(s): f'{s}_wrn34' for s in ('s3', 's5', 's7', 'm')},
      of_paper=" The paper's are mostly layers 15 and 21.",
    ),
    # Of the spaces of Table 14, IL is that of ImageNet.
    '10': _partial(
      bars.tutor_counts,
      name='Fig. 10: ImageNet-100, WRT-50',
      rows={_title(s): f'{s}_wrn50' for s in ('is', 'im', 'i')},
      of_paper=" The paper's are mostly layers 18, 32 and 40.",
    ),
    'table7': _partial(bars.terms, table=_CIFAR10['7'], with_paper=True),
    'reduction': _partial(curves.reduction, table=_CIFAR10['reduction']),
  },
  'digits': {
    '3': _partial(
      scatter.figure_3, name='Fig. 3 on digits', table=_DIGITS['fig3']
    ),
    '6': _partial(
      curves.epsilon_curves,
      name='Fig. 6 on digits',
      panels={'Digits, small teacher': ('digits', 'small')},
    ),
    '8': _partial(
      bars.tutor_counts,
      name='Fig. 8 on digits',
      rows={'RNAS-CL on digits': 'digits_small'},
    ),
    'table7': _partial(bars.terms, table=_DIGITS['7'], with_paper=False),
    'reduction': _partial(curves.reduction, table=_DIGITS['reduction']),
  },
}


class DrawnFigure(NamedTuple):
  """A figure that was asked for."""

  name: str  # 'Fig. 3', 'Fig. 3 on digits'.
  file: str
  picture: Picture | None  # None where nothing of it was run.


def draw(
  sweep: SweepRuns, data: str, keys: Collection[str] | None
) -> list[DrawnFigure]:
  """Draws the figures of one kind of data with these keys, None for all."""
  drawn = []
  for key, build in FIGURES[data].items():
    if keys is not None and key not in keys:
      continue
    name = f'Fig. {key}' if key.isdigit() else f'the figure {key!r}'
    file = f'fig{key}' if key.isdigit() else key
    if data == 'digits':
      name, file = f'{name} on digits', f'{file}_digits'
    with matplotlib.rc_context(style.SETTINGS):
      drawn.append(DrawnFigure(name, f'{file}.png', build(sweep)))
  return drawn


def save(drawn: Iterable[DrawnFigure], folder: pathlib.Path) -> None:
  """Writes those that were drawn as PNG files, each whole or not at all."""
  for _, file, picture in drawn:
    if picture is not None:
      style.save(picture.figure, folder / file)

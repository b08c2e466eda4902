"""Which figures there are, and their files."""

import functools
import pathlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple

import matplotlib

from rnascl_jax.reporting import style
from rnascl_jax.reporting.figures import architecture, attention
from rnascl_jax.reporting.paper import (
  bars,
  competitors,
  curves,
  definition,
  scatter,
  single_runs,
)
from rnascl_jax.reporting.paper.curves import PanelSource
from rnascl_jax.reporting.paper.picture import Picture
from rnascl_jax.reporting.paper.sweep_runs import SweepRuns

_Draw = Callable[[SweepRuns], Picture | None]
_partial = functools.partial
_CIFAR10, _DIGITS = definition.TABLES['cifar10'], definition.TABLES['digits']


def _title(space: str) -> str:
  return f'RNAS-CL-{space.upper()}'


def _fine_tuned_curves(name: str, setting: tuple[str, str]) -> _Draw:
  """Figure 5B of a space and a teacher."""
  panels = {
    'PGD-20': PanelSource(*setting),
    'FGSM': PanelSource(*setting, attack='fgsm'),
  }
  return _partial(
    curves.epsilon_curves, name=name, panels=panels, compared=curves.FINE_TUNED
  )


def _of_reports(data: str, rows: Sequence[str]) -> dict[str, _Draw]:
  """Figures 2, 9 and 12."""
  shown = {
    '2a': ('weights g_ij at the end of the search', architecture.tutor_map),
    '2b': ('attention maps from low to high', attention.attention_maps),
    '9': ('layers that teach most students', attention.chosen_layers),
    '12': ('filters of each block in the search', architecture.filters),
  }
  return {
    key: _partial(
      single_runs.of_report,
      name=f'Fig. {key.upper()}, {data}: {what}',
      rows=rows,
      build=build,
    )
    for key, (what, build) in shown.items()
  }


# By data and by key. A figure is None where nothing of it was run.
FIGURES: dict[str, dict[str, _Draw]] = {
  'cifar10': {
    '1': _partial(competitors.figure_1, table=_CIFAR10['1']),
    '3': _partial(scatter.figure_3, name='Fig. 3', table=_CIFAR10['fig3']),
    '4': _partial(
      curves.epsilon_curves,
      name='Fig. 4: ImageNet-100, space I',
      panels={
        'I, R-18': PanelSource('i', 'resnet18'),
        'I, R-50': PanelSource('i', 'resnet50'),
        'I, WRT-50': PanelSource('i', 'wrn50'),
      },
    ),
    '5a': _partial(
      single_runs.maps_beside_kl,
      name='Fig. 5A: ImageNet-100, RNAS-CL-I-R-50 and KL-I-R-50',
      row='i_resnet50',
    ),
    '5b': _fine_tuned_curves('Fig. 5B: CIFAR-10, S7, WRT-34', ('s7', 'wrn34')),
    '6': _partial(
      curves.epsilon_curves,
      name='Fig. 6: CIFAR-10',
      panels={
        f'{s.upper()}, WRT-34': PanelSource(s, 'wrn34')
        for s in ('s3', 's5', 's7')
      },
    ),
    '7': _partial(
      single_runs.tutors_and_scores,
      name='Fig. 7: CIFAR-10, RNAS-CL-S5-WRT-34',
      row='s5_wrn34',
      teacher='teacher_wrn34',
      of_paper=" The paper's layers 11, 13, 15 and 21 are among its first 5.",
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
    '11': _partial(
      single_runs.of_report,
      name='Fig. 11: ImageNet-100, layers that teach most students',
      rows=[f'{s}_wrn50' for s in ('i', 'im', 'is')],
      build=attention.chosen_layers,
    ),
    **_of_reports('CIFAR-10', [f'{s}_wrn34' for s in ('s3', 's5', 's7', 'm')]),
    'table7': _partial(bars.terms, table=_CIFAR10['7'], with_paper=True),
    'reduction': _partial(curves.reduction, table=_CIFAR10['reduction']),
  },
  'digits': {
    '3': _partial(
      scatter.figure_3, name='Fig. 3 on digits', table=_DIGITS['fig3']
    ),
    '5a': _partial(
      single_runs.maps_beside_kl, name='Fig. 5A on digits', row='digits_small'
    ),
    '5b': _fine_tuned_curves('Fig. 5B on digits', ('digits', 'small')),
    '6': _partial(
      curves.epsilon_curves,
      name='Fig. 6 on digits',
      panels={'Digits, small teacher': PanelSource('digits', 'small')},
    ),
    '7': _partial(
      single_runs.tutors_and_scores,
      name='Fig. 7 on digits',
      row='digits_small',
      teacher='teacher_small',
    ),
    '8': _partial(
      bars.tutor_counts,
      name='Fig. 8 on digits',
      rows={'RNAS-CL on digits': 'digits_small'},
    ),
    **_of_reports('digits', ['digits_small']),
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
    is_numbered = key[0].isdigit()
    name = f'Fig. {key.upper()}' if is_numbered else f'the figure {key!r}'
    file = f'fig{key}' if is_numbered else key
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

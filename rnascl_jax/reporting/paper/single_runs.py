"""Figures 2, 5A, 7, 9, 11 and 12, each drawn from one run of a sweep.

They are figures of a run's report. What that run lacks comes from another row
of its seed: a student of KL alone with a search of its own, and the scores of
the teacher's layers.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from rnascl_jax.reporting.figures import architecture, attention
from rnascl_jax.reporting.paper.picture import Picture
from rnascl_jax.reporting.paper.sweep_runs import SweepRuns
from rnascl_jax.reporting.results import SavedRun

_KL, _KL_MAPS = 'ce_kl', 'maps/ce_kl'


def of_report(
  sweep: SweepRuns,
  name: str,
  rows: Sequence[str],
  build: Callable[[SavedRun], Figure | None],
) -> Picture | None:
  """A figure of a report, of the first row and seed that can be drawn.

  Args:
    sweep: the results.
    name: how the caption begins, without a full stop.
    rows: rows of RNAS-CL; the first ones are preferred.
    build: a function of a run; it gives None where the run lacks the data.
  """
  for row in rows:
    runs = sweep.runs.get(row, {})
    if picture := _first(f'{name}. Row {row}', runs, build):
      return picture
  return None


def maps_beside_kl(sweep: SweepRuns, name: str, row: str) -> Picture | None:
  """Figure 5A: maps of RNAS-CL and of KL, each with a search of its own.

  None unless a seed has the maps of both.

  Raises:
    ValueError: if the maps of the two are not of the same images and layers.
  """
  runs = {}
  for seed, run, other in _both(sweep, row, f'{row}_{_KL}'):
    own, others = run.attention, other.attention
    if not own or not others or _KL_MAPS not in others:
      continue
    maps = others[_KL_MAPS]  # [images, S, h, w]
    if maps.shape[1] != len(run.tutors) or not np.array_equal(
      own['images'], others['images']
    ):
      raise ValueError(
        f'The attention maps of {run.workdir} and {other.workdir} are not of '
        'the same images and student layers: evaluate both alike.'
      )
    runs[seed] = dataclasses.replace(
      _with_labels(run, other), attention={**own, _KL_MAPS: maps}
    )
  build = attention.attention_maps
  return _first(f'{name}. Rows {row} and {row}_{_KL}', runs, build)


def tutors_and_scores(
  sweep: SweepRuns, name: str, row: str, teacher: str, of_paper: str = ''
) -> Picture | None:
  """Figure 7: student layers by teacher layer, beside the layers' scores.

  The caption has for every seed the places of the layers that teach.

  Args:
    sweep: the results.
    name: how the caption begins, without a full stop.
    row: that of RNAS-CL.
    teacher: the row in which its teacher was attacked. The figure is None
      unless a seed has both.
    of_paper: what the paper says of its own.
  """
  runs, places = {}, []
  for seed, run, other in _both(sweep, row, teacher):
    if other.layer_scores is None or run.tutor_counts is None:
      continue
    runs[seed] = dataclasses.replace(
      _with_labels(run, other), layer_scores=other.layer_scores
    )
    (scored,) = other.layer_scores.teachers
    counts = run.students_of(scored)
    if counts is not None:
      ranks = np.flatnonzero(counts[scored.order]) + 1
      places.append(
        f'{", ".join(map(str, ranks))} of {len(counts)} (seed {seed}; rank '
        f'correlation {run.tutors_against(scored) or "undefined"})'
      )
  picture = _first(
    f'{name}: tutors, and scores of teacher layers. Rows {row} and {teacher}',
    runs,
    architecture.teacher_layers,
  )
  if picture is None or not places:
    return picture
  said = (
    ' Places of the layers that teach, by robustness score, the most robust '
    f'first: {"; ".join(places)}.{of_paper}'
  )
  return picture._replace(caption=picture.caption + said)


def _both(
  sweep: SweepRuns, row: str, other: str
) -> Iterator[tuple[int, SavedRun, SavedRun]]:
  """The seeds, increasing, that have both rows, with their two runs."""
  runs, others = sweep.runs.get(row, {}), sweep.runs.get(other, {})
  for seed in sorted(runs.keys() & others.keys()):
    yield seed, runs[seed], others[seed]


def _with_labels(run: SavedRun, other: SavedRun) -> SavedRun:
  """A run that knows the labels of another one's models too."""
  return dataclasses.replace(
    run, evaluations=(*run.evaluations, *other.evaluations)
  )


def _first(
  name: str,
  runs: Mapping[int, SavedRun],
  build: Callable[[SavedRun], Figure | None],
) -> Picture | None:
  """The figure of the lowest seed that has it."""
  for seed in sorted(runs):
    if figure := build(runs[seed]):
      return Picture(figure, f'{name}, seed {seed}.')
  return None

"""Which teacher layers are robust, and whether they were chosen as tutors.

Reference:
  Nath et al., RNAS-CL, IJCV 2024, section 5.1 and Fig. 7.
"""

import numpy as np

from rnascl_jax.reporting import results, statistics, tables
from rnascl_jax.reporting.results import LayerScores, Run, TeacherScores
from rnascl_jax.reporting.statistics import (
  PERMUTATIONS,
  RankCorrelation,
)

NOT_SHOWN = (
  'this run does not show that the search prefers layers that the attack moves '
  'less'
)
# Rows of the table; among how many the paper finds all of its tutors.
_ROWS = 10
_BEST = 5


def section(run: Run) -> str:
  """The section of report.md; '' where no scores were saved."""
  measured = run.layer_scores
  if measured is None:
    return ''
  rows = tables.markdown(cells(run, measured), left=2)
  parts = ['## Which teacher layers are robust', _how(run, measured), rows]
  return '\n\n'.join([*parts, *findings(run)])


def cells(run: Run, measured: TeacherScores) -> list[list[str]]:
  """The most robust layers of the first teacher, and all of its tutors.

  Args:
    run: the saved results.
    measured: scores of its teachers.

  Returns:
    A row of headings, then a row for each layer with its rank; scores of other
    teachers, and student layers, where these are of layers of such names.
  """
  main, counts = measured.teachers[0], _counts(run, measured.teachers[0])
  same = [t for t in measured.teachers if t.layers == main.layers]
  rows = [['Rank', 'Layer', *(f'Score, {run.label(t.model)}' for t in same)]]
  if counts is not None:
    rows[0].append('Student layers taught')
  for place, index in enumerate(main.order):
    if place >= _ROWS and (counts is None or not counts[index]):
      continue
    row = [f'{place + 1}', f'{main.layers[index]} ({index})']
    row += [_score(found, index) for found in same]
    rows.append(row if counts is None else [*row, f'{counts[index]}'])
  return rows


def _score(found: LayerScores, index: int) -> str:
  """'0.1230 ± 0.0015', without what is not known."""
  score, error = found.scores[index], found.errors[index]
  return f'{score:.4f}' + (f' ± {error:.4f}' if np.isfinite(error) else '')


def findings(run: Run) -> list[str]:
  """What the scores say of the tutors, and of the teachers.

  Args:
    run: the saved results.

  Returns:
    Paragraphs; empty where no scores were saved, or there is nothing to
    compare them with.
  """
  teachers = () if run.layer_scores is None else run.layer_scores.teachers
  said = [_correlated(run, found) for found in teachers[:1]]
  said += [_control(run, found) for found in teachers[1:]]
  if len(teachers) > 1:
    said.append(_levels(run, teachers))
  return [text for text in said if text]


def _how(run: Run, measured: TeacherScores) -> str:
  radius = results.epsilon_text(measured.epsilon, run.dataset)
  several, total = len(measured.teachers) > 1, len(measured.teachers[0].layers)
  shown = ''
  if total > _ROWS:
    counted = _counts(run, measured.teachers[0]) is not None
    teaching = ', and those that teach' if counted else ''
    shown = f' The {_ROWS} most robust of {total} layers{teaching}:'
  return (
    "A layer's robustness score is |clean − adversarial| / |clean| of its "
    f'activations (section 5.1 of the paper) under {measured.attack} at ε = '
    f'{radius} on {"each" if several else "the"} teacher, the mean over '
    f'{measured.images} test images ± its standard error. Lower is more '
    f'robust.{shown}'
  )


def _counts(run: Run, found: LayerScores) -> np.ndarray | None:
  """Student layers taught by each layer [T]; None if these are not tutors."""
  return run.tutor_counts if list(found.layers) == run.teacher_layers else None


def _correlated(run: Run, found: LayerScores) -> str:
  """Whether tutors were chosen among the robust layers."""
  counts = _counts(run, found)
  if counts is None:
    return ''
  correlation = run.tutors_against(found)
  if correlation is None:
    return (
      'The rank correlation of score and number of student layers taught is '
      'not defined (all layers teach as many, or their scores do not differ or '
      f'are not all numbers): {NOT_SHOWN}.'
    )
  return (
    f'{_among_best(found, counts)}The rank correlation of score and number '
    f'of student layers taught is {correlation.rho:+.2f} (two-sided p '
    f'{statistics.p_text(correlation.p_value)}, {PERMUTATIONS:,} '
    f'permutations): {_verdict(correlation)} This is one search, and the test '
    'takes the layers as exchangeable, although neighbours resemble each '
    'other; a correlation may also come from depth, which orders both.'
  )


def _among_best(found: LayerScores, counts: np.ndarray) -> str:
  """Tutors among the best, and how many chance puts there; '' of few layers."""
  total, taught = len(counts), int((counts > 0).sum())
  if total <= _BEST:
    return ''
  among = int((counts[found.order[:_BEST]] > 0).sum())
  by_chance = taught * _BEST / total
  return (
    f'{among} of the {taught} teacher layers that teach are among the {_BEST} '
    f'most robust of {total}; chance alone would put {by_chance:.1f} there. '
  )


def _verdict(correlation: RankCorrelation) -> str:
  if correlation.p_value >= statistics.LEVEL:
    return f'{NOT_SHOWN}.'
  if correlation.rho < 0:
    return (
      'in this run, layers that the attack moves less teach more student '
      'layers than a random choice explains, as the paper observes.'
    )
  return (
    f'{NOT_SHOWN}; on the contrary, layers that it moves more teach more '
    'student layers than a random choice explains.'
  )


def _control(run: Run, found: LayerScores) -> str:
  """The same for a teacher that the tutors were not searched with."""
  correlation = run.tutors_against(found)
  if correlation is None:
    return ''
  return (
    f'With the scores of {run.label(found.model)}, which the tutors were not '
    f'searched with, the rank correlation is {correlation.rho:+.2f} (p '
    f'{statistics.p_text(correlation.p_value)}): a correlation that both share '
    "does not come from a teacher's robustness."
  )


def _levels(run: Run, teachers: tuple[LayerScores, ...]) -> str:
  means = [
    f'{run.label(found.model)} {found.scores.mean():.3f}' for found in teachers
  ]
  return f'Mean score over all layers: {", ".join(means)}.'

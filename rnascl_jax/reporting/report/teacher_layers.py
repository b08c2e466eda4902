"""Which teacher layers are robust, and whether they were chosen as tutors.

Reference:
  Nath et al., RNAS-CL, IJCV 2024, section 5.1 and Fig. 7.
"""

import numpy as np

from rnascl_jax.reporting import statistics, tables
from rnascl_jax.reporting.layer_scores import LayerScores, TeacherScores
from rnascl_jax.reporting.results import SavedRun
from rnascl_jax.reporting.statistics import RankCorrelation

NOT_SHOWN = (
  'this run does not show that the search prefers layers that the attack moves '
  'less'
)
# Rows of the table; among how many the paper finds all of its tutors.
_ROWS = 10
_BEST = 5


def section(run: SavedRun) -> str:
  """The section of report.md; '' where no scores were saved."""
  measured = run.layer_scores
  if measured is None:
    return ''
  rows = tables.markdown(cells(run, measured), left=2)
  parts = ['## Which teacher layers are robust', how(run, measured), rows]
  return '\n\n'.join([*parts, *findings(run)])


def cells(run: SavedRun, measured: TeacherScores) -> list[list[str]]:
  """The most robust layers of the first teacher, and all of its tutors.

  Below the headings is a row for each layer with its rank; scores of other
  teachers, and student layers, where these are of layers of such names.
  """
  main = measured.teachers[0]
  counts = run.students_of(main)
  same = [t for t in measured.teachers if t.layers == main.layers]
  rows = [['Rank', 'Layer', *(f'Score, {run.label(t.model)}' for t in same)]]
  if counts is not None:
    rows[0].append('Student layers taught')
  for place, index in enumerate(main.order):
    if place >= _ROWS and (counts is None or not counts[index]):
      continue
    row = [f'{place + 1}', f'{main.layers[index]} ({index})']
    for teacher in same:  # '0.1230 ± 0.0015', without what is not known.
      error = teacher.errors[index]
      known = f' ± {error:.4f}' if np.isfinite(error) else ''
      row.append(f'{teacher.scores[index]:.4f}{known}')
    rows.append(row if counts is None else [*row, f'{counts[index]}'])
  return rows


def findings(run: SavedRun) -> list[str]:
  """Paragraphs of what the scores say of the tutors, and of the teachers.

  There is none where no scores were saved, or nothing to compare them with.
  """
  if run.layer_scores is None:
    return []
  teachers = run.layer_scores.teachers
  said = [_correlated(run, teachers[0])]
  for control in teachers[1:]:
    correlation = run.tutors_against(control)
    if correlation is not None:
      said.append(
        f'With the scores of {run.label(control.model)}, which the tutors were '
        'not searched with, the rank correlation is '
        f'{correlation.rho:+.2f} (p {statistics.p_text(correlation.p_value)}): '
        "a correlation that both share does not come from a teacher's "
        'robustness.'
      )
  if len(teachers) > 1:
    means = [f'{run.label(t.model)} {t.scores.mean():.3f}' for t in teachers]
    said.append(f'Mean score over all layers: {", ".join(means)}.')
  return [text for text in said if text]


def how(run: SavedRun, measured: TeacherScores) -> str:
  """What a score is, and of which attack and images."""
  radius = tables.epsilon_text(measured.epsilon, run.dataset, measured.norm)
  several, total = len(measured.teachers) > 1, len(measured.teachers[0].layers)
  shown = ''
  if total > _ROWS:
    has_tutors = run.students_of(measured.teachers[0]) is not None
    teaching = ', and those that teach' if has_tutors else ''
    shown = f' The {_ROWS} most robust of {total} layers{teaching}:'
  return (
    "A layer's robustness score is |clean − adversarial| / |clean| of its "
    f'activations (section 5.1 of the paper) under {measured.attack} at ε = '
    f'{radius} on {"each" if several else "the"} teacher, the mean over '
    f'{measured.images} test images ± its standard error. Lower is more '
    f'robust.{shown}'
  )


def _correlated(run: SavedRun, scored: LayerScores) -> str:
  """Whether tutors were chosen among the robust layers."""
  counts = run.students_of(scored)
  if counts is None:
    return ''
  correlation = run.tutors_against(scored)
  if correlation is None:
    return (
      'The rank correlation of score and number of student layers taught is '
      'not defined (all layers teach as many, or their scores do not differ or '
      f'are not all numbers): {NOT_SHOWN}.'
    )
  among_best, total = '', len(counts)
  if total > _BEST:
    taught, among = counts > 0, counts[scored.order[:_BEST]] > 0
    among_best = (
      f'{among.sum()} of the {taught.sum()} teacher layers that teach are '
      f'among the {_BEST} most robust of {total}; chance alone would put '
      f'{taught.sum() * _BEST / total:.1f} there. '
    )
  return (
    f'{among_best}The rank correlation of score and number of student layers '
    f'taught is {correlation.rho:+.2f} (two-sided p '
    f'{statistics.p_text(correlation.p_value)}, {statistics.PERMUTATIONS:,} '
    f'permutations): {_verdict(correlation)} This is one search, and the test '
    'takes the layers as exchangeable, although neighbours resemble each '
    'other; a correlation may also come from depth, which orders both.'
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

"""Sentences about a run, computed from its numbers and from nothing else.

Three questions: does the RNAS-CL student withstand attacks better than students
trained without tutors; is that inherited, or would any teacher have given it;
and can the attacks be believed. Every sentence has a counterpart that takes its
place when the numbers are otherwise.
"""

from rnascl_jax.figures import ensembles, evaluation, statistics
from rnascl_jax.figures.results import Run
from rnascl_jax.report import attack_checks, comparison
from rnascl_jax.report.comparison import Comparison

NOT_SHOWN = 'this run does not show that robustness was inherited'
_STUDENT = 'rnas_cl'
_BASELINES = ('ce', 'ce_kl')
# A control is named after the student that it is the control of.
_CONTROL = 'control_'
# Below this accuracy under attack, models can hardly be told apart.
_FLOOR = 0.05


def findings(run: Run) -> list[str]:
  """Everything that can be said of a run, in Markdown.

  Args:
    run: the saved results.

  Returns:
    One or more sentences each; empty where nothing was evaluated.
  """
  if not run.evaluations:
    return []
  return [
    *_floor(run),
    *_gains(run),
    *_gains_under_auto_attack(run),
    *_inheritance(run),
    *attack_checks.findings(run),
    *_sizes(run),
    _scope(run),
  ]


def _floor(run: Run) -> list[str]:
  """Whether the perturbation is so large that no student withstands it."""
  attack = run.headline_attack
  students = [e for e in run.evaluations if e.kind == 'student']
  found = [o for e in students if attack and (o := e.outcome(attack))]
  if not found or max(o.accuracy for o in found) >= _FLOOR:
    return []
  radius = evaluation.epsilon_text(found[0].epsilon, run.dataset)
  return [
    f'Every student is below {100 * _FLOOR:.0f} % under {found[0].label} '
    f'(ε = {radius}): this ε is too large to tell the students apart.'
  ]


def _against(run: Run, first: str, second: str) -> Comparison | None:
  """Two models under the attack that stands for robustness."""
  return comparison.compare(
    run.evaluation(first), run.evaluation(second), run.headline_attack
  )


def _gains(run: Run) -> list[str]:
  """RNAS-CL against the students without tutors, under attack and clean."""
  sentences = []
  for baseline in _BASELINES:
    attacked = _against(run, _STUDENT, baseline)
    if attacked is not None:
      clean = comparison.compare(attacked.first, attacked.second, 'clean')
      sentences.append(_gain(attacked, run.dataset) + _clean(clean))
  return sentences


def _gains_under_auto_attack(run: Run) -> list[str]:
  """The same under the strongest attacks, which may be on few images."""
  student, sentences = run.evaluation(_STUDENT), []
  for outcome in () if student is None else student.outcomes:
    for baseline in _BASELINES if outcome.members else ():
      other = run.evaluation(baseline)
      found = comparison.compare(student, other, outcome.attack)
      if found is not None:
        sentences.append(
          _gain(found, run.dataset, run.images) + _reservation(run, found)
        )
  return sentences


def _reservation(run: Run, found: Comparison) -> str:
  """How much so many images can say, and what PGD says of the same ones."""
  images, (low, high) = found.outcomes[0].images, found.interval
  text = (
    f' {images:,} images bound the difference{" only" * (images < run.images)} '
    f'to {low:+.1f} to {high:+.1f} points (95 % interval, images taken as '
    'unpaired).'
  )
  same = comparison.compare(
    found.first, found.second, run.headline_attack, images
  )
  if same is None or not same.outcomes[0].same_ball(found.outcomes[0]):
    return text
  return (
    f'{text} On the same images {same.outcomes[0].label} says '
    f'{_points(same.points)} points.'
  )


def _gain(found: Comparison, dataset: str, most: int = 0) -> str:
  """A comparison in words; on fewer than `most` images, it says on which."""
  first, second = found.outcomes
  radius = evaluation.epsilon_text(first.epsilon, dataset)
  few = ''
  if first.images < most:
    few = f', {ensembles.which_images(first, most)}'
  text = (
    f'**{found.first.label} against {found.second.label}** under {first.label} '
    f'(ε = {radius}{few}): {_share(first.accuracy)} against '
    f'{_share(second.accuracy)}, {_points(found.points)} points '
    f'({found.evidence}). '
  )
  if not found.distinct:
    return text + 'This run does not show a difference between the two.'
  more = found.first if found.points > 0 else found.second
  return (
    f'{text}{more.label} is right more often than the choice of test images '
    'explains.'
  )


def _clean(found: Comparison | None) -> str:
  if found is None:
    return ''
  first, second = found.outcomes
  beyond = 'more' if found.distinct else 'not more'
  return (
    f' Clean: {_share(first.accuracy)} against {_share(second.accuracy)}, '
    f'{_points(found.points)} points, {beyond} than the choice of test images '
    'explains.'
  )


def _inheritance(run: Run) -> list[str]:
  """Every student that has a control against it; or that there is none."""
  controls = [e.model for e in run.evaluations if e.model.startswith(_CONTROL)]
  compared = [
    _against(run, model.removeprefix(_CONTROL), model) for model in controls
  ]
  found = [c for c in compared if c is not None]
  if found:
    return [_control(run, c) for c in found]
  gains = [_against(run, _STUDENT, baseline) for baseline in _BASELINES]
  if not any(g is not None and g.points > 0 for g in gains):
    return []
  return [
    'No control student, taught by a teacher trained without attacks, was '
    'evaluated beside it: a gain may come from distillation as such, and '
    f'**{NOT_SHOWN}**.'
  ]


def _control(run: Run, found: Comparison) -> str:
  """One student against its control, with the plain conclusion."""
  first, second = found.outcomes
  low, high = statistics.wilson(first.correct, first.images)
  text = (
    f'**Control.** {found.second.label}, taught by a teacher trained without '
    f'attacks, reaches {_share(second.accuracy)} under {second.label}; '
    f'{found.first.label} reaches {_share(first.accuracy)} (95 % interval '
    f'{_share(low)} to {_share(high)}). Both have the architecture, and where '
    'they use them the tutors, that were searched with the robust teacher.'
  )
  gain = _against(run, found.first.model, _BASELINES[0])
  control_gain = _against(run, found.second.model, _BASELINES[0])
  if gain is not None and control_gain is not None:
    text += (
      f' Over {gain.second.label} these are {_points(control_gain.points)} and '
      f'{_points(gain.points)} points.'
    )
  doubt = _doubt(run, found, gain)
  if doubt:
    return f'{text} {doubt[0].upper()}{doubt[1:]}: **{NOT_SHOWN}**.'
  text += (
    f' The control stays {found.points:.1f} points behind ({found.evidence}): '
    'in this run, that much goes with the robust teacher.'
  )
  if control_gain is None or not control_gain.beyond_chance_above:
    return text
  return text + ' What the control gained came without one.'


def _doubt(run: Run, found: Comparison, gain: Comparison | None) -> str:
  """Why nothing is shown to be inherited; '' if no simpler account is left."""
  teachers = _against(run, 'teacher', 'vulnerable_teacher')
  first, second = found.outcomes
  if gain is not None and not gain.beyond_chance_above:
    return f'{found.first.label} is not shown to gain over {gain.second.label}'
  if teachers is not None and not teachers.beyond_chance_above:
    return "the control's teacher is not shown to be the less robust one"
  if second.accuracy >= first.accuracy:
    return 'the control reaches as much'
  if second.accuracy >= statistics.wilson(first.correct, first.images)[0]:
    return 'the control is within the interval'
  if not found.distinct:
    return f'the difference may be chance ({found.evidence})'
  return ''


def _sizes(run: Run) -> list[str]:
  student, teacher = run.evaluation(_STUDENT), run.evaluation('teacher')
  own = student.parameters if student else None
  its = teacher.parameters if teacher else None
  if student is None or teacher is None or not own or not its:
    return []
  return [
    f'{student.label} has {own:,} parameters, {teacher.label} {its:,} '
    f'({its / own:.1f} times as many).'
  ]


def _scope(run: Run) -> str:
  seed = run.config.get('seed', run.provenance.get('seed'))
  which = '' if seed is None else f' (seed {seed})'
  return (
    f'One training run per model{which}: intervals and p-values cover the '
    'choice of test images, not the randomness of training, and are not '
    'corrected for the number of comparisons.'
  )


def _share(share: float) -> str:
  return f'{100 * share:.1f} %'


def _points(points: float) -> str:
  """'+6.8', '-0.8', '0.0'; never '-0.0'."""
  rounded = round(points, 1)
  return f'{rounded:+.1f}' if rounded else '0.0'

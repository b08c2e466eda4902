"""Sentences about a run, computed from its numbers and from nothing else.

Four questions: does the RNAS-CL student withstand attacks better than students
trained without tutors; is that inherited, or would any teacher have given it;
what does further training on attacks give, which is a question of its own; and
can the attacks be believed. Every sentence has a counterpart that takes its
place when the numbers are otherwise.
"""

from rnascl_jax.reporting import results, statistics
from rnascl_jax.reporting.report import (
  attack_checks,
  comparison,
  hardening,
  sentences,
)
from rnascl_jax.reporting.report.comparison import Comparison
from rnascl_jax.reporting.results import ModelEvaluation, Run

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
    *_inheritance(run),
    *hardening.findings(run),
    *attack_checks.findings(run),
    *_sizes(run),
    _scope(run),
  ]


def _floor(run: Run) -> list[str]:
  """Whether the perturbation is so large that no student withstands it."""
  attack = run.headline_attack
  students = [e for e in run.evaluations if e.kind == 'student' and not e.base]
  found = [o for e in students if attack and (o := e.under(attack))]
  if not found or max(o.accuracy for o in found) >= _FLOOR:
    return []
  radius = results.epsilon_text(found[0].epsilon, run.dataset)
  return [
    f'Every student trained from scratch is below {100 * _FLOOR:.0f} % under '
    f'{found[0].label} (ε = {radius}): this ε is too large to tell them apart.'
  ]


def _against(run: Run, first: str, second: str) -> Comparison | None:
  """Two models under the attack that stands for robustness."""
  return comparison.compare(
    _from_scratch(run, first), _from_scratch(run, second), run.headline_attack
  )


def _from_scratch(run: Run, model: str) -> ModelEvaluation | None:
  """A model's evaluation; None of one that was trained further on attacks."""
  found = run.evaluation(model)
  return None if found is None or found.base else found


def _gains(run: Run) -> list[str]:
  """RNAS-CL against the students without tutors, under attacks and clean."""
  student = _from_scratch(run, _STUDENT)
  baselines = [_from_scratch(run, baseline) for baseline in _BASELINES]
  return [
    text
    for compare in (sentences.attacked_and_clean, sentences.under_auto_attack)
    for baseline in baselines
    for text in compare(run, student, baseline)
  ]


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
  first, second = found.results
  interval = statistics.wilson(first.correct, first.images)
  low, high = map(sentences.percent, interval)
  text = (
    f'**Control.** {found.second.label}, taught by a teacher trained without '
    f'attacks, reaches {sentences.percent(second.accuracy)} under '
    f'{second.label}; {found.first.label} reaches '
    f'{sentences.percent(first.accuracy)} (95 % interval {low} to {high}). '
    'Both have the architecture, and where they use them the tutors, that were '
    'searched with the robust teacher.'
  )
  gain = _against(run, found.first.model, _BASELINES[0])
  control_gain = _against(run, found.second.model, _BASELINES[0])
  if gain is not None and control_gain is not None:
    points = [sentences.points(g.points) for g in (control_gain, gain)]
    text += (
      f' Over {gain.second.label} these are {" and ".join(points)} points.'
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
  first, second = found.results
  if gain is not None and not gain.beyond_chance_above:
    return f'{found.first.label} is not shown to gain over {gain.second.label}'
  if teachers is None:
    return 'the two teachers were not attacked in this run'
  if not teachers.beyond_chance_above:
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

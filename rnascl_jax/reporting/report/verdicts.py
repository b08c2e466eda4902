"""What the numbers of a run show, and what they do not.

The numbers stand in the table of `comparison`; here is said what follows from
them. Every sentence has a counterpart for numbers that show the contrary.

Reference:
  Nath et al., RNAS-CL, IJCV 2024, sections 3.5 and 4.6 (fine-tuning).
"""

from rnascl_jax.reporting import results, tables
from rnascl_jax.reporting.evaluations import ModelEvaluation
from rnascl_jax.reporting.report import attack_checks, comparison
from rnascl_jax.reporting.report.comparison import Comparison
from rnascl_jax.reporting.results import SavedRun

NOT_SHOWN = 'this run does not show that robustness was inherited'
# Below this accuracy under attack, models can hardly be told apart.
_FLOOR = 0.05


def verdicts(run: SavedRun) -> list[str]:
  """Everything that can be said of a run, in Markdown, a paragraph each."""
  if not run.evaluations:
    return []
  return [
    *compared(run),
    *attack_checks.findings(run),
    *robustness(run),
    scope(run),
  ]


def compared(run: SavedRun) -> list[str]:
  """What models are shown to be in comparison with each other."""
  return [
    *_floor(run),
    *_gains(run),
    *_inheritance(run),
    *(_fine_tuned(run, *pair) for pair in comparison.fine_tuned(run)),
  ]


def _floor(run: SavedRun) -> list[str]:
  """Whether the perturbation is so large that no student withstands it."""
  reached = [
    result
    for e in run.evaluations
    if e.kind == 'student' and not e.base
    if (result := e.under(run.headline_attack)) is not None
  ]
  if not reached or max(r.accuracy for r in reached) >= _FLOOR:
    return []
  first = reached[0]
  radius = tables.epsilon_text(first.epsilon, run.dataset, first.norm)
  return [
    f'Every student trained from scratch is below {100 * _FLOOR:.0f} % under '
    f'{first.label} (ε = {radius}): this ε is too large to tell them '
    'apart.'
  ]


def _against(run: SavedRun, first: str, second: str) -> Comparison | None:
  """Two models of one architecture under the attack for robustness."""
  if comparison.network(run, first) != comparison.network(run, second):
    return None
  return comparison.compare(
    comparison.from_scratch(run, first),
    comparison.from_scratch(run, second),
    run.headline_attack,
  )


def _gains(run: SavedRun) -> list[str]:
  """Whether RNAS-CL withstands the attack better than without tutors."""
  said = {
    1: 'it withstands {} better.',
    -1: 'it withstands {} less well.',
    0: 'this run does not show a difference under {}.',
  }
  return [
    f'**{" against ".join(c.names)}**: {said[c.sign].format(c.under)}'
    for c in _over_baselines(run)
  ]


def _over_baselines(run: SavedRun) -> list[Comparison]:
  compared = [
    _against(run, comparison.STUDENT, baseline)
    for baseline in comparison.BASELINES
  ]
  return [c for c in compared if c is not None]


def _inheritance(run: SavedRun) -> list[str]:
  """Every student that has a control against it; or that there is none."""
  controls = [
    _control(run, control.model, c)
    for student, control in comparison.controls(run)
    if (c := comparison.compare(student, control, run.headline_attack))
  ]
  if controls or all(c.points <= 0 for c in _over_baselines(run)):
    return controls
  return [
    'No control student, taught by a teacher trained without attacks, was '
    'evaluated beside it: a gain may come from distillation as such, and '
    f'**{NOT_SHOWN}**.'
  ]


def _control(run: SavedRun, control: str, compared: Comparison) -> str:
  """One student against its control, with the plain conclusion."""
  student = control.removeprefix(comparison.CONTROL)
  is_fixed = comparison.network(run, student)
  searched = '' if is_fixed else ', that were searched with the robust teacher'
  text = (
    f'**Control.** {compared.names[1]} was taught by a teacher trained without '
    f'attacks. It has the architecture of {compared.names[0]}, and where it '
    f'uses them the tutors{searched}. '
  )
  baseline = comparison.BASELINES[0]
  doubt = _doubt(run, compared, _against(run, student, baseline))
  if doubt:
    return f'{text}{doubt}: **{NOT_SHOWN}**.'
  text += (
    f'It stays {compared.points:.1f} points behind: in this run, that much '
    'goes with the robust teacher.'
  )
  gain = _against(run, control, baseline)
  if gain is None or gain.sign < 1:
    return text
  return (
    f'{text} What the control gained over {gain.names[1]}, '
    f'{gain.points:+.1f} points, came without one.'
  )


def _doubt(run: SavedRun, compared: Comparison, gain: Comparison | None) -> str:
  """Why nothing is shown to be inherited; '' if no simpler account is left."""
  teachers = _against(run, 'teacher', 'vulnerable_teacher')
  first, second = compared.results
  if gain is not None and gain.sign < 1:
    return f'{gain.names[0]} is not shown to gain over {gain.names[1]}'
  if teachers is None:
    return 'The two teachers were not attacked in this run'
  if teachers.sign < 1:
    return "The control's teacher is not shown to be the less robust one"
  if second.accuracy >= first.accuracy:
    return 'The control reaches as much'
  if second.accuracy >= first.interval[0]:
    return f'The control is within the 95 % interval of {compared.names[0]}'
  return '' if compared.sign else 'The difference may be chance'


def _fine_tuned(
  run: SavedRun, tuned: ModelEvaluation, base: ModelEvaluation
) -> str:
  """What the fine-tuning was, what it gained and what it cost."""
  epochs = results.epochs(run, 'adversarial')
  further = 'further training'
  if epochs:
    further = f'{epochs} further epoch{"s" * (epochs > 1)}'
  method = run.adversarial_method(tuned.model)
  how = f'on attacks (`{method}`)' if method else 'on attacks'
  if method == comparison.PLAIN:
    how = 'without attacks'
  if tuned.weights_kept is not None:
    how += f', with {100 * tuned.weights_kept:.3g} % of its weights kept'
  if any(s[:2] == ('pruning', tuned.model) for s in run.stages):
    how += f', chosen in {results.epochs(run, "pruning")} epochs before that'
  text = f'**{tuned.label}** is {base.label} after {further} {how}.'
  attacked = comparison.compare(tuned, base, run.headline_attack)
  clean = comparison.compare(tuned, base, 'clean')
  if attacked is None or clean is None:
    return f'{text} They were not both attacked by PGD, so no verdict.'
  gained, lost = attacked.sign > 0, clean.sign < 0
  if gained and lost:
    verdict = 'robustness was bought with clean accuracy'
  elif gained:
    verdict = 'that gained robustness and cost no clean accuracy beyond chance'
  elif lost:
    verdict = 'it cost clean accuracy and is not shown to have helped'
  elif attacked.sign < 0:
    verdict = 'it cost robustness'
  else:
    verdict = 'it is shown neither to help nor to cost clean accuracy'
  return f'{text} In this run, {verdict}.'


def robustness(run: SavedRun) -> list[str]:
  """The attack that leaves RNAS-CL the least, for each number of images.

  Attacks on different numbers of images are compared on those that all of them
  attacked, and those on most images among themselves.
  """
  student = run.evaluation(comparison.STUDENT)
  if student is None:
    return []
  attacks, texts = [a for a in student.attacks if a.attack != 'clean'], []
  for images in sorted({a.images for a in attacks}):
    same = [r for a in attacks if (r := a.on_first(images)) is not None]
    if len(same) > 1:
      worst = min(reversed(same), key=lambda r: r.correct)
      low, high = (100 * end for end in worst.interval)
      radius = tables.epsilon_text(worst.epsilon, run.dataset, worst.norm)
      texts.append(
        f'{student.label} is robust on at most {100 * worst.accuracy:.1f} % '
        f'(95 % interval {low:.1f} to {high:.1f} %) of '
        f'{tables.which_images(worst, run.images)}: {worst.label} leaves no '
        f'more at ε = {radius}.'
      )
  return texts


def scope(run: SavedRun) -> str:
  """What intervals and p-values cover, and what they do not."""
  which = '' if run.seed is None else f' (seed {run.seed})'
  return (
    f'One training run per model{which}: intervals and p-values cover the '
    'choice of test images, not the randomness of training, and are not '
    'corrected for the number of comparisons.'
  )

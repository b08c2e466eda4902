"""What further training on attacks gave a student, and what it cost.

Reference:
  Nath et al., RNAS-CL, IJCV 2024, sections 3.5 and 4.6.
"""

from rnascl_jax.reporting import results
from rnascl_jax.reporting.report import (
  comparison,
  sentences,
)
from rnascl_jax.reporting.results import Json, ModelEvaluation, Run

# The regime that has no attack: a control of the further epochs.
_PLAIN = 'standard'


def findings(run: Run) -> list[str]:
  """Every hardened student against what it was before.

  Args:
    run: the saved results.

  Returns:
    A paragraph for each; empty where no student was hardened.
  """
  return [text for e in run.evaluations if e.base for text in _said(run, e)]


def _said(run: Run, hardened: ModelEvaluation) -> list[str]:
  base = run.evaluation(hardened.base)
  compared = sentences.attacked_and_clean(run, hardened, base)
  if not compared or base is None:
    return []
  parts = [
    *compared,
    _what(run, hardened, base),
    _verdict(run, hardened, base),
    *_under_auto_attack(run, hardened, base),
    *_against_plain(run, hardened),
  ]
  return [' '.join(filter(None, parts))]


def _what(run: Run, hardened: ModelEvaluation, base: ModelEvaluation) -> str:
  epochs = _section(run).get('optimization', {}).get('epochs')
  further = 'further training'
  if epochs:
    further = f'{epochs} further epoch{"s" * (epochs > 1)}'
  regime = _regime(run, hardened)
  on = f'on attacks (`{regime}`)' if regime else 'on attacks'
  if regime == _PLAIN:
    on = 'without attacks'
  return f'The first is {base.label} after {further} {on}.'


def _verdict(run: Run, hardened: ModelEvaluation, base: ModelEvaluation) -> str:
  """What was gained for what; '' where neither is beyond chance."""
  attacked = comparison.compare(hardened, base, run.headline_attack)
  clean = comparison.compare(hardened, base, 'clean')
  if attacked is None or clean is None:
    return ''
  lost = clean.distinct and clean.points < 0
  if attacked.beyond_chance_above:
    if lost:
      return 'In this run, robustness was bought with clean accuracy.'
    return 'In this run, that cost no clean accuracy beyond chance.'
  if lost:
    return (
      'In this run, it cost clean accuracy and is not shown to have helped.'
    )
  return ''


def _under_auto_attack(
  run: Run, hardened: ModelEvaluation, base: ModelEvaluation
) -> list[str]:
  """The same under the strongest attacks, which may be on few images."""
  found = []
  for outcome in hardened.attacks:
    both = comparison.compare(hardened, base, outcome.attack)
    if outcome.members and both is not None:
      which = results.which_images(both.results[0], run.images)
      found.append(
        f'Under {outcome.label}, on {which}: {sentences.brief(both)}.'
      )
  return found


def _against_plain(run: Run, hardened: ModelEvaluation) -> list[str]:
  """The same against as many further epochs without attacks."""
  if _regime(run, hardened) == _PLAIN:
    return []
  found = []
  for control in run.evaluations:
    if control.base == hardened.base and _regime(run, control) == _PLAIN:
      both = comparison.compare(hardened, control, run.headline_attack)
      if both is not None:
        found.append(
          f'Against {control.label}, under {both.results[0].label}: '
          f'{sentences.brief(both)}.'
        )
  return found


def _regime(run: Run, hardened: ModelEvaluation) -> str:
  """The name of its regime, '' if the run does not say."""
  saved = _section(run).get('students', {}).get(hardened.model, {})
  return saved.get('regime', {}).get('name', '')


def _section(run: Run) -> Json:
  return run.config.get('adversarial') or {}

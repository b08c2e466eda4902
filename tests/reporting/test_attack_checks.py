"""What the report says of the attacks: can they be believed."""

import numpy as np

from rnascl_jax.reporting import report, results
from rnascl_jax.reporting.report import attack_checks
from tests import saved_auto_attack, saved_run

STUDENT, BASELINE = 'RNAS-CL student', 'CE student'
MASKED = {'kind': 'saturated softmax', 'message': 'Logits are 900 apart.'}
SQUARE = {
  'kind': 'black-box attack is stronger',
  'message': 'Square broke what gradients had left.',
}


def _said(workdir, *words):
  """The sentences that hold all of these words."""
  every = attack_checks.findings(results.load(workdir))
  return [said for said in every if all(word in said for word in words)]


def test_a_saved_warning_is_said_once_with_its_models(workdir):
  for model, left in saved_auto_attack.LEFT.items():
    saved_run.write_auto_attack(workdir, model, left, warnings=(MASKED,))
  with saved_run.edited(workdir / 'evaluation' / 'ce.json') as saved:
    saved['attacks'][-1]['warnings'] = [MASKED, SQUARE]
  assert _said(workdir, 'Logits are 900 apart.') == [
    f'**Warning, saturated softmax** ({STUDENT}, {BASELINE}): Logits are 900 '
    'apart.'
  ]
  assert len(_said(workdir, f'({BASELINE}): Square broke what')) == 1
  assert _said(workdir, 'Apart from the warnings above', 'no sign of gradient')
  assert '2 warnings about models' in report.terminal_table(workdir)


def test_an_image_that_only_a_weaker_attack_broke_is_reported(workdir):
  assert not _said(workdir, 'too weak')
  # PGD-20 breaks two images of those that AutoAttack left, and still leaves
  # more than AutoAttack; CW-20 breaks one of the two.
  path = workdir / 'evaluation' / 'rnas_cl.npz'
  arrays = dict(np.load(path))
  left = np.flatnonzero(arrays['correct/autoattack'])
  for attack, count in (('pgd20', 2), ('cw20', 1)):
    right = arrays[f'correct/{attack}']
    right[left[:count]] = False
    right[64 + np.flatnonzero(~right[64:])[:count]] = True
  np.savez(path, **arrays)
  (said,) = _said(workdir, 'too weak')
  assert f'{STUDENT}: of the first 64 of 517 test images, AutoAtt' in said
  assert '(PGD-20 2, CW-20 1)' in said
  assert f'at most {100 * 21 / 64:.1f} % of these images' in said
  assert not _said(workdir, 'no sign of gradient masking')


def test_without_outcomes_per_image_the_counts_are_compared(workdir):
  weak = (509, 230, 228, 228, 228)  # PGD-20 leaves 226.
  saved_run.write_auto_attack(
    workdir, 'rnas_cl', weak, images=517, per_image=False
  )
  assert _said(workdir, 'AutoAttack leaves 228 of 517', 'PGD-20 226')
  saved_run.write_auto_attack(workdir, 'rnas_cl', weak, images=517)
  assert not _said(workdir, 'AutoAttack leaves 228 of 517')  # Not said twice.
  assert _said(workdir, 'AutoAttack left 7 right', 'PGD-20 2', 'CW-20 7')


def test_square_beating_gradients_is_a_sign_of_masking_said_once(workdir):
  assert not _said(workdir, 'which uses no gradients')
  left = (63, 12, 12, 12, 8)
  saved_run.write_auto_attack(workdir, 'ce', left)
  (said,) = _said(workdir, 'Square, which uses no gradients, broke 4 of 64')
  assert 'APGD-CE, APGD-T, FAB-T had left' in said
  assert not _said(workdir, 'no sign of gradient masking')
  saved_run.write_auto_attack(workdir, 'ce', left, warnings=(SQUARE,))
  assert len(_said(workdir, 'Square')) == 1


def test_claims_that_were_not_confirmed_are_mentioned(workdir):
  assert not _said(workdir, 'not confirmed')
  saved_run.write_auto_attack(
    workdir, 'ce', saved_auto_attack.LEFT['ce'], rejected=3
  )
  (said,) = _said(workdir, 'not confirmed')
  assert said.startswith(BASELINE) and 'AutoAttack 3 (Square 3)' in said


def test_a_stronger_attack_that_is_weaker_is_reported(workdir):
  assert _said(workdir, 'no sign of gradient masking (they cannot rule it out)')
  weak = saved_run.evaluation('ce_kl', (513, 180, 191, 175, 190))
  saved_run.write_evaluation(workdir, weak)
  assert _said(
    workdir,
    'CE + KL student: PGD-20 leaves 191 of 517 images right, FGSM 180',
    'possible sign of gradient masking',
  )
  assert not _said(workdir, 'no sign of gradient masking')


def test_the_end_of_a_curve_is_judged_by_how_near_it_is_to_zero(workdir):
  assert _said(workdir, 'every model falls to 5 % or less')
  with saved_run.edited(workdir / 'evaluation' / 'rnas_cl.json') as saved:
    del saved['curves'][0]['points'][3:]
  assert not _said(workdir, 'every model falls')
  assert _said(
    workdir, f'{STUDENT} 43.7 % at ε = 0.1', 'possible gradient masking'
  )


def test_accuracy_that_rises_with_epsilon_is_reported(workdir):
  with saved_run.edited(workdir / 'evaluation' / 'ce.json') as saved:
    saved['curves'][0]['points'][5]['accuracy'] = 0.5
  (said,) = _said(workdir, f'{BASELINE}: accuracy under PGD-20 rises by')
  assert 'points from ε = 0.2 to 0.25' in said

"""What the report says of AutoAttack: is it strong enough, who withstands."""

import json

import numpy as np
import pytest
from scipy import stats

from rnascl_jax.reporting import report, results, statistics
from rnascl_jax.reporting.report import (
  findings,
)
from tests import saved_auto_attack, saved_run

STUDENT, BASELINE = 'RNAS-CL student', 'CE student'
MASKED = {'kind': 'saturated softmax', 'message': 'Logits are 900 apart.'}
SQUARE = {
  'kind': 'black-box attack is stronger',
  'message': 'Square broke what gradients had left.',
}


@pytest.fixture
def workdir(tmp_path):
  return saved_run.write(tmp_path / 'run')


def _flags(workdir, model, **changed):
  """Replaces which images are right under attacks, and keeps their count."""
  path = workdir / 'evaluation' / f'{model}.npz'
  with np.load(path) as archive:
    arrays = dict(archive)
  np.savez(path, **arrays | {f'correct/{k}': v for k, v in changed.items()})


def _right(workdir, model, attack):
  with np.load(workdir / 'evaluation' / f'{model}.npz') as archive:
    return archive[f'correct/{attack}'][:64]


def _said(workdir, *words):
  """The sentences that hold all of these words."""
  every = findings.findings(results.load(workdir))
  return [said for said in every if all(word in said for word in words)]


def test_a_saved_warning_is_said_once_with_its_models(workdir):
  for model, left in saved_auto_attack.LEFT.items():
    saved_run.write_auto_attack(workdir, model, left, warnings=(MASKED,))
  saved_run.write_auto_attack(
    workdir,
    'ce',
    saved_auto_attack.LEFT['ce'],
    warnings=(MASKED,),
  )
  path = workdir / 'evaluation' / 'ce.json'
  saved = json.loads(path.read_text())
  saved['attacks'][-1]['warnings'] = [MASKED, SQUARE]
  path.write_text(json.dumps(saved))
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
  left = _right(workdir, 'rnas_cl', 'autoattack')
  changed = {}
  for attack, count in (('pgd20', 2), ('cw20', 1)):
    with np.load(workdir / 'evaluation' / 'rnas_cl.npz') as archive:
      right = archive[f'correct/{attack}'].copy()
    right[np.flatnonzero(left)[:count]] = False
    right[64 + np.flatnonzero(~right[64:])[:count]] = True
    changed[attack] = right
  _flags(workdir, 'rnas_cl', **changed)
  (said,) = _said(workdir, 'too weak')
  assert (
    f'{STUDENT}: of the first 64 of 517 test images, AutoAttack left 2'
    in (said)
  )
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


def test_what_pgd_overestimates_is_counted_on_the_same_images(workdir):
  (said,) = _said(workdir, STUDENT, 'PGD-20 leaves', 'overestimates')
  pgd, left = (
    _right(workdir, 'rnas_cl', attack) for attack in ('pgd20', 'autoattack')
  )
  only = int(np.sum(pgd & ~left))
  assert f'{100 * only / 64:.1f} points' in said and only == 5
  p_value = stats.binomtest(only, only).pvalue
  assert f'{only} broken by AutoAttack only, 0 by PGD-20 only' in said
  assert f'p = {p_value:.2g}' in said and 'too few to say' in said
  saved_run.write_auto_attack(workdir, 'rnas_cl', (63, 15, 15, 15, 15))
  (said,) = _said(workdir, STUDENT, 'PGD-20 leaves', 'overestimates')
  assert 'too few to say' not in said
  equal = int(pgd.sum())
  saved_run.write_auto_attack(
    workdir, 'rnas_cl', (63, equal, equal, equal, equal)
  )
  assert _said(workdir, STUDENT, 'overestimates nothing here')


def test_another_epsilon_is_no_gap(workdir):
  saved_run.write_auto_attack(
    workdir, 'rnas_cl', saved_auto_attack.LEFT['rnas_cl'], epsilon=0.2
  )
  assert not _said(workdir, STUDENT, 'overestimates')
  assert not _said(workdir, STUDENT, 'too weak')


def test_students_are_compared_under_autoattack_on_the_same_images(workdir):
  words = f'{STUDENT} against {BASELINE}', 'under AutoAttack'
  few = 'ε = 0.1, the first 64 of 517 test images'
  (said,) = _said(workdir, *words)
  assert few in said and '35.9 % against 12.5 %, +23.4 points' in said
  assert 'right on 15 images where the other is wrong' in said
  low, high = statistics.newcombe(23, 64, 8, 64)
  assert f'only to {100 * low:+.1f} to {100 * high:+.1f} points' in said
  pgd = 100 * (28 - 9) / 64
  assert f'On the same images PGD-20 says {pgd:+.1f} points' in said
  # A model attacked on more images is compared on those of the other.
  saved_run.write_auto_attack(workdir, 'ce', (509, 80, 70, 70, 70), images=517)
  ours, theirs = (
    _right(workdir, model, 'autoattack') for model in ('rnas_cl', 'ce')
  )
  right, only = int(theirs.sum()), int(np.sum(ours & ~theirs))
  assert right != round(70 / 517 * 64)
  (said,) = _said(workdir, *words)
  assert few in said and f'35.9 % against {100 * right / 64:.1f} %' in said
  assert f'right on {only} images where the other is wrong, wrong on 0' in said
  saved_run.write_auto_attack(
    workdir, 'ce', (509, 80, 70, 70, 70), images=517, per_image=False
  )
  assert not _said(workdir, *words)


def test_few_images_that_show_no_difference_are_said_to(workdir):
  saved_run.write_auto_attack(workdir, 'ce', (63, 22, 20, 20, 20))
  (said,) = _said(workdir, f'{STUDENT} against {BASELINE}', 'AutoAttack')
  assert 'does not show a difference' in said
  low, high = statistics.newcombe(23, 64, 20, 64)
  assert low < 0 < high and f'{100 * low:+.1f} to {100 * high:+.1f}' in said


def test_the_strongest_attack_is_found_on_the_same_images(workdir, monkeypatch):
  # The first images are easy: AutoAttack leaves 90.6 % of them, more than any
  # attack leaves of all images, though every other one leaves all of them.
  monkeypatch.setattr(saved_run, 'RANKS', np.arange(saved_run.IMAGES))
  saved_run.write_auto_attack(workdir, 'rnas_cl', (64, 60, 58, 58, 58))
  few, every = _said(workdir, f'leaves {STUDENT} the least')
  assert few.startswith('On the first 64 of 517 test images')
  assert 'is AutoAttack: 90.6 %' in few
  assert every.startswith('On all 517') and 'is CW-20: 42.7 %' in every
  # Without outcomes per image nothing else is known of these images.
  saved_run.write_auto_attack(
    workdir, 'rnas_cl', (64, 1, 1, 1, 1), per_image=False
  )
  (every,) = _said(workdir, f'leaves {STUDENT} the least')
  assert 'is CW-20: 42.7 %' in every

"""What the report says of students that were trained further on attacks."""

import json

import numpy as np
import pytest
from scipy import stats

from rnascl_jax.reporting import report, results
from rnascl_jax.reporting.figures import (
  training,
)
from rnascl_jax.reporting.report import (
  findings,
  run_facts,
)
from tests import saved_auto_attack, saved_run

BASE, HARDENED = 'RNAS-CL student', 'RNAS-CL + eq. (6)'
RNAS_CL = saved_run.MODELS['rnas_cl'][-1]


@pytest.fixture
def workdir(tmp_path):
  return saved_run.write(tmp_path / 'run')


def _said(workdir, *words):
  """The sentences that hold all of these words."""
  every = findings.findings(results.load(workdir))
  return [said for said in every if all(word in said for word in words)]


def _about(workdir, label=HARDENED):
  (said,) = _said(workdir, f'**{label} against {BASE}**')
  return said


def _counts(clean, pgd20):
  return clean, pgd20 + 10, pgd20, pgd20 + 2, pgd20 - 2


def _harden(workdir, clean, pgd20, **options):
  saved_run.write_hardened(workdir, counts=_counts(clean, pgd20), **options)


def test_a_hardened_student_is_compared_with_what_it_was(workdir):
  assert not _said(workdir, 'further')
  _harden(workdir, clean=503, pgd20=440)
  said = _about(workdir)
  assert 'under PGD-20 (ε = 0.1): 85.1 % against 43.7 %, +41.4 points' in said
  assert 'right on 214 images where the other is wrong, wrong on 0' in said
  assert f'{HARDENED} is right more often' in said
  assert 'Clean: 97.3 % against 98.5 %, -1.2 points, more than' in said
  assert f'The first is {BASE} after 20 further epochs on attacks' in said


@pytest.mark.parametrize(
  ('clean', 'pgd20', 'verdict'),
  [
    (503, 440, 'robustness was bought with clean accuracy'),
    (507, 440, 'that cost no clean accuracy beyond chance'),
    (517, 440, 'that cost no clean accuracy beyond chance'),
    (503, 228, 'it cost clean accuracy and is not shown to have helped'),
    (503, 120, 'it cost clean accuracy and is not shown to have helped'),
    (508, 228, None),
  ],
)
def test_what_was_gained_and_what_it_cost_follow_the_numbers(
  workdir, clean, pgd20, verdict
):
  _harden(workdir, clean=clean, pgd20=pgd20)
  said = _about(workdir)
  assert ('In this run,' in said) == (verdict is not None)
  assert verdict is None or f'In this run, {verdict}.' in said
  lost = pgd20 < 200
  assert (f'{BASE} is right more often' in said) == lost
  assert ('does not show a difference' in said) == (pgd20 == 228)


def test_autoattack_is_compared_where_both_faced_it(workdir):
  _harden(workdir, clean=507, pgd20=440)
  assert 'AutoAttack' not in _about(workdir)
  _harden(workdir, clean=507, pgd20=440, left=(63, 50, 49, 49, 49))
  before = saved_auto_attack.LEFT['rnas_cl'][-1]
  p_value = stats.binomtest(49 - before, 49 - before).pvalue
  assert (
    'Under AutoAttack, on the first 64 of 517 test images: 76.6 % against '
    f'35.9 %, +40.6 points (p = {p_value:.2g}).' in _about(workdir)
  )


def test_as_many_epochs_without_attacks_are_the_control(workdir):
  _harden(workdir, clean=507, pgd20=440)
  saved_run.write_hardened(
    workdir,
    'longer',
    _counts(508, 240),
    label='Longer',
    regime='standard',
  )
  p_value = stats.binomtest(200, 200).pvalue
  assert p_value < 1e-12
  assert (
    'Against Longer, under PGD-20: 85.1 % against 46.4 %, +38.7 points (p < '
    '1e-12).' in _about(workdir)
  )
  said = _about(workdir, 'Longer')
  assert '20 further epochs without attacks.' in said
  assert 'Against Longer' not in said
  # That of another student is none.
  saved_run.write_hardened(
    workdir, 'longer', label='Longer', base='ce', regime='standard'
  )
  assert 'Against Longer' not in _about(workdir)


def test_hardened_students_are_in_no_sentence_of_inheritance(workdir):
  before = _said(workdir, '**Control.**')
  assert len(before) == 1
  _harden(workdir, clean=507, pgd20=440)
  # As a control would be called.
  saved_run.write_hardened(workdir, 'control_rnas_cl_eq6', label='C')
  assert _said(workdir, '**Control.**') == before
  # With the names of others, if the config has no such students.
  for model in ('control_rnas_cl', 'ce', 'ce_kl'):
    for path in (workdir / 'evaluation').glob(f'{model}.*'):
      path.unlink()
    saved_run.write_hardened(workdir, model, label='C')
  assert not _said(workdir, '**Control.**')
  assert _said(workdir, '**C against RNAS-CL student**', 'The first is')
  assert not _said(workdir, '**RNAS-CL student against C**')


def test_without_its_student_nothing_is_compared(workdir):
  _harden(workdir, clean=507, pgd20=440)
  for path in (workdir / 'evaluation').glob('rnas_cl.*'):
    path.unlink()
  assert not _said(workdir, 'further epochs')


def test_the_tables_note_says_what_seconds_are(workdir):
  assert 'or of further training' not in report.table(workdir)
  _harden(workdir, clean=507, pgd20=440)
  assert 'time of training, or of further training on attacks.' in (
    report.table(workdir)
  )


def test_a_stage_that_overfitted_to_its_attack_is_said_to(workdir):
  assert 'Ended early' not in run_facts.section(results.load(workdir))
  saved_run.write_hardened(workdir, regime='fast')
  summary = {
    'seconds': 3.0,
    'epochs': 20,
    'selected_step': 160,
    'collapse': {'epoch': 10, 'best': 0.453, 'fell_to': 0.012},
  }
  for folder in ('teacher', 'adversarial/rnas_cl_eq6'):
    (workdir / folder / 'stage.json').write_text(json.dumps(summary))
  (workdir / 'search' / 'stage.json').write_text(json.dumps({'epochs': 20}))
  lines = run_facts.section(results.load(workdir)).splitlines()
  ended = [line for line in lines if 'Ended early' in line]
  assert len(ended) == 2
  assert ended[0] == (
    '- **Ended early**: Robust teacher, after epoch 10 of 20: its accuracy '
    'under PGD on the validation images fell from 45.3 to 1.2 %, as it had '
    'overfitted to the attack of its training. Its best checkpoint is used, of '
    'epoch 8.'
  )
  assert HARDENED in ended[1]


@pytest.mark.parametrize(
  ('regime', 'expected'),
  [
    ('trades', {'accuracy': 'accuracy', 'under': 'adversarial_accuracy'}),
    ('pgd', {'accuracy': 'clean_accuracy', 'under': 'accuracy'}),
  ],
)
def test_training_curves_show_which_images_an_accuracy_is_of(
  workdir, regime, expected
):
  """Where labels are learned on attacked images, `accuracy` is theirs."""
  saved_run.write_hardened(workdir, regime=regime)
  log = workdir / 'adversarial' / 'rnas_cl_eq6' / 'metrics.jsonl'
  lines = [json.loads(line) for line in log.read_text().splitlines()]
  log.write_text(
    '\n'.join(json.dumps(line | {'clean_accuracy': 0.9}) for line in lines)
  )
  figure = training.training_curves(results.load(workdir))
  panels = {a.get_ylabel(): a for a in figure.axes}  # The last column's.
  assert figure.axes[3].get_title() == 'Adversarial fine-tuning'
  train = [line for line in lines if line['split'] == 'train']
  for label, metric in (
    ('Accuracy (%)', expected['accuracy']),
    ('Accuracy under attack (%)', expected['under']),
  ):
    shown = panels[label].lines[0].get_ydata()
    values = [100 * line.get(metric, 0.9) for line in train]
    np.testing.assert_allclose(shown, values)

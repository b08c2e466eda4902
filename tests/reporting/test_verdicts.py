"""What the report says the numbers of a run show: its table and verdicts."""

import json

import numpy as np
import pytest
from scipy import stats

from rnascl_jax.reporting import report, results, statistics
from rnascl_jax.reporting.figures import training
from rnascl_jax.reporting.report import comparison, run_facts, verdicts
from tests import saved_auto_attack, saved_run

STUDENT, BASELINE, TUNED = 'RNAS-CL student', 'CE student', 'RNAS-CL + eq. (6)'
NOT_SHOWN = verdicts.NOT_SHOWN
PGD, FEW = 'PGD-20, ε = 0.1', 'ε = 0.1, the first 64 images'


def _replace(workdir, model, pgd20=None, per_image=True, **settings):
  """Writes a model again, with another count under PGD-20."""
  counts = list(saved_run.MODELS[model][-1])
  counts[2] = pgd20 or counts[2]
  order = list(saved_run.MODELS).index(model)
  saved = saved_run.evaluation(model, tuple(counts), order=order, **settings)
  saved_run.write_evaluation(workdir, saved, per_image=per_image)


def _remove(workdir, model):
  for path in (workdir / 'evaluation').glob(f'{model}.*'):
    path.unlink()


def _said(workdir, *words):
  """The sentences that hold all of these words."""
  every = verdicts.verdicts(results.load(workdir))
  return [said for said in every if all(word in said for word in words)]


def _rows(workdir, first, second):
  """What follows in the table's rows on two names, by attack."""
  rows = comparison.cells(results.load(workdir))
  return {row[2]: row[3:] for row in rows if row[:2] == [first, second]}


def _fine_tune(workdir, clean, pgd20, model='rnas_cl_eq6', **options):
  counts = clean, pgd20 + 10, pgd20, pgd20 + 2, pgd20 - 2
  saved_run.write_fine_tuned(workdir, model, counts, **options)


def _interval(first, second, images, *, paired=True):
  """Of a model that is right wherever the second one is."""
  correlation = 0.0
  if paired:
    correlation = statistics.phi(second, first - second, 0, images - first)
  low, high = statistics.newcombe(first, images, second, images, correlation)
  return f'{100 * low:+.1f} to {100 * high:+.1f}'


def test_a_distinct_gain_is_said_and_turns_round_with_the_numbers(workdir):
  gain = f'**{STUDENT} against {BASELINE}**: it withstands PGD-20'
  rows = _rows(workdir, STUDENT, BASELINE)
  assert list(rows) == ['Clean', PGD, f'AutoAttack, {FEW}', f'PGD-20, {FEW}']
  interval = _interval(226, 80, 517)
  p_value = '< 1e-12'
  assert rows[PGD] == (
    ['43.7', '15.5', '+28.2', interval, '146 : 0', p_value, 'first']
  )
  assert rows['Clean'][2:3] + rows['Clean'][4:] == (
    ['+0.0', '0 : 0', '1', 'no difference']
  )
  assert _said(workdir, f'{gain} better.')
  _replace(workdir, 'rnas_cl', 60)
  row = _rows(workdir, STUDENT, BASELINE)[PGD]
  assert row[2] == '-3.9' and row[4:] == ['0 : 20', '1.9e-06', 'second']
  assert _said(workdir, f'{gain} less well.')


def test_a_gain_that_may_be_chance_is_not_called_one(workdir):
  _replace(workdir, 'rnas_cl', 194)  # 3 more than CE + KL.
  row = _rows(workdir, STUDENT, 'CE + KL student')[PGD]
  assert row[4:] == ['3 : 0', f'{2 * 0.5**3:.2g}', 'no difference']
  assert _said(workdir, 'against CE + KL', 'does not show a difference')


def test_discordant_images_decide_when_they_are_saved(workdir):
  sides = STUDENT, 'CE + KL student'
  assert _rows(workdir, *sides)[PGD][4] == '35 : 0'
  path = workdir / 'evaluation' / 'rnas_cl.npz'
  with np.load(path) as saved:
    arrays = dict(saved)
  ours = np.random.default_rng(0).permutation(arrays['correct/pgd20'])
  np.savez(path, **arrays | {'correct/pgd20': ours})
  theirs = results.load(workdir).evaluation('ce_kl').under('pgd20').right
  only = np.sum(ours & ~theirs), np.sum(theirs & ~ours)
  p_value = stats.binomtest(only[0], sum(only)).pvalue
  assert only[0] - only[1] == 35 and p_value > 1e-3
  row = _rows(workdir, *sides)[PGD]
  assert row[4:6] == [f'{only[0]} : {only[1]}', f'{p_value:.2g}']


@pytest.mark.parametrize(
  'pgd20, shown', [(191, 'first'), (200, 'no difference')]
)
def test_without_results_per_image_the_wider_interval_decides(
  workdir, pgd20, shown
):
  # A file of results per image that is stale does not add up to the count.
  _replace(workdir, 'ce_kl', pgd20 + 1)
  _replace(workdir, 'ce_kl', pgd20, per_image=False)
  interval = _interval(226, pgd20, 517, paired=False)
  row = _rows(workdir, STUDENT, 'CE + KL student')[PGD]
  assert row[3:] == [interval, '—', '—', shown]


def test_attacks_with_other_settings_are_not_compared(workdir):
  _replace(workdir, 'ce', epsilon=0.05)
  assert not _said(workdir, f'against {BASELINE}')
  assert not {*_rows(workdir, STUDENT, BASELINE)} - {'Clean'}
  assert _said(workdir, 'against CE + KL student')


def test_students_of_other_architectures_are_no_baselines_or_controls(workdir):
  fixed = {'label': STUDENT, 'network': {'name': 'mobilenet_v2', 'depth': 0}}
  with saved_run.edited(workdir / 'config.json') as config:
    config['students'] = {'rnas_cl': fixed}
  assert not _said(workdir, 'withstands') and not _said(workdir, '**Control.**')
  with saved_run.edited(workdir / 'config.json') as config:
    names = 'ce', 'ce_kl', f'{comparison.CONTROL}rnas_cl'
    config['students'] |= {n: fixed | {'label': n} for n in names}
  assert _said(workdir, 'it withstands PGD-20')
  (said,) = _said(workdir, '**Control.**')
  assert 'the tutors. It stays' in said


def test_students_are_compared_under_autoattack_on_the_same_images(workdir):
  rows = _rows(workdir, STUDENT, BASELINE)
  interval = _interval(23, 8, 64)
  p_value = f'{stats.binomtest(15, 15).pvalue:.2g}'
  assert rows[f'AutoAttack, {FEW}'] == (
    ['35.9', '12.5', '+23.4', interval, '15 : 0', p_value, 'first']
  )
  assert rows[f'PGD-20, {FEW}'][:3] == ['43.8', '14.1', '+29.7']
  # A model attacked on more images is compared on those of the other.
  more = (509, 80, 70, 70, 70)
  saved_run.write_auto_attack(workdir, 'ce', more, images=517)
  run = results.load(workdir)
  ours, theirs = (
    run.evaluation(model).under('autoattack').right[:64]
    for model in ('rnas_cl', 'ce')
  )
  assert theirs.sum() != round(70 / 517 * 64)
  row = _rows(workdir, STUDENT, BASELINE)[f'AutoAttack, {FEW}']
  assert row[:2] == ['35.9', f'{100 * theirs.mean():.1f}']
  assert row[4] == f'{np.sum(ours & ~theirs)} : 0'
  saved_run.write_auto_attack(workdir, 'ce', more, images=517, per_image=False)
  assert list(_rows(workdir, STUDENT, BASELINE)) == ['Clean', PGD]


def test_without_pgd_students_are_compared_under_autoattack(workdir):
  for model in ('rnas_cl', 'ce'):
    with saved_run.edited(workdir / 'evaluation' / f'{model}.json') as saved:
      saved['attacks'] = [a for a in saved['attacks'] if a['label'] != 'PGD-20']
  rows = _rows(workdir, STUDENT, BASELINE)
  assert list(rows) == ['Clean', f'AutoAttack, {FEW}']


def test_what_pgd_overestimates_is_counted_on_the_same_images(workdir):
  sides, under = (
    (f'{STUDENT}, PGD-20', f'{STUDENT}, AutoAttack'),
    f'both, {FEW}',
  )
  row = _rows(workdir, *sides)[under]
  p_value = f'{stats.binomtest(5, 5).pvalue:.2g}'
  assert row[:3] == ['43.8', '35.9', f'+{500 / 64:.1f}']
  assert row[4:] == ['5 : 0', p_value, 'no difference']
  saved_run.write_auto_attack(workdir, 'rnas_cl', (63, 15, 15, 15, 15))
  assert _rows(workdir, *sides)[under][-1] == 'first'
  # Of counts alone, or of another ball, nothing is known.
  for settings in ({'epsilon': 0.2}, {'per_image': False}):
    left = saved_auto_attack.LEFT['rnas_cl']
    saved_run.write_auto_attack(workdir, 'rnas_cl', left, **settings)
    assert not _rows(workdir, *sides)


def test_inheritance_is_granted_only_beyond_the_control(workdir):
  (said,) = _said(workdir, '**Control.**')
  assert NOT_SHOWN not in said
  assert 'It stays 10.6 points behind' in said
  assert 'control gained over CE student, +17.6 points, came without' in said
  assert _rows(workdir, STUDENT, 'Control')[PGD][2] == '+10.6'
  assert _rows(workdir, 'Robust teacher', 'Vulnerable teacher')[PGD]
  _replace(workdir, 'control_rnas_cl', 79)
  (said,) = _said(workdir, '**Control.**', 'behind')
  assert 'the control gained' not in said


@pytest.mark.parametrize(
  ('model', 'pgd20', 'reason'),
  [
    ('control_rnas_cl', 240, 'The control reaches as much'),
    ('control_rnas_cl', 226, 'The control reaches as much'),
    # 39.5 % of 517 is 204.4: inside RNAS-CL's interval though paired p < 0.05.
    ('control_rnas_cl', 207, 'The control is within the 95 % interval'),
    ('rnas_cl', 81, 'RNAS-CL student is not shown to gain over CE student'),
    ('vulnerable_teacher', 464, "The control's teacher is not shown to be"),
    ('vulnerable_teacher', None, 'were not attacked in this run'),
  ],
)
def test_inheritance_is_denied_plainly(workdir, model, pgd20, reason):
  if pgd20 is None:
    _remove(workdir, model)
  else:
    _replace(workdir, model, pgd20)
  assert _said(workdir, '**Control.**', reason, f'**{NOT_SHOWN}**')


def test_without_a_control_nothing_is_inherited(workdir):
  _remove(workdir, 'control_rnas_cl')
  assert _said(workdir, 'No control student', NOT_SHOWN)
  assert not _rows(workdir, 'Robust teacher', 'Vulnerable teacher')


def test_students_on_the_floor_are_not_told_apart(workdir):
  assert not _said(workdir, 'too large to tell')
  for model in ('rnas_cl', 'ce', 'ce_kl', 'control_rnas_cl'):
    _replace(workdir, model, 10)
  floor = 'Every student trained from scratch is below 5 % under PGD-20'
  assert _said(workdir, floor)
  saved_run.write_fine_tuned(workdir)
  assert _said(workdir, floor)


def test_the_strongest_attack_is_found_on_the_same_images(workdir, monkeypatch):
  # The first images are easy: AutoAttack leaves 90.6 % of them, more than any
  # attack leaves of all images, though every other one leaves all of them.
  monkeypatch.setattr(saved_run, 'RANKS', np.arange(saved_run.IMAGES))
  saved_run.write_auto_attack(workdir, 'rnas_cl', (64, 60, 58, 58, 58))
  few, every = _said(workdir, f'{STUDENT} is robust on at most')
  assert '90.6 %' in few and 'of the first 64 of 517 test images' in few
  assert 'AutoAttack leaves no more' in few
  assert '42.7 %' in every and 'all 517 test images: CW-20 leaves no' in every
  # Without results per image nothing else is known of these images.
  saved_run.write_auto_attack(
    workdir, 'rnas_cl', (64, 1, 1, 1, 1), per_image=False
  )
  assert _said(workdir, f'{STUDENT} is robust on at most') == [every]


def test_one_seed_is_never_passed_off_as_more(workdir):
  assert _said(workdir, 'One training run per model (seed 0)')


def test_a_fine_tuned_student_is_compared_with_what_it_was(workdir):
  assert not _said(workdir, 'further')
  _fine_tune(workdir, clean=503, pgd20=440, left=(63, 50, 49, 49, 49))
  rows = _rows(workdir, TUNED, STUDENT)
  assert rows[PGD][:3] == ['85.1', '43.7', '+41.4']
  assert rows[PGD][4] == '214 : 0' and rows[PGD][-1] == 'first'
  assert rows['Clean'][:3] == ['97.3', '98.5', '-1.2']
  before = saved_auto_attack.LEFT['rnas_cl'][-1]
  p_value = stats.binomtest(49 - before, 49 - before).pvalue
  row = rows[f'AutoAttack, {FEW}']
  assert row[:3] == ['76.6', '35.9', '+40.6'] and row[5] == f'{p_value:.2g}'
  assert _said(workdir, f'**{TUNED}** is {STUDENT} after 20 further epochs on')


@pytest.mark.parametrize(
  ('clean', 'pgd20', 'verdict'),
  [
    (503, 440, 'robustness was bought with clean accuracy'),
    (507, 440, 'that gained robustness and cost no clean accuracy beyond'),
    (517, 440, 'that gained robustness and cost no clean accuracy beyond'),
    (503, 228, 'it cost clean accuracy and is not shown to have helped'),
    (503, 120, 'it cost clean accuracy and is not shown to have helped'),
    (508, 120, 'it cost robustness'),
    (508, 228, 'it is shown neither to help nor to cost clean accuracy'),
  ],
)
def test_what_was_gained_and_what_it_cost_follow_the_numbers(
  workdir, clean, pgd20, verdict
):
  _fine_tune(workdir, clean=clean, pgd20=pgd20)
  assert _said(workdir, f'**{TUNED}**', f'In this run, {verdict}')
  shown = {440: 'first', 228: 'no difference', 120: 'second'}[pgd20]
  assert _rows(workdir, TUNED, STUDENT)[PGD][-1] == shown


def test_as_many_epochs_without_attacks_are_the_control(workdir):
  _fine_tune(workdir, clean=507, pgd20=440)
  longer = {'label': 'Longer', 'method': 'standard'}
  _fine_tune(workdir, 508, 240, 'longer', **longer)
  row = _rows(workdir, TUNED, 'Longer')[PGD]
  assert row[:3] == ['85.1', '46.4', '+38.7'] and row[5] == '< 1e-12'
  assert _said(workdir, '**Longer**', '20 further epochs without attacks.')
  assert not _rows(workdir, 'Longer', TUNED)
  # That of another student is none.
  _fine_tune(workdir, 508, 240, 'longer', **longer, base='ce')
  assert not _rows(workdir, TUNED, 'Longer')


def test_fine_tuned_students_are_in_no_sentence_of_inheritance(workdir):
  before = _said(workdir, '**Control.**')
  assert len(before) == 1
  _fine_tune(workdir, clean=507, pgd20=440)
  # As a control would be called.
  saved_run.write_fine_tuned(workdir, 'control_rnas_cl_eq6', label='C')
  assert _said(workdir, '**Control.**') == before
  # With the names of others, if the config has no such students.
  for model in ('control_rnas_cl', 'ce', 'ce_kl'):
    _remove(workdir, model)
    saved_run.write_fine_tuned(workdir, model, label='C')
  assert not _said(workdir, '**Control.**')
  assert _said(workdir, f'**C** is {STUDENT} after')
  assert not _rows(workdir, STUDENT, 'C') and _rows(workdir, 'C', STUDENT)


def test_without_its_student_nothing_is_compared(workdir):
  _fine_tune(workdir, clean=507, pgd20=440)
  _remove(workdir, 'rnas_cl')
  assert not _said(workdir, 'further epochs')


def test_the_tables_note_says_what_seconds_are(workdir):
  assert 'or of fine-tuning' not in report.table(workdir)
  _fine_tune(workdir, clean=507, pgd20=440)
  assert 'time of training, or of fine-tuning.' in report.table(workdir)


def test_a_stage_that_overfitted_to_its_attack_is_said_to(workdir):
  assert 'Ended early' not in run_facts.section(results.load(workdir))
  saved_run.write_fine_tuned(workdir, method='fast')
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
  assert TUNED in ended[1]


@pytest.mark.parametrize(
  ('method', 'expected'),
  [
    ('trades', {'accuracy': 'accuracy', 'under': 'adversarial_accuracy'}),
    ('pgd', {'accuracy': 'clean_accuracy', 'under': 'accuracy'}),
  ],
)
def test_training_curves_show_which_images_an_accuracy_is_of(
  workdir, method, expected
):
  """Where labels are learned on attacked images, `accuracy` is theirs."""
  saved_run.write_fine_tuned(workdir, method=method)
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

import dataclasses
import json
import re

import numpy as np
import pytest
from scipy import stats

from rnascl_jax.reporting import figures, report, results, statistics, tables
from rnascl_jax.reporting.report import (
  comparison,
  findings,
  model_table,
  run_facts,
  teacher_layers,
)
from tests import saved_run

NOT_SHOWN = findings.NOT_SHOWN


@pytest.fixture
def workdir(tmp_path):
  return saved_run.write(tmp_path / 'run')


def _replace(workdir, model, counts, per_image=True, **settings):
  order = list(saved_run.MODELS).index(model)
  saved = saved_run.evaluation(model, counts, order=order, **settings)
  saved_run.write_evaluation(workdir, saved, per_image=per_image)


def _remove(workdir, model):
  for path in (workdir / 'evaluation').glob(f'{model}.*'):
    path.unlink()


def _pgd(model, pgd20):
  """The model's invented counts with another one under PGD-20."""
  clean, fgsm, _, mi_fgsm, cw20 = saved_run.MODELS[model][-1]
  return clean, fgsm, pgd20, mi_fgsm, cw20


def _said(workdir):
  return '\n'.join(findings.findings(results.load(workdir)))


def _said_of(workdir, baseline, attack):
  """What is said of RNAS-CL and a baseline under an attack."""
  start = f'**RNAS-CL student against {baseline}** under {attack} '
  return next(s for s in _said(workdir).splitlines() if s.startswith(start))


def test_a_label_cannot_end_its_cell_or_hide_in_a_tag():
  text = tables.markdown([['Model', 'Clean'], ['a|b\nc <d> γ < 1', '9']])
  assert text.splitlines()[2:] == [r'| a\|b c \<d> γ < 1 | 9 |']


def test_the_table_holds_the_numbers_of_the_json_files(workdir):
  lines = report.table(workdir).splitlines()
  assert lines[0] == (
    '| Model | Clean | FGSM | PGD-20 | MI-FGSM | CW-20 '
    '| AutoAttack (64 images) | Params | MACs | Seconds |'
  )
  rows = [
    [cell.strip() for cell in line.strip('|').split('|')] for line in lines[2:8]
  ]
  for row, model in zip(rows, saved_run.MODELS, strict=True):
    saved = json.loads((workdir / f'evaluation/{model}.json').read_text())
    assert row[0] == saved['label']
    shares = [f'{100 * a["accuracy"]:.1f}' for a in saved['attacks']]
    assert row[1:7] == [*shares, '—'][:6]
    assert row[7] == f'{saved["parameters"]:,}'
    assert row[9] == '12'
  assert rows[2][8] == '312,576' and rows[0][8] == '3.74M'


def test_rows_follow_their_order_and_gaps_are_dashes(workdir):
  path = workdir / 'evaluation' / 'ce.json'
  saved = json.loads(path.read_text())
  saved |= {'order': -1, 'parameters': None, 'seconds': None}
  saved['attacks'] = saved['attacks'][:1]
  path.write_text(json.dumps(saved))
  rows = model_table.cells(results.load(workdir))
  assert rows[1] == ['CE student', '98.5', *'—————', '—', '312,576', '—']
  assert [row[0] for row in rows[2:4]] == [
    'Robust teacher',
    'Vulnerable teacher',
  ]


def test_one_attack_at_two_radii_has_two_columns(workdir):
  path = workdir / 'evaluation' / 'ce.json'
  saved = json.loads(path.read_text())
  saved['attacks'].append(
    saved['attacks'][2] | {'epsilon': 0.05, 'correct': 300}
  )
  path.write_text(json.dumps(saved))
  rows = model_table.cells(results.load(workdir))
  assert rows[0][3:5] == ['PGD-20 0.05', 'PGD-20 0.1']
  row = next(row for row in rows if row[0] == 'CE student')
  assert row[3:5] == [f'{100 * 300 / 517:.1f}', f'{100 * 80 / 517:.1f}']


def test_the_note_states_the_interval_for_the_number_of_images(workdir):
  notes = [n for n in report.table(workdir).splitlines() if 'Wilson' in n]
  for note, images in zip(notes, (64, 517), strict=True):
    half = stats.binomtest(images // 2, images)
    low, high = half.proportion_ci(method='wilson')
    assert f'for {images} images' in note
    assert f'± {50 * (high - low):.1f} at 50 %' in note


def test_the_terminal_table_is_the_same_table_in_aligned_columns(workdir):
  lines = report.terminal_table(workdir).splitlines()
  cells = model_table.cells(results.load(workdir))
  cells[0][6] = '(64 images)'  # Below its name.
  assert [re.split(r'\s{2,}', lines[i]) for i in (1, *range(3, 9))] == cells
  assert lines[0].strip() == 'AutoAttack'
  assert lines[0].index('AutoAttack') > lines[1].index('CW-20')
  ends = {len(line) for line in lines[1:9]}
  assert len(ends) == 1 and max(map(len, lines)) <= max(*ends, 72)


@pytest.mark.parametrize(
  ('correct', 'images'), [(0, 10), (10, 10), (226, 517), (1, 10_000)]
)
def test_wilson_interval_equals_scipy(correct, images):
  expected = stats.binomtest(correct, images).proportion_ci(method='wilson')
  np.testing.assert_allclose(
    statistics.wilson(correct, images), expected, atol=1e-12
  )


@pytest.mark.parametrize(
  'pair', [(0, 0), (3, 3), (12, 3), (0, 40), (2000, 1900)]
)
def test_mcnemar_is_the_exact_sign_test(pair):
  expected = stats.binomtest(pair[0], sum(pair)).pvalue if sum(pair) else 1.0
  # lgamma of 4000 loses a few digits to cancellation.
  np.testing.assert_allclose(statistics.mcnemar(*pair), expected, rtol=1e-9)


def test_newcombe_interval_is_the_published_one():
  # Newcombe, Statistics in Medicine 1998, table II (a): 56/70 against 48/80.
  low, high = statistics.newcombe(56, 70, 48, 80)
  np.testing.assert_allclose([low, high], [0.0524, 0.3339], atol=5e-5)


def test_a_distinct_gain_is_said_and_turns_round_with_the_numbers(workdir):
  said = _said_of(workdir, 'CE student', 'PGD-20')
  assert '43.7 % against 15.5 %, +28.2 points' in said
  assert 'right on 146 images where the other is wrong' in said
  assert 'RNAS-CL student is right more often' in said
  _replace(workdir, 'rnas_cl', _pgd('rnas_cl', 60))
  said = _said_of(workdir, 'CE student', 'PGD-20')
  assert '-3.9 points' in said and 'p = 1.9e-06' in said
  assert 'RNAS-CL student is right more often' not in said
  assert 'CE student is right more often' in said


def test_a_gain_that_may_be_chance_is_not_called_one(workdir):
  _replace(workdir, 'rnas_cl', _pgd('rnas_cl', 194))  # 3 more than CE + KL.
  said = _said(workdir)
  line = next(s for s in said.splitlines() if 'against CE + KL student' in s)
  assert 'does not show a difference' in line
  assert f'p = {2 * 0.5**3:.2g}' in line


def test_discordant_images_decide_when_they_are_saved(workdir):
  rng = np.random.default_rng(0)
  run = results.load(workdir)
  first, second = run.evaluation('rnas_cl'), run.evaluation('ce_kl')
  nested = comparison.compare(first, second, 'pgd20')
  assert nested.only == (35, 0)
  shuffled = dict(first.correct, pgd20=rng.permutation(first.correct['pgd20']))
  first = dataclasses.replace(first, correct=shuffled)
  found = comparison.compare(first, second, 'pgd20')
  ours, theirs = shuffled['pgd20'], second.correct['pgd20']
  assert found.only == (np.sum(ours & ~theirs), np.sum(theirs & ~ours))
  assert found.only[0] - found.only[1] == 35
  assert found.p_value > nested.p_value


def test_without_outcomes_per_image_the_wider_interval_decides(tmp_path):
  workdir = saved_run.write(tmp_path / 'run', per_image=False)
  line = next(
    s for s in _said(workdir).splitlines() if 'against CE + KL student' in s
  )
  low, high = statistics.newcombe(226, 517, 191, 517)
  interval = f'{100 * low:+.1f} to {100 * high:+.1f} points'
  assert f'95 % interval of the difference {interval}' in line
  assert 'McNemar' not in line


def test_outcomes_that_do_not_add_up_to_the_count_are_not_paired(workdir):
  _replace(workdir, 'ce', _pgd('ce', 90), per_image=False)  # A stale .npz.
  line = _said_of(workdir, 'CE student', 'PGD-20')
  assert 'McNemar' not in line and '95 % interval of the difference' in line


def test_attacks_with_other_settings_are_not_compared(workdir):
  _replace(workdir, 'ce', None, epsilon=0.05)
  assert 'against CE student' not in _said(workdir)
  assert 'against CE + KL student' in _said(workdir)


def test_inheritance_is_granted_only_beyond_the_control(workdir):
  said = _said(workdir)
  assert NOT_SHOWN not in said
  assert 'The control stays 10.6 points behind' in said
  assert 'What the control gained came without one.' in said


@pytest.mark.parametrize(
  ('model', 'pgd20', 'reason'),
  [
    ('control_rnas_cl', 240, 'The control reaches as much'),
    ('control_rnas_cl', 226, 'The control reaches as much'),
    # 39.5 % of 517 is 204.4: inside RNAS-CL's interval though paired p < 0.05.
    ('control_rnas_cl', 207, 'The control is within the interval'),
    ('rnas_cl', 81, 'RNAS-CL student is not shown to gain over CE student'),
    ('vulnerable_teacher', 464, "The control's teacher is not shown to be"),
  ],
)
def test_inheritance_is_denied_plainly(workdir, model, pgd20, reason):
  _replace(workdir, model, _pgd(model, pgd20))
  control = next(s for s in _said(workdir).splitlines() if '**Control.**' in s)
  assert f'{reason}' in control and f'**{NOT_SHOWN}**' in control


def test_a_control_without_gain_is_not_said_to_have_gained(workdir):
  _replace(workdir, 'control_rnas_cl', _pgd('control_rnas_cl', 79))
  said = _said(workdir)
  assert 'behind' in said and 'What the control gained' not in said


def test_nothing_is_inherited_where_the_teachers_were_not_compared(workdir):
  _remove(workdir, 'vulnerable_teacher')
  control = next(s for s in _said(workdir).splitlines() if '**Control.**' in s)
  assert 'were not attacked in this run' in control
  assert f'**{NOT_SHOWN}**' in control


def test_without_a_control_nothing_is_inherited(workdir):
  _remove(workdir, 'control_rnas_cl')
  said = _said(workdir)
  assert 'No control student' in said and NOT_SHOWN in said


def test_a_stronger_attack_that_is_weaker_is_reported(workdir):
  assert 'no sign of gradient masking (they cannot rule it out)' in _said(
    workdir
  )
  _replace(workdir, 'ce_kl', (513, 180, 191, 175, 190))
  said = _said(workdir)
  assert (
    'CE + KL student: PGD-20 leaves 191 of 517 images right, FGSM 180' in said
  )
  assert 'possible sign of gradient masking' in said
  assert 'no sign of gradient masking' not in said


def test_the_end_of_a_curve_is_judged_by_how_near_it_is_to_zero(workdir):
  path = workdir / 'evaluation' / 'rnas_cl.json'
  saved = json.loads(path.read_text())
  assert 'every model falls to 5 % or less' in _said(workdir)
  saved['curves'][0]['points'] = saved['curves'][0]['points'][:3]
  path.write_text(json.dumps(saved))
  said = _said(workdir)
  assert 'every model falls' not in said
  assert 'RNAS-CL student 43.7 % at ε = 0.1' in said
  assert 'possible gradient masking' in said


def test_accuracy_that_rises_with_epsilon_is_reported(workdir):
  path = workdir / 'evaluation' / 'ce.json'
  saved = json.loads(path.read_text())
  saved['curves'][0]['points'][5]['accuracy'] = 0.5
  path.write_text(json.dumps(saved))
  said = _said(workdir)
  assert re.search(
    r'CE student: accuracy under PGD-20 rises by \d+\.\d points from ε = 0.2 '
    'to 0.25',
    said,
  )


def test_students_on_the_floor_are_not_told_apart(workdir):
  assert 'too large to tell' not in _said(workdir)
  for model in ('rnas_cl', 'ce', 'ce_kl', 'control_rnas_cl'):
    _replace(workdir, model, _pgd(model, 10))
  said = 'Every student trained from scratch is below 5 % under PGD-20'
  assert said in _said(workdir)
  saved_run.write_hardened(workdir)
  assert said in _said(workdir)


def test_one_seed_is_never_passed_off_as_more(workdir):
  assert 'One training run per model (seed 0)' in _said(workdir)


def test_report_holds_table_sentences_architecture_and_figures(workdir):
  path = report.write(workdir)
  text = path.read_text(encoding='utf-8')
  assert path == workdir / 'report.md'
  assert report.table(workdir) in text
  for sentence in findings.findings(results.load(workdir)):
    assert f'- {sentence}\n' in text
  assert teacher_layers.section(results.load(workdir)) in text
  links = re.findall(r'!\[.*\]\((.*)\)', text)
  assert links == [f'figures/{name}.png' for name in figures.FIGURES]
  assert all((workdir / link).is_file() for link in links)
  assert report.CAPTIONS.keys() == figures.FIGURES.keys()
  for fact in (
    '# RNAS-CL on digits',
    '1 × cpu',
    'jax 0.10.2',
    'teacher 31 s, search 1 min 15 s, train 1 h 02 min',
    '`python -m experiments.pipeline --config=configs/digits.py`',
    'commit `f00dfeed`',
  ):
    assert fact in text
  assert not list(workdir.glob('.*'))  # Nothing half written.


@pytest.mark.parametrize('per_block', [3, 1])
def test_the_architecture_table_gives_each_layer_its_tutor(workdir, per_block):
  saved = json.loads((workdir / 'architecture.json').read_text())
  if per_block == 1:  # Only the outputs of blocks are taught, no stem.
    saved['tutors'] = saved['tutors'][3::3]
  rows = model_table.architecture(saved)[1:]
  assert [row[0] for row in rows] == ['stem', '0', '1']
  assert rows[2][1:4] == ['2', '24', '32, 24, 4']
  said = '; '.join(row[4] for row in rows if row[4])
  assert said == '; '.join(
    f'{t["layer"].split("/")[-1]} ← {t["tutor_layer"]} ({t["tutor"]})'
    for t in saved['tutors']
  )
  assert rows[2][4].count('←') == per_block


def test_tutors_that_were_not_searched_are_not_shown(workdir):
  path = workdir / 'architecture.json'
  saved = json.loads(path.read_text()) | {'tutors_searched': False}
  path.write_text(json.dumps(saved))
  written = report.write(workdir).read_text()
  assert 'No tutors were searched' in written
  assert 'tutor_map' not in written and '←' not in written
  rows = model_table.architecture(results.load(workdir).architecture)[1:]
  assert [row[4] for row in rows] == ['', tables.NOTHING, tables.NOTHING]


def test_a_run_under_way_has_a_report_of_what_is_there(tmp_path, workdir):
  bare = tmp_path / 'bare'
  bare.mkdir()
  assert report.table(bare) == 'No model has been evaluated yet.'
  assert 'What the numbers say' not in report.write(bare).read_text()
  for model in list(saved_run.MODELS)[1:]:
    _remove(workdir, model)
  (workdir / 'architecture.json').unlink()
  (workdir / 'provenance.json').unlink()
  text = report.write(workdir).read_text(encoding='utf-8')
  assert '| Robust teacher | 99.0' in text and 'McNemar' not in text
  assert 'The architecture found' not in text and 'tutor_map' not in text


@pytest.mark.parametrize('imported', [False, True])
def test_a_teacher_that_was_not_trained_here_is_said_with_its_file(
  imported, workdir
):
  def said():
    return run_facts.section(results.load(workdir)).splitlines()

  assert not any('Not trained here' in line for line in said())
  saved = {'seconds': 0.0, 'checkpoint': 'teachers/wrn34'}
  if imported:
    saved['source'] = {
      'file': 'model_best.pth',
      'sha256': 'ab' * 32,
      'normalization': 'given',
    }
  folder = workdir / 'teacher'
  folder.mkdir(exist_ok=True)
  (folder / 'stage.json').write_text(json.dumps(saved))
  (line,) = (line for line in said() if 'Not trained here' in line)
  assert 'from `teachers/wrn34`' in line
  assert (f'`model_best.pth` (SHA-256 `{"ab" * 32}`' in line) == imported

import json
import re

import numpy as np
import pytest
from scipy import stats

from rnascl_jax.reporting import figures, report, results, tables
from rnascl_jax.reporting.report import (
  comparison,
  model_table,
  run_facts,
  teacher_layers,
  verdicts,
)
from tests import saved_run


def _remove(workdir, model):
  for path in (workdir / 'evaluation').glob(f'{model}.*'):
    path.unlink()


def test_epsilons_are_written_as_people_write_them():
  assert tables.epsilon_text(8 / 255, 'cifar10') == '8/255'
  assert tables.epsilon_text(0.031, 'cifar10') == '0.031'
  assert tables.epsilon_text(0.2, 'digits') == '0.2'  # 51/255 to no one.
  assert tables.epsilon_text(float(np.float32(0.1)), 'digits') == '0.1'


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
  with saved_run.edited(workdir / 'evaluation' / 'ce.json') as saved:
    saved |= {'order': -1, 'parameters': None, 'seconds': None}
    saved['attacks'] = saved['attacks'][:1]
  rows = model_table.cells(results.load(workdir))
  assert rows[1] == ['CE student', '98.5', *'—————', '—', '312,576', '—']
  assert [row[0] for row in rows[2:4]] == [
    'Robust teacher',
    'Vulnerable teacher',
  ]


def test_one_attack_at_two_radii_has_two_columns(workdir):
  with saved_run.edited(workdir / 'evaluation' / 'ce.json') as saved:
    saved['attacks'].append(
      saved['attacks'][2] | {'epsilon': 0.05, 'correct': 300}
    )
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


@pytest.mark.usefixtures('empty_figures')
def test_report_holds_table_sentences_architecture_and_figures(workdir):
  path = report.write(workdir)
  text = path.read_text(encoding='utf-8')
  assert path == workdir / 'report.md'
  assert report.table(workdir) in text
  run = results.load(workdir)
  assert tables.markdown(comparison.cells(run), left=3) in text
  for sentence in verdicts.verdicts(run):
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


def test_choices_beside_widths_are_shown_with_the_architecture(workdir):
  saved = json.loads((workdir / 'architecture.json').read_text())
  saved['blocks'][-1] |= {
    'kernel_choices': [3, 5],
    'kernel_size': 5,
    'expansion_choices': [3, 6],
    'expansion': 3,
  }
  assert model_table.architecture(saved)[-1][2] == '24 5x5 x3'
  assert 'skipped' not in model_table.about_architecture(saved)
  saved['skipped'] = [{'index': 1}, {'index': 3}]
  about = model_table.about_architecture(saved)
  assert 'Blocks that the search skipped: 1, 3.' in about


@pytest.mark.usefixtures('empty_figures')
def test_tutors_that_were_not_searched_are_not_shown(workdir):
  path = workdir / 'architecture.json'
  saved = json.loads(path.read_text()) | {'tutors_searched': False}
  path.write_text(json.dumps(saved))
  written = report.write(workdir).read_text()
  assert 'No tutors were searched' in written
  assert 'tutor_map' not in written and '←' not in written
  rows = model_table.architecture(results.load(workdir).architecture)[1:]
  assert [row[4] for row in rows] == ['', tables.NOTHING, tables.NOTHING]


@pytest.mark.usefixtures('empty_figures')
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
  assert '| Robust teacher | 99.0' in text and '| First |' not in text
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

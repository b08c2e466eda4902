"""The paper's tables beside the means of a sweep."""

import configparser
import json
import pathlib
import re
import statistics
import subprocess
import sys

import pytest

from rnascl_jax.reporting import paper
from rnascl_jax.reporting.paper import comparison, definition, sweep_runs
from rnascl_jax.runtime import files
from tests import saved_sweep

# Typed from the paper, row by row, independently of the library's tables.
PRINTED = {
  '1': """
    97.03 42.48 7.09 0.28 3.3 500*
    97.05 49.18 9.84 1.21 3.6 600*
    97.44 50.53 1.93 4.68 3.6 500*
    97.39 44.79 0.25 0.80 3.2 500*
    97.37 47.53 0.42 1.01 3.8 600*
    76.13 — 38.21 — 3.4 300
    93.97 — 6.76 — 0.44 —
    89.4 44.95 34.3 38.92 0.11 6.64
    90.4 46.72 35.59 40.57 0.21 11.02
    90.62 48.93 37.24 42.27 0.32 15.58
    92.46 50.51 39.84 44.54 3 326
    92.6 52.37 41.9 46.66 11 1210
    69 — 41.6 — 0.11 37.63
    71.8 — 44.4 — 0.21 75.43
    73.9 — 45.3 — 0.25 85.92
    58.7 — 36.1 — 0.11 37.63
    68.8 — 41.5 — 0.21 75.43
    69.1 — 42.2 — 0.25 85.92
    78.05 53.93 48.32 48.98 4.41 —
    78.33 54.55 49.13 49.34 5.66 —
    78.57 54.98 49.44 49.92 6.89 —
    83.41 56.40 39.47 47.60 3.2 500*
    83.66 55.67 48.02 53.05 3.8 600*
    83.75 55.75 44.91 51.63 3.3 500*
    83.94 52.67 41.92 49.09 3.6 600*
    83.89 57.44 49.34 54.73 3.6 500*
    79.63 57.35 43.93 — 5.83 —
    87.22 67.12 52.52 — 6 —
    87.2 66.74 52.36 — 2.53 —
    84.70 — 46.28 — 3.4 300
    84.5 59.6 52.7 — 3.16 —
    85.7 60.6 53.6 — 6.46 —
    76.54 — 31.83 — 1.68 —
    87.30 60.87 53.07 — 4.2 659
    83.11 50.67 43.41 43.98 0.11 6.64
    84.81 51.99 45.34 46.3 0.21 11.02
    85.06 49.11 43.88 45.53 0.32 15.58
    87.29 59.71 51.76 53.43 3 326
    87.17 60.98 53.14 54.64 5.6 604
    86.28 61.12 53.69 55.07 11 1210
  """,
  '2': """
    46.49 38.44
    53.07 47.75
    47.07 37.17
    48.33 39.28
    47.91 38.36
    53.52 46.89
    52.63 48.49
  """,
  '3': """
    56.63 31.14 25.5 4*
    61.26 37.17 12.76 –
    61.7 32.5 8.5 0.35
    61.5 33.5 8.5 0.35
  """,
  '4': """
    83.45 43.07
    82.03 43.53
    83.11 43.41
    84.75 44.68
    – –
    84.81 45.34
    85.81 43.24
    82.35 44.07
    85.06 43.88
  """,
  '5': """
    59.96 29.79 1.1 1200
    59.02 27.67 1.1 1200
    85.22 3.36 3.94 241.98
    85.98 8.3 3.96 244.76
    85.46 5.08 4.01 255.37
    78.94 28.06 3.94 241.98
    79.95 32.44 3.96 244.76
    79.42 29.02 4.01 255.37
  """,
  '6': """
    78.05 48.32 4.4 1260 130
    83.89 49.34 3.3 500 44
    84.5 52.7 3.16 1018 48.7
    84.7 46.28 3.4 300 41.1
    87.22 52.52 6 900 16.6
    87.30 53.07 4.2 659 71.74
    87.17 53.14 5.6 604 22.5
    86.28 53.69 11 1210 28.7
  """,
  '7': """
    90.98 19.3
    90.76 36.3
    90.33 35.54
    90.62 37.24
    80.85 39.67
    85.07 41.63
    82.45 41.03
    85.06 43.88
  """,
  '8': """
    89.4 34.3
    90.21 33.05
    90.4 35.59
    90.77 35.39
    90.64 37.24
    90.97 36.22
  """,
  '9': """
    89.4 34.3
    89.92 34.61
    89.79 36.25
    90.4 35.59
    90.65 35.61
    90.25 36.97
    90.64 37.24
    91.13 36.63
    91.17 37.58
  """,
  '10': """
    89.92 17.69
    90.76 18.44
    90.98 19.3
    89.4 34.3
    90.4 35.59
    90.62 37.24
    89.39 35.76
    90.53 37.32
    90.41 37.98
    88.47 26.35
    88.77 25.49
    89.47 27.96
  """,
  '11': """
    93.67 18.5
    90.33 17.68
    91.51 19.11
    92.39 20.2
    86.07 58.33
    89.4 34.3
    90.4 35.59
    90.62 37.24
  """,
  '12': """
    81.24 51.42
    88.1 33.39
    87.7 35.42
    87.0 34.3
    79.5 49.3
    87.0 30.8
    87.6 31.5
    88.2 32.1
  """,
  '15': """
    86.07 58.33
    84.59 55.54
    87.03 49.25
  """,
}
SHARES = (500, 510, 490)
CE = ('digits_ce', 'ce')
KL = ('digits_small_ce_kl', 'ce_kl')


def counts(clean: int, robust: int) -> tuple[int, ...]:
  return (clean, robust + 90, robust, robust + 20, robust - 10)


@pytest.fixture
def root(tmp_path) -> pathlib.Path:
  """Table 7 on digits: CE of three seeds, CE + KL of two, the rest missing."""
  for seed, clean in enumerate(SHARES):
    models = {'ce': counts(clean, 100 + seed), 'ce_eq6': counts(400, 300)}
    saved_sweep.write_row(tmp_path, seed, CE[0], models)
  for seed in (0, 2):
    models = {'ce_kl': counts(480, 150)}
    saved_sweep.write_row(tmp_path, seed, KL[0], models)
  return tmp_path


def rows_of(text: str, title: str) -> list[list[str]]:
  """Cells of the first Markdown table below a heading."""
  section = text.split(f'## {title}', 1)[1]
  table = re.search(r'(?:^\|.*\n)+', section, re.MULTILINE)
  return [
    [cell.strip() for cell in line.strip('|').split(' | ')]
    for line in table[0].splitlines()
  ]


def written(root: pathlib.Path) -> str:
  return (root / 'tables' / 'tables.md').read_text()


@pytest.mark.parametrize('key', PRINTED)
def test_every_number_that_the_paper_prints_is_there_in_its_place(key):
  table = paper.TABLES['cifar10'][key]

  assert [' '.join(line.printed) for line in table.lines] == [
    row.strip() for row in PRINTED[key].strip().splitlines()
  ]


SAVED = {
  'key': '4',
  'title': 'A table',
  'headings': ['Method', 'Objective'],
  'columns': [['clean', 'Clean'], ['parameters', 'Params', False]],
  'rows': [
    {'labels': ['A', 'CE'], 'printed': '90.1', 'ours': 'a_ce/ce'},
    {'labels': ['A', 'KL'], 'printed': '90.2*', 'ours': 'a_kl/kl'},
    {'labels': ['B', 'KL'], 'printed': '—'},
  ],
  'pairs': {'a_kl/kl': ['a_ce/ce']},
}


def test_a_table_is_read_from_its_fields():
  table = definition.read([SAVED], {})['4']

  assert table.pairs == ((table.lines[1], table.lines[0]),)
  assert table.lines[1].printed == ('90.2*',)
  assert list(table.sources.values()) == list(table.lines[:2])


@pytest.mark.parametrize(
  ('row', 'fields', 'message'),
  [
    ({}, {'radius': 8}, 'radius'),
    ({}, {'rows': []}, 'a_kl'),
    ({}, {'pairs': {'a_kl/kl': ['a_kl/kl']}}, 'differ in the last label'),
    ({'labels': ['B', 'CE']}, {}, 'differ in the last label'),
    ({'labels': ['CE']}, {}, '2 labels, 1 numbers'),
    ({'printed': '90.1 1.2'}, {}, '2 labels, 1 numbers'),
    ({'printed': ''}, {}, '2 labels, 1 numbers'),
    ({'printed': '9O.1'}, {}, "'9O.1'.* is no number"),
    ({'ours': 'a_kl/kl'}, {}, 'one source'),
    ({'printed_of': 'a_ce/ce'}, {}, 'numbers of its own'),
    ({'print': '90.1'}, {}, 'print'),
  ],
  ids=str,
)
def test_a_table_that_is_wrong_is_refused_by_name(row, fields, message):
  rows = [SAVED['rows'][0] | row, *SAVED['rows'][1:]]

  with pytest.raises(ValueError, match=f"(?s)'A table' is no table.*{message}"):
    definition.read([SAVED | {'rows': rows} | fields], {})


def test_an_installed_package_has_the_numbers():
  setup = configparser.ConfigParser()
  setup.read(pathlib.Path(__file__).parents[2] / 'setup.cfg')

  assert setup['options.package_data'][paper.__name__] == '*.json'


def test_two_tables_of_one_key_are_refused():
  with pytest.raises(ValueError, match='key is that of another'):
    definition.read([SAVED, SAVED], {})


def test_ours_are_mean_and_deviation_over_seeds_beside_the_papers(root):
  text = paper.write(root, data='digits', tables=['7'])
  rows = rows_of(written(root), 'Table 7: terms of the objective on digits')

  shares = [100 * count / 517 for count in SHARES]
  ours = f'{statistics.mean(shares):.1f} ± {statistics.stdev(shares):.1f}'
  assert rows[0][2:4] == ['Clean (ours)', 'Clean (paper, CIFAR-10)']
  assert rows[2][1:4] == ['CE', ours, '90.98']
  assert rows[2][-1] == '3'
  assert ours in text and '(paper, CIFAR-10)' in text


def test_missing_rows_and_seeds_are_shown_as_missing(root):
  paper.write(root, data='digits', tables=['7'])
  rows = rows_of(written(root), 'Table 7')

  kl = next(row for row in rows if row[1] == 'CE + KL')
  icc = next(row for row in rows if row[1] == 'CE + ICC')
  assert kl[-1] == '2 of 3'
  assert icc[2:] == ['—', '90.33', '—', '35.54', '—', 'not run']
  assert 'CE + KL (seed 1)' in written(root)


def test_a_damaged_row_is_left_out_and_named_and_ends_no_table(root, caplog):
  path = root / 'seed0' / CE[0] / 'evaluation' / 'ce.json'
  path.write_text('[]')
  (root / 'seed1' / CE[0] / 'sweep.json').write_text('')
  paper.write(root, data='digits', tables=['7'])
  rows = rows_of(written(root), 'Table 7')
  ce = next(row for row in rows if row[1] == 'CE')
  assert ce[-1] == '2 of 3'
  assert f'{path} is damaged' in caplog.text
  assert f'{root}/seed1/{CE[0]}/sweep.json is damaged' in caplog.text


def test_a_single_seed_has_no_deviation(tmp_path):
  saved_sweep.write_row(tmp_path, 4, CE[0], {'ce': counts(500, 100)})
  paper.write(tmp_path, data='digits', tables=['7'])

  row = rows_of(written(tmp_path), 'Table 7')[2]
  assert row[2] == f'{100 * 500 / 517:.1f}' and row[-1] == '1'
  assert 'of one seed (4)' in written(tmp_path)


def test_on_digits_the_papers_numbers_are_those_of_one_space():
  tables = paper.TABLES['digits']
  for key, space in (('7', 'S7'), ('8', 'S3'), ('9', 'S3')):
    assert f'space {space} ' in tables[key].warning
  printed = {line.labels[-1]: line.printed for line in tables['9'].lines}
  assert printed['RKD'] == ('89.79', '36.25')
  printed = {line.labels[-1]: line.printed for line in tables['8'].lines}
  assert printed['Layer-wise KL-Div'] == ('90.21', '33.05')


def test_commands_begin_with_those_of_the_teacher_that_rows_take(root):
  taught = '--config.teacher.checkpoint=ROOT/seed0/teacher_small/teacher'
  saved_sweep.write_row(root, 0, 'teacher_small', {'teacher': counts(500, 400)})
  for name, words in (
    (KL[0], ['python', '-m', 'experiments.pipeline', taught]),
    ('teacher_small', ['python', '-m', 'experiments.teacher']),
  ):
    marker = root / 'seed0' / name / 'sweep.json'
    marker.write_text(json.dumps({'commands': [words], 'seconds': 1.0}))
  paper.write(root, data='digits', tables=['7'])
  text = written(root)
  assert text.index('experiments.teacher\n') < text.index(
    'teacher_small/teacher'
  )


def test_teachers_of_other_files_are_not_averaged(root):
  """A teacher from elsewhere in one seed, and one of the sweep in others."""

  def taking(seed: int, checkpoint: str) -> None:
    path = root / f'seed{seed}' / KL[0] / 'config.json'
    saved = json.loads(path.read_text())
    path.write_text(json.dumps(saved | {'teacher': {'checkpoint': checkpoint}}))

  for seed in (0, 2):
    taking(seed, f'/{seed}/seed{seed}/teacher_small/teacher')
  paper.write(root, data='digits', tables=['7'])
  taking(2, 'teachers/wrn34')
  with pytest.raises(ValueError, match=r'teacher\.checkpoint is'):
    paper.write(root, data='digits', tables=['7'])


def test_seeds_can_be_chosen_and_others_do_not_count(root):
  paper.write(root, data='digits', seeds=[0, 2], tables=['7'])
  rows = rows_of(written(root), 'Table 7')
  assert next(row for row in rows if row[1] == 'CE')[-1] == '2'
  with pytest.raises(ValueError, match=r'--seeds names 7.*0, 1, 2'):
    paper.write(root, seeds=[0, 7])


def test_sizes_on_digits_are_in_thousands(root):
  """Rows that were searched by themselves have sizes of their own."""
  paper.write(root, data='digits', tables=['7'])
  heads, _, *rows = rows_of(written(root), 'Table 7')
  place = heads.index('Params (k) (ours)')
  run = next((root / 'seed0').glob('*_ce_kl/evaluation/ce_kl.json'))
  size = json.loads(run.read_text())['parameters'] / 1000
  row = next(row for row in rows if row[1] == 'CE + KL')
  assert float(row[place].split(' ')[0]) == pytest.approx(size, rel=0.01)


def test_many_test_images_are_worth_a_second_decimal(tmp_path):
  saved_sweep.write_row(
    tmp_path, 0, 's7_ce', {'ce': counts(9098, 1930)}, images=10_000
  )
  paper.write(tmp_path, data='cifar10', tables=['7'])

  assert rows_of(written(tmp_path), 'Table 7')[2][2] == '90.98'


def test_differences_are_taken_seed_by_seed(root):
  paper.write(root, data='digits', tables=['7'])
  section = written(root).split('First minus second')[1]
  line = next(x for x in section.splitlines() if '(CE + KL) − CE |' in x)

  clean = [100 * (480 - SHARES[seed]) / 517 for seed in (0, 2)]
  robust = [100 * (150 - 100 - seed) / 517 for seed in (0, 2)]
  for points, positive, printed in (
    (clean, '0 of 2', '-0.22'),
    (robust, '2 of 2', '+17.0'),
  ):
    text = f'{statistics.mean(points):+.1f} ± {statistics.stdev(points):.1f}'
    assert f'{text} | {positive} | {printed}' in line
  # Of these, no seed has both.
  assert '(CE + ICC) − CE' not in section


def test_a_pair_without_common_seeds_has_no_difference(tmp_path):
  saved_sweep.write_row(tmp_path, 0, CE[0], {'ce': counts(500, 100)})
  saved_sweep.write_row(tmp_path, 1, KL[0], {'ce_kl': counts(500, 100)})
  table = paper.TABLES['digits']['7']
  filled = comparison.fill(table, sweep_runs.load(tmp_path))

  assert not comparison.difference_cells(filled)


def test_digits_say_above_the_table_that_they_do_not_compare(root):
  text = paper.write(root, data='digits', tables=['7', '8'])

  for page in (text, written(root)):
    assert 'do not compare in size' in ' '.join(page.split())
    assert 'space S7' in ' '.join(page.split())
  assert 'has ε = 8/255' in ' '.join(text.split())


def change(path: pathlib.Path, **fields) -> None:
  saved = json.loads(path.read_text())
  saved['attacks'][2] |= fields
  path.write_text(json.dumps(saved))


@pytest.mark.parametrize(
  'fields',
  [{'epsilon': 0.2}, {'steps': 10}, {'images': 500}, {'step_size': 0.01}],
  ids=str,
)
def test_seeds_that_were_attacked_otherwise_are_refused(root, fields):
  change(root / 'seed1' / CE[0] / 'evaluation' / 'ce.json', **fields)

  with pytest.raises(ValueError, match=r'ce of .*seed1.*attacked otherwise'):
    paper.write(root)
  assert not (root / 'tables').exists()


def test_seeds_that_were_trained_otherwise_are_refused(root):
  path = root / 'seed2' / CE[0] / 'config.json'
  config = files.read_json(path)
  config['search']['optimization']['epochs'] = 1
  files.write_json(path, config)

  with pytest.raises(
    ValueError, match=r'search.optimization.epochs is 10 ther'
  ):
    paper.write(root)


def test_autoattack_of_other_members_is_refused(tmp_path):
  for seed in (0, 1):
    folder = saved_sweep.write_row(
      tmp_path,
      seed,
      's3_wrn34',
      ['rnas_cl_eq6'],
      auto_attack=(63, 26, 24, 23, 23),
    )
  path = folder / 'evaluation' / 'rnas_cl_eq6.json'
  saved = json.loads(path.read_text())
  saved['attacks'][-1]['members'][3]['num_steps'] = 100
  path.write_text(json.dumps(saved))

  with pytest.raises(ValueError, match='Square with 1 trials of 100 steps'):
    paper.write(tmp_path, tables=['2'])


def test_rows_that_were_attacked_otherwise_are_said_not_to_compare(root):
  for seed in (0, 2):
    path = root / f'seed{seed}' / KL[0] / 'evaluation' / 'ce_kl.json'
    change(path, steps=40)
  paper.write(root, data='digits', tables=['7'])

  assert 'PGD-20 does not compare across rows' in written(root)
  assert 'Clean does not compare' not in written(root)


def test_fewer_images_than_others_or_than_there_are_is_noted(tmp_path):
  saved_sweep.write_row(
    tmp_path,
    0,
    's3_wrn34',
    ['rnas_cl_eq6'],
    images=1000,
    dataset='cifar10',
    auto_attack=(63, 26, 24, 23, 23),
  )
  text = ' '.join(paper.write(tmp_path, tables=['2']).split())

  assert 'AutoAttack is on the first 64 of 1,000 test images' in text
  assert 'Evaluated on the first 1,000 of 10,000 test images.' in text
  assert 'The paper has ε = 8/255.' in text


def test_hours_add_up_the_stages_that_made_a_student(tmp_path):
  for seed in (0, 1):
    saved_sweep.write_row(tmp_path, seed, 'l_wrn34', ['rnas_cl', 'rnas_cl_eq6'])
  paper.write(tmp_path, tables=['6'])
  rows = rows_of(written(tmp_path), 'Table 6')
  place = rows[0].index('Training Time (h) (ours)')

  # Search, training, eq. (6); each on two devices.
  hours = [2 * (3600 + 1800 + 360 * seed + 900) / 3600 for seed in (0, 1)]
  ours = f'{statistics.mean(hours):.2f} ± {statistics.stdev(hours):.2f}'
  assert rows[-1][place : place + 3] == [ours, '28.7', 'NVIDIA H100']
  assert 'Tesla V100' in written(tmp_path)


def test_hours_are_not_given_where_a_stage_is_unknown(tmp_path):
  folder = saved_sweep.write_row(
    tmp_path, 0, 'l_wrn34', ['rnas_cl', 'rnas_cl_eq6']
  )
  path = folder / 'provenance.json'
  saved = files.read_json(path)
  del saved['seconds']['search']
  files.write_json(path, saved)
  paper.write(tmp_path, tables=['6'])
  rows = rows_of(written(tmp_path), 'Table 6')

  assert rows[-1][rows[0].index('Training Time (h) (ours)')] == '—'


def test_sizes_are_in_the_unit_of_their_column(tmp_path):
  saved_sweep.write_row(
    tmp_path, 0, 's3_wrn34', ['rnas_cl'], parameters=104_210
  )
  paper.write(tmp_path, tables=['1'])
  row = next(
    row
    for row in rows_of(written(tmp_path), 'Table 1')
    if row[1] == 'RNAS-CL-S3-WRT-34'
  )

  assert row[-5:-1] == ['0.104', '0.11', '5.00', '6.64']


def test_below_a_table_stands_where_its_numbers_come_from(root):
  paper.write(root, data='digits', tables=['7'])

  assert 'Data set: digits. Test images: 517.' in written(root)
  assert f'Commit: {saved_sweep.COMMIT}.' in written(root)
  assert 'Devices: 2 × NVIDIA H100.' in written(root)
  assert 'PGD-20 ε = 0.1, 20 steps of 0.025' in written(root)
  command = 'python -m experiments.pipeline --config.seed=N '
  assert written(root).count(f'{command}--workdir=ROOT/seedN/digits_ce\n') == 1


def test_without_the_mark_of_a_sweep_the_runs_say_their_command(tmp_path):
  saved_sweep.write_row(
    tmp_path, 0, CE[0], {'ce': counts(500, 100)}, marker=False
  )
  paper.write(tmp_path, data='digits', tables=['7'])

  assert 'python -m experiments.pipeline --config=digits_ce\n' in written(
    tmp_path
  )


def test_all_tables_of_which_a_row_is_there_are_made_and_no_others(root):
  text = paper.write(root)

  titles = re.findall(r'^## (Table \d+|Figures)', written(root), re.MULTILINE)
  # Table 10 shares the row of CE.
  assert titles == ['Table 7', 'Table 10', 'Figures']
  # Nothing is said of the paper's own data, of which there is nothing.
  assert 'Table 1;' not in text
  missing = ' '.join(text.split('No row was run of: ')[1].split())
  assert missing.startswith('Table 4 on digits; Table 8 on digits; Table 9 on')


def test_a_table_that_was_asked_for_and_not_run_says_so_in_a_line(root):
  text = paper.write(root, tables=['3'])

  assert 'Table 3: ImageNet: no row of it was run.' in text.splitlines()
  assert 'Table 3: ImageNet: no row of it was run.\n' in written(root)


def test_the_page_is_well_formed(root):
  paper.write(root)

  assert re.search(r'^\|', written(root), re.MULTILINE)
  for table in re.findall(r'(?:^\|.*\n)+', written(root), re.MULTILINE):
    widths = {len(line.split(' | ')) for line in table.splitlines()}
    assert len(widths) == 1
    assert re.fullmatch(r'\|(?: :?-+:? \|)+', table.splitlines()[1])
  assert written(root).count('```') % 2 == 0
  pictures = re.findall(r'!\[.*\]\((.*)\)', written(root))
  assert pictures and all(
    (root / 'tables' / name).is_file() for name in pictures
  )
  assert {path.name for path in (root / 'tables').iterdir()} == {
    'tables.md',
    *pictures,
  }


def test_an_unknown_table_or_folder_is_the_users_to_mend(root, tmp_path):
  with pytest.raises(ValueError, match="'13' is no table or figure"):
    paper.write(root, tables=['13'])
  with pytest.raises(ValueError, match="'2' is no table or figure of digits"):
    paper.write(root, data='digits', figures=['2'])
  with pytest.raises(ValueError, match='leave it out'):
    paper.write(root, data='mnist')
  (tmp_path / 'empty').mkdir()
  with pytest.raises(ValueError, match='no folder seed<N>'):
    paper.write(tmp_path / 'empty')


def test_the_command_prints_tables_and_needs_no_jax(root):
  code = (
    'import runpy, sys; sys.argv[1:] = sys.argv[1:]\n'
    'try:\n'
    '  runpy.run_module("experiments.tables", run_name="__main__")\n'
    'finally:\n'
    '  heavy = {"jax", "flax", "tensorflow", "matplotlib.pyplot"}\n'
    '  print(heavy & sys.modules.keys())\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, f'--workdir={root}', '--table=7'],
    cwd=pathlib.Path(__file__).parents[2],
    capture_output=True,
    text=True,
  )

  assert done.returncode == 0, done.stderr
  assert 'Table 7: terms of the objective on digits' in done.stdout
  assert done.stdout.splitlines()[-1] == 'set()'


def test_the_command_shows_a_message_and_no_traceback(tmp_path):
  done = subprocess.run(
    [sys.executable, '-m', 'experiments.tables', f'--workdir={tmp_path}'],
    cwd=pathlib.Path(__file__).parents[2],
    capture_output=True,
    text=True,
  )

  assert done.returncode == 1
  assert 'has no folder seed<N>' in done.stderr
  assert 'Traceback' not in done.stderr


def test_seeds_that_are_far_apart_are_each_shown(tmp_path):
  for seed, clean in enumerate((100, 500)):
    models = {'ce': counts(clean, 100), 'ce_eq6': counts(500, 100)}
    saved_sweep.write_row(tmp_path, seed, CE[0], models)
  paper.write(tmp_path, data='digits', tables=['7'])

  assert written(tmp_path).count('Seeds that are far apart') == 1
  assert (
    'apart: Without adversarial training: CE, Clean: 19.3 (seed 0), 96.7 '
    '(seed 1).'
  ) in written(tmp_path)


def test_a_row_that_one_seed_has_not_finished_has_the_commands_of_others(root):
  (root / 'seed1' / CE[0] / 'sweep.json').unlink()
  paper.write(root, data='digits', tables=['7'])

  assert '--config=digits_ce' not in written(root)
  assert written(root).count('ROOT/seedN/digits_ce\n') == 1

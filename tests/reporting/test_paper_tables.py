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
from tests import saved_run, saved_sweep

# Typed from the paper, row by row, independently of the library's tables.
PRINTED = {
  name.removeprefix('Table '): rows
  for name, *rows in map(
    str.splitlines,
    pathlib.Path(__file__)
    .with_name('printed_tables.txt')
    .read_text('utf-8')
    .split('\n\n'),
  )
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


def table_7(root: pathlib.Path, **options) -> list[list[str]]:
  """Writes Table 7 of digits; its cells, headings first."""
  paper.write(root, data='digits', tables=['7'], **options)
  return rows_of(written(root), 'Table 7')


def of_row(rows: list[list[str]], name: str) -> list[str]:
  return next(row for row in rows if row[1] == name)


@pytest.mark.parametrize('key', PRINTED)
def test_every_number_that_the_paper_prints_is_there_in_its_place(key):
  table = paper.TABLES['cifar10'][key]

  assert [' '.join(line.printed) for line in table.lines] == PRINTED[key]


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
  with pytest.raises(ValueError, match='key is that of another'):
    definition.read([SAVED, SAVED], {})


def test_an_installed_package_has_the_numbers():
  setup = configparser.ConfigParser()
  setup.read(pathlib.Path(__file__).parents[2] / 'setup.cfg')

  assert setup['options.package_data'][paper.__name__] == '*.json'


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
  rows = table_7(root)

  assert of_row(rows, 'CE + KL')[-1] == '2 of 3'
  icc = of_row(rows, 'CE + ICC')
  assert icc[2:] == ['—', '90.33', '—', '35.54', '—', 'not run']
  assert 'CE + KL (seed 1)' in written(root)


def test_a_row_of_an_older_version_is_left_out_and_named(root, caplog):
  old = root / 'seed0' / 'old'
  old.mkdir()
  (old / 'config.json').write_text('{"seed": 0}')

  runs = sweep_runs.load(root)

  assert 'old' not in runs.runs and CE[0] in runs.runs
  assert 'row old is left out' in caplog.text


def test_a_damaged_row_is_left_out_and_named_and_ends_no_table(root, caplog):
  path = root / 'seed0' / CE[0] / 'evaluation' / 'ce.json'
  path.write_text('[]')
  (root / 'seed1' / CE[0] / 'sweep.json').write_text('')
  assert of_row(table_7(root), 'CE')[-1] == '2 of 3'
  assert f'{path} is damaged' in caplog.text
  assert f'{root}/seed1/{CE[0]}/sweep.json is damaged' in caplog.text


def test_a_single_seed_has_no_deviation(tmp_path):
  saved_sweep.write_row(tmp_path, 4, CE[0], {'ce': counts(500, 100)})
  row = of_row(table_7(tmp_path), 'CE')
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
    with saved_run.edited(root / 'seed0' / name / 'sweep.json') as saved:
      saved['commands'] = [words]
  table_7(root)
  text = written(root)
  assert text.index('experiments.teacher\n') < text.index(
    'teacher_small/teacher'
  )


def test_teachers_of_other_files_are_not_averaged(root):
  """A teacher from elsewhere in one seed, and one of the sweep in others."""

  def taking(seed: int, checkpoint: str) -> None:
    path = root / f'seed{seed}' / KL[0] / 'config.json'
    with saved_run.edited(path) as saved:
      saved['teacher'] = {'checkpoint': checkpoint}

  for seed in (0, 2):
    taking(seed, f'/{seed}/seed{seed}/teacher_small/teacher')
  table_7(root)
  taking(2, 'teachers/wrn34')
  with pytest.raises(ValueError, match=r'teacher\.checkpoint is'):
    table_7(root)


def test_seeds_can_be_chosen_and_others_do_not_count(root):
  assert of_row(table_7(root, seeds=[0, 2]), 'CE')[-1] == '2'
  with pytest.raises(ValueError, match=r'--seeds names 7.*0, 1, 2'):
    paper.write(root, seeds=[0, 7])


def test_sizes_on_digits_are_in_thousands(root):
  """Rows that were searched by themselves have sizes of their own."""
  rows = table_7(root)
  place = rows[0].index('Params (k) (ours)')
  run = next((root / 'seed0').glob('*_ce_kl/evaluation/ce_kl.json'))
  size = json.loads(run.read_text())['parameters'] / 1000
  row = of_row(rows, 'CE + KL')
  assert float(row[place].split(' ')[0]) == pytest.approx(size, rel=0.01)


def test_many_test_images_are_worth_a_second_decimal(tmp_path):
  saved_sweep.write_row(
    tmp_path, 0, 's7_ce', {'ce': counts(9098, 1930)}, images=10_000
  )
  paper.write(tmp_path, data='cifar10', tables=['7'])

  assert rows_of(written(tmp_path), 'Table 7')[2][2] == '90.98'


def test_differences_are_taken_seed_by_seed(root):
  table_7(root)
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
  with saved_run.edited(path) as saved:
    saved['attacks'][2] |= fields


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
  with saved_run.edited(root / 'seed2' / CE[0] / 'config.json') as config:
    config['search']['optimization']['epochs'] = 1
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
  with saved_run.edited(folder / 'evaluation' / 'rnas_cl_eq6.json') as saved:
    saved['attacks'][-1]['members'][3]['num_steps'] = 100

  with pytest.raises(ValueError, match='Square with 1 trials of 100 steps'):
    paper.write(tmp_path, tables=['2'])


def test_rows_that_were_attacked_otherwise_are_said_not_to_compare(root):
  for seed in (0, 2):
    path = root / f'seed{seed}' / KL[0] / 'evaluation' / 'ce_kl.json'
    change(path, steps=40)
  table_7(root)

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
  with saved_run.edited(folder / 'provenance.json') as saved:
    del saved['seconds']['search']
  paper.write(tmp_path, tables=['6'])
  rows = rows_of(written(tmp_path), 'Table 6')

  assert rows[-1][rows[0].index('Training Time (h) (ours)')] == '—'


def test_sizes_are_in_the_unit_of_their_column(tmp_path):
  saved_sweep.write_row(
    tmp_path, 0, 's3_wrn34', ['rnas_cl'], parameters=104_210
  )
  paper.write(tmp_path, tables=['1'])
  row = of_row(rows_of(written(tmp_path), 'Table 1'), 'RNAS-CL-S3-WRT-34')

  assert row[-5:-1] == ['0.104', '0.11', '5.00', '6.64']


def test_below_a_table_stands_where_its_numbers_come_from(root):
  table_7(root)

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
  table_7(tmp_path)

  assert 'python -m experiments.pipeline --config=digits_ce\n' in written(
    tmp_path
  )


def test_widths_are_those_of_stages_and_the_last_stages_narrow_blocks(tmp_path):
  for seed in (0, 1):
    folder = saved_sweep.write_row(tmp_path, seed, 's5_ce', ['ce'])
    with saved_run.edited(folder / 'architecture.json') as architecture:
      architecture['blocks'] = [
        {'features': filters, 'choices': choices}
        for choices, stage in (
          ([16, 12], (16, 12)),
          ([32, 28, 24, 20], (28 - 4 * seed,)),
          ([64, 60, 56, 52], (64, 60, 56, 52 + 4 * seed)),
        )
        for filters in stage
      ]
  paper.write(tmp_path, data='cifar10', tables=['widths'])
  rows = rows_of(written(tmp_path), 'Filters by stage')
  (row,) = (row for row in rows if row[:2] == ['S5', 'CE'])
  assert row[2:6] == ['14.0 ± 0.0', '26.0 ± 2.8', '58.5 ± 0.7', '50.0 ± 0.0']


def test_a_stage_that_a_search_does_not_have_has_no_width(tmp_path):
  saved_sweep.write_row(tmp_path, 0, 'digits_ce', ['ce'], blocks=2)
  paper.write(tmp_path, data='digits', tables=['widths'])
  row = rows_of(written(tmp_path), 'Filters by stage')[2]

  assert row[:5] == ['CE', '16.0', '24.0', '—', '100']


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


def run(*arguments: str) -> subprocess.CompletedProcess:
  folder = pathlib.Path(__file__).parents[2]
  return subprocess.run(
    [sys.executable, *arguments], cwd=folder, capture_output=True, text=True
  )


def test_the_command_prints_tables_and_needs_no_jax(root):
  code = (
    'import runpy, sys; sys.argv[1:] = sys.argv[1:]\n'
    'try:\n'
    '  runpy.run_module("experiments.tables", run_name="__main__")\n'
    'finally:\n'
    '  heavy = {"jax", "flax", "tensorflow", "matplotlib.pyplot"}\n'
    '  print(heavy & sys.modules.keys())\n'
  )
  done = run('-c', code, f'--workdir={root}', '--table=7')

  assert done.returncode == 0, done.stderr
  assert 'Table 7: terms of the objective on digits' in done.stdout
  assert done.stdout.splitlines()[-1] == 'set()'


def test_the_command_shows_a_message_and_no_traceback(tmp_path):
  done = run('-m', 'experiments.tables', f'--workdir={tmp_path}')

  assert done.returncode == 1
  assert 'has no folder seed<N>' in done.stderr
  assert 'Traceback' not in done.stderr


def test_seeds_that_are_far_apart_are_each_shown(tmp_path):
  for seed, clean in enumerate((100, 500)):
    models = {'ce': counts(clean, 100), 'ce_eq6': counts(500, 100)}
    saved_sweep.write_row(tmp_path, seed, CE[0], models)
  table_7(tmp_path)

  assert written(tmp_path).count('Seeds that are far apart') == 1
  assert (
    'apart: Without adversarial training: CE, Clean: 19.3 (seed 0), 96.7 '
    '(seed 1).'
  ) in written(tmp_path)


def test_a_row_that_one_seed_has_not_finished_has_the_commands_of_others(root):
  (root / 'seed1' / CE[0] / 'sweep.json').unlink()
  table_7(root)

  assert '--config=digits_ce' not in written(root)
  assert written(root).count('ROOT/seedN/digits_ce\n') == 1

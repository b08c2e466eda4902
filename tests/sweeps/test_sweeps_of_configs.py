"""The sweeps of the configs make the paper's tables of rows that they share."""

import importlib
import itertools
import pathlib
import re

import pytest

from rnascl_jax import sweeps
from rnascl_jax.config import config_files, settings
from rnascl_jax.reporting import paper
from rnascl_jax.reporting.paper import drawing, sweep_runs
from rnascl_jax.runtime import commands
from rnascl_jax.sweeps import command, table_rows
from rnascl_jax.sweeps import rows as sweep_rows
from tests import saved_sweep


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
  """Rows name config files as a user does, from its root."""
  monkeypatch.chdir(pathlib.Path(__file__).parents[2])


# Files with a sweep, and their arguments; each in normal and in smoke form.
_SWEEPS = {
  'cifar10': ['', 'table=1', 'table=fig6,space=s3'],
  'imagenet100': ['', 'table=fig4,teacher=wrn50'],
  'imagenet': ['', 'space=is,teacher=resnet18'],
  'teachers': ['', 'teacher=vit'],
  'evidence': [''],
  'pareto': ['', 'data=digits', 'space=s7'],
  'rivals': ['', 'data=digits', 'space=s3'],
  'ablations.teacher': ['', 'data=digits', 'table=12,space=s5'],
  'ablations.terms': ['', 'data=digits', 'table=7,space=s3'],
  'ablations.objective': ['', 'data=digits'],
  'ablations.kd': ['', 'data=digits'],
  'ablations.reduction': ['', 'data=digits'],
  'ablations.tutors': ['', 'data=digits'],
  'ablations.kl': ['', 'data=digits'],
}


def _rows(name: str, argument: str) -> list[sweeps.Row]:
  module = importlib.import_module(f'configs.{name}')
  return sweeps.in_order(module.sweep(argument))


def test_every_config_with_a_sweep_is_tested_here():
  """The rest of this file is about those that `_SWEEPS` names."""
  named = {name.replace('.', '/') for name in _SWEEPS}
  assert set(sweep_rows._sweeps()) == named


@pytest.mark.parametrize('name', _SWEEPS)
def test_every_row_of_every_config_can_be_run(name):
  for form in ('', 'smoke'):
    tables = [_rows(name, f'{argument},{form}') for argument in _SWEEPS[name]]
    rows = table_rows.together(itertools.chain(*tables))
    sweeps.plan(rows, [0], 'ROOT')


_PARSED: dict[str, settings.Settings] = {}


def _parsed(row: sweeps.Row) -> settings.Settings:
  """Tables share rows, which are read once."""
  if row.name not in _PARSED:
    _PARSED[row.name] = config_files.parse(
      sweeps.Job(row, 0, 'ROOT').commands[0]
    )
  return _PARSED[row.name]


@pytest.mark.parametrize('form', ['', 'smoke'])
def test_a_name_is_the_same_run_in_every_table(form):
  seen: dict[str, tuple[str, list]] = {}
  shared = 0
  for name, sweep_arguments in _SWEEPS.items():
    for argument in sweep_arguments:
      for row in _rows(name, f'{argument},{form}'):
        run = sweeps.Job(row, 0, 'ROOT').commands
        first, known = seen.setdefault(row.name, (name, run))
        assert run == known, (row.name, name, first)
        shared += first != name
  assert shared > 10


# By data and key of a table of the paper, what makes it.
_MAKERS = {
  'cifar10': {
    **{key: ('cifar10', f'table={key}') for key in ('1', '2', '6', 'widths')},
    '3': ('imagenet', ''),
    '4': ('ablations.objective', ''),
    '5': ('imagenet100', 'table=5'),
    **{key: ('ablations.terms', f'table={key}') for key in '789'},
    **{
      key: ('ablations.teacher', f'table={key}') for key in ('10', '11', '12')
    },
    '15': ('teachers', ''),
    'fig3': ('ablations.kd', ''),
    'reduction': ('ablations.reduction', ''),
    'tutors': ('ablations.tutors', ''),
    'kl': ('ablations.kl', ''),
    'rivals': ('rivals', ''),
    'evidence': ('evidence', ''),
  },
  'digits': {
    '4': ('ablations.objective', 'data=digits'),
    **{key: ('ablations.terms', f'table={key},data=digits') for key in '789'},
    **{
      key: ('ablations.teacher', f'table={key},data=digits')
      for key in ('10', '11')
    },
    'fig3': ('ablations.kd', 'data=digits'),
    'reduction': ('ablations.reduction', 'data=digits'),
    'tutors': ('ablations.tutors', 'data=digits'),
    'kl': ('ablations.kl', 'data=digits'),
    'rivals': ('rivals', 'data=digits'),
    'widths': ('ablations.terms', 'table=7,data=digits'),
  },
}


@pytest.mark.parametrize(
  ('data', 'key'),
  [(data, key) for data, known in paper.TABLES.items() for key in known],
)
def test_a_sweep_makes_every_model_and_attack_of_its_table(data, key):
  rows = {row.name: row for row in _rows(*_MAKERS[data][key])}
  table = paper.TABLES[data][key]
  attacked = set()
  for source in table.sources:
    parsed = _parsed(rows[source.row])
    if source.model == 'teacher':
      assert parsed.evaluation.teachers
    else:
      assert source.model in {**parsed.students, **parsed.adversarial.students}
      assert not parsed.evaluation.teachers
      assert not parsed.controls
    attacked |= {re.sub('_.*', '', a) for a in parsed.evaluation.attacks}
    keys = {column.key for column in table.columns}
    if 'autoattack' in keys and source.model != 'teacher':
      assert parsed.evaluation.auto_attack == ('standard',)
      models = parsed.evaluation.auto_attack_models
      assert not models or source.model in models  # None stands for all.
  assert 'pgd20' in attacked or key == '3'


# By figure, what makes it; by data where it differs.
_FIGURES = {
  **{key: ('cifar10', f'table=fig{key}') for key in ('1', '6', '7', '8', '9')},
  '3': ('ablations.kd', ''),
  **{key: ('cifar10', 'table=fig2') for key in ('2a', '2b')},
  '5a': ('imagenet100', 'table=fig5'),
  '5b': ('cifar10', 'table=fig5'),
  **{key: ('imagenet100', f'table=fig{key}') for key in ('4', '10', '11')},
  '12': ('cifar10', 'table=fig12'),
  'table7': ('ablations.terms', 'table=7'),
  'reduction': ('ablations.reduction', ''),
}


@pytest.mark.parametrize(
  ('data', 'key'),
  [(data, key) for data, known in drawing.FIGURES.items() for key in known],
)
def test_one_sweep_makes_all_that_a_figure_shows(data, key, tmp_path):
  name, argument = _FIGURES[key]
  if data == 'digits':
    studies = {'3': 'ablations.kd', 'reduction': 'ablations.reduction'}
    name, argument = studies.get(key, 'ablations.terms'), 'data=digits'
  for row in _rows(name, argument):
    parsed = _parsed(row)
    models = [*parsed.students, *parsed.adversarial.students]
    if row.name.startswith('teacher_'):
      models = ['teacher']
    saved_sweep.write_row(tmp_path, 0, row.name, models, is_analyzed=True)
    curves = {re.sub('_.*', '', a) for a in parsed.evaluation.curve_attacks}
    assert {'fgsm', 'pgd20'} <= curves or not parsed.evaluation.curve_attacks

  picture = drawing.FIGURES[data][key](sweep_runs.load(tmp_path))
  assert picture and 'Not run' not in picture.caption


@pytest.mark.parametrize('data', ['cifar10', 'digits'])
@pytest.mark.parametrize(
  'study', ['', 'kd', 'reduction', 'tutors', 'kl', 'objective']
)
def test_students_take_their_teacher_and_those_of_a_study_the_filters_too(
  study, data
):
  file = f'ablations.{study or "terms"}'
  students = 0
  for row in _rows(file, f'data={data}'):
    taken = dict(row.takes)
    if row.name.startswith('teacher_') or row.name.endswith('_ce'):
      assert not taken
      continue
    students += 1
    known = 'small' if data == 'digits' else 'wrn34'
    assert f'_{known}' in row.name
    assert taken.pop('teacher.checkpoint') == f'teacher_{known}/teacher'
    searched = row.name.removesuffix(f'_{study}')
    if searched != row.name:
      architecture = taken.pop('search.architecture')
      assert architecture == f'{searched}/architecture.json'
    assert not taken
  assert students >= 2


def test_a_row_searched_anew_has_its_terms_in_search_and_training():
  rows = {row.name: row for row in _rows('ablations.reduction', 'data=digits')}
  for name, expected in {
    'literal': ('literal', 1.0),
    'mean': ('mean', 1.0),
    'ten_sums': ('sum', 10.0),
  }.items():
    made = _parsed(rows[f'digits_small_{name}'])
    for stage in (made.search, made.students['rnas_cl']):
      assert (stage.reduction, stage.gamma) == expected


@pytest.mark.parametrize('name', ['depth', 'random', 'resampled', 'uniform'])
def test_a_control_of_tutors_is_that_of_the_row_in_search_and_training(name):
  rows = {row.name: row for row in _rows('ablations.tutors', 'data=digits')}
  made = _parsed(rows[f'digits_small_tutors_{name}'])
  assert made.search.tutors == made.students['rnas_cl'].tutors == name
  assert _parsed(rows['digits_small']).search.tutors == 'searched'


def test_a_row_of_kl_has_its_divergence_in_search_and_training():
  rows = {row.name: row for row in _rows('ablations.kl', 'data=digits')}
  made = _parsed(rows['digits_small_kl_teacher_student_4'])
  for stage in (made.search, made.students['rnas_cl']):
    assert (stage.kl_direction, stage.kl_temperature) == ('teacher_student', 4)
    assert (stage.kl_weight, stage.gamma) == (1, 1)


def test_rows_of_the_front_differ_in_what_their_search_pays():
  rows = _rows('pareto', 'data=digits')
  assert {row.name for row in rows} >= {'teacher_small', 'digits_small_both_2'}
  paid = set()
  for row in rows[1:]:
    search = _parsed(row).search
    paid.add((search.cost, search.flops_exponent))
    has_times = 'latency' in search.cost
    assert search.cost_device.startswith('AMD EPYC') == has_times
    assert row.takes == {'teacher.checkpoint': 'teacher_small/teacher'}
  assert len(paid) == len(rows) - 1 == 12
  for exponent in (0.5, 1.0, 2.0):
    assert ('macs', exponent) in paid
    assert ('0.5*macs+0.5*latency:digits_cpu', exponent) in paid


def test_a_summary_of_a_sweep_is_a_command_of_its_folder(capsys):
  known = [path.stem for path in commands.folder('experiments').glob('*.py')]
  for name in _SWEEPS:
    summary = sweep_rows.summary(name.replace('.', '/'))
    assert not summary or summary in known
  printing = {'seeds': ['0'], 'print_only': True}
  command.main('pareto:data=digits', 'ROOT', **printing)
  last = capsys.readouterr().out.splitlines()[-1]
  assert ' pareto --workdir=/' in f' {last}' and last.endswith('/ROOT')


def test_a_table_can_be_had_for_one_space_or_teacher():
  argument = 'table=10,space=s5,teacher=wrn34'
  names = [row.name for row in _rows('ablations.teacher', argument)]
  assert names == ['s5_ce', 'teacher_wrn34', 's5_wrn34']
  names = [row.name for row in _rows('ablations.terms', 'table=7,space=s3')]
  assert names == [
    'teacher_wrn34',
    's3_ce',
    's3_wrn34_ce_kl',
    's3_wrn34_ce_icc',
    's3_wrn34',
  ]


@pytest.mark.parametrize(
  ('name', 'argument', 'message'),
  [
    ('cifar10', 'table=7', 'Choose one of 1, 2, 6, fig1, fig2, fig5, fig6'),
    ('cifar10', 'data=digits', 'Choose one of cifar10'),
    ('imagenet100', 'table=4', 'Choose one of 5, fig4, fig5, fig10'),
    ('ablations.terms', 'data=digits,space=s3', 'no meaning beside data=dig'),
    ('ablations.terms', 'data=mnist', 'Choose one of cifar10, digits'),
    ('ablations.teacher', 'table=12,data=digits', 'Choose one of 10, 11'),
    ('ablations.kd', 'table=3', 'table=3 has no meaning'),
    ('pareto', 'data=imagenet100', 'Choose one of digits, cifar10'),
    ('pareto', 'latency=phone', "no table 'phone'"),
    ('ablations.reduction', 'rows=all', "argument 'rows' is unknown"),
  ],
)
def test_a_wrong_argument_of_a_sweep_is_refused(name, argument, message):
  with pytest.raises(ValueError, match=message):
    _rows(name, argument)

"""Rows: their order, their changes, and the settings of their commands."""

import pathlib

import pytest

from rnascl_jax import sweeps
from rnascl_jax.config import config_files


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
  """Rows name config files as a user does, from its root."""
  monkeypatch.chdir(pathlib.Path(__file__).parents[2])


def _row(name: str, *needs: str) -> sweeps.Row:
  taken = {f'field{i}': f'{need}/file' for i, need in enumerate(needs)}
  return sweeps.Row(name, 'configs/digits.py:smoke', takes=taken)


def _names(rows):
  return [row.name for row in rows]


def test_what_a_row_takes_from_comes_first_and_the_rest_keeps_its_order():
  rows = [_row('d', 'b', 'c'), _row('a'), _row('c', 'b'), _row('b'), _row('e')]
  assert _names(sweeps.in_order(rows)) == ['b', 'c', 'd', 'a', 'e']


@pytest.mark.parametrize(
  ('rows', 'message'),
  [
    ([_row('a'), _row('a')], "Two rows are called 'a'"),
    ([_row('a/b')], "'a/b' cannot be the name of a row"),
    ([_row('a' * 201)], 'cannot be the name of a row.*at most 200'),
    ([_row('a', 'student'), _row('students')], "Did you mean 'students'"),
    ([_row('a', 'c'), _row('b', 'a'), _row('c', 'b')], 'a <- c <- b <- a'),
    ([_row('a', 'a')], 'a <- a'),
  ],
)
def test_rows_that_cannot_be_run_in_any_order_are_refused(rows, message):
  with pytest.raises(ValueError, match=message):
    sweeps.in_order(rows)


def test_rows_are_selected_with_all_that_they_take_from():
  rows = sweeps.in_order([_row('a'), _row('b', 'a'), _row('c', 'b'), _row('d')])
  assert _names(sweeps.select(rows, ['c'])) == ['a', 'b', 'c']
  assert _names(sweeps.select(rows, [])) == ['a', 'b', 'c', 'd']
  with pytest.raises(ValueError, match="'e' is not a row.*a, b, c, d"):
    sweeps.select(rows, ['e'])


def test_a_field_is_set_for_all_rows_or_for_one_and_is_not_taken_then():
  rows = [_row('a'), _row('b', 'a')]
  first, second = sweeps.change(rows, ['data.max_test=5', 'b:field0=here'])
  assert first.changes == {'data.max_test': '5'}
  assert second.changes == {'data.max_test': '5', 'field0': 'here'}
  assert rows[1].takes and not second.takes
  for wrong in ('data.max_test', ':x=1', 'b:=1'):
    with pytest.raises(ValueError, match='must be FIELD=VALUE'):
      sweeps.change(rows, [wrong])
  with pytest.raises(ValueError, match="'c' is not a row"):
    sweeps.change(rows, ['c:x=1'])


def test_the_command_line_carries_values_of_every_type():
  changes = {
    'search.gamma': 7.0,
    'data.max_train': 5,
    'evaluation.teachers': False,
    'evaluation.attacks': ('fgsm', 'pgd20_rnascl'),
    'evaluation.curve_epsilons_255': (1.0, 2.5),
    'students.rnas_cl.label': "it's, a label",
  }
  row = sweeps.Row(
    'a',
    'configs/digits.py',
    changes,
    takes={'teacher.checkpoint': 'b/teacher'},
  )
  parsed = config_files.parse(sweeps.Job(row, 3, 'ROOT').commands[0])
  assert parsed.seed == 3
  assert parsed.teacher.checkpoint == 'ROOT/seed3/b/teacher'
  for path, value in changes.items():
    field = parsed
    for name in path.split('.'):
      field = field[name] if isinstance(field, dict) else getattr(field, name)
    assert field == value and type(field) is type(value)


@pytest.mark.parametrize(
  ('config', 'changes', 'message'),
  [
    (
      'digits.py',
      {'search.gama': 1.0},
      "no field 'gama'. Did you mean 'gamma'",
    ),
    ('digits.py', {'search.gamma': -1.0}, 'gamma=-1.0 must be at least 0'),
    ('digits.py', {'data.max_train': 'x'}, 'max_train=x'),
    ('digits.py:smal', {}, "argument 'smal' is unknown"),
    ('digit.py', {}, "configs/digit.py does not exist. .* 'configs/digits.py'"),
  ],
)
def test_a_row_that_no_command_would_accept_is_named(config, changes, message):
  row = sweeps.Row('ours', f'configs/{config}', changes)
  with pytest.raises(
    ValueError, match=f"Row 'ours' cannot be run: .*{message}"
  ):
    sweeps.plan([row], [0], 'ROOT')


def test_seeds_are_different_numbers():
  for seeds in ([], [1, 1]):
    with pytest.raises(ValueError, match='--seeds='):
      sweeps.plan([_row('a')], seeds, 'ROOT')
  with pytest.raises(ValueError, match=r'config\.seed=-1'):
    sweeps.plan([sweeps.Row('a', 'configs/digits.py')], [-1], 'ROOT')


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('seed=5', 'use --seeds'),
    ('b:seed=5', 'use --seeds'),
    ('search.gamma=7', 'ROW:FIELD=VALUE'),
    ('students.rnas_cl.gamma=7', 'ROW:FIELD=VALUE'),
    ('data.padding=1', 'ROW:FIELD=VALUE'),
  ],
)
def test_what_tells_rows_apart_is_not_set_for_all_of_them(text, message):
  rows = [
    sweeps.Row('a', 'x.py', changes={'data.padding': 0}),
    sweeps.Row('b', 'x.py'),
  ]
  with pytest.raises(ValueError, match=message):
    sweeps.change(rows, [text])
  if 'seed' not in text:
    changed = sweeps.change(rows, [f'b:{text}'])
    assert len(changed[1].changes) == 1 and changed[0] == rows[0]


def test_the_digest_of_a_job_changes_with_its_config_file(tmp_path):
  path = tmp_path / 'ours.py'
  row = sweeps.Row('a', str(path))
  digests = []
  for seed in (1, 1, 2):
    path.write_text(f"""
from configs import digits
def get_config():
  config = digits.get_config()
  config.search.gamma = {seed}.0
  return config
""")
    digests += [job.config for job in sweeps.plan([row], [0], str(tmp_path))]
  assert digests[0] == digests[1] != digests[2]

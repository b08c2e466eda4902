"""A command line whose config cannot be made is answered in a line."""

import json

import pytest

from rnascl_jax.config import config_files
from tests import commands


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    (['--config=nonesuch.py'], '--config=nonesuch.py does not exist'),
    (['--config', 'configs/digts.py'], "Did you mean 'configs/digits.py'"),
    (['--config='], 'names no file; is it a variable that is not set'),
    (['--config'], 'names no file'),
    (['-config=configs'], '--config=configs is a folder'),
    (['--config=README.md'], 'is no Python file: .* does not end with .py'),
    (['--config=configs/__init__.py'], 'has no function get_config'),
    (
      ['--config=configs/digits.py:smok'],
      "digits.py:smok: .* argument 'smok' .* Did you mean 'smoke'.* autoattack",
    ),
    (
      ['--config=configs/digits.py:autoattack=al'],
      "autoattack=al is unknown. Did you mean 'all'.* some, all, none",
    ),
    (['--config.sead=1'], r"--config\.sead: .*'sead'. Did you mean 'seed'"),
    (
      ['--config=configs/digits.py', '--config.search.gama', '3'],
      r"config\.search has no field 'gama'. Did you mean 'gamma'",
    ),
    (['--noconfig.data.flp'], "no field 'flp'. Did you mean 'flip'"),
    (
      ['--config.students.x.gamma=1'],
      r"students has no field 'x'.*are ce, ce_",
    ),
    (['--config.seed.x=1'], r'config\.seed is a value without fields'),
    (['--config.data=cifar10'], r'config\.data is a section; .* classes, data'),
    (['--configs.seed=1'], "only --config has fields. Did you mean 'config'"),
  ],
)
def test_a_command_line_without_its_config_is_answered_in_a_line(
  words, message
):
  with pytest.raises(ValueError, match=message) as error:
    config_files.check(['--workdir=W', *words], 'configs/digits.py')
  assert '\n' not in str(error.value)


def test_a_command_line_with_its_config_is_taken():
  for words in (
    [],
    ['--config=configs/cifar10.py:space=s5,smoke', '--workdir=./a.b'],
    ['--config', 'configs/digits.py', '--config.search.gamma', '3'],
    ['--noconfig.data.flip', '--config.students={}', '--config.data.flip'],
  ):
    config_files.check(words, 'configs/digits.py')


@pytest.mark.parametrize(
  ('source', 'message'),
  [
    ('def get_config(): ...', r"takes no argument \('smoke',\)"),
    ('def get_config(a): ...', 'makes a NoneType; .*ConfigDict'),
  ],
)
def test_a_file_that_makes_no_config_is_named(tmp_path, source, message):
  path = tmp_path / 'ours.py'
  path.write_text(source)
  with pytest.raises(ValueError, match=f'ours.py:smoke {message}'):
    config_files.load(f'{path}:smoke')


def test_a_config_file_is_executed_once_by_a_command(tmp_path):
  """So that it may register a data set or a sink of its own."""
  path = tmp_path / 'with:colon' / 'ours.py'
  path.parent.mkdir()
  path.write_text("""
from __future__ import annotations
import dataclasses
from rnascl_jax.config import config_files
print('executed')
@dataclasses.dataclass
class Mine:
  epochs: int = 1
def get_config():
  return config_files.shipped('digits').get_config('smoke')
""")
  code, text = commands.Command(
    'search',
    '--config=ours.py',
    '--config.seed=5',
    f'--workdir={tmp_path}/W',
    cwd=path.parent,
  ).ended()
  assert code == 1
  assert text.splitlines().count('executed') == 1
  assert 'teacher is not complete. Run ' in text
  assert json.loads((tmp_path / 'W' / 'config.json').read_text())['seed'] == 5

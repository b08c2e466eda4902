"""Commands: what they say to a user who asks, and to one who errs."""

import re

import pytest

from rnascl_jax.config import settings
from rnascl_jax.runtime import lock
from tests import commands, torch_fixed

_COMMANDS = sorted(
  path.stem
  for path in (commands.ROOT / 'experiments').glob('*.py')
  if path.stem != '__init__'
)


@pytest.fixture(scope='module')
def helps(tmp_path_factory) -> dict[str, str]:
  """What every command says to `--help` in any folder; all asked at once."""
  cwd = tmp_path_factory.mktemp('elsewhere')
  asked = {c: commands.Command(c, '--help', cwd=cwd) for c in _COMMANDS}
  return {name: command.ended()[1] for name, command in asked.items()}


@pytest.mark.parametrize('command', _COMMANDS)
def test_help_says_what_a_command_does_and_shows_its_flags(command, helps):
  text = helps[command]
  assert f'rnascl {command.replace("_", "-")}' in text
  # import_teacher names it in its examples.
  assert ('--workdir' in text) == (command not in ('costs', 'latency'))
  without = (
    'doctor report import_teacher export costs tables gpu_evidence watch pareto'
  )
  assert ('  --config: ' in text) == (command not in without.split())
  # A command of two lines is printed as two lines.
  assert not re.search(r'--\S+ {2,}--', text)


def test_help_names_the_fields_of_hardening_and_of_the_guard(helps):
  fields = settings.template().adversarial.to_dict()
  for path in re.findall(
    r'--config\.adversarial\.([\w.]+)=', helps['adversarial']
  ):
    section = fields
    for name in path.split('.'):
      section = section[name]
  assert 'objective.py' in helps['adversarial']
  assert 'max_drop' in helps['teacher']


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (
      ['--config=configs/digits.py', '--config.search.gama=3'],
      "has no field 'gama'. Did you mean 'gamma'?",
    ),
    (['--config.search.gamma=-3'], 'config.search.gamma=-3.0 must be at least'),
    (['--config=configs/digits.py:smok'], "Did you mean 'smoke'?"),
    (['--config='], '--config= names no file'),
  ],
)
def test_a_wrong_flag_is_answered_before_anything_is_written(
  flags, message, tmp_path
):
  code, text = commands.run('pipeline', f'--workdir={tmp_path / "run"}', *flags)
  assert code != 0
  assert message in text
  assert text.startswith('error: ') and text.count('\n') == 1
  assert not (tmp_path / 'run').exists()


def test_an_unset_variable_as_workdir_is_refused():
  flags = {
    'report': [],
    'sweep': ['--config=x.py'],
    'tables': [],
    'watch': [],
  }
  started = [
    commands.Command(name, '--workdir=', *flags[name]) for name in flags
  ]
  for command in started:
    code, text = command.ended()
    assert code == 1
    assert "workdir='' names nothing" in text
    assert 'Traceback' not in text


def test_watch_needs_the_folder_of_a_run(tmp_path):
  for flags in ([str(tmp_path)], [f'--workdir={tmp_path}']):
    code, text = commands.run('watch', *flags)
    assert code == 1
    assert text.startswith(f'error: {tmp_path} is neither the workdir of a run')
    assert text.count('\n') == 1
  code, text = commands.run('watch')
  assert code == 1 and 'Name one folder: rnascl watch WORKDIR' in text


def test_a_second_command_in_a_workdir_is_refused_in_a_sentence(tmp_path):
  (tmp_path / 'config.json').write_text('{}')
  with lock.take(tmp_path):
    code, text = commands.run('report', f'--workdir={tmp_path}')
  assert code == 1
  assert text.startswith(f'error: {tmp_path} has a writer already: process ')
  assert text.count('\n') == 1


def test_a_run_that_is_not_there_is_not_begun_by_its_evaluation(tmp_path):
  folder = tmp_path / 'mistyped'

  code, text = commands.run(
    'evaluate', '--config=digits:smoke', f'--workdir={folder}'
  )

  assert code != 0 and f'{folder} is not the workdir of a run' in text
  assert 'Traceback' not in text and not folder.exists()


def test_a_missing_stage_is_named_without_a_traceback(tmp_path):
  code, text = commands.run(
    'search', f'--workdir={tmp_path}', '--config=configs/digits.py:smoke'
  )
  assert code != 0
  assert 'teacher is not complete' in text
  assert 'Traceback' not in text


def test_a_teacher_is_imported_or_refused_without_a_trace(tmp_path):
  torch = pytest.importorskip('torch')
  net = torch_fixed.make('wide_resnet', 10, depth=10, width=1)
  torch.save({'state_dict': net.state_dict()}, tmp_path / 'model.pt')
  (tmp_path / 'page.pt').write_bytes(b'<!DOCTYPE html> Google Drive')
  network = '--network=wide_resnet,depth=10,width=1'
  file, page = (f'--file={tmp_path / name}.pt' for name in ('model', 'page'))
  started = {
    'good': [file, network, '--normalization=cifar10'],
    'unsaid': [file, network],
    'bad': [page, '--teacher=wrn34'],
    'both': [file, network, '--teacher=wrn34'],
    'size': [page, '--teacher=wrn34', '--image_size=224'],
    'field': [file, f'{network},attention=2'],
    'list': ['--list'],
  }
  started = {
    name: commands.Command(
      'import_teacher', *flags, f'--output={tmp_path / name}'
    )
    for name, flags in started.items()
  }
  ended = {name: command.ended() for name, command in started.items()}
  codes, said = ({n: e[i] for n, e in ended.items()} for i in range(2))
  assert codes['good'] == codes['list'] == 0
  assert 'Parameters            ' in said['good']
  assert f'--config.teacher.checkpoint={tmp_path / "good"}' in said['good']
  assert 'does not say how its inputs are normalised' in said['unsaid']
  assert 'web page, not a checkpoint' in said['bad']
  assert 'either --teacher' in said['both']
  assert '--teacher has its own' in said['size']
  assert 'config.teacher.network has no attention' in said['field']
  assert 'wrn34: WRT-34' in said['list']
  assert not any('Traceback' in text for text in said.values())
  left = {path.name for path in tmp_path.iterdir()}
  assert left == {'model.pt', 'page.pt', 'good'}

"""Commands: what they say to a user who asks, and to one who errs."""

import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parent.parent


def _run(command: str, *arguments: str) -> tuple[int, str]:
  done = subprocess.run(
    [sys.executable, '-m', f'experiments.{command}', *arguments],
    capture_output=True,
    text=True,
    check=False,
    cwd=_ROOT,
  )
  return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize('command', ['pipeline', 'report'])
def test_help_says_what_a_command_does_and_shows_its_flags(command):
  _, text = _run(command, '--help')
  assert f'python -m experiments.{command}' in text
  assert '--workdir' in text
  assert ('--config' in text) == (command == 'pipeline')


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--config.search.gama=3'], 'Did you mean "gamma"'),
    (['--config.search.gamma=-3'], 'config.search.gamma=-3.0 must be at least'),
    (['--config=configs/digits.py:smal'], "'smal' is unknown"),
  ],
)
def test_a_wrong_flag_is_answered_before_anything_is_written(
  flags, message, tmp_path
):
  code, text = _run('pipeline', f'--workdir={tmp_path / "run"}', *flags)
  assert code != 0
  assert message in text
  assert not (tmp_path / 'run').exists()


def test_a_missing_stage_is_named_without_a_traceback(tmp_path):
  code, text = _run(
    'search', f'--workdir={tmp_path}', '--config=configs/digits.py:smoke'
  )
  assert code != 0
  assert 'teacher is not complete' in text
  assert 'Traceback' not in text

"""Sweeps: what becomes of jobs, and the table of what they reached."""

import dataclasses
import io
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest

from rnascl_jax import sweeps
from rnascl_jax.runtime import commands, lock
from rnascl_jax.sweeps import command, results, runner
from tests import saved_sweep


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch):
  """Rows name config files as a user does, from its root."""
  monkeypatch.chdir(pathlib.Path(__file__).parents[2])


@pytest.fixture
def scripts(monkeypatch):
  """Commands that run a row's `config`, a Python script, on its folder."""

  def words_of(job):
    words = ['rnascl', '-c', job.row.config, str(job.folder)]
    return [words for _ in job.row.commands]

  monkeypatch.setattr(commands, 'PROCESS', (sys.executable,))
  monkeypatch.setattr(sweeps.Job, 'commands', property(words_of))


_COUNT = """
import pathlib, sys
print('at', 'work')
with open(pathlib.Path(sys.argv[1]) / 'runs', 'a') as file:
  file.write('x')
"""


def _script(name: str, *needs: str, script: str = _COUNT, times: int = 1):
  taken = {f'field{i}': f'{need}/file' for i, need in enumerate(needs)}
  return sweeps.Row(name, script, {}, taken, ('pipeline',) * times)


def _jobs(rows, root, seeds=(0,), config=''):
  return [
    sweeps.Job(row, seed, str(root), config)
    for seed in seeds
    for row in sweeps.in_order(rows)
  ]


def _sweep(rows, root, seeds=(0,), config=''):
  """States, and what the terminal shows."""
  out = io.StringIO()
  return sweeps.run(_jobs(rows, root, seeds, config), out), out.getvalue()


def _runs(root, name, seed=0):
  path = root / f'seed{seed}' / name / 'runs'
  return len(path.read_text()) if path.exists() else 0


def test_all_commands_of_all_rows_run_once_for_each_seed(scripts, tmp_path):
  rows = [_script('a', times=2), _script('b', 'a')]
  states, text = _sweep(rows, tmp_path, (0, 7))
  assert set(states.values()) == {runner.FINISHED} and len(states) == 4
  for seed in (0, 7):
    assert (_runs(tmp_path, 'a', seed), _runs(tmp_path, 'b', seed)) == (2, 1)
  log = (tmp_path / 'seed7' / 'a' / 'sweep.log').read_text()
  assert log.count('at work\n') == log.count('$ rnascl -c') == 2
  lines = text.splitlines()
  assert [line.split(':')[0] for line in lines] == [
    '[1/4] seed 0, a',
    '[2/4] seed 0, b',
    '[3/4] seed 7, a',
    '[4/4] seed 7, b',
  ]
  assert all('finished in' in line for line in lines)
  assert ['left' in line for line in lines] == [True, True, True, False]


def test_a_failed_row_stops_only_those_that_take_from_it(scripts, tmp_path):
  script = f"{_COUNT}print('why it broke'); raise SystemExit(3)"
  broken = _script('a', script=script, times=2)
  rows = [broken, _script('b', 'a'), _script('c', 'b'), _script('d')]
  states, text = _sweep(rows, tmp_path)
  assert states == {
    (0, 'a'): 'failed',
    (0, 'b'): 'not run, needs a',
    (0, 'c'): 'not run, needs b',
    (0, 'd'): 'finished',
  }
  assert 'exit status 3' in text and 'why it broke' in text
  assert str(tmp_path / 'seed0' / 'a' / 'sweep.log') in text
  # Of two commands that would fail, the second was not run.
  assert [_runs(tmp_path, name) for name in 'abd'] == [1, 0, 1]
  # Mended, and the same sweep again.
  states, text = _sweep([_script('a'), *rows[1:]], tmp_path)
  assert set(states.values()) == {'finished'}
  assert [_runs(tmp_path, name) for name in 'abcd'] == [2, 1, 1, 1]


def test_a_finished_row_is_skipped_while_its_commands_are_the_same(
  scripts, tmp_path
):
  rows = [_script('a'), _script('b', 'a')]
  _sweep(rows, tmp_path / 'old')
  states, text = _sweep(rows, tmp_path / 'old')
  assert text.count('finished before') == 2
  # Also in a folder that was moved.
  (tmp_path / 'old').rename(tmp_path / 'new')
  _sweep(rows, tmp_path / 'new')
  assert _runs(tmp_path / 'new', 'a') == _runs(tmp_path / 'new', 'b') == 1
  other = _script('b', 'a', script=f'{_COUNT}# otherwise')
  states, _ = _sweep([rows[0], other], tmp_path / 'new')
  assert set(states.values()) == {'finished'}
  assert [_runs(tmp_path / 'new', name) for name in 'ab'] == [1, 2]


def test_a_row_is_run_again_where_its_config_file_has_changed(
  scripts, tmp_path
):
  rows = [_script('a')]
  for digest, times in (('one', 1), ('one', 1), ('two', 2)):
    _sweep(rows, tmp_path, config=digest)
    assert _runs(tmp_path, 'a') == times


def test_a_row_whose_teacher_was_made_again_is_not_taken_for_its_student(
  scripts, tmp_path
):
  """Its workdir keeps what it took, so it has to be moved away."""
  student = dataclasses.replace(
    _script('b'), takes={'teacher.checkpoint': 'a/teacher'}
  )
  made = tmp_path / 'seed0' / 'a' / 'teacher' / 'stage.json'
  made.parent.mkdir(parents=True)
  made.write_text('1')
  rows = [_script('a'), student]
  _sweep(rows, tmp_path)
  made.write_text('2')
  states, text = _sweep(rows, tmp_path)
  assert states[0, 'b'] == 'failed'
  assert 'a was made again since' in text and 'seed0/b away' in text
  assert _runs(tmp_path, 'b') == 1


def test_a_broken_marker_fails_one_row_and_not_the_sweep(scripts, tmp_path):
  rows = [_script('a'), _script('b')]
  _sweep(rows, tmp_path)
  (tmp_path / 'seed0' / 'a' / 'sweep.json').write_text('')
  states, text = _sweep(rows, tmp_path)
  assert states == {(0, 'a'): 'failed', (0, 'b'): 'finished'}
  assert 'sweep.json is damaged' in text and 'delete it' in text


def test_a_row_whose_results_are_damaged_ends_no_sweep(
  scripts, tmp_path, caplog
):
  rows = [_script('a'), _script('b')]
  jobs = _jobs(rows, tmp_path)
  assert command.run(jobs, str(tmp_path), 'x.py') == 0
  for row in 'ab':
    saved_sweep.write_row(tmp_path, 0, row, ['rnas_cl'], marker=False)
  path = tmp_path / 'seed0' / 'a' / 'evaluation' / 'rnas_cl.json'
  path.write_text('[]')
  assert command.run(jobs, str(tmp_path), 'x.py') == 1
  assert f'{path} is damaged' in caplog.text
  table = (tmp_path / 'results_x.md').read_text()
  assert '| a | — | 0 of 1 (damaged) |' in table
  assert '| b | rnas_cl | 1 |' in table


def test_a_page_that_cannot_be_written_costs_no_table(
  scripts, tmp_path, capsys
):
  jobs = _jobs([_script('a')], tmp_path)
  assert command.run(jobs, str(tmp_path), 'x.py') == 0
  (tmp_path / 'index.html').unlink()
  (tmp_path / 'index.html').mkdir()
  capsys.readouterr()
  with pytest.raises(OSError, match='index.html'):
    command.run(jobs, str(tmp_path), 'x.py')
  assert f'Saved: {tmp_path / "results_x.md"}' in capsys.readouterr().out


def test_commands_that_changed_and_fail_leave_no_finished_row(
  scripts, tmp_path
):
  _sweep([_script('a')], tmp_path)
  _sweep([_script('a', script='raise SystemExit(1)')], tmp_path)
  assert not list(tmp_path.rglob('sweep.json'))


# Saves on SIGTERM, and is done at once where it had saved.
_LONG = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def save(signum, frame):
  (folder / 'saved').touch()
  raise SystemExit(128 + signum)
signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGINT, save)
(folder / 'runs').open('a').write('x')
if not (folder / 'saved').exists():
  time.sleep(60)
"""


def _when(path: pathlib.Path, then) -> threading.Thread:
  """Does something as soon as a file is there."""

  def wait():
    end = time.monotonic() + 60
    while not path.exists() and time.monotonic() < end:
      time.sleep(0.02)
    time.sleep(0.1)
    then()

  thread = threading.Thread(target=wait)
  thread.start()
  return thread


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_passed_on_and_the_same_sweep_goes_on(
  signum, scripts, tmp_path
):
  rows = [_script('a'), _script('b', script=_LONG), _script('c')]
  before = signal.getsignal(signum)
  thread = _when(
    tmp_path / 'seed0' / 'b' / 'runs', lambda: os.kill(os.getpid(), signum)
  )
  out = io.StringIO()
  with pytest.raises(sweeps.Stopped) as stopped:
    sweeps.run(_jobs(rows, tmp_path), out)
  thread.join()
  assert stopped.value.signum == signum
  assert signal.getsignal(signum) is before
  assert (tmp_path / 'seed0' / 'b' / 'saved').exists()
  assert 'b: stopped after' in out.getvalue()
  assert not (tmp_path / 'seed0' / 'c').exists()
  assert not list(tmp_path.rglob(lock.NAME))
  states, text = _sweep(rows, tmp_path)
  assert set(states.values()) == {'finished'}
  assert 'a: finished before' in text
  assert [_runs(tmp_path, name) for name in 'abc'] == [1, 2, 1]


def test_ctrl_c_at_a_terminal_reaches_a_command_once_through_the_sweep(
  scripts, tmp_path
):
  """The terminal signals a whole group, of which commands are no part."""
  script = """
import os, pathlib, sys
(pathlib.Path(sys.argv[1]) / 'group').write_text(str(os.getpgrp()))
"""
  _sweep([_script('a', script=script)], tmp_path)
  group = int((tmp_path / 'seed0' / 'a' / 'group').read_text())
  assert group != os.getpgrp()


def test_a_row_that_another_writer_has_is_left_alone(scripts, tmp_path):
  with lock.take(tmp_path / 'seed0' / 'a'):
    states, text = _sweep([_script('a'), _script('b', 'a')], tmp_path)
  assert states == {
    (0, 'a'): 'running elsewhere',
    (0, 'b'): 'not run, needs a',
  }
  assert f'has a writer already: process {os.getpid()} ' in text
  assert _runs(tmp_path, 'a') == 0


_KILLED = """
import io, sys
from rnascl_jax import sweeps
from rnascl_jax.runtime import commands
commands.PROCESS = (sys.executable,)
job = sweeps.Job(sweeps.Row('a', sys.argv[1]), 0, sys.argv[2])
sweeps.Job.commands = [['rnascl', '-c', job.row.config, str(job.folder)]]
sweeps.run([job], io.StringIO())
"""


def test_a_row_whose_command_outlives_its_sweep_is_not_run_a_second_time(
  scripts, tmp_path
):
  """The command has its own workdir's lock as soon as it is started."""
  script = f"""
import pathlib, sys, time
from rnascl_jax.runtime import commands, lock
folder = pathlib.Path(sys.argv[1])
with lock.hold(folder):
  (folder / 'begun').touch()
  while not (folder / 'end').exists():
    time.sleep(.02)
{_COUNT}"""
  folder = tmp_path / 'seed0' / 'a'
  sweep = subprocess.Popen(
    [sys.executable, '-c', _KILLED, script, str(tmp_path)]
  )
  _when(folder / 'begun', sweep.kill).join()
  assert sweep.wait() == -signal.SIGKILL
  states, text = _sweep([_script('a', script=script)], tmp_path)
  assert states == {(0, 'a'): 'running elsewhere'}
  owner = json.loads((folder / lock.NAME).read_text())['pid']
  # It is the command that is named, not the sweep.
  assert owner != sweep.pid and f'process {owner} (-c' in text
  (folder / 'end').touch()
  end = time.monotonic() + 60
  while time.monotonic() < end:
    states, _ = _sweep([_script('a')], tmp_path)
    if states == {(0, 'a'): 'finished'}:
      break
    time.sleep(0.02)
  assert _runs(tmp_path, 'a') == 2


_OWN_SWEEP = """
from rnascl_jax import sweeps
def sweep(argument):
  taken = {'teacher.checkpoint': 'first/teacher'}
  config = f'digits:{argument or ""}'
  student = sweeps.Row('second', config, {'search.gamma': 7.0}, taken)
  changes = {'teacher.label': "the teacher's, with $HOME"}
  commands = ('teacher', 'evaluate')
  return [
    student, sweeps.Row('first', 'digits', changes, {}, commands)
  ]
"""


def test_what_is_printed_is_what_is_run(tmp_path, monkeypatch):
  config = tmp_path / 'ours.py'
  config.write_text(_OWN_SWEEP)
  monkeypatch.setattr(sys, 'argv', ['rnascl sweep'])
  planned = _jobs(sweeps.load(f'{config}:smoke'), 'R', (4, 5))
  lines = sweeps.script(planned).splitlines()
  assert lines[0] == '# seed 4' and lines[4] == '# seed 5'
  printed = [shlex.split(line) for line in lines if line[0] != '#']
  assert printed == [words for job in planned for words in job.commands]
  started = []

  def start(words, log, *rest):
    del log, rest
    started.append(words)
    return 0

  monkeypatch.setattr(runner, '_command', start)
  monkeypatch.chdir(tmp_path)
  sweeps.run(planned, io.StringIO())
  assert started == printed


def test_a_file_without_a_sweep_is_answered_with_those_that_have_one(tmp_path):
  message = r'no function sweep.*pipeline, or .*ablations/terms, '
  with pytest.raises(ValueError, match=message):
    sweeps.load('configs/digits.py')
  with pytest.raises(ValueError, match='does not exist'):
    sweeps.load(str(tmp_path / 'missing.py'))


def test_nothing_runs_where_one_row_is_wrong_and_no_device_is_started(tmp_path):
  """In a process of its own, which then imports what the command imports."""
  config = tmp_path / 'ours.py'
  config.write_text(_OWN_SWEEP.replace('search.gamma', 'search.gama'))
  script = f"""
import sys
from rnascl_jax.sweeps import command
try:
  command.main('{config}', '{tmp_path}/R', seeds=['0'])
except ValueError as error:
  print(error)
from jax._src import xla_bridge
print('started:', xla_bridge.backends_are_initialized())
"""
  done = subprocess.run(
    [sys.executable, '-c', script], capture_output=True, text=True, check=True
  )
  assert "Row 'second' cannot be run" in done.stdout
  assert "Did you mean 'gamma'" in done.stdout
  assert 'started: False' in done.stdout
  assert not (tmp_path / 'R').exists()


def _table(root, rows, states):
  seeds = sorted({seed for seed, _ in states})
  jobs = _jobs([sweeps.Row(name, 'x.py') for name in rows], root, seeds)
  return results.cells(*results.load(jobs, states))


def test_the_table_has_means_over_seeds_and_what_is_missing(tmp_path):
  for seed, shift in ((0, 0), (1, 10)):
    for row in ('a', 'b'):
      models = {'rnas_cl': tuple(n + shift for n in saved_sweep.COUNTS)}
      models['rnas_cl_eq6'] = saved_sweep.COUNTS
      saved_sweep.write_row(tmp_path, seed, row, models)
  states = {
    (0, 'a'): 'finished',
    (1, 'a'): 'finished',
    (0, 'b'): 'finished',
    # What it left behind is not counted.
    (1, 'b'): 'failed',
    (0, 'c'): 'not run, needs b',
    (1, 'c'): 'failed',
    (0, 'd'): 'finished',
    (1, 'd'): 'finished',
  }
  table = _table(tmp_path, 'abcd', states)
  assert table[0][:4] == ['Row', 'Model', 'Seeds', 'Clean']
  assert [line[0] for line in table[1:]] == ['a', 'a', 'b', 'b', 'c', 'd']
  images = saved_sweep.saved_run.IMAGES
  counts = saved_sweep.COUNTS[0]
  mean, half = 100 * (counts + 5) / images, 1000 / images / 2**0.5
  assert table[1][1:4] == ['rnas_cl', '2', f'{mean:.1f} ± {half:.1f}']
  assert table[2][1] == 'rnas_cl_eq6'
  assert table[2][3].endswith('± 0.0')
  assert table[3][2:4] == ['1 of 2 (failed)', f'{100 * counts / images:.1f}']
  dashes = ['—'] * (len(table[0]) - 3)
  assert table[5][1:] == ['—', '0 of 2 (not run, needs b; failed)', *dashes]
  assert table[6][1:] == ['—', '2', *dashes]


def test_an_attack_that_a_seed_lacks_has_no_mean(tmp_path):
  for seed in (0, 1):
    saved_sweep.write_row(tmp_path, seed, 'a', ['rnas_cl'])
  path = tmp_path / 'seed1' / 'a' / 'evaluation' / 'rnas_cl.json'
  saved = json.loads(path.read_text())
  lost = saved['attacks'].pop()
  path.write_text(json.dumps(saved))
  states = {(0, 'a'): 'finished', (1, 'a'): 'finished'}
  heading, line = _table(tmp_path, 'a', states)
  assert line[heading.index(lost['label'])] == '—'
  assert '±' in line[heading.index('Clean')]


def test_the_exit_status_is_0_where_all_is_finished(
  scripts, tmp_path, monkeypatch, capsys
):
  rows = [_script('a'), _script('b')]
  root, title = str(tmp_path), 'configs/ours.py:table=7'

  def run(rows):
    return command.run(_jobs(rows, root, (0, 1)), root, title)

  assert run(rows) == 0
  saved = (tmp_path / 'results_ours_table_7.md').read_text()
  assert saved.startswith('# configs/ours.py:table=7\n')
  assert '\n\n| Row | Model | Seeds |' in saved
  assert '| a | — | 2 |' in saved
  broken = [_script('a'), _script('b', script='raise SystemExit(1)')]
  assert run(broken) == 1
  saved = (tmp_path / 'results_ours_table_7.md').read_text()
  assert '0 of 2 (failed)' in saved

  def stopped(jobs, out):
    raise sweeps.Stopped(signal.SIGTERM)

  monkeypatch.setattr(runner, 'run', stopped)
  assert run(rows) == 128 + signal.SIGTERM
  assert 'The same command goes on.' in capsys.readouterr().out


def test_the_time_left_is_that_of_the_same_row_or_of_such_commands():
  def job(name, commands, seed=0):
    return sweeps.Job(sweeps.Row(name, 'x.py', commands=commands), seed, 'R')

  took = [
    (job('a', ('pipeline',)), 10.0),
    (job('b', ('pipeline',)), 20.0),
    (job('t', ('teacher',)), 90.0),
  ]
  assert runner._expected(job('a', ('pipeline',), 1), took) == 10
  assert runner._expected(job('c', ('pipeline',)), took) == 15
  assert runner._expected(job('d', ('search',)), took) == 40
  texts = [runner.duration(s) for s in (0.4, 99.4, 100, 5960, 9000)]
  assert texts == ['0 s', '99 s', '2 min', '99 min', '2.5 h']


@pytest.mark.slow
def test_a_table_on_digits_is_made_by_one_command_and_made_once(tmp_path):
  words = [sys.executable, '-m', 'experiments.sweep', f'--workdir={tmp_path}']
  words.append('--config=configs/ablations/terms.py:table=8,data=digits,smoke')
  first = subprocess.run(words, capture_output=True, text=True, check=True)
  assert first.stdout.count('finished in') == 3
  second = subprocess.run(words, capture_output=True, text=True, check=True)
  assert second.stdout.count('finished before, in') == 3
  table = re.compile(r'\nRow .*', re.DOTALL)
  assert table.findall(first.stdout) == table.findall(second.stdout) != []
  for row, model in (
    ('digits_small', 'rnas_cl'),
    ('digits_small', 'rnas_cl_eq6'),
    ('digits_small_layerwise_kl', 'layerwise_kl'),
    ('teacher_small', 'teacher'),
  ):
    assert (tmp_path / 'seed0' / row / 'evaluation' / f'{model}.json').exists()

"""Two processes on this machine do what one does, and go on after a break.

Tests of the runs are slow, as five processes compile what they train.
"""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from rnascl_jax.runtime import (
  files,
  lock,
  processes,
  saved_variables,
)

ROOT = pathlib.Path(__file__).parents[2]


@contextlib.contextmanager
def _started(
  folder: pathlib.Path, which: str
) -> Iterator[list[subprocess.Popen]]:
  """Two processes, or that of `one`, which do not outlive the block.

  They have XLA's usual emitters: with those of other tests, one process and
  two do not round alike.
  """
  count = 1 if which == 'one' else 2
  with socket.socket() as probe:
    probe.bind(('localhost', 0))
    port = probe.getsockname()[1]
  flags = f'--xla_force_host_platform_device_count={2 // count}'
  command = [sys.executable, '-m', 'tests.two_processes', str(port)]
  with contextlib.ExitStack() as stack:
    started = []
    for index in range(count):
      log = stack.enter_context(open(folder / f'{which}-{index}.log', 'w'))
      process = stack.enter_context(
        subprocess.Popen(
          [*command, str(index), folder, which],
          cwd=ROOT,
          env=os.environ | {'XLA_FLAGS': flags},
          stderr=log,
        )
      )
      started.append(process)
      stack.callback(process.kill)
    yield started


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> pathlib.Path:
  """Runs of two processes, and the same of one with two devices."""
  place = tmp_path_factory.mktemp('processes')
  with _started(place, 'first') as (_, second):
    # It is killed; the first one would wait for its heartbeat.
    code = second.wait(400)
  assert code == -signal.SIGKILL, (place / 'first-1.log').read_text()
  with _started(place, 'second') as resumed, _started(place, 'one') as one:
    codes = [process.wait(400) for process in (*resumed, *one)]
  assert codes == [0, 0, 0], (place / 'second-0.log').read_text()
  return place


def _trained(workdir: pathlib.Path) -> list[np.ndarray]:
  variables, _ = saved_variables.load(workdir / 'teacher' / 'model')
  return jax.tree.leaves(variables)


def _metrics(workdir: pathlib.Path) -> list[dict]:
  return files.read_json_lines(workdir / 'teacher' / 'metrics.jsonl')


def _assert_same_bits(first: pathlib.Path, second: pathlib.Path) -> None:
  for left, right in zip(_trained(first), _trained(second), strict=True):
    np.testing.assert_array_equal(left, right)
  assert _metrics(first) == _metrics(second)


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_same_number_of_devices(folder):
  for one, two in zip(
    _trained(folder / 'one'), _trained(folder / 'whole'), strict=True
  ):
    np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-5)
  one, two = _metrics(folder / 'one'), _metrics(folder / 'whole')
  assert len(one) == len(two) == 6
  for left, right in zip(one, two, strict=True):
    assert left.keys() == right.keys()
    for name, value in left.items():
      assert right[name] == pytest.approx(value, abs=1e-5)
  record = files.read_json(folder / 'whole' / 'provenance.json')
  assert record['processes'] == 2 and record['devices'][0]['count'] == 2


@pytest.mark.slow
def test_two_processes_evaluate_every_image_once_as_one_does(folder):
  names = [f'evaluation/teacher.{kind}' for kind in ('json', 'npz')]
  one, two = (
    files.read_json(folder / run / names[0])['attacks']
    for run in ('one', 'whole')
  )
  assert [a['attack'] for a in two] == ['clean', 'fgsm', 'autoattack']
  assert [a['images'] for a in two] == [40, 40, 32]
  assert [a['correct'] for a in one] == [a['correct'] for a in two]
  with np.load(folder / 'one' / names[1]) as one:
    with np.load(folder / 'whole' / names[1]) as two:
      assert sorted(one) == sorted(two)
      for name in one:
        np.testing.assert_array_equal(one[name], two[name])


@pytest.mark.slow
def test_a_killed_run_of_two_goes_on_to_the_same_bits(folder):
  assert not (folder / 'killed-1.txt').exists()
  log = (folder / 'first-1.log').read_text()
  assert 'Traceback' not in log, log
  _assert_same_bits(folder / 'whole', folder / 'killed')


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_at_one_step(folder):
  for index in range(2):
    found = (folder / f'stopped-{index}.txt').read_text()
    assert found == 'Interrupted: 143'


@pytest.mark.slow
def test_one_process_goes_on_where_two_were_stopped(folder):
  _assert_same_bits(folder / 'one', folder / 'stopped')


@pytest.mark.slow
def test_processes_with_different_configs_are_refused(folder):
  for index in range(2):
    found = (folder / f'disagree-{index}.txt').read_text()
    assert 'config.seed=0 (process 0); config.seed=1 (process 1)' in found
  assert not (folder / 'disagree').exists()


@pytest.mark.slow
def test_a_workdir_that_has_a_writer_is_refused_in_all_processes(folder):
  first, second = (
    (folder / f'held-{index}.txt').read_text() for index in range(2)
  )
  assert first.startswith('HeldError: ') and 'has a writer already' in first
  assert second.startswith('OtherProcessError: 1 of 2 processes cannot go on')
  assert first.removeprefix('HeldError: ') in second
  assert os.listdir(folder / 'held') == [lock.NAME]


@pytest.mark.slow
def test_what_fails_in_one_process_fails_in_all_of_them(folder):
  found = (folder / 'invalid-1.txt').read_text()
  assert found.startswith('ValueError: config.seed=-1 must be at least 0')
  other = (folder / 'invalid-0.txt').read_text()
  assert 'OtherProcessError: 1 of 2 processes cannot go on; process 1' in other
  assert 'config.seed=-1' in other


@pytest.mark.slow
def test_a_process_without_data_stops_all_with_its_message(folder):
  assert (folder / 'data-1.txt').read_text() == (
    'FileNotFoundError: no data here'
  )
  assert 'process 1: no data here' in (folder / 'data-0.txt').read_text()
  assert (folder / 'taught' / 'config.json').exists()


@pytest.mark.slow
def test_a_process_that_does_not_see_the_workdir_is_told_so(folder):
  found = (folder / 'apart-1.txt').read_text()
  assert 'process 1 of 2 does not see what process 0 writes' in found
  assert 'file system that all hosts share' in found
  assert 'OtherProcessError' in (folder / 'apart-0.txt').read_text()
  # Nothing is left of the check.
  assert sorted(p.name for p in (folder / 'apart-0' / 'run').iterdir()) == [
    'config.json'
  ]


@pytest.mark.slow
def test_processes_share_what_they_are_to_share_and_nothing_else(folder):
  for index in range(2):
    told = files.read_json(folder / f'told-{index}.json')
    assert told['alone'] == (np.arange(4) + 10 * index).tolist()
    assert told['every'] == [0, 1, 2, 3]
    assert told['from_main'] == {'main': True}
    assert told['texts'] == ['process 0', 'process 1']


def test_one_process_needs_no_other():
  assert processes.together(str, 3) == '3'
  assert processes.texts('a') == ['a']
  assert processes.from_main({'a': 1}) == {'a': 1}
  with pytest.raises(ZeroDivisionError):
    processes.on_main(lambda: 1 / 0)


@pytest.mark.parametrize(
  'given, message',
  (
    ({'num_processes': 2}, 'without the address'),
    ({'process_id': 0}, 'without the address'),
    ({'coordinator': 'here'}, 'host:port'),
    (
      {'coordinator': 'a:1', 'num_processes': 2, 'process_id': 2},
      r'process_id=2 must lie in \[0, num_processes\), which is 2',
    ),
  ),
)
def test_addresses_that_do_not_fit_together_are_refused(given, message):
  with pytest.raises(ValueError, match=message):
    processes.connect(**given)

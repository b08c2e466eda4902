"""SIGINT and SIGTERM, from the first moment of a command to its last."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

from rnascl_jax.runtime import signals

_ROOT = pathlib.Path(__file__).parents[2]
_COMMANDS = sorted(
  path.stem
  for path in (_ROOT / 'experiments').glob('*.py')
  if path.stem != '__init__'
)
# Stands for a package that a command imports; it says what an ASCII pipe
# cannot show, and what a destructor raises is dropped by Python.
_PACKAGE = """
import os, signal, sys, time

class Dropped:
  def __del__(self):
    os.kill(os.getpid(), signal.{signum})

print('L∞', flush=True)
print('± ε', file=sys.stderr, flush=True)
Dropped()
time.sleep(2)  # Another thread may get the signal, a moment later.
print('went on', flush=True)
"""


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_packages_are_imported_ends_every_command(
  signum, tmp_path
):
  for name in ('absl', 'jax'):
    text = _PACKAGE.format(signum=signum.name)
    (tmp_path / f'{name}.py').write_text(text, encoding='utf-8')
  started = {
    command: subprocess.Popen(
      [sys.executable, '-m', f'experiments.{command}'],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      cwd=_ROOT,
      env={
        **os.environ,
        'PYTHONPATH': f'{tmp_path}:{_ROOT}',
        'PYTHONIOENCODING': 'ascii:strict',
      },
    )
    for command in _COMMANDS
  }
  for command, process in started.items():
    out, err = process.communicate()
    assert process.returncode == 128 + signum, (command, err)
    assert out.split() == [b'Linf']
    assert err.decode('ascii').splitlines() == [
      '+/- eps',
      f'Stopped by {signum.name}; the same command goes on.',
    ]


# The main thread cannot run a handler while it computes in C.
_BUSY = """
import contextlib, hashlib, os, signal, sys, threading
from rnascl_jax.runtime import signals

signals.install()
stage, *numbers = sys.argv[1:]

def send():
  for number in numbers:
    os.kill(os.getpid(), int(number))

with signals.stop_on_signal() if stage == 'stage' else contextlib.nullcontext():
  threading.Timer(0.1, send).start()
  hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)
"""


@pytest.mark.parametrize(
  'words',
  [('start', signal.SIGTERM), ('stage', signal.SIGTERM, signal.SIGINT)],
)
def test_the_signal_that_stops_at_once_does_so_while_c_code_runs(words):
  done = subprocess.run(
    [sys.executable, '-c', _BUSY, words[0], *(str(int(n)) for n in words[1:])],
    cwd=_ROOT,
    capture_output=True,
    timeout=30,
  )
  # Of two at a time, either is the second.
  assert done.returncode - 128 in words[1:], done.stderr
  assert done.stderr.count(b'Stopped by ') == 1


# A signal from two senders, then, where it is asked for, another one later.
_TWICE = """
import os, signal, sys, time
from rnascl_jax.runtime import signals

if 'install' in sys.argv:
  signals.install()
with signals.stop_on_signal() as stop:
  for _ in range(2):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.3)
  if 'later' in sys.argv:
    signals.time.monotonic = lambda: time.perf_counter() + 1e9
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)
  print(stop.signum)
"""


@pytest.mark.parametrize('words', [[], ['install']])
def test_a_signal_that_two_senders_send_at_once_is_one_request(words):
  done = subprocess.run(
    [sys.executable, '-c', _TWICE, *words], cwd=_ROOT, capture_output=True
  )
  assert done.returncode == 128 + signal.SIGTERM, done.stderr
  assert int(done.stdout) == signal.SIGTERM
  assert b'Stopped by' not in done.stderr


@pytest.mark.parametrize('words', [[], ['install']])
def test_a_later_signal_is_a_second_one(words):
  done = subprocess.run(
    [sys.executable, '-c', _TWICE, *words, 'later'],
    cwd=_ROOT,
    capture_output=True,
  )
  assert done.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)
  assert not done.stdout


@pytest.mark.parametrize('signum', signals.SIGNALS)
def test_a_signal_after_a_stage_has_last_asked_for_one_is_not_lost(signum):
  before = signal.getsignal(signum)
  with pytest.raises(signals.Interrupted) as stopped:
    with signals.stop_on_signal() as stop:
      assert stop.signum is None
      os.kill(os.getpid(), signum)
      assert stop.signum == signum
  assert stopped.value.code == 128 + signum
  assert signal.getsignal(signum) is before


def test_a_program_that_imports_a_command_keeps_its_handlers():
  from experiments import pipeline

  assert pipeline.launcher.FLAGS
  # A program in the background of a script ignores SIGINT from the start.
  assert signal.getsignal(signal.SIGINT) in (
    signal.default_int_handler,
    signal.SIG_IGN,
  )
  assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

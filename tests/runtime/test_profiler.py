"""Tests of rnascl_jax.runtime.profiler."""

import jax
import pytest

from rnascl_jax.runtime import processes, profiler
from rnascl_jax.stages import run as runs
from tests import tiny


@pytest.fixture
def calls(monkeypatch):
  """What JAX's profiler is asked."""
  asked = []
  monkeypatch.setattr(
    jax.profiler, 'start_trace', lambda *a, **options: asked.append('start')
  )
  monkeypatch.setattr(jax.profiler, 'stop_trace', lambda: asked.append('stop'))
  return asked


def _stage(folder, steps, first, programs, calls):
  """Runs programs of some steps each from a first step on."""
  with profiler.Profiler(steps, folder) as trace:
    for count in programs:
      trace.begin(first, count, {})
      calls.append(range(first, first + count))
      first += count
      trace.end(first, {})


@pytest.mark.parametrize(
  ('first', 'programs', 'traced'),
  [
    (0, 10 * [1], [range(5, 6), range(6, 7)]),
    (0, 3 * [4], [range(4, 8)]),
    (0, 2 * [6], [range(0, 6), range(6, 12)]),
    (6, 4 * [1], [range(6, 7)]),
    (7, 3 * [1], None),
    (0, 5 * [1], None),
    (0, 6 * [1], [range(5, 6)]),
  ],
)
def test_all_programs_with_one_of_the_steps_are_traced(
  first, programs, traced, tmp_path, calls
):
  _stage(tmp_path, range(5, 7), first, programs, calls)

  if traced is None:
    assert 'start' not in calls and 'stop' not in calls
  else:
    assert calls.count('start') == calls.count('stop') == 1
    assert calls[calls.index('start') + 1 : calls.index('stop')] == traced


def test_a_trace_that_cannot_be_made_is_told_once_and_ends_no_run(
  tmp_path, calls, monkeypatch, caplog
):
  def fail(*arguments, **options):
    raise RuntimeError('another trace is being made')

  monkeypatch.setattr(jax.profiler, 'start_trace', fail)

  _stage(tmp_path, range(5, 7), 0, 10 * [1], calls)

  assert 'stop' not in calls
  (record,) = caplog.records
  assert 'another trace is being made. The run goes on' in record.getMessage()


def test_an_interrupted_stage_ends_its_trace(tmp_path, calls):
  with pytest.raises(KeyboardInterrupt):
    with profiler.Profiler(range(5, 7), tmp_path) as trace:
      trace.begin(5, 1, {})
      raise KeyboardInterrupt

  assert calls == ['start', 'stop']


def test_only_the_main_process_traces(tmp_path, calls, monkeypatch):
  monkeypatch.setattr(processes, 'is_main', lambda: False)

  _stage(tmp_path, range(5, 7), 0, 10 * [1], calls)

  assert 'start' not in calls


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('5', r'=5 must be a:b with 0 <= a < b, such as 100:110'),
    ('5:5', r'=5:5 must be a:b'),
    ('-1:5', r'=-1:5 must be a:b'),
    ('a:b', r'=a:b must be a:b'),
    ('0:2000', r'=0:2000 are 2,000 steps, of at most 1,000.*take fewer'),
    # Three epochs of four steps.
    ('10:13', r'=10:13 must end at 12 or before.*Take 2:12'),
  ],
)
def test_steps_that_cannot_be_traced_are_refused_before_anything(
  text, message, tmp_path
):
  folder = tmp_path / 'run'
  with pytest.raises(ValueError, match=f'--profile_steps{message}'):
    with runs.open_run(tiny.config(), str(folder), profile_steps=text):
      pass
  assert not folder.exists()


def test_without_the_flag_nothing_is_traced(tmp_path, calls):
  assert profiler.parse('') is None

  _stage(tmp_path, None, 0, 10 * [1], calls)

  assert 'start' not in calls

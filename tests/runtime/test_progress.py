"""Tests of rnascl_jax.runtime.progress."""

import io

import pytest

from rnascl_jax.runtime import progress


class _Terminal(io.StringIO):
  def isatty(self):
    return True


class _Clock:
  def __init__(self):
    self.now = 100.0

  def __call__(self):
    return self.now


def _run(updates, total=1000, **kwargs):
  """Lines printed by updates of (seconds since the last, done, metrics)."""
  stream, clock = io.StringIO(), _Clock()
  with progress.Progress(total, stream=stream, clock=clock, **kwargs) as bar:
    for seconds, done, metrics in updates:
      clock.now += seconds
      bar.update(done, metrics)
  return stream.getvalue().splitlines()


def test_a_line_comes_at_most_every_ten_seconds_and_at_the_end():
  updates = [(1.0, done, None) for done in range(1, 36)]
  lines = _run(updates, total=35)
  done = [line.split('/')[0] for line in lines]
  assert done == ['10', '20', '30', '35']


def test_rate_and_time_left_leave_out_the_steps_that_were_compiled():
  # 60 s for the first 10 steps, then 2 steps a second.
  lines = _run([(60, 10, None), (45, 100, None)], description='search')
  assert lines[1] == 'search 100/1000 (10 %), 2 steps/s, 07:30 left'


def test_no_time_left_is_told_from_the_steps_that_were_compiled():
  lines = _run([(30, 1, None), (10, 11, None)], total=31)
  assert lines[0] == '1/31 (3 %)'
  assert lines[1] == '11/31 (35 %), 1 steps/s, 00:20 left'


def test_steps_of_an_earlier_run_do_not_count_as_fast_ones():
  lines = _run([(5, 510, None), (20, 530, None)], initial=500)
  assert lines == ['530/1000 (53 %), 1 steps/s, 07:50 left']


def test_the_last_metrics_stay_until_there_are_newer_ones():
  lines = _run([(10, 1, {'loss': 1.23456, 'n': 2}), (10, 2, None)], total=9)
  assert [line.split(' | ')[1] for line in lines] == ['loss=1.235 n=2'] * 2


def test_a_line_says_no_more_than_is_known():
  one_update = _run([(2, 8, None)], total=8, unit='images')
  assert one_update == ['8/8 (100 %), 4 images/s']
  assert _run([]) == []
  assert _run([(100, 500, None)], initial=500) == ['500/1000 (50 %)']


def test_an_interrupted_stage_shows_where_it_stopped():
  stream = io.StringIO()
  with (
    pytest.raises(KeyboardInterrupt),
    progress.Progress(10, stream=stream, clock=_Clock()) as bar,
  ):
    bar.update(3)
    raise KeyboardInterrupt
  assert stream.getvalue() == '3/10 (30 %)\n'


def test_a_terminal_gets_a_bar():
  stream = _Terminal()
  with progress.Progress(
    10, initial=2, description='train', stream=stream
  ) as bar:
    bar.update(6, {'loss': 0.5})
    bar.update(10, {'loss': 0.25})
  for part in ('\r', 'train', '10/10', 'loss=0.25'):
    assert part in stream.getvalue()


@pytest.mark.parametrize('stream_type', [io.StringIO, _Terminal])
def test_other_processes_are_silent(stream_type):
  stream, clock = stream_type(), _Clock()
  with progress.Progress(
    10, stream=stream, is_main_process=False, clock=clock
  ) as bar:
    clock.now += 100
    bar.update(10, {'loss': 1.0})
  assert stream.getvalue() == ''

"""Tests of rnascl_jax.runtime.metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax.runtime import files, metrics


@pytest.mark.parametrize('lift', [jax.jit, lambda function: function])
def test_masked_means_are_those_of_the_examples_that_count(lift):
  rng = np.random.default_rng(0)
  loss = rng.normal(size=23).astype(np.float32)
  right = rng.integers(0, 2, 23).astype(bool)
  total = None
  step = lift(metrics.masked_sums)
  for start in range(0, 23, 5):
    size = min(5, 23 - start)
    # The padding is NaN: it must not even be multiplied by zero.
    values = np.full(5, np.nan, np.float32)
    values[:size] = loss[start : start + size]
    hits = np.ones(5, bool)
    hits[:size] = right[start : start + size]
    sums = step({'loss': values, 'accuracy': hits}, np.arange(5) < size)
    total = sums if total is None else metrics.add(total, sums)
  result = metrics.means(total)
  assert result['accuracy'] == right.mean()
  # Float32 sums of 23 numbers of order one.
  np.testing.assert_allclose(result['loss'], loss.mean(dtype=float), atol=1e-6)
  assert set(result) == {'loss', 'accuracy'}


@pytest.mark.parametrize(
  'dtype, expected',
  [
    (jnp.bfloat16, jnp.float32),
    (jnp.float32, jnp.float32),
    (jnp.float64, jnp.float64),
    (jnp.bool_, jnp.int32),
    (jnp.uint8, jnp.int32),
  ],
)
def test_narrow_values_are_summed_wide(dtype, expected):
  with jax.enable_x64(dtype == jnp.float64):
    values = {'x': jnp.ones(1000, dtype)}
    sums = metrics.masked_sums(values, jnp.ones(1000, bool))
  assert sums['x'].dtype == expected
  assert metrics.means(sums) == {'x': 1.0}


def test_misuse_of_sums_is_refused():
  mask = jnp.zeros(2, bool)
  with pytest.raises(ValueError, match="'count'"):
    metrics.masked_sums({'count': jnp.ones(2)}, mask)
  with pytest.raises(AssertionError):
    metrics.masked_sums({'x': jnp.ones((2, 1))}, mask)
  sums = metrics.masked_sums({'x': jnp.ones(2)}, mask)
  with pytest.raises(ValueError, match=r"no example was counted for \['x'\]"):
    metrics.means(sums)
  with pytest.raises(ValueError, match='cannot add'):
    metrics.add(sums, {'count': sums['count']})


def test_accuracy_is_one_where_the_label_has_the_largest_logit():
  """With NaN among the logits it is zero, whatever the label."""
  logits = jnp.array([[1.0, 2.0, 0.0], [3.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
  result = metrics.accuracy(logits, jnp.array([1, 1, 0]))
  assert result.dtype == jnp.float32
  assert result.tolist() == [1.0, 0.0, 1.0]
  broken = jnp.array(3 * [[0.0, jnp.nan, 0.0]] + 3 * [3 * [jnp.nan]])
  assert not metrics.accuracy(broken, jnp.arange(6) % 3).any()


def _events(folder):
  """Scalars (tag, step, value) as TensorBoard shows them, by time."""
  from tensorboardX.proto import event_pb2

  shown = []
  for path in sorted(
    folder.glob('events*'), key=lambda p: p.stat().st_mtime_ns
  ):
    data = path.read_bytes()
    header, offset = 12, 0  # Length and its checksum; a checksum at the end.
    while offset < len(data):
      size = int.from_bytes(data[offset : offset + 8], 'little')
      start = offset + header
      event = event_pb2.Event.FromString(data[start : start + size])
      offset = start + size + 4
      if event.HasField('session_log'):
        shown = [s for s in shown if s[1] < event.step]
      for value in event.summary.value:
        shown.append((value.tag, event.step, value.simple_value))
  return shown


def test_records_go_to_both_files(tmp_path):
  with metrics.open_writer(tmp_path / 'x', last_step=None) as writer:
    writer.write(
      np.int32(10),
      {'loss': jnp.float32(0.5), 'epoch': 1, 'a': 'text'},
      split='train',
    )
    writer.write(20, {'loss': float('inf'), 'per_class': [0.0, 1.0]})
  assert files.read_json_lines(tmp_path / 'x' / 'metrics.jsonl') == [
    {'step': 10, 'split': 'train', 'loss': 0.5, 'epoch': 1, 'a': 'text'},
    {'step': 20, 'loss': float('inf'), 'per_class': [0.0, 1.0]},
  ]
  assert _events(tmp_path / 'x') == [
    ('train/loss', 10, 0.5),
    ('train/epoch', 10, 1.0),
  ]


def test_a_resumed_run_leaves_what_an_uninterrupted_one_does(tmp_path):
  def run(folder, last_step, steps):
    with metrics.open_writer(folder, last_step=last_step) as writer:
      for step in steps:
        writer.write(step, {'loss': float(step)}, split='train')

  run(tmp_path / 'whole', None, range(6))
  run(tmp_path / 'resumed', None, range(4))
  # Names of event files have a resolution of a second.
  for path in (tmp_path / 'resumed').glob('events*'):
    path.rename(path.with_name(path.name + '.1'))
  run(tmp_path / 'resumed', 1, range(2, 6))
  whole, resumed = (
    (tmp_path / name / 'metrics.jsonl').read_bytes()
    for name in ('whole', 'resumed')
  )
  assert resumed == whole
  assert _events(tmp_path / 'resumed') == _events(tmp_path / 'whole')


def test_a_run_from_the_start_drops_everything_of_a_killed_one(tmp_path):
  """Events are written where they are wanted, by the main process alone."""

  def run(**options):
    with metrics.open_writer(tmp_path, last_step=None, **options) as writer:
      writer.write(0, {'loss': 1.0})

  run(is_main_process=False)
  assert not list(tmp_path.iterdir())
  for _ in range(2):
    run(words=())
  (line,) = files.read_json_lines(tmp_path / 'metrics.jsonl')
  assert line == {'step': 0, 'loss': 1.0}
  assert not list(tmp_path.glob('events*'))

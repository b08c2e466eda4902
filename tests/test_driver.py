"""The driver: what happens when a run breaks off, and when numbers break."""

import json
import os
import pathlib
import signal

import jax
import numpy as np
import pytest

from rnascl_jax import (
  checkpoints,
  checks,
  driver,
  files,
  interrupts,
  loops,
  named_arrays,
  resolve,
)
from tests import tiny


def _arrays(folder: pathlib.Path):
  """Everything in the last checkpoint of a stage, and its JSON."""
  with checkpoints.Checkpoints(folder / 'checkpoints', read_only=True) as saved:
    found = saved._read(saved.last_step())
  return named_arrays.from_state(found[-2]), found[-1]


def _assert_same_bits(one: pathlib.Path, two: pathlib.Path):
  (first, one_extra), (second, two_extra) = _arrays(one), _arrays(two)
  assert first.keys() == second.keys()
  for name, array in first.items():
    assert array.tobytes() == second[name].tobytes(), name
  assert one_extra['sums'] == two_extra['sums']
  logs = [(p / 'metrics.jsonl').read_text() for p in (one, two)]
  assert logs[0] == logs[1]


def _with_teacher(
  tiny_run: pathlib.Path,
  folder: pathlib.Path,
  *,
  steps_per_dispatch: int = 0,
  bfloat16: str = 'accelerators',
):
  """A config of a workdir that uses the complete run's teacher."""
  config = tiny.config()
  config.steps_per_dispatch = steps_per_dispatch
  config.teacher.network.bfloat16 = bfloat16
  config.teacher.checkpoint = str(tiny_run / 'teacher')
  loops.teacher(config, str(folder))
  return config


@pytest.mark.parametrize('after_steps', [1, 4, 9, 12])
def test_search_killed_by_sigterm_goes_on_to_the_same_bits(
  tiny_run, tmp_path, monkeypatch, after_steps
):
  """128 images in batches of 32: four steps an epoch, twelve in all."""
  config = _with_teacher(tiny_run, tmp_path)
  collect = driver._Runner._collect

  def collect_and_stop(self, queue):
    collect(self, queue)
    if self._at.step == after_steps:
      os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(driver._Runner, '_collect', collect_and_stop)
    with pytest.raises(interrupts.Interrupted) as stopped:
      loops.search(config, str(tmp_path))
  assert stopped.value.code == 128 + signal.SIGTERM
  assert not (tmp_path / 'search' / 'stage.json').exists()
  loops.search(config, str(tmp_path))
  _assert_same_bits(tmp_path / 'search', tiny_run / 'search')
  histories = [np.load(p / 'search/history.npz') for p in (tmp_path, tiny_run)]
  for name in histories[1]:
    np.testing.assert_array_equal(histories[0][name], histories[1][name])


def test_search_that_dies_after_a_checkpoint_goes_on_to_the_same_bits(
  tiny_run, tmp_path, monkeypatch
):
  config = _with_teacher(tiny_run, tmp_path)
  finish = driver._Runner._finish_epoch

  def die_in_the_last_epoch(self, done):
    if done == 3:
      raise KeyboardInterrupt
    finish(self, done)

  with monkeypatch.context() as patch:
    patch.setattr(driver._Runner, '_finish_epoch', die_in_the_last_epoch)
    with pytest.raises(KeyboardInterrupt):
      loops.search(config, str(tmp_path))
  loops.search(config, str(tmp_path))
  _assert_same_bits(tmp_path / 'search', tiny_run / 'search')


def test_a_second_run_of_the_same_config_has_the_same_bits(tiny_run, tmp_path):
  loops.teacher(tiny.config(), str(tmp_path))
  _assert_same_bits(tmp_path / 'teacher', tiny_run / 'teacher')


def test_another_seed_has_other_weights(tiny_run, tmp_path):
  config = tiny.config()
  config.seed = 1
  loops.teacher(config, str(tmp_path))
  name = ('params', 'conv1', 'kernel')
  one = _arrays(tmp_path / 'teacher')[0][name]
  assert np.abs(one - _arrays(tiny_run / 'teacher')[0][name]).max() > 0.01


def test_a_complete_stage_is_not_run_again(tiny_run, monkeypatch):
  def fail(*arguments):
    raise AssertionError('a complete stage was run')

  monkeypatch.setattr(driver, 'run', fail)
  loops.teacher(tiny.config(), str(tiny_run))
  loops.search(tiny.config(), str(tiny_run))
  loops.train(tiny.config(), str(tiny_run))


def test_a_non_finite_loss_says_where_and_names_the_last_good_checkpoint(
  tmp_path,
):
  config = tiny.config()
  config.teacher.regime.name = 'standard'
  # Harmless in the first two epochs; then NaN within a step or two.
  config.teacher.optimization.schedule = 'piecewise'
  config.teacher.optimization.milestones = ()
  config.teacher.optimization.epochs = 4
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(resolve, 'optimizer', _explodes_after(8))
    with pytest.raises(driver.NonFiniteLossError) as error:
      loops.teacher(config, str(tmp_path))
  message = str(error.value)
  assert 'teacher, step 9 (epoch 2)' in message
  assert str(tmp_path / 'teacher' / 'checkpoints' / '8') in message
  lines = files.read_json_lines(tmp_path / 'teacher' / 'metrics.jsonl')
  assert all(np.isfinite(line['loss']) for line in lines)
  assert not (tmp_path / 'teacher' / 'stage.json').exists()


def _explodes_after(steps: int):
  import optax

  def optimizer(spec, steps_per_epoch):
    del spec, steps_per_epoch
    return optax.sgd(lambda step: jax.numpy.where(step < steps, 0.01, 1e38))

  return optimizer


def test_metrics_have_one_line_an_epoch_and_valid_json(tiny_run):
  lines = files.read_json_lines(tiny_run / 'search' / 'metrics.jsonl')
  assert [line['step'] for line in lines] == [4, 8, 12]
  for line in lines:
    json.dumps(line, allow_nan=False)
    assert line['split'] == 'train'
    assert {'temperature', 'tutor_entropy', 'macs', 'kl'} <= line.keys()
  assert lines[0]['temperature'] == pytest.approx(5.0)
  assert lines[2]['temperature'] == pytest.approx(5 * np.exp(-0.09))
  lines = files.read_json_lines(tiny_run / 'teacher' / 'metrics.jsonl')
  where = [(line['epoch'], line['split']) for line in lines]
  assert where == [
    (1, 'train'),
    (2, 'train'),
    (2, 'validation'),
    (3, 'train'),
    (3, 'validation'),
  ]
  assert all(
    0 <= line['adversarial_accuracy'] <= line['accuracy'] <= 1
    for line in lines
    if line['split'] == 'validation'
  )


def test_events_for_tensorboard_are_written(tiny_run):
  assert list((tiny_run / 'search').glob('events.out.tfevents.*'))


@pytest.mark.parametrize(
  ('batch', 'share', 'devices', 'expected'),
  [
    (128, 0.2, 1, (102, 26)),
    (256, 0.2, 1, (205, 51)),
    (128, 0.2, 8, (104, 24)),
    (130, 0.2, 4, (104, 24)),
  ],
)
def test_batches_split_80_to_20_in_multiples_of_the_devices(
  batch, share, devices, expected
):
  assert checks.split_batch(batch, share, devices) == expected


@pytest.mark.parametrize(('batch', 'share'), [(4, 0.05), (4, 1.0)])
def test_a_split_without_images_for_one_part_is_refused(batch, share):
  with pytest.raises(ValueError, match='both need at least'):
    checks.split_batch(batch, share, 2)


def test_a_stage_on_two_devices_does_what_it_does_on_one(tiny_run, tmp_path):
  """To rounding, which adversarial training blows up after some steps."""
  config = tiny.config()
  config.devices = 2
  loops.teacher(config, str(tmp_path))
  one, two = (
    files.read_json_lines(folder / 'teacher' / 'metrics.jsonl')
    for folder in (tiny_run, tmp_path)
  )
  assert [line['step'] for line in one] == [line['step'] for line in two]
  assert one[0]['loss'] == pytest.approx(two[0]['loss'], rel=1e-4)


def _first_losses(folder: pathlib.Path) -> tuple[float, float]:
  line = files.read_json_lines(folder / 'search' / 'metrics.jsonl')[0]
  return line['loss'], line['arch_loss']


def test_several_steps_in_a_dispatch_train_the_same_network(tiny_run, tmp_path):
  """Four steps an epoch as three and one; to rounding."""
  config = _with_teacher(tiny_run, tmp_path, steps_per_dispatch=3)
  loops.search(config, str(tmp_path))
  lines = files.read_json_lines(tmp_path / 'search' / 'metrics.jsonl')
  assert [line['step'] for line in lines] == [4, 8, 12]
  expected = _first_losses(tiny_run)
  assert _first_losses(tmp_path) == pytest.approx(expected, rel=1e-4)


def test_a_teacher_that_guides_in_bfloat16_guides_nearly_the_same(
  tiny_run, tmp_path
):
  config = _with_teacher(tiny_run, tmp_path, bfloat16='always')
  loops.search(config, str(tmp_path))
  expected = _first_losses(tiny_run)
  found = _first_losses(tmp_path)
  assert found == pytest.approx(expected, rel=0.02)
  assert found != expected

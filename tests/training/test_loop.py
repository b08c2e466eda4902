"""The loop: what happens when a run breaks off, and when numbers break."""

import contextlib
import dataclasses
import gzip
import json
import os
import pathlib
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

import rnascl_jax
from rnascl_jax import losses, stages
from rnascl_jax.config import checks, resolve, settings
from rnascl_jax.data.datasets import Split
from rnascl_jax.evaluation import under_attack
from rnascl_jax.runtime import (
  checkpoints,
  files,
  named_arrays,
  parallel,
  saved_variables,
  signals,
  sinks,
)
from rnascl_jax.stages import run as runs
from rnascl_jax.stages import searches
from rnascl_jax.training import (
  averaging,
  loader,
  loop,
  statistics,
  train_state,
)
from tests import tiny, tiny_imagenet

_SLOW = pytest.mark.slow


def _slow(*values):
  """One of several alike, for a run of all tests."""
  return pytest.param(*values, marks=_SLOW)


def _arrays(folder: pathlib.Path):
  """Everything in the last checkpoint of a stage, and its JSON."""
  with checkpoints.Checkpoints(folder / 'checkpoints', read_only=True) as saved:
    found = saved.read(saved.last_step())
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
  stages.teacher(config, str(folder))
  return config


@contextlib.contextmanager
def _sigterm(after_steps: int):
  """Sends the process SIGTERM when so many steps are done."""
  collect = loop._Record.collect

  def collect_and_stop(self, *dispatch):
    collect(self, *dispatch)
    if self.step == after_steps:
      os.kill(os.getpid(), signal.SIGTERM)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop._Record, 'collect', collect_and_stop)
    yield


@pytest.mark.parametrize('after_steps', [_slow(1), _slow(4), 9, _slow(12)])
def test_search_killed_by_sigterm_goes_on_to_the_same_bits(
  tiny_run, tmp_path, after_steps
):
  """128 images in batches of 32: four steps an epoch, twelve in all."""
  config = _with_teacher(tiny_run, tmp_path)
  with _sigterm(after_steps):
    with pytest.raises(signals.Interrupted) as stopped:
      stages.search(config, str(tmp_path))
  assert stopped.value.code == 128 + signal.SIGTERM
  assert not (tmp_path / 'search' / 'stage.json').exists()
  stages.search(config, str(tmp_path))
  _assert_same_bits(tmp_path / 'search', tiny_run / 'search')
  histories = [np.load(p / 'search/history.npz') for p in (tmp_path, tiny_run)]
  for name in histories[1]:
    np.testing.assert_array_equal(histories[0][name], histories[1][name])


def test_sinks_and_a_trace_change_no_bit(tiny_run, tmp_path, monkeypatch):
  """Also where the search is killed between the steps that are traced."""
  records = {}

  class Sink:
    def __init__(self, folder, facts, *, name, last_step):
      self.name = name or 'run of search'
      assert (facts.run, facts.stage) == (tmp_path.name, 'search')
      assert facts.config['search.optimization.epochs'] == 3

    def write(self, record):
      records.setdefault(self.name, []).append(record)

    def close(self):
      pass

  monkeypatch.setitem(sinks.SINKS, 'own', Sink)
  config = _with_teacher(tiny_run, tmp_path)
  observed = {'sinks': ['own'], 'profile_steps': '5:7'}
  with _sigterm(9), pytest.raises(signals.Interrupted):
    with runs.open_run(config, str(tmp_path), **observed) as run:
      searches.search(run)
  with runs.open_run(config, str(tmp_path), **observed) as run:
    searches.search(run)

  _assert_same_bits(tmp_path / 'search', tiny_run / 'search')
  lines = files.read_json_lines(tmp_path / 'search' / 'metrics.jsonl')
  assert records == {'run of search': lines}
  (trace,) = tmp_path.glob('search/profile/plugins/profile/*/perfetto*.json.gz')
  events = json.loads(gzip.decompress(trace.read_bytes()))['traceEvents']
  steps = [
    event['args']['step_num']
    for event in events
    if event.get('name') == 'train' and 'step_num' in event.get('args', {})
  ]
  assert sorted(map(int, steps)) == [5, 6]


def test_a_search_split_by_steps_goes_on_to_the_same_bits(
  tiny_run, tmp_path, monkeypatch
):
  """Of the four steps of an epoch the last moves the architecture."""
  shown = []
  monkeypatch.setattr(
    loop.progress.Progress, 'update', lambda bar, *args: shown.append(args)
  )
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'
  for folder in (whole, broken):
    config = tiny.config()
    config.teacher.checkpoint = str(tiny_run / 'teacher')
    config.search.update(split='epochs', arch_share=0.25)
    config.search.optimization.epochs = 2
    config.search.optimization.schedule = 'cosine'
    stages.teacher(config, str(folder))
    if folder == broken:
      with _sigterm(7), pytest.raises(signals.Interrupted):
        stages.search(config, str(folder))
    stages.search(config, str(folder))
  _assert_same_bits(broken / 'search', whole / 'search')
  lines = files.read_json_lines(whole / 'search' / 'metrics.jsonl')
  # Six steps move weights; the rate of the last of them.
  assert lines[-1]['learning_rate'] == pytest.approx(0.1 * 0.0669873, rel=1e-5)
  # Steps of the architecture leave the weights' loss on the screen.
  for step, terms in shown:
    assert terms is None if step % 4 == 0 else terms['loss'] > 0


def test_search_that_dies_after_a_checkpoint_goes_on_to_the_same_bits(
  tiny_run, tmp_path, monkeypatch
):
  config = _with_teacher(tiny_run, tmp_path)
  finish = loop._Record.finish_epoch

  def die_in_the_last_epoch(self, state, done):
    if done == 3:
      raise KeyboardInterrupt
    finish(self, state, done)

  with monkeypatch.context() as patch:
    patch.setattr(loop._Record, 'finish_epoch', die_in_the_last_epoch)
    with pytest.raises(KeyboardInterrupt):
      stages.search(config, str(tmp_path))
  stages.search(config, str(tmp_path))
  _assert_same_bits(tmp_path / 'search', tiny_run / 'search')


def test_a_run_whose_last_checkpoint_is_damaged_goes_on_to_the_same_bits(
  tiny_run, tmp_path, caplog
):
  folder = tmp_path / 'copy'
  shutil.copytree(tiny_run, folder)
  (folder / 'search' / 'stage.json').unlink()
  saved = folder / 'search' / 'checkpoints'
  for path in (saved / '12' / 'state').rglob('d/*'):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
  stages.search(tiny.config(), str(folder))
  _assert_same_bits(folder / 'search', tiny_run / 'search')
  found = [(p / 'architecture.json').read_bytes() for p in (folder, tiny_run)]
  assert found[0] == found[1]
  assert 'Step 8 is gone on from.' in caplog.text
  assert (saved / 'damaged_12').is_dir()


@pytest.mark.parametrize(
  ('options', 'attack'),
  [
    pytest.param({'method': 'crd', 'gamma': 0.0}, {}, id='crd'),
    # Draws depend on the seed and the step alone.
    pytest.param({'tutors': 'resampled'}, {}, id='resampled', marks=_SLOW),
    # It introspects after the stop, and after it its weights are perturbed.
    pytest.param(
      {'kl_weight': 0.0, 'gamma': 0.0},
      {
        'name': 'iad',
        'iad_warmup': 0.7,
        'awp_gamma': 0.01,
        'awp_warmup': 0.8,
        'num_steps': 2,
        'validation_steps': 2,
      },
      id='iad',
      marks=_SLOW,
    ),
  ],
)
def test_a_student_with_draws_of_its_own_stopped_goes_on_to_the_same_bits(
  tiny_run, tmp_path, options, attack
):
  """CRD's memory and embeddings, their momentum and its draws; tutors."""
  config = tiny.config()
  config.teacher.checkpoint = str(tiny_run / 'teacher')
  config.search.architecture = str(tiny_run / 'architecture.json')
  config.distillation.crd_negatives = config.distillation.crd_features = 4
  config.students = {'drawing': settings.student_template(**options)}
  config.train.adversarial_training.update(attack)
  config.adversarial.students = {}
  config.evaluation.auto_attack_models = ()
  folders = [tmp_path / name for name in ('whole', 'stopped')]
  for folder in folders:
    stages.teacher(config, str(folder))
    stages.search(config, str(folder))
  stages.train(config, str(folders[0]))
  with _sigterm(6), pytest.raises(signals.Interrupted):
    stages.train(config, str(folders[1]))
  stages.train(config, str(folders[1]))
  places = [folder / 'train' / 'drawing' for folder in folders]
  _assert_same_bits(*places)
  saved, _ = _arrays(places[1])
  assert any('memory' in name for name in saved) == ('method' in options)


def _with_regime(name: str, **options):
  """A config whose teacher is trained with another method."""
  config = tiny.config()
  config.teacher.adversarial_training.name = name
  config.teacher.adversarial_training.update(options)
  return config


def _assert_same_model(one: pathlib.Path, two: pathlib.Path):
  models = (saved_variables.load(path / 'model')[0] for path in (one, two))
  first, second = map(named_arrays.from_state, models)
  assert first.keys() == second.keys()
  for name, array in first.items():
    assert array.tobytes() == second[name].tobytes(), name


@pytest.mark.parametrize(
  ('name', 'after_steps'),
  [
    _slow('standard', 2),
    _slow('pgd', 6),
    ('free', 5),
    _slow('fast', 1),
    _slow('trades', 9),
    _slow('mart', 5),
  ],
)
def test_teacher_killed_by_sigterm_in_an_epoch_goes_on_to_the_same_bits(
  tmp_path, name, after_steps
):
  """With what the method carries from batch to batch."""
  config = _with_regime(name, replays=2, max_drop=0.0)
  if name == 'free':
    config.teacher.optimization.update(
      average_decay=0.9, label_smoothing=0.1, select='last'
    )
  if name == 'mart':
    config.teacher.adversarial_training.update(awp_gamma=0.01, awp_warmup=0.5)
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'
  stages.teacher(config, str(whole))
  with _sigterm(after_steps), pytest.raises(signals.Interrupted):
    stages.teacher(config, str(broken))
  saved, _ = _arrays(broken / 'teacher')
  # Two more steps were under way; an epoch has four.
  assert saved['step',] == after_steps + 2
  stages.teacher(config, str(broken))

  _assert_same_bits(broken / 'teacher', whole / 'teacher')
  _assert_same_model(broken / 'teacher', whole / 'teacher')
  carried = {
    key: value for key, value in saved.items() if key[0] == 'adversarial_state'
  }
  if name != 'free':
    assert not carried
    return
  # What is exported is the average.
  last, _ = _arrays(whole / 'teacher')
  exported, _ = saved_variables.load(whole / 'teacher' / 'model')
  for key, array in named_arrays.from_state(exported).items():
    np.testing.assert_array_equal(array, last['average', *key])
    assert np.abs(array - last[key]).max() > 0
  ((_, delta),) = carried.items()
  assert delta.shape == (32, 8, 8, 1)
  assert np.abs(delta).max() == np.float32(8 / 255)


@_SLOW
def test_an_equal_average_killed_in_an_epoch_goes_on_to_the_same_bits(tmp_path):
  """The weights after epochs 2 and 3 of 3, with statistics of their own."""
  config = tiny.config()
  config.teacher.adversarial_training.name = 'standard'
  config.teacher.optimization.update(average_from=2, select='last')
  whole, broken = tmp_path / 'whole', tmp_path / 'broken'
  stages.teacher(config, str(whole))
  with _sigterm(7), pytest.raises(signals.Interrupted):
    stages.teacher(config, str(broken))
  stages.teacher(config, str(broken))
  _assert_same_bits(broken / 'teacher', whole / 'teacher')
  _assert_same_model(broken / 'teacher', whole / 'teacher')

  saved = whole / 'teacher' / 'checkpoints'
  with checkpoints.Checkpoints(saved, read_only=True) as steps:
    second, third = (
      named_arrays.from_state(steps.read(step)[-2]) for step in (8, 12)
    )
  exported, _ = saved_variables.load(whole / 'teacher' / 'model')
  for (kind, *name), array in named_arrays.from_state(exported).items():
    np.testing.assert_array_equal(array, third['average', kind, *name])
    mean = (second[kind, *name] + third[kind, *name]) / 2
    gap = np.abs(array - mean).max()
    assert gap < 1e-6 if kind == 'params' else gap > 1e-4, name


def test_a_second_run_of_the_same_config_has_the_same_bits(tiny_run, tmp_path):
  stages.teacher(tiny.config(), str(tmp_path))
  _assert_same_bits(tmp_path / 'teacher', tiny_run / 'teacher')


def test_another_seed_has_other_weights(tiny_run, tmp_path):
  config = tiny.config()
  config.seed = 1
  stages.teacher(config, str(tmp_path))
  name = ('params', 'conv1', 'kernel')
  arrays = _arrays(tmp_path / 'teacher')[0]
  assert not any('average' in key for key in arrays)
  one = arrays[name]
  assert np.abs(one - _arrays(tiny_run / 'teacher')[0][name]).max() > 0.01


def test_a_complete_stage_is_not_run_again(tiny_run, monkeypatch):
  def fail(*arguments):
    raise AssertionError('a complete stage was run')

  monkeypatch.setattr(loop, 'run', fail)
  stages.teacher(tiny.config(), str(tiny_run))
  stages.search(tiny.config(), str(tiny_run))
  stages.train(tiny.config(), str(tiny_run))


def test_a_non_finite_loss_says_where_and_names_the_last_good_checkpoint(
  tmp_path,
):
  config = tiny.config()
  config.teacher.adversarial_training.name = 'standard'
  # Harmless in the first two epochs; then NaN within a step or two.
  config.teacher.optimization.schedule = 'piecewise'
  config.teacher.optimization.milestones = ()
  config.teacher.optimization.epochs = 4
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(resolve, 'optimizer', _explodes_after(8))
    with pytest.raises(loop.NonFiniteLossError) as error:
      stages.teacher(config, str(tmp_path))
  message = str(error.value)
  assert 'teacher, step 9 (epoch 2)' in message
  assert str(tmp_path / 'teacher' / 'checkpoints' / '8') in message
  lines = files.read_json_lines(tmp_path / 'teacher' / 'metrics.jsonl')
  assert all(np.isfinite(line['loss']) for line in lines)
  assert not (tmp_path / 'teacher' / 'stage.json').exists()


def _explodes_after(steps: int):
  import optax

  def optimizer(spec, steps_per_epoch, where='train'):
    del spec, steps_per_epoch, where
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


def test_without_validation_images_the_last_checkpoint_is_taken(tmp_path):
  config = tiny.config()
  config.data.validation_size = 0
  config.teacher.optimization.update(select='last', epochs=1)
  stages.teacher(config, str(tmp_path))
  summary = files.read_json(tmp_path / 'teacher' / 'stage.json')
  assert summary['selected_step'] == 4
  lines = files.read_json_lines(tmp_path / 'teacher' / 'metrics.jsonl')
  assert {line['split'] for line in lines} == {'train'}


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
  stages.teacher(config, str(tmp_path))
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
  stages.search(config, str(tmp_path))
  lines = files.read_json_lines(tmp_path / 'search' / 'metrics.jsonl')
  assert [line['step'] for line in lines] == [4, 8, 12]
  expected = _first_losses(tiny_run)
  assert _first_losses(tmp_path) == pytest.approx(expected, rel=1e-4)


def test_a_teacher_that_guides_in_bfloat16_guides_nearly_the_same(
  tiny_run, tmp_path
):
  config = _with_teacher(tiny_run, tmp_path, bfloat16='always')
  stages.search(config, str(tmp_path))
  expected = _first_losses(tiny_run)
  found = _first_losses(tmp_path)
  assert found == pytest.approx(expected, rel=0.02)
  assert found != expected


def test_a_teacher_trained_in_bfloat16_learns_as_in_float32(tiny_run, tmp_path):
  config = tiny.config()
  config.teacher.bfloat16 = 'always'
  stages.teacher(config, str(tmp_path))
  found, expected = (
    [
      line['loss']
      for line in files.read_json_lines(root / 'teacher' / 'metrics.jsonl')
      if line['split'] == 'train'
    ]
    for root in (tmp_path, tiny_run)
  )
  assert found == pytest.approx(expected, rel=0.02)
  assert found != expected
  assert found[-1] < found[0]
  exported = rnascl_jax.load(tmp_path, 'teacher')
  assert exported.net.dtype is None
  kinds = {leaf.dtype for leaf in jax.tree.leaves(exported.variables)}
  assert kinds == {np.dtype(np.float32)}


@pytest.mark.parametrize('name', ['teacher', 'rnas_cl'])
def test_gradients_in_bfloat16_are_those_of_float32_to_its_precision(
  name, tiny_run, digits
):
  model = rnascl_jax.load(tiny_run, name)
  images = jnp.asarray(digits.test.images[:64] / 255.0, jnp.float32)
  labels = jnp.asarray(digits.test.labels[:64])

  def gradient(dtype):
    net = model.net.clone(dtype=dtype, axis_name=None)

    def loss(params):
      (logits, _), new = net.apply(
        {**model.variables, 'params': params},
        images,
        train=True,
        mutable=['batch_stats'],
      )
      leaves = jax.tree.leaves((logits, new))
      assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}
      return losses.cross_entropy(logits, labels).mean()

    slopes = jax.jit(jax.grad(loss))(model.variables['params'])
    return np.concatenate([x.ravel() for x in jax.tree.leaves(slopes)])

  wide, narrow = gradient(None), gradient(jnp.bfloat16)
  # bfloat16 has 8 bits: 2^-8 for each of some ten roundings.
  assert 0 < np.linalg.norm(narrow - wide) < 0.05 * np.linalg.norm(wide)


# The guard against overfitting to the attack of training.


def _count(state: train_state.TrainState, context, batch: train_state.Batch):
  """A step of training that does nothing but count."""
  del context
  ones = jnp.ones(len(batch.labels))
  sums = {'loss': ones.sum(), 'accuracy': ones.sum(), 'count': ones.sum()}
  params = {'w': state.params['w'] + 1}
  return state.replace(step=state.step + 1, params=params), sums


_NOTHING = train_state.TrainState(
  step=np.int32(0),
  params={'w': np.zeros(2, np.float32)},
  batch_stats={},
  opt_state=(),
  adversarial_state=parallel.PerImage(()),
)
# Accuracies under attack, one for each epoch; the best so far is 0.75.
_COLLAPSE = (0.5, 0.75, 0.625, 0.125, 0.75)


def _stage(folder: pathlib.Path, robust, max_drop: float) -> loop.Stage:
  """Epochs of four steps, with accuracies under attack that are given."""

  def validate(state):
    done = int(parallel.unreplicate(state.step)) // 4
    accuracy = robust[done - 1]
    if accuracy is None:
      return {'accuracy': 1.0, 'selection': 1.0}
    return {'adversarial_accuracy': accuracy, 'selection': accuracy}

  return loop.Stage(
    name='teacher',
    directory=folder,
    step=_count,
    data_loader=loader.Resident(
      Split(np.zeros((8, 2, 2, 1), np.uint8), np.zeros(8, np.int32))
    ),
    schedule=loader.BatchSchedule(
      order=lambda epoch: np.arange(8, dtype=np.int32).reshape(4, 2),
      parts=(2,),
      epochs=len(robust),
      steps_per_epoch=4,
      steps_per_dispatch=1,
    ),
    checkpoint_every=1,
    select='last',
    validate=validate,
    annotate=lambda state, epoch: {},
    max_drop=max_drop,
  )


def _run_stage(stage: loop.Stage):
  return loop.run(stage, _NOTHING, (), parallel.devices(1))


def test_a_stage_that_overfits_to_its_attack_ends_and_names_the_numbers(
  tmp_path, monkeypatch
):
  warnings = []
  monkeypatch.setattr(
    logging, 'warning', lambda text, *given: warnings.append(text % given)
  )

  state, summary = _run_stage(_stage(tmp_path, _COLLAPSE, 0.5))

  # 0.75 - 0.125 > 0.5, in the fourth epoch of five.
  assert summary['collapse'] == {'epoch': 4, 'best': 0.75, 'fell_to': 0.125}
  (warning,) = warnings
  for part in ('teacher', '75.0', '12.5 %', 'epoch 4', 'best checkpoint'):
    assert part in warning
  assert summary['selected_step'] == state.step == 8
  np.testing.assert_array_equal(state.params['w'], 8)
  # What it has become is not saved.
  with checkpoints.Checkpoints(tmp_path / 'checkpoints') as saved:
    assert saved.last_step() == 12


@pytest.mark.parametrize(
  ('robust', 'max_drop', 'epochs'),
  [
    (_COLLAPSE, 0.0, None),
    # The largest drop that is allowed.
    (_COLLAPSE, 0.625, None),
    # No step of it is large, but all of them together.
    ((0.75, 0.5, 0.25, 0.125), 0.5, 4),
    # The best of all, not the last.
    ((0.5, 0.75, 0.5, 0.125, 0.25), 0.5, 4),
    # Nothing to lose, and nothing measured.
    ((0.0, 0.0), 0.5, None),
    ((None, None), 0.5, None),
    ((0.5, 0.25), 0.125, 2),
  ],
)
def test_a_stage_ends_where_it_has_lost_more_than_is_allowed(
  tmp_path, robust, max_drop, epochs
):
  state, summary = _run_stage(_stage(tmp_path, robust, max_drop))

  assert summary.get('collapse', {}).get('epoch') == epochs
  assert summary['selected_step'] == state.step
  if not epochs:
    assert state.step == 4 * len(robust)


@pytest.mark.parametrize('after_steps', [1, 4, 5, 8, 9, 12, 13])
def test_a_stage_killed_around_its_collapse_comes_to_the_same_end(
  tmp_path, after_steps
):
  """Epochs have four steps, and the fourth is that of the collapse."""
  whole, broken = (
    _stage(tmp_path / name, _COLLAPSE, 0.5) for name in ('whole', 'broken')
  )
  _, expected = _run_stage(whole)
  with _sigterm(after_steps), pytest.raises(signals.Interrupted):
    _run_stage(broken)
  state, summary = _run_stage(broken)

  assert summary['collapse'] == expected['collapse']
  assert summary['selected_step'] == state.step == 8
  _assert_same_log(whole.directory, broken.directory)


def test_a_stage_that_died_after_its_collapse_comes_to_it_again(tmp_path):
  stage = _stage(tmp_path / 'twice', _COLLAPSE, 0.5)
  once = _stage(tmp_path / 'once', _COLLAPSE, 0.5)
  _, expected = _run_stage(once)

  _run_stage(stage)
  _, summary = _run_stage(stage)

  assert summary['collapse'] == expected['collapse']
  _assert_same_log(once.directory, stage.directory)


def _assert_same_log(one: pathlib.Path, two: pathlib.Path):
  logs = [(path / 'metrics.jsonl').read_text() for path in (one, two)]
  assert logs[0] == logs[1]


def _measures(monkeypatch, *accuracies):
  """Makes up the accuracy under attack of each validation."""
  values = iter(accuracies)
  monkeypatch.setattr(
    under_attack,
    'accuracy_under_attack',
    lambda *given, **options: next(values),
  )


def _teacher_of(config, folder: pathlib.Path) -> dict:
  """The summary of a teacher that is validated after every epoch.

  The config selects the last epoch.
  """
  config.teacher.optimization.checkpoint_every = 1
  config.teacher.optimization.select = 'last'
  stages.teacher(config, str(folder))
  return json.loads((folder / 'teacher' / 'stage.json').read_text())


def test_a_collapsed_teacher_is_the_one_of_its_best_epoch(
  tmp_path, monkeypatch
):
  """Whichever the config selects, and as if training had ended there."""
  collapsed, short = tmp_path / 'collapsed', tmp_path / 'short'
  config = _with_regime('fast')
  config.teacher.optimization.schedule = 'constant'

  config.teacher.optimization.epochs = 5
  _measures(monkeypatch, 0.5, 0.75, 0.625, 0.25)
  summary = _teacher_of(config, collapsed)
  config.teacher.optimization.epochs = 2
  _measures(monkeypatch, 0.5, 0.75)
  short_summary = _teacher_of(config, short)

  assert summary['collapse'] == {'epoch': 4, 'best': 0.75, 'fell_to': 0.25}
  assert summary['selected_step'] == 8
  _assert_same_model(collapsed / 'teacher', short / 'teacher')
  assert 'collapse' not in short_summary


@pytest.mark.parametrize(('name', 'max_drop'), [('pgd', 0.2), ('fast', 0.0)])
def test_a_teacher_that_is_not_guarded_trains_to_its_end(
  tmp_path, monkeypatch, name, max_drop
):
  _measures(monkeypatch, 0.75, 0.0, 0.0)
  summary = _teacher_of(_with_regime(name, max_drop=max_drop), tmp_path)
  assert 'collapse' not in summary
  assert summary['selected_step'] == 12


@pytest.mark.parametrize('after_steps', [_slow(1), 8])
def test_a_teacher_of_streamed_images_stopped_goes_on_to_the_same_bits(
  tmp_path, after_steps
):
  """Images on disk; four steps an epoch, twelve in all."""
  data = tmp_path / 'data'
  tiny_imagenet.write(data, np.arange(42) % 5, shards=2)
  tiny_imagenet.write(data, np.arange(10) % 5, split='validation')
  config = tiny.config()
  config.data.update(
    name='imagenet',
    data_dir=str(data),
    image_size=8,
    validation_size=10,
    max_train=0,
    max_test=0,
    workers=0,
  )
  config.teacher.adversarial_training.name = 'standard'
  config.teacher.optimization.batch_size = 8
  config.search.optimization.batch_size = 8
  config.train.optimization.batch_size = 8
  config.adversarial.optimization.batch_size = 8
  stages.teacher(config, str(tmp_path / 'whole'))
  with _sigterm(after_steps):
    with pytest.raises(signals.Interrupted):
      stages.teacher(config, str(tmp_path / 'stopped'))
  stages.teacher(config, str(tmp_path / 'stopped'))
  _assert_same_bits(
    tmp_path / 'whole' / 'teacher', tmp_path / 'stopped' / 'teacher'
  )
  logs = [
    (tmp_path / name / 'teacher' / 'metrics.jsonl').read_text()
    for name in ('whole', 'stopped')
  ]
  assert logs[0] == logs[1] and logs[0].count('"train"') == 3
  summary = files.read_json(tmp_path / 'stopped' / 'teacher' / 'stage.json')
  assert summary['waited_for_images'] >= 0


def _average(state: train_state.TrainState, context, batch: train_state.Batch):
  """The same, with the equal average of the second and later epochs."""
  counted, sums = _count(state, context, batch)
  average = averaging.equal(
    state.average, counted.own_variables, first=8, every=4, step=state.step
  )
  return counted.replace(average=average), sums


def _mean_index(state: statistics.StatisticsState, context, batch):
  del context
  own = {'mean': jnp.mean(batch.indices.astype(jnp.float32))}
  means = averaging.equal(
    state.average['batch_stats'], own, first=1, every=1, step=state.step % 4
  )
  average = {**state.average, 'batch_stats': means}
  return state.replace(step=state.step + 1, average=average), {}


def test_a_killed_stage_goes_on_to_the_average_and_its_statistics(tmp_path):
  """They are computed for the second and fourth epoch and the fifth and last.

  An epoch has the images 0 to 7, and the epoch's number more for each of them.
  """

  def start():
    variables = {
      'params': {'w': np.zeros(2, np.float32)},
      'batch_stats': {'mean': np.zeros((), np.float32)},
    }
    average = jax.tree.map(np.copy, variables)
    return _NOTHING.replace(**variables, average=average)

  measured = []

  def validate(state):
    measured.append(parallel.unreplicate(state).variables)
    return {'selection': 0.0}

  def run(folder):
    stage = _stage(folder, (None,) * 5, 0.0)
    schedule = dataclasses.replace(
      stage.schedule,
      order=lambda epoch: np.arange(8, dtype=np.int32).reshape(4, 2) + epoch,
    )
    stage = dataclasses.replace(
      stage,
      step=_average,
      data_loader=loader.Resident(
        Split(np.zeros((16, 2, 2, 1), np.uint8), np.zeros(16, np.int32))
      ),
      schedule=schedule,
      checkpoint_every=2,
      validate=validate,
      statistics_step=_mean_index,
      statistics_from=2,
    )
    return loop.run(stage, start(), (), parallel.devices(1))[0]

  whole = run(tmp_path / 'whole')
  # The weights count steps: 8, the mean of 8, 12 and 16, and of 20 too.
  for variables, weights, mean in zip(
    measured, (8, 12, 14), (4.5, 6.5, 7.5), strict=True
  ):
    np.testing.assert_array_equal(variables['params']['w'], weights)
    assert variables['batch_stats']['mean'] == mean
  with _sigterm(14), pytest.raises(signals.Interrupted):
    run(tmp_path / 'broken')
  broken = run(tmp_path / 'broken')
  jax.tree.map(np.testing.assert_array_equal, broken, whole)
  _assert_same_bits(tmp_path / 'broken', tmp_path / 'whole')

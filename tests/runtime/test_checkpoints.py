"""Tests of the runtime's checkpoints and of named_arrays."""

import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnascl_jax.runtime import (
  checkpoints,
  disk,
  files,
  lock,
  named_arrays,
  saved_variables,
)


@flax.struct.dataclass
class _State:
  params: Any
  optimizer: Any
  key: jax.Array
  step: jax.Array
  name: str = flax.struct.field(pytree_node=False, default='a')


class _Pair(NamedTuple):
  first: Any
  second: Any


def _state(seed=0, width=3):
  rng = np.random.default_rng(seed)
  params = {
    'block10': {'kernel': rng.normal(size=(2, width)).astype(np.float32)},
    'block2': {'kernel': jnp.asarray(rng.normal(size=width), jnp.bfloat16)},
    'odd.name/x': np.array([True, False]),
    'nothing': np.zeros((0, 3), np.float32),
  }
  extremes = np.array([np.nan, -0.0, np.inf, 1e-45, 2**0.5], np.float32)
  others = (
    _Pair(extremes, [np.arange(4, dtype=np.uint32), ()]),
    np.array(2**62),
    np.array([0.1]),
  )
  return _State(
    params=(params, others),
    optimizer=optax.chain(optax.clip(1.0), optax.adam(1e-3)).init(
      params['block10']
    ),
    key=jax.random.key(seed),
    step=jnp.int32(seed),
  )


def _assert_same_bits(actual, expected):
  assert jax.tree.structure(actual) == jax.tree.structure(expected)
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    assert a.dtype == b.dtype
    if jax.dtypes.issubdtype(b.dtype, jax.dtypes.prng_key):
      a, b = jax.random.key_data(a), jax.random.key_data(b)
    assert np.shape(a) == np.shape(b)
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_every_kind_of_leaf_comes_back_bit_for_bit(tmp_path):
  """Into arrays and into shapes alone."""
  state, arrays = _state(), _state(seed=1)
  extra = {'epoch': 3, 'seen': [1, 2.5, None, 'x']}
  with checkpoints.Checkpoints(tmp_path) as saved:
    saved.save(7, state, extra=extra)
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), arrays
  )
  with checkpoints.Checkpoints(tmp_path) as saved:
    for template in (arrays, shapes):
      restored = saved.restore_last(template)
      assert (restored.step, restored.extra) == (7, extra)
      _assert_same_bits(restored.state, state)


def test_python_numbers_become_what_jax_makes_of_them(tmp_path):
  with checkpoints.Checkpoints(tmp_path) as saved:
    saved.save(0, {'i': 3, 'f': 0.5, 'b': True})
    state = saved.restore_last({'i': jnp.int32(0), 'f': 0.0, 'b': False}).state
  assert (state['i'], state['f'], state['b']) == (3, 0.5, True)
  assert state['i'].dtype == np.int32
  assert state['f'].dtype == np.float32


def _save_all(directory, metrics):
  with checkpoints.Checkpoints(directory) as saved:
    for step, metric in enumerate(metrics):
      saved.save(step, {'w': np.full(2, step)}, metric=metric)


@pytest.mark.parametrize(
  'metrics, kept, best',
  [
    ([0.1, 0.9, 0.5, 0.4, 0.3], [1, 3, 4], 1),
    ([0.1, 0.2, 0.3], [1, 2], 2),
    ([0.5, 0.5, 0.1, 0.0], [1, 2, 3], 1),
    ([None, 0.3, None, float('nan'), None], [1, 3, 4], 1),
    ([-1.0, None, None], [0, 1, 2], 0),
    ([None, None, float('nan')], [1, 2], None),
  ],
)
def test_the_last_two_and_the_best_are_kept(tmp_path, metrics, kept, best):
  _save_all(tmp_path, metrics)
  assert sorted(int(name) for name in os.listdir(tmp_path)) == kept
  template = {'w': np.zeros(2, int)}
  with checkpoints.Checkpoints(tmp_path, read_only=True) as saved:
    assert saved.last_step() == len(metrics) - 1
    assert saved.best_step() == best
    last = saved.restore_last(template)
    assert last.state['w'].tolist() == [last.step] * 2 == [kept[-1]] * 2
    if best is None:
      with pytest.raises(FileNotFoundError, match='no such checkpoint'):
        saved.restore_best(template)
    else:
      assert saved.restore_best(template).state['w'].tolist() == [best] * 2


def test_a_run_that_goes_on_keeps_the_best_and_saves_later_steps(tmp_path):
  _save_all(tmp_path, [0.1, 0.9, 0.2])
  with checkpoints.Checkpoints(tmp_path) as saved:
    for step in (1, 2):
      with pytest.raises(ValueError, match=f'step={step} must be greater'):
        saved.save(step, {'w': np.zeros(2)})
    saved.save(3, {'w': np.zeros(2)}, metric=0.3)
    assert (saved.best_step(), saved.last_step()) == (1, 3)
    saved.save(4, {'w': np.zeros(2)}, metric=0.95)
    assert (saved.best_step(), saved.last_step()) == (4, 4)
  assert sorted(os.listdir(tmp_path)) == ['3', '4']


def test_an_empty_folder_has_no_steps(tmp_path):
  with checkpoints.Checkpoints(tmp_path / 'new' / 'er') as saved:
    assert saved.last_step() is None
    assert saved.best_step() is None
    with pytest.raises(FileNotFoundError, match='new'):
      saved.restore_last({'w': np.zeros(2)})


def test_other_files_may_be_in_the_folder(tmp_path):
  (tmp_path / 'events.out.tfevents.123.host').write_text('x')
  (tmp_path / 'figures').mkdir()
  others = {*os.listdir(tmp_path)}
  _save_all(tmp_path, [0.1, 0.2])
  saved_variables.save(tmp_path, {'params': {'w': np.ones(1)}}, {})
  with checkpoints.Checkpoints(tmp_path) as saved:
    assert saved.last_step() == 1
  assert {*os.listdir(tmp_path)} == {'0', '1', 'variables_0', *others}


def test_read_only_neither_writes_nor_removes(tmp_path):
  with pytest.raises(FileNotFoundError, match='missing'):
    checkpoints.Checkpoints(tmp_path / 'missing', read_only=True)
  _save_all(tmp_path, [0.1])
  unfinished = _leave_half_written(tmp_path, 0, 1)
  with checkpoints.Checkpoints(tmp_path, read_only=True) as saved:
    assert saved.last_step() == 0
    with pytest.raises(ValueError, match='read_only'):
      saved.save(1, {'w': np.zeros(2)})
  assert unfinished.exists()


def _leave_half_written(directory, finished, step):
  """What Orbax leaves of a step when it is killed before the final rename."""
  unfinished = directory / f'{step}.orbax-checkpoint-tmp'
  shutil.copytree(directory / str(finished), unfinished)
  shutil.rmtree(unfinished / 'extra')
  return unfinished


def test_a_half_written_step_is_not_seen_and_is_removed(tmp_path):
  _save_all(tmp_path, [0.1, 0.2])
  unfinished = _leave_half_written(tmp_path, 1, 3)
  with checkpoints.Checkpoints(tmp_path) as saved:
    assert (saved.last_step(), saved.best_step()) == (1, 1)
    state = saved.restore_last({'w': np.zeros(2, int)}).state
    assert state['w'].tolist() == [1, 1]
    saved.save(2, {'w': np.full(2, 2)}, metric=0.1)
    assert saved.last_step() == 2
  assert not unfinished.exists()


def test_a_save_goes_on_beside_the_program_and_keeps_what_it_was_given(
  tmp_path, monkeypatch
):
  sums = {'loss': [1.0]}
  written, write = threading.Event(), checkpoints.Checkpoints._write

  def late(self, *arguments):
    assert written.wait(60)
    write(self, *arguments)

  monkeypatch.setattr(checkpoints.Checkpoints, '_write', late)
  with checkpoints.Checkpoints(tmp_path) as saved:
    saved.save(1, {'w': np.ones(2)}, extra={'sums': sums})
    assert not (tmp_path / '1').exists()
    # The next step adds to what was saved.
    sums['loss'].append(2.0)
    written.set()
    assert saved.last_step() == 1
    assert (tmp_path / '1').exists()
    restored = saved.restore_last({'w': np.zeros(2)})
    assert restored.extra == {'sums': {'loss': [1.0]}}


def test_a_save_that_fails_is_told_by_the_next_and_by_the_end(
  tmp_path, monkeypatch
):
  def fail(self, *arguments):
    raise disk.DiskError('it is full')

  monkeypatch.setattr(checkpoints.Checkpoints, '_write', fail)
  saved = checkpoints.Checkpoints(tmp_path)
  saved.save(1, {'w': np.ones(2)})
  with pytest.raises(disk.DiskError, match='full'):
    saved.save(2, {'w': np.ones(2)})
  saved.save(2, {'w': np.ones(2)})
  with pytest.raises(disk.DiskError, match='full'):
    saved.close()
  checkpoints.Checkpoints(tmp_path).close()  # The lock was let go.


def test_a_process_killed_in_a_save_leaves_the_step_before(tmp_path):
  code = (
    'import os, sys; import numpy as np\n'
    'from rnascl_jax.runtime import checkpoints\n'
    'saved = checkpoints.Checkpoints(sys.argv[1])\n'
    "saved.save(1, {'w': np.full(2, 1)}, metric=0.5)\n"
    'saved.wait()\n'
    'os.rename = os.replace = lambda *_: os._exit(9)\n'
    "saved.save(3, {'w': np.full(2, 2)}, metric=0.9)\n"
    'saved.wait()\n'
  )
  killed = subprocess.run([sys.executable, '-c', code, tmp_path], check=False)
  assert killed.returncode == 9
  (unfinished,) = tmp_path.glob('3.*.orbax-checkpoint-tmp')
  assert set(os.listdir(tmp_path)) == {'1', unfinished.name, lock.NAME}
  with checkpoints.Checkpoints(tmp_path) as saved:
    assert saved.restore_best({'w': np.zeros(2, int)}).step == 1
    saved.save(2, {'w': np.full(2, 2)}, metric=0.9)
  assert sorted(os.listdir(tmp_path)) == ['1', '2']


@pytest.mark.parametrize(
  'change, name, saved_kind, expected',
  [
    (lambda s: {'step': s.key}, 'step', 'int32[]', 'uint32[2]'),
    (lambda s: {'step': jnp.float32(0)}, 'step', 'int32[]', 'float32[]'),
    (
      lambda s: {'params': s.params[:1]},
      'params/1/0/first',
      'float32[5]',
      'missing',
    ),
    (
      lambda s: {'params': (*s.params, {'new': np.zeros(3)})},
      'params/2/new',
      'missing',
      'float64[3]',
    ),
    (
      lambda s: {'key': jax.random.key(0, impl='rbg')},
      'key',
      'uint32[2]',
      'uint32[4]',
    ),
    # The optimizer's copies, which differ too, come after the parameters.
    (
      lambda s: vars(_state(width=4)),
      'params/0/block10/kernel',
      'float32[2, 3]',
      'float32[2, 4]',
    ),
  ],
)
def test_another_architecture_is_named_by_its_first_differing_leaf(
  tmp_path, change, name, saved_kind, expected
):
  message = (
    f'step 5 in {tmp_path} is a checkpoint of another architecture: {name} is '
    f'{saved_kind} in it, but {expected} is expected'
  )
  with checkpoints.Checkpoints(tmp_path) as saved:
    saved.save(5, _state())
    with pytest.raises(ValueError, match=re.escape(message)):
      saved.restore_last(_state().replace(**change(_state())))


@pytest.mark.parametrize(
  'state, message',
  [
    ({'a': 'text'}, 'a is str, not an array of numbers'),
    ({'a': {'b': np.array(['x'])}}, 'a/b is ndarray, not an array'),
    ({'a': np.zeros(0)}, 'no array that is not empty'),
    ({}, 'no array that is not empty'),
    (np.ones(2), 'cannot name a bare array'),
  ],
)
def test_what_cannot_be_named_or_stored_is_refused(state, message):
  with pytest.raises(ValueError, match=message):
    named_arrays.from_state(state)


def test_variables_are_loaded_without_a_template(tmp_path):
  variables = {
    'params': {'stem': {'kernel': jnp.ones((3, 3), jnp.bfloat16)}},
    'batch_stats': {'stem': {'mean': np.arange(3.0, dtype=np.float32)}},
  }
  metadata = {'filters': [16, 24], 'name': 's3'}
  saved_variables.save(tmp_path / 'x', variables, metadata)
  loaded, loaded_metadata = saved_variables.load(tmp_path / 'x')
  _assert_same_bits(loaded, variables)
  assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(loaded))
  assert loaded_metadata == metadata
  saved_variables.save(tmp_path / 'x', flax.core.freeze(variables), {})
  assert type(saved_variables.load(tmp_path / 'x')[0]['params']) is dict


def _flip(path):
  """Flips a bit in the middle of a file."""
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 4
  path.write_bytes(content)


def _files(folder):
  return sorted(path for path in folder.rglob('*') if path.is_file())


def test_a_flipped_bit_in_a_checkpoint_never_becomes_another_number(tmp_path):
  """In no file of it; those of the arrays are not checked by Orbax itself."""
  _save_all(tmp_path, [0.1])
  paths = _files(tmp_path / '0')
  assert len(paths) > 9
  for path in paths:
    content = path.read_bytes()
    _flip(path)
    with checkpoints.Checkpoints(tmp_path, read_only=True) as saved:
      with pytest.raises(files.DamagedFileError, match=f'{tmp_path}/0/'):
        saved.restore_last({'w': np.zeros(2, int)})
    path.write_bytes(content)


def _damage_state(folder, how):
  for path in _files(folder / 'state'):
    if how == 'flip':
      _flip(path)
    elif how == 'cut':
      path.write_bytes(path.read_bytes()[:10])
    else:
      path.unlink()


@pytest.mark.parametrize('how', ['flip', 'cut', 'lost'])
def test_where_the_last_step_is_damaged_the_one_before_is_taken_and_it_is_said(
  tmp_path, caplog, capfd, how
):
  _save_all(tmp_path, [0.9, 0.1, 0.2])
  _damage_state(tmp_path / '2', how)
  with checkpoints.Checkpoints(tmp_path) as saved:
    restored = saved.restore_last({'w': np.zeros(2, int)})
    assert (restored.step, restored.state['w'].tolist()) == (1, [1, 1])
    assert (saved.last_step(), saved.best_step()) == (1, 0)
    (record,) = caplog.records
    aside = tmp_path / 'damaged_2'
    assert f'{tmp_path}/2/state/' in record.getMessage()
    assert f'is set aside as {aside}. Step 1 is' in record.getMessage()
    assert aside.is_dir()
    saved.save(2, {'w': np.full(2, 2)}, metric=0.2)
  assert sorted(os.listdir(tmp_path)) == ['0', '1', '2', 'damaged_2']
  # Threads of Orbax print what they raise when it is too late to catch it.
  assert 'Traceback' not in ''.join(capfd.readouterr())


def test_a_damaged_step_that_nothing_depends_on_is_set_aside(tmp_path, caplog):
  _save_all(tmp_path, [0.9, 0.1, 0.2])
  (tmp_path / '1/metrics/metrics').write_text('')
  with checkpoints.Checkpoints(tmp_path) as saved:
    assert saved.restore_last({'w': np.zeros(2, int)}).step == 2
    assert saved.best_step() == 0
  assert sorted(os.listdir(tmp_path)) == ['0', '2', 'damaged_1']
  assert f'{tmp_path}/1/metrics/metrics' in caplog.text


@pytest.mark.parametrize('damaged', [(0,), (0, 2), (0, 1, 2)])
def test_a_run_does_not_go_on_without_its_best_step(tmp_path, damaged):
  """It would come to another result than without the damage."""
  _save_all(tmp_path, [0.9, 0.1, 0.2])
  for step in damaged:
    _damage_state(tmp_path / f'{step}', 'flip')
  with checkpoints.Checkpoints(tmp_path) as saved:
    with pytest.raises(files.DamagedFileError, match=f'delete {tmp_path} to'):
      saved.restore_last({'w': np.zeros(2, int)})
  assert sorted(os.listdir(tmp_path)) == ['0', '1', '2']


@pytest.mark.parametrize(
  'damage',
  [
    *(lambda folder, i=i: _flip(_files(folder)[i]) for i in (0, 2, 5)),
    lambda folder: _damage_state(folder, 'lost'),
    lambda folder: (shutil.rmtree(folder), folder.write_text('x')),
    lambda folder: (shutil.rmtree(folder), folder.mkdir()),
  ],
)
def test_a_damaged_export_is_named_and_may_be_replaced(tmp_path, damage):
  saved_variables.save(tmp_path, {'w': np.ones(2)}, {'a': 1})
  damage(tmp_path / 'variables_0')
  with pytest.raises(files.DamagedFileError, match=f'{tmp_path}/variables_0'):
    saved_variables.load(tmp_path)
  saved_variables.save(tmp_path, {'w': np.ones(2)}, {'a': 2})
  assert saved_variables.load(tmp_path)[1] == {'a': 2}
  assert os.listdir(tmp_path) == ['variables_1']


def test_an_export_replaces_the_one_before_but_not_half_written(tmp_path):
  saved_variables.save(tmp_path, {'w': np.ones(2)}, {'a': 1})
  _leave_half_written(tmp_path, 'variables_0', 'variables_1')
  assert saved_variables.load(tmp_path)[1] == {'a': 1}
  saved_variables.save(tmp_path, {'w': np.ones(3)}, {'a': 2})
  loaded, metadata = saved_variables.load(tmp_path)
  assert (loaded['w'].shape, metadata) == ((3,), {'a': 2})
  assert len(os.listdir(tmp_path)) == 1


def test_no_export_is_a_missing_file(tmp_path):
  _save_all(tmp_path, [0.1])
  for folder in (tmp_path, tmp_path / 'missing'):
    with pytest.raises(FileNotFoundError, match=str(folder)):
      saved_variables.load(folder)


@pytest.mark.parametrize(
  'variables', [{'a': [np.ones(1)]}, {1: np.ones(1)}, {'a': np.zeros(0)}]
)
def test_variables_that_would_come_back_changed_are_refused(
  tmp_path, variables
):
  with pytest.raises(ValueError, match='in dicts with strings as keys'):
    saved_variables.save(tmp_path, variables, {})


def test_orbax_is_quiet_and_others_are_not(tmp_path, caplog):
  logger = logging.getLogger('absl')
  with caplog.at_level(logging.INFO, 'absl'):
    logger.addHandler(caplog.handler)
    _save_all(tmp_path, [0.1])
    logger.info('mine')
    logger.removeHandler(caplog.handler)
  assert {record.getMessage() for record in caplog.records} == {'mine'}
  assert not logger.filters


_ONE_OF_TWO_HOSTS = """
import sys
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
port, rank, folder = sys.argv[1:]
jax.distributed.initialize(f'localhost:{port}', 2, int(rank))
from rnascl_jax.runtime import checkpoints
mesh = Mesh(np.array(jax.devices()), ('x',))
def everywhere(spec):
  sharding = NamedSharding(mesh, spec)
  return jax.make_array_from_process_local_data(sharding, np.arange(4.0))
state = {'host': np.ones(2), 'all': everywhere(PartitionSpec())}
assert not state['all'].is_fully_addressable
with checkpoints.Checkpoints(folder) as saved:
  for step, metric in [(1, 0.5), (2, 0.1)]:
    saved.save(step, state, metric=metric, extra={'step': step})
  best = saved.restore_best(jax.tree.map(np.asarray, state))
  assert (best.step, best.extra, saved.last_step()) == (1, {'step': 1}, 2)
  assert best.state['all'].tolist() == [0.0, 1.0, 2.0, 3.0]
  try:
    saved.save(3, {'part': everywhere(PartitionSpec('x'))})
  except ValueError as error:
    assert 'part is spread over several hosts' in str(error)
  else:
    raise AssertionError
"""


def test_two_hosts_save_and_restore_one_replica(tmp_path):
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = str(free.getsockname()[1])
  environment = {**os.environ, 'XLA_FLAGS': '', 'JAX_PLATFORMS': 'cpu'}
  hosts = [
    subprocess.Popen(
      [sys.executable, '-c', _ONE_OF_TWO_HOSTS, port, rank, tmp_path],
      env=environment,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
    )
    for rank in '01'
  ]
  try:
    for host in hosts:
      output, _ = host.communicate(timeout=60)
      assert host.returncode == 0, output
  finally:
    for host in hosts:
      host.kill()
  assert sorted(os.listdir(tmp_path)) == ['1', '2']

"""Checkpoint files: what is read of them, and that nothing in them is run."""

import hashlib
import os
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from rnascl_jax.pytorch import files
from tests import torch_layouts

torch = pytest.importorskip('torch')


@pytest.fixture(scope='module')
def state():
  torch.manual_seed(0)
  net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
  return dict(net.state_dict())


def _saved(folder, saved, **options):
  path = folder / 'model.pt'
  torch.save(saved, path, **options)
  return path


def _same(arrays, state):
  assert arrays.keys() == state.keys()
  for key, value in state.items():
    np.testing.assert_array_equal(arrays[key], value.numpy())
  return True


class Bomb:
  """Makes a folder where it is unpickled."""

  def __init__(self, path):
    self.path = str(path)

  def __reduce__(self):
    return os.mkdir, (self.path,)


@pytest.mark.parametrize('old', [False, True], ids=['zip', 'old'])
@pytest.mark.parametrize('pickled', ['safe', 'inert'])
def test_code_in_a_pickle_is_never_run(pickled, old, state, tmp_path):
  proof = tmp_path / 'it ran'
  saved = {'state_dict': state, 'extra': Bomb(proof)}
  path = _saved(tmp_path, saved, _use_new_zipfile_serialization=not old)
  if pickled == 'safe':
    with pytest.raises(ValueError, match=r'names .*mkdir.*Nothing .* run'):
      files.read(path)
  else:
    assert _same(files.read(path, pickled='inert').arrays, state)
  assert not proof.exists()
  # The bomb works.
  files.read(path, pickled='unsafe')
  assert proof.exists()


@pytest.mark.parametrize('old', [False, True], ids=['zip', 'old'])
def test_objects_beside_the_weights_need_placeholders(old, state, tmp_path):
  dill = pytest.importorskip('dill')
  saved = torch_layouts.objects_beside(state)
  path = _saved(
    tmp_path,
    saved,
    pickle_module=dill,
    _use_new_zipfile_serialization=not old,
  )
  with pytest.raises(ValueError, match='--pickles=inert .* --pickles=unsafe'):
    files.read(path)
  found = files.read(path, pickled='inert')
  assert found.entry == 'state_dict'
  assert _same(found.arrays, state)


def test_a_whole_module_is_read_unsafely_only(tmp_path):
  net = torch.nn.Linear(2, 3)
  path = _saved(tmp_path, net)
  with pytest.raises(ValueError, match='torch.nn.modules.linear.Linear'):
    files.read(path)
  found = files.read(path, pickled='unsafe')
  np.testing.assert_array_equal(found.arrays['weight'], net.weight.detach())


def test_numpy_numbers_beside_the_weights_are_safe(state, tmp_path):
  logged = {'accuracy': np.float64(0.5), 'epoch': np.int64(3), 'a': np.True_}
  path = _saved(tmp_path, {'net': state, **logged})
  assert _same(files.read(path).arrays, state)


def test_a_file_has_its_digest_and_float32_whatever_it_holds(state, tmp_path):
  half = {
    key: value.half() if value.is_floating_point() else value
    for key, value in state.items()
  }
  path = _saved(tmp_path, half)
  found = files.read(path)
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  assert found.sha256 == digest
  assert found.arrays['0.weight'].dtype == np.float32
  np.testing.assert_array_equal(found.arrays['0.weight'], half['0.weight'])


@pytest.mark.parametrize('kind', ['float32', 'bfloat16', 'float64', 'float16'])
def test_safetensors_are_recognised_whatever_their_name(kind, state, tmp_path):
  from safetensors import torch as safetensors_torch

  cast = {
    key: value.to(getattr(torch, kind)) if value.is_floating_point() else value
    for key, value in state.items()
  }
  path = tmp_path / 'model.bin'
  safetensors_torch.save_file(cast, path, {'mean': '[0.5]', 'note': 'by hand'})
  found = files.read(path)
  assert found.metadata == {'mean': [0.5], 'note': 'by hand'}
  assert _same(
    found.arrays,
    {key: v.float() if v.is_floating_point() else v for key, v in cast.items()},
  )


def test_safetensors_need_no_pytorch_and_pickles_say_that_they_do(
  state, tmp_path
):
  from safetensors import torch as safetensors_torch

  safetensors_torch.save_file(state, tmp_path / 'model.safetensors')
  _saved(tmp_path, state)
  script = (
    'import sys; sys.modules["torch"] = None\n'
    'from rnascl_jax.pytorch import files\n'
    'print(len(files.read(sys.argv[1] + "/model.safetensors").arrays))\n'
    'try: files.read(sys.argv[1] + "/model.pt")\n'
    'except ImportError as error: print(error)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', script, str(tmp_path)],
    capture_output=True,
    text=True,
    check=True,
    cwd=pathlib.Path(__file__).parent.parent,
  )
  count, message = done.stdout.splitlines()
  assert int(count) == len(state)
  assert 'pip install torch' in message


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'is empty: download it again'),
    (
      b'\n<!DOCTYPE html><html><title>Google Drive - Virus scan warning',
      'web page, not a checkpoint .Google Drive asks.*gdown FILE_ID',
    ),
    (b'<html><body>404', 'is a web page, not a checkpoint: open the link'),
    (b'\xef\xbb\xbf<!DOCTYPE html>', 'is a web page, not a checkpoint'),
    (b'version https://git-lfs.github.com/spec/v1', 'git lfs pull'),
    (b'hello, this is text', "begins with b'hello, t': neither"),
    (b'\x10\0\0\0\0\0\0\0{"a":1}         ', 'not a complete safetensors'),
  ],
)
def test_what_is_no_checkpoint_is_said(content, message, tmp_path):
  path = tmp_path / 'model.pt'
  path.write_bytes(content)
  with pytest.raises(ValueError, match=message):
    files.read(path)


@pytest.mark.parametrize('pickled', ['safe', 'inert', 'unsafe'])
@pytest.mark.parametrize('old', [False, True], ids=['zip', 'old'])
@pytest.mark.parametrize('share', [0.3, 0.98])
def test_a_truncated_file_is_said(share, old, pickled, state, tmp_path):
  path = _saved(tmp_path, state, _use_new_zipfile_serialization=not old)
  content = path.read_bytes()
  path.write_bytes(content[: int(share * len(content))])
  with pytest.raises(ValueError, match='is damaged, .*download it again'):
    files.read(path, pickled=pickled)


@pytest.mark.parametrize('pickled', ['safe', 'inert', 'unsafe'])
def test_torchscript_is_refused(pickled, tmp_path):
  path = tmp_path / 'model.pt'
  with zipfile.ZipFile(path, 'w') as archive:
    for name in ('data.pkl', 'constants.pkl', 'code/__torch__.py'):
      archive.writestr(f'model/{name}', b'')
  with pytest.raises(ValueError, match=r'TorchScript .* state_dict\(\)'):
    files.read(path, pickled=pickled)


def test_missing_files_and_folders_are_said(tmp_path):
  with pytest.raises(FileNotFoundError, match='does not exist'):
    files.read(tmp_path / 'none.pt')
  with pytest.raises(FileNotFoundError, match='is a folder'):
    files.read(tmp_path)
  (tmp_path / 'model.pt').write_bytes(b'\x80')
  with pytest.raises(ValueError, match="pickles='fast' must be one of safe"):
    files.read(tmp_path / 'model.pt', pickled='fast')


def test_of_several_state_dicts_one_must_be_named(state, tmp_path):
  other = {key: value + 1 for key, value in state.items()}
  path = _saved(tmp_path, {'last': state, 'best': other, 'epoch': 3})
  with pytest.raises(ValueError, match="'last', 'best'. Choose .*--entry"):
    files.read(path)
  found = files.read(path, entry='best')
  assert found.entry == 'best'
  assert _same(found.arrays, other)
  with pytest.raises(ValueError, match="no entry 'worst'; it has .*'last'"):
    files.read(path, entry='worst')


def test_a_file_without_weights_is_said(tmp_path):
  path = _saved(tmp_path, {'epoch': 3, 'loss': torch.tensor(1.0)})
  with pytest.raises(ValueError, match="'epoch', 'loss' and no state dict"):
    files.read(path)
  with pytest.raises(ValueError, match="'epoch' of .*int and no state"):
    files.read(path, entry='epoch')


def test_what_is_no_tensor_among_the_weights_is_not_lost_in_silence(
  state, tmp_path
):
  path = _saved(tmp_path, {**state, 'normalize.mean': [0.5]})
  with pytest.raises(ValueError, match='among its weights, normalize.mean, wh'):
    files.read(path)
  path = _saved(tmp_path, {**state, 'normalize.mean': np.ones(3)})
  with pytest.raises(ValueError, match='among its weights, normalize.mean, wh'):
    files.read(path, pickled='inert')
  extra = {**state, 'layer._extra_state': None, 'nothing': None}
  assert _same(files.read(_saved(tmp_path, extra)).arrays, state)


def test_a_tensor_beside_the_state_dict_does_not_hide_it(state, tmp_path):
  random = {'rng_state': torch.get_rng_state(), 'mean': torch.ones(3)}
  found = files.read(_saved(tmp_path, {'state_dict': state, **random}))
  assert found.entry == 'state_dict'
  assert _same(found.arrays, state)


def test_a_sparse_tensor_is_refused(state, tmp_path):
  sparse = {**state, '0.bias': torch.eye(3).to_sparse()}
  with pytest.raises(
    ValueError, match='0.bias is a sparse or quantised tensor'
  ):
    files.read(_saved(tmp_path, sparse))


def test_objects_of_classes_that_dill_writes_out_become_placeholders(
  state, tmp_path
):
  dill = pytest.importorskip('dill')
  written_out = {'__module__': '__main__', 'epsilon': 8}
  params = type('Params', (), written_out)()
  params.list = [params]
  path = _saved(
    tmp_path, {'state_dict': state, 'args': params}, pickle_module=dill
  )
  with pytest.raises(ValueError, match='--pickles=inert'):
    files.read(path)
  assert _same(files.read(path, pickled='inert').arrays, state)


def test_a_file_cannot_change_the_functions_that_it_may_call(state, tmp_path):
  """A pickle may set attributes of whatever it finds."""
  rebuild = torch._utils._rebuild_tensor_v2
  before = rebuild.__defaults__

  content = (
    b'\x80\x02}(X\x05\x00\x00\x00stateX\x01\x00\x00\x00xX\x01\x00\x00\x00e'
    b'ctorch._utils\n_rebuild_tensor_v2\n'
    b'N}X\x0c\x00\x00\x00__defaults__)s\x86bu.'
  )
  path = tmp_path / 'evil.pt'
  torch.save(state, path)
  with zipfile.ZipFile(path) as archive:
    parts = {name: archive.read(name) for name in archive.namelist()}
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive:
    for name, part in parts.items():
      archive.writestr(name, content if name.endswith('data.pkl') else part)
  with pytest.raises(ValueError, match='no state dict'):
    files.read(path, pickled='inert')
  assert rebuild.__defaults__ == before


@pytest.mark.parametrize('pickled', ['safe', 'inert', 'unsafe'])
@pytest.mark.parametrize('old', [False, True], ids=['zip', 'old'])
def test_damaged_bytes_are_an_error_of_the_file_or_read(
  old, pickled, state, tmp_path
):
  """Whatever byte is wrong: a ValueError, or arrays; never another error."""
  path = _saved(tmp_path, state, _use_new_zipfile_serialization=not old)
  content, random = path.read_bytes(), np.random.default_rng(0)
  refused = 0
  for _ in range(60):
    damaged = bytearray(content)
    for place in random.integers(0, len(content), 3):
      damaged[place] = random.integers(0, 256)
    path.write_bytes(damaged)
    try:
      files.read(path, pickled=pickled)
    except ValueError:
      refused += 1
  assert refused > 10

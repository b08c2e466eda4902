"""Checkpoint files: what is read of them, and that nothing in them is run."""

import bz2
import collections
import gzip
import hashlib
import importlib
import os
import pathlib
import pickle
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest

from rnascl_jax.interop import files
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


def _crafted(folder, changed):
  """A file of `torch.save` with other records, by the name behind its own."""
  path = folder / 'model.pt'
  torch.save({'a.weight': torch.ones(2, 3)}, path)
  with zipfile.ZipFile(path) as archive:
    parts = {name: archive.read(name) for name in archive.namelist()}
  with zipfile.ZipFile(path, 'w') as archive:
    for name, part in parts.items():
      archive.writestr(name, changed.pop(name.partition('/')[2], part))
    for name, part in changed.items():
      archive.writestr(name, part)
  return path


def _tensor(shape=(2, 3), strides=(3, 1), offset=0, count=6):
  """The part of a pickle that makes a tensor of the storage '0'."""

  def numbers(values):
    return b'(' + b''.join(map(number, values)) + b't'

  def number(value):
    return b'\x8a\x08' + value.to_bytes(8, 'little', signed=True)

  return (
    b'ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storage'
    b'ctorch\nFloatStorage\nX\1\0\0\x000X\3\0\0\0cpu'
    + number(count)
    + b'tQ'
    + number(offset)
    + numbers(shape)
    + numbers(strides)
    + b'\x89}tR'
  )


def _state_pickle(*made):
  """A pickle of a dict of these, under the keys '0000', '0001', ..."""
  items = (b'X\4\0\0\0%04d' % i + each for i, each in enumerate(made))
  return b'\x80\2}(' + b''.join(items) + b'u.'


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


def test_safetensors_whose_length_is_the_number_of_gzip_are_read(tmp_path):
  header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
  content = (0x8B1F).to_bytes(8, 'little') + header.ljust(0x8B1F) + bytes(4)
  path = tmp_path / 'model.safetensors'
  path.write_bytes(content)
  np.testing.assert_array_equal(files.read(path).arrays['a'], np.zeros(1))


def test_a_digest_beside_what_is_no_json_is_wrong(state, tmp_path):
  beside = {'sha256': 64 * '0', 'epochs': {1, 2}}
  path = _saved(tmp_path, {'state_dict': state, 'metadata': beside})
  with pytest.raises(ValueError, match='is damaged: its SHA-256'):
    files.read(path)


def test_an_older_file_lists_its_storages_by_texts(state, tmp_path):
  path = _saved(tmp_path, state, _use_new_zipfile_serialization=False)
  content = path.read_bytes()
  begin = content.rindex(b'\x80\2]')
  end = content.index(b'.', begin) + 1
  numbers = [int(key) for key in pickle.loads(content[begin:end])]
  changed = pickle.dumps(numbers, protocol=2)
  path.write_bytes(content[:begin] + changed + content[end:])
  with pytest.raises(ValueError, match='lists other storages'):
    files.read(path)


def test_pytorch_is_needed_to_read_unsafely_only(state, tmp_path):
  from safetensors import torch as safetensors_torch

  safetensors_torch.save_file(state, tmp_path / 'model.safetensors')
  _saved(tmp_path, state)
  script = (
    'import sys; sys.modules["torch"] = None\n'
    'from rnascl_jax.interop import files\n'
    'print(len(files.read(sys.argv[1] + "/model.safetensors").arrays))\n'
    'for way in ("safe", "inert", "unsafe"):\n'
    '  try: print(len(files.read(sys.argv[1] + "/model.pt", pickled=way)[2]))\n'
    '  except ImportError as error: print(error)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', script, str(tmp_path)],
    capture_output=True,
    text=True,
    check=True,
    cwd=pathlib.Path(__file__).parents[2],
  )
  *counts, message = done.stdout.splitlines()
  assert counts == 3 * [str(len(state))]
  assert 'pip install "rnascl_jax[torch]"' in message


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


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('all.zip', "zip archive with 'model.pt', not .*unzip .*all.zip"),
    ('all.tar', 'is a tar archive, not a .*tar -xf .*all.tar'),
    ('all.tar.gz', 'packed with gzip, not a checkpoint: run "tar -xf '),
    ('model.pt.gz', 'packed with gzip, .*run "gunzip -k .*model.pt.gz"'),
    ('all.tar.xz', 'packed with xz, not .*run "tar -xf '),
    ('model.pt.bz2', 'packed with bzip2, .*bunzip2 -k'),
    ('a b.7z', "packed with 7-Zip, .*7z x '.*/a b.7z'"),
  ],
)
@pytest.mark.parametrize('pickled', ['safe', 'inert', 'unsafe'])
def test_an_archive_around_a_checkpoint_says_how_to_unpack_it(
  pickled, name, message, state, tmp_path
):
  model, path = _saved(tmp_path, state), tmp_path / name
  if name.endswith('.zip'):
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as file:
      file.write(model, 'model.pt')
      file.writestr('LICENSE', b'free')
  elif '.tar' in name:
    mode = path.suffix[1:].replace('tar', '')
    with tarfile.open(path, f'w:{mode}') as file:
      file.add(model, 'model.pt')
  elif name.endswith('.7z'):
    path.write_bytes(b"7z\xbc\xaf'\x1c" + bytes(99))
  else:
    packer = {'.gz': gzip, '.bz2': bz2}[path.suffix]
    path.write_bytes(packer.compress(model.read_bytes()))
  with pytest.raises(ValueError, match=message):
    files.read(path, pickled=pickled)


def test_a_checkpoint_is_named_by_more_than_texts(state, tmp_path):
  """As of an ensemble, whose members are numbered or in a list."""
  numbered = {0: state, 1: {key: value + 1 for key, value in state.items()}}
  path = _saved(tmp_path, numbered)
  with pytest.raises(ValueError, match="several state dicts: '0', '1'. Choose"):
    files.read(path)
  assert _same(files.read(path, entry='1').arrays, numbered[1])
  assert _same(files.read(_saved(tmp_path, {0: state})).arrays, state)
  path = _saved(tmp_path, {'members': [*numbered.values()], 'epoch': 3})
  for way in ('safe', 'inert', 'unsafe'):
    with pytest.raises(
      ValueError, match=r'a list of 2 state dicts.* torch.save.them.0., path'
    ):
      files.read(path, entry='members', pickled=way)
  with pytest.raises(ValueError, match='a list of 1 state dicts and no'):
    files.read(_saved(tmp_path, [state]))


class Named(dict):
  """A class of dicts, as of those whose items are attributes."""


def test_dicts_of_other_classes_and_arrays_beside_are_read_inertly(
  state, tmp_path
):
  beside = {
    'texts': [np.str_('abc'), np.array(['a', 'b']), np.array([None])],
    'dates': np.datetime64('2020-01-01'),
  }
  path = _saved(tmp_path, Named(net=Named(state), **beside))
  with pytest.raises(
    ValueError, match='multiarray._reconstruct.* tests.*Named'
  ):
    files.read(path)
  assert _same(files.read(path, pickled='inert').arrays, state)


@pytest.mark.parametrize('entry', ['', 'net'])
@pytest.mark.parametrize('old', [False, True], ids=['zip', 'old'])
@pytest.mark.filterwarnings('ignore:Couldn:UserWarning')
def test_a_whole_module_is_said_to_be_one(old, entry, tmp_path):
  net = torch.nn.Linear(2, 3)
  saved = {'net': net, 'epoch': 3} if entry else net
  path = _saved(tmp_path, saved, _use_new_zipfile_serialization=not old)
  message = (
    r'a whole module of torch.nn.modules.linear.Linear no weights are read.*'
    r'save model.state_dict.., or .* --pickles=unsafe'
  )
  with pytest.raises(ValueError, match=message):
    files.read(path, pickled='inert')
  with pytest.raises(ValueError, match='modules.linear.Linear. Nothing of it'):
    files.read(path)


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


@pytest.mark.parametrize(
  ('module', 'name', 'attribute'),
  [
    ('torch', 'UntypedStorage', 'nbytes'),
    ('torch', 'UntypedStorage', 'device'),
    ('torch._utils', '_rebuild_tensor_v2', '__defaults__'),
    ('collections', 'OrderedDict', '__setitem__'),
    ('torch', 'Size', '__len__'),
    ('builtins', 'dict', 'update'),
    ('rnascl_jax.interop.makers', 'Placeholder', '__init__'),
  ],
)
def test_a_file_changes_nothing_of_what_it_names(
  module, name, attribute, state, tmp_path
):
  """A pickle may set attributes of whatever it finds, classes included."""
  found = getattr(importlib.import_module(module), name)
  before = getattr(found, attribute, None)
  key = attribute.encode()
  content = (
    b'\x80\2}X\1\0\0\0x'
    + f'c{module}\n{name}\n'.encode()
    + b'N}U%c%bK*s\x86bs.' % (len(key), key)
  )
  path = _crafted(tmp_path, {'data.pkl': content})
  with pytest.raises(ValueError, match="holds entries 'x' and no state dict"):
    files.read(path, pickled='inert')
  assert getattr(found, attribute, None) == before
  assert _same(files.read(_saved(tmp_path, state)).arrays, state)


class Script(torch.nn.Module):
  """Writes bytes of its own to a file when it is loaded."""

  def __init__(self, path):
    super().__init__()
    self.written = torch.zeros(4, dtype=torch.uint8)
    self.path: str = path

  def forward(self, x):
    return x + self.written

  @torch.jit.export
  def __getstate__(self):
    return (self.written, self.path, self.training)

  @torch.jit.export
  def __setstate__(self, state: tuple[torch.Tensor, str, bool]):
    self.written, self.path, self.training = state[0], state[1], state[2]
    there = torch.from_file(state[1], True, 4, dtype=torch.uint8)
    there.copy_(self.written)
    self.written = there


@pytest.mark.filterwarnings('ignore:.*torch.jit:DeprecationWarning')
@pytest.mark.filterwarnings('ignore:.*TorchScript:UserWarning')
def test_torchscript_never_runs_however_its_archive_is_damaged(tmp_path):
  """Another parser may still find the code that a damaged archive hides."""
  path, proof = tmp_path / 'script.pt', tmp_path / 'written by the file'
  torch.jit.script(Script(str(proof))).save(str(path))
  content = path.read_bytes()
  entry = content.rfind(b'PK\1\2')
  for place in (
    None,
    entry + 4,
    entry + 6,
    entry + 8,
    entry + 10,
    len(content),
  ):
    damaged = bytearray(content + b'\0' * (place == len(content)))
    if place is not None:
      damaged[place] = 99
    path.write_bytes(damaged)
    for way in ('safe', 'inert', 'unsafe'):
      with pytest.raises(ValueError, match='script.pt is '):
        files.read(path, pickled=way)
  assert not proof.exists()
  # The bomb works.
  path.write_bytes(content)
  torch.jit.load(path)
  assert proof.exists()


@pytest.mark.parametrize('pickled', ['safe', 'inert', 'unsafe'])
def test_an_archive_that_can_be_read_in_two_ways_is_refused(pickled, tmp_path):
  """The directory, the headers before the records and the bytes must agree."""
  path = _saved(tmp_path, {'a.weight': torch.ones(2, 3)})
  content = path.read_bytes()
  entry, local = content.find(b'PK\1\2'), content.find(b'PK\3\4')
  end = content.find(b'PK\6\6')
  extra = local + 30 + len('model/data.pkl')
  changed = {
    # Fields: version, flags, method, CRC-32, sizes, name, place.
    **{f'entry {at}': entry + at for at in (6, 8, 10, 16, 20, 24, 42, 46, 55)},
    **{f'header {at}': local + at for at in (4, 6, 8, 14, 18, 22, 26, 30, 43)},
    **{f'end {at}': end + at for at in (4, 16, 24, 32, 40, 48)},
    'extra field': extra,
    'number of the archive': len(content) - 22 + 4,
    'comment': len(content) - 2,
    'descriptor': content.find(b'PK\7\x08') + 8,
    'bytes': content.find(b'_rebuild'),
  }
  wrong = [*changed]
  for what, place in changed.items():
    damaged = bytearray(content)
    damaged[place] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r'model\.pt (is damaged|has )'):
      files.read(path, pickled=pickled)
    wrong.remove(what)
  assert not wrong
  for other in (b'PK\3\4' + content, content + b'\0', content[1:]):
    path.write_bytes(other)
    with pytest.raises(ValueError, match=r'model\.pt (is damaged|begins)'):
      files.read(path, pickled=pickled)


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'model/data/x': b''}, "record 'model/data/x'"),
    ({'model/constants.pkl': b''}, 'is a TorchScript archive'),
    ({'other/data/1': b''}, "record 'other/data/1'"),
    ({'model/data/../data.pkl': b''}, 'record'),
    ({'byteorder': b'middle'}, "in the order 'middle'"),
    ({'data/0': b'short'}, 'storage 0 has fewer numbers'),
  ],
)
def test_records_that_torch_save_does_not_write_are_refused(
  changed, message, tmp_path
):
  path = _crafted(tmp_path, dict(changed))
  for way in ('safe', 'inert'):
    with pytest.raises(ValueError, match=message):
      files.read(path, pickled=way)


def test_a_compressed_file_says_how_it_is_read(tmp_path):
  path = _saved(tmp_path, {'a.weight': torch.zeros(1000, 1000)})
  with zipfile.ZipFile(path) as archive:
    parts = {name: archive.read(name) for name in archive.namelist()}
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    for name, part in parts.items():
      archive.writestr(name, part)
  with pytest.raises(ValueError, match=r'compressed.* torch.save.torch.load'):
    files.read(path)


def test_every_kind_of_tensor_is_read_as_pytorch_has_it(tmp_path):
  torch.manual_seed(0)
  base = torch.randn(6, 8)
  state = {
    'base': base,
    'rows': base[1:3],
    'transposed': base.t(),
    'steps': base[::2, ::3],
    'offset': base[2, 3:],
    'repeated': torch.tensor([0.5]).expand(3, 1, 1),
    'empty': torch.empty(2, 0, 5),
    'number': torch.tensor(3.0),
    'parameter': torch.nn.Parameter(torch.randn(2, 2)),
    'large': torch.tensor([1e300], dtype=torch.float64),
    'flags': torch.tensor([True, False]),
    **{
      kind: torch.arange(5).to(getattr(torch, kind))
      for kind in (
        *('float64', 'float16', 'bfloat16', 'float8_e4m3fn', 'float8_e5m2'),
        *('int64', 'int32', 'int16', 'int8', 'uint8', 'uint16', 'complex64'),
      )
    },
  }
  state['parameter'].note = 'beside it'
  for protocol in (2, 3, 4, 5):
    for old in (False, True):
      path = _saved(
        tmp_path,
        collections.OrderedDict(state),
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=not old,
      )
      for way in ('safe', 'inert'):
        arrays = files.read(path, pickled=way).arrays
        assert arrays.keys() == state.keys()
        for key, value in state.items():
          dense = value.detach()
          dense = dense.float() if value.is_floating_point() else dense
          assert arrays[key].dtype == dense.numpy().dtype
          np.testing.assert_array_equal(arrays[key], dense.numpy(), key)


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
@pytest.mark.parametrize('old', [False, True], ids=['zip', 'old'])
def test_what_is_beside_the_weights_is_read(old, protocol, state, tmp_path):
  beside = {
    'numbers': [np.float64(0.5), np.int64(3), np.True_, 2**300, -(2**70), 1j],
    'texts': ['\xe4\u20ac', 'x' * 70_000, b'\xff\0', b'', None, True],
    'sets': [{1, 2}, set(), {(1, 2): 3}],
    'dicts': collections.OrderedDict(collections.Counter('abca')),
    'shape': torch.Size([1, 2]),
  }
  beside['itself'] = [beside]
  path = _saved(
    tmp_path,
    {'net': state, 'metadata': beside},
    pickle_protocol=protocol,
    _use_new_zipfile_serialization=not old,
  )
  found = files.read(path)
  assert _same(found.arrays, state)
  assert found.metadata['itself'][0]['itself'] is found.metadata['itself']
  for name in ('numbers', 'texts', 'sets', 'dicts', 'shape'):
    assert found.metadata[name] == beside[name]


_LAUGHS = b'K\0\x85q\x000' + b''.join(
  b'h%ch%c\x86q%c0' % (i, i, i + 1) for i in range(99)
)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (_state_pickle(_tensor((10**9,), (0,))), 'tensors have 1,000,000,000 n'),
    (_state_pickle(_tensor((2**62, 2**62), (0, 0))), 'too big'),
    (
      _state_pickle(*[_tensor((3000,), (0,))] * 999),
      'tensors have 2,997,000 numbers',
    ),
    (_state_pickle(_tensor(offset=1)), 'a tensor reaches beyond its storage 0'),
    (_state_pickle(_tensor(strides=(2**62, 1))), 'reaches beyond its stor'),
    (_state_pickle(_tensor(strides=(3, -1))), 'strides that are none'),
    (_state_pickle(_tensor(shape=(-1, 3))), 'strides that are none'),
    (_state_pickle(_tensor(count=7)), 'storage 0 has fewer numbers'),
    (_state_pickle(_tensor((2**62, 2**62, 0), (1, 1, 1))), 'too big'),
    # A key that takes 2^99 steps to compare.
    (b'\x80\2}' + _LAUGHS + b'h\x63K\1s.', 'no state dict'),
    (
      b'\x80\2](X\x64\0\0\0%bq\1c_codecs\nencode\nq\2' % (b'a' * 100)
      + b'h\2h\1\x85R' * 1000
      + b'e.',
      'copies more than it holds',
    ),
    (b'\x80\2}r\xff\xff\xff\xff.', 'no state dict'),
    (b'\x80\4\x8e' + b'\xff' * 8 + b'.', 'is damaged'),
    (b'\x80\2\x8b\xff\xff\xff\x7f.', 'is damaged'),
    (b'\x80\2\x8b\xff\xff\0\0' + b'\7' * 65535 + b'.', 'integer of 524,275'),
    (b'\x80\2' + b']' * 9999 + b'a' * 9998 + b'.', 'holds a list and no'),
    (b'\x80\2}X\5\0\0\0\x1b[31m' + _tensor() + b's.', 'not printed'),
    (b'\x80\2\x82\1.', 'has the operation'),
    (b'\x80\2}.}', 'behind its pickle'),
    (b'\x80\2}}.', 'ends before it is complete'),
    (b'\x80\2ctorch.nn\nLinear\n}b.', 'names torch.nn.Linear'),
  ],
)
def test_a_small_file_does_not_take_much_memory_or_time(
  content, message, tmp_path
):
  path = _crafted(tmp_path, {'data.pkl': content})
  with pytest.raises(ValueError, match=message) as raised:
    files.read(path)
  assert str(path) in str(raised.value)


@pytest.mark.parametrize('pickled', ['safe', 'inert', 'unsafe'])
@pytest.mark.parametrize('old', [False, True], ids=['zip', 'old'])
def test_damaged_bytes_are_an_error_of_the_file_or_read(
  old, pickled, state, tmp_path
):
  """Whatever byte is wrong: a ValueError, or arrays; never another error.

  A file of PyTorch before 1.6 has no checksums: its arrays may be others.
  """
  path = _saved(tmp_path, state, _use_new_zipfile_serialization=not old)
  content, random = path.read_bytes(), np.random.default_rng(0)
  refused = 0
  for _ in range(60):
    damaged = bytearray(content)
    for place in random.integers(0, len(content), 3):
      damaged[place] = random.integers(0, 256)
    path.write_bytes(damaged)
    try:
      arrays = files.read(path, pickled=pickled).arrays
      assert old or _same(arrays, state)
    except ValueError as error:
      assert str(path) in str(error)
      refused += 1
  assert refused > 10

"""Tests of rnascl_jax.runtime.doctor."""

import configparser
import json
import pathlib
import re
import sys

import jax
import pytest

from rnascl_jax.runtime import doctor, extras
from tests import commands


def _lines(check, *arguments):
  """The lines of one check by their subject."""
  return {line.subject.strip(): line for line in check(*arguments)}


@pytest.fixture
def prepared(tmp_path):
  """Makes a data set that looks as TFDS prepares one."""

  def make(name, file_format='array_record', **splits):
    folder = tmp_path / name / '1.0.0'
    folder.mkdir(parents=True)
    described = []
    for split, counts in splits.items():
      described.append(
        {'name': split, 'shardLengths': [str(count) for count in counts]}
      )
      for place in range(len(counts)):
        shard = f'{name}-{split}.{file_format}-{place:05}-of-{len(counts):05}'
        (folder / shard).touch()
    info = {'name': name, 'fileFormat': file_format, 'splits': described}
    (folder / 'dataset_info.json').write_text(json.dumps(info))
    return folder

  return make


def test_a_machine_that_runs_the_tests_has_what_the_demo_needs(tmp_path):
  code, text = commands.run('doctor', f'--workdir={tmp_path / "new" / "run"}')

  assert code == 0
  assert 'BROKEN' not in text
  assert re.search(r'OK +digits +1,797 images', text)
  assert f'jaxlib {jax.lib.__version__}' in text
  assert re.search(r'OK +matmul +as NumPy on \d+ cpu', text)
  words = ' '.join(text.split())
  assert re.search(r'OK workdir \S*/new/run, [\d,.]+ GB free', words)
  assert not any(tmp_path.iterdir())


def test_every_package_that_the_demo_needs_is_looked_at():
  parser = configparser.ConfigParser()
  parser.read(pathlib.Path(__file__).parents[2] / 'setup.cfg')
  lines = parser['options']['install_requires'].split()
  names = {re.split('[<>=]', line)[0] for line in lines}

  assert names == set(doctor.REQUIRED.values())


def test_a_missing_package_is_told_and_all_else_is_looked_at(monkeypatch):
  for module in ('sklearn', 'sklearn.datasets', 'matplotlib'):
    monkeypatch.setitem(sys.modules, module, None)

  lines = doctor.examine()

  broken = {line.subject: line.remedy for line in lines if line.broken}
  assert broken == {
    'matplotlib': 'pip install matplotlib',
    'scikit-learn': 'pip install scikit-learn',
    'digits': 'pip install scikit-learn',
  }
  assert doctor.status(lines) == 1
  assert {'JAX', 'matmul', 'extra data'} <= {line.subject for line in lines}


def test_a_jax_that_cannot_start_is_told_without_a_traceback(monkeypatch):
  def fail():
    raise RuntimeError('no device\nat all')

  monkeypatch.setattr(jax, 'local_devices', fail)

  lines = doctor.examine()

  values = {line.subject: line.value for line in lines if line.broken}
  assert values == {
    'devices': 'no device at all',
    'computation': 'RuntimeError: no device at all',
  }


@pytest.mark.parametrize('name', ['matmul', 'convolution'])
def test_a_device_that_computes_something_else_is_broken(name, monkeypatch):
  module, function = {
    'matmul': (jax.numpy, 'matmul'),
    'convolution': (jax.lax, 'conv_general_dilated'),
  }[name]
  right = getattr(module, function)
  monkeypatch.setattr(
    module, function, lambda *args, **options: 1.001 * right(*args, **options)
  )

  lines = _lines(doctor._computations)

  assert [subject for subject, line in lines.items() if line.broken] == [name]
  assert 'off by 0.001' in lines[name].value


@pytest.mark.parametrize('platforms', ['', 'cpu'])
def test_an_accelerator_that_jax_does_not_use_is_told(
  platforms, monkeypatch, tmp_path
):
  file = tmp_path / 'nvidia0'
  file.touch()
  monkeypatch.setattr(doctor, '_ACCELERATORS', (('GPU', str(file), 'cuda13'),))
  monkeypatch.setenv('JAX_PLATFORMS', platforms)

  remedy = _lines(doctor._devices)['backend'].remedy

  assert ('rnascl_jax[cuda13]' in remedy) == (not platforms)


def test_prepared_data_sets_are_counted_without_tfds(
  prepared, tmp_path, monkeypatch
):
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  prepared('flowers', train=[600, 500], test=[7])
  (
    prepared('lost', train=[1, 2, 3]) / 'lost-train.array_record-00001-of-00003'
  ).unlink()
  prepared('old', file_format='tfrecord', train=[5])
  (prepared('damaged', train=[5]) / 'dataset_info.json').write_text('{"name":')

  lines = _lines(doctor._prepared, '')

  assert lines['prepared data'].value == str(tmp_path)
  assert lines['flowers 1.0.0'] == doctor.Line(
    '  flowers 1.0.0', '1,100 train, 7 test images'
  )
  assert lines['lost 1.0.0'].value == '1 of 3 files of train are missing'
  assert "file_format='array_record'" in lines['old 1.0.0'].remedy
  assert 'dataset_info.json cannot be read' in lines['damaged'].value
  assert all(lines[name].remedy for name in ('lost 1.0.0', 'damaged'))


@pytest.mark.parametrize(
  ('folder', 'value'),
  [('none', 'none does not exist'), ('', 'has none'), ('gs://b', 'gs:// does')],
)
def test_a_folder_without_prepared_data_is_told_where_one_was_named(
  folder, value, tmp_path, monkeypatch
):
  named = folder if ':' in folder else str(tmp_path / folder)
  monkeypatch.setenv('TFDS_DATA_DIR', named)

  (line,) = _lines(doctor._prepared, '').values()

  assert value in line.value
  assert 'TFDS_DATA_DIR' in line.remedy and not line.broken

  monkeypatch.delenv('TFDS_DATA_DIR')
  monkeypatch.setenv('HOME', str(tmp_path))
  (line,) = _lines(doctor._prepared, '').values()
  assert not line.remedy


def test_folders_that_cannot_be_written_to_are_told(tmp_path, monkeypatch):
  (tmp_path / 'file').touch()
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file' / 'cache'))
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR', raising=False)

  (cache,) = doctor._compilation_cache()
  (workdir,) = doctor._workdir(str(tmp_path / 'file' / 'run'))

  assert 'cannot be written' in cache.value
  assert 'XDG_CACHE_HOME' in cache.remedy and not cache.broken
  assert 'cannot be written' in workdir.value and workdir.broken


def test_the_cache_says_how_much_is_in_it(tmp_path, monkeypatch):
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', str(tmp_path))
  for name in ('one-cache', 'two-cache', 'two-atime'):
    (tmp_path / name).write_bytes(bytes(1_000_000))

  (line,) = doctor._compilation_cache()

  assert line.value.endswith('2 programs of 2 MB')
  assert not line.remedy


def test_a_full_disk_is_told(tmp_path, monkeypatch):
  monkeypatch.setattr(doctor, '_LEAST_FREE', 1e18)

  (line,) = doctor._workdir(str(tmp_path / 'run'))

  assert line.remedy == f'free some space on the disk of {tmp_path}'


def test_extras_that_are_missing_say_what_they_are_for(monkeypatch):
  monkeypatch.setitem(sys.modules, 'grain', None)

  line = _lines(doctor._extras)['extra data']

  assert line.value.endswith('no grain')
  assert 'for prepared data sets' in line.remedy
  assert extras.install('data') in line.remedy
  assert doctor.table([line]).startswith('OK ')

"""A new user's path: images from every source, from the teacher to a report."""

import gc
import json
import shutil

import jax
import numpy as np
import pytest

from configs import images
from rnascl_jax import stages
from rnascl_jax.data import datasets
from rnascl_jax.runtime import files, processes, saved_variables
from tests import tiny, tiny_imagenet, tiny_sources

_TIMES = ('seconds', 'steps_per_second', 'images_per_second')


@pytest.fixture(autouse=True)
def labels_are_kept_apart(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def _config(name, *, fine_tuned=False):
  """The tiny run, on other images."""
  config = tiny.config()
  config.data.update(name=name, validation_size=12, max_train=0, max_test=0)
  for stage in ('teacher', 'search', 'train'):
    config[stage].optimization.epochs = 1
  config.students = {'rnas_cl': config.students['rnas_cl']}
  if not fine_tuned:
    config.adversarial.students = {}
  config.evaluation.auto_attack = ()
  config.evaluation.auto_attack_models = ()
  config.evaluation.attacks = ('fgsm',)
  config.evaluation.curve_epsilons_255 = (8.0,)
  return config


@pytest.fixture(scope='module')
def sources(tmp_path_factory):
  """A folder with train/ and test/, and an npz of the same images."""
  root = tmp_path_factory.mktemp('sources')
  arrays = {'class_names': list(tiny_sources.NAMES)}
  for seed, split in enumerate(('train', 'test')):
    pair = tiny_sources.pictures(28, (8, 8, 1), seed=seed)
    tiny_sources.write_folder(root / 'folder' / split, *pair)
    arrays |= {f'x_{split}': pair[0], f'y_{split}': pair[1]}
  np.savez(root / 'images.npz', **arrays)
  return root


@pytest.fixture(scope='module')
def npz_run(sources, tmp_path_factory):
  folder = tmp_path_factory.mktemp('npz')
  table = stages.pipeline(_config(f'npz:{sources}/images.npz'), str(folder))
  return folder, table


def _log(stage):
  """The metrics of a stage, without times."""
  return [
    {key: line[key] for key in line if key not in _TIMES}
    for line in files.read_json_lines(stage / 'metrics.jsonl')
  ]


def assert_same_run(first, second, *names):
  """The same log and weights of stages, to the bit."""
  for name in names:
    assert _log(first / name) == _log(second / name)
    weights = [
      saved_variables.load(folder / name / 'model')[0]
      for folder in (first, second)
    ]
    for one, other in zip(*map(jax.tree.leaves, weights), strict=True):
      np.testing.assert_array_equal(one, other)


def test_a_run_on_an_npz_ends_with_a_report(npz_run):
  folder, table = npz_run
  assert 'FGSM' in table and (folder / 'report.md').exists()
  kept = files.read_json(folder / 'data.json')
  assert kept['classes'] == list(tiny_sources.NAMES)
  assert kept['images'] == {'train': 72, 'validation': 12, 'test': 84}
  for model in ('teacher', 'train/rnas_cl'):
    metadata = saved_variables.load_metadata(folder / model / 'model')
    assert [metadata['mean'], metadata['std']] == [kept['mean'], kept['std']]
    assert metadata['num_classes'] == 3


def test_a_folder_that_is_streamed_gives_the_run_of_the_npz_in_memory(
  npz_run, sources, tmp_path
):
  config = _config(f'folder:{sources}/folder')
  config.data.memory_limit = 0
  stages.teacher(config, str(tmp_path))
  stages.search(config, str(tmp_path))
  assert_same_run(npz_run[0], tmp_path, 'teacher')
  assert _log(tmp_path / 'search') == _log(npz_run[0] / 'search')
  summary = files.read_json(tmp_path / 'teacher' / 'stage.json')
  assert summary['waited_for_images'] is not None


@pytest.fixture
def few_programs():
  """Forgets the programs of a test: those of many runs are too many."""
  yield
  jax.clear_caches()
  gc.collect()


@pytest.mark.slow
@pytest.mark.usefixtures('few_programs')
def test_whole_runs_on_the_same_images_are_the_same(sources, tmp_path):
  kinds = ('npz:{}/images.npz', 2048), ('folder:{}/folder', 2048)
  kinds = (*kinds, ('npz:{}/images.npz', 0), ('folder:{}/folder', 0))
  folders = []
  for name, memory_limit in kinds:
    config = _config(name.format(sources), fine_tuned=True)
    config.data.memory_limit = memory_limit
    folders.append(tmp_path / str(len(folders)))
    stages.pipeline(config, str(folders[-1]))
  first, *others = folders
  for other in others:
    assert_same_run(
      first, other, 'teacher', 'train/rnas_cl', 'adversarial/rnas_cl_eq6'
    )
    evaluated, again = (
      np.load(folder / 'evaluation' / 'rnas_cl_eq6.npz')
      for folder in (first, other)
    )
    for name in evaluated:
      np.testing.assert_array_equal(evaluated[name], again[name])


@pytest.fixture
def begun(sources, tmp_path):
  """A copy of the images, and a workdir of a run on it."""
  shutil.copytree(sources / 'folder', tmp_path / 'folder')
  config = _config(f'folder:{tmp_path}/folder')
  tiny.opened(config, str(tmp_path / 'run'))
  return config, tmp_path


def test_a_resumed_run_takes_the_constants_that_were_kept(begun):
  config, root = begun
  path = root / 'run' / 'data.json'
  kept = json.loads(path.read_text())
  kept['mean'] = [0.25]
  path.write_text(json.dumps(kept))
  config.data.memory_limit = 0
  assert tiny.opened(config, str(root / 'run')).data.mean == (0.25,)


def test_a_run_does_not_go_on_with_other_images(begun):
  config, root = begun
  next((root / 'folder' / 'train' / 'cat').iterdir()).unlink()
  with pytest.raises(ValueError, match='other images of .*train.: 72'):
    tiny.opened(config, str(root / 'run'))


def test_another_config_is_said_before_its_images_are_compared(begun):
  config, root = begun
  config.data.name = 'digits'
  with pytest.raises(ValueError, match="another config .data.name: 'folder:"):
    tiny.opened(config, str(root / 'run'))


def test_a_file_that_is_written_anew_is_read_anew(tmp_path):
  path = tmp_path / 'a.npz'
  pair = tiny_sources.pictures(28, (8, 8, 1))
  for number, inverted in enumerate((0, 255)):
    np.savez(path, images=pair[0] ^ np.uint8(inverted), labels=pair[1])
    run = tiny.opened(_config(f'npz:{path}'), str(tmp_path / str(number)))
    known = {image.tobytes() for image in pair[0] ^ np.uint8(inverted)}
    assert {image.tobytes() for image in run.data.train.images} <= known


def test_processes_with_different_images_are_refused(
  sources, tmp_path, monkeypatch
):
  def texts(text):
    return [text, text.replace('fingerprint=', 'fingerprint=0')]

  monkeypatch.setattr(processes, 'texts', texts)
  with pytest.raises(ValueError, match='another data set .*fingerprint=0'):
    tiny.opened(_config(f'npz:{sources}/images.npz'), str(tmp_path))
  assert not (tmp_path / 'config.json').exists()


def test_a_run_of_before_these_fields_goes_on(tmp_path):
  config = tiny.config()
  tiny.opened(config, str(tmp_path))
  path = tmp_path / 'config.json'
  saved = json.loads(path.read_text())
  for name in ('test_share', 'memory_limit', 'train_split', 'test_split'):
    del saved['data'][name]
  path.write_text(json.dumps(saved))
  tiny.opened(config, str(tmp_path))


def test_padding_beside_random_crops_is_refused(sources, tmp_path):
  config = _config(f'folder:{sources}/folder')
  config.data.update(image_size=16, padding=2)
  with pytest.raises(ValueError, match='padding=2 .*random-resized.*min_crop='):
    tiny.opened(config, str(tmp_path))
  config.data.min_crop = 0.0
  tiny.opened(config, str(tmp_path))


def test_a_registered_loader_can_be_named_by_a_config(sources, tmp_path):
  def loader(text):
    arrays = np.load(sources / text)
    return datasets.Source((arrays['x_test'], arrays['y_test']))

  datasets.register('mine', loader)
  run = tiny.opened(_config('mine:images.npz'), str(tmp_path))
  assert len(run.data.test.labels) == 17
  with pytest.raises(ValueError, match="data.name='mien:' .*mean 'mine'"):
    tiny.opened(_config('mien:images.npz'), str(tmp_path / 'other'))


def test_what_is_refused_leaves_no_workdir(sources, tmp_path):
  shutil.copytree(sources / 'folder', tmp_path / 'folder')
  (tmp_path / 'folder' / 'train' / 'cat' / 'x.jpg').write_bytes(b'\xff\xd8')
  config = _config(f'folder:{tmp_path}/folder')
  with pytest.raises(files.DamagedFileError, match='cat/x.jpg is not an image'):
    stages.pipeline(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def _photographs(root):
  """PNG and JPEG files of differing sizes, and a hidden one."""
  for label in tiny_sources.NAMES:
    place = root / label
    place.mkdir(parents=True)
    for seed in range(30):
      kind = 'PNG' if seed % 2 else 'JPEG'
      (place / f'{seed}.{kind.lower()}').write_bytes(
        tiny_imagenet.photograph(20 + seed, 50 - seed, seed, kind=kind)
      )
    (place / '.DS_Store').write_bytes(b'hidden')


@pytest.mark.slow
@pytest.mark.usefixtures('few_programs')
@pytest.mark.parametrize(
  'kind', ['folder', 'crops', 'grey', 'npz', 'tfds', 'cifar']
)
def test_the_config_for_images_of_ones_own_runs_all_stages(tmp_path, kind):
  place = tmp_path / 'images'
  place.mkdir()
  config = images.get_config('smoke')
  train = tiny_sources.pictures(10, (32, 32, 3), classes=10)
  test = tiny_sources.pictures(4, (32, 32, 3), classes=10, seed=1)
  if kind in ('folder', 'crops'):
    config.data.name = f'folder:{place}'
    _photographs(place)
    if kind == 'crops':
      config.data.update(image_size=24, padding=0, min_crop=0.25)
  elif kind == 'grey':
    config.data.name = f'folder:{place}'
    tiny_sources.write_folder(place, *tiny_sources.pictures(30, (20, 36, 1)))
  elif kind == 'npz':
    config.data.name = f'npz:{place}/a.npz'
    np.savez(place / 'a.npz', images=train[0], labels=train[1])
  elif kind == 'tfds':
    config.data.update(name='tfds:svhn_cropped', data_dir=str(place))
    tiny_sources.write_svhn(place, {'train': train, 'test': test})
  else:
    path = place / 'cifar-100-python.tar.gz'
    config.data.name = f'cifar:{path}'
    names = [f'c{label}' for label in range(10)]
    tiny_sources.write_cifar(path, train, test, names, kind='100-python')
  table = stages.pipeline(config, str(tmp_path / 'run'))
  assert 'RNAS-CL + eq. (6)' in table
  assert (tmp_path / 'run' / 'report.md').exists()

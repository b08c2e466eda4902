"""Paths as people write them, wherever they enter."""

import os
import pathlib

import pytest

import rnascl_jax
from rnascl_jax import stages
from rnascl_jax.data import classes, datasets
from rnascl_jax.evaluation import adversarial_images, attack_journal
from rnascl_jax.interop import export, torch_import
from rnascl_jax.interop import files as torch_files
from rnascl_jax.reporting import figures, paper, report
from rnascl_jax.runtime import checkpoints, files, paths
from rnascl_jax.stages import pretrained
from rnascl_jax.stages import run as runs
from tests import tiny


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> pathlib.Path:
  """The home of the user; tests are in another, empty folder."""
  for name in ('home', 'here'):
    (tmp_path / name).mkdir()
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.chdir(tmp_path / 'here')
  return tmp_path / 'home'


@pytest.mark.parametrize(
  ('written', 'expected'),
  [
    ('~', '{home}'),
    ('~/runs/a', '{home}/runs/a'),
    (pathlib.Path('~/runs'), '{home}/runs'),
    ('runs/a b/ü', '{here}/runs/a b/ü'),
    ('runs/~/gs:', '{here}/runs/~/gs:'),
    ('../x', '{here}/../x'),
    ('./~', '{here}/~'),
    ('./gs:/x', '{here}/gs:/x'),
    ('/a/b', '/a/b'),
    ('12:30', '{here}/12:30'),
    (b'/caf\xc3\xa9', '/café'),
    ('file:///a/b%20c#d', '/a/b c#d'),
    ('FILE://localhost/a', '/a'),
    (pathlib.Path('file:///a/b'), '/a/b'),
  ],
)
def test_a_path_names_a_place_in_the_file_system(written, expected, home):
  place = paths.local(written)
  assert str(place) == expected.format(home=home, here=os.getcwd())
  assert paths.local(place) == place


@pytest.mark.parametrize(
  ('written', 'message'),
  [
    ('', "--output='' names nothing"),
    (' ', 'names nothing'),
    ('gs://bucket/run', r'gs:// does not allow. Mount it'),
    ('S3://bucket', 's3:// does not allow'),
    (pathlib.Path('gs://bucket/run'), "--output='gs:/bucket/run' is not in"),
    ('gs:', 'gs:// does not allow'),
    ('file://host/a', 'must be file:// and an absolute path'),
    ('file://a', 'must be file:// and an absolute path'),
    (b'/caf\xe9', 'is not text in utf-8.*set PYTHONUTF8=1'),
    ('~nobody_here/a', "there is no user 'nobody_here'"),
  ],
)
def test_a_path_that_is_in_no_file_system_is_refused_in_words(written, message):
  with pytest.raises(paths.PathError, match=message):
    paths.local(written, '--output')


def _config(**fields: str):
  config = tiny.config()
  config.update_from_flattened_dict(fields)
  return config


_ENTRIES = {
  'load': rnascl_jax.load,
  'pipeline': lambda path: stages.pipeline(tiny.config(), path),
  'loops.report': stages.report,
  'report': report.write,
  'terminal': report.terminal_table,
  'seeds': lambda path: report.seeds_table([path, path]),
  'figures': figures.draw,
  'paper': paper.write,
  'journal': attack_journal.AttackJournal,
  'checkpoints': checkpoints.Checkpoints,
  'adversarial images': adversarial_images.load,
  'export': lambda path: export.write(None, f'{path}.safetensors'),
  'import': lambda path: torch_import.read(path, {'name': 'resnet18'}),
  'imported': lambda path: torch_import.save(None, path),
  'state dict': torch_files.read,
  'classes': classes.read_classes,
  'data': lambda path: datasets.load('cifar10', data_dir=path),
  'files': lambda path: files.write_json(path, {}),
  'lines': files.JsonLines,
  'config.teacher.checkpoint': lambda path: tiny.opened(
    _config(**{'teacher.checkpoint': path}), 'run'
  ),
  'config.search.architecture': lambda path: tiny.opened(
    _config(**{'search.architecture': path}), 'run'
  ),
}


@pytest.mark.parametrize('entry', _ENTRIES)
def test_no_entry_takes_a_bucket_for_a_folder(entry):
  with pytest.raises(paths.PathError, match='gs:// does not allow'):
    _ENTRIES[entry]('gs://bucket/x')
  assert not os.listdir()


def test_home_is_found_wherever_a_path_enters(home):
  files.write_json('~/one/a.json', {'a': 1})
  assert (home / 'one' / 'a.json').exists()
  run = tiny.opened(tiny.config(), '~/run')
  assert run.folder == home / 'run' and (home / 'run/config.json').exists()
  with pytest.raises(FileNotFoundError, match=f'{home}/none has no trained'):
    rnascl_jax.load('~/none')
  (home / 'teacher' / 'model').mkdir(parents=True)
  teacher = runs.settings.Teacher(checkpoint='~/teacher')
  model = home / 'teacher' / 'model'
  assert pretrained.teacher_folder(teacher, 'teacher') == model
  about = pretrained.about_architecture('~/one/a.json')
  assert about['source']['file'] == f'{home}/one/a.json'
  with attack_journal.AttackJournal('~/two') as found:
    assert found._folder == home / 'two'
  assert not os.listdir()


def test_a_file_behind_a_link_is_replaced_and_the_link_stays(home):
  (home / 'there').mkdir()
  link = home / 'link.json'
  link.symlink_to('there/a.json')
  for value in (1, 2):
    files.write_json(link, {'a': value})
    assert link.is_symlink()
    assert files.read_json(home / 'there' / 'a.json') == {'a': value}

"""A run takes the architecture that another one has searched."""

import hashlib
import shutil

import pytest

from rnascl_jax import stages
from rnascl_jax.reporting import results
from rnascl_jax.reporting.report import run_facts
from rnascl_jax.runtime import files
from tests import tiny


def _config(path):
  """Another data set size, so that nothing but the file is shared."""
  config = tiny.config()
  config.data.max_train = 64
  config.search.architecture = str(path)
  return config


def test_a_given_architecture_is_taken_and_named_in_the_report(
  tiny_run, tmp_path
):
  path = tmp_path / 'found.json'
  shutil.copy(tiny_run / 'architecture.json', path)
  found = stages.search(_config(path), str(tmp_path / 'run'))
  there, here = files.read_json(path), tmp_path / 'run' / 'architecture.json'
  copied = files.read_json(here)
  source = copied.pop('source')
  assert copied == there
  assert found.tutors == tuple(
    there['teacher_layers'].index(t['tutor_layer']) for t in there['tutors']
  )
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  assert source == {'file': str(path), 'sha256': digest}
  assert not (tmp_path / 'run' / 'search' / 'checkpoints').exists()
  facts = run_facts.section(results.load(tmp_path / 'run'))
  assert (
    f'Not searched here: the architecture and its tutors, from `{path}`'
    in (facts)
  )
  # What was taken is the run's own.
  path.unlink()
  assert stages.search(_config(path), str(tmp_path / 'run')) == found


def test_an_architecture_without_tutors_is_for_students_without_attention(
  tiny_run, tmp_path
):
  path = tmp_path / 'found.json'
  saved = files.read_json(tiny_run / 'architecture.json')
  assert saved['tutors_searched']
  files.write_json(path, saved | {'tutors_searched': False})
  config = _config(path)
  with pytest.raises(ValueError, match=r'names no tutors.*rnas_cl\.tutors'):
    stages.search(config, str(tmp_path / 'run'))
  config.students.rnas_cl.tutors = 'depth'
  tiny.opened(config, str(tmp_path / 'controlled'))
  config.students.rnas_cl.update(tutors='searched', gamma=0.0)
  stages.search(config, str(tmp_path / 'run'))
  run = results.load(tmp_path / 'run')
  assert run.architecture['tutors'] == [] and run.tutor_counts is None


def _other_space(config):
  config.space.choices = ((4, 2, 1),)


def _other_layers(config):
  config.space.layers = 'block'


def _other_teacher(config):
  config.teacher.network.stage_sizes = (2,)
  config.vulnerable_teacher.network.stage_sizes = (2,)


@pytest.mark.parametrize(
  'change, message',
  (
    (_other_space, "searched in another space.*'custom'"),
    (_other_layers, "searched in another space.*'block'"),
    (_other_teacher, 'names 3 teacher layers.*has 5'),
  ),
)
def test_an_architecture_that_does_not_fit_is_refused_before_anything(
  tiny_run, tmp_path, change, message
):
  config = _config(tiny_run / 'architecture.json')
  change(config)
  with pytest.raises(ValueError, match=message):
    tiny.opened(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('content', ('{', '{}', '[1]', '{"format": 9}'))
def test_a_file_that_is_no_architecture_is_named(tmp_path, content):
  path = tmp_path / 'architecture.json'
  path.write_text(content)
  message = (
    f"'{path}' is not an architecture|{path} is damaged: .* name another"
  )
  with pytest.raises(ValueError, match=message):
    tiny.opened(_config(path), str(tmp_path / 'run'))


def test_a_missing_architecture_is_named_with_what_to_name(tmp_path):
  with pytest.raises(
    FileNotFoundError, match='architecture.json of the workdir'
  ):
    tiny.opened(_config(tmp_path / 'nothing'), str(tmp_path / 'run'))

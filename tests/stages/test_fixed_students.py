"""Students of a fixed architecture, in runs without a search."""

import jax
import numpy as np
import pytest

import rnascl_jax
from rnascl_jax import stages
from rnascl_jax.config import settings
from rnascl_jax.models import networks
from rnascl_jax.reporting import results
from rnascl_jax.runtime import files
from tests import tiny

NETWORKS = {
  'mobile': {
    'name': 'mobilenet_v2',
    'features': (2, 3),
    'stage_sizes': (1, 1),
    'strides': (1, 2),
  },
  'resnet': {
    'name': 'small_resnet',
    'features': (4,),
    'stage_sizes': (1,),
    'strides': (2,),
  },
}


def _config(tiny_run, **fields):
  """A config that takes the complete run's teacher."""
  config = tiny.config()
  config.teacher.checkpoint = str(tiny_run / 'teacher')
  config.students = {}
  for name, network in NETWORKS.items():
    student = settings.student_template(label=name, tutors='depth', **fields)
    student.network.update(network)
    config.students[name] = student
  config.adversarial.students = {
    'mobile_eq6': settings.fine_tuning_template(
      student='mobile', epsilon_255=16.0, num_steps=1, validation_steps=2
    )
  }
  config.evaluation.auto_attack_models = ('mobile_eq6',)
  return config


def test_fixed_students_are_trained_without_a_search(
  tiny_run, tmp_path, trainings
):
  config = _config(tiny_run)
  stages.teacher(config, str(tmp_path))
  stages.train(config, str(tmp_path))
  layers = {'mobile': 8, 'resnet': 3}
  for name, (stage, _, context) in trainings.items():
    assert context.tutors.shape == (layers[name], 3)
    logits = rnascl_jax.load(tmp_path, name).logits_fn(
      np.zeros((1, 8, 8, 1), np.float32)
    )
    assert logits.shape == (1, 10)
    assert stage.name == f'train/{name}'
  first, second = trainings.values()
  assert first[0].step is not second[0].step
  _, state, _ = trainings['mobile']
  assert set(state.params) >= {'conv1', 'layers_1', 'linear'}
  with pytest.raises(FileNotFoundError, match='there is nothing to search'):
    stages.search(config, str(tmp_path))
  assert not (tmp_path / 'search').exists()
  again = _config(tiny_run)
  again.students.mobile.network.features = (2, 4)
  with pytest.raises(ValueError, match=r'students\.mobile\.network\.features'):
    tiny.opened(again, str(tmp_path))


def test_a_run_from_before_students_had_networks_goes_on(tiny_run, tmp_path):
  files.write_json(
    tmp_path / 'config.json', files.read_json(tiny_run / 'config.json')
  )
  saved = files.read_json(tmp_path / 'config.json')
  for student in saved['students'].values():
    del student['network']
  for name in ('teacher', 'vulnerable_teacher'):
    del saved[name]['network']['genotype']
  files.write_json(tmp_path / 'config.json', saved)
  tiny.opened(tiny.config(), str(tmp_path))


@pytest.mark.slow
def test_a_pipeline_trains_hardens_attacks_and_reports_fixed_students(
  tiny_run, tmp_path
):
  config = _config(tiny_run)
  table = stages.pipeline(config, str(tmp_path))
  assert all(name in table for name in NETWORKS)
  run = results.load(tmp_path)
  assert run.architecture is None
  assert {e.model for e in run.evaluations} == {
    *('teacher', 'mobile', 'resnet', 'mobile_eq6')
  }
  model = rnascl_jax.load(tmp_path, 'mobile_eq6')
  assert model.metadata['student'] == 'mobile'
  evaluated = run.evaluation('mobile_eq6')
  assert evaluated.parameters == networks.count_parameters(model.variables)
  correct = np.load(tmp_path / 'evaluation' / 'mobile_eq6.npz')['correct/clean']
  with tiny.runs.open_run(config, str(tmp_path)) as opened:
    test = opened.data.test
  logits = jax.jit(model.logits_fn)(np.float32(test.images) / 255)
  np.testing.assert_array_equal(logits.argmax(-1) == test.labels, correct)

"""Controls in the place of searched tutors, in the search and in training."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax import stages
from rnascl_jax.config import resolve, settings
from rnascl_jax.reporting import report, results
from rnascl_jax.runtime import files, named_arrays, saved_variables
from rnascl_jax.search import arch_params, architecture, space_layers, spaces
from rnascl_jax.search.architecture import Architecture
from rnascl_jax.search.space import Operator
from rnascl_jax.stages import searches
from tests import tiny


def _config(tiny_run):
  """A config of a workdir that takes the complete run's teacher."""
  config = tiny.config()
  config.teacher.checkpoint = str(tiny_run / 'teacher')
  config.adversarial.students = {}
  config.evaluation.auto_attack_models = ()
  return config


def test_students_of_one_architecture_differ_in_their_tutors_alone(
  tiny_run, tmp_path, request
):
  config = _config(tiny_run)
  config.search.architecture = str(tiny_run / 'architecture.json')
  controls = {
    'searched': 'searched',
    'uniform': 'uniform',
    'random': 'random',
    'resampled': 'resampled',
    'depth': 'depth',
    'last': 'layer1_0/conv2',
  }
  config.students = {
    name: settings.student_template(tutors=tutors)
    for name, tutors in controls.items()
  }
  stages.teacher(config, str(tmp_path))
  found = stages.search(config, str(tmp_path))
  trainings = request.getfixturevalue('trainings')
  stages.train(config, str(tmp_path))
  tutors = {name: context.tutors for name, (_, _, context) in trainings.items()}
  assert {weights.shape for weights in tutors.values()} == {(4, 3)}
  searched = architecture.tutor_weights(found)
  np.testing.assert_array_equal(tutors['searched'], searched)
  np.testing.assert_array_equal(tutors['depth'].argmax(-1), [0, 1, 1, 2])
  np.testing.assert_array_equal(tutors['last'].argmax(-1), [2] * 4)
  for name in ('uniform', 'resampled'):
    np.testing.assert_allclose(tutors[name], np.full((4, 3), 1 / 3), rtol=1e-6)
  steps = {name: stage.step for name, (stage, *_) in trainings.items()}
  assert steps.pop('resampled') is not steps['searched']
  # Tutors are arguments of a step: their students share the program.
  assert len({id(step) for step in steps.values()}) == 1


def test_a_control_keeps_the_tutors_of_the_blocks_that_are_left(
  tiny_run, tmp_path, request
):
  config = _config(tiny_run)
  config.space.depths = (3,)
  config.space.depth_choices = True
  space = resolve.space(settings.parse(config).space)
  teacher = files.read_json(tiny_run / 'architecture.json')['teacher_layers']
  layers = space_layers.layer_names(space)
  kept = [*range(4), *range(7, 10)]  # The stem, block 0 and block 2.
  derived = Architecture(
    space,
    (4, 4, 4),
    (0,) * len(kept),
    space_layers.layer_names(spaces.from_stages((2,), ((4,),), (2,))),
    tuple(teacher),
    (Operator(), Operator(skipped=True), Operator()),
  )
  path = tmp_path / 'wider.json'
  files.write_json(path, architecture.to_dict(derived))
  config.search.architecture = str(path)
  places = [i % 3 for i in range(len(layers))]
  listed = ','.join(teacher[place] for place in places)
  config.students = {'rnas_cl': settings.student_template(tutors=listed)}
  stages.teacher(config, str(tmp_path / 'run'))
  stages.search(config, str(tmp_path / 'run'))
  trainings = request.getfixturevalue('trainings')
  stages.train(config, str(tmp_path / 'run'))
  ((_, _, context),) = trainings.values()
  np.testing.assert_array_equal(
    context.tutors.argmax(-1), np.array(places)[kept]
  )


@pytest.mark.parametrize(
  'control', [pytest.param('random', marks=pytest.mark.slow), 'resampled']
)
def test_a_run_under_a_control_leaves_what_a_searched_one_leaves(
  tiny_run, tmp_path, control
):
  """Filters are searched; nobody takes the tutors for searched ones."""
  config = _config(tiny_run)
  config.search.tutors = config.students.rnas_cl.tutors = control
  config.students = {'rnas_cl': config.students.rnas_cl}
  stages.teacher(config, str(tmp_path))
  stages.search(config, str(tmp_path))
  stages.train(config, str(tmp_path))
  for place in ('search', 'train/rnas_cl'):
    here, there = (
      files.read_json_lines(folder / place / 'metrics.jsonl')
      for folder in (tmp_path, tiny_run)
    )
    assert [line.keys() for line in here] == [line.keys() for line in there]
  names = [
    named_arrays.from_state(
      saved_variables.load(folder / 'train' / 'rnas_cl' / 'model')[0]
    ).keys()
    for folder in (tmp_path, tiny_run)
  ]
  assert names[0] == names[1]
  history = np.load(tmp_path / 'search' / 'history.npz')
  np.testing.assert_allclose(history['tutor_probabilities'], 1 / 3, rtol=1e-6)
  assert np.ptp(history['channel_probabilities']) > 0
  saved = files.read_json(tmp_path / 'architecture.json')
  assert not saved['tutors_searched'] and len(saved['tutors']) == 4
  assert results.load(tmp_path).tutor_counts is None
  assert 'No tutors were searched' in report.write(tmp_path).read_text()


def test_the_history_keeps_the_blocks_and_layers_that_are_left(tmp_path):
  space = spaces.with_operators(
    spaces.from_stages((3,), ((4, 2),), (2,)), kernel_sizes=(3, 5), depth=True
  )
  params = arch_params.init_arch_params(space, 10, 2)
  params.channel_logits[2]['width'] += jnp.array([1.0, 0.0])
  params = params._replace(tutor_logits=jnp.eye(10, 2))
  written = tmp_path / 'arch.jsonl'
  search = types.SimpleNamespace(steps_per_epoch=1)
  with searches._History(written, search, 1) as history:
    history._append(params, 1)
    history.export(tmp_path / 'history.npz', [0, 2], [0, 1, 9])
  (line,) = files.read_json_lines(written)
  assert line['operators'][0] == {'kernel': [0.5, 0.5]}
  assert line['operators'][1] == {'kernel': [0.5, 0.5], 'depth': [0.5, 0.5]}
  with np.load(tmp_path / 'history.npz') as saved:
    widths = saved['channel_probabilities']
    tutors = saved['tutor_probabilities']
  assert widths.shape == (1, 2, 2) and tutors.shape == (1, 3, 2)
  np.testing.assert_allclose(widths[0, 1], line['channels'][2])
  assert widths[0, 1, 0] > widths[0, 0, 0] == 0.5
  np.testing.assert_array_equal(tutors[0].argmax(-1), [0, 1, 0])

"""Training students further on attacks: from what, with what, and in order."""

import functools
import os
import shutil
import signal

import jax
import numpy as np
import pytest

import rnascl_jax
from rnascl_jax import stages
from rnascl_jax.config import settings
from rnascl_jax.data import batches, datasets
from rnascl_jax.reporting import results
from rnascl_jax.runtime import (
  checkpoints,
  commands,
  files,
  named_arrays,
  saved_variables,
  signals,
)
from rnascl_jax.search import architecture
from rnascl_jax.stages import models, workdir
from rnascl_jax.stages import run as runs
from rnascl_jax.training import loop
from tests import tiny


def _variables(folder, name):
  variables, _ = saved_variables.load(folder / name / 'model')
  return named_arrays.from_state(variables)


def _assert_equal(one, two):
  one, two = (named_arrays.from_state(tree) for tree in (one, two))
  assert one.keys() == two.keys()
  for name, array in one.items():
    assert np.asarray(array).tobytes() == np.asarray(two[name]).tobytes(), name


def _config(**entries):
  """The tiny config with these trainings, `fields of the entry` by name."""
  config = tiny.config()
  config.adversarial.students = {
    name: settings.fine_tuning_template(**{'num_steps': 1, **fields})
    for name, fields in entries.items()
  }
  return config


def test_without_a_learning_rate_only_batchnorm_statistics_move(trained):
  config = tiny.config()
  config.adversarial.optimization.learning_rate = 0.0
  config.adversarial.optimization.min_learning_rate = 0.0
  stages.adversarial(config, str(trained))
  before = _variables(trained, 'train/rnas_cl')
  after = _variables(trained, 'adversarial/rnas_cl_eq6')
  assert before.keys() == after.keys()
  changed = {n for n in before if before[n].tobytes() != after[n].tobytes()}
  assert changed
  assert {name[0] for name in changed} == {'batch_stats'}


def test_a_student_goes_on_with_its_teacher_tutors_and_weights(
  trained, trainings
):
  config = _config(mine={'student': 'rnas_cl'}, alone={'student': 'ce'})
  config.students.rnas_cl.kl_weight = 3.0
  config.students.rnas_cl.gamma = 5.0
  stages.adversarial(config, str(trained))
  stage, state, context = trainings['mine']
  base = saved_variables.load(trained / 'train/rnas_cl/model')[0]
  _assert_equal(state.variables, base)
  assert not any(np.any(x) for x in jax.tree.leaves(state.opt_state))
  teacher = saved_variables.load(trained / 'teacher/model')[0]
  _assert_equal(context.teacher, teacher)
  found = architecture.from_dict(files.read_json(trained / 'architecture.json'))
  np.testing.assert_array_equal(
    context.tutors, architecture.tutor_weights(found)
  )
  assert (float(context.kl_weight), float(context.gamma)) == (3.0, 5.0)
  assert int(context.seed) == runs.stage_seed(0, 'adversarial')
  # All students see the images in one order.
  orders = [trainings[name][0].schedule.order(1) for name in trainings]
  np.testing.assert_array_equal(*orders)
  seed = runs.stage_seed(0, 'adversarial')
  order = batches.batch_order(seed, 1, 128, 32)
  np.testing.assert_array_equal(stage.schedule.order(1), order)
  _, state, context = trainings['alone']
  _assert_equal(
    state.variables, saved_variables.load(trained / 'train/ce/model')[0]
  )
  assert context.teacher == context.tutors == ()
  assert (float(context.kl_weight), float(context.gamma)) == (0.0, 0.0)


def test_equal_regimes_and_kinds_of_teacher_share_the_step(trained, trainings):
  config = _config(
    one={'label': 'One'},
    two={'label': 'Two'},
    other={'beta': 1.0},
    alone={'student': 'ce'},
  )
  stages.adversarial(config, str(trained))
  steps = {name: stage.step for name, (stage, *_) in trainings.items()}
  assert steps['one'] is steps['two']
  assert len({id(step) for step in steps.values()}) == 3


def test_the_export_says_what_it_was_and_how_it_was_trained(tiny_run):
  _, metadata = saved_variables.load(
    tiny_run / 'adversarial' / 'rnas_cl_eq6' / 'model'
  )
  assert (metadata['kind'], metadata['student']) == ('student', 'rnas_cl')
  assert metadata['adversarial_training']['name'] == 'trades'
  assert metadata['adversarial_training']['epsilon_255'] == 16.0


def test_the_terms_of_equation_6_add_up_in_the_log(tiny_run):
  (line,) = (
    line
    for line in files.read_json_lines(
      tiny_run / 'adversarial' / 'rnas_cl_eq6' / 'metrics.jsonl'
    )
    if line['split'] == 'train'
  )
  terms = ('cross_entropy', 'kl', 'attention', 'robust_term')
  assert all(line[term] > 0 for term in terms)
  # All weights are 1 in the tiny run; `robust_term` has its own.
  assert line['loss'] == pytest.approx(sum(line[t] for t in terms), rel=1e-5)


def test_a_training_killed_by_sigterm_goes_on_to_the_same_bits(
  tiny_run, trained, monkeypatch
):
  collect = loop._Record.collect

  def collect_and_stop(self, *dispatch):
    collect(self, *dispatch)
    if self.step == 1:
      os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(loop._Record, 'collect', collect_and_stop)
    with pytest.raises(signals.Interrupted):
      stages.adversarial(tiny.config(), str(trained))
  stage = 'adversarial/rnas_cl_eq6'
  assert not (trained / stage / 'stage.json').exists()
  # In the middle of an epoch of four steps.
  with checkpoints.Checkpoints(
    trained / stage / 'checkpoints', read_only=True
  ) as saved:
    assert 0 < saved.last_step() < 4
  stages.adversarial(tiny.config(), str(trained))
  one, two = (_variables(folder, stage) for folder in (trained, tiny_run))
  assert one.keys() == two.keys()
  assert all(one[name].tobytes() == two[name].tobytes() for name in one)
  logs = [
    (f / stage / 'metrics.jsonl').read_text() for f in (trained, tiny_run)
  ]
  assert logs[0] == logs[1]


def test_a_complete_training_is_not_repeated(tiny_run, trainings):
  stages.adversarial(tiny.config(), str(tiny_run))
  assert not trainings


def test_without_an_entry_the_stage_is_left_out(tmp_path, trainings):
  stages.adversarial(_config(), str(tmp_path / 'run'))
  assert not trainings
  assert [p.name for p in (tmp_path / 'run').iterdir()] == ['config.json']


def test_a_missing_student_is_named_before_any_training(trained, trainings):
  (trained / 'train' / 'ce' / 'stage.json').unlink()
  config = _config(first={'student': 'rnas_cl'}, second={'student': 'ce'})
  message = f'train/ce is not complete. Run {commands.usage("train")} first'
  with pytest.raises(workdir.MissingStageError, match=message):
    stages.adversarial(config, str(trained))
  assert not trainings


@pytest.mark.parametrize(
  ('stage', 'command'),
  [
    ('teacher', 'teacher'),
    ('vulnerable_teacher', 'teacher'),
    ('search', 'search'),
    ('train/ce', 'train'),
    ('adversarial/rnas_cl_eq6', 'adversarial'),
  ],
)
def test_a_missing_stage_is_named_with_its_command(tmp_path, stage, command):
  # The workdir is called as a stage is.
  with pytest.raises(
    workdir.MissingStageError, match=f'Run {commands.usage(command)} '
  ):
    workdir.summary(tmp_path / 'train' / stage)


def test_a_loaded_fine_tuned_student_has_the_accuracy_evaluated(tiny_run):
  model = rnascl_jax.load(tiny_run, 'rnas_cl_eq6')
  saved = files.read_json(tiny_run / 'evaluation' / 'rnas_cl_eq6.json')
  data = datasets.load(
    'digits', validation_size=32, limit=datasets.Limit(128, 40)
  )
  logits = jax.jit(model.logits_fn)(batches.to_float(data.test.images))
  correct = np.asarray(logits.argmax(-1)) == data.test.labels
  assert saved['attacks'][0]['correct'] == correct.sum()
  base = rnascl_jax.load(tiny_run, 'rnas_cl')
  assert model.architecture == base.architecture
  before = named_arrays.from_state(base.variables)
  after = named_arrays.from_state(model.variables)
  assert any(before[name].tobytes() != after[name].tobytes() for name in before)


def test_a_fine_tuned_student_stands_behind_its_student(tiny_run, trained):
  config = tiny.config()
  found = list(models.trained_models(tiny.opened(config, str(tiny_run))))
  names = ['teacher', 'rnas_cl', 'rnas_cl_eq6', 'ce']
  assert [model.name for model in found] == names
  assert [model.base for model in found] == ['', '', 'rnas_cl', '']
  assert [e.model for e in results.load(tiny_run).evaluations] == names
  assert [e.base for e in results.load(tiny_run).evaluations] == [
    model.base for model in found
  ]
  # Evaluations made before the stage keep their place in the table.
  orders = {model.name: model.order for model in found}
  run = tiny.opened(config, str(trained))
  before = {model.name: model.order for model in models.trained_models(run)}
  assert before == {k: v for k, v in orders.items() if k != 'rnas_cl_eq6'}


def test_trainings_may_be_added_to_a_workdir_but_not_changed(
  tiny_run, tmp_path
):
  folder = tmp_path / 'copy'
  shutil.copytree(tiny_run, folder)
  config = tiny.config()
  config.adversarial.students.later = settings.fine_tuning_template(
    student='ce'
  )
  tiny.opened(config, str(folder))
  config.adversarial.students.later.adversarial_training.beta = 1.0
  tiny.opened(config, str(folder))
  for path, value, message in (
    (
      'students',
      {},
      r"eq6\.adversarial_training\.attack_mode: 'published' there",
    ),
    ('optimization.epochs', 2, r'optimization\.epochs: 1 there, 2 here'),
    (
      'students.rnas_cl_eq6.adversarial_training.beta',
      1.0,
      r'rnas_cl_eq6\.adversarial_training\.beta: 6\.0 there, 1\.0 here',
    ),
  ):
    config = tiny.config()
    *parents, last = path.split('.')
    section = functools.reduce(getattr, parents, config.adversarial)
    setattr(section, last, value)
    with pytest.raises(ValueError, match=message):
      tiny.opened(config, str(folder))
  shutil.rmtree(folder / 'adversarial')
  config.adversarial.optimization.epochs = 2
  tiny.opened(config, str(folder))


def test_the_report_of_a_run_has_the_fine_tuned_student(tiny_run):
  text = (tiny_run / 'report.md').read_text()
  assert '**RNAS-CL + eq. (6)** is RNAS-CL after 1 further epoch' in text
  assert 'epoch on attacks (`trades`). In this run, ' in text
  rows = [line for line in text.splitlines() if line.startswith('| RNAS-CL')]
  assert [row.split(' | ')[0] for row in rows[:2]] == [
    '| RNAS-CL',
    '| RNAS-CL + eq. (6)',
  ]

"""Students that are pruned: their stages, exports and tables."""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from rnascl_jax import stages
from rnascl_jax.config import settings
from rnascl_jax.reporting import results
from rnascl_jax.reporting.html import trainings as trainings_page
from rnascl_jax.reporting.report import model_table, verdicts
from rnascl_jax.runtime import files, named_arrays, saved_variables, signals
from rnascl_jax.stages import workdir
from rnascl_jax.training import loop, pruning
from tests import tiny

_SPARSITY = 0.75
_SCORES, _TUNED = 'adversarial/hydra/pruning', 'adversarial/hydra'


def _config(**entries):
  """The tiny config with students that are pruned, `fields` by name."""
  config = tiny.config()
  config.adversarial.pruning.optimization.update(epochs=1, batch_size=32)
  config.adversarial.students = {
    name: settings.fine_tuning_template(
      **{
        'student': 'ce',
        'sparsity': _SPARSITY,
        'name': 'pgd',
        'cac_weight': 0.0,
        'num_steps': 1,
        'validation_steps': 1,
        **fields,
      }
    )
    for name, fields in entries.items()
  }
  return config


def _exported(folder, place):
  return saved_variables.load(folder / place / 'model')


def _kernels(variables):
  flat = named_arrays.from_state(variables['params'])
  return {
    name: np.asarray(value) for name, value in flat.items() if 'kernel' in name
  }


def _assert_exactly_sparse(variables):
  kernels = _kernels(variables)
  assert kernels
  for name, kernel in kernels.items():
    zeros = kernel.size - np.count_nonzero(kernel)
    assert zeros == int(_SPARSITY * kernel.size), name


def test_scores_and_tuning_killed_by_sigterm_go_on_to_the_same_bits(
  trained, tmp_path, monkeypatch
):
  config = _config(hydra={'prune': 'hydra'})
  whole = tmp_path / 'whole'
  shutil.copytree(trained, whole)
  stages.adversarial(config, str(whole))
  collect = loop._Record.collect
  for place in (_SCORES, _TUNED):

    def collect_and_stop(self, *dispatch, place=place):
      collect(self, *dispatch)
      if self._stage.name == place and self.step == 1:
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
      patch.setattr(loop._Record, 'collect', collect_and_stop)
      with pytest.raises(signals.Interrupted):
        stages.adversarial(config, str(trained))
    assert not (trained / place / 'stage.json').exists()
  stages.adversarial(config, str(trained))
  for place in (_SCORES, _TUNED):
    (one, metadata), (two, _) = (_exported(f, place) for f in (trained, whole))
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
      assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    logs = [(f / place / 'metrics.jsonl').read_text() for f in (trained, whole)]
    assert logs[0] == logs[1]
    _assert_exactly_sparse(one)
    assert (metadata['prune'], metadata['sparsity']) == ('hydra', _SPARSITY)
  summary = workdir.summary(whole / _TUNED)
  assert summary['weights_kept'] == pruning.share_kept(two['params'])
  assert summary['pruning_seconds'] > 0
  # Scores choose weights and move none; the tuning moves what they chose.
  dense = _kernels(_exported(trained, 'train/ce')[0])
  chosen = _kernels(_exported(trained, _SCORES)[0])
  tuned = _kernels(one)
  for name, kernel in chosen.items():
    np.testing.assert_array_equal(kernel, np.where(kernel, dense[name], 0.0))
    np.testing.assert_array_equal(kernel != 0, tuned[name] != 0)
  assert any((chosen[name] != tuned[name]).any() for name in chosen)


def test_students_start_from_the_weights_that_are_left(trained, trainings):
  config = _config(
    hydra={'prune': 'hydra'},
    lwm={'prune': 'magnitude'},
    whole={'sparsity': 0.0},
  )
  stages.adversarial(config, str(trained))
  assert list(trainings) == ['pruning', 'hydra', 'lwm', 'whole']
  dense = _exported(trained, 'train/ce')[0]
  for name in ('pruning', 'hydra', 'lwm'):
    _assert_exactly_sparse(trainings[name][1].variables)
  whole = _kernels(trainings['whole'][1].variables)
  for name, kernel in _kernels(dense).items():
    np.testing.assert_array_equal(whole[name], kernel)
  steps = {name: stage.step for name, (stage, *_) in trainings.items()}
  assert steps['hydra'] is steps['lwm']
  assert len({id(step) for step in steps.values()}) == 3


def test_the_table_says_how_many_weights_are_kept(tiny_run, tmp_path):
  folder = tmp_path / 'copy'
  shutil.copytree(tiny_run, folder)
  path = folder / 'evaluation' / 'rnas_cl_eq6.json'
  saved = files.read_json(path)
  path.write_text(json.dumps(saved | {'weights_kept': 0.1}))
  run = results.load(folder)
  headings, *rows = model_table.cells(run)
  column = headings.index('Params')
  cells = {row[0]: row[column] for row in rows}
  assert cells['RNAS-CL + eq. (6)'].endswith(' (10 % kept)')
  assert 'kept' not in cells['RNAS-CL']
  assert 'MACs are of the whole network' in ' '.join(model_table.notes(run))
  unpruned = model_table.notes(results.load(tiny_run))
  assert 'of the whole network' not in ' '.join(unpruned)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'sparsity': 1.0}, r'sparsity=1\.0 must be at most 0\.99'),
    ({'sparsity': -0.1}, r'sparsity=-0\.1 must be at least 0'),
    ({'prune': 'random'}, "prune='random' must be one of"),
    ({'sparsity': 0.0}, 'sparsity=0 prunes nothing: set .*such as 0.9'),
    ({'prune': ''}, "sparsity=0.75 has no meaning beside prune=''"),
  ],
)
def test_a_share_that_cannot_be_pruned_is_refused(fields, message):
  config = _config(hydra={'prune': 'hydra', **fields})
  with pytest.raises(ValueError, match=message):
    settings.parse(config)


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('epochs', 0, r'pruning\.optimization\.epochs=0 must be at least 1'),
    ('average_decay', 0.9, r'average_decay=0\.9 is not possible'),
    ('average_from', 1, 'average_from=1 is not possible'),
    ('milestones', (2.0,), 'must be at most 1'),
  ],
)
def test_scores_that_cannot_be_learnt_are_refused(field, value, message):
  config = _config(hydra={'prune': 'hydra'})
  config.adversarial.pruning.optimization[field] = value
  with pytest.raises(ValueError, match=message):
    settings.parse(config)


def test_a_workdir_from_before_pruning_goes_on(tiny_run, tmp_path):
  folder = tmp_path / 'copy'
  shutil.copytree(tiny_run, folder)
  saved = files.read_json(folder / 'config.json')
  del saved['adversarial']['pruning']
  for tuned in saved['adversarial']['students'].values():
    del tuned['prune'], tuned['sparsity']
  (folder / 'config.json').write_text(json.dumps(saved))
  config = tiny.config()
  config.adversarial.pruning.optimization.epochs = 5
  tiny.opened(config, str(folder))
  (folder / 'adversarial/rnas_cl_eq6/pruning').mkdir()
  config.adversarial.pruning.optimization.epochs = 6
  with pytest.raises(ValueError, match='epochs: 5 there, 6 here'):
    tiny.opened(config, str(folder))


def test_the_training_of_scores_is_shown_beside_the_fine_tuning(
  tiny_run, tmp_path
):
  folder = tmp_path / 'copy'
  shutil.copytree(tiny_run, folder)
  tuned = folder / 'adversarial/rnas_cl_eq6'
  shutil.copytree(tuned, tuned / 'pruning')
  saved = files.read_json(folder / 'config.json')
  saved['adversarial']['students']['rnas_cl_eq6']['prune'] = 'hydra'
  (folder / 'config.json').write_text(json.dumps(saved))
  run = results.load(folder)
  *_, scores, last = trainings_page.stages(run)
  assert scores.name.startswith('Scores of weights: ') and scores.epochs == 20
  assert last.name.startswith('Adversarial fine-tuning: ') and last.is_complete
  groups = [s.group for s in run.stages if s.model == 'rnas_cl_eq6']
  assert groups == ['pruning', 'adversarial']
  assert 'chosen in 20 epochs before' in ' '.join(verdicts.compared(run))

"""The stages together: what a run leaves behind, and what it refuses."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnascl_jax
from rnascl_jax import attacks, stages
from rnascl_jax.config import settings
from rnascl_jax.data import batches, datasets
from rnascl_jax.evaluation import (
  classification,
  model_evaluation,
  under_attack,
)
from rnascl_jax.models import networks
from rnascl_jax.models.fixed import resnet
from rnascl_jax.reporting import report
from rnascl_jax.runtime import (
  commands,
  files,
  parallel,
  saved_variables,
)
from rnascl_jax.search import architecture, flops
from rnascl_jax.stages import models, workdir
from tests import tiny
from tests.docs import pages

_EVERY = {'teacher', 'rnas_cl', 'rnas_cl_eq6', 'ce'}


def test_a_run_leaves_what_it_promises(tiny_run):
  expected = [
    'config.json',
    'provenance.json',
    'architecture.json',
    'report.html',
    'report.md',
    'teacher/metrics.jsonl',
    'search/history.npz',
    'train/rnas_cl/stage.json',
    'train/ce/stage.json',
    'adversarial/rnas_cl_eq6/metrics.jsonl',
    'adversarial/rnas_cl_eq6/stage.json',
    'evaluation/rnas_cl.json',
    'evaluation/rnas_cl_eq6.json',
    'evaluation/rnas_cl.npz',
    'evaluation/attention.npz',
    'evaluation/examples/rnas_cl.npz',
    'evaluation/robustness.json',
    'figures/tutor_map.png',
    'figures/epsilon_curves.png',
    'figures/attention_maps.png',
  ]
  for name in expected:
    assert (tiny_run / name).stat().st_size > 0, name


@pytest.mark.parametrize('model', sorted(_EVERY))
def test_examples_are_the_first_images_under_the_first_pgd(tiny_run, model):
  folder = tiny_run / 'evaluation'
  saved = files.read_npz(folder / 'examples' / f'{model}.npz')
  counted = files.read_npz(folder / f'{model}.npz')
  labels, right = saved['labels'], counted['correct/pgd20'][:8]
  assert str(saved['attack']) == 'PGD-20' and len(labels) == 8
  np.testing.assert_array_equal(saved['predictions'] == labels, right)
  np.testing.assert_array_equal(
    saved['clean_predictions'] == labels, counted['correct/clean'][:8]
  )
  kept = files.read_npz(folder / 'adversarial' / model / 'pgd20.npz')
  expected = saved['images'] / np.float32(255)
  for row, image in zip(kept['rows'], kept['images'], strict=True):
    if row < 8:
      expected[row] = image
  np.testing.assert_array_equal(
    saved['adversarial'], expected.astype(np.float16)
  )


def test_a_loaded_student_has_the_accuracy_that_was_evaluated(tiny_run, digits):
  del digits
  model = rnascl_jax.load(tiny_run)
  saved = files.read_json(tiny_run / 'evaluation' / 'rnas_cl.json')
  data = datasets.load(
    'digits', validation_size=32, limit=datasets.Limit(128, 40)
  )
  images = batches.to_float(data.test.images)
  logits = jax.jit(model.logits_fn)(images)
  correct = np.asarray(logits.argmax(-1)) == data.test.labels
  assert saved['attacks'][0]['correct'] == correct.sum()
  outcomes = np.load(tiny_run / 'evaluation' / 'rnas_cl.npz')
  np.testing.assert_array_equal(outcomes['correct/clean'], correct)
  for record in saved['attacks']:
    flags = outcomes[f'correct/{record["attack"]}']
    assert record['correct'] == flags.sum()
    assert record['accuracy'] == pytest.approx(flags.mean())
    assert not (flags & ~correct).any()


def test_a_loaded_student_needs_neither_a_config_nor_what_trained_it(tiny_run):
  code = (
    'import sys, rnascl_jax, numpy as np; '
    f'model = rnascl_jax.load({str(tiny_run)!r}); '
    'print(model.logits_fn(np.zeros((1, 8, 8, 1), np.float32)).shape); '
    'print(*sys.modules)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    capture_output=True,
    text=True,
    check=False,
    cwd=pathlib.Path(__file__).parents[2],
  )
  assert done.returncode == 0, done.stderr
  shape, modules = done.stdout.splitlines()
  assert shape == '(1, 10)'
  assert 'rnascl_jax.models.student' in modules
  for room in ('training', 'config', 'stages'):
    assert f'rnascl_jax.{room}' not in modules


def test_loading_a_teacher_gives_its_taps(tiny_run):
  model = rnascl_jax.load(tiny_run, 'teacher')
  logits, taps = networks.apply(
    model.net, model.variables, jnp.zeros((2, 8, 8, 1))
  )
  assert logits.shape == (2, 10)
  assert len(taps) == len(model.net.tap_names)
  assert model.architecture is None


def test_loading_a_model_that_is_not_there_lists_those_that_are(tiny_run):
  with pytest.raises(
    FileNotFoundError, match="'s7'.*ce, rnas_cl, rnas_cl_eq6, t"
  ):
    rnascl_jax.load(tiny_run, 's7')


def test_architecture_json_agrees_with_the_trained_network(tiny_run):
  saved = json.loads((tiny_run / 'architecture.json').read_text())
  found = architecture.from_dict(saved)
  model = rnascl_jax.load(tiny_run)
  assert model.architecture == found
  cost = flops.count(found.derived_space, (8, 8, 1), 10, batch_norm=True)
  full = networks.count_parameters(model.variables, batch_norm=True)
  assert cost.parameters == full
  assert saved['parameters_with_batch_norm'] == cost.parameters
  evaluated = files.read_json(tiny_run / 'evaluation' / 'rnas_cl.json')
  assert evaluated['macs'] == saved['macs']
  assert evaluated['parameters'] == saved['parameters'] < full
  assert len(saved['tutors']) == len(model.net.tap_names)
  layers = saved['teacher']['layers']
  assert all(t['tutor_layer'] == layers[t['tutor']] for t in saved['tutors'])


def test_students_start_from_the_same_weights_and_order(tiny_run):
  lines = [
    files.read_json_lines(tiny_run / 'train' / name / 'metrics.jsonl')
    for name in ('rnas_cl', 'ce')
  ]
  assert lines[0][0]['learning_rate'] == lines[1][0]['learning_rate']
  assert lines[0][0]['kl'] > 0 and lines[0][0]['attention'] > 0
  assert lines[1][0]['kl'] == lines[1][0]['attention'] == 0


def test_the_terms_of_the_objective_add_up_in_the_log(tiny_run):
  for line in files.read_json_lines(
    tiny_run / 'train' / 'rnas_cl' / 'metrics.jsonl'
  ):
    if line['split'] == 'train':
      total = line['cross_entropy'] + line['kl'] + line['attention']
      assert line['loss'] == pytest.approx(total, rel=1e-5)


def test_provenance_names_versions_devices_and_seconds(tiny_run):
  found = files.read_json(tiny_run / 'provenance.json')
  assert found['versions']['jax'] == jax.__version__
  assert found['seed'] == 0
  assert found['seconds'].keys() == {
    'teacher',
    'search',
    'train/rnas_cl',
    'train/ce',
    'adversarial/rnas_cl_eq6',
    'evaluation',
  }


def test_a_kill_between_attacks_and_maps_loses_nothing(tiny_run, tmp_path):
  folder = tmp_path / 'copy'
  shutil.copytree(tiny_run, folder)
  (folder / 'evaluation' / 'attention.npz').unlink()
  (folder / 'evaluation' / 'robustness.json').unlink()
  stages.evaluate(tiny.config(), str(folder))
  for name in ('attention.npz', 'robustness.json'):
    assert (folder / 'evaluation' / name).exists()


def test_broken_logits_are_never_right(digits):
  """The arg max of a row of NaN is class 0."""
  net = resnet.small_resnet(
    num_classes=10, features=(4,), stage_sizes=(1,), strides=(2,)
  )
  variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)
  broken = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), variables)
  network = classification.on_devices(net, broken, parallel.devices(1), 8)
  split = datasets.Split(digits.test.images[:8], np.zeros(8, np.int32))
  assert not network.clean(split).correct.any()


def test_every_stage_has_its_own_provenance(tiny_run):
  found = files.read_json(tiny_run / 'provenance.json')
  assert found['stages'].keys() == found['seconds'].keys()
  for stage in found['stages'].values():
    assert stage['devices'][0]['count'] == 1
    assert stage['versions']['jax'] == jax.__version__


def test_a_workdir_of_an_older_version_is_refused_with_that_version(
  tiny_run, tmp_path
):
  config = files.read_json(tiny_run / 'config.json')
  del config['format']
  files.write_json(tmp_path / 'config.json', config)
  with pytest.raises(ValueError, match='was made by version 0.1 of rnascl_jax'):
    stages.search(tiny.config(), str(tmp_path))
  assert [path.name for path in tmp_path.iterdir()] == ['config.json']


def test_every_file_of_a_run_is_on_the_page_of_its_files(tiny_run):
  page = (pages.ROOT / 'docs' / 'workdir.md').read_text('utf-8')
  first, second = page.split('## A training')
  of_training = [name for names, _ in _rows(second) for name in names]
  patterns = []
  for names, meaning in _rows(first):
    parts = of_training if '(#a-training)' in meaning else ['']
    patterns += [name + part for name in names for part in parts]

  for path in tiny_run.rglob('*'):
    if path.is_file():
      name = path.relative_to(tiny_run).as_posix()
      assert any(re.fullmatch(pattern, name) for pattern in patterns), name


def _rows(text):
  """Patterns of files in the first column of a table, and the second one."""
  for line in text.splitlines():
    if line.startswith('| `'):
      names, meaning = line.split('|')[1:3]
      found = [re.escape(name) for name in re.findall('`(.*?)`', names)]
      found = [re.sub(r'<\w+>|\\\*', '[^/]*', name) for name in found]
      folders = '(#a-training)' in meaning
      yield [n + '.*' * (n[-1] == '/' and not folders) for n in found], meaning


def test_reporting_needs_nothing_but_the_workdir(tiny_run, tmp_path):
  folder = tmp_path / 'copy'
  shutil.copytree(tiny_run, folder)
  before = (folder / 'config.json').read_text()
  assert 'PGD-20' in stages.report(str(folder))
  assert (folder / 'config.json').read_text() == before
  with pytest.raises(FileNotFoundError, match='not the workdir of a run'):
    stages.report(str(tmp_path))


def test_evaluation_is_not_repeated_with_the_same_settings(
  tiny_run, monkeypatch
):
  def fail(*arguments, **options):
    raise AssertionError('an evaluated model was attacked again')

  monkeypatch.setattr(under_attack, 'attacked', fail)
  stages.evaluate(tiny.config(), str(tiny_run))


def test_what_changes_no_number_of_a_model_repeats_no_attack(
  tiny_run, tmp_path, monkeypatch
):
  folder = tmp_path / 'copy'
  shutil.copytree(tiny_run, folder)

  def fail(*arguments, **options):
    raise AssertionError('an evaluated model was attacked again')

  monkeypatch.setattr(under_attack, 'attacked', fail)
  monkeypatch.setattr(attacks, 'auto_attack', fail)
  config = tiny.config()
  config.evaluation.batch_size = 16
  config.evaluation.map_images = 3
  stages.evaluate(config, str(folder))
  saved = np.load(folder / 'evaluation' / 'attention.npz')
  assert len(saved['images']) == 3


@pytest.mark.parametrize(
  ('changes', 'expected'),
  [
    ({'batch_size': 16, 'map_images': 3}, set()),
    ({'auto_attack_models': ('ce', 'teacher')}, {'teacher'}),
    ({'auto_attack_models': ('ce', 'rnas_cl_eq6')}, {'rnas_cl_eq6'}),
    ({'auto_attack_models': ('rnas_cl',)}, {'ce', 'rnas_cl'}),
    ({'auto_attack_models': ()}, _EVERY - {'ce'}),
    ({'auto_attack_images': 31}, {'ce'}),
    ({'auto_attack': ('apgd_dlr',)}, {'ce'}),
    ({'auto_attack': (), 'auto_attack_images': 31}, {'ce'}),
    ({'attacks': ('fgsm',)}, _EVERY),
    ({'epsilon_255': 8.0}, _EVERY),
    ({'curve_attacks': ('pgd20_rnascl',)}, _EVERY),
    ({'curve_epsilons_255': (8.0,)}, _EVERY),
    ({'curve_images': 9}, _EVERY),
    ({'max_images': 9}, _EVERY),
    ({'save_images': False}, _EVERY),
    (
      {
        'norm': 'L2',
        'attacks': ('fgm_l2',),
        'curve_attacks': (),
        'epsilon_255': 16.0,
      },
      _EVERY,
    ),
  ],
)
def test_models_are_evaluated_again_for_what_changes_their_results(
  tiny_run, changes, expected
):
  config = tiny.config()
  config.evaluation.update(changes)
  run = tiny.opened(config, str(tiny_run))
  found = set()
  for model in models.trained_models(run):
    saved = files.read_json(tiny_run / 'evaluation' / f'{model.name}.json')
    wanted = model_evaluation.key(run.settings.evaluation, model)
    if saved['key'] != wanted:
      found.add(model.name)
  assert found == expected


def test_every_field_of_an_evaluation_is_in_the_key_or_known_not_to_matter(
  tiny_run,
):
  run = tiny.opened(tiny.config(), str(tiny_run))
  (model,) = (m for m in models.trained_models(run) if m.name == 'ce')
  fields = {f.name for f in dataclasses.fields(settings.EvaluationSettings)}
  # In L-infinity the fields of other norms are left out too.
  spec = dataclasses.replace(run.settings.evaluation, norm='L2')
  left_out = fields - model_evaluation.key(spec, model)['evaluation'].keys()
  assert left_out == {
    'batch_size',
    'map_images',
    'scored_images',
    'auto_attack_models',
    'teachers',
  }


def test_teachers_are_left_alone_where_another_run_attacks_them(
  tiny_run, tmp_path
):
  folder = tmp_path / 'copy'
  shutil.copytree(tiny_run, folder)
  shutil.rmtree(folder / 'evaluation')
  config = tiny.config()
  config.evaluation.teachers = False
  config.evaluation.attacks = ('fgsm',)
  config.evaluation.auto_attack = config.evaluation.auto_attack_models = ()
  stages.evaluate(config, str(folder))
  found = {path.stem for path in (folder / 'evaluation').glob('*.json')}
  assert found == {'rnas_cl', 'rnas_cl_eq6', 'ce', 'robustness'}
  scores = files.read_json(folder / 'evaluation' / 'robustness.json')
  assert scores['teachers'] == {}
  assert 'Which teacher layers' not in report.write(folder).read_text()


def test_other_attacks_are_evaluated_in_the_same_workdir(tiny_run, tmp_path):
  folder = tmp_path / 'copy'
  shutil.copytree(tiny_run, folder)
  config = tiny.config()
  config.evaluation.attacks = ('fgsm', 'pgd20_rnascl', 'pgd20_trades')
  config.evaluation.epsilon_255 = 32.0
  stages.evaluate(config, str(folder))
  saved = files.read_json(folder / 'evaluation' / 'ce.json')
  keys = [record['attack'] for record in saved['attacks']]
  assert keys == ['clean', 'fgsm', 'pgd20', 'pgd20_trades', 'autoattack']
  assert saved['attacks'][1]['epsilon'] == pytest.approx(32 / 255)


def test_a_workdir_of_another_config_is_refused_with_the_difference(tiny_run):
  config = tiny.config()
  config.search.gamma = 2.0
  with pytest.raises(ValueError, match=r'search\.gamma: 1\.0 there, 2\.0 here'):
    stages.search(config, str(tiny_run))


def test_a_workdir_from_before_there_were_norms_and_averages_is_without(
  tiny_run, tmp_path
):
  older = files.read_json(tiny_run / 'config.json')
  methods = [older[s] for s in ('teacher', 'vulnerable_teacher', 'search')]
  methods += [older['train'], *older['adversarial']['students'].values()]
  for section in methods:
    for field in ('norm', 'epsilon', 'step_size', 'awp_gamma', 'alpha'):
      del section['adversarial_training'][field]
  later = ('average_decay', 'average_from', 'label_smoothing', 'mixup')
  for section in ('teacher', 'search', 'train', 'adversarial'):
    for field in (*later, 'cutmix'):
      del older[section]['optimization'][field]
  files.write_json(tmp_path / 'config.json', older)
  for stage in ('adversarial', 'adversarial/rnas_cl_eq6'):
    (tmp_path / stage).mkdir()
  config = tiny.config()
  workdir.compare(tmp_path, settings.parse(config))
  tuned = config.adversarial.students.rnas_cl_eq6.adversarial_training
  tuned.update(norm='L2', epsilon=0.5)
  with pytest.raises(ValueError, match="norm: 'Linf' there, 'L2' here"):
    workdir.compare(tmp_path, settings.parse(config))


def test_the_evaluation_and_the_devices_may_change(tiny_run):
  config = tiny.config()
  config.devices = 2
  config.evaluation.batch_size = 16
  stages.teacher(config, str(tiny_run))


def test_stages_without_their_input_say_what_to_run(tmp_path):
  with pytest.raises(
    FileNotFoundError, match=f'{commands.usage("teacher")} first'
  ):
    stages.search(tiny.config(), str(tmp_path))
  with pytest.raises(
    FileNotFoundError, match=f'{commands.usage("search")} first'
  ):
    stages.train(tiny.config(), str(tmp_path))
  with pytest.raises(
    FileNotFoundError, match=f'{commands.usage("train")} first'
  ):
    stages.adversarial(tiny.config(), str(tmp_path))
  with pytest.raises(FileNotFoundError, match='no trained model'):
    stages.evaluate(tiny.config(), str(tmp_path))


def test_a_teacher_of_another_architecture_is_refused(tiny_run, tmp_path):
  config = tiny.config()
  config.teacher.checkpoint = str(tiny_run / 'teacher')
  config.teacher.network.features = (8,)
  with pytest.raises(ValueError, match='network is not that of .*small_resnet'):
    stages.teacher(config, str(tmp_path))


def test_a_teacher_with_other_classes_is_refused(tiny_run, tmp_path):
  folder = tmp_path / 'teacher'
  variables, metadata = saved_variables.load(tiny_run / 'teacher' / 'model')
  metadata['num_classes'] = 100
  saved_variables.save(folder / 'model', variables, metadata)
  config = tiny.config()
  config.teacher.checkpoint = str(folder)
  with pytest.raises(ValueError, match='100 classes.*digits has 10'):
    stages.teacher(config, str(tmp_path / 'run'))


def test_an_architecture_of_another_teacher_is_refused(tiny_run, tmp_path):
  folder = tmp_path / 'copy'
  shutil.copytree(tiny_run, folder)
  saved = files.read_json(folder / 'architecture.json')
  saved['teacher_layers'] = saved['teacher_layers'][:-1] + ['other']
  for tutor in saved['tutors']:
    tutor['tutor'] = 0
  files.write_json(folder / 'architecture.json', saved)
  shutil.rmtree(folder / 'train')
  with pytest.raises(ValueError, match='Search again with this teacher'):
    stages.train(tiny.config(), str(folder))


@pytest.mark.parametrize(
  'stage, name',
  [
    (stages.search, 'config.json'),
    (stages.search, 'provenance.json'),
    (stages.search, 'search/stage.json'),
    (stages.search, 'architecture.json'),
    (stages.evaluate, 'teacher/model'),
    (stages.evaluate, 'train/ce/stage.json'),
    (stages.evaluate, 'train/ce/model/variables_0/extra/metadata'),
    (stages.evaluate, 'evaluation/ce.json'),
    (stages.evaluate, 'evaluation/robustness.json'),
  ],
)
def test_a_damaged_file_of_a_workdir_is_named_with_what_to_do(
  tiny_run, tmp_path, stage, name
):
  folder = tmp_path / 'copy'
  shutil.copytree(tiny_run, folder)
  path = folder / name
  if path.is_dir():
    shutil.rmtree(path)
  else:
    path.write_text('[]')
  with pytest.raises(files.DamagedFileError) as error:
    stage(tiny.config(), str(folder))
  assert str(error.value).startswith(f'{path} is damaged: ')
  assert '. Restore it from a copy' in str(error.value)


def test_an_export_is_made_anew_by_what_the_message_says(tiny_run, tmp_path):
  folder = tmp_path / 'copy'
  shutil.copytree(tiny_run, folder)
  shutil.rmtree(folder / 'teacher' / 'model')
  with pytest.raises(files.DamagedFileError) as error:
    stages.evaluate(tiny.config(), str(folder))
  assert f'delete {folder / "teacher" / "stage.json"} and' in str(error.value)
  (folder / 'teacher' / 'stage.json').unlink()
  stages.teacher(tiny.config(), str(folder))
  models = [
    saved_variables.load(place / 'teacher' / 'model')
    for place in (folder, tiny_run)
  ]
  jax.tree.map(np.testing.assert_array_equal, models[0][0], models[1][0])


def test_a_checkpoint_of_another_architecture_is_refused(tiny_run, tmp_path):
  """Its leaves are compared with those of the config's network."""
  folder = tmp_path / 'copy'
  shutil.copytree(tiny_run, folder)
  (folder / 'teacher' / 'stage.json').unlink()
  config = tiny.config()
  config.teacher.network.features = (8,)
  (folder / 'config.json').unlink()
  with pytest.raises(ValueError, match='another architecture'):
    stages.teacher(config, str(folder))


@pytest.mark.parametrize('devices', [1, 2])
@pytest.mark.parametrize('batch_size', [7, 40])
def test_robust_accuracy_does_not_depend_on_batches_or_devices(
  tiny_run, devices, batch_size
):
  model = rnascl_jax.load(tiny_run, 'teacher')
  data = datasets.load(
    'digits', validation_size=32, limit=datasets.Limit(128, 40)
  )
  outcome = under_attack.attacked(
    classification.on_devices(
      model.net, model.variables, parallel.devices(devices), batch_size
    ),
    data.test,
    attacks.PRESETS['pgd20_rnascl'],
    epsilon=16 / 255,
    seed=0,
  )
  expected = np.load(tiny_run / 'evaluation' / 'teacher.npz')['correct/pgd20']
  assert len(outcome.correct) == 40
  assert (outcome.correct == expected).mean() >= 0.99


@pytest.mark.skipif(
  not os.environ.get('TFDS_DATA_DIR'),
  reason='needs CIFAR-10 in TFDS_DATA_DIR, prepared as ArrayRecord',
)
@pytest.mark.slow
def test_the_cifar_smoke_config_runs_all_stages(tmp_path):
  from configs import cifar10

  table = stages.pipeline(cifar10.get_config('smoke'), str(tmp_path))
  assert 'PGD-20' in table

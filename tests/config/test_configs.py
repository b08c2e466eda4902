"""Configs of teachers and of ablations are what their tables say."""

import dataclasses
import importlib
import itertools
import json
import pathlib
import re

import jax
import numpy as np
import pytest

from configs import (
  cifar10,
  cifar10_cpu,
  digits,
  imagenet,
  imagenet100,
  images,
  rivals,
  teachers,
)
from configs.ablations import kd, kl, objective, reduction, terms, tutors
from configs.ablations import teacher as teacher_ablation
from rnascl_jax import stages
from rnascl_jax.attacks.presets import PRESETS
from rnascl_jax.config import checks, resolve, settings
from rnascl_jax.data import datasets
from rnascl_jax.models.teachers.published import PUBLISHED
from rnascl_jax.runtime import commands, saved_variables
from tests import tiny

_CONFIGS = {
  'cifar10': (
    cifar10,
    ['adversarial=no', 'teacher=small,space=m2']
    + ['preset=paper', 'preset=authors', 'preset=authors,teacher=vit,smoke'],
  ),
  'cifar10_cpu': (cifar10_cpu, ['']),
  'imagenet100': (
    imagenet100,
    ['', 'space=is,teacher=resnet18,rows=fig4']
    + ['preset=paper', 'preset=authors', 'preset=authors,rows=fig4,smoke'],
  ),
  'imagenet': (imagenet, ['', 'objective=free_cac,space=im']),
  'teachers': (
    teachers,
    [f'method={name}' for name in ('pgd', 'fast', 'free', 'trades')]
    + ['method=standard,network=wrn34', 'network=wrn-16-4', 'network=small']
    + ['data=digits', 'data=digits,method=free'],
  ),
  'objective': (
    objective,
    ['', 'space=s5,rows=all', 'autoattack=none', 'autoattack=all,teacher=small']
    + ['data=digits', 'data=digits,rows=all', 'data=digits,rows=pruning'],
  ),
  'teacher': (
    teacher_ablation,
    [f'teacher={name}' for name in ('wrn34', 'resnet50', 'resnet18', 'vit')]
    + ['teacher=vulnerable_resnet50,space=s7', 'teacher=small']
    + ['teacher=vulnerable_small']
    + ['data=digits', 'data=digits,teacher=vulnerable_small'],
  ),
  'terms': (
    terms,
    [f'terms={name},data=digits' for name in terms.TERMS]
    + ['', 'terms=ce,teacher=vit,space=m2', 'terms=ce_kl,adversarial=no']
    + ['terms=ce,data=imagenet100,adversarial=no', 'data=imagenet100,space=is']
    + ['data=digits,teacher=vulnerable_small'],
  ),
  'kd': (kd, ['', 'data=digits', 'space=s7,teacher=resnet18']),
  'reduction': (reduction, ['', 'data=digits', 'space=s5']),
  'tutors': (tutors, ['', 'data=digits']),
  'kl': (kl, ['', 'data=digits']),
  'images': (images, ['', 'data=npz:images.npz']),
  'rivals': (
    rivals,
    ['', 'data=digits', 'methods=ard+rnas_cl,teacher=wrn22']
    + ['network=mobilenet_v2', 'network=mobilenet_v2,data=digits'],
  ),
}
_ALL = [
  (name, argument)
  for name, (_, arguments) in _CONFIGS.items()
  for argument in arguments
]


def _parsed(name: str, argument: str) -> settings.Settings:
  return settings.parse(_CONFIGS[name][0].get_config(argument))


def _images(spec: settings.Data) -> datasets.Dataset:
  """Images of a data set's shape in its place, which take no memory."""
  side, classes = 32, 10
  if spec.name == 'imagenet':
    side, classes = spec.image_size or 224, len(spec.classes) or 1000
  split = datasets.Split(
    np.broadcast_to(np.uint8(0), (1280, side, side, 3)),
    np.arange(1280, dtype=np.int32) % classes,
  )
  return datasets.Dataset(
    name=spec.name,
    class_names=tuple(str(index) for index in range(classes)),
    train=split,
    validation=split,
    test=split,
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
  )


@pytest.fixture
def shapes_of_images(monkeypatch):
  """Stands for all data sets but digits, which are digits."""
  read = resolve.dataset
  monkeypatch.setattr(
    resolve,
    'dataset',
    lambda spec, *_: read(spec) if spec.name == 'digits' else _images(spec),
  )


@pytest.mark.parametrize(('name', 'argument'), _ALL)
def test_every_config_parses_and_survives_json(name, argument):
  for form in (argument, f'{argument},smoke'):
    config = _CONFIGS[name][0].get_config(form)
    again = json.loads(json.dumps(config.to_dict()))
    assert settings.parse(again) == settings.parse(config)


@pytest.mark.parametrize(
  ('name', 'argument'),
  [
    ('cifar10', 'teacher=small,space=m2'),
    ('cifar10', 'preset=paper,teacher=small'),
    ('cifar10', 'preset=authors,teacher=small'),
    ('cifar10_cpu', ''),
    ('teachers', 'network=wrn-16-2'),
    ('teachers', 'data=digits,method=free'),
    ('objective', 'rows=all,teacher=small'),
    ('objective', 'data=digits,rows=all'),
    ('terms', 'terms=ce'),
    ('terms', 'terms=ce,data=digits'),
    ('terms', 'terms=ce,data=imagenet100,space=is'),
    ('terms', 'terms=layerwise_kl,data=digits'),
    ('terms', 'terms=rkd,teacher=vit'),
    ('kd', 'data=digits'),
    ('kd', 'teacher=resnet18'),
    ('reduction', 'data=digits'),
    ('tutors', 'data=digits'),
    ('kl', 'data=digits'),
    ('images', 'data=folder:/images'),
    ('rivals', 'data=digits'),
    ('rivals', 'data=digits,methods=ce'),
    ('rivals', 'network=mobilenet_v2,data=digits'),
    ('imagenet100', 'space=is,teacher=resnet18'),
    ('imagenet100', 'space=is,teacher=resnet18,preset=authors'),
    ('imagenet', 'space=is,teacher=resnet18,objective=free_cac'),
  ],
)
def test_configs_build_every_network_and_method(
  name, argument, shapes_of_images
):
  """The paper's own teachers are built in `test_settings`."""
  del shapes_of_images
  for form in (argument, f'{argument},smoke'):
    parsed = _parsed(name, form)
    checks.check(parsed, resolve.dataset(parsed.data), 1)


@pytest.mark.parametrize(('name', 'argument'), _ALL)
def test_a_smoke_run_has_one_epoch_of_each_stage(name, argument):
  parsed = _parsed(name, f'{argument},smoke')
  stages = [parsed.teacher, parsed.search, parsed.train]
  if parsed.controls:
    stages.append(parsed.vulnerable_teacher)
  if parsed.adversarial.students:
    stages.append(parsed.adversarial)
  assert [stage.optimization.epochs for stage in stages] == [1] * len(stages)
  assert 0 < parsed.data.max_train <= 1024
  assert not parsed.teacher.checkpoint
  for tuned in parsed.adversarial.students.values():
    assert tuned.adversarial_training.num_steps == 2


@pytest.mark.parametrize(
  ('config', 'argument', 'message'),
  [
    (teachers, 'network=wrn34-10', 'Choose one of wrn34, .*such as wrn-28-10'),
    (teachers, 'network=resnet18,data=digits', 'Choose one of small'),
    (
      teachers,
      'method=madry',
      'Choose one of standard, pgd, fast, free, trade',
    ),
    (objective, 'rows=table5', 'Choose one of table4, all'),
    (objective, 'data=digits,space=s3', 'space=s3 has no meaning beside data='),
    (objective, 'autoattack=most', 'Choose one of some, all, none'),
    (teacher_ablation, 'data=digits,teacher=wrn34', 'small, vulnerable_small'),
    (teacher_ablation, 'space=s4', 'space=s4 is unknown.*Choose one of s3'),
    (teacher_ablation, 'teacher=none', 'teacher=none is unknown'),
    (terms, 'terms=kl', 'Choose one of ce, ce_kl, ce_icc, rnas_cl, layerwise'),
    (terms, 'adversarial=maybe', 'Choose one of yes, no'),
    (terms, 'data=mnist', 'Choose one of cifar10, digits'),
    (kd, 'terms=ce', "argument 'terms' is unknown"),
    (reduction, 'data=digits,space=s3', 'space=s3 has no meaning beside data='),
    (cifar10, 'adversarial=maybe', 'Choose one of yes, no'),
    (cifar10, 'preset=autors', "mean 'authors'.*one of ours, paper, authors"),
    (imagenet100, 'space=s3', 'Choose one of is, im, i, il'),
    (imagenet100, 'teacher=wrn34', 'resnet50_madry, wrn50, resnet18_l2'),
    (imagenet, 'objective=trades', 'Choose one of fast_cac, fast, free'),
  ],
)
def test_a_wrong_argument_is_refused_with_the_right_ones(
  config, argument, message
):
  with pytest.raises(ValueError, match=message):
    config.get_config(argument)


def test_a_teacher_has_the_method_and_the_published_schedule_asked_for():
  for name, epochs, rate in (
    ('standard', 200, 0.1),
    ('pgd', 200, 0.1),
    ('fast', 15, 0.2),
    ('free', 26, 0.1),
    ('trades', 76, 0.1),
    ('mart', 120, 0.01),
    ('trades-awp', 200, 0.1),
  ):
    teacher = _parsed('teachers', f'method={name}').teacher
    method = settings.AdversarialTraining(name)
    if name == 'trades-awp':
      fields = {'step_size_255': 2, 'awp_gamma': 0.005, 'awp_warmup': 0.05}
      method = settings.AdversarialTraining('trades', **fields)
    assert teacher.adversarial_training == method
    assert teacher.network.name == 'resnet18'
    spec = teacher.optimization
    assert (spec.epochs, spec.learning_rate) == (epochs, rate)
    attacked = name != 'standard'
    assert spec.select == ('best' if attacked else 'last')
    assert (teacher.label == 'Robust teacher') == attacked


def test_trades_decays_after_epoch_74_as_published():
  spec = _parsed('teachers', 'method=trades').teacher.optimization
  rate = resolve.schedule(spec, 390)
  at = [float(rate(390 * epoch)) for epoch in (0, 73.9, 74.1, 75.9)]
  assert at == pytest.approx([0.1, 0.1, 0.01, 0.01])


def test_a_wide_teacher_has_the_depth_and_width_of_its_name():
  network = _parsed('teachers', 'network=wrn-28-10').teacher.network
  assert (network.name, network.depth, network.width) == ('wide_resnet', 28, 10)


def test_methods_on_digits_have_equal_updates_and_the_demos_radius():
  updates = set()
  for name in ('standard', 'pgd', 'fast', 'free', 'trades', 'mart', 'pgd-awp'):
    parsed = _parsed('teachers', f'data=digits,method={name}')
    method, spec = (
      parsed.teacher.adversarial_training,
      parsed.teacher.optimization,
    )
    assert method.name == name.removesuffix('-awp')
    assert method.epsilon_255 == digits.EPSILON_255
    updates.add(spec.epochs * resolve.replays(method))
    assert parsed.evaluation.auto_attack_models == ('teacher',)
    assert not parsed.controls
  assert updates == {40}


def _methods(argument: str) -> dict[str, settings.AdversarialTraining]:
  students = _parsed('objective', argument).adversarial.students
  assert all(s.student == 'rnas_cl' for s in students.values())
  return {
    name: student.adversarial_training for name, student in students.items()
  }


def test_the_rows_of_table_4_are_terms_of_eq_6():
  rows = _methods('')
  assert {row.name for row in rows.values()} == {'trades'}
  weights = {name: (row.beta, row.cac_weight) for name, row in rows.items()}
  assert weights == {
    'trades': (6.0, 0.0),
    'cac': (0.0, 1.0),
    'trades_cac': (6.0, 1.0),
  }
  assert {row.cac_mean for row in rows.values()} == {'all'}
  # The default of settings, and that is eq. (6) with the authors' attack.
  assert rows['trades_cac'] == settings.FineTuning().adversarial_training


def test_further_objectives_are_compared_at_the_same_radius():
  rows = _methods('rows=all')
  assert {row.epsilon_255 for row in rows.values()} == {0.031 * 255}
  assert {
    name: (row.name, row.cac_weight)
    for name, row in rows.items()
    if row.name != 'trades'
  } == {
    'pgd_at': ('pgd', 0.0),
    'fast': ('fast', 0.0),
    'fast_cac': ('fast', 1.0),
    'free': ('free', 0.0),
    'free_cac': ('free', 1.0),
    'control': ('standard', 0.0),
  }
  authors = rows['cac_authors']
  assert (authors.beta, authors.cac_weight) == (0.0, 3.0)
  assert authors.cac_mean == rows['trades_cac_confident'].cac_mean
  assert authors.cac_mean == 'confident'
  on_digits = _methods('rows=all,data=digits')
  assert {r.epsilon_255 for r in on_digits.values()} == {digits.EPSILON_255}
  assert list(on_digits) == list(rows)


@pytest.mark.parametrize(
  ('argument', 'images'),
  [('', 1000), ('data=digits', 64), ('autoattack=all', 0)],
)
def test_autoattack_attacks_every_row_of_the_objectives(argument, images):
  parsed = _parsed('objective', argument)
  spec = parsed.evaluation
  assert spec.auto_attack == ('standard',)
  assert set(spec.auto_attack_models) == {
    'rnas_cl',
    *parsed.adversarial.students,
  }
  assert spec.auto_attack_images == images
  assert not _parsed('objective', 'autoattack=none').evaluation.auto_attack


def test_eq_6_can_be_left_out_of_the_cifar10_run():
  parsed = settings.parse(cifar10.get_config())
  assert list(parsed.adversarial.students) == ['rnas_cl_eq6']
  assert 'rnas_cl_eq6' in parsed.evaluation.auto_attack_models
  spec = parsed.adversarial.optimization
  assert (spec.epochs, spec.learning_rate) == (20, 0.004)
  without = _parsed('cifar10', 'adversarial=no')
  assert not without.adversarial.students
  assert set(without.evaluation.auto_attack_models) == set(without.students)


@pytest.mark.parametrize('data', ['cifar10', 'digits'])
def test_a_vulnerable_teacher_has_a_search_of_its_own(data):
  network = 'resnet50' if data == 'cifar10' else 'small'
  parsed = _parsed('teacher', f'data={data},teacher=vulnerable_{network}')
  robust = _parsed('teacher', f'data={data},teacher={network}')
  assert parsed.teacher.adversarial_training.name == 'standard'
  assert robust.teacher.adversarial_training.name == 'pgd'
  assert parsed.teacher.network == robust.teacher.network
  for run in (parsed, robust):
    assert list(run.students) == ['rnas_cl']
    assert run.students['rnas_cl'].teacher == 'teacher'
    assert not run.controls and not run.adversarial.students
  assert parsed.search == robust.search
  assert parsed.search.gamma > 0


@pytest.mark.parametrize('data', ['cifar10', 'digits', 'imagenet100'])
def test_without_a_teacher_no_stage_learns_from_one(data):
  parsed = _parsed('terms', f'data={data},terms=ce')
  assert (parsed.search.kl_weight, parsed.search.gamma) == (0.0, 0.0)
  alone = settings.StudentSettings('CE', '', kl_weight=0.0, gamma=0.0)
  assert parsed.students == {'ce': alone}
  (tuned,) = parsed.adversarial.students.values()
  assert tuned.student == 'ce'
  assert not parsed.teacher.checkpoint
  assert parsed.teacher.network.features == (4,)
  # Nobody asks how robust the network is that stands in.
  assert not parsed.evaluation.teachers


@pytest.mark.parametrize('data', ['cifar10', 'digits'])
@pytest.mark.parametrize('name', terms.TERMS)
def test_a_row_of_terms_is_searched_and_trained_by_the_same_objective(
  name, data
):
  """And nothing else differs from RNAS-CL."""
  parsed = _parsed('terms', f'data={data},terms={name}')
  base = _parsed('terms', f'data={data}')
  expected = {
    'ce': ('kl', 'attention', 0.0, 0.0),
    'ce_kl': ('kl', 'attention', 1.0, 0.0),
    'ce_icc': ('kl', 'attention', 0.0, 1.0),
    'rnas_cl': ('kl', 'attention', 1.0, 1.0),
    'layerwise_kl': ('kl', 'layerwise_kl', 1.0, 1.0),
    'pkt': ('pkt', 'attention', 1.0, 1.0),
    'rkd': ('rkd', 'attention', 1.0, 1.0),
  }[name]
  fields = ('method', 'layer_loss', 'kl_weight', 'gamma')
  ((key, student),) = parsed.students.items()
  assert key == name
  for stage in (parsed.search, student):
    assert tuple(getattr(stage, field) for field in fields) == expected
  like_base = {field: getattr(base.search, field) for field in fields}
  assert dataclasses.replace(parsed.search, **like_base) == base.search
  same = ('data', 'space', 'train', 'distillation', 'seed')
  assert all(getattr(parsed, f) == getattr(base, f) for f in same)
  ((tuned_key, tuned),) = parsed.adversarial.students.items()
  assert (tuned_key, tuned.student) == (f'{name}_eq6', name)
  assert (
    tuned.adversarial_training
    == base.adversarial.students['rnas_cl_eq6'].adversarial_training
  )
  assert not parsed.controls
  without = _parsed('terms', f'data={data},terms={name},adversarial=no')
  assert not without.adversarial.students
  assert (
    dataclasses.replace(
      parsed,
      adversarial=without.adversarial,
      evaluation=without.evaluation,
    )
    == without
  )


@pytest.mark.parametrize('data', ['cifar10', 'digits'])
def test_ways_to_distil_have_nothing_of_the_attention_loss(data):
  students = _parsed('kd', f'data={data}').students
  assert {name: s.method for name, s in students.items()} == {
    'at': 'at',
    'sp': 'sp',
    'vid': 'vid',
    'rkd': 'rkd',
    'crd': 'crd',
    'pkt': 'pkt',
    'kd': 'kl',
  }
  assert {(s.kl_weight, s.gamma) for s in students.values()} == {(1.0, 0.0)}
  assert {s.teacher for s in students.values()} == {'teacher'}


@pytest.mark.parametrize('data', ['cifar10', 'digits'])
def test_the_study_of_the_factor_has_each_with_and_without_kl(data):
  students = _parsed('reduction', f'data={data}').students
  attention = {
    'literal': ('literal', 1.0),
    'mean': ('mean', 1.0),
    'sum': ('sum', 1.0),
    'ten_sums': ('sum', 10.0),
  }
  assert {
    name: (s.kl_weight, s.reduction, s.gamma) for name, s in students.items()
  } == {
    'none': (1.0, 'sum', 0.0),
    **{name: (1.0, *fields) for name, fields in attention.items()},
    **{f'only_{name}': (0.0, *fields) for name, fields in attention.items()},
  }


@pytest.mark.parametrize('data', ['cifar10', 'digits'])
def test_the_study_of_tutors_has_every_control_and_none(data):
  students = _parsed('tutors', f'data={data}').students
  none = students.pop('none')
  assert none.gamma == 0
  assert list(students) == [s.tutors for s in students.values()]
  assert set(students) == set(resolve.TUTORS)


@pytest.mark.parametrize('data', ['cifar10', 'digits'])
def test_the_study_of_kl_has_all_but_rnas_cl_itself(data):
  students = _parsed('kl', f'data={data}').students.values()
  made = [(s.kl_direction, s.kl_temperature, s.gamma) for s in students]
  every = itertools.product(
    ('student_teacher', 'teacher_student'), (1.0, 4.0), (0.0, 1.0)
  )
  assert set(made) == set(every) - {('student_teacher', 1.0, 1.0)}
  assert len(made) == 7 and {s.method for s in students} == {'kl'}


@pytest.mark.parametrize('data', ['cifar10', 'digits'])
@pytest.mark.parametrize('network', ['searched', 'mobilenet_v2'])
def test_rivals_differ_in_their_method_alone(data, network):
  parsed = _parsed('rivals', f'data={data},network={network}')
  students, tuned = parsed.students, parsed.adversarial.students
  assert len({(s.teacher, s.network) for s in students.values()}) == 1
  terms = {'method': 'kl', 'kl_weight': 1.0, 'gamma': 1.0}
  assert 1 == len(
    {
      dataclasses.replace(s, label='', tutors='searched', **terms)
      for s in students.values()
    }
  )
  method = {'name': 'pgd', 'cac_weight': 0, 'awp_gamma': 0, 'awp_warmup': 0}
  trainings = [t.adversarial_training for t in tuned.values()]
  assert len({dataclasses.replace(t, **method) for t in trainings}) == 1
  assert (
    trainings[0].epsilon_255 == {'cifar10': 0.031 * 255, 'digits': 25.5}[data]
  )
  begun = {t.student for name, t in tuned.items() if name != 'rnas_cl_eq6'}
  assert begun == {'ce'} and tuned['rnas_cl_eq6'].student == 'rnas_cl'
  ce = students['ce']
  assert (ce.kl_weight, ce.gamma, ce.teacher) == (0, 0, 'teacher')


def test_rivals_of_one_method_have_the_student_that_it_begins_as():
  parsed = _parsed('rivals', 'methods=ard+rkd')
  assert list(parsed.students) == ['ce', 'rkd']
  assert list(parsed.adversarial.students) == ['ard']
  with pytest.raises(ValueError, match='methods=ardd is unknown. Did you mean'):
    rivals.get_config('methods=ce+ardd')


def test_every_config_sums_the_attention_loss_with_gamma_1():
  for name in ('cifar10', 'cifar10_cpu', 'digits', 'imagenet100', 'imagenet'):
    module = importlib.import_module(f'configs.{name}')
    parsed = settings.parse(module.get_config())
    distilled = [parsed.search, *parsed.students.values()]
    assert {s.reduction for s in distilled} == {'sum'}
    assert {s.gamma for s in distilled} <= {0.0, 1.0} and parsed.search.gamma


def test_a_teacher_of_a_sweep_is_trained_like_the_one_by_itself():
  """configs/teachers.py says so of the rows of Table 15."""
  for name in ('wrn34', 'resnet18', 'resnet50', 'vit', 'deit'):
    row = _parsed('teacher', f'teacher={name}').teacher
    assert row == _parsed('teachers', f'network={name}').teacher


@pytest.mark.parametrize('name', ['vit', 'deit'])
def test_transformers_have_the_schedule_of_mo_et_al(name):
  teacher = _parsed('teacher', f'teacher={name}').teacher
  assert teacher.adversarial_training == settings.AdversarialTraining('pgd')
  spec = teacher.optimization
  assert (spec.epochs, spec.batch_size, spec.select) == (40, 64, 'last')
  assert (spec.optimizer, spec.momentum, spec.weight_decay) == (
    'sgd',
    0.9,
    1e-4,
  )
  assert spec.gradient_clip == 1.0
  rate = resolve.schedule(spec, 100)
  rates = [float(rate(100 * epoch)) for epoch in (0, 34.9, 35.1, 37.9, 38.1)]
  assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_a_search_without_the_teachers_terms_is_the_same_with_any_teacher(
  tiny_run, tmp_path
):
  """The row "Standard" of Table 10, where a network stands in."""
  variables, about = saved_variables.load(tiny_run / 'teacher' / 'model')
  other = jax.tree.map(lambda x: np.asarray(x) * 2 + 0.1, variables)
  saved_variables.save(tmp_path / 'other' / 'model', other, about)
  histories = []
  for teacher in (tiny_run / 'teacher', tmp_path / 'other'):
    config = tiny.config()
    config.teacher.checkpoint = str(teacher)
    config.search.kl_weight = config.search.gamma = 0.0
    config.students = {'ce': config.students.ce}
    config.adversarial.students = {}
    folder = tmp_path / f'run_{teacher.name}'
    stages.teacher(config, str(folder))
    stages.search(config, str(folder))
    histories.append((folder / 'search' / 'arch.jsonl').read_text())
  assert histories[0] == histories[1]
  lines = [json.loads(line) for line in histories[0].splitlines()]
  # It moves filters, and leaves tutors where they were.
  assert lines[-1]['channels'] != lines[0]['channels']
  assert len({p for row in lines[-1]['tutors'] for p in row}) == 1


@pytest.mark.parametrize('name', PUBLISHED)
def test_every_teacher_of_the_paper_has_a_config_and_a_row_in_the_docs(name):
  known = PUBLISHED[name]
  docs = pathlib.Path(__file__).parents[2] / 'docs' / 'teachers.md'
  rows = [
    line for line in docs.read_text().splitlines() if f'| `{name}` |' in line
  ]
  assert len(rows) == 1
  assert f' {known.parameters / 1e6:.1f}M ' in rows[0]
  assert float(rows[0].split('|')[-2]) == known.clean
  short = name.removeprefix('imagenet_')
  places = {
    'CIFAR-10': ((teachers, 'network'), (cifar10, 'teacher')),
    'ImageNet': ((imagenet100, 'teacher'), (imagenet, 'teacher')),
  }
  for module, argument in places[known.data]:
    teacher = module.get_config(f'{argument}={short}').teacher
    network = {field: teacher.network[field] for field in known.network}
    assert network == dict(known.network)
    if known.data == 'ImageNet':
      assert teacher.checkpoint == f'teachers/{name}'


def test_the_released_teacher_of_imagenet_is_l2_unless_another_is_named():
  for argument, name in (
    ('preset=authors', 'wrn50_l2'),
    ('preset=authors,teacher=resnet18', 'resnet18'),
    ('preset=paper', 'wrn50'),
  ):
    teacher = imagenet100.get_config(argument).teacher
    assert teacher.checkpoint == f'teachers/imagenet_{name}'


def test_an_imagenet_teacher_that_was_not_imported_is_asked_for(
  shapes_of_images, tmp_path, monkeypatch
):
  del shapes_of_images
  monkeypatch.chdir(tmp_path)
  config = imagenet100.get_config('space=is,teacher=resnet18')
  config.devices = 1
  importer = commands.usage('import-teacher')
  message = f"'teachers/imagenet_resnet18' has no folder .*{importer} wrote"
  with pytest.raises(FileNotFoundError, match=message):
    stages.teacher(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_the_imagenet_configs_are_the_papers_section_4_1():
  for name, epochs in (('imagenet100', 200), ('imagenet', 200)):
    parsed = _parsed(name, '')
    assert parsed.search.optimization.epochs == 100
    assert parsed.train.optimization.epochs == epochs
    for stage in (parsed.search, parsed.train):
      spec = stage.optimization
      assert (spec.batch_size, spec.learning_rate) == (256, 0.1)
      assert (spec.momentum, spec.weight_decay) == (0.9, 4e-5)
      rate = resolve.schedule(spec, 500)
      ends = [float(rate(step)) for step in (0, 500 * spec.epochs)]
      assert ends == pytest.approx([0.1, 0.0], abs=1e-6)
    assert parsed.search.arch_share == 0.2
    assert parsed.distillation.map_size == 14
    assert (parsed.data.name, parsed.data.image_size) == ('imagenet', 0)
  assert not _parsed('imagenet', '').data.classes
  assert len(set(_parsed('imagenet100', '').data.classes)) == 100


def test_table_5_has_trades_without_consistency():
  parsed = _parsed('imagenet100', '')
  assert parsed.space.name == 'i'
  ((name, tuned),) = parsed.adversarial.students.items()
  assert (name, tuned.student) == ('rnas_cl_trades', 'rnas_cl')
  method = tuned.adversarial_training
  assert (method.name, method.beta, method.cac_weight) == ('trades', 6.0, 0.0)
  spec = parsed.evaluation
  assert 'pgd20_rnascl' in spec.attacks and spec.epsilon_255 == 8.0
  assert 'pgd20_rnascl' in spec.curve_attacks
  assert {4.0, 8.0} <= set(spec.curve_epsilons_255) and not spec.curve_images
  assert list(parsed.students) == ['rnas_cl']
  figure_4 = _parsed('imagenet100', 'rows=fig4').students
  assert set(figure_4) == {'rnas_cl', 'ce_kl', 'ce'}


@pytest.mark.parametrize(
  ('objective', 'name', 'cac_weight'),
  [
    ('fast', 'fast', 0.0),
    ('fast_cac', 'fast', 1.0),
    ('free', 'free', 0.0),
    ('free_cac', 'free', 1.0),
  ],
)
def test_table_3_trains_with_attacks_what_was_searched_elsewhere(
  objective, name, cac_weight
):
  parsed = _parsed('imagenet', f'objective={objective}')
  method = parsed.train.adversarial_training
  assert (method.name, method.epsilon_255) == (name, 4.0)
  assert method.cac_weight == cac_weight
  epochs = parsed.train.optimization.epochs
  assert epochs * resolve.replays(method) == 200
  assert parsed.search.architecture == 'imagenet100_il/architecture.json'
  assert not _parsed('imagenet', 'smoke').search.architecture
  preset = PRESETS['pgd10_imagenet_free']
  assert parsed.evaluation.attacks[-1] == 'pgd10_imagenet_free'
  assert (preset.epsilon, preset.num_steps) == (4 / 255, 10)
  assert parsed.evaluation.epsilon_255 == 4.0


@pytest.mark.parametrize('name', _CONFIGS)
def test_the_commands_of_a_config_can_be_given(name):
  """Their files, arguments and fields exist."""
  text = _CONFIGS[name][0].__doc__
  found = re.findall(
    r'rnascl (\w+)[^\n]*(?: \\\n[^\n]*?)*?'
    r'--config=([a-z][\w/]+)(?::([\w=,-]+))?',
    text,
  )
  assert len(found) == len(re.findall('--config=[a-z]', text)) > 0
  for command, path, argument in found:
    module = importlib.import_module(f'configs.{path.replace("/", ".")}')
    if command == 'sweep':
      assert module.sweep(argument)
    else:
      module.get_config(argument)
  config = _CONFIGS[name][0].get_config().to_dict()
  for path in re.findall(r'--config((?:\.\w+)+)', text):
    section = config
    for field in path.split('.')[1:]:
      section = section[field]

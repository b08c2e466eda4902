"""Bad input fails early, with the value, the bound and the fix."""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin, get_type_hints

import jax.numpy as jnp
import numpy as np
import pytest

from configs import cifar10, digits
from rnascl_jax import stages
from rnascl_jax.attacks import norms
from rnascl_jax.config import arguments, checks, resolve, settings
from rnascl_jax.data import datasets
from rnascl_jax.training import search_step
from tests import tiny

_CONFIGS = {
  'digits': digits,
  'cifar10': cifar10,
}


def _check(parsed: settings.Settings, devices: int = 1):
  checks.check(parsed, resolve.dataset(parsed.data), devices)


@pytest.mark.parametrize('name', _CONFIGS)
@pytest.mark.parametrize('argument', [None, 'smoke'])
def test_every_config_parses_and_survives_json(name, argument):
  config = _CONFIGS[name].get_config(argument)
  parsed = settings.parse(config)
  again = json.loads(json.dumps(config.to_dict()))
  assert settings.parse(again) == parsed


@pytest.mark.parametrize('argument', [None, 'smoke'])
def test_the_digits_configs_build_every_network(argument):
  _check(settings.parse(digits.get_config(argument)))


@pytest.mark.parametrize('argument', [None, 'smoke'])
def test_the_digits_configs_fine_tune_rnas_cl_with_equation_6(argument):
  parsed = settings.parse(digits.get_config(argument))
  ((name, fine_tuned),) = parsed.adversarial.students.items()
  assert (name, fine_tuned.student) == ('rnas_cl_eq6', 'rnas_cl')
  method = fine_tuned.adversarial_training
  assert (method.name, method.beta, method.cac_weight) == ('trades', 6.0, 1.0)
  assert method.epsilon_255 == digits.EPSILON_255
  small = argument == 'smoke'
  assert parsed.adversarial.optimization.epochs == (1 if small else 20)
  assert method.num_steps == (2 if small else 10)


@pytest.mark.parametrize('space', ['s3', 's5', 's7', 'm', 'm2', 'l'])
def test_cifar_configs_name_the_spaces_of_table_13(space):
  config = cifar10.get_config(f'space={space},teacher=resnet50')
  parsed = settings.parse(config)
  assert parsed.space.name == space
  assert parsed.teacher.network.name == 'resnet50'


def test_the_cifar_config_is_the_papers_section_4_1():
  parsed = settings.parse(cifar10.get_config())
  for stage in (parsed.search, parsed.train):
    chosen = stage.optimization
    assert (chosen.epochs, chosen.batch_size) == (100, 128)
    assert (chosen.learning_rate, chosen.momentum) == (0.1, 0.9)
    assert (chosen.weight_decay, chosen.milestones) == (2e-4, (0.75, 0.9))
  assert parsed.search.arch_share == 0.2
  assert (parsed.search.temperature, parsed.search.temperature_decay) == (
    5.0,
    0.045,
  )
  rate = resolve.schedule(parsed.train.optimization, 390)
  at = [float(rate(390 * epoch)) for epoch in (0, 74.9, 75.1, 89.9, 90.1)]
  assert at == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


@pytest.mark.parametrize(
  ('argument', 'message'),
  [
    (
      'spaec=s3',
      "'spaec' is unknown.* mean 'space'.* takes space, teacher, sm",
    ),
    ('space=s4', 'space=s4 is unknown.*Choose one of s3, s5'),
  ],
)
def test_a_wrong_config_argument_lists_the_right_ones(argument, message):
  with pytest.raises(ValueError, match=message):
    cifar10.get_config(argument)


def test_config_arguments_are_words_and_pairs():
  parsed = arguments.parse('smoke, space=s5', {'space': 's3', 'smoke': ''})
  assert parsed == {'space': 's5', 'smoke': 'yes'}


def _changed(path: str, value) -> dict:
  config = tiny.config().to_dict()
  *parents, last = path.split('.')
  section = config
  for name in parents:
    section = section[name]
  section[last] = value
  return config


@pytest.mark.parametrize(
  ('path', 'value', 'message'),
  [
    ('search.gama', 1.0, r"config\.search\.gama.*Did you mean 'gamma'"),
    ('search.gamma', -1.0, r'gamma=-1\.0 must be at least 0'),
    ('seed', 'one', r"seed='one' is a str, must be a int"),
    ('teacher.adversarial_training.epsilon_255', 256.0, 'must be at most 255'),
    ('evaluation.epsilon_255', -1.0, 'must be at least 0'),
    ('evaluation.norm', 'L3', "norm='L3' must be one of"),
    ('evaluation.norm', 'L2', r'needs the radii of the curves.*\(0, 0\.5\)'),
    ('evaluation.epsilon', 0.5, "norm='Linf', where it is epsilon_255: set"),
    ('evaluation.curve_epsilons', (0.5,), 'where it is curve_epsilons_255'),
    ('teacher.adversarial_training.norm', 'L1', 'epsilon, of .* such as 12'),
    (
      'train.adversarial_training.step_size',
      1.0,
      'it is step_size_255',
    ),
    (
      'adversarial.students.rnas_cl_eq6.adversarial_training.norm',
      'L2',
      r'students\.rnas_cl_eq6\.adversarial_training\.epsilon, .* such as 0\.5',
    ),
    ('data.flip', 1, 'must be a bool'),
    ('train.optimization.epochs', 0, 'must be at least 1'),
    ('train.optimization.accumulate', 0, 'must be at least 1'),
    ('train.optimization.milestones', (0.5, 1.5), 'must be at most 1'),
    ('train.optimization.select', 'first', "one of .'last', 'best'"),
    ('search', 3, 'must have fields of its own'),
    ('space.name', 's3', r'space\.depths=.* has no meaning beside'),
    ('space.choices', (), "name='custom' needs config.space.choices"),
    ('evaluation.attacks', (), 'must not be empty'),
    ('students', {}, 'must not be empty'),
    ('train.optimization.learning_rate', float('inf'), '=inf must be a finite'),
    ('search.gamma', float('nan'), 'gamma=nan must be a finite number'),
    ('search.gamma', 10**400, 'gamma=inf must be a finite number'),
    ('train.optimization.learning_rate', 1e300, 'must be at most 1000'),
    ('distillation.map_size', 10**6, 'map_size=1000000 must be at most'),
    ('space.stem_features', 10**9, 'stem_features=1000000000 must be at most'),
    ('space.choices', ((4, 10**9),), 'must be at most'),
    ('space.choices', ((0, 4),), 'must be at least 1'),
    ('space.choices', (tuple(range(1, 66)),), 'a stage of 65 widths; .* 64 at'),
    ('space.depths', (10**4, 1, 1), r'depths=\(10000, 1, 1\) must be at most'),
    ('space.depths', (200, 200), 'has 400 blocks; compiling more than 256'),
    ('teacher.network.stage_sizes', (200, 200), 'has 400 blocks'),
    ('search.temperature_decay', 100.0, 'temperature fall to 6.9e-87 in 3 ep'),
    ('students', 3, 'must have names and their fields'),
    ('students.ce.gamma', 1.0, 'no teacher'),
    ('search.kl_direction', 'both', "'both' must be .*'student_teacher', 'tea"),
    ('students.rnas_cl.kl_temperature', 0.0, 'must be at least 1e-06'),
    ('students.ce.kl_temperature', 4.0, 'ce.kl_temperature=4.0 has no meaning'),
    ('search.reduction', 'max', r"'max' must be one of \('sum', 'mean', 'lit"),
    ('distillation.map_resize', 'area', "'area' must be .*'pool', 'bilinear'"),
    ('distillation.map_norm', 'layer', "'layer' must be .*'image', 'batch'"),
    ('students.ce.tutors', 'depth', "tutors='depth' has no .*ce.gamma=0"),
    ('search.tutors', 'depth', "rnas_cl.tutors='searched', but the .*'depth'"),
    ('search.gamma', 0.0, "rnas_cl.tutors='searched', but .* gamma=0.0, and"),
    ('students.ce.teacher', 'me', 'must be "teacher"'),
    ('students.ce.teacher', 'vulnerable_teacher', 'controls=True'),
    (
      'adversarial.students.rnas_cl_eq6.student',
      'rnas_c',
      r"eq6\.student='rnas_c' .*Did you mean 'rnas_cl'.*of: 'ce', 'rnas_cl'",
    ),
    ('adversarial.optimization.epochs', 0, 'must be at least 1'),
  ],
)
def test_a_bad_value_is_refused_with_its_field(path, value, message):
  with pytest.raises(ValueError, match=message):
    settings.parse(_changed(path, value))


@pytest.mark.parametrize(
  ('name', 'norm', 'share'),
  [
    ('pgd', 'Linf', 1 / 4),
    ('pgd', 'L2', 15 / 128),
    ('pgd', 'L1', 510 / 2000),
    ('trades', 'L2', 2 / 10),
    ('fast', 'L2', 5 / 4),
    ('free', 'L1', 1),
  ],
)
def test_a_method_has_the_norm_the_radius_and_the_step_of_its_config(
  name, norm, share, monkeypatch
):
  radius = {'Linf': 16 / 255, 'L2': 0.5, 'L1': 12.0}[norm]
  fields = {'epsilon_255': 16.0} if norm == 'Linf' else {'epsilon': radius}
  method = settings.AdversarialTraining(name, norm, **fields)
  kind = resolve.ADVERSARIAL_METHODS[name]._replace(make=dict)
  monkeypatch.setitem(resolve.ADVERSARIAL_METHODS, name, kind)
  made = resolve.adversarial_method(method)
  assert made['norm'] == norms.by_name(norm)
  assert made['epsilon'] == radius
  assert made['step_size'] == pytest.approx(share * radius)
  attack = resolve.validation_attack(method)
  assert (attack.norm, attack.epsilon) == (made['norm'], radius)
  assert attack.step_size == pytest.approx(radius / 4)


@pytest.mark.parametrize(
  ('name', 'fields', 'expected'),
  [
    ('mart', {}, {'beta': 5.0, 'in_training_mode': False}),
    ('ard', {}, {'in_training_mode': True, 'distill_on': 'adversarial'}),
    ('ard', {'temperature': 5.0, 'alpha': 0.5}, {'temperature': 5.0}),
    ('iad', {}, {'beta': 0.1, 'warmup_steps': 60}),
    ('rslad', {}, {'in_training_mode': False, 'num_steps': 10}),
    ('adaad', {'alpha': 0.5}, {'alpha': 0.5, 'step_size': 2 / 255}),
  ],
)
def test_a_method_has_its_published_numbers_or_those_of_its_config(
  name, fields, expected, monkeypatch
):
  kind = resolve.ADVERSARIAL_METHODS[name]._replace(make=dict)
  monkeypatch.setitem(resolve.ADVERSARIAL_METHODS, name, kind)
  method = settings.AdversarialTraining(name, **fields)
  made = resolve.adversarial_method(method, steps=200)
  assert expected.items() <= made.items()
  # What is published is the default of the method itself.
  assert made.keys() & {'alpha', 'temperature'} <= fields.keys()


def test_weights_are_perturbed_after_the_share_of_the_training():
  spec = settings.AdversarialTraining('trades', awp_gamma=0.5, awp_warmup=0.05)
  method = resolve.adversarial_method(spec, steps=200)
  ones = {'kernel': np.ones((2, 2), np.float32)}
  for step, moved in ((9, 1.0), (10, 1.5)):
    worst = method.perturb_weights(ones, ones, np.int32(step))
    np.testing.assert_allclose(worst['kernel'], moved)
  without = settings.AdversarialTraining('trades')
  assert resolve.adversarial_method(without).perturb_weights is None


@pytest.mark.parametrize(
  ('section', 'message'),
  [
    ('teacher', "config.teacher.*'rslad' learns from a teacher, and a teacher"),
    ('train', "of config.students.ce: 'rslad' .* and 'CE' has none: set its"),
    (
      'adversarial.students.tuned',
      "config.adversarial.students.tuned.*'rslad' learns .* 'CE' has none",
    ),
  ],
)
def test_robust_distillation_without_a_teacher_is_refused(section, message):
  config = tiny.config()
  config.adversarial.students = {
    'tuned': settings.fine_tuning_template(cac_weight=0.0)
  }
  config.adversarial.students.tuned.student = 'ce'
  part = config
  for name in section.split('.'):
    part = part[name]
  part.adversarial_training.name = 'rslad'
  with pytest.raises(ValueError, match=message):
    settings.parse(config)


def test_smooth_labels_beside_a_loss_of_its_own_are_refused():
  config = tiny.config()
  config.teacher.optimization.label_smoothing = 0.1
  assert settings.parse(config).teacher.optimization.label_smoothing == 0.1
  config.teacher.adversarial_training.name = 'mart'
  with pytest.raises(ValueError, match="label_smoothing=0.1 has no .* 'mart'"):
    settings.parse(config)


@pytest.mark.parametrize(
  ('section', 'method', 'fields', 'message'),
  [
    ('teacher', 'mart', {'mixup': 0.2}, "mixup=0.2 and .*the method 'mart'"),
    ('train', 'iad', {'cutmix': 1.0}, "cutmix=1.0 mix labels, .*'iad'"),
    ('search', 'standard', {'cutmix': 1.0}, 'a search does not mix images'),
    ('train', 'standard', {'mix_probability': 0.5}, '=0.5 has no meaning'),
    ('train', 'standard', {'mixup': 1.0}, "students.rnas_cl.method='crd'"),
    (
      'train',
      'standard',
      {'mixup': 1.0, 'mix_probability': 0.0},
      'mix_probability=0 mixes nothing',
    ),
  ],
)
def test_mixtures_that_mean_nothing_are_refused(
  section, method, fields, message
):
  config = tiny.config()
  config.students.rnas_cl.method = 'crd'
  config[section].adversarial_training.name = method
  if method == 'iad':
    config.students.ce.teacher = 'teacher'
  config[section].optimization.update(fields)
  with pytest.raises(ValueError, match=message):
    settings.parse(config)


def test_images_are_mixed_where_no_student_needs_other_classes():
  config = tiny.config()
  config.students.ce.update(method='crd', teacher='teacher', kl_weight=1.0)
  config.adversarial.optimization.cutmix = 1.0
  config.adversarial.pruning.optimization.cutmix = 1.0
  settings.parse(config)
  config.adversarial.students.rnas_cl_eq6.student = 'ce'
  with pytest.raises(ValueError, match="students.ce.method='crd'"):
    settings.parse(config)


def test_images_that_have_no_partner_on_their_device_are_refused():
  spec = settings.Optimization(mixup=1.0, batch_size=30)
  data = resolve.dataset(settings.parse(tiny.config()).data)
  checks._check_batch(spec, data, 1, 'train', 0.7)
  with pytest.raises(ValueError, match='of 2 devices 15 images, .*of 4'):
    checks._check_batch(spec, data, 2, 'train', 0.7)


@pytest.mark.parametrize(
  ('section', 'fields', 'message'),
  [
    (
      'search',
      {'average_decay': 0.99},
      'decay=0.99 has no meaning in a search',
    ),
    ('search', {'average_from': 1}, 'from=1 has no meaning in a search'),
    ('train', {'average_from': 4}, 'from=4 must be at most .*epochs=3'),
    (
      'teacher',
      {'average_from': 2, 'average_decay': 0.9},
      'average_from=2 and .*average_decay=0.9 are two averages',
    ),
  ],
)
def test_averages_that_mean_nothing_are_refused(section, fields, message):
  config = tiny.config()
  config[section].optimization.update(fields)
  with pytest.raises(ValueError, match=message):
    settings.parse(config)


def test_weights_under_free_training_are_not_perturbed():
  spec = settings.AdversarialTraining('free', awp_gamma=0.01)
  with pytest.raises(ValueError, match='awp_gamma=0.01 is not possible with'):
    resolve.adversarial_method(spec)


def test_a_radius_beyond_every_perturbation_is_refused():
  config = tiny.config()
  config.train.adversarial_training.update(name='pgd', norm='L2', epsilon=8.5)
  everything = settings.parse(config)
  with pytest.raises(ValueError, match='train.*epsilon=8.5 is more than 8'):
    checks.check(everything, resolve.dataset(everything.data), 1)


def test_maps_that_are_probabilities_are_not_normalised_over_a_batch():
  config = tiny.config()
  config.distillation.map_norm = 'batch'
  config.search.layer_loss = 'layerwise_kl'
  with pytest.raises(
    ValueError, match=r"map_norm='batch' .*search\.layer_loss"
  ):
    settings.parse(config)
  config.search.gamma = config.students.rnas_cl.gamma = 0.0
  settings.parse(config)


@pytest.mark.parametrize(
  'fields', ({'kl_direction': 'teacher_student'}, {'kl_temperature': 4.0})
)
def test_another_method_than_kl_has_no_direction_and_no_temperature(fields):
  config = tiny.config()
  config.search.update(fields, method='rkd')
  with pytest.raises(ValueError, match="no meaning beside method='rkd'"):
    settings.parse(config)
  config.search.method = 'kl'
  settings.parse(config)


def test_a_missing_field_is_named():
  config = tiny.config().to_dict()
  del config['search']['gamma']
  with pytest.raises(ValueError, match='config.search lacks gamma'):
    settings.parse(config)


@pytest.mark.parametrize(
  ('path', 'value', 'message'),
  [
    ('data.name', 'digit', "'digit' is unknown. Did you mean 'digits'"),
    ('evaluation.attacks', ('pgd21',), "'pgd21' is unknown.*fgsm"),
    ('teacher.network.name', 'resnet19', "'resnet19' is unknown.*resnet18"),
    ('search.noise', 'laplace', "choose one of: 'gumbel', 'normal'"),
    ('search.penalty', 'linear', "'power', 'log'"),
    ('search.arch_optimizer', 'lamb', "'sgd', 'adam', 'adamw'"),
    ('train.optimization.optimizer', 'lamb', "'sgd', 'adam', 'adamw'"),
    ('search.arch_adversarial', True, "'standard' makes no adversarial images"),
    ('data.validation_size', 0, "teacher.optimization.select='best' needs"),
    ('space.shortcut', 'none', "'pad', 'drop', 'project'"),
    ('students.rnas_cl.tutors', 'dept', "has 'dept'.*mean 'depth'.*resampled"),
    ('students.rnas_cl.tutors', 'conv1,conv1', 'names 2 teacher layers for 4'),
    ('train.optimization.schedule', 'step', "'piecewise', 'cosine'"),
    ('train.adversarial_training.name', 'fgsm', "'standard', 'pgd'"),
    (
      'adversarial.students.rnas_cl_eq6.adversarial_training.name',
      'trade',
      r"adversarial\.students\.rnas_cl_eq6\.adversarial_training\.name='trade'.*'trades'",
    ),
    (
      'adversarial.students.rnas_cl_eq6.adversarial_training.name',
      'standard',
      'rnas_cl_eq6.adversarial_training.cac_weight=1.0 compares',
    ),
    (
      'train.adversarial_training.mart_beta',
      6.0,
      "mart_beta=6.0 has no meaning beside name='standard': leave it at 5.0",
    ),
    (
      'teacher.adversarial_training.temperature',
      2.0,
      "temperature=2.0 has no meaning beside name='pgd': leave it at 0.0",
    ),
    (
      'teacher.adversarial_training.awp_warmup',
      0.1,
      'awp_warmup=0.1 has no meaning beside awp_gamma=0',
    ),
    ('adversarial.optimization.schedule', 'step', "'piecewise', 'cosine'"),
    (
      'evaluation.auto_attack_models',
      ('rnas_cl_eq7',),
      "Did you mean 'rnas_cl_eq6'",
    ),
    ('space.stem_stride', 8, 'strides multiply to 16'),
    ('data.padding', 8, 'padding=8 must be less than 8'),
    ('distillation.map_size', 16, 'map_size=16 is larger than every map.*e 8'),
    (
      'teacher.network.features',
      (65536,),
      r'config\.teacher\.network makes a network of [0-9,]{13,} parameters',
    ),
  ],
)
def test_what_does_not_exist_or_fit_is_refused_before_compiling(
  path, value, message
):
  with pytest.raises(ValueError, match=f'(?i){message}'):
    _check(settings.parse(_changed(path, value)))


def test_a_fixed_teacher_network_takes_no_depth():
  config = tiny.config()
  config.teacher.network = settings.template().teacher.network
  config.teacher.network.name = 'resnet18'
  config.teacher.network.depth = 10
  with pytest.raises(ValueError, match='network resnet18,depth=10: it has no'):
    _check(settings.parse(config))


@pytest.mark.parametrize(
  ('path', 'value', 'devices', 'message'),
  [
    ('train.optimization.batch_size', 1000, 1, 'train.*=1000 exceeds the 128'),
    ('train.optimization.batch_size', 31, 2, 'train.*=31 cannot be split even'),
    (
      'adversarial.optimization.batch_size',
      31,
      2,
      'adversarial.optimization.batch_size=31 cannot be split even',
    ),
    ('search.arch_share', 0.0, 1, 'arch_share=0.0 leaves 32 images for the'),
    (
      'train.optimization.accumulate',
      3,
      2,
      r'accumulate=3 does not divide the 16 images of a device '
      r'\(batch_size=32 over 2 devices\): use a divisor of 16, or a batch_size '
      'that is a multiple of 6',
    ),
    (
      'train.optimization.accumulate',
      32,
      2,
      'accumulate=32 does not divide the 16 images of a device',
    ),
    (
      'search.optimization.accumulate',
      16,
      2,
      r'leaves 0 images .* and 8 .*accumulate=16\), that is 32 and 8',
    ),
  ],
)
def test_batches_that_do_not_work_out_are_refused_before_the_first_stage(
  path, value, devices, message
):
  with pytest.raises(ValueError, match=message):
    _check(settings.parse(_changed(path, value)), devices)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'momentum': 0.5, 'optimizer': 'adam'}, 'momentum=0.5 has no meaning'),
    ({'betas': (0.5, 0.9)}, r"betas=\(0.5, 0.9\) has no .*optimizer='sgd'"),
    ({'betas': (0.5,), 'optimizer': 'adamw'}, 'must have two numbers'),
    ({'min_learning_rate': 0.01}, "schedule='piecewise': set it to 0"),
    ({'min_learning_rate': 1.0, 'schedule': 'cosine'}, '=1.0 is above'),
    ({'warmup': 0.1, 'schedule': 'one_cycle'}, 'whose rate rises by itself'),
  ],
)
def test_what_an_optimizer_or_schedule_does_not_have_is_refused(
  fields, message
):
  config = tiny.config()
  config.train.optimization.update(fields)
  with pytest.raises(ValueError, match=f'train.optimization.*{message}'):
    settings.parse(config)


def test_a_batch_of_a_search_split_by_steps_is_divided_among_devices():
  spec = settings.Optimization(batch_size=32)
  search = settings.SearchSettings(optimization=spec, split='epochs')
  assert checks.search_parts(search, 2) == (32,)
  with pytest.raises(ValueError, match='search.*=32 cannot be split evenly'):
    checks.search_parts(search, 3)


@pytest.mark.parametrize('share', [0.1, 0.9])
def test_an_epoch_without_steps_for_one_of_both_is_refused(share):
  config = tiny.config()
  config.search.update(split='epochs', arch_share=share)
  with pytest.raises(ValueError, match=f'arch_share={share} leaves .* 4 steps'):
    _check(settings.parse(config))


def test_no_validation_images_are_needed_where_the_last_checkpoints_are_taken():
  config = tiny.config()
  config.data.validation_size = 0
  config.teacher.optimization.select = 'last'
  settings.parse(config)
  config.train.adversarial_training.name = 'fast'
  with pytest.raises(ValueError, match=r"'fast'.*set its max_drop=0"):
    settings.parse(config)


@pytest.mark.parametrize(
  ('accumulate', 'devices', 'expected'),
  [(1, 1, (205, 51)), (4, 1, (204, 51)), (8, 1, (200, 52)), (4, 2, (200, 52))],
)
def test_both_halves_of_a_search_batch_divide_into_their_parts(
  accumulate, devices, expected
):
  found = checks.split_batch(256, 0.2, devices, accumulate)
  assert found == expected
  parts = accumulate, search_step.arch_parts(accumulate, 0.2)
  for size, count in zip(found, parts, strict=True):
    assert size % (devices * count) == 0


def _numbers(cls: type) -> Iterator[tuple[str, dataclasses.Field]]:
  """Every field of numbers of a dataclass and of those in it."""
  hints = get_type_hints(cls)
  for field in dataclasses.fields(cls):
    kind: Any = hints[field.name]
    if get_origin(kind) is Mapping:
      kind = get_args(kind)[1]
    if dataclasses.is_dataclass(kind):
      yield from _numbers(kind)
    while get_origin(kind) is tuple:
      kind = get_args(kind)[0]
    if kind in (int, float):
      yield f'{cls.__name__}.{field.name}', field


def test_every_number_of_a_config_has_a_least_and_a_greatest_value():
  found = dict(_numbers(settings.Settings))
  assert len(found) > 50
  for name, field in found.items():
    assert {'low', 'high'} <= field.metadata.keys(), name
    low, high = field.metadata['low'], field.metadata['high']
    assert low is not None and high is not None and low < high, name


def test_students_too_large_for_any_device_are_refused(monkeypatch):
  config = tiny.config()
  config.space.update(stem_features=16384, stem_stride=1, expansion=64)
  with pytest.raises(ValueError, match='space makes .* 17,197,8.* parameters'):
    _check(settings.parse(config))
  config.space.update(stem_features=2048)
  _check(settings.parse(config))
  monkeypatch.setattr(checks, '_MOST_BYTES', 2**30)
  with pytest.raises(ValueError, match='space .* layers give 1 GiB for the 32'):
    _check(settings.parse(config))


def test_more_steps_than_can_be_counted_are_refused():
  config = tiny.config()
  config.train.optimization.update(epochs=100_000, batch_size=1)
  config.train.adversarial_training.update(name='free', replays=1000)
  with pytest.raises(ValueError, match='train.*makes 12,800,000,000 steps'):
    _check(settings.parse(config))


def test_a_share_of_few_images_holds_none_out_to_choose_by():
  def loader(text):
    labels = np.arange(9) % 3
    pair = np.zeros((9, 8, 8, 1), np.uint8), labels
    return datasets.Source(pair, test=pair)

  datasets.register('nine', loader)
  config = tiny.config()
  config.data.update(name='nine', validation_size=-1)
  with pytest.raises(ValueError, match="validation_size=-1 .*select='best'"):
    _check(settings.parse(config))


def test_padding_beside_the_crops_of_imagenet_is_refused_before_it_is_read():
  config = tiny.config()
  config.data.update(name='imagenet', padding=4)
  with pytest.raises(ValueError, match="padding=4 .* crops of 'imagenet'"):
    settings.parse(config)
  config.data.min_crop = 0.0
  settings.parse(config)


def test_a_fixed_data_set_with_a_place_is_unknown():
  config = tiny.config()
  config.data.update(name='digits:x', image_size=16)
  with pytest.raises(ValueError, match="data.name='digits:' is unknown"):
    resolve.dataset(settings.parse(config).data)


def test_a_validation_split_that_is_cut_is_said(caplog):
  config = tiny.config()
  config.data.update(validation_size=100, max_test=40)
  resolve.images._fixed_dataset.cache_clear()
  with caplog.at_level('WARNING', logger='absl'):
    data = resolve.dataset(settings.parse(config).data)
  assert len(data.validation.labels) == 40
  assert 'validation_size=100 is cut to 40 images' in caplog.text


@pytest.mark.parametrize(
  'label',
  [
    '',
    'two\nlines',
    'tab\there',
    '\x1b[31mred',
    '\u202eback',
    'x' * 101,
    ' ',
    '_x',
  ],
)
def test_a_label_that_breaks_a_table_is_refused(label):
  for path in ('students.ce.label', 'teacher.label'):
    with pytest.raises(ValueError, match=rf'config\.{path}=.*printable'):
      settings.parse(_changed(path, label))


def test_a_label_of_any_printable_characters_is_taken():
  label = 'a|b `c` <d> $e_$ \\f ε 🙂'
  parsed = settings.parse(_changed('students.ce.label', label))
  assert parsed.students['ce'].label == label


def test_students_whose_names_differ_in_case_alone_are_refused():
  config = tiny.config()
  config.students.CE = config.students.ce
  with pytest.raises(ValueError, match="cannot be .*'(ce|CE)' has its folder"):
    settings.parse(config)


@pytest.mark.parametrize(
  'name',
  ['teacher', 'a/b', 'robustness', 'attention', '../x', '', '.', 'a b', 'é']
  + ['Teacher', '_a', 'a\nb', 'a|b', '🙂', 'x' * 65, 3],
)
def test_a_student_cannot_have_the_name_of_something_else(name):
  config = tiny.config().to_dict()
  fine_tuned = config['adversarial']['students']
  for students, entry in (
    (fine_tuned, fine_tuned['rnas_cl_eq6']),
    (config['students'], config['students']['ce']),
  ):
    students[name] = entry
    with pytest.raises(ValueError, match='cannot be the name of a student'):
      settings.parse(config)
    del students[name]
  settings.parse(config)


def test_a_fine_tuned_student_cannot_have_the_name_of_a_student():
  config = tiny.config()
  config.adversarial.students.ce = config.adversarial.students.rnas_cl_eq6
  with pytest.raises(ValueError, match='choose another, such as ce_fine_tuned'):
    settings.parse(config)


def test_a_stage_that_is_left_out_needs_nothing():
  config = tiny.config()
  config.adversarial.optimization.batch_size = 1000
  with pytest.raises(ValueError, match='exceeds the 128 training images'):
    _check(settings.parse(config))
  config.adversarial.students = {}
  _check(settings.parse(config))


def test_autoattack_may_be_asked_of_a_fine_tuned_student():
  models = ('rnas_cl_eq6', 'ce')
  _check(settings.parse(_changed('evaluation.auto_attack_models', models)))


def test_a_control_with_other_layers_is_refused_where_tutors_matter():
  config = tiny.config()
  config.controls = True
  config.vulnerable_teacher.network = settings.template().teacher.network
  config.vulnerable_teacher.network.name = 'resnet18'
  config.students.control = settings.student_template(
    teacher='vulnerable_teacher', gamma=1.0
  )
  with pytest.raises(ValueError, match='Give both the same network'):
    _check(settings.parse(config))
  config.students.control.gamma = 0.0
  _check(settings.parse(config))


def _fixed(**fields):
  """A config of one student, whose network is fixed."""
  config = tiny.config()
  student = settings.student_template(gamma=0.0)
  student.network.update(
    name='mobilenet_v2', features=(2,), stage_sizes=(1,), strides=(2,)
  )
  student.update(fields)
  config.students = {'fixed': student}
  config.adversarial.students = {}
  config.evaluation.auto_attack_models = ()
  return config


def test_what_a_search_needs_is_not_asked_of_students_that_are_fixed():
  config = _fixed()
  config.space.strides = (64,)
  config.search.optimization.batch_size = 1000
  parsed = settings.parse(config)
  assert not parsed.searches and list(parsed.distilled) == ['students.fixed']
  _check(parsed)


def test_searched_tutors_need_a_searched_architecture():
  config = _fixed(gamma=1.0)
  message = r"fixed\.tutors='searched' needs an architecture from the search"
  with pytest.raises(ValueError, match=message):
    settings.parse(config)
  config.students.fixed.tutors = 'depth'
  _check(settings.parse(config))
  config.students.fixed.tutors = 'conv1,conv1'
  message = 'names 2 teacher layers for 5 student layers.*layers_0/conv1'
  with pytest.raises(ValueError, match=message):
    _check(settings.parse(config))


@pytest.mark.parametrize(
  ('network', 'message'),
  [
    ({'name': 'mobilenet'}, r"students\.fixed\.network\.name='mobilenet'"),
    ({'depth': 3}, "students.fixed.network: .* no field 'depth'"),
    ({'strides': (64,)}, 'too small: strides'),
    ({'name': '', 'depth': 3}, r'network\.depth=3 has no meaning beside'),
    ({'stage_sizes': (200, 200)}, 'has 400 blocks'),
  ],
)
def test_a_fixed_network_that_is_none_is_refused(network, message):
  config = _fixed()
  if not network.get('name', True):
    network = {**settings.student_template().network.to_dict(), **network}
  config.students.fixed.network.update(network)
  with pytest.raises(ValueError, match=message):
    _check(settings.parse(config))


def test_a_wrong_name_is_reported_with_the_section_it_is_in():
  config = tiny.config()
  config.controls = True
  config.vulnerable_teacher.adversarial_training.name = 'pgdd'
  message = (
    r"config\.vulnerable_teacher\.adversarial_training\.name='pgdd'.*'pgd'"
  )
  with pytest.raises(ValueError, match=message):
    _check(settings.parse(config))


def test_a_teacher_computes_in_float32_unless_it_is_told_otherwise(digits):
  spec = settings.NetworkSettings(
    'small_resnet',
    features=(4,),
    stage_sizes=(1,),
    strides=(2,),
  )
  assert resolve.fixed_network(digits, spec).dtype is None
  guide = resolve.fixed_network(digits, spec, bfloat16='always')
  assert guide.dtype == jnp.bfloat16


def test_more_devices_than_there_are_are_refused(tmp_path):
  config = tiny.config()
  config.devices = 3
  with pytest.raises(ValueError, match='devices=3 were asked for'):
    stages.teacher(config, str(tmp_path))


def test_a_data_set_that_is_not_prepared_names_the_command(tmp_path):
  config = cifar10.get_config('smoke')
  config.data.data_dir = str(tmp_path)
  with pytest.raises((ValueError, FileNotFoundError), match='prepare'):
    stages.teacher(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('teacher', ['wrn34', 'resnet18', 'resnet50'])
def test_the_cifar_configs_build_every_network(teacher, monkeypatch):
  """Shapes alone are computed; images of CIFAR-10's shape stand for them."""
  split = datasets.Split(
    np.zeros((128, 32, 32, 3), np.uint8), np.zeros(128, np.int32)
  )
  images = datasets.Dataset(
    name='cifar10',
    class_names=tuple('0123456789'),
    train=split,
    validation=split,
    test=split,
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
  )
  monkeypatch.setattr(resolve, 'dataset', lambda spec: images)
  for space in ('s3', 'l'):
    argument = f'space={space},teacher={teacher}'
    _check(settings.parse(cifar10.get_config(argument)))
    smoke = cifar10.get_config(f'{argument},smoke')
    _check(settings.parse(smoke))


def test_a_search_by_what_can_be_negative_is_refused():
  """Eq. (2) multiplies by the cost, so it would look for a high one."""
  config = tiny.config()
  config.search.method = 'vid'
  with pytest.raises(ValueError, match=r"search\.method='vid'.*negative"):
    settings.parse(config)
  config.search.kl_weight = 0.0
  settings.parse(config)


def test_contrasting_images_of_one_class_is_refused_before_anything():
  config = tiny.config()
  config.students.rnas_cl.method = 'crd'
  parsed = settings.parse(config)
  data = resolve.dataset(parsed.data)
  checks.check(parsed, data, 1)
  alike = data.train._replace(labels=np.full_like(data.train.labels, 3))
  alike = dataclasses.replace(data, train=alike)
  with pytest.raises(ValueError, match=r"rnas_cl\.method='crd'.*class 3"):
    checks.check(parsed, alike, 1)


def test_autoattack_on_a_teacher_that_is_not_attacked_is_refused():
  config = tiny.config()
  config.evaluation.auto_attack_models = ('teacher', 'ce')
  _check(settings.parse(config))
  config.evaluation.teachers = False
  with pytest.raises(ValueError, match=r"auto_attack_models='teacher'"):
    _check(settings.parse(config))

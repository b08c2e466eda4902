"""The search spaces of ImageNet: Table 14 and what the paper's tables print."""

import dataclasses
import re
import types

import jax
import jax.numpy as jnp
import pytest

from rnascl_jax.config import contradictions, resolve, settings
from rnascl_jax.models import convolutions, student
from rnascl_jax.search import flops, space_layers, space_tables, spaces
from rnascl_jax.stages import run as runs
from rnascl_jax.stages import students

SPACES = spaces.IMAGENET_SPACES
IMAGE = (224, 224, 3)
# Parameters and MACs in millions, half of the last digit printed. Table 3
# prints 8.5M and 0.35 GFLOPs for IL, Table 5 three networks for I.
PRINTED = {
  'i resnet18': ('i', 100, (3.94, 0.005), (241.98, 0.005)),
  'i resnet50': ('i', 100, (3.96, 0.005), (244.76, 0.005)),
  'i wide_resnet50_2': ('i', 100, (4.01, 0.005), (255.37, 0.005)),
  'il wide_resnet50_2': ('il', 1000, (8.5, 0.05), (350.0, 5.0)),
}
PRINTED |= {
  row.replace('i ', 'i_se '): ('i_se', *numbers)
  for row, (name, *numbers) in PRINTED.items()
  if name == 'i'
}
# Networks of the spaces that have both numbers; others have, too.
WIDTHS = {
  'i resnet18': (16, 16, 16, 16, 28, 28, 36, 80, 48, 64)
  + (92, 76, 68, 68, 128, 160, 108, 192),
  'i resnet50': (16, 16, 16, 16, 28, 28, 28, 96, 48, 56)
  + (76, 68, 68, 76, 144, 152, 176, 176),
  'i wide_resnet50_2': (16, 16, 16, 20, 28, 36, 40, 56, 48, 72)
  + (68, 68, 76, 84, 192, 144, 120, 184),
  'i_se resnet18': (16, 16, 28, 32, 28, 32, 56, 88, 48)
  + (76, 68, 68, 92, 128, 160, 108, 108),
  'i_se resnet50': (24, 16, 20, 28, 32, 28, 64, 48, 72)
  + (76, 76, 84, 84, 108, 108, 176, 108),
  'i_se wide_resnet50_2': (16, 20, 20, 36, 36, 28, 48, 80, 80)
  + (68, 100, 84, 68, 136, 144, 108, 108),
  'il wide_resnet50_2': (28, 36, 40, 96, 96)
  + (128, 108, 128, 128, 200, 216, 216),
}


def ends(space):
  return spaces.narrowest(space), spaces.widest(space)


@pytest.mark.parametrize(
  'name, depths',
  (
    ('is', (3, 3, 3)),
    ('im', (3, 3, 3, 4)),
    ('i', (3, 3, 3, 4, 4)),
    ('il', (1, 2, 2, 4, 3)),
    ('is_se', (3, 3, 3)),
    ('im_se', (3, 3, 3, 4)),
    ('i_se', (3, 3, 3, 4, 4)),
  ),
)
def test_spaces_are_those_of_table_14(name, depths):
  space, gated = SPACES[name], name == 'il' or name.endswith('_se')
  choices = (
    range(28, 15, -4),
    range(40, 27, -4),
    range(96, 47, -8),
    (128, 120, *range(108, 67, -8)),
    (*range(216, 119, -8), 108),
  )

  expected = [
    (tuple(stage), stride if index == 0 else 1)
    for depth, stage, stride in zip(
      depths, choices, (2, 2, 2, 1, 2), strict=False
    )
    for index in range(depth)
  ]
  if not gated:
    expected = [((16,), 1), *expected]
  assert [(b.choices, b.stride) for b in space.blocks] == expected
  expansions = [space.expansion_of(block) for block in space.blocks]
  assert expansions == [1] * (not gated) + [6] * sum(depths)
  assert (space.stem_features, space.stem_stride) == (16, 2)
  assert (space.expansion, space.kernel_size) == (6, 3)
  own = (space.squeeze_excite, space.head_features)
  assert own == ((0.25, 1280) if gated else (0, 1984))
  assert space.squeezed(space.blocks[-1], 28) == 42 * gated


def test_reach_of_the_spaces_is_what_the_table_of_the_docstring_says():
  line = r'\| (\w+) +\| (\d+) +' + 3 * r'\| ([\d.]+) - ([\d.]+) +' + r'\|\n'
  rows = re.findall(line, space_tables.__doc__)

  assert {name for name, *_ in rows} == set(SPACES)
  for name, classes, *printed in rows:
    for index, space in enumerate(ends(SPACES[name])):
      plain = flops.count(space, IMAGE, int(classes))
      normed = flops.count(space, IMAGE, int(classes), batch_norm=True)
      parameters, macs, macs_normed = printed[index::2]
      assert parameters == f'{plain.parameters / 1e6:.3f}'
      assert macs == f'{plain.macs / 1e6:.2f}'
      assert macs_normed == f'{normed.macs / 1e6:.2f}'


@pytest.mark.parametrize('batch_norm', (False, True))
@pytest.mark.parametrize('row', PRINTED)
def test_printed_networks_lie_within_the_reach_of_their_space(row, batch_norm):
  name, classes, (parameters, _), (macs, _) = PRINTED[row]

  low, high = (
    flops.count(space, IMAGE, classes, batch_norm=batch_norm)
    for space in ends(SPACES[name])
  )

  assert low.parameters < parameters * 1e6 < high.parameters
  assert low.macs < macs * 1e6 < high.macs


@pytest.mark.parametrize('row', PRINTED)
def test_some_network_of_the_space_has_both_printed_numbers(row):
  name, classes, (parameters, half), (macs, half_macs) = PRINTED[row]
  space = spaces.with_features(SPACES[name], WIDTHS[row])

  # The convention that Table 1 is reached by.
  found = flops.count(space, IMAGE, classes).parameters / 1e6
  work = flops.count(space, IMAGE, classes, batch_norm=True).macs / 1e6

  assert abs(found - parameters) < half
  assert abs(work - macs) < half_macs


def test_the_released_pattern_does_not_reach_the_parameters_of_il():
  row = space_tables.IMAGENET['il']
  space = spaces.from_stages(
    (1, *row.depths),
    ((16,), *row.choices),
    (1, 2, 2, 2, 1, 2),
    expansions=(1, 6, 6, 6, 6, 6),
    head_features=1984,
  )

  most = flops.count(spaces.widest(space), IMAGE, 1000, batch_norm=True)

  assert most.parameters < 8.45e6


@pytest.mark.parametrize('missing', ('squeeze_excite', 'head_features'))
def test_il_needs_squeeze_excite_and_head_to_reach_its_parameters(missing):
  space = spaces.widest(dataclasses.replace(SPACES['il'], **{missing: 0}))

  found = flops.count(space, IMAGE, 1000, batch_norm=True)

  assert found.parameters < 8.45e6


@pytest.mark.parametrize('name', ('il', 'im'))
def test_the_largest_network_of_a_space_is_what_is_counted(name):
  image = (64, 64, 3)
  space = spaces.widest(SPACES[name])
  net = student.Student(space, 100, conv=convolutions.native_depthwise_conv)
  images = jax.ShapeDtypeStruct((1, *image), jnp.float32)
  variables = jax.eval_shape(
    lambda key, x: net.init(key, x, train=False), jax.random.key(0), images
  )

  found = flops.count(space, image, 100, batch_norm=True)

  leaves = jax.tree.leaves(variables['params'])
  assert found.parameters == sum(leaf.size for leaf in leaves)
  assert flops.count(space, image, 100).macs == flops.trace_macs(
    lambda v, x: net.apply(v, x, train=False), variables, images
  )


@pytest.mark.parametrize(
  'name, side, fits',
  (('i', 48, '32 or 64'), ('il', 16, '32'), ('is', 24, '16')),
)
def test_an_image_size_that_does_not_fit_is_refused(name, side, fits):
  space = SPACES[name]
  space_layers.check_image(space, (64, 64, 3))

  with pytest.raises(ValueError, match=f'{side}x{side} pixels.*such as {fits}'):
    space_layers.check_image(space, (side, side, 3))


# Settings.


@pytest.mark.parametrize('name', SPACES)
def test_settings_name_the_spaces_or_spell_them_out(name):
  row = space_tables.IMAGENET[name.removesuffix('_se')]
  spelled = settings.Space(
    name='custom',
    depths=row.depths,
    choices=row.choices,
    strides=(2, 2, 2, 1, 2)[: len(row.depths)],
    squeeze_excite=0.25,
    head_features=1280,
  )
  if name in ('is', 'im', 'i'):
    spelled = settings.Space(
      name='custom',
      depths=(1, *row.depths),
      choices=((16,), *row.choices),
      strides=(1, *spelled.strides),
      expansions=(1, *[6] * len(row.depths)),
      head_features=1984,
    )

  assert resolve.space(settings.Space(name=name)) == SPACES[name]
  assert resolve.space(spelled) == SPACES[name]


@pytest.mark.parametrize('field', ('squeeze_excite', 'head_features'))
def test_squeeze_excite_and_head_of_a_named_space_are_its_own(field):
  found = settings.Settings(space=settings.Space(name='i', **{field: 1}))

  with pytest.raises(
    ValueError, match=f'space.{field}=1 has no meaning beside'
  ):
    contradictions.check(found)


# What is trained and what is evaluated.

SPACE = spaces.from_stages((1,), ((4, 2),), (2,), stem_features=4)


def make_run(**options):
  """As much of a run as a student's network needs."""
  data = types.SimpleNamespace(
    image_shape=(8, 8, 1), num_classes=10, mean=(0.5,), std=(0.5,)
  )
  space = settings.Space(**options)
  return types.SimpleNamespace(
    data=data, settings=types.SimpleNamespace(space=space, distillation=None)
  )


@pytest.mark.parametrize(
  'bfloat16, dtype',
  # Tests run on a CPU.
  (('never', None), ('accelerators', None), ('always', jnp.bfloat16)),
)
def test_only_a_network_that_is_trained_computes_in_bfloat16(bfloat16, dtype):
  run = make_run(bfloat16=bfloat16, remat=True)
  found = types.SimpleNamespace(derived_space=spaces.widest(SPACE))
  shape = settings.NetworkShape()

  trained = students.network(run, found, shape, trains=True)
  evaluated = students.network(run, found, shape)

  assert (trained.dtype, trained.remat) == (dtype, True)
  assert (evaluated.dtype, evaluated.remat) == (None, False)
  assert trained.clone(dtype=None, remat=False) == evaluated


def test_students_are_trained_as_settings_say_and_validated_in_float32(
  monkeypatch, tmp_path
):
  run = make_run(bfloat16='always')
  run.folder, seen = tmp_path, {}
  found = types.SimpleNamespace(derived_space=spaces.widest(SPACE))

  class Seen(Exception):
    pass

  def make_recipe(run, net, *rest):
    seen['trained'] = net.dtype

  def make_validate(run, net, *rest):
    seen['validated'] = net.dtype
    raise Seen

  monkeypatch.setattr(students.searches, 'load', lambda run: found)
  monkeypatch.setattr(runs, 'make_recipe', make_recipe)
  monkeypatch.setattr(runs, 'make_validate', make_validate)
  monkeypatch.setattr(students.resolve, 'distill', lambda *_, **__: None)
  monkeypatch.setattr(students.train_step, 'make_train_step', lambda _: None)
  run.settings.searches = True
  run.settings.students = {
    'ce': settings.StudentSettings('CE', teacher='', kl_weight=0.0, gamma=0.0)
  }
  run.settings.train = types.SimpleNamespace(
    optimization=settings.Optimization(),
    adversarial_training=settings.AdversarialTraining(),
  )
  with pytest.raises(Seen):
    students.train(run)

  assert seen == {'trained': jnp.bfloat16, 'validated': None}

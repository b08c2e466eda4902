"""Search spaces, architecture parameters, masks and derived architectures."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax.search import (
  arch_params,
  architecture,
  gumbel,
  space_layers,
  spaces,
)
from rnascl_jax.search.arch_params import ArchParams
from rnascl_jax.search.space import Block, SearchSpace, Shortcut

SPACE = spaces.from_stages(
  (2, 1), ((8, 4), (12, 6, 9)), (1, 2), stem_features=8
)
TEACHER = tuple(f'conv{index}' for index in range(12))
sample = jax.jit(arch_params.sample, static_argnames=('noise', 'hard'))
probabilities = jax.jit(arch_params.probabilities)


def make_params(space=SPACE, teacher_layers=12, blocks_only=False):
  """Architecture parameters with random logits."""
  names = space_layers.layer_names(space, blocks_only=blocks_only)
  params = arch_params.init_arch_params(space, len(names), teacher_layers)
  rng = np.random.default_rng(0)
  return jax.tree.map(lambda x: jnp.float32(rng.normal(size=x.shape)), params)


# Search spaces.


@pytest.mark.parametrize(
  'name, depths, widest',
  (
    ('s3', (3, 3, 3), (16, 32, 64)),
    ('s5', (5, 5, 5), (16, 32, 64)),
    ('s7', (7, 7, 7), (16, 32, 64)),
    ('m', (9, 7, 1), (80, 160, 128)),
    ('m2', (9, 7, 1), (112, 224, 180)),
    ('l', (9, 7, 1), (160, 320, 256)),
  ),
)
def test_spaces_are_those_of_table_13(name, depths, widest):
  space = spaces.CIFAR_SPACES[name]

  expected = [w for d, w in zip(depths, widest, strict=True) for _ in range(d)]
  assert [block.widest for block in space.blocks] == expected
  assert space.reduction == 8
  starts = set(np.cumsum((0, *depths[:-1])))
  for index, block in enumerate(space.blocks):
    assert len(block.choices) == (2 if index < depths[0] else 4)
    assert block.stride == (2 if index in starts - {0} else 1)


def test_only_the_first_block_of_a_stage_has_its_stride():
  space = spaces.from_stages((3, 2), ((4,), (8,)), (2, 3))

  assert [b.stride for b in space.blocks] == [2, 1, 1, 3, 1]
  assert space.reduction == 2 * 2 * 3


def test_residuals_stand_where_the_stride_is_one_and_the_widest_agree():
  space = spaces.from_stages(
    (2, 2, 1), ((8, 4), (8, 2), (6,)), (1, 2, 1), stem_features=8
  )

  assert [b.residual for b in space.blocks] == [True, True, False, True, False]


@pytest.mark.parametrize(
  'depths, choices, strides, options',
  (
    ((1,), ((4, 4),), (1,), {}),
    ((1,), ((0, 4),), (1,), {}),
    ((1,), ((),), (1,), {}),
    ((1,), ((4,),), (0,), {}),
    ((0,), ((4,),), (1,), {}),
    ((1, 1), ((4,),), (1,), {}),
    ((1,), ((4,),), (1,), {'kernel_size': 4}),
    ((1,), ((4,),), (1,), {'expansion': 0}),
    ((1,), ((4,),), (1,), {'squeeze_excite': -0.25}),
    ((1,), ((4,),), (1,), {'squeeze_excite': 4.0}),
    ((1,), ((4,),), (1,), {'head_features': -1}),
  ),
)
def test_impossible_spaces_are_refused(depths, choices, strides, options):
  with pytest.raises(ValueError):
    spaces.from_stages(depths, choices, strides, **options)


def test_a_residual_over_a_stride_is_refused():
  block = Block((4,), stride=2, residual=True)

  with pytest.raises(ValueError, match='residual'):
    SearchSpace(blocks=(block,))


def test_with_features_leaves_one_choice_and_all_else_as_it_was():
  derived = spaces.with_features(SPACE, (4, 8, 9))

  assert [b.choices for b in derived.blocks] == [(4,), (8,), (9,)]
  for block, searched in zip(derived.blocks, SPACE.blocks, strict=True):
    assert (block.stride, block.residual) == (
      searched.stride,
      searched.residual,
    )
  assert derived.input_choices == ((8,), (4,), (8,))


@pytest.mark.parametrize('features', ((8, 8), (8, 8, 12, 4), (8, 5, 12)))
def test_with_features_refuses_other_widths_than_the_choices(features):
  with pytest.raises(ValueError, match='[Ww]idth'):
    spaces.with_features(SPACE, features)


def test_narrowest_and_widest_do_not_depend_on_the_order_of_choices():
  narrow = spaces.narrowest(SPACE)
  wide = spaces.widest(SPACE)

  assert [b.choices for b in narrow.blocks] == [(4,), (4,), (6,)]
  assert [b.choices for b in wide.blocks] == [(8,), (8,), (12,)]


@pytest.mark.parametrize('shape', ((8, 6, 3), (2, 8, 3), (0, 4, 3)))
def test_images_that_do_not_fit_the_strides_are_refused(shape):
  assert SPACE.reduction == 4
  space_layers.check_image(SPACE, (8, 4, 3))

  with pytest.raises(ValueError, match='multiple of 4'):
    space_layers.check_image(SPACE, shape)


def test_layer_names_are_in_forward_order_beyond_ten_blocks():
  space = spaces.from_stages((12,), ((4,),), (1,))

  names = space_layers.layer_names(space)
  blocks = space_layers.layer_names(space, blocks_only=True)

  assert len(names) == 1 + 3 * 12
  assert names[:3] == ('stem', 'block0/expand', 'block0/depthwise')
  assert names[-1] == 'block11/project'
  assert blocks == tuple(f'block{index}' for index in range(12))
  assert names.index('block10/expand') > names.index('block9/project')
  # What a dict of names, which JAX sorts, would have made of it.
  assert sorted(blocks) != list(blocks)


# Draws and masks.


def test_initial_logits_make_all_choices_and_tutors_equally_likely():
  params = arch_params.init_arch_params(SPACE, 10, 7)

  draw = probabilities(params)

  np.testing.assert_allclose(draw.channels[2], [1 / 3] * 3, rtol=1e-6)
  np.testing.assert_allclose(draw.tutors, np.full((10, 7), 1 / 7), rtol=1e-6)


def test_a_draw_has_the_shapes_of_the_logits_and_sums_to_one():
  params = make_params()

  draw = sample(jax.random.key(1), params, temperature=1.0)

  assert jax.tree.map(jnp.shape, tuple(draw)) == jax.tree.map(
    jnp.shape, tuple(params)
  )
  for weights in jax.tree.leaves(draw):
    np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-6)


def test_blocks_with_equal_logits_draw_independently():
  params = arch_params.init_arch_params(SPACE, 10, 2)

  draw = sample(jax.random.key(1), params, temperature=1.0)

  first, second = draw.channels[:2]
  assert abs(float(first[0] - second[0])) > 1e-3
  assert len(np.unique(np.asarray(draw.tutors).round(6))) == 20


def test_a_draw_passes_its_options_to_every_logit():
  params = make_params()
  draw = sample(jax.random.key(1), params, temperature=1.0, hard=True)
  silent = sample(
    jax.random.key(1),
    params,
    temperature=0.5,
    noise=lambda key, shape, dtype: jnp.zeros(shape, dtype),
  )

  for hard, soft, logits in zip(
    *map(jax.tree.leaves, (draw, silent, params)), strict=True
  ):
    assert set(np.unique(hard)) == {0.0, 1.0}
    np.testing.assert_allclose(soft, jax.nn.softmax(logits / 0.5), atol=1e-6)


def test_masks_are_the_weighted_sums_of_prefixes():
  channels = (
    jnp.array([0.3, 0.7]),
    jnp.array([0.6, 0.4]),
    jnp.array([0.2, 0.5, 0.3]),
  )

  masks = arch_params.masks(SPACE, channels)

  for mask, block, weights in zip(
    masks.features, SPACE.blocks, channels, strict=True
  ):
    expected = np.zeros(block.widest)
    for width, weight in zip(block.choices, weights, strict=True):
      expected += float(weight) * (np.arange(block.widest) < width)
    np.testing.assert_allclose(mask, expected, atol=1e-6)


def test_agreement_is_the_expected_prefix_of_equally_wide_input_and_output():
  channels = (
    jnp.array([0.3, 0.7]),
    jnp.array([0.6, 0.4]),
    jnp.array([0.2, 0.5, 0.3]),
  )

  masks = arch_params.masks(SPACE, channels)

  drawn = zip(SPACE.blocks, channels, strict=True)
  options = [list(zip(b.choices, w.tolist(), strict=True)) for b, w in drawn]
  expected = [np.zeros(block.widest) for block in SPACE.blocks]
  for combination in itertools.product(*options):
    chance = np.prod([weight for _, weight in combination])
    before = SPACE.stem_features
    for index, (width, _) in enumerate(combination):
      if width == before:
        expected[index] += chance * (np.arange(len(expected[index])) < width)
      before = width
  for found, exact in zip(masks.agreement, expected, strict=True):
    np.testing.assert_allclose(found, exact, atol=1e-6)


def test_one_hot_masks_are_zeros_and_ones():
  channels = arch_params.one_hot(SPACE, (8, 4, 9))

  masks = arch_params.masks(SPACE, channels)

  ones = [np.arange(f) < w for f, w in ((8, 8), (8, 4), (12, 9))]
  for mask, expected in zip(masks.features, ones, strict=True):
    np.testing.assert_array_equal(mask, expected)
  for found, expected in zip(masks.agreement, (1, 0, 0), strict=True):
    np.testing.assert_array_equal(found, np.full(found.shape, expected))


def test_one_hot_refuses_a_width_that_is_no_choice():
  with pytest.raises(ValueError, match='Width 5'):
    arch_params.one_hot(SPACE, (8, 5, 12))


def test_masks_pass_gradients_to_the_logits():
  def total(params):
    draw = sample(jax.random.key(0), params, temperature=1.0)
    return sum(
      m.sum() for m in arch_params.masks(SPACE, draw.channels).features
    )

  gradient = jax.jit(jax.grad(total))(make_params())

  for index in range(3):
    assert np.abs(gradient.channel_logits[index]).max() > 1e-3
  # Raising the logit of the widest choice widens the expected mask.
  assert gradient.channel_logits[0][0] > 0 > gradient.channel_logits[0][1]


# Derived architectures.


def test_derive_takes_the_arg_max_of_the_logits_without_noise():
  params = make_params()

  found = architecture.derive(SPACE, params, TEACHER)

  for width, block, logits in zip(
    found.features, SPACE.blocks, params.channel_logits, strict=True
  ):
    assert width == block.choices[int(np.argmax(logits))]
  np.testing.assert_array_equal(
    found.tutors, np.argmax(params.tutor_logits, axis=-1)
  )
  assert found.derived_space == spaces.with_features(SPACE, found.features)


def test_derived_filters_are_the_limit_of_the_draw_without_noise():
  params = make_params()
  draw = sample(
    jax.random.key(0),
    params,
    temperature=gumbel.temperature(99),
    noise=lambda key, shape, dtype: jnp.zeros(shape, dtype),
    hard=True,
  )

  found = architecture.derive(SPACE, params, TEACHER)

  for drawn, expected in zip(
    draw.channels, arch_params.one_hot(SPACE, found.features), strict=True
  ):
    np.testing.assert_array_equal(drawn, expected)
  np.testing.assert_array_equal(draw.tutors, architecture.tutor_weights(found))


def test_tutors_keep_their_order_beyond_ten_teacher_layers():
  params = make_params()
  logits = jnp.zeros((10, 12)).at[jnp.arange(10), 11 - jnp.arange(10)].set(1.0)
  params = ArchParams(params.channel_logits, logits)

  found = architecture.derive(SPACE, params, TEACHER)

  assert found.tutors == tuple(range(11, 1, -1))
  written = architecture.to_dict(found)['tutors']
  assert written[1] == {
    'layer': 'block0/expand',
    'tutor': 10,
    'tutor_layer': 'conv10',
  }
  np.testing.assert_array_equal(architecture.tutor_weights(found), logits)


def test_blocks_only_gives_one_tutor_to_each_block():
  params = make_params(blocks_only=True)

  found = architecture.derive(SPACE, params, TEACHER, blocks_only=True)

  assert found.student_layers == ('block0', 'block1', 'block2')
  assert len(found.tutors) == 3


def test_derive_refuses_logits_of_another_teacher_or_space():
  params = make_params()
  wide = jax.tree.map(lambda x: jnp.pad(x, (0, 1)), params.channel_logits)

  with pytest.raises(ValueError, match='teacher layers'):
    architecture.derive(SPACE, params, TEACHER[:-1])
  with pytest.raises(ValueError, match='student'):
    architecture.derive(SPACE, params, TEACHER, blocks_only=True)
  with pytest.raises(ValueError, match='channel_logits'):
    architecture.derive(SPACE, params._replace(channel_logits=wide), TEACHER)
  with pytest.raises(ValueError, match='channel_logits'):
    fewer = params._replace(channel_logits=params.channel_logits[:-1])
    architecture.derive(SPACE, fewer, TEACHER)


@pytest.mark.parametrize('shortcut', Shortcut)
def test_an_architecture_survives_json(shortcut):
  space = spaces.from_stages(
    (2, 1),
    ((8, 4), (12, 6)),
    (2, 2),
    stem_features=6,
    stem_stride=1,
    expansion=3,
    kernel_size=5,
    shortcut=shortcut,
    squeeze_excite=0.25,
    head_features=7,
  )
  found = architecture.derive(space, make_params(space), TEACHER)

  text = json.dumps(architecture.to_dict(found))

  assert architecture.from_dict(json.loads(text)) == found


def test_blocks_have_the_expansion_of_their_stage_and_one_has_no_layer_for_it():
  space = spaces.from_stages(
    (1, 2), ((4,), (8,)), (1, 2), expansion=3, expansions=(1, 6)
  )
  teacher = ('conv1',)
  names = space_layers.layer_names(space)
  arch = architecture.Architecture(
    space, (4, 8, 8), (0,) * len(names), names, teacher
  )

  assert [space.expansion_of(block) for block in space.blocks] == [1, 6, 6]
  assert 'block0/expand' not in names and 'block1/expand' in names
  assert architecture.from_dict(architecture.to_dict(arch)) == arch
  with pytest.raises(ValueError, match='expansions=.* each of 1 stages'):
    spaces.from_stages((1,), ((4,),), (1,), expansions=(1, 6))


def test_an_architecture_with_layers_that_its_blocks_lack_is_refused():
  fields = architecture.to_dict(
    architecture.derive(SPACE, make_params(), TEACHER)
  )
  fields['expansion'] = 1

  with pytest.raises(ValueError, match='another version: search again'):
    architecture.from_dict(fields)


def test_an_architecture_written_before_squeeze_excite_has_none():
  found = architecture.derive(SPACE, make_params(), TEACHER)
  fields = architecture.to_dict(found)
  del fields['squeeze_excite'], fields['head_features']
  for block in fields['blocks']:
    del block['squeezed']

  assert architecture.from_dict(fields) == found


def test_hidden_units_of_each_block_are_written_for_what_enters_it():
  space = dataclasses.replace(SPACE, squeeze_excite=0.25)
  params = make_params(space)
  found = dataclasses.replace(
    architecture.derive(space, params, TEACHER), features=(4, 8, 9)
  )

  fields = architecture.to_dict(found)

  # A quarter of 6 times 8 of the stem, 4 and 8.
  assert [block['squeezed'] for block in fields['blocks']] == [12, 6, 12]


def test_the_written_architecture_can_be_read_without_the_library():
  found = architecture.derive(SPACE, make_params(), TEACHER)

  fields = architecture.to_dict(found)

  assert fields['format'] == 1
  assert fields['stem'] == 8
  for block, width, searched in zip(
    fields['blocks'], found.features, SPACE.blocks, strict=True
  ):
    assert block['features'] == width
    assert block['choices'] == list(searched.choices)
  assert [t['layer'] for t in fields['tutors']] == list(found.student_layers)
  for tutor in fields['tutors']:
    assert fields['teacher_layers'][tutor['tutor']] == tutor['tutor_layer']


def change_format(fields):
  fields['format'] = 3


def drop_format(fields):
  del fields['format']


def change_tutor(fields):
  fields['tutors'][0]['tutor'] = 12


def make_tutor_negative(fields):
  fields['tutors'][0]['tutor'] = -1


def change_width(fields):
  fields['blocks'][1]['features'] = 5


def change_shortcut(fields):
  fields['shortcut'] = 'skip'


@pytest.mark.parametrize(
  'change, message',
  (
    (change_format, 'format=3'),
    (drop_format, 'format=None'),
    (change_tutor, 'Tutor 12 is not one of the 12 teacher'),
    (make_tutor_negative, 'Tutor -1'),
    (change_width, 'Width 5 of block 1'),
    (change_shortcut, 'skip'),
  ),
)
def test_a_spoilt_architecture_is_refused(change, message):
  fields = architecture.to_dict(
    architecture.derive(SPACE, make_params(), TEACHER)
  )
  change(fields)

  with pytest.raises(ValueError, match=message):
    architecture.from_dict(fields)


def test_every_student_layer_needs_one_tutor():
  with pytest.raises(ValueError, match='2 tutors were given for 1'):
    architecture.Architecture(SPACE, (8, 8, 12), (0, 1), ('stem',), TEACHER)

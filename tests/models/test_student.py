"""The student: the derived network is the supernet at one-hot masks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnascl_jax.models import (
  convolutions,
  fixed,
  layers,
  networks,
  squeeze_excite,
  student,
)
from rnascl_jax.models.batch_norm import BatchNorm
from rnascl_jax.search import arch_params, spaces
from rnascl_jax.search.arch_params import Masks
from rnascl_jax.search.space import Block, SearchSpace, Shortcut

CLASSES = 5
# As the ImageNet students: squeeze-excite, here of 0.9 units for each channel
# that enters, so that there is something to round, and the pooled head.
GATED = 'gated'
# The stem has 8 filters. A block narrower than its input is followed by one
# that is wider, narrower or as wide.
CASES = (
  (Shortcut.PAD, (4, 8)),
  (Shortcut.PAD, (6, 4)),
  (Shortcut.PAD, (4, 4)),
  (Shortcut.DROP, (4, 8)),
  (Shortcut.DROP, (4, 4)),
  (Shortcut.PROJECT, (4, 8)),
  (Shortcut.PROJECT, (4, 4)),
  # A third block strides and has no residual.
  (Shortcut.PROJECT, (6, 4, 7)),
  (GATED, (6, 4, 7)),
)


def derived_network(net, features):
  """The network of its own weights with the given widths."""
  return net.clone(space=spaces.with_features(net.space, features))


def make_space(shortcut=Shortcut.PAD, blocks=2, **options):
  """Blocks with residuals, and perhaps one that strides."""
  if shortcut == GATED:
    shortcut = Shortcut.PAD
    options |= {'expansion': 3, 'squeeze_excite': 0.3, 'head_features': 5}
    if blocks == 3:
      options['expansions'] = (1, 3)
  return spaces.from_stages(
    (2, 1)[: blocks - 1],
    ((8, 6, 4), (10, 7))[: blocks - 1],
    (1, 2)[: blocks - 1],
    stem_features=8,
    shortcut=shortcut,
    **options,
  )


def make_images(count=4, side=8):
  return jax.random.uniform(jax.random.key(7), (count, side, side, 3))


def make_variables(net, seed=0):
  """Variables with scales, biases and statistics that are all different."""
  shapes = jax.eval_shape(
    lambda key: net.init(key, make_images(1), train=False), jax.random.key(0)
  )
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    name = path[-1].key
    if name in ('scale', 'var'):
      values = rng.uniform(0.5, 1.5, leaf.shape)
    elif name == 'kernel':
      fan_in = leaf.size / leaf.shape[-1]
      values = rng.normal(size=leaf.shape) * np.sqrt(2 / fan_in)
    else:
      values = 0.3 * rng.normal(size=leaf.shape)
    return jnp.asarray(values, jnp.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def sliced(tree, like):
  """The prefixes of a tree's leaves that have the shapes of another tree's.

  Channels of a narrower network, and of the insides of its blocks, come first.
  A shortcut's convolution that the other tree lacks is left out.
  """
  if not isinstance(like, dict):
    return tree[tuple(map(slice, like.shape))]
  return {name: sliced(tree[name], part) for name, part in like.items()}


def outside(tree, like):
  """A tree's leaves with those prefixes, or unused convolutions, zeroed."""
  if not isinstance(tree, dict):
    prefix = () if like is None else tuple(map(slice, like.shape))
    return tree.at[prefix].set(0.0) if like is not None else tree
  return {
    name: outside(part, None if like is None else like.get(name))
    for name, part in tree.items()
  }


def run(net, variables, images, masks=None):
  """What a network computes in both modes."""
  trained, new = net.apply(
    variables, images, masks, train=True, mutable=['batch_stats']
  )
  return {
    'train': trained,
    'eval': net.apply(variables, images, masks, train=False),
    'batch_stats': new['batch_stats'],
  }


def gradient(net, variables, images, masks=None):
  """Slopes in train mode of a function of the logits and of every tap."""

  def objective(params):
    (logits, taps), _ = net.apply(
      {**variables, 'params': params},
      images,
      masks,
      train=True,
      mutable=['batch_stats'],
    )
    goal = jnp.cos(jnp.arange(logits.size)).reshape(logits.shape)
    # Not the mean over channels, which a masked network has more of.
    looks = [jnp.sum(jnp.mean(tap**2, (0, 1, 2))) for tap in taps]
    return jnp.sum(goal * logits) / len(images) + sum(looks)

  return jax.grad(objective)(variables['params'])


def assert_trees_close(found, expected, atol=1e-5):
  found, expected = (jax.tree.leaves_with_path(t) for t in (found, expected))
  for (path, a), (_, b) in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=atol, err_msg=str(path))


@functools.cache
def compiled(function, net):
  return jax.jit(functools.partial(function, net))


@functools.cache
def evaluate(net):
  return jax.jit(functools.partial(net.apply, train=False))


def make_supernet(shortcut, features, **options):
  space = make_space(shortcut, len(features))
  return student.Student(space, CLASSES, **options)


@functools.cache
def of_supernet(function, shortcut, features, **options):
  """A function of the supernet at the one-hot masks of some widths."""
  net = make_supernet(shortcut, features, **options)
  masks = arch_params.masks(net.space, arch_params.one_hot(net.space, features))
  return compiled(function, net)(make_variables(net), make_images(), masks)


@functools.cache
def of_derived(function, shortcut, features, **options):
  """A function of the derived network, of its share of the weights."""
  net = make_supernet(shortcut, features, **options)
  derived = derived_network(net, features)
  variables = sliced(make_variables(net), make_variables(derived))
  return compiled(function, derived)(variables, make_images())


def assert_networks_agree(found, expected):
  """Logits agree, and taps on the kept channels, with zeros beyond."""
  np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-5)
  for wide, narrow in zip(found[1], expected[1], strict=True):
    kept = narrow.shape[-1]
    np.testing.assert_allclose(wide[..., :kept], narrow, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(wide[..., kept:], 0)


every_case = pytest.mark.parametrize('shortcut, features', CASES)


@pytest.mark.parametrize('mode', ('train', 'eval'))
@every_case
def test_derived_network_equals_supernet_with_hard_masks(
  shortcut, features, mode
):
  found = of_supernet(run, shortcut, features)[mode]
  expected = of_derived(run, shortcut, features)[mode]

  # The first two blocks of the gated network do not expand.
  assert len(expected[1]) == 1 + 3 * len(features) - 2 * (shortcut == GATED)
  assert_networks_agree(found, expected)


@every_case
def test_running_statistics_of_the_derived_network_are_the_supernet_s(
  shortcut, features
):
  found = of_supernet(run, shortcut, features)['batch_stats']
  expected = of_derived(run, shortcut, features)['batch_stats']

  assert_trees_close(sliced(found, expected), expected)


@pytest.mark.parametrize(
  'shortcut, features', (*((s, (4, 8)) for s in Shortcut), CASES[-1])
)
def test_gradients_of_the_derived_network_are_the_supernet_s(
  shortcut, features
):
  found = of_supernet(gradient, shortcut, features)
  expected = of_derived(gradient, shortcut, features)

  assert_trees_close(sliced(found, expected), expected)
  for unused in jax.tree.leaves(outside(found, expected)):
    np.testing.assert_allclose(unused, 0, atol=1e-6)


@pytest.mark.parametrize('mode', ('train', 'eval'))
def test_outputs_of_blocks_agree_after_the_residual(mode):
  shortcut, features = Shortcut.PROJECT, (6, 4, 7)
  found = of_supernet(run, shortcut, features, blocks_only=True)[mode]
  expected = of_derived(run, shortcut, features, blocks_only=True)[mode]

  assert [tap.shape[-1] for tap in expected[1]] == list(features)
  assert_networks_agree(found, expected)


def test_the_comparison_of_networks_sees_the_residual():
  # Otherwise the tests above would pass with any shortcut.
  logits = [of_derived(run, s, (4, 8))['eval'][0] for s in Shortcut]

  for i in range(3):
    for j in range(i):
      assert np.abs(logits[i] - logits[j]).max() > 1e-2


def test_only_widths_that_change_have_a_projecting_shortcut():
  net = make_supernet(Shortcut.PROJECT, (4, 4, 7))

  params = make_variables(derived_network(net, (4, 4, 7)))['params']

  assert params['block0']['shortcut']['kernel'].shape == (8, 4)
  assert 'shortcut' not in params['block1']
  assert 'shortcut' not in params['block2']


@pytest.mark.parametrize('shortcut', Shortcut)
def test_a_supernet_initialised_without_masks_takes_them(shortcut):
  net = student.Student(make_space(shortcut), CLASSES)
  variables = make_variables(net)
  widest = arch_params.one_hot(net.space, (8, 8))

  without = evaluate(net)(variables, make_images())
  found = evaluate(net)(
    variables, make_images(), arch_params.masks(net.space, widest)
  )

  assert_trees_close(found, without)


@pytest.mark.parametrize('expansion', (1, 3, 6))
@pytest.mark.parametrize('share', (0.05, 0.25, 0.3, 1.0))
def test_hidden_units_are_masked_as_those_of_a_narrower_network(
  share, expansion
):
  space = make_space(expansion=expansion, squeeze_excite=share)
  block = space.blocks[0]
  units = [space.squeezed(block, width) for width in range(1, 9)]

  # Masks are sums of such prefixes.
  prefixes = jnp.tril(jnp.ones((8, 8)))
  found = [
    squeeze_excite.hidden_mask(space, block, entering) for entering in prefixes
  ]

  expected = np.arange(units[-1])[None] < np.array(units)[:, None]
  np.testing.assert_array_equal(np.stack(found), expected)


def test_hidden_units_are_rounded_half_up_and_never_none():
  def squeezed(width, **options):
    space = make_space(**options)
    return space.squeezed(space.blocks[0], width)

  # A quarter of 6, 12, 18, 24.
  units = [squeezed(width, squeeze_excite=0.25) for width in (1, 2, 3, 4)]
  assert units == [2, 3, 5, 6]
  assert squeezed(4, squeeze_excite=0.01) == 1
  assert squeezed(4) == 0


# Soft masks.


@pytest.mark.parametrize('train', (True, False))
@pytest.mark.parametrize('shortcut', Shortcut)
def test_a_block_is_the_weighted_sum_of_its_choices(shortcut, train):
  # 6 is neither the widest nor the narrowest choice: R(x) changes with it.
  block = Block((8, 6, 4), stride=1, residual=True)
  space = SearchSpace(blocks=(block,), stem_features=6, shortcut=shortcut)
  net = student.Student(space, CLASSES, blocks_only=True)
  variables = make_variables(net)

  @jax.jit
  def output(channels):
    (_, taps), _ = net.apply(
      variables,
      make_images(),
      arch_params.masks(space, channels),
      train=train,
      mutable=['batch_stats'],
    )
    return taps[0]

  weights = jnp.array([0.2, 0.5, 0.3])
  found = output((weights,))

  # Z = sum_i g_i z_i (section 3.3).
  expected = sum(
    float(weight) * output(arch_params.one_hot(space, (width,)))
    for weight, width in zip(weights, block.choices, strict=True)
  )
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_each_mask_multiplies_its_tensor_once():
  space = make_space()
  block = layers.InvertedResidual(
    space.blocks[0],
    space,
    True,
    functools.partial(BatchNorm, use_running_average=True),
    convolutions.depthwise_conv,
  )
  x = jax.random.normal(jax.random.key(0), (1, 4, 4, 8))
  ones, soft = jnp.ones(8), jnp.linspace(1.0, 0.1, 8)
  variables = jax.jit(block.init)(jax.random.key(1), x, ones, ones, ones)

  @jax.jit
  def taps(entering, leaving):
    output, taps = block.apply(variables, x, entering, leaving, leaving)
    return output, *taps

  output, expand, depthwise, project = taps(ones, ones)
  for index, expected in ((0, output), (3, project)):
    found = taps(ones, soft)[index]
    np.testing.assert_allclose(found, expected * soft[None, None, None], 1e-5)
  inner = jnp.repeat(soft, 6)[None, None, None]
  for index, expected in ((1, expand), (2, depthwise)):
    found = taps(soft, ones)[index]
    np.testing.assert_allclose(found, expected * inner, 1e-5)
  # The projection reads the inner tensor as it is tapped, masked once.
  kernel = variables['params']['project']['kernel']
  _, _, masked, projected = taps(soft, ones)
  np.testing.assert_allclose(
    projected, masked @ kernel / np.sqrt(1 + 1e-5), rtol=1e-4, atol=1e-5
  )


def test_logits_pass_gradients_to_the_weights_of_the_choices():
  net = student.Student(make_space(), CLASSES)
  variables = make_variables(net)
  params = arch_params.init_arch_params(net.space, 7, 1)

  @jax.jit
  @jax.grad
  def slope(params):
    channels = arch_params.probabilities(params).channels
    masks = arch_params.masks(net.space, channels)
    logits, _ = net.apply(variables, make_images(), masks, train=False)
    return jnp.sum(jax.nn.log_softmax(logits)[:, 0])

  for found in slope(params).channel_logits:
    assert np.abs(found).max() > 1e-4


# Taps, types, errors.


def test_taps_are_in_the_order_of_their_names_beyond_ten_blocks():
  widths = tuple((4 + index,) for index in range(12))
  space = spaces.from_stages(
    (1,) * 12, widths, (1,) * 12, stem_features=3, expansion=2
  )
  net = student.Student(space, CLASSES, blocks_only=True)
  full = net.clone(blocks_only=False)
  images = jax.ShapeDtypeStruct((1, 2, 2, 3), jnp.float32)

  def taps(net):
    def make(key, images):
      return net.init_with_output(key, images, train=False)[0][1]

    return jax.eval_shape(make, jax.random.key(0), images)

  assert [tap.shape[-1] for tap in taps(net)] == [w for (w,) in widths]
  assert net.tap_names == tuple(f'block{index}' for index in range(12))
  assert sorted(net.tap_names) != list(net.tap_names)
  found = dict(zip(full.tap_names, taps(full), strict=True))
  assert list(found) == list(full.tap_names)
  assert found['stem'].shape[-1] == 3
  for index in range(1, 12):
    assert found[f'block{index}/expand'].shape[-1] == 2 * (3 + index)
    assert found[f'block{index}/depthwise'].shape[-1] == 2 * (3 + index)
    assert found[f'block{index}/project'].shape[-1] == 4 + index


def test_strides_shrink_the_taps_where_they_stand():
  net = student.Student(make_space(blocks=3), CLASSES)
  shapes = jax.eval_shape(
    lambda key: net.init_with_output(key, make_images(1), train=False),
    jax.random.key(0),
  )
  sides = dict(
    zip(net.tap_names, [t.shape[1] for t in shapes[0][1]], strict=True)
  )

  assert sides['stem'] == sides['block1/project'] == sides['block2/expand'] == 4
  assert sides['block2/depthwise'] == sides['block2/project'] == 2


def test_bfloat16_computes_but_logits_and_variables_stay_float32():
  net = make_supernet(*CASES[-1], dtype=jnp.bfloat16)
  variables, images = make_variables(net), make_images()
  widths = arch_params.one_hot(net.space, CASES[-1][1])
  masks = arch_params.masks(net.space, widths)

  types, slopes = (
    jax.eval_shape(functools.partial(f, net), variables, images, masks)
    for f in (run, gradient)
  )
  found = evaluate(net)(variables, images, masks)

  for mode in ('train', 'eval'):
    logits, taps = types[mode]
    assert logits.dtype == jnp.float32
    assert {tap.dtype for tap in taps} == {jnp.dtype(jnp.bfloat16)}
  for leaf in jax.tree.leaves((types['batch_stats'], slopes)):
    assert leaf.dtype == jnp.float32
  initial = jax.eval_shape(
    lambda key: net.init(key, images, train=False), jax.random.key(0)
  )
  for leaf in jax.tree.leaves(initial):
    assert leaf.dtype == jnp.float32
  exact = of_supernet(run, *CASES[-1])['eval'][0]
  # Eight bits of mantissa through eleven layers.
  np.testing.assert_allclose(found[0], exact, atol=0.1)


def arrays(jaxpr):
  """Shapes and types of all that a program computes."""
  for equation in jaxpr.eqns:
    yield from (out.aval for out in equation.outvars)
    for inner in jax.tree.leaves(
      list(equation.params.values()), is_leaf=lambda p: hasattr(p, 'eqns')
    ):
      if hasattr(inner, 'jaxpr') or hasattr(inner, 'eqns'):
        yield from arrays(getattr(inner, 'jaxpr', inner))


@pytest.mark.parametrize('case', (CASES[0], CASES[-1]))
def test_means_of_maps_and_what_follows_them_are_float32_beside_bfloat16(case):
  net = make_supernet(*case, dtype=jnp.bfloat16)

  program = jax.make_jaxpr(functools.partial(net.apply, train=False))(
    make_variables(net), make_images()
  )

  found = list(arrays(program.jaxpr))
  # 1x1 convolutions of four images in 4x4 or 2x2 cells.
  maps = {a.dtype for a in found if a.ndim == 2 and a.shape[0] in (64, 16)}
  vectors = {a.dtype for a in found if a.ndim == 2 and a.shape[0] == 4}
  assert maps == {jnp.dtype('bfloat16')}
  assert vectors == {jnp.dtype('float32')}


# Memory.


def test_recomputed_blocks_are_the_same_network_and_keep_less():
  net = make_supernet(*CASES[-1])
  again = net.clone(remat=True)
  variables, images = make_variables(net), make_images()
  masks = arch_params.masks(
    net.space, arch_params.one_hot(net.space, CASES[-1][1])
  )

  def kept(net):
    def logits(params):
      return net.apply(
        {**variables, 'params': params},
        images,
        masks,
        train=True,
        mutable=['batch_stats'],
      )[0][0]

    pullback = jax.eval_shape(
      lambda params: jax.vjp(logits, params)[1], variables['params']
    )
    return sum(leaf.size for leaf in jax.tree.leaves(pullback))

  found = compiled(gradient, again)(variables, images, masks)

  shapes = (make_variables(n) for n in (again, net))
  assert jax.tree.structure(next(shapes)) == jax.tree.structure(next(shapes))
  assert_trees_close(found, of_supernet(gradient, *CASES[-1]))
  assert kept(again) < kept(net) / 2


def test_images_are_normalised_by_the_network():
  mean, std = (0.1, 0.5, 0.3), (0.5, 0.25, 2.0)
  net = student.Student(make_space(), CLASSES)
  normalising = net.clone(mean=mean, std=std)
  variables, images = make_variables(net), make_images()

  found = evaluate(normalising)(variables, images)

  normalised = layers.normalize(images, mean, std)
  assert_trees_close(found, evaluate(net)(variables, normalised))


def test_evaluation_does_not_couple_the_images_of_a_batch():
  net = student.Student(make_space(), CLASSES)
  variables, images = make_variables(net), make_images()

  together, _ = evaluate(net)(variables, images)
  alone, _ = evaluate(net)(variables, images[:1])

  np.testing.assert_allclose(together[:1], alone, atol=1e-5)


def test_both_depthwise_convolutions_make_the_same_network():
  net = student.Student(
    make_space(kernel_size=5), CLASSES, conv=convolutions.shift_depthwise_conv
  )
  native = net.clone(conv=convolutions.native_depthwise_conv)
  variables = make_variables(net)

  found, expected = (
    evaluate(n)(variables, make_images()) for n in (net, native)
  )

  assert_trees_close(found, expected)


UNFIT = {
  '8 bits': (np.uint8, 255, 'uint8 .*divide 8-bit images by 255'),
  'integers': (np.int32, 1, 'int32 .*floating point'),
  'floats of 8 bits': (np.float32, 255, r'\[0, 255\].*divide 8-bit images'),
  'normalised': (np.float32, -2, r'\[-2, -?0\].*do not normalise'),
}


def networks_of_both_kinds():
  return (
    student.Student(make_space(), CLASSES),
    fixed.NETWORKS['small_resnet'](num_classes=CLASSES),
  )


@pytest.mark.parametrize('case', UNFIT)
def test_students_and_teachers_refuse_what_is_no_image_in_0_to_1(case):
  dtype, value, message = UNFIT[case]
  images = make_images().at[0].set(0).at[1].set(1)
  unfit = (np.asarray(images) * value).astype(dtype)
  traced_too = not np.issubdtype(dtype, np.floating)

  for net in networks_of_both_kinds():
    logits_fn = networks.logits_fn(net, {})
    with pytest.raises(ValueError, match=message):
      logits_fn(unfit)
    if traced_too:
      with pytest.raises(ValueError, match=message):
        jax.eval_shape(logits_fn, unfit)


def test_networks_take_images_somewhat_out_of_0_to_1_and_nan():
  net = student.Student(make_space(), CLASSES)
  logits_fn = networks.logits_fn(net, make_variables(net))
  images = np.array(make_images())
  images[0], images[1], images[2] = -0.1, 1.1, np.nan

  found = np.asarray(logits_fn(images))

  np.testing.assert_array_equal(
    np.isnan(found).any(-1), [False, False, True, False]
  )


@pytest.mark.parametrize('shape', ((1, 6, 8, 3), (1, 8, 2, 3)))
def test_images_that_do_not_fit_the_strides_are_refused(shape):
  net = student.Student(make_space(blocks=3), CLASSES)

  with pytest.raises(ValueError, match='multiple of 4'):
    net.init(jax.random.key(0), jnp.zeros(shape), train=False)


@pytest.mark.parametrize('features', ((8,), (8, 5)))
def test_a_derived_network_needs_widths_among_the_choices(features):
  net = student.Student(make_space(), CLASSES)

  with pytest.raises(ValueError, match='[Ww]idth'):
    derived_network(net, features)


def test_masks_are_a_pair_of_tuples_with_one_entry_for_each_block():
  space = make_space(blocks=3)
  channels = arch_params.one_hot(space, (4, 8, 7))

  masks = arch_params.masks(space, channels)

  assert isinstance(masks, Masks)
  for part in (masks.features, masks.agreement):
    assert [m.shape for m in part] == [(8,), (8,), (10,)]
  assert masks.operators == ()

"""What is special about Vision Transformers; `test_fixed` has the rest."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnascl_jax.attacks.checks import dataflow
from rnascl_jax.distillation import compare
from rnascl_jax.losses import attention
from rnascl_jax.models import fixed, networks
from rnascl_jax.models.fixed import vit
from rnascl_jax.runtime import parallel, saved_variables
from rnascl_jax.training import adversarial, train_state, train_step
from tests import torch_fixed

TINY = vit.ViT(10, patch_size=4, width=8, depth=1, heads=2)


def _shapes(net, height, width, dtype=jnp.float32):
  images = jax.ShapeDtypeStruct((2, height, width, 3), dtype)
  init = functools.partial(net.init_with_output, train=False)
  (logits, taps), variables = jax.eval_shape(init, jax.random.key(0), images)
  return variables, logits, taps


def _random_variables(net, height, width):
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape, scale=0.5).astype(np.float32),
    _shapes(net, height, width)[0],
  )


@pytest.mark.parametrize(
  'name', ['vit_small', 'vit_small_8', 'vit_base', 'deit_tiny']
)
def test_named_networks_have_pytorchs_heads_scales_and_epsilons(name):
  # What neither the names nor the shapes of variables tell.
  net = fixed.NETWORKS[name](num_classes=10, patch_size=4)
  torch_net = torch_fixed.make(name, 10, device='meta', patch_size=4)
  scale = net.attention_scale or (net.width / net.heads) ** -0.5
  block = torch_net.blocks[-1]
  assert (net.heads, scale) == (block.attn.heads, block.attn.scale)
  epsilons = {block.norm1.eps, block.norm2.eps, torch_net.norm.eps}
  assert epsilons == {net.norm_epsilon}


def test_a_tap_shows_the_patches_where_they_are_in_the_image():
  # Blocks that add nothing leave every token what its own patch made of it.
  variables = _random_variables(TINY, 8, 12)
  block = jax.tree.map(np.zeros_like, variables['params']['blocks_0'])
  params = {**variables['params'], 'blocks_0': block}
  before = np.zeros((1, 8, 12, 3), np.float32)
  after = before.copy()
  after[0, 4:, :4] = 1.0  # The patch in the second row and the first column.

  run = jax.jit(lambda x: TINY.apply({'params': params}, x, train=False)[1][0])
  changed = np.any(run(before) != run(after), axis=-1)

  np.testing.assert_array_equal(
    changed, [[[False, False, False], [True, False, False]]]
  )


def test_position_embeddings_of_another_size_are_refused():
  variables, _, _ = _shapes(TINY, 16, 16)
  apply = functools.partial(TINY.apply, train=False)
  message = r'\(1, 17, 8\).*patch_size=4 need \(1, 5, 8\): use images'
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(apply, variables, jnp.zeros((2, 8, 8, 3)))


@pytest.mark.parametrize('size', [(8, 10), (10, 8), (2, 8)])
def test_images_that_are_not_whole_patches_are_refused(size):
  with pytest.raises(ValueError, match='multiples of patch_size=4'):
    _shapes(TINY, *size)


@pytest.mark.parametrize(
  ('shape', 'dtype', 'message'),
  [
    ((8, 8, 3), 'float32', r'\(8, 8, 3\).*images\[None\]'),
    ((2, 8, 8, 3), 'uint8', 'uint8.*divide 8-bit images by 255'),
    ((2, 8, 8, 1), 'float32', 'one number for each of the 1 channels'),
  ],
)
def test_unfit_images_are_refused(shape, dtype, message):
  net = dataclasses.replace(TINY, mean=(0.5, 0.5, 0.5))
  with pytest.raises(ValueError, match=message):
    net.init(jax.random.key(0), jnp.zeros(shape, dtype), train=False)


def test_statistics_softmax_and_logits_stay_float32_in_bfloat16():
  net = dataclasses.replace(TINY, dtype=jnp.bfloat16)
  variables, logits, taps = _shapes(net, 8, 8)
  found = dataflow.steps(
    lambda x: net.apply(
      jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), variables),
      x,
      train=False,
    )[0],
    jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32),
  )
  types = {
    name: {
      str(s.equation.invars[0].aval.dtype) for s in found if s.name == name
    }
    for name in ('exp', 'rsqrt', 'erfc', 'dot_general')
  }

  assert types['exp'] == types['rsqrt'] == {'float32'}
  assert types['erfc'] == {'bfloat16'}
  # The head's product only.
  assert types['dot_general'] == {'bfloat16', 'float32'}
  assert (logits.dtype, taps[0].dtype) == (jnp.float32, jnp.bfloat16)


def test_images_of_float64_are_computed_in_float64():
  with jax.enable_x64(True):
    variables, logits, taps = _shapes(TINY, 8, 8, jnp.float64)
  assert logits.dtype == taps[0].dtype == jnp.float64
  assert {x.dtype for x in jax.tree.leaves(variables)} == {
    jnp.dtype(jnp.float32)
  }


def test_a_vit_starts_as_timms_do_and_learns_by_training_steps(tmp_path):
  net = vit.ViT(
    10, patch_size=4, width=32, depth=1, heads=2, axis_name=parallel.AXIS
  )
  recipe = train_state.Recipe(
    net=net,
    optimizer=optax.sgd(0.1),
    adversarial=adversarial.standard(),
    distillation=compare.Distillation(),
    augment=lambda key, image: image,
  )
  state = train_state.init_state(recipe, jax.random.key(0), (8, 8, 1), 16)
  assert state.batch_stats == {}
  params = jax.device_get(state.params)
  block = params['blocks_0']
  for layer in (block['attn']['qkv'], block['mlp']['fc1'], block['mlp']['fc2']):
    np.testing.assert_allclose(layer['kernel'].std(), 0.02, rtol=0.06)
    assert not np.any(layer['bias'])
  np.testing.assert_allclose(params['pos_embed'].std(), 0.02, rtol=0.3)
  patches = params['patch_embed']['proj']['kernel']
  assert 0.9 * 16**-0.5 < np.abs(patches).max() <= 16**-0.5

  context = train_state.Context(
    jnp.uint32(0), (), (), jnp.float32(0), jnp.float32(0)
  )
  rng = np.random.default_rng(0)
  batch = train_state.Batch(
    rng.integers(0, 256, (1, 16, 8, 8, 1)).astype(np.uint8),
    rng.integers(0, 10, (1, 16)).astype(np.int32),
    np.arange(16, dtype=np.int32)[None],
  )
  step = jax.jit(
    jax.vmap(
      train_step.make_train_step(recipe),
      in_axes=(None, None, 0),
      axis_name=parallel.AXIS,
    ),
    compiler_options={'xla_backend_optimization_level': 0},
  )
  losses = []
  for _ in range(5):
    # One device, whose axis comes first.
    state, sums = jax.tree.map(
      lambda x: np.asarray(x)[0], step(state, context, batch)
    )
    losses.append(float(sums['loss']))
  assert losses == sorted(losses, reverse=True) and losses[-1] < losses[0]

  saved_variables.save(tmp_path / 'model', state.variables, {})
  loaded, _ = saved_variables.load(tmp_path / 'model')
  assert set(loaded) == {'params'}
  jax.tree.map(np.testing.assert_array_equal, loaded['params'], state.params)
  logits, taps = jax.eval_shape(
    functools.partial(networks.apply, net), loaded, jnp.zeros((2, 8, 8, 1))
  )
  assert logits.shape == (2, 10)
  maps = jax.eval_shape(lambda t: attention.attention_vectors(t, (2, 2)), taps)
  assert maps.shape == (2, 1, 4)


@pytest.mark.parametrize('grid', [(4, 4), (7, 7), (2, 2), (3, 5), (9, 2)])
def test_position_embeddings_are_resized_as_in_timm(grid):
  torch = pytest.importorskip('torch')
  positions = np.random.default_rng(0).normal(size=(1, 17, 6))
  positions = positions.astype(np.float32)
  expected = torch.nn.functional.interpolate(
    torch.tensor(positions[:, 1:].reshape(1, 4, 4, 6)).permute(0, 3, 1, 2),
    size=grid,
    mode='bicubic',
    antialias=True,
  )
  params = {'pos_embed': positions, 'head': 1}
  resized = vit.resize_positions(params, grid)
  assert resized['head'] == 1
  np.testing.assert_array_equal(resized['pos_embed'][:, 0], positions[:, 0])
  np.testing.assert_allclose(
    resized['pos_embed'][0, 1:].reshape(*grid, 6),
    expected[0].permute(1, 2, 0).numpy(),
    rtol=1e-4,
    atol=1e-5,
  )


def test_a_network_goes_on_at_another_size_with_resized_positions():
  net = vit.ViT(3, patch_size=2, width=4, depth=1, heads=2)
  variables = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)
  params = vit.resize_positions(variables['params'], (3, 5))
  images = jnp.ones((2, 6, 10, 1))
  logits, taps = net.apply({'params': params}, images, train=False)
  assert (logits.shape, taps[0].shape) == ((2, 3), (2, 3, 5, 4))
  with pytest.raises(ValueError, match='are no square'):
    vit.resize_positions(params, (4, 4))


def test_a_network_of_smaller_patches_sees_what_it_saw_in_enlarged_images():
  fields = {'width': 4, 'depth': 1, 'heads': 2}
  large, small = (vit.ViT(3, patch_size=size, **fields) for size in (6, 2))
  images = jax.random.uniform(jax.random.key(1), (2, 8, 8, 3))
  enlarged = images.repeat(3, axis=1).repeat(3, axis=2)
  params = large.init(jax.random.key(0), enlarged, train=False)['params']
  refitted = vit.refit(params, 2, (4, 4))
  chex.assert_trees_all_close(
    small.apply({'params': refitted}, images, train=False),
    large.apply({'params': params}, enlarged, train=False),
    rtol=1e-5,
    atol=1e-6,
  )
  # Of another size besides, positions are resized.
  resized = vit.refit(params, 2, (3, 3))['pos_embed']
  wanted = vit.resize_positions(params, (3, 3))['pos_embed']
  np.testing.assert_array_equal(resized, wanted)
  with pytest.raises(ValueError, match='patch_size=4 must divide 6'):
    vit.refit(params, 4, (2, 2))

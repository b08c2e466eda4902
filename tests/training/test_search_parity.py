"""The search step against eager PyTorch, written from the paper's equations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnascl_jax.data import batches
from rnascl_jax.distillation import compare
from rnascl_jax.interop import state_dicts
from rnascl_jax.models import fixed, student
from rnascl_jax.runtime import parallel
from rnascl_jax.search import arch_params, cost_tables, flops, spaces
from rnascl_jax.training import adversarial, search_step, train_state
from tests import random_variables, torch_fixed

_SPACE = spaces.from_stages(
  (1, 2), ((4, 2), (8, 4)), (1, 2), stem_features=4, stem_stride=1, expansion=2
)
_SHAPE = (8, 8, 3)
_FEATURES = (4, 8, 8)


def _batch(count: int, seed: int):
  rng = np.random.default_rng(seed)
  images = rng.integers(256, size=(count, *_SHAPE)).astype(np.uint8)
  return images, rng.integers(10, size=count).astype(np.int32)


def test_three_steps_without_noise_are_those_of_pytorch():
  torch = pytest.importorskip('torch')
  from tests import torch_search

  net = student.Student(_SPACE, 10, axis_name=parallel.AXIS)
  guide = fixed.NETWORKS['small_resnet'](num_classes=10, features=_FEATURES)
  module = torch_fixed.make('small_resnet', 10, features=_FEATURES)
  torch_fixed.randomise(module, 0)
  tables = flops.costs(_SPACE, _SHAPE, 10)
  recipe = train_state.Recipe(
    net=net,
    optimizer=optax.sgd(0.1, momentum=0.9),
    adversarial=adversarial.standard(),
    distillation=compare.Distillation(guide, map_size=(2, 2)),
    augment=functools.partial(batches.augment, padding=0, flip=False),
  )
  search = search_step.Search(
    space=_SPACE,
    tables=tables,
    optimizer=optax.adam(0.01),
    steps_per_epoch=100,
    reference=cost_tables.uniform(tables),
    noise=lambda key, shape, dtype: jnp.zeros(shape, dtype),
  )
  tapped = [torch_fixed.tapped_module(module, n) for n in guide.tap_names]
  theirs = torch_search.Search(_SPACE, tables, module, tapped, map_size=2)
  variables = random_variables.draw(net, _SHAPE, 1)
  arrays = state_dicts.from_variables(variables)
  theirs.net.load_state_dict({k: torch.tensor(v) for k, v in arrays.items()})
  state = search_step.init_search_state(
    train_state.start_from(recipe, variables, _SHAPE, 8),
    arch_params.init_arch_params(
      _SPACE, len(net.tap_names), len(guide.tap_names)
    ),
    search.optimizer,
  )
  context = train_state.Context(
    seed=jnp.uint32(0),
    teacher=torch_fixed.flax_variables(module),
    tutors=(),
    kl_weight=jnp.float32(1),
    gamma=jnp.float32(1),
  )
  step = jax.jit(
    jax.vmap(
      search_step.make_search_step(recipe, search),
      (None, None, 0, 0),
      axis_name=parallel.AXIS,
    )
  )
  halves = [_batch(count, seed) for seed, count in enumerate((8, 4))]
  given = [
    train_state.Batch(
      images, labels, *2 * (np.arange(len(labels), dtype=np.int32),)
    )
    for images, labels in halves
  ]
  converted = [
    (
      torch.tensor(images.transpose(0, 3, 1, 2) / np.float32(255)),
      torch.tensor(labels).long(),
    )
    for images, labels in halves
  ]
  for _ in range(3):
    state, sums = step(state, context, *jax.tree.map(lambda x: x[None], given))
    state, sums = jax.tree.map(lambda x: x[0], (state, sums))
    ours = sums['loss'] / sums['count'], sums['arch_loss'] / sums['count']
    expected = theirs.step(*converted, noise=False)
    np.testing.assert_allclose(ours, expected, rtol=1e-4)
  for logits, other in zip(
    (*state.arch.channel_logits, state.arch.tutor_logits),
    (*theirs.channel_logits, theirs.tutor_logits),
    strict=True,
  ):
    np.testing.assert_allclose(logits, other.detach(), atol=1e-4)
    assert np.abs(logits).max() > 0.01  # Adam has moved them.

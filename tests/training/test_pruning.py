"""Pruning: masks, scores that are learnt, and zeros that stay."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnascl_jax.config import resolve, settings
from rnascl_jax.distillation import compare
from rnascl_jax.runtime import parallel
from rnascl_jax.training import adversarial, pruning, train_state, train_step
from tests import small_network

SHAPE, COUNT, STEPS, SPARSITY = (4, 4, 2), 6, 4, 0.6
_OPTIMIZATION = settings.Optimization(
  epochs=STEPS, learning_rate=0.3, schedule='constant', weight_decay=0.05
)


class Batch(NamedTuple):
  images: np.ndarray
  labels: np.ndarray
  keys: Any


def _kept(scores: np.ndarray, sparsity: float) -> np.ndarray:
  """A mask made score by score: small ones go, of equal ones the first."""
  flat = [abs(float(score)) for score in scores.flat]
  order = sorted(range(len(flat)), key=lambda index: (flat[index], index))
  gone = set(order[: int(sparsity * len(flat))])
  kept = [index not in gone for index in range(len(flat))]
  return np.array(kept).reshape(scores.shape)


@pytest.mark.parametrize('sparsity', [0.0, 0.5, 0.99])
def test_a_mask_keeps_the_largest_scores_and_has_exactly_as_many(sparsity):
  random = np.random.default_rng(0)
  # Integers, of which many are equal.
  for scores in (random.normal(size=(3, 3, 5, 7)), random.integers(-3, 4, 101)):
    scores = scores.astype(np.float32)
    mask = np.asarray(pruning.mask(jnp.asarray(scores), sparsity))
    assert mask.sum() == scores.size - int(sparsity * scores.size)
    np.testing.assert_array_equal(mask, _kept(scores, sparsity))


def test_each_layer_is_pruned_by_its_own_magnitudes_and_nothing_else_is():
  params = small_network.variables(SHAPE)['params']
  # Of all weights together, those of the head would be pruned alone.
  params['head']['kernel'] /= 100.0
  params = jax.tree.map(np.float32, params)
  pruned = pruning.by_magnitude(params, SPARSITY)
  kept = []
  for name in ('conv', 'head'):
    kernel = params[name]['kernel']
    expected = np.where(_kept(kernel, SPARSITY), kernel, 0.0)
    np.testing.assert_array_equal(pruned[name]['kernel'], expected)
    kept.append(np.count_nonzero(expected) / kernel.size)
  np.testing.assert_array_equal(pruned['head']['bias'], params['head']['bias'])
  assert pruned['norm'] == params['norm']
  assert min(kept) <= pruning.share_kept(pruned) <= max(kept)
  again = pruning.by_magnitude(pruned, SPARSITY)
  for name in ('conv', 'head'):
    np.testing.assert_array_equal(again[name]['kernel'], pruned[name]['kernel'])


def _recipe() -> train_state.Recipe:
  return train_state.Recipe(
    net=small_network.Network(axis_name=parallel.AXIS),
    optimizer=resolve.optimizer(_OPTIMIZATION, 1),
    adversarial=adversarial.standard(),
    distillation=compare.Distillation(),
    augment=lambda key, image: image,
  )


def _batches() -> list[tuple[np.ndarray, np.ndarray]]:
  random = np.random.default_rng(1)
  return [
    (random.uniform(size=(COUNT, *SHAPE)), random.integers(0, 3, COUNT))
    for _ in range(STEPS)
  ]


def _learn_scores(devices: int) -> train_state.TrainState:
  """The state after steps of a training of scores, in float64."""
  recipe = pruning.learn_scores(_recipe(), SPARSITY)
  variables = small_network.variables(SHAPE)
  state = train_state.start_from(recipe, variables, SHAPE, COUNT)
  pruned = pruning.by_magnitude(variables['params'], SPARSITY)
  context = train_state.Context(0, (), (), 0.0, 0.0)
  used = parallel.devices(devices)
  step = parallel.pmap(functools.partial(train_step.train_step, recipe), used)

  def prepare(recipe, context, step, batch, parts):
    del recipe, context, step, parts
    return train_state.Examples(
      batch.keys, batch.images, batch.labels, (), None
    )

  state, context = (
    parallel.replicate(tree, used)
    for tree in (state.replace(params=pruned), context)
  )
  keys = jax.random.split(jax.random.key(0), COUNT)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(train_step, 'prepare', prepare)
    for images, labels in _batches():
      batch = jax.tree.map(
        lambda x: x.reshape(devices, COUNT // devices, *x.shape[1:]),
        Batch(images, labels, keys),
      )
      state, _ = step(state, context, batch)
  return parallel.unreplicate(state)


def _torch_scores() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """The published training in PyTorch: its parameters, w m for kernels; s."""
  torch = pytest.importorskip('torch')

  class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(context, scores):
      smallest = torch.topk(
        scores.flatten(), int(SPARSITY * scores.numel()), largest=False
      )
      mask = torch.ones(scores.numel(), dtype=scores.dtype)
      mask[smallest.indices] = 0.0
      return mask.reshape(scores.shape)

    @staticmethod
    def backward(context, gradient):
      return gradient

  network = small_network.torch_network(small_network.variables(SHAPE))
  weights, scores = {}, {}
  for name in ('conv.weight', 'head.weight'):
    weight = network.get_parameter(name).detach()
    fan_in = weight[0].numel()
    bound = (6 / fan_in) ** 0.5 / weight.abs().max()
    weights[name] = weight
    scores[name] = torch.nn.Parameter(bound * weight)
  optimizer = torch.optim.SGD(
    [*scores.values(), network.norm.weight, network.norm.bias],
    lr=_OPTIMIZATION.learning_rate,
    momentum=_OPTIMIZATION.momentum,
    weight_decay=_OPTIMIZATION.weight_decay,
  )

  def pruned():
    return {
      name: weights[name] * StraightThrough.apply(scores[name].abs())
      for name in weights
    }

  for images, labels in _batches():
    optimizer.zero_grad()
    logits, _ = torch.func.functional_call(
      network, pruned(), torch.tensor(images).permute(0, 3, 1, 2)
    )
    torch.nn.functional.cross_entropy(logits, torch.tensor(labels)).backward()
    optimizer.step()
  params = dict(network.named_parameters()) | pruned()
  return tuple(
    {name: value.detach().numpy() for name, value in tree.items()}
    for tree in (params, scores)
  )


@pytest.mark.parametrize('devices', [1, 2])
def test_scores_are_learnt_straight_through_as_published(devices):
  with jax.enable_x64(True):
    state = _learn_scores(devices)
    first = pruning.by_magnitude(
      small_network.variables(SHAPE)['params'], SPARSITY
    )
  params, scores = _torch_scores()
  ours = small_network.parameters(state.params)
  for name, expected in params.items():
    np.testing.assert_allclose(ours[name], expected, atol=1e-9, err_msg=name)
  learnt = state.opt_state.scores
  for name, value in (
    ('conv.weight', np.moveaxis(learnt['conv']['kernel'], (3, 2), (0, 1))),
    ('head.weight', learnt['head']['kernel'].T),
  ):
    np.testing.assert_allclose(value, scores[name], atol=1e-9, err_msg=name)
  # Other weights are kept than at first.
  mask, before = (
    np.asarray(tree['head']['kernel']) != 0 for tree in (state.params, first)
  )
  assert mask.sum() == before.sum()
  assert (mask != before).any()


@pytest.mark.parametrize('name', ['sgd', 'adam', 'adamw'])
def test_zeros_stay_and_other_weights_move_as_without_them(name):
  """In steps along fixed gradients, also of the weights that are pruned."""
  spec = settings.Optimization(
    epochs=STEPS, schedule='constant', optimizer=name, weight_decay=0.05
  )
  plain = dataclasses.replace(_recipe(), optimizer=resolve.optimizer(spec, 1))
  params = pruning.by_magnitude(
    jax.tree.map(np.float32, small_network.variables(SHAPE)['params']), SPARSITY
  )

  def trained(recipe):
    after = params, ()
    state = recipe.optimizer.init(after)
    random = np.random.default_rng(2)
    for _ in range(STEPS):
      gradient = jax.tree.map(
        lambda x: random.normal(size=x.shape).astype(np.float32), after
      )
      updates, state = recipe.optimizer.update(gradient, state, after)
      after = optax.apply_updates(after, updates)
    return after[0]

  kept = trained(pruning.keep_zeros(plain, SPARSITY))
  free = trained(plain)
  for layer in ('conv', 'head'):
    start = params[layer]['kernel']
    expected = np.where(start == 0.0, 0.0, free[layer]['kernel'])
    np.testing.assert_array_equal(kept[layer]['kernel'], expected)
  np.testing.assert_array_equal(kept['head']['bias'], free['head']['bias'])


def test_adversarial_weight_perturbation_leaves_pruned_weights_at_0():
  attack = adversarial.pgd_training(epsilon=0.1, step_size=0.05, num_steps=1)
  method = adversarial.awp(attack, gamma=0.5)
  recipe = pruning.keep_zeros(
    dataclasses.replace(_recipe(), adversarial=method), SPARSITY
  )
  params = pruning.by_magnitude(
    jax.tree.map(np.float32, small_network.variables(SHAPE)['params']), SPARSITY
  )
  slope = jax.tree.map(np.ones_like, params)
  moved = recipe.adversarial.perturb_weights(params, slope, 0)
  for layer in ('conv', 'head'):
    before, after = params[layer]['kernel'], moved[layer]['kernel']
    np.testing.assert_array_equal(before != 0, after != 0)
    # The whole length is that of the weights that are kept.
    length = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert length == pytest.approx(0.5, rel=1e-5)

"""Robust pruning: HYDRA, and least weight magnitude (LWM).

Of each kernel w of a convolution or of a linear layer a share is set to 0, the
`sparsity`: the weights whose scores s have the smallest absolute values. Scores
begin in proportion to the weights,

  s = sqrt(6 / fan_in) w / max |w|

so that the first mask m is that of the weights' magnitudes. LWM keeps it.
HYDRA freezes w and learns s under the loss L of the training, with a gradient
that goes straight through the mask:

  dL / ds = sign(s) w dL / d(w m)

Beside the scores, scales and shifts of norms are learnt; all other parameters
are frozen with w. Then, in both, the mask is fixed and what is left of the
weights is fine-tuned under L.

Either is a change of the optimiser alone. Parameters in a state of training are
always those of the pruned network, w m; scores, frozen weights and the fixed
mask are in the state of the optimiser. So every loss, attack and method of
adversarial training sees the pruned network, and what is validated or exported
is that network.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.training import pruning
  >>> params = {'fc': {'kernel': jnp.array([[1., -2.], [3., .5]])}}
  >>> print(pruning.by_magnitude(params, 0.5)['fc']['kernel'])
  [[ 0. -2.]
   [ 3.  0.]]

Reference:
  Sehwag et al., HYDRA: pruning adversarially robust neural networks, NeurIPS
  2020, and its code, inspire-group/hydra.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from rnascl_jax.base import Array, PyTree
from rnascl_jax.training.train_state import Recipe


class ScoreState(NamedTuple):
  """The state of an optimiser of scores.

  Attributes:
    weights: kernels before they are pruned.
    scores: of the kernels, of the same form.
    optimizer: the state of the optimiser itself.
  """

  weights: PyTree
  scores: PyTree
  optimizer: PyTree


class MaskState(NamedTuple):
  """The state of an optimiser of a pruned network.

  Attributes:
    masks: of the kernels, true where weights are kept.
    optimizer: the state of the optimiser itself.
  """

  masks: PyTree
  optimizer: PyTree


def mask(scores: Array, sparsity: float) -> Array:
  """Finds the weights of a layer that are kept.

  Args:
    scores: one for each weight; equal ones are pruned in the order in which
      they are stored.
    sparsity: share of the layer's weights to prune, in [0, 1); their number is
      rounded down, as in HYDRA's code.

  Returns:
    True where absolute scores are largest, of the shape of the scores.
  """
  order = jnp.argsort(jnp.abs(scores).ravel(), stable=True)
  pruned = order[: int(sparsity * scores.size)]
  kept = jnp.ones(scores.size, bool).at[pruned].set(False)
  return kept.reshape(scores.shape)


def initial_scores(kernel: Array) -> Array:
  """HYDRA's scores of a kernel before they are learnt, of its shape.

  Args:
    kernel: its last axis is that of the outputs.
  """
  fan_in = kernel.size // kernel.shape[-1]
  largest = jnp.max(jnp.abs(kernel))
  largest = jnp.where(largest > 0.0, largest, 1.0)
  return math.sqrt(6.0 / fan_in) * kernel / largest


def by_magnitude(params: PyTree, sparsity: float) -> PyTree:
  """Sets the smallest weights of each layer to 0.

  Args:
    params: of a network; a pruned one stays as it is.
    sparsity: share of each layer's weights, in [0, 1).
  """
  return _prune(
    params, jax.tree.map(initial_scores, _kernels(params)), sparsity
  )


def share_kept(params: PyTree) -> float:
  """The share of all weights of convolutions and linear layers that are not 0.

  Args:
    params: of a network, with biases and norms, which are not counted.
  """
  kernels = jax.tree.leaves(_kernels(params))
  kept = sum(int(np.count_nonzero(kernel)) for kernel in kernels)
  return kept / sum(kernel.size for kernel in kernels)


def learn_scores(recipe: Recipe, sparsity: float) -> Recipe:
  """A training of scores, in which weights change between 0 and their value.

  Its state begins from the weights before they are pruned, and is then given
  the parameters `by_magnitude`.

  Args:
    recipe: of the training of the weights.
    sparsity: share of each layer's weights to prune, in [0, 1).
  """
  optimizer = recipe.optimizer

  def init(trained: tuple[PyTree, PyTree]) -> ScoreState:
    params, projections = trained
    weights = _kernels(params)
    scores = jax.tree.map(initial_scores, weights)
    start = optimizer.init((_replace(params, scores), projections))
    return ScoreState(weights, scores, start)

  def update(
    gradient: tuple[PyTree, PyTree],
    state: ScoreState,
    trained: tuple[PyTree, PyTree] | None = None,
  ) -> tuple[tuple[PyTree, PyTree], ScoreState]:
    assert trained is not None
    slopes, of_projections = gradient
    params, projections = trained
    by_scores = jax.tree.map(
      lambda slope, weight, score: slope * weight * jnp.sign(score),
      _kernels(slopes),
      state.weights,
      state.scores,
    )
    (moves, of_projections), inner = optimizer.update(
      (_replace(_without_frozen(slopes), by_scores), of_projections),
      state.optimizer,
      (_replace(params, state.scores), projections),
    )
    scores = jax.tree.map(jnp.add, state.scores, _kernels(moves))
    pruned = _kernels(_prune(_replace(params, state.weights), scores, sparsity))
    # A weight is there or 0, so that its sum with its change is exact.
    changes = jax.tree.map(jnp.subtract, pruned, _kernels(params))
    moves = _replace(_without_frozen(moves), changes)
    return (moves, of_projections), ScoreState(state.weights, scores, inner)

  return _with(recipe, init, update)


def keep_zeros(recipe: Recipe, sparsity: float) -> Recipe:
  """A training in which the weights that are pruned stay 0.

  Args:
    recipe: of the training of all weights.
    sparsity: share of each layer's weights that are pruned, in [0, 1); they are
      those that are pruned `by_magnitude`, so the zeros where there are as
      many.
  """
  optimizer = recipe.optimizer

  def init(trained: tuple[PyTree, PyTree]) -> MaskState:
    masks = jax.tree.map(
      lambda kernel: mask(initial_scores(kernel), sparsity),
      _kernels(trained[0]),
    )
    return MaskState(masks, optimizer.init(trained))

  def update(
    gradient: tuple[PyTree, PyTree],
    state: MaskState,
    trained: tuple[PyTree, PyTree] | None = None,
  ) -> tuple[tuple[PyTree, PyTree], MaskState]:
    slopes, of_projections = gradient
    kept = jax.tree.map(_keep, state.masks, _kernels(slopes))
    # Without a gradient a weight of 0 neither moves nor decays.
    moves, inner = optimizer.update(
      (_replace(slopes, kept), of_projections), state.optimizer, trained
    )
    return moves, MaskState(state.masks, inner)

  return _with(recipe, init, update)


def _with(
  recipe: Recipe, init: Callable[..., PyTree], update: Callable[..., PyTree]
) -> Recipe:
  """The recipe with another optimiser, and AWP of weights that are not 0."""
  method = recipe.adversarial
  perturb = method.perturb_weights
  if perturb is not None:

    def perturb_kept(params: PyTree, gradient: PyTree, step: Array) -> PyTree:
      kernels = _kernels(params)
      kept = jax.tree.map(
        lambda kernel, slope: _keep(kernel != 0.0, slope),
        kernels,
        _kernels(gradient),
      )
      return perturb(params, _replace(gradient, kept), step)

    method = method._replace(perturb_weights=perturb_kept)
  optimizer = optax.GradientTransformation(init, update)
  return dataclasses.replace(recipe, optimizer=optimizer, adversarial=method)


def _prune(params: PyTree, scores: PyTree, sparsity: float) -> PyTree:
  pruned = jax.tree.map(
    lambda kernel, score: _keep(mask(score, sparsity), kernel),
    _kernels(params),
    scores,
  )
  return _replace(params, pruned)


def _keep(kept: Array, values: Array) -> Array:
  return jnp.where(kept, values, 0.0)


def _kernels(params: PyTree) -> PyTree:
  """The kernels alone, under their names."""
  flat = traverse_util.flatten_dict(params)
  return traverse_util.unflatten_dict(
    {path: leaf for path, leaf in flat.items() if path[-1] == 'kernel'}
  )


def _replace(params: PyTree, kernels: PyTree) -> PyTree:
  """The parameters with these kernels."""
  flat = traverse_util.flatten_dict(params)
  return traverse_util.unflatten_dict(
    flat | traverse_util.flatten_dict(kernels)
  )


def _without_frozen(changes: PyTree) -> PyTree:
  """Gradients or updates, 0 for what is neither a kernel nor of a norm."""
  flat = traverse_util.flatten_dict(changes)
  norms = {path[:-1] for path in flat if path[-1] == 'scale'}
  return traverse_util.unflatten_dict(
    {
      path: leaf
      if path[-1] == 'kernel' or path[:-1] in norms
      else jnp.zeros_like(leaf)
      for path, leaf in flat.items()
    }
  )

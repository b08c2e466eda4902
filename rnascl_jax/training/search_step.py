"""One step of the architecture and tutor search (eq. 2), a pure function.

The first part of a batch (80 % in the paper, section 4.1) moves the supernet's
weights; the rest then moves the architecture parameters, with the weights just
updated. One Gumbel draw of filters and tutors serves both. Or whole batches
move the one or the other: weights in the first steps of an epoch, architecture
parameters in the rest. Tutor weights of the context, those of a control, take
the place of the drawn ones: then only filters are searched. Both may go through
the networks in several parts, see `accumulation`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import flax
import jax
import jax.numpy as jnp
import optax

from rnascl_jax import losses
from rnascl_jax.base import Array, PyTree
from rnascl_jax.distillation import compare
from rnascl_jax.models import networks
from rnascl_jax.runtime import parallel
from rnascl_jax.search import arch_params, cost_tables, gumbel
from rnascl_jax.search.arch_params import ArchParams, Sample
from rnascl_jax.search.space import SearchSpace
from rnascl_jax.training import accumulation, adversarial, train_step
from rnascl_jax.training.adversarial import AdversarialMethod
from rnascl_jax.training.loss import loss_fn
from rnascl_jax.training.train_state import (
  Batch,
  Context,
  Examples,
  Recipe,
  TrainState,
)


class SearchState(flax.struct.PyTreeNode):
  """All that a search changes.

  Attributes:
    weights: of the supernet.
    arch: architecture parameters.
    arch_opt_state: of their optimiser.
  """

  weights: TrainState
  arch: ArchParams
  arch_opt_state: PyTree

  @property
  def step(self) -> Array:
    return self.weights.step


def init_search_state(
  state: TrainState,
  arch: ArchParams,
  optimizer: optax.GradientTransformation,
) -> SearchState:
  """A supernet's state with architecture parameters beside it."""
  return SearchState(state, arch, optimizer.init(arch))


@dataclasses.dataclass(frozen=True)
class Search:
  """How filters and tutors are searched.

  Attributes:
    space: the search space.
    tables: its cost tables, `flops.costs` or others.
    optimizer: of the architecture parameters.
    steps_per_epoch: of the search; the temperature falls once an epoch.
    reference: n_ref, what n_f(G) is divided by, for example its value at
      uniform logits (`cost_tables.uniform`).
    temperature: epoch -> tau.
    objective: (terms, cost=n_f(G) / n_ref, kl_weight=, gamma=) -> loss [B].
    noise: of the Gumbel-Softmax.
    hard: whether draws are one-hot (straight-through).
    warmup_epochs: epochs before the architecture parameters move.
    weigh_cost: whether the weights' step has the cost as a (constant) factor.
    accumulate: parts of the architecture's half; `Recipe` has the weights'.
    weight_steps: steps of an epoch that move weights alone, the first ones; the
      others move architecture parameters alone. None: every step moves both.
    adversarial: on which views of the images the architecture's half trains; a
      method without a state.
    measures: tables whose expectations are metrics, by the metrics' names; None
      for `macs`, of `tables`.
  """

  space: SearchSpace
  tables: cost_tables.Costs
  optimizer: optax.GradientTransformation
  steps_per_epoch: int
  reference: float
  temperature: Callable[[float | Array], Array] = gumbel.temperature
  objective: Callable[..., Array] = losses.search_objective
  noise: gumbel.Noise = jax.random.gumbel
  hard: bool = False
  warmup_epochs: int = 0
  weigh_cost: bool = True
  accumulate: int = 1
  weight_steps: int | None = None
  adversarial: AdversarialMethod = adversarial.standard()
  measures: Mapping[str, cost_tables.Costs] | None = None

  @property
  def measured(self) -> Mapping[str, cost_tables.Costs]:
    """The tables whose expectations are metrics, by name."""
    return self.measures or {'macs': self.tables}

  def temperature_at(self, step: int | Array) -> Array:
    """The temperature of a step's draw; it falls once an epoch."""
    return self.temperature(step // self.steps_per_epoch)

  def draw(self, seed: Array, step: Array, arch: ArchParams) -> Sample:
    """The step's draw, the same on all devices and in both of its halves."""
    # Positions of images are smaller, so no image has this key.
    key = jax.random.fold_in(jax.random.key(seed), step)
    key = jax.random.fold_in(key, jnp.uint32(2**32 - 1))
    return arch_params.sample(
      key,
      arch,
      temperature=self.temperature_at(step),
      noise=self.noise,
      hard=self.hard,
    )

  def objective_at(
    self, channels: tuple[cost_tables.Choices, ...]
  ) -> Callable[..., Array]:
    """Eq. (2) at a choice of filters: (terms, kl_weight=, gamma=) -> [B]."""
    cost = cost_tables.expected(self.tables, channels) / self.reference
    return functools.partial(self.objective, cost=cost)


def arch_parts(accumulate: int, arch_share: float) -> int:
  """Parts of the architecture's half, about as large as the weights' parts.

  By default that half is a fifth of a batch, and as large as one of four parts
  of the other: with up to five of them it stays in one piece.

  Args:
    accumulate: parts of the weights' half.
    arch_share: the architecture's share of a batch, in [0, 1].
  """
  others = max(1 - arch_share, arch_share)
  return max(1, round(accumulate * arch_share / others))


def make_search_step(
  recipe: Recipe, search: Search
) -> Callable[..., tuple[SearchState, PyTree]]:
  """Makes a step of eq. (2).

  Args:
    recipe: how the supernet's weights are trained.
    search: what is searched, and how.

  Returns:
    step(state, context, weights' part, architecture's part) -> (state, sums),
    or step(state, context, batch) where the search has `weight_steps`.
  """
  move_weights = functools.partial(_update_weights, recipe, search)
  move_arch = functools.partial(_update_arch, recipe, search)

  def both(
    state: SearchState, context: Context, weight_batch: Batch, arch_batch: Batch
  ):
    weights, sums = move_weights(state, context, weight_batch)
    arch, opt_state, means = move_arch(state, weights, context, arch_batch)
    # As sums over the weights' images, so that one count divides all of them.
    sums |= {name: mean * sums['count'] for name, mean in means.items()}
    return SearchState(weights, arch, opt_state), sums

  def either(state: SearchState, context: Context, batch: Batch):
    names = ('arch_loss', *search.measured)
    of_weights = jax.eval_shape(move_weights, state, context, batch)[1]
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), of_weights)

    def weights_step(state: SearchState):
      weights, sums = move_weights(state, context, batch)
      return state.replace(weights=weights), sums | {
        name: jnp.zeros_like(sums['loss']) for name in names
      }

    def arch_step(state: SearchState):
      arch, opt_state, means = move_arch(state, state.weights, context, batch)
      weights = state.weights.replace(step=state.step + 1)
      # The epoch's sums are divided by the count of the weights' images.
      images = parallel.psum(len(batch.labels)) * images_ratio
      sums = {
        name: jnp.asarray(means[name] * images, zeros['loss'].dtype)
        for name in names
      }
      return SearchState(weights, arch, opt_state), zeros | sums

    moves_weights = state.step % search.steps_per_epoch < weight_steps
    return jax.lax.cond(moves_weights, weights_step, arch_step, state)

  if search.weight_steps is None:
    return both
  weight_steps = search.weight_steps
  # Images that move weights for each that moves the architecture.
  images_ratio = weight_steps / (search.steps_per_epoch - weight_steps)
  return either


def _update_weights(
  recipe: Recipe,
  search: Search,
  state: SearchState,
  context: Context,
  batch: Batch,
) -> tuple[TrainState, dict[str, Array]]:
  """Updates the supernet's weights; see `train_step.train_step`."""
  draw = _draw(recipe, search, context, state.step, state.arch)
  objective = losses.training_objective
  if search.weigh_cost:
    objective = search.objective_at(draw.channels)
  return train_step.train_step(
    recipe,
    state.weights,
    context,
    batch,
    tutors=draw.tutors,
    masks=(arch_params.masks(search.space, draw.channels),),
    objective=objective,
  )


def _draw(
  recipe: Recipe,
  search: Search,
  context: Context,
  step: Array,
  arch: ArchParams,
) -> Sample:
  """The step's draw, with the tutor weights of the context if it has some."""
  draw = search.draw(context.seed, step, arch)
  if not jax.tree.leaves(context.tutors):
    return draw
  tutors = train_step.tutors_at(recipe, context, step)
  return draw._replace(tutors=tutors)


def _update_arch(
  recipe: Recipe,
  search: Search,
  state: SearchState,
  weights: TrainState,
  context: Context,
  batch: Batch,
) -> tuple[ArchParams, PyTree, dict[str, Array]]:
  """Updates filters and tutors, with the weights just updated.

  It trains on the images as they are, or on `search.adversarial` views of them.
  BatchNorm uses the batch's statistics; its running averages stay as they are,
  and so does the memory of a method.
  """
  recipe = dataclasses.replace(recipe, adversarial=search.adversarial)
  examples = train_step.prepare(
    recipe, context, state.step, batch, search.accumulate
  )

  def perturb(examples: Examples) -> Array:
    draw = search.draw(context.seed, state.step, state.arch)
    masks = arch_params.masks(search.space, draw.channels)
    return search.adversarial.perturb(
      networks.classifier(recipe.net, masks),
      weights.params,
      weights.batch_stats,
      (),
      examples.keys,
      examples.images,
      examples.labels,
      compare.teacher_predictions(
        recipe.distillation, context.teacher, examples.teacher
      ),
    ).images

  def mean_loss(arch: ArchParams, images_adv: Array, examples: Examples):
    draw = _draw(recipe, search, context, state.step, arch)
    return loss_fn(
      (weights.params, weights.projections),
      images_adv,
      weights.batch_stats,
      examples,
      recipe=recipe,
      context=context,
      memory=weights.memory,
      tutors=draw.tutors,
      masks=(arch_params.masks(search.space, draw.channels),),
      objective=search.objective_at(draw.channels),
      step=state.step,
    )

  def of_part(carry: None, examples: Examples):
    gradient, aux = jax.grad(mean_loss, has_aux=True)(
      state.arch, perturb(examples), examples
    )
    return gradient, carry, aux.metrics['loss']

  of_batch = accumulation.mean_gradient(of_part, state.arch, search.accumulate)
  gradient, _, loss = of_batch(None, examples)
  updates, opt_state = search.optimizer.update(
    parallel.pmean(gradient), state.arch_opt_state, state.arch
  )
  arch = optax.apply_updates(state.arch, updates)
  moves = state.step >= search.warmup_epochs * search.steps_per_epoch
  arch, opt_state = jax.tree.map(
    lambda new, old: jnp.where(moves, new, old),
    (arch, opt_state),
    (state.arch, state.arch_opt_state),
  )
  channels = arch_params.probabilities(arch).channels
  costs = {
    name: cost_tables.expected(tables, channels)
    for name, tables in search.measured.items()
  }
  means = {'arch_loss': parallel.pmean(jnp.mean(loss)), **costs}
  return arch, opt_state, means

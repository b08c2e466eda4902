"""One step of training, from a batch of images to the next state.

  augment -> ask the teacher -> perturb the images -> loss -> gradient -> update

A step is written for one device: it takes this device's share of a batch and
reduces over `parallel.AXIS`, so that N devices on a batch give what one device
gives on it. BatchNorm takes its statistics over all devices, Gumbel draws are
the same on all of them, and every image has a random key of its own, made from
the step and the image's position in the global batch.

`make_train_step` returns `step(state, context, batch) -> (state, sums)`, and
`search_step.make_search_step` does so for the search; `sums` are metrics added
up over the global batch, to be divided by their `count` once, at the end.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from rnascl_jax import losses
from rnascl_jax.attacks import unrolling
from rnascl_jax.base import Array, PyTree
from rnascl_jax.data import batches
from rnascl_jax.distillation import compare
from rnascl_jax.models import networks
from rnascl_jax.runtime import parallel
from rnascl_jax.training import accumulation
from rnascl_jax.training.loss import loss_fn
from rnascl_jax.training.train_state import (
  Batch,
  Context,
  Examples,
  Recipe,
  TrainState,
  sum_up,
)


def make_train_step(
  recipe: Recipe,
) -> Callable[[TrainState, Context, Batch], tuple[TrainState, PyTree]]:
  """Makes a step of eq. (4), of eq. (6), or of a teacher's training.

  Args:
    recipe: what is trained, and how.

  Returns:
    The step, see the module's docstring.
  """

  def step(state: TrainState, context: Context, batch: Batch):
    examples = prepare(recipe, context, state.step, batch, recipe.accumulate)
    state, values = update(
      recipe, context, state, examples, tutors=context.tutors
    )
    return state, sum_up(values)

  return step


def prepare(
  recipe: Recipe, context: Context, step: Array, batch: Batch, parts: int
) -> Examples:
  """Augments a batch and asks the teacher.

  Args:
    recipe: of the step.
    context: of the stage.
    step: steps done.
    batch: this device's share.
    parts: in which the images go through the teacher. Its answer is small
      beside its activations, but for methods that compare whole stages.

  Returns:
    The examples, with float images.
  """
  key = jax.random.fold_in(jax.random.key(context.seed), step)
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch.positions)
  pairs = jax.vmap(jax.random.split)(keys)  # [B, 2]
  images = jax.vmap(recipe.augment)(pairs[:, 0], batches.to_float(batch.images))

  def ask(carry: None, images: Array):
    distillation = recipe.distillation
    return carry, compare.ask_teacher(distillation, context.teacher, images)

  _, teacher = accumulation.run(ask, None, images, parts)
  return Examples(pairs[:, 1], images, batch.labels, batch.indices, teacher)


def update(
  recipe: Recipe,
  context: Context,
  state: TrainState,
  examples: Examples,
  *,
  tutors: PyTree = (),
  masks: tuple = (),
  objective: Callable[..., Array] = losses.training_objective,
) -> tuple[TrainState, dict[str, Array]]:
  """Updates the weights on one batch: once, or once for each replay.

  Args:
    recipe: of the step.
    context: of the stage.
    state: before the step.
    examples: this device's share of the batch.
    tutors: see `loss.loss_fn`, also for what follows.
    masks: of a supernet.
    objective: of the loss's terms.

  Returns:
    The state after the step, and metrics [B], means over replays.
  """
  options = {'tutors': tutors, 'masks': masks, 'objective': objective}
  replays = recipe.adversarial.replays

  def replay(state: TrainState, index: Array):
    keys = jax.vmap(jax.random.fold_in, (0, None))(examples.keys, index)
    own = examples._replace(keys=keys)
    return _update_once(recipe, context, state, own, **options)

  if replays == 1:
    new, values = _update_once(recipe, context, state, examples, **options)
  else:
    unroll = unrolling.choose(replay, state, jnp.int32(0), length=replays)
    new, history = jax.lax.scan(
      replay, state, jnp.arange(replays), unroll=unroll
    )
    values = jax.tree.map(lambda x: jnp.mean(x, axis=0), history)
  return new.replace(step=state.step + 1), values


def _update_once(
  recipe: Recipe,
  context: Context,
  state: TrainState,
  examples: Examples,
  *,
  masks: tuple,
  **options,
) -> tuple[TrainState, dict[str, Array]]:
  """Attacks, computes the gradient in parts, and updates the weights."""
  method = recipe.adversarial
  trained = state.params, state.projections
  network = networks.classifier(recipe.net, *masks)

  def of_part(batch_stats: PyTree, part: tuple[Examples, PyTree]):
    examples, method_state = part
    images_adv, batch_stats, method_state = method.perturb(
      network,
      state.params,
      batch_stats,
      method_state,
      examples.keys,
      examples.images,
      examples.labels,
    )
    (gradient, by_images), aux = jax.grad(
      functools.partial(
        loss_fn,
        recipe=recipe,
        context=context,
        memory=state.memory,
        masks=masks,
        **options,
      ),
      argnums=(0, 1),
      has_aux=True,
    )(trained, images_adv, batch_stats, examples)
    method_state = method.next_state(method_state, examples.images, by_images)
    return (
      gradient,
      aux.batch_stats,
      (method_state, aux.metrics, aux.memory_update),
    )

  gradient, batch_stats, (method_state, values, memory_update) = (
    accumulation.gradient(
      of_part,
      trained,
      state.batch_stats,
      (examples, state.adversarial_state.arrays),
      recipe.accumulate,
    )
  )
  gradient = parallel.pmean(gradient)
  updates, opt_state = recipe.optimizer.update(
    gradient, state.opt_state, trained
  )
  params, projections = optax.apply_updates(trained, updates)
  memory = state.memory
  if jax.tree.leaves(memory_update):
    # The memory is the same on all devices.
    gathered = parallel.all_gather((memory_update, examples.indices))
    memory = recipe.distillation.method.remember(memory, *gathered)
  state = state.replace(
    params=params,
    batch_stats=batch_stats,
    opt_state=opt_state,
    adversarial_state=parallel.PerImage(method_state),
    projections=projections,
    memory=memory,
  )
  return state, values

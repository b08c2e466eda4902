"""One step of training, from a batch of images to the next state.

  augment -> ask the teacher -> perturb the images -> loss -> gradient -> update

A step is written for one device: it takes this device's share of a batch and
reduces over `parallel.AXIS`, so that N devices on a batch give what one device
gives on it. BatchNorm takes its statistics over all devices, Gumbel draws are
the same on all of them, and every image has a random key of its own, made from
the step and the image's position in the global batch.

Metrics are summed up over the global batch, to be divided by their `count`
once, at the end.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from rnascl_jax import losses
from rnascl_jax.attacks import unrolling
from rnascl_jax.base import Array, Key, PyTree
from rnascl_jax.data import batches, mixing
from rnascl_jax.distillation import compare
from rnascl_jax.models import networks
from rnascl_jax.runtime import parallel
from rnascl_jax.search import tutor_controls
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

# Folded into the key of an image's augmentation, whose own words are smaller.
_MIXING_KEY = 3


def make_train_step(
  recipe: Recipe,
) -> Callable[[TrainState, Context, Batch], tuple[TrainState, PyTree]]:
  """Makes a step of eq. (4), of eq. (6), or of a teacher's training.

  Args:
    recipe: what is trained, and how.

  Returns:
    step(state, context, batch) -> (state, sums), see `train_step`.
  """
  return functools.partial(train_step, recipe)


def train_step(
  recipe: Recipe,
  state: TrainState,
  context: Context,
  batch: Batch,
  *,
  tutors: PyTree | None = None,
  masks: tuple = (),
  objective: Callable[..., Array] = losses.training_objective,
) -> tuple[TrainState, dict[str, Array]]:
  """Updates the weights on one batch: once, or once for each replay.

  Args:
    recipe: what is trained, and how.
    state: before the step.
    context: of the stage.
    batch: this device's share of the batch.
    tutors: weights [S, T]; None for those of the context.
    masks: of a supernet, one entry; empty for other networks.
    objective: of the loss's terms, see `loss.loss_fn`.

  Returns:
    The state after the step, and its metrics: sums over the global batch, of
    means over replays, and the `count` of images.
  """
  method = recipe.adversarial
  network = networks.classifier(recipe.net, *masks)
  examples = prepare(recipe, context, state.step, batch, recipe.accumulate)
  options = {
    'recipe': recipe,
    'context': context,
    'tutors': tutors_at(recipe, context, state.step)
    if tutors is None
    else tutors,
    'masks': masks,
    'objective': objective,
    'step': state.step,
  }

  def replay(state: TrainState, index: Array | None):
    trained = state.params, state.projections
    keys = examples.keys
    if index is not None:
      keys = jax.vmap(jax.random.fold_in, (0, None))(keys, index)

    def gradient_of(batch_stats: PyTree, part: tuple[Examples, PyTree]):
      examples, method_state = part
      images_adv, batch_stats, method_state = method.perturb(
        network,
        state.params,
        batch_stats,
        method_state,
        examples.keys,
        examples.images,
        examples.labels,
        compare.teacher_predictions(
          recipe.distillation, context.teacher, examples.teacher
        ),
      )
      loss = functools.partial(loss_fn, memory=state.memory, **options)
      # Where the gradient is taken; with AWP the weights are at their worst.
      at = trained
      if method.perturb_weights is not None:
        (slope, _), _ = jax.grad(loss, has_aux=True)(
          trained, images_adv, batch_stats, examples
        )
        worst = method.perturb_weights(
          state.params, parallel.pmean(slope), state.step
        )
        at = worst, state.projections
      (gradient, by_images), aux = jax.grad(loss, (0, 1), has_aux=True)(
        at, images_adv, batch_stats, examples
      )
      method_state = method.next_state(method_state, examples.images, by_images)
      results = method_state, aux.metrics, aux.memory_update
      return gradient, aux.batch_stats, results

    in_parts = accumulation.mean_gradient(
      gradient_of, trained, recipe.accumulate
    )
    gradient, batch_stats, (method_state, values, memory_update) = in_parts(
      state.batch_stats,
      (examples._replace(keys=keys), state.adversarial_state.arrays),
    )
    updates, opt_state = recipe.optimizer.update(
      parallel.pmean(gradient), state.opt_state, trained
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

  if method.replays == 1:
    new, values = replay(state, None)
  else:
    unroll = unrolling.choose(
      replay, state, jnp.int32(0), length=method.replays
    )
    new, history = jax.lax.scan(
      replay, state, jnp.arange(method.replays), unroll=unroll
    )
    values = jax.tree.map(lambda x: jnp.mean(x, axis=0), history)
  if recipe.average is not None:
    average = recipe.average(state.average, new.own_variables, step=state.step)
    new = new.replace(average=average)
  return new.replace(step=state.step + 1), sum_up(values)


def tutors_at(recipe: Recipe, context: Context, step: Array) -> PyTree:
  """The tutor weights [S, T] of a step: the context's, or a draw of them.

  A draw is the same on all devices and in both halves of a search's batch.
  """
  if not recipe.distillation.redraws:
    return context.tutors
  # Positions of images are smaller, so no image has this key.
  key = jax.random.fold_in(jax.random.key(context.seed), step)
  key = jax.random.fold_in(key, jnp.uint32(2**32 - 2))
  return tutor_controls.draw(key, context.tutors)


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
  keys, images, labels = augment(recipe, context, step, batch)  # keys [B, 2]

  def ask(carry: None, images: Array):
    distillation = recipe.distillation
    return carry, compare.ask_teacher(distillation, context.teacher, images)

  _, teacher = accumulation.run(ask, None, images, parts)
  return Examples(keys[:, 1], images, labels, batch.indices, teacher)


def augment(
  recipe: Recipe, context: Context, step: Array, batch: Batch
) -> tuple[Key, Array, Array]:
  """Augments a batch: two keys for each image, the float images and labels.

  All follow from the seed, the step and the images' positions alone. The first
  key of an image is used up; the second is for what comes after.

  Args:
    recipe: of the step.
    context: of the stage.
    step: steps done.
    batch: this device's share.
  """
  key = jax.random.fold_in(jax.random.key(context.seed), step)
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch.positions)
  pairs = jax.vmap(jax.random.split)(keys)  # [B, 2]
  images = jax.vmap(recipe.augment)(pairs[:, 0], batches.to_float(batch.images))
  labels = batch.labels
  if recipe.mixing is not None:
    mix_keys = jax.vmap(jax.random.fold_in, (0, None))(pairs[:, 0], _MIXING_KEY)
    images, labels = mixing.mix(recipe.mixing, mix_keys, images, labels)
  return pairs, images, labels

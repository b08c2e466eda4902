"""One step of training and of evaluation, as pure functions.

A step is written for one device: it takes this device's share of a batch and
reduces over `parallel.AXIS`, so that N devices on a batch give what one device
gives on it. BatchNorm takes its statistics over all devices, Gumbel draws are
the same on all of them, and every image has a random key of its own, made from
the step and the image's position in the global batch. A device may go through
its share in several parts, see `accumulation`.

`make_train_step` returns `step(state, context, batch) -> (state, sums)`, and
`search_steps.make_search_step` does so for the search; `sums` are metrics added
up over the global batch, to be divided by their `count` once, at the end.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnascl_jax import losses
from rnascl_jax.attacks import unrolling
from rnascl_jax.base import Array, Key, PyTree, Variables
from rnascl_jax.data import batches
from rnascl_jax.models import networks
from rnascl_jax.runtime import metrics, parallel
from rnascl_jax.training import accumulation, adversarial, lessons
from rnascl_jax.training.lessons import Distillation, Examples

# One image [H, W, C] in [0, 1] and a key -> an image of the same shape.
Augment = Callable[[Key, Array], Array]


class TrainState(flax.struct.PyTreeNode):
  """All that training changes.

  Attributes:
    step: int32 scalar, steps done.
    params: of the network.
    batch_stats: running statistics of BatchNorm.
    opt_state: of the optimiser of the weights and projections.
    regime_state: of the training regime, an entry for each image of a batch.
    projections: parameters of what a method compares with a teacher, or `()`.
    memory: of a method, the same on all devices, or `()`.
  """

  step: Array
  params: PyTree
  batch_stats: PyTree
  opt_state: PyTree
  regime_state: parallel.PerImage
  projections: PyTree = ()
  memory: PyTree = ()

  @property
  def variables(self) -> Variables:
    return {'params': self.params, 'batch_stats': self.batch_stats}


class Batch(NamedTuple):
  """One device's share of a batch.

  Attributes:
    images: [B, H, W, C] uint8.
    labels: [B] int32.
    positions: [B] int32, where the images stand in the global batch.
    indices: [B] int32, where they stand in the training split, or `()` where no
      method asks.
  """

  images: Array
  labels: Array
  positions: Array
  indices: PyTree = ()


class Context(flax.struct.PyTreeNode):
  """What a stage uses and does not change; arrays, so nothing recompiles.

  Attributes:
    seed: uint32 scalar; with the step it decides every random draw.
    teacher: variables of the teacher, or `()`.
    tutors: [S, T] one-hot tutor weights of the training phase, or `()`.
    kl_weight: scalar, weight of the method, the divergence of eq. (4).
    gamma: scalar, weight of the attention loss.
  """

  seed: Array
  teacher: PyTree
  tutors: PyTree
  kl_weight: Array
  gamma: Array


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What a step of training is made of.

  Attributes:
    net: with BatchNorm over `parallel.AXIS`.
    optimizer: of the weights.
    regime: on which images to train.
    distillation: what to learn from a teacher.
    augment: changes one image at random.
    accumulate: parts of this device's share that go one after another; their
      number divides it.
  """

  net: nn.Module
  optimizer: optax.GradientTransformation
  regime: adversarial.Regime
  distillation: Distillation
  augment: Augment
  accumulate: int = 1


# What is to be minimised on some examples, with a method's memory.
MakeObjective = Callable[[Examples, PyTree], adversarial.Objective]
# Of trainings whose method has no memory.
_NO_LABELS = np.zeros(0, np.int32)


def init_state(
  recipe: Recipe,
  key: Key,
  image_shape: tuple[int, ...],
  batch_size: int,
  labels: np.ndarray = _NO_LABELS,
) -> TrainState:
  """The state before the first step, on the host's default device.

  Args:
    recipe: of the step.
    key: of the weights.
    image_shape: (H, W, C).
    batch_size: images of a global batch that move the weights.
    labels: [N] of all training images, for methods with a memory of them.
  """
  images = jnp.zeros((1, *image_shape))
  init = jax.jit(lambda k: recipe.net.init(k, images, train=False))
  return start_from(recipe, init(key), image_shape, batch_size, key, labels)


def start_from(
  recipe: Recipe,
  variables: Variables,
  image_shape: tuple[int, ...],
  batch_size: int,
  key: Key | None = None,
  labels: np.ndarray = _NO_LABELS,
) -> TrainState:
  """The same with given weights, such as those of a trained network.

  The key is that of the method's projections and memory, which are new.
  """
  projections, memory = lessons.init(
    recipe.distillation,
    recipe.net,
    jax.random.fold_in(jax.random.key(0) if key is None else key, 1),
    image_shape,
    labels,
  )
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=variables['params'],
    batch_stats=variables.get('batch_stats', {}),
    opt_state=recipe.optimizer.init((variables['params'], projections)),
    regime_state=parallel.PerImage(
      recipe.regime.init((batch_size, *image_shape))
    ),
    projections=projections,
    memory=memory,
  )


def sum_up(values: adversarial.Metrics) -> dict[str, Array]:
  """Adds metrics up over this device's images and over all devices."""
  mask = jnp.ones_like(values['loss'], bool)
  return parallel.psum(metrics.masked_sums(values, mask))


def prepare(
  recipe: Recipe, context: Context, step: Array, batch: Batch, parts: int
) -> Examples:
  """Augments a batch and asks the teacher.

  Args:
    recipe: of the step.
    context: of the stage.
    step: steps done.
    batch: this device's share.
    parts: in which it goes through the teacher.

  Returns:
    The examples, with float images.
  """
  key = jax.random.fold_in(jax.random.key(context.seed), step)
  keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch.positions)
  pairs = jax.vmap(jax.random.split)(keys)  # [B, 2]
  images = jax.vmap(recipe.augment)(pairs[:, 0], batches.to_float(batch.images))
  lesson = lessons.teach(recipe.distillation, context.teacher, images, parts)
  return Examples(pairs[:, 1], images, batch.labels, batch.indices, lesson)


def update(
  recipe: Recipe,
  network: adversarial.Network,
  make_objective: MakeObjective,
  state: TrainState,
  examples: Examples,
) -> tuple[TrainState, adversarial.Metrics]:
  """The updates of the weights on one batch: one, or one for each replay.

  Args:
    recipe: of the step.
    network: to be trained.
    make_objective: what to minimise, for each part of the batch.
    state: before the step.
    examples: this device's share of the batch.

  Returns:
    The state after them, and metrics [B], means over replays.
  """
  replays = recipe.regime.replays

  def once(state: TrainState, examples: Examples):
    return _update_once(recipe, network, make_objective, state, examples)

  def replay(state: TrainState, index: Array):
    own = jax.vmap(jax.random.fold_in, (0, None))(examples.keys, index)
    return once(state, examples._replace(keys=own))

  if replays == 1:
    new, values = once(state, examples)
  else:
    unroll = unrolling.choose(replay, state, jnp.int32(0), length=replays)
    new, history = jax.lax.scan(
      replay, state, jnp.arange(replays), unroll=unroll
    )
    values = jax.tree.map(lambda x: jnp.mean(x, axis=0), history)
  return new.replace(step=state.step + 1), values


def _update_once(
  recipe: Recipe,
  network: adversarial.Network,
  make_objective: MakeObjective,
  state: TrainState,
  examples: Examples,
) -> tuple[TrainState, adversarial.Metrics]:
  """One update, with the mean gradient of all parts of the batch."""
  trained = state.params, state.projections

  def of_part(batch_stats: PyTree, given: tuple[Examples, PyTree]):
    part, regime_state = given
    (_, (batch_stats, *of_images)), grads = recipe.regime.value_and_grad(
      network,
      make_objective(part, state.memory),
      trained,
      batch_stats,
      regime_state,
      part.keys,
      part.images,
      part.labels,
    )
    return grads, batch_stats, tuple(of_images)

  grads, batch_stats, (regime_state, values) = accumulation.gradient(
    of_part,
    trained,
    state.batch_stats,
    (examples, state.regime_state.arrays),
    recipe.accumulate,
  )
  grads = parallel.pmean(grads)
  updates, opt_state = recipe.optimizer.update(grads, state.opt_state, trained)
  params, projections = optax.apply_updates(trained, updates)
  notes = values.pop('notes', ())
  new_state = state.replace(
    params=params,
    batch_stats=batch_stats,
    opt_state=opt_state,
    regime_state=parallel.PerImage(regime_state),
    projections=projections,
    memory=_remember(recipe, state.memory, notes, examples.indices),
  )
  return new_state, values


def _remember(
  recipe: Recipe, memory: PyTree, notes: PyTree, indices: PyTree
) -> PyTree:
  """The method's memory after an update, the same on all devices."""
  if not jax.tree.leaves(notes):
    return memory
  everything = parallel.all_gather((notes, indices))
  return recipe.distillation.method.remember(memory, *everything)


def make_train_step(
  recipe: Recipe,
) -> Callable[[TrainState, Context, Batch], tuple[TrainState, PyTree]]:
  """A step of eq. (4): cross-entropy, divergence, attention to fixed tutors.

  Serves teachers too, with a `Distillation` without teacher.

  Args:
    recipe: network, optimiser, regime, teacher and augmentation.

  Returns:
    The step, see the module's docstring.
  """

  def step(state: TrainState, context: Context, batch: Batch):
    def make_objective(
      examples: Examples, memory: PyTree
    ) -> adversarial.Objective:
      return adversarial.Objective(
        functools.partial(
          lessons.make_terms,
          recipe.distillation,
          memory,
          examples,
          context.tutors,
        ),
        functools.partial(
          losses.training_objective,
          kl_weight=context.kl_weight,
          gamma=context.gamma,
        ),
      )

    examples = prepare(recipe, context, state.step, batch, recipe.accumulate)
    network = lessons.taught(recipe.distillation, recipe.net)
    state, values = update(recipe, network, make_objective, state, examples)
    return state, sum_up(values)

  return step


def make_eval_step(
  net: nn.Module,
) -> Callable[[Variables, Array, Array, Array], dict[str, Array]]:
  """A step of evaluation: sums over the images whose mask is true.

  Args:
    net: the network.

  Returns:
    step(variables, images uint8 [B, H, W, C], labels [B], mask [B]) -> sums of
    `loss` and `accuracy` over all devices, and their `count`.
  """

  def step(variables: Variables, images: Array, labels: Array, mask: Array):
    logits, _ = networks.apply(net, variables, batches.to_float(images))
    values = {
      'loss': losses.cross_entropy(logits, labels),
      'accuracy': metrics.accuracy(logits, labels),
    }
    return parallel.psum(metrics.masked_sums(values, mask))

  return step

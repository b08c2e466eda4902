"""The loss of every step: of training, of both halves of a search, of teachers.

  L = CE + kl_weight KL + gamma L_attn                     eq. (4)
  L = CE + kl_weight KL + gamma L_attn + beta KL(p, p') + L_CAC   eq. (6)

Eq. (2) multiplies the first by the network's cost: it is another `objective` of
the same terms. An adversarial method says which view of an image, x or x', each
term is computed on, and may have a loss of its own in the place of CE. For KL
and L_attn the teacher always sees x.

Reference:
  Nath et al., RNAS-CL, IJCV 2024, sections 3.4 and 3.5.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnascl_jax import losses
from rnascl_jax.base import Array, PyTree
from rnascl_jax.distillation import compare
from rnascl_jax.distillation.methods import Images
from rnascl_jax.models import networks
from rnascl_jax.runtime import metrics
from rnascl_jax.training.adversarial.method import Predictions, View
from rnascl_jax.training.train_state import Context, Examples, Recipe

# Keys of the attack on an image are folded with replays, which are fewer.
_METHOD_KEY = 2**31


class Aux(NamedTuple):
  """What the loss gives beside its mean.

  Attributes:
    batch_stats: running statistics after its passes.
    metrics: for each name an array [B], `loss` and `accuracy` among them.
    memory_update: of the distillation method, leaves [B, ...].
  """

  batch_stats: PyTree
  metrics: dict[str, Array]
  memory_update: PyTree


def loss_fn(
  trained: tuple[PyTree, PyTree],
  images_adv: Array,
  batch_stats: PyTree,
  examples: Examples,
  *,
  recipe: Recipe,
  context: Context,
  memory: PyTree = (),
  tutors: PyTree = (),
  masks: tuple = (),
  objective: Callable[..., Array] = losses.training_objective,
  step: Array | int = 0,
) -> tuple[Array, Aux]:
  """Computes the mean loss over examples, for `jax.grad`.

  Args:
    trained: parameters of the network, and projections of the method.
    images_adv: [B, H, W, C], adversarial views x' of the images x.
    batch_stats: running statistics before.
    examples: B images, and what the teacher says of them.
    recipe: of the step.
    context: of the stage.
    memory: of the distillation method.
    tutors: tutor weights [S, T], if layers are compared.
    masks: of a supernet, one entry; empty for other networks.
    objective: (terms, kl_weight=, gamma=) -> [B].
    step: int32 scalar, steps done.

  Returns:
    A scalar, and what else comes out of the same passes.
  """
  params, projections = trained
  method = recipe.adversarial
  network = networks.functional(recipe.net, *masks)

  # All passes are in training mode; their order is that of BatchNorm's updates.
  views: dict[View, Array] = {
    'clean': examples.images,
    'adversarial': images_adv,
  }
  outputs: dict[View, networks.Outputs] = {}
  for view in method.all_passes:
    output, batch_stats = network(params, batch_stats, views[view], train=True)
    outputs.setdefault(view, output)
  labelled = outputs[method.labels_on]
  distilled = outputs[method.distill_on]

  cross_entropy = losses.cross_entropy(
    labelled.logits, examples.labels, smoothing=recipe.label_smoothing
  )
  keys = jax.vmap(jax.random.fold_in, (0, None))(examples.keys, _METHOD_KEY)
  compared = compare.terms(
    recipe.distillation,
    distilled,
    examples.teacher,
    Images(keys, examples.labels, examples.indices),
    tutors=tutors,
    projections=projections,
    memory=memory,
  )
  robust = jnp.zeros_like(cross_entropy)
  if method.robust_term is not None:
    robust = method.robust_term(
      outputs['clean'].logits, outputs['adversarial'].logits
    )
  own = cross_entropy
  if method.loss is not None:
    student = {view: output.logits for view, output in outputs.items()}
    teacher = _teacher_logits(recipe, context, examples, images_adv)
    own = method.loss(Predictions(student, teacher, examples.labels, step))
  terms = losses.Terms(own, compared.kl, compared.attention, robust)
  loss = objective(terms, kl_weight=context.kl_weight, gamma=context.gamma)

  values = {
    'loss': loss,
    'accuracy': metrics.accuracy(labelled.logits, examples.labels),
    'cross_entropy': cross_entropy,
    'kl': compared.kl,
    'attention': compared.attention,
  }
  for view in outputs:
    if view != method.labels_on:
      values[f'{view}_accuracy'] = metrics.accuracy(
        outputs[view].logits, examples.labels
      )
  if method.robust_term is not None:
    values['robust_term'] = robust
  if method.loss is not None:
    values['own_loss'] = own
  return jnp.mean(loss), Aux(batch_stats, values, compared.memory_update)


def _teacher_logits(
  recipe: Recipe, context: Context, examples: Examples, images_adv: Array
) -> dict[View, Array]:
  """The teacher's predictions that a method's own loss needs."""
  teacher = compare.teacher_predictions(
    recipe.distillation, context.teacher, examples.teacher
  )
  logits: dict[View, Array] = {}
  if teacher is None:
    return logits
  for view in recipe.adversarial.teacher_sees:
    logits[view] = teacher.logits
    if view == 'adversarial':
      # The teacher is not trained.
      logits[view] = jax.lax.stop_gradient(teacher.logits_fn(images_adv))
  return logits

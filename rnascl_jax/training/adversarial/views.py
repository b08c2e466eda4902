"""The loss of an image and its adversarial view, with BatchNorm's updates.

Every regime but the standard one ends here: two views x and x', the objective
on one of them, and terms that compare both.
"""

import dataclasses

import jax
import jax.numpy as jnp

from rnascl_jax import losses
from rnascl_jax.base import Array, PyTree
from rnascl_jax.runtime import metrics
from rnascl_jax.training.adversarial.regime import (
  Metrics,
  Network,
  Objective,
  Robustness,
)

# What a network makes of images: logits [B, K] and hints.
_Outputs = tuple[Array, PyTree]


@dataclasses.dataclass(frozen=True)
class Views:
  """Which view serves what.

  Attributes:
    labels_on_adversarial: whether the cross-entropy is that of x', not x.
    lessons_on_adversarial: whether what is learned from a teacher is.
    robustness: compares both views, or None.
    clean_again: whether running statistics see x once more, after x'.
  """

  labels_on_adversarial: bool
  lessons_on_adversarial: bool
  robustness: Robustness | None = None
  clean_again: bool = False

  @property
  def needs_clean(self) -> bool:
    """Whether x is passed through the network at all."""
    used = self.labels_on_adversarial and self.lessons_on_adversarial
    return not used or self.robustness is not None


def loss(
  views: Views,
  network: Network,
  objective: Objective,
  params: PyTree,
  batch_stats: PyTree,
  images: Array,
  images_adv: Array,
  labels: Array,
) -> tuple[Array, tuple[PyTree, Metrics]]:
  """The mean loss over a batch, for `jax.value_and_grad`.

  Args:
    views: which view serves what.
    network: see `regime`.
    objective: see `regime`.
    params: of the network.
    batch_stats: running statistics before the step.
    images: [B, H, W, C].
    images_adv: [B, H, W, C], their adversarial views.
    labels: [B].

  Returns:
    The mean, and (running statistics, metrics).
  """
  clean: _Outputs | None = None
  if views.needs_clean:
    clean, batch_stats = network(params, batch_stats, images, train=True)
  adv, batch_stats = network(params, batch_stats, images_adv, train=True)
  if views.clean_again:
    _, batch_stats = network(params, batch_stats, images, train=True)
  found = _measure(views, objective, clean, adv, labels)
  return jnp.mean(found['loss']), (batch_stats, found)


def _measure(
  views: Views,
  objective: Objective,
  clean: _Outputs | None,
  adv: _Outputs,
  labels: Array,
) -> Metrics:
  """The metrics of a step, each [B]; the loss is one of them."""
  if clean is None:
    return measure(objective, objective.terms(*adv), adv[0], labels)
  seen = adv if views.labels_on_adversarial else clean
  terms = objective.terms(*seen)
  if views.labels_on_adversarial != views.lessons_on_adversarial:
    taught = objective.terms(*(adv if views.lessons_on_adversarial else clean))
    terms = terms._replace(
      kl=taught.kl, attention=taught.attention, notes=taught.notes
    )
  if views.labels_on_adversarial:
    extra = {'clean_accuracy': metrics.accuracy(clean[0], labels)}
  else:
    extra = {'adversarial_accuracy': metrics.accuracy(adv[0], labels)}
  if views.robustness is not None:
    compared = views.robustness(clean[0], adv[0])
    terms = terms._replace(robustness=compared)
    extra['robustness'] = compared
  return measure(objective, terms, seen[0], labels) | extra


def measure(
  objective: Objective, terms: losses.Terms, logits: Array, labels: Array
) -> Metrics:
  """The metrics that all regimes have, each [B], and notes if there are any.

  Args:
    objective: see `regime`.
    terms: of the loss.
    logits: [B, K], of the view whose cross-entropy is in the terms.
    labels: [B].
  """
  notes = {'notes': terms.notes} if jax.tree.leaves(terms.notes) else {}
  return notes | {
    'loss': objective.total(terms),
    'accuracy': metrics.accuracy(logits, labels),
    'cross_entropy': terms.cross_entropy,
    'kl': terms.kl,
    'attention': terms.attention,
  }

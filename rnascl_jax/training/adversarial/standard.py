"""Training on the images as they are."""

import jax
import jax.numpy as jnp

from rnascl_jax.base import Array, Key, PyTree
from rnascl_jax.training.adversarial import views
from rnascl_jax.training.adversarial.regime import (
  Network,
  Objective,
  Regime,
  no_state,
)


def standard() -> Regime:
  """Training on the images as they are."""

  def value_and_grad(
    network: Network,
    objective: Objective,
    params: PyTree,
    batch_stats: PyTree,
    state: PyTree,
    keys: Key,
    images: Array,
    labels: Array,
  ):
    del keys

    def mean_loss(params):
      (logits, taps), new = network(params, batch_stats, images, train=True)
      found = views.measure(
        objective, objective.terms(logits, taps), logits, labels
      )
      return jnp.mean(found['loss']), (new, state, found)

    return jax.value_and_grad(mean_loss, has_aux=True)(params)

  return Regime(no_state, value_and_grad)

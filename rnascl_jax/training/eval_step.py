"""One step of evaluation on clean images."""

from collections.abc import Callable

import flax.linen as nn

from rnascl_jax import losses
from rnascl_jax.base import Array, Variables
from rnascl_jax.data import batches
from rnascl_jax.models import networks
from rnascl_jax.runtime import metrics, parallel


def make_eval_step(
  net: nn.Module,
) -> Callable[[Variables, Array, Array, Array], dict[str, Array]]:
  """Makes a step that sums the loss and the accuracy up.

  Args:
    net: the network.

  Returns:
    step(variables, images uint8 [B, H, W, C], labels [B], mask [B]) -> sums of
    `loss` and `accuracy` over the images of all devices whose mask is true, and
    their `count`.
  """

  def step(variables: Variables, images: Array, labels: Array, mask: Array):
    logits, _ = networks.apply(net, variables, batches.to_float(images))
    values = {
      'loss': losses.cross_entropy(logits, labels),
      'accuracy': metrics.accuracy(logits, labels),
    }
    return parallel.psum(metrics.masked_sums(values, mask))

  return step

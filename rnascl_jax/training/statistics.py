"""One step of a pass that computes an average network's statistics anew.

BatchNorm's running statistics belong to the weights that made them, and their
average is not that of the average weights. So the average network passes once
over the training images of an epoch, in training mode, and each statistic is
the mean of those of the batches. The images are clean ones, as in the code of
Chen et al., in the batches of that epoch and augmented as they were there.

Reference:
  Izmailov et al., Averaging weights leads to wider optima and better
  generalization, UAI 2018, algorithm 1.
  Chen et al., Robust overfitting may be mitigated by properly learned
  smoothening, ICLR 2021, and their code, for adversarial training.
"""

from collections.abc import Callable

import flax
import jax
import jax.numpy as jnp

from rnascl_jax.base import Array, Variables
from rnascl_jax.models import batch_norm, networks
from rnascl_jax.training import averaging, train_step
from rnascl_jax.training.train_state import Batch, Context, Recipe


class StatisticsState(flax.struct.PyTreeNode):
  """What a pass changes.

  Attributes:
    step: int32 scalar, the step of the training that saw the next batch.
    average: of the weights; its `batch_stats` are the means over the batches of
      the pass so far, and of no meaning before the first one.
  """

  step: Array
  average: Variables


def make_statistics_step(
  recipe: Recipe, steps_per_epoch: int
) -> Callable[..., tuple[StatisticsState, dict[str, Array]]]:
  """Makes a step of a pass over an epoch.

  Args:
    recipe: of the training.
    steps_per_epoch: batches of the pass.

  Returns:
    step(state, context, batch) -> (state, {}), for one device, which reduces
    over `parallel.AXIS` as a training step does.
  """
  network = networks.functional(recipe.net)

  def step(state: StatisticsState, context: Context, batch: Batch):
    _, images, _ = train_step.augment(recipe, context, state.step, batch)
    params, batch_stats = state.average['params'], state.average['batch_stats']
    none = jax.tree.map(jnp.zeros_like, batch_stats)
    # From zero an update leaves the batch's share of the statistics alone.
    _, shares = network(params, none, images, train=True)
    own = jax.tree.map(lambda x: x / (1 - batch_norm.MOMENTUM), shares)
    batch_stats = averaging.equal(
      batch_stats, own, first=1, every=1, step=state.step % steps_per_epoch
    )
    average = {'params': params, 'batch_stats': batch_stats}
    return StatisticsState(state.step + 1, average), {}

  return step

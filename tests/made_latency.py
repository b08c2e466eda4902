"""Tables of latencies that nobody measured."""

from collections.abc import Callable

from rnascl_jax.search import latency_tables
from rnascl_jax.search.latency_tables import LatencyTable, MeasuredBlock
from rnascl_jax.search.space import SearchSpace

DEVICE = 'a phone'


def table(
  space: SearchSpace,
  image_shape: tuple[int, int, int],
  num_classes: int = 10,
  *,
  time: Callable[[MeasuredBlock], float] = lambda block: float(
    block.entering + 10 * block.features
  ),
) -> LatencyTable:
  """A table of one image, and of two that take half as long again.

  Args:
    space: whose blocks are in it.
    image_shape: (H, W, C).
    num_classes: K.
    time: of a block, microseconds.
  """
  blocks = [
    block
    for choices in latency_tables.measured_blocks(space, image_shape)
    for row in choices
    for block in row
  ]
  return LatencyTable(
    device=DEVICE,
    runtime='a runtime',
    network=latency_tables.network_facts(space, image_shape, num_classes),
    batches=(1, 2),
    stem=(5.0, 7.5),
    blocks={block: (time(block), 1.5 * time(block)) for block in blocks},
    head={
      width: (0.1 * width, 0.15 * width) for width in space.blocks[-1].choices
    },
  )

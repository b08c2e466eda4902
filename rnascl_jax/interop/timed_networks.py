"""The networks of a search space, and their parts, that are timed."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rnascl_jax.base import Variables
from rnascl_jax.models.student import Student, StudentPart
from rnascl_jax.search import latency_tables, space_layers, spaces
from rnascl_jax.search.space import Operator, SearchSpace

Shape = tuple[int, int, int]


class Plan(NamedTuple):
  """What is measured of a search space.

  Attributes:
    space: the search space.
    image_shape: (H, W, C).
    num_classes: K.
    batches: numbers of images at once.
    repeats: turns whose median is taken.
    networks: random derived networks whose times are compared with sums.
    seed: of these networks.
  """

  space: SearchSpace
  image_shape: Shape
  num_classes: int
  batches: tuple[int, ...] = (1, 64)
  repeats: int = 41
  networks: int = 20
  seed: int = 0


def random_features(
  space: SearchSpace, number: int, seed: int
) -> list[tuple[int, ...]]:
  """Widths of different random networks: `number`, or all that there are."""
  random = np.random.default_rng(seed)
  most = math.prod(len(block.choices) for block in space.blocks)
  drawn: dict[tuple[int, ...], None] = {}
  while len(drawn) < min(number, most):
    widths = (random.choice(block.choices) for block in space.blocks)
    drawn[tuple(int(width) for width in widths)] = None
  return list(drawn)


def parts(plan: Plan) -> dict[Any, tuple[Student, Shape]]:
  """The stem, all blocks and all heads, with the shapes of what enters."""
  space = plan.space
  first = [block.choices[0] for block in space.blocks]
  found: dict[Any, tuple[Student, Shape]] = {
    'stem': (student(plan, first, -1), plan.image_shape)
  }
  table = latency_tables.measured_blocks(space, plan.image_shape)
  for index, choices in enumerate(table):
    for block in (block for row in choices for block in row):
      features = first[:index] + [block.features] + first[index + 1 :]
      if index:
        features[index - 1] = block.entering
      operators = [Operator()] * len(first)
      operators[index] = Operator(
        block.kernel_size or space.kernel_size, block.expansion
      )
      shape = block.height, block.width, block.entering
      net = student(plan, features, index, operators)
      found.setdefault(block, (net, shape))
  last = space_layers.maps(space, plan.image_shape)[-1]
  for width in space.blocks[-1].choices:
    net = student(plan, [*first[:-1], width], len(first))
    found[width] = net, (*last, width)
  return found


def student(
  plan: Plan,
  features: Sequence[int],
  index: int | None = None,
  operators: Sequence[Operator] = (),
) -> Student:
  """A derived network, or the part `index` of it."""
  channels = plan.image_shape[2]
  fields: dict[str, Any] = {
    'space': spaces.with_features(plan.space, features, operators),
    'num_classes': plan.num_classes,
    # Any but those that a compiler would leave out.
    'mean': (0.5,) * channels,
    'std': (0.25,) * channels,
  }
  return (
    Student(**fields) if index is None else StudentPart(index=index, **fields)
  )


def variables(net: Student, shape: Shape) -> Variables:
  """Random weights, as large as trained ones; nothing is compiled for them."""
  shapes = jax.eval_shape(
    lambda key: net.init(key, np.zeros((1, *shape), np.float32), train=False),
    jax.random.key(0),
  )
  random = np.random.default_rng(0)

  def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    name = path[-1].key
    if name == 'kernel':
      scale = np.prod(leaf.shape[:-1]) ** -0.5
      return (scale * random.standard_normal(leaf.shape)).astype(np.float32)
    return np.full(leaf.shape, float(name in ('scale', 'var')), np.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)

"""Measures the blocks of a search space, and whether their times add up.

JAX runs a block as a jitted function on its default device, ONNX Runtime as a
graph on a CPU. Times are of the part alone: neither has the call
of a program from Python in it, which takes longer than a small block.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging

from rnascl_jax.base import Variables
from rnascl_jax.evaluation import timing
from rnascl_jax.evaluation.timing import Timed
from rnascl_jax.interop import onnx_latency
from rnascl_jax.models.student import Student, StudentPart
from rnascl_jax.reporting import statistics
from rnascl_jax.runtime import provenance
from rnascl_jax.search import cost_tables, latency_tables, spaces
from rnascl_jax.search.latency_tables import LatencyTable, MeasuredBlock
from rnascl_jax.search.spaces import SearchSpace

Shape = tuple[int, int, int]
# Of a part, after which an accelerator asks the host.
_RUNS = 32


class Runtime(NamedTuple):
  """What runs networks.

  Attributes:
    prepare: makes something to be timed of a derived network or a part of it,
      of its variables and of the shape [B, H, W, C] of its input.
    name: with the version.
    device: by the name of its maker.
  """

  prepare: Callable[[Student, Variables, tuple[int, ...]], Timed]
  name: str
  device: str


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
  repeats: int = 11
  networks: int = 20
  seed: int = 0


def runtime(name: str, threads: int = 1) -> Runtime:
  """Starts a runtime.

  Args:
    name: in `RUNTIMES`.
    threads: of a CPU that it may use; 0 for all.

  Raises:
    ValueError: there is no such runtime, or there are not so many cores.
    MissingPackageError: its package is not there.
  """
  if name not in RUNTIMES:
    raise ValueError(
      f'--runtime={name} is unknown; there are {", ".join(RUNTIMES)}.'
    )
  return RUNTIMES[name](threads)


def measure(plan: Plan, by: Runtime) -> LatencyTable:
  """Times every block of a space, and random networks of it.

  All of them are run in turns in one process, so that they share what else the
  machine does.

  Args:
    plan: what is measured.
    by: the runtime.

  Raises:
    ValueError: if the space does not fit the images.
  """
  facts = plan.space, plan.image_shape, plan.num_classes
  shared = latency_tables.network_facts(*facts)
  parts = _parts(plan)
  drawn = random_features(plan.space, plan.networks, plan.seed)
  nets = {f: (_student(plan, f), plan.image_shape) for f in drawn}
  times = _times([*parts.values(), *nets.values()], plan, by)
  of_parts = dict(zip(parts, times, strict=False))
  table = LatencyTable(
    device=by.device,
    runtime=by.name,
    network=shared,
    batches=plan.batches,
    stem=of_parts['stem'],
    blocks={k: t for k, t in of_parts.items() if isinstance(k, MeasuredBlock)},
    head={k: t for k, t in of_parts.items() if isinstance(k, int)},
  )
  of_nets = dict(zip(drawn, times[len(parts) :], strict=True))
  return dataclasses.replace(table, additivity=additivity(plan, table, of_nets))


def times_of(
  networks: Iterable[SearchSpace],
  image_shape: Shape,
  num_classes: int,
  by: Runtime,
  *,
  batch: int = 1,
  repeats: int = 31,
) -> list[float]:
  """Times derived networks in turns in one process.

  Args:
    networks: spaces with one choice for each block.
    image_shape: (H, W, C).
    num_classes: K.
    by: the runtime.
    batch: images at once.
    repeats: turns whose median is taken.

  Returns:
    Microseconds for a batch, one for each network.
  """
  plans = [
    Plan(space, image_shape, num_classes, (batch,), repeats)
    for space in networks
  ]
  nets = [
    (_student(plan, [b.widest for b in plan.space.blocks]), image_shape)
    for plan in plans
  ]
  return [of_batch for (of_batch,) in _times(nets, plans[0], by)]


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


def additivity(
  plan: Plan,
  table: LatencyTable,
  measured: Mapping[tuple[int, ...], Sequence[float]],
) -> dict[str, Any]:
  """Compares sums of a table with measured times of networks.

  Args:
    plan: of the table.
    table: the times of the blocks.
    measured: microseconds of networks by their widths, for each batch.

  Returns:
    For each batch Spearman's rank correlation with its p-value, the relative
    error of the sums (its median and the largest one, absolute), and the median
    of sum over measured time, which a search does not see; and all networks.
  """
  by_batch = []
  networks: list[dict[str, Any]] = [{'features': f} for f in measured]
  for column, batch in enumerate(table.batches):
    tables = latency_tables.costs(
      table, plan.space, plan.image_shape, plan.num_classes, batch=batch
    )
    sums = [
      cost_tables.of_features(tables, plan.space, features)
      for features in measured
    ]
    times = [of_network[column] for of_network in measured.values()]
    for row, predicted, time in zip(networks, sums, times, strict=True):
      row[f'predicted_us_{batch}'] = round(predicted, 3)
      row[f'measured_us_{batch}'] = round(time, 3)
    by_batch.append(_agreement(batch, np.array(sums), np.array(times)))
  return {'batches': by_batch, 'networks': networks}


def _agreement(
  batch: int, sums: np.ndarray, times: np.ndarray
) -> dict[str, Any]:
  ranks = statistics.rank_correlation(sums, times)
  errors = np.abs(sums / times - 1) if len(sums) else np.array([np.nan])
  return {
    'batch': batch,
    'spearman': round(ranks.rho, 4) if ranks else None,
    'p_value': ranks.p_value if ranks else None,
    'median_error': round(float(np.median(errors)), 4),
    'largest_error': round(float(errors.max()), 4),
    'median_ratio': round(float(np.median(sums / times)), 4),
  }


def _jax(net: Student, variables: Variables, shape: tuple[int, ...]) -> Timed:
  return timing.looped(lambda x: net.apply(variables, x, train=False)[0], shape)


def _by_jax(threads: int) -> Runtime:
  timing.limit_cores(threads)
  name = f'JAX {jax.__version__}'
  if jax.default_backend() == 'cpu':
    name += _threads(threads)
  return Runtime(_jax, name, provenance.device_name())


def _by_onnx(threads: int) -> Runtime:
  name = f'ONNX Runtime {onnx_latency.version()}{_threads(threads)}'
  prepare = functools.partial(onnx_latency.prepare, threads=threads)
  return Runtime(prepare, name, provenance.device_name('cpu'))


def _threads(threads: int) -> str:
  return ', 1 thread' if threads == 1 else f', {threads or "all"} threads'


RUNTIMES: Mapping[str, Callable[[int], Runtime]] = {
  'jax': _by_jax,
  'onnx': _by_onnx,
}


def _times(
  nets: Sequence[tuple[Student, Shape]], plan: Plan, by: Runtime
) -> list[tuple[float, ...]]:
  """Microseconds of networks and parts, for each batch, from turns of all."""
  programs = []
  for net, shape in nets:
    variables = _variables(net, shape)
    for batch in plan.batches:
      programs.append(by.prepare(net, variables, (batch, *shape)))
    if len(programs) % 20 < len(plan.batches):
      logging.info(
        '%d of %d programs are compiled.',
        *(len(programs), len(nets) * len(plan.batches)),
      )
  flat = timing.medians(programs, repeats=plan.repeats)
  columns = len(plan.batches)
  rows = np.round(np.reshape(flat, (-1, columns)), 3)
  return [tuple(row) for row in rows.tolist()]


def _parts(plan: Plan) -> dict[Any, tuple[Student, Shape]]:
  """The stem, all blocks and all heads, with the shapes of what enters."""
  space = plan.space
  first = [block.choices[0] for block in space.blocks]
  parts: dict[Any, tuple[Student, Shape]] = {
    'stem': (_student(plan, first, -1), plan.image_shape)
  }
  table = latency_tables.measured_blocks(space, plan.image_shape)
  for index, choices in enumerate(table):
    for block in (block for row in choices for block in row):
      features = first[:index] + [block.features] + first[index + 1 :]
      if index:
        features[index - 1] = block.entering
      shape = block.height, block.width, block.entering
      parts.setdefault(block, (_student(plan, features, index), shape))
  last = spaces.maps(space, plan.image_shape)[-1]
  for width in space.blocks[-1].choices:
    net = _student(plan, [*first[:-1], width], len(first))
    parts[width] = net, (*last, width)
  return parts


def _student(
  plan: Plan, features: Sequence[int], index: int | None = None
) -> Student:
  """A derived network, or the part `index` of it."""
  channels = plan.image_shape[2]
  fields: dict[str, Any] = {
    'space': spaces.with_features(plan.space, features),
    'num_classes': plan.num_classes,
    # Any but those that a compiler would leave out.
    'mean': (0.5,) * channels,
    'std': (0.25,) * channels,
  }
  return (
    Student(**fields) if index is None else StudentPart(index=index, **fields)
  )


def _variables(net: Student, shape: Shape) -> Variables:
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

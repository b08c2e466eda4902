"""Measures the blocks of a search space, and whether their times add up.

JAX runs a block as a jitted function on its default device, ONNX Runtime as a
graph on a CPU. Times are of the part alone: neither has the call of a program
from Python in it, which takes longer than a small block.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from absl import logging

from rnascl_jax.base import Variables
from rnascl_jax.evaluation import timing
from rnascl_jax.evaluation.timing import Timed
from rnascl_jax.interop import additivity, onnx_latency, timed_networks
from rnascl_jax.interop.timed_networks import Plan, Shape
from rnascl_jax.models.student import Student
from rnascl_jax.runtime import provenance
from rnascl_jax.search import latency_tables
from rnascl_jax.search.latency_tables import LatencyTable, MeasuredBlock
from rnascl_jax.search.space import SearchSpace

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
  parts = timed_networks.parts(plan)
  drawn = timed_networks.random_features(plan.space, plan.networks, plan.seed)
  nets = {f: (timed_networks.student(plan, f), plan.image_shape) for f in drawn}
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
  return dataclasses.replace(
    table, additivity=additivity.compare(plan, table, of_nets)
  )


def times_of(
  networks: Iterable[SearchSpace],
  image_shape: Shape,
  num_classes: int,
  by: Runtime,
  *,
  batch: int = 1,
  repeats: int = 101,
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
  nets = []
  for plan in plans:
    features = [block.widest for block in plan.space.blocks]
    nets.append((timed_networks.student(plan, features), image_shape))
  return [of_batch for (of_batch,) in _times(nets, plans[0], by)]


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
    variables = timed_networks.variables(net, shape)
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

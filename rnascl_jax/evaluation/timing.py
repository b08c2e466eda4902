"""Times of programs that take much less than a millisecond.

Starting a program takes tens of microseconds, as much as a small network. So a
program is run many times in a loop that is itself compiled, and the loop is
timed. Programs that are compared are run in turns: what else the machine does
then disturbs all of them alike, and the median of the turns is taken. A turn
lasts 5 ms, after some runs that are not timed: what programs before it left in
the caches would decide the order of programs of a millisecond.
"""

import gc
import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnascl_jax.base import Array

# Seconds that a turn takes at least, so that starting it does not count.
_LEAST = 5e-3
# Of a turn, runs that come before those that are timed.
_WARM = 0.25
_MOST_RUNS = 2**20


class Timed(NamedTuple):
  """Something to be timed.

  Attributes:
    run: runs it as often as its argument says, and waits for the end.
    copies: how many of it a run has.
  """

  run: Callable[[int], object]
  copies: int = 1


def medians(programs: Sequence[Timed], *, repeats: int) -> list[float]:
  """Times programs in turns.

  Args:
    programs: what is timed; the first runs are warm-up.
    repeats: turns of each, at least 1.

  Returns:
    Median microseconds of one run of one copy, for each program.
  """
  counts = [_runs(program) for program in programs]
  times = np.empty((repeats, len(programs)))
  gc.collect()
  gc.disable()
  try:
    for turn in times:
      for index, (program, count) in enumerate(
        zip(programs, counts, strict=True)
      ):
        # Other programs have been in the caches.
        program.run(max(1, round(_WARM * count)))
        turn[index] = _seconds(program, count) / (count * program.copies)
  finally:
    gc.enable()
  return (1e6 * np.median(times, 0)).tolist()


def limit_cores(cores: int) -> None:
  """Has JAX on a CPU compute on some of the cores that this process has.

  To be called before JAX starts a device: then its threads are as many.

  Args:
    cores: how many; 0 for all.

  Raises:
    ValueError: there are not so many, or the operating system does not limit
      them.
  """
  if not cores:
    return
  if not hasattr(os, 'sched_setaffinity'):
    raise ValueError(
      f'--threads={cores} limits the cores of a process, which this operating '
      'system does not: use --threads=0, for all.'
    )
  own = os.sched_getaffinity(0)
  if cores > len(own):
    raise ValueError(
      f'--threads={cores} is more than the {len(own)} cores of this process.'
    )
  os.sched_setaffinity(0, sorted(own)[:cores])
  if jax.default_backend() != 'cpu':
    os.sched_setaffinity(0, own)


def looped(
  function: Callable[[Array], Array],
  shape: tuple[int, ...],
  *,
  runs: int = 1,
) -> Timed:
  """Compiles a loop of a function, whose number of turns is an argument.

  A number of each output is put into the next input, so that no run is left
  out; else inputs are the same random numbers in [0, 1].

  Args:
    function: of an array, as it is used: in it weights are constants.
    shape: of the array.
    runs: of the function in a turn of the loop. The host decides after each
      turn whether there is another one, where the device is no CPU.
  """

  @jax.jit
  def loop(count: Array, x: Array) -> Array:
    output = jax.eval_shape(function, x)

    def body(_, carry: tuple[Array, Array]) -> tuple[Array, Array]:
      x, y = carry[0], function(carry[0])
      fed = jnp.clip(y[(0,) * y.ndim], 0.0, 1.0)
      return x.at[(0,) * x.ndim].set(fed), y

    def turn(_, carry: tuple[Array, Array]) -> tuple[Array, Array]:
      return (
        body(_, carry) if runs == 1 else lax.fori_loop(0, runs, body, carry)
      )

    first = x, jnp.zeros(output.shape, output.dtype)
    return lax.fori_loop(0, count, turn, first)[1]

  x = jnp.asarray(np.random.default_rng(0).random(shape, np.float32))
  compiled = loop.lower(jnp.int32(1), x).compile()
  return Timed(
    lambda count: jax.block_until_ready(compiled(jnp.int32(count), x)), runs
  )


def _runs(program: Timed) -> int:
  """How often a program is run in a turn, a power of two."""
  program.run(1)
  count = 1
  while count < _MOST_RUNS and _seconds(program, count) < _LEAST:
    count *= 2
  return count


def _seconds(program: Timed, count: int) -> float:
  begin = time.perf_counter()
  program.run(count)
  return time.perf_counter() - begin

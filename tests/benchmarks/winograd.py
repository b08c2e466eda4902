"""Times gradients by kernels by Winograd's algorithm and by XLA's convolution.

  PYTHONPATH=. python tests/benchmarks/winograd.py

Milliseconds on the default back end, medians of runs in turn, and how far the
results are apart, |a - b| / |b|.
"""

import statistics
import time

import jax
import numpy as np
from absl import app, flags

from rnascl_jax.models import convolutions, winograd
from rnascl_jax.runtime import host_memory

_REPEATS = flags.DEFINE_integer('repeats', 9, 'Timed runs of each.')

# Batch, side and channels.
_SHAPES = (
  *((32, 32, 64), (32, 16, 128), (32, 8, 256), (32, 4, 512)),
  *((16, 32, 64), (16, 16, 64), (16, 8, 128), (128, 32, 32)),
)


def _direct(x, kernel, cotangent):
  def convolve(kernel):
    return convolutions.canonical_conv(x, kernel, (1, 1), ((1, 1), (1, 1)))

  return jax.vjp(convolve, kernel)[1](cotangent)[0]


def main(argv) -> None:
  """Prints a line for each shape."""
  del argv
  host_memory.keep()
  # The direct one is to be direct.
  winograd.fits = lambda *arguments: False
  rng = np.random.default_rng(0)
  for images, side, channels in _SHAPES:
    x, cotangent = rng.normal(size=(2, images, side, side, channels))
    kernel = rng.normal(size=(3, 3, channels, channels)) / channels**0.5
    arrays = [a.astype(np.float32) for a in (x, kernel, cotangent)]
    functions = _direct, lambda x, k, g: winograd.kernel_gradient(x, g)
    compiled = [jax.jit(f).lower(*arrays).compile() for f in functions]
    times = [[], []]
    for _ in range(_REPEATS.value + 1):
      for function, seconds in zip(compiled, times, strict=True):
        begin = time.perf_counter()
        jax.block_until_ready(function(*arrays))
        seconds.append(time.perf_counter() - begin)
    one, two = (1e3 * statistics.median(s[1:]) for s in times)
    a, b = (np.asarray(f(*arrays)) for f in compiled)
    gap = np.linalg.norm(b - a) / np.linalg.norm(a)
    print(
      f'{images}x{side}x{side}x{channels}: direct {one:6.1f}, Winograd '
      f'{two:6.1f}, {one / two:5.2f} times as fast, {gap:.0e} apart',
      flush=True,
    )


if __name__ == '__main__':
  app.run(main)

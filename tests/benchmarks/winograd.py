"""Times Winograd's convolution against XLA's, forward and both gradients.

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

_STRIDES, _PADDING = (1, 1), ((1, 1), (1, 1))
# Batch, side and channels.
_SHAPES = (
  *((32, 32, 64), (32, 16, 128), (32, 8, 256), (32, 4, 512)),
  *((16, 32, 64), (16, 16, 64), (16, 8, 128), (128, 32, 32)),
)


def _directions():
  """Functions of (x, kernel, cotangent), the direct one and Winograd's."""

  def direct(x, kernel):
    return convolutions.canonical_conv(x, kernel, _STRIDES, _PADDING)

  def by_input(x, kernel, cotangent):
    return jax.vjp(lambda x: direct(x, kernel), x)[1](cotangent)[0]

  def by_kernel(x, kernel, cotangent):
    return jax.vjp(lambda k: direct(x, k), kernel)[1](cotangent)[0]

  def turned(kernel):
    return kernel[::-1, ::-1].transpose(0, 1, 3, 2)

  return {
    'forward': (
      lambda x, k, g: direct(x, k),
      lambda x, k, g: winograd.winograd_conv(x, k),
    ),
    'by the input': (
      by_input,
      lambda x, k, g: winograd.winograd_conv(g, turned(k)),
    ),
    'by the kernel': (
      by_kernel,
      lambda x, k, g: winograd.kernel_gradient(x, g),
    ),
  }


def main(argv) -> None:
  """Prints a line for each shape and direction."""
  del argv
  host_memory.keep()
  # The direct one is to be direct.
  winograd.fits = lambda *arguments, **options: False
  rng = np.random.default_rng(0)
  for images, side, channels in _SHAPES:
    x, cotangent = rng.normal(size=(2, images, side, side, channels))
    kernel = rng.normal(size=(3, 3, channels, channels)) / channels**0.5
    arrays = [a.astype(np.float32) for a in (x, kernel, cotangent)]
    for direction, functions in _directions().items():
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
        f'{images}x{side}x{side}x{channels} {direction:13}  direct {one:6.1f}  '
        f'Winograd {two:6.1f}  {one / two:.2f} times as fast, apart {gap:.0e}',
        flush=True,
      )


if __name__ == '__main__':
  app.run(main)
